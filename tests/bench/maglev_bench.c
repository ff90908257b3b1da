/* SPDX-License-Identifier: Apache-2.0
 *
 * How even a Maglev table of 1,000 endpoints is, and what moves when one of them goes: prints the largest
 * share over the mean one, and the share of hashes that moved although their endpoint stayed; then a line
 * "curve NAME: ..." for each hashing policy, what its endpoints get of a million keys, in 100 steps from the
 * least to the largest share over the mean one. Nothing here is a time.
 */
#include <stdio.h>
#include "tests/unit/lb/cluster.h"

enum { ENDPOINTS = 1000, SAMPLES = 65537, SIZE = 65537, KEYS = 1000000, STEPS = 100 };

static struct cluster *made(uint32_t n) {
    struct cluster *c = cluster_new(n, MESH_LB_MAGLEV);
    c->policy.table_size = SIZE;
    return c;
}

static void published(struct cluster *c) {
    if (cluster_publish(c) < 0) {
        fprintf(stderr, "maglev_bench: publish\n");
        exit(1);
    }
}

static int by_count(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void curve(const char *name, uint8_t policy, uint32_t ring) {
    uint32_t count[ENDPOINTS] = {0};
    struct cluster *c = cluster_new(ENDPOINTS, policy);
    c->policy.ring_min = ring;
    published(c);
    for (uint64_t i = 0; i < KEYS; i++) {
        uint64_t hash = mesh_lb_xxh64(&i, sizeof i, 0);
        count[cluster_pick_hash(c, hash)]++;
    }
    qsort(count, ENDPOINTS, sizeof *count, by_count);
    printf("curve %s:", name);
    for (uint32_t i = 0; i < STEPS; i++)
        printf(" %.3f", (double)count[i * (ENDPOINTS - 1) / (STEPS - 1)] * ENDPOINTS / KEYS);
    printf("\n");
    cluster_free(c);
}

int main(void) {
    static uint32_t count[ENDPOINTS];
    const uint32_t gone = ENDPOINTS / 2;
    struct cluster *all = made(ENDPOINTS), *less = made(ENDPOINTS - 1);
    for (uint32_t i = gone; i < ENDPOINTS - 1; i++)
        memcpy(less->endpoints[i].addr, all->endpoints[i + 1].addr, sizeof less->endpoints[i].addr);
    published(all);
    published(less);
    uint32_t most = 0, moved = 0;
    for (uint32_t h = 0; h < SAMPLES; h++) {
        uint32_t at = (uint32_t)cluster_pick_hash(all, h), now = (uint32_t)cluster_pick_hash(less, h);
        most = ++count[at] > most ? count[at] : most;
        moved += at != gone && now + (now >= gone) != at;
    }
    printf("max_over_mean %.4f\nextra_moves %.5f\n", (double)most * ENDPOINTS / SAMPLES,
           (double)moved / SAMPLES);
    cluster_free(all);
    cluster_free(less);
    curve("maglev", MESH_LB_MAGLEV, 0);
    curve("ring_hash, 1,024 entries", MESH_LB_RING_HASH, 1024);
    curve("ring_hash, 65,536 entries", MESH_LB_RING_HASH, 65536);
    return 0;
}
