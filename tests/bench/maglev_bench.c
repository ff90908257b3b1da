/* SPDX-License-Identifier: Apache-2.0
 *
 * How even a Maglev table of 1,000 endpoints is, and what moves when one of them goes: prints the largest
 * share over the mean one, and the share of hashes that moved although their endpoint stayed. Nothing here is
 * a time.
 */
#include <stdio.h>
#include "tests/unit/lb/cluster.h"

enum { ENDPOINTS = 1000, SAMPLES = 65537, SIZE = 65537 };

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
    return 0;
}
