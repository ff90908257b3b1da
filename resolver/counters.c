/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "resolver/publish.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"

/* How long a counter stays with an endpoint that has left: a connection may still be using it, and it may
 * come back. */
#define RETIRED_KEPT (60 * MESH_SEC)
enum { TIME_SHIFT = 24, TIME_MASK = 0x7fffffff };

static uint32_t time_of(uint64_t now) {
    return (uint32_t)(now >> TIME_SHIFT) & TIME_MASK;
}

static uint64_t age(uint64_t now, uint32_t then) {
    return (uint64_t)((time_of(now) - then) & TIME_MASK) << TIME_SHIFT;
}

bool mesh_counter_valid(const struct mesh_view *v, uint32_t ref, uint32_t kind) {
    uint32_t first = ref / VIEW_SLAB_GRANULES * VIEW_SLAB_GRANULES;
    if (ref - first < VIEW_SLAB_FIRST || (size_t)first * VIEW_GRANULE < mesh_view_head(v)->head_size ||
        !mesh_view_backed(v, ((size_t)first + VIEW_SLAB_GRANULES) * VIEW_GRANULE))
        return false;
    const volatile struct view_slab *slab =
        (const volatile struct view_slab *)(v->base + (size_t)first * VIEW_GRANULE);
    return slab->kind == kind && slab->len == VIEW_SLAB_GRANULES * VIEW_GRANULE;
}

/* ---- the index --------------------------------------------------------------------------------------------
 */
static uint32_t place_of(const struct mesh_counters *c, uint64_t key) {
    uint32_t i = (uint32_t)key & c->mask;
    while (c->keys[i] && c->keys[i] != key)
        i = (i + 1) & c->mask;
    return i;
}

static int resize(struct mesh_counters *c, uint32_t slots) {
    struct mesh_counters old = *c;
    c->keys = calloc(slots, sizeof *c->keys);
    c->refs = malloc(slots * sizeof *c->refs);
    c->passes = malloc(slots * sizeof *c->passes);
    if (!c->keys || !c->refs || !c->passes) {
        free(c->keys);
        free(c->refs);
        free(c->passes);
        *c = old;
        return MESH_E_NOMEM;
    }
    c->mask = slots - 1;
    for (uint32_t i = 0; old.keys && i <= old.mask; i++) {
        if (!old.keys[i])
            continue;
        uint32_t at = place_of(c, old.keys[i]);
        c->keys[at] = old.keys[i];
        c->refs[at] = old.refs[i];
        c->passes[at] = old.passes[i];
    }
    free(old.keys);
    free(old.refs);
    free(old.passes);
    return 0;
}

static int index_add(struct mesh_counters *c, uint64_t key, uint32_t ref, uint32_t pass) {
    int rc = c->used * 2 < c->mask ? 0 : resize(c, (c->mask + 1) * 2);
    if (rc < 0)
        return rc;
    uint32_t i = place_of(c, key);
    c->used += !c->keys[i];
    c->keys[i] = key;
    c->refs[i] = ref;
    c->passes[i] = pass;
    return 0;
}

static int unused_add(struct mesh_counters *c, uint32_t ref) {
    if (c->nunused == c->room) {
        uint32_t room = c->room ? c->room * 2 : 256;
        uint32_t *p = realloc(c->unused, room * sizeof *p);
        if (!p)
            return MESH_E_NOMEM;
        c->unused = p;
        c->room = room;
    }
    c->unused[c->nunused++] = ref;
    return 0;
}

/* Nobody reaches it any more: its endpoint left long ago and no connection counts on it. */
static bool is_over(const struct mesh_view *v, uint32_t ref, uint32_t kind, uint64_t now) {
    uint32_t time = mesh_counter_owner(v, ref)->time;
    if (!(time & COUNTER_RETIRED) || age(now, time & TIME_MASK) < RETIRED_KEPT)
        return false;
    return (kind == KIND_STATS ? atomic_load(&mesh_counter_at(v, ref)->inflight)
                               : atomic_load(&mesh_live_at(v, ref)->inflight)) == 0;
}

static int read_slab(struct mesh_pub *pub, struct mesh_counters *c, uint32_t first) {
    int rc = 0;
    for (uint32_t i = VIEW_SLAB_GRANULES - 1; i >= VIEW_SLAB_FIRST && rc == 0; i--) {
        struct view_counter *owner = mesh_counter_owner(pub->v, first + i);
        if (owner->key && is_over(pub->v, first + i, c->kind, pub->now))
            owner->key = 0;
        rc = owner->key ? index_add(c, owner->key, first + i, 0) : unused_add(c, first + i);
    }
    return rc;
}

