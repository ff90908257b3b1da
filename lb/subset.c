/* SPDX-License-Identifier: Apache-2.0
 *
 * Random subsetting (gRFC A68): each client keeps the few endpoints that rank first under its seed, so that
 * many clients of many servers do not each connect to all. A server that leaves or joins changes one place in
 * a subset.
 */
#include <stdlib.h>
#include "lb/hashing.h"

struct rank {
    uint64_t hash;
    uint32_t endpoint;
};

static int by_hash(const void *x, const void *y) {
    const struct rank *a = x, *b = y;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return a->endpoint < b->endpoint ? -1 : 1;
}

static int by_index(const void *x, const void *y) {
    const struct rank *a = x, *b = y;
    return a->endpoint < b->endpoint ? -1 : a->endpoint > b->endpoint;
}

int mesh_lb_subset(struct mesh_endpoint *endpoints, uint32_t n, uint32_t keep, uint64_t seed,
                   uint32_t *ret_n) {
    if (keep >= n) {
        *ret_n = n;
        return 0;
    }
    struct rank *ranks = malloc(n * sizeof *ranks);
    if (!ranks)
        return MESH_E_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        char text[64];
        size_t len = mesh_lb_address_text(&endpoints[i], text, sizeof text);
        ranks[i] = (struct rank){mesh_lb_xxh64(text, len, seed), i};
    }
    qsort(ranks, n, sizeof *ranks, by_hash);
    qsort(ranks, keep, sizeof *ranks, by_index);
    for (uint32_t i = 0; i < keep; i++)
        endpoints[i] = endpoints[ranks[i].endpoint];
    free(ranks);
    *ret_n = keep;
    return 0;
}
