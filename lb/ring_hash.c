/* SPDX-License-Identifier: Apache-2.0
 *
 * Ring hash (ketama), Envoy's ring exactly:
 *   scale = min(ceil(min_w * min_ring) / min_w, max_ring), min_w the smallest normalised weight
 *   host i gets entries until the running count reaches the running sum of scale * w
 *   entry j of a host lies at hash(key "_" j); a key belongs to the first entry at or after its hash.
 * A redraw takes the next entry on the ring. Without a hash the point is random.
 */
#include "lb/hashing.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lb/power.h"

enum { KEY_MAX = 1024 }; /* longer keys are cut: a metadata text from the control plane */

static double scale_of(const struct mesh_policy *p, const struct lb_host *hosts, uint32_t n) {
    double least = 1, most = p->ring_max < LB_RING_MAX ? p->ring_max : LB_RING_MAX;
    for (uint32_t i = 0; i < n; i++)
        if (hosts[i].weight < least)
            least = hosts[i].weight;
    double scale = mesh_lb_ceil(least * p->ring_min) / least;
    return scale < most ? scale : most;
}

/* Walks hosts and entry numbers in order; fn NULL: only counts. */
static uint32_t each_entry(double scale, const struct lb_host *hosts, uint32_t n, void *arg,
                           void (*fn)(void *arg, uint32_t entry, uint32_t host, uint32_t number)) {
    double target = 0;
    uint32_t entries = 0;
    for (uint32_t i = 0; i < n; i++) {
        target += scale * hosts[i].weight;
        for (uint32_t number = 0; entries < target && entries < 2 * LB_RING_MAX; entries++)
            if (fn)
                fn(arg, entries, i, number++);
    }
    return entries;
}

uint32_t mesh_lb_ring_slots(const struct mesh_policy *p, const struct lb_host *hosts, uint32_t n) {
    return each_entry(scale_of(p, hosts, n), hosts, n, NULL, NULL);
}

struct entry {
    uint64_t position;
    uint32_t host, order;
};

struct filling {
    const struct lb_key *keys;
    struct entry *entries;
    uint32_t cap;
    bool murmur;
};

static void add(void *arg, uint32_t at, uint32_t host, uint32_t number) {
    struct filling *f = arg;
    char text[KEY_MAX + 16];
    size_t len = f->keys[host].len < KEY_MAX ? f->keys[host].len : KEY_MAX;
    if (at >= f->cap)
        return;
    memcpy(text, f->keys[host].text, len);
    len += (size_t)snprintf(text + len, 16, "_%u", number);
    uint64_t position = f->murmur ? mesh_lb_murmur2(text, len) : mesh_lb_xxh64(text, len, 0);
    f->entries[at] = (struct entry){position, host, at};
}

static int by_position(const void *x, const void *y) {
    const struct entry *a = x, *b = y;
    if (a->position != b->position)
        return a->position < b->position ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

int mesh_lb_ring_fill(const struct mesh_policy *p, const struct lb_host *hosts, const struct lb_key *keys,
                      uint32_t n, uint64_t *positions, uint32_t *slots, uint32_t nslots) {
    struct filling f = {.keys = keys, .cap = nslots, .murmur = p->murmur};
    f.entries = malloc(nslots * sizeof *f.entries);
    if (!f.entries)
        return MESH_E_NOMEM;
    each_entry(scale_of(p, hosts, n), hosts, n, &f, add);
    qsort(f.entries, nslots, sizeof *f.entries, by_position);
    for (uint32_t i = 0; i < nslots; i++) {
        positions[i] = f.entries[i].position;
        slots[i] = f.entries[i].host;
    }
    free(f.entries);
    return 0;
}

/* The first entry at or after the hash; the ring closes. */
static uint32_t entry_of(const struct lb_wheel_open *w, uint64_t hash) {
    uint32_t low = 0, high = w->nslots;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (w->positions[mid] < hash)
            low = mid + 1;
        else
            high = mid;
    }
    return low < w->nslots ? low : 0;
}

static int ring_hash(struct lb_ask *a, const struct lb_pool *p, unsigned draw, struct lb_member *ret) {
    struct lb_wheel_open w;
    if (!mesh_lb_wheel_open(a, p->priority, &w))
        return MESH_E_NOENDPOINT;
    uint64_t hash = a->hashed ? a->r->hash : lb_random(a);
    return mesh_lb_wheel_host(a, &w, hash, (uint32_t)((entry_of(&w, hash) + (uint64_t)draw) % w.nslots), ret);
}

const struct lb_ops mesh_lb_ring_hash = {"ring_hash", ring_hash};