static _Atomic uint32_t *slabs_of(const struct mesh_view *v, uint32_t kind, uint32_t *ret_n) {
    struct view_head *h = mesh_view_head(v);
    *ret_n = kind == KIND_STATS ? MESH_ARRAY_LEN(h->stat_slabs) : MESH_ARRAY_LEN(h->live_slabs);
    return kind == KIND_STATS ? h->stat_slabs : h->live_slabs;
}

int mesh_counters_open(struct mesh_pub *pub, struct mesh_counters *c, uint32_t kind) {
    uint32_t n;
    _Atomic uint32_t *slabs = slabs_of(pub->v, kind, &n);
    *c = (struct mesh_counters){.kind = kind};
    int rc = resize(c, 1024);
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        uint32_t first = atomic_load(&slabs[i]);
        if (first && first % VIEW_SLAB_GRANULES == 0 &&
            mesh_counter_valid(pub->v, first + VIEW_SLAB_FIRST, kind))
            rc = read_slab(pub, c, first);
    }
    return rc;
}

void mesh_counters_done(struct mesh_counters *c) {
    free(c->keys);
    free(c->refs);
    free(c->passes);
    free(c->unused);
    *c = (struct mesh_counters){0};
}

static int new_slab(struct mesh_pub *pub, struct mesh_counters *c) {
    uint32_t first, n;
    _Atomic uint32_t *slabs = slabs_of(pub->v, c->kind, &n);
    int rc = mesh_space_slab(&pub->space, &first);
    if (rc < 0)
        return rc;
    struct view_slab *slab = (struct view_slab *)(pub->v->base + (size_t)first * VIEW_GRANULE);
    memset(slab, 0, VIEW_SLAB_GRANULES * VIEW_GRANULE);
    slab->kind = c->kind;
    slab->len = VIEW_SLAB_GRANULES * VIEW_GRANULE;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t none = 0;
        if (atomic_compare_exchange_strong(&slabs[i], &none, first))
            return read_slab(pub, c, first);
    }
    return MESH_E_LIMIT;
}

int mesh_counters_get(struct mesh_pub *pub, struct mesh_counters *c, uint64_t key, uint32_t live,
                      uint32_t *ret_ref) {
    key += !key;
    uint32_t at = place_of(c, key), ref;
    struct view_counter *owner;
    if (c->keys[at]) {
        ref = c->refs[at];
        c->passes[at] = pub->pass;
        owner = mesh_counter_owner(pub->v, ref);
        if (owner->time & COUNTER_RETIRED)
            owner->time = time_of(pub->now);
    } else {
        int rc = c->nunused ? 0 : new_slab(pub, c);
        if (rc == 0)
            rc = index_add(c, key, c->unused[c->nunused - 1], pub->pass);
        if (rc < 0)
            return rc;
        ref = c->unused[--c->nunused];
        memset(mesh_counter_at(pub->v, ref), 0, sizeof(struct mesh_stat));
        owner = mesh_counter_owner(pub->v, ref);
        *owner = (struct view_counter){key, 0, time_of(pub->now)};
    }
    owner->live = live;
    *ret_ref = ref;
    return 0;
}

uint32_t mesh_counter_pass(const struct mesh_counters *c, uint64_t key) {
    uint32_t at = place_of(c, key + !key);
    return c->keys[at] ? c->passes[at] : 0;
}

static void retire(struct mesh_pub *pub, uint32_t ref) {
    struct view_counter *owner = mesh_counter_owner(pub->v, ref);
    if (!(owner->time & COUNTER_RETIRED))
        owner->time = COUNTER_RETIRED | time_of(pub->now);
}

void mesh_counters_retire(struct mesh_pub *pub, uint32_t stat) {
    if (mesh_counter_valid(pub->v, stat, KIND_STATS) &&
        mesh_counter_pass(&pub->stats, mesh_counter_owner(pub->v, stat)->key) != pub->pass)
        retire(pub, stat);
}

void mesh_counters_retire_unseen(struct mesh_pub *pub, struct mesh_counters *c, uint32_t since_pass) {
    for (uint32_t i = 0; i <= c->mask; i++)
        if (c->keys[i] && c->passes[i] < since_pass)
            retire(pub, c->refs[i]);
}

uint64_t mesh_counter_since(const struct mesh_pub *pub, uint32_t stat) {
    uint64_t ago = age(pub->now, mesh_counter_owner(pub->v, stat)->time & TIME_MASK);
    return ago < pub->now ? pub->now - ago : 0;
}
