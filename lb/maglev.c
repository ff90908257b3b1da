/* SPDX-License-Identifier: Apache-2.0
 *
 * Maglev, Envoy's table exactly: M slots (a prime), hosts sorted by key, host i's permutation
 *   offset = xxh64(key) mod M, skip = xxh64(key, 1) mod (M - 1) + 1, position j = (offset + skip * j) mod M.
 * In pass k a host takes the next free slot of its permutation unless k * w < target; target grows by the
 * largest weight each time. A redraw n hashes hash ^ (~0 - n + 1). Without a hash the slot is random.
 */
#include "lb/hashing.h"
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_SLOTS = 65537 };

uint32_t mesh_lb_maglev_slots(const struct mesh_policy *p) {
    uint32_t size = p->table_size;
    if (size < 2 || size > LB_MAGLEV_MAX)
        return DEFAULT_SLOTS;
    for (uint32_t d = 2; d * d <= size; d++)
        if (size % d == 0)
            return DEFAULT_SLOTS; /* Envoy refuses such a cluster: so does the publisher before */
    return size;
}

struct turn {
    uint64_t offset, skip, next;
    double weight, target;
    uint32_t host;
};

static int by_text(const void *x, const void *y) {
    const struct lb_key *a = x, *b = y;
    uint32_t n = a->len < b->len ? a->len : b->len;
    int diff = memcmp(a->text, b->text, n);
    if (diff)
        return diff;
    if (a->len != b->len)
        return a->len < b->len ? -1 : 1;
    return a->host < b->host ? -1 : 1;
}

static void take(struct turn *t, uint32_t *slots, uint32_t m) {
    uint64_t at;
    do {
        at = (t->offset + t->skip * t->next++) % m;
    } while (slots[at] != UINT32_MAX);
    slots[at] = t->host;
}

static void fill(struct turn *turns, uint32_t n, double most, uint32_t *slots, uint32_t m) {
    uint32_t taken = 0;
    memset(slots, 0xff, m * sizeof *slots);
    for (uint64_t pass = 1; taken < m; pass++) {
        for (uint32_t i = 0; i < n && taken < m; i++) {
            if ((double)pass * turns[i].weight < turns[i].target)
                continue;
            turns[i].target += most;
            take(&turns[i], slots, m);
            taken++;
        }
    }
}

int mesh_lb_maglev_fill(const struct lb_host *hosts, struct lb_key *keys, uint32_t n, uint32_t *slots,
                        uint32_t nslots) {
    struct turn *turns = calloc(n, sizeof *turns);
    double most = 0;
    if (!turns)
        return MESH_E_NOMEM;
    qsort(keys, n, sizeof *keys, by_text);
    for (uint32_t i = 0; i < n; i++) {
        const struct lb_key *k = &keys[i];
        turns[i].offset = mesh_lb_xxh64(k->text, k->len, 0) % nslots;
        turns[i].skip = mesh_lb_xxh64(k->text, k->len, 1) % (nslots - 1) + 1;
        turns[i].weight = hosts[k->host].weight;
        turns[i].host = k->host;
        if (turns[i].weight > most)
            most = turns[i].weight;
    }
    fill(turns, n, most, slots, nslots);
    free(turns);
    return 0;
}

static int maglev(struct lb_ask *a, const struct lb_pool *p, unsigned draw, struct lb_member *ret) {
    struct lb_wheel_open w;
    if (!mesh_lb_wheel_open(a, p->priority, &w))
        return MESH_E_NOENDPOINT;
    uint64_t hash = a->hashed ? a->r->hash : lb_random(a), h = hash;
    if (draw)
        h ^= ~UINT64_C(0) - draw + 1;
    return mesh_lb_wheel_host(a, &w, hash, (uint32_t)(h % w.nslots), ret);
}

const struct lb_ops mesh_lb_maglev = {"maglev", maglev};
