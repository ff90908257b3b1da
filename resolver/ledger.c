/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/ledger.h"
#include <stdio.h>
#include <stdlib.h>
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"

/* ---- trees and processes ----------------------------------------------------------------------------------
 */
static struct view_tree *find_tree(struct view_head *h, uint64_t id) {
    for (uint32_t i = 0; i < VIEW_TREES; i++) {
        struct view_tree *t = &h->trees[(id + i) % VIEW_TREES];
        uint64_t at = atomic_load_explicit(&t->id, memory_order_acquire);
        if (at == id)
            return t;
        if (at == 0 && i >= TREE_PROBES)
            break;
    }
    return NULL;
}

static struct view_tree *make_tree(struct view_head *h, uint64_t id) {
    struct view_tree *t = find_tree(h, id);
    for (uint32_t i = 0; !t && i < VIEW_TREES; i++) {
        struct view_tree *at = &h->trees[(id + i) % VIEW_TREES];
        uint64_t none = 0;
        if (atomic_compare_exchange_strong(&at->id, &none, id) || none == id)
            t = at;
    }
    if (t)
        atomic_store(&t->empty_since, 0);
    return t;
}

static struct view_process *find_process(const struct view_head *h, uint64_t tree, int pid) {
    for (uint32_t i = 0; i < VIEW_PROCESSES; i++) {
        struct view_process *p = (struct view_process *)&h->processes[((uint32_t)pid + i) % VIEW_PROCESSES];
        if (atomic_load(&p->pid) == (uint32_t)pid && (!tree || atomic_load(&p->tree) == tree))
            return p;
    }
    return NULL;
}

static struct view_process *take_process(struct view_head *h, int pid) {
    for (uint32_t i = 0; i < VIEW_PROCESSES; i++) {
        struct view_process *p = &h->processes[((uint32_t)pid + i) % VIEW_PROCESSES];
        uint32_t none = 0;
        if (atomic_load_explicit(&p->pid, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&p->pid, &none, (uint32_t)pid))
            return p;
    }
    return NULL;
}

int mesh_ledger_join(struct mesh_view *v, uint64_t tree, int pid, uint64_t now) {
    struct view_head *h = mesh_view_head(v);
    if (!tree || pid <= 0)
        return MESH_E_INVALID;
    struct view_process *p = find_process(h, 0, pid);
    if (!p)
        p = take_process(h, pid);
    if (!p) {
        atomic_store(&h->settled_at, 0);
        mesh_ledger_settle(v, now);
        p = take_process(h, pid);
    }
    if (!p)
        return MESH_E_LIMIT;
    /* The process is there before its tree: whoever settles looks at trees first and processes after. */
    atomic_store(&p->start, mesh_process_start(pid));
    atomic_store(&p->since, now);
    atomic_store(&p->tree, tree);
    if (make_tree(h, tree))
        return 0;
    atomic_store(&p->tree, 0);
    atomic_store(&p->pid, 0);
    return MESH_E_LIMIT;
}

static void free_process(struct view_process *p) {
    atomic_store(&p->tree, 0);
    atomic_store(&p->start, 0);
    p->identity[0] = 0;
    atomic_store(&p->pid, 0);
}

void mesh_ledger_leave(struct mesh_view *v, uint64_t tree, int pid) {
    struct view_process *p = find_process(mesh_view_head(v), tree, pid);
    if (p)
        free_process(p);
}

void mesh_ledger_identity(struct mesh_view *v, uint64_t tree, int pid, const char *spiffe) {
    struct view_process *p = find_process(mesh_view_head(v), tree, pid);
    if (!p)
        return;
    atomic_fetch_or(&p->sequence, 1);
    snprintf(p->identity, sizeof p->identity, "%s", spiffe);
    atomic_fetch_add(&p->sequence, 1);
}

/* ---- slots ------------------------------------------------------------------------------------------------
 */
struct view_chunk *mesh_ledger_chunk(const struct mesh_view *v, uint32_t i) {
    uint32_t first =
        i < VIEW_CHUNKS ? atomic_load_explicit(&mesh_view_head(v)->chunks[i], memory_order_acquire) : 0;
    uint32_t len;
    return (struct view_chunk *)mesh_view_rec(v, first, KIND_CHUNK, sizeof(struct view_chunk), &len);
}

static struct view_slot *slot_at(const struct mesh_view *v, uint32_t slot, struct view_chunk **ret_chunk) {
    struct view_chunk *c = mesh_ledger_chunk(v, slot / VIEW_CHUNK_SLOTS);
    *ret_chunk = c;
    return c ? &c->slots[slot % VIEW_CHUNK_SLOTS] : NULL;
}

/* A free slot of a chunk for `tree`: its number in it, or -1. */
static int take_in(struct view_chunk *c, uint64_t tree) {
    for (uint32_t w = 0; w < VIEW_CHUNK_SLOTS / 64; w++) {
        uint64_t taken = atomic_load_explicit(&c->taken[w], memory_order_relaxed);
        while (taken != ~UINT64_C(0)) {
            uint32_t bit = (uint32_t)__builtin_ctzll(~taken);
            uint64_t none = 0;
            taken = atomic_fetch_or(&c->taken[w], UINT64_C(1) << bit) | UINT64_C(1) << bit;
            if (atomic_compare_exchange_strong(&c->slots[w * 64 + bit].owner, &none, tree))
                return (int)(w * 64 + bit);
        }
    }
    return -1;
}

static int add_chunk(struct mesh_view *v) {
    struct view_head *h = mesh_view_head(v);
    uint32_t first, granules = (sizeof(struct view_chunk) + VIEW_GRANULE - 1) / VIEW_GRANULE;
    int rc = mesh_view_grow(v, EXTENT_LEDGER, granules, &first);
    if (rc < 0)
        return rc;
    struct view_chunk *c = (struct view_chunk *)(void *)(v->base + (size_t)first * VIEW_GRANULE);
    memset(c, 0, sizeof *c);
    c->kind = KIND_CHUNK;
    c->len = sizeof *c;
    for (uint32_t i = 0; i < VIEW_CHUNKS; i++) {
        uint32_t none = 0;
        if (atomic_compare_exchange_strong(&h->chunks[i], &none, first))
            return 0;
    }
    return MESH_E_LIMIT;
}

static int find_slot(struct mesh_view *v, uint64_t tree, uint32_t *ret_slot) {
    uint32_t hint = atomic_load_explicit(&v->chunk_hint, memory_order_relaxed), n = 0;
    struct view_chunk *c;
    for (; n < VIEW_CHUNKS && atomic_load(&mesh_view_head(v)->chunks[n]); n++)
        ;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = (hint + i) % n;
        int slot = (c = mesh_ledger_chunk(v, at)) ? take_in(c, tree) : -1;
        if (slot < 0)
            continue;
        atomic_store_explicit(&v->chunk_hint, at, memory_order_relaxed);
        *ret_slot = at * VIEW_CHUNK_SLOTS + (uint32_t)slot;
        return 0;
    }
    return MESH_E_LIMIT;
}

static struct mesh_cluster_stat *cluster_of(const struct mesh_view *v, uint32_t stat) {
    uint32_t live = mesh_counter_owner(v, stat)->live;
    return mesh_counter_valid(v, live, KIND_LIVES) ? mesh_live_at(v, live) : NULL;
}

static void raise_all(const struct mesh_view *v, uint32_t dial, uint32_t stat) {
    struct mesh_cluster_stat *live = cluster_of(v, stat);
    atomic_fetch_add(&mesh_counter_at(v, stat)->inflight, 1);
    if (!live)
        return;
    atomic_fetch_add(&live->inflight, 1);
    if (dial & MESH_LEDGER_DIAL)
        atomic_fetch_add(&live->pending, 1);
    if (dial & (MESH_LEDGER_RETRY & ~MESH_LEDGER_DIAL))
        atomic_fetch_add(&live->retries, 1);
}

static void lower_one(_Atomic uint32_t *counter) { /* never below 0, whatever somebody wrote there */
    uint32_t n = atomic_load(counter);
    while (n && !atomic_compare_exchange_weak(counter, &n, n - 1))
        ;
}

static void lower_dial(struct mesh_cluster_stat *live, uint32_t dial) {
    if (dial & MESH_LEDGER_DIAL)
        lower_one(&live->pending);
    if (dial & (MESH_LEDGER_RETRY & ~MESH_LEDGER_DIAL))
        lower_one(&live->retries);
}

void mesh_ledger_lower(const struct mesh_view *v, uint64_t what) {
    uint32_t stat = (uint32_t)what;
    if (stat == UINT32_MAX || !mesh_counter_valid(v, stat, KIND_STATS))
        return;
    struct mesh_cluster_stat *live = cluster_of(v, stat);
    lower_one(&mesh_counter_at(v, stat)->inflight);
    if (!live)
        return;
    lower_one(&live->inflight);
    lower_dial(live, mesh_ledger_dial_of(what));
}

int mesh_ledger_take(struct mesh_view *v, uint64_t tree, uint32_t stat, enum mesh_ledger_dial dial,
                     uint32_t *ret_slot) {
    struct view_chunk *c;
    uint32_t slot;
    if (stat != UINT32_MAX && !mesh_counter_valid(v, stat, KIND_STATS))
        return MESH_E_INVALID;
    if (!tree || !find_tree(mesh_view_head(v), tree))
        return MESH_E_LIMIT;
    int rc = find_slot(v, tree, &slot);
    if (rc < 0 && add_chunk(v) == 0)
        rc = find_slot(v, tree, &slot);
    if (rc < 0)
        return MESH_E_LIMIT;
    struct view_slot *s = slot_at(v, slot, &c);
    if (!s)
        return MESH_E_LIMIT;
    if (stat == UINT32_MAX) {
        atomic_store(&s->what, mesh_ledger_what(PHASE_COUNTED, 0, stat));
    } else {
        atomic_store(&s->what, mesh_ledger_what(PHASE_NAMED, dial, stat));
        raise_all(v, dial, stat);
        atomic_store(&s->what, mesh_ledger_what(PHASE_COUNTED, dial, stat));
    }
    *ret_slot = slot;
    return 0;
}

/* The slot if it is the tree's and COUNTED. */
static struct view_slot *counted(const struct mesh_view *v, uint64_t tree, uint32_t slot, uint64_t *ret_what,
                                 struct view_chunk **ret_chunk) {
    struct view_slot *s = slot == UINT32_MAX ? NULL : slot_at(v, slot, ret_chunk);
    if (!s || atomic_load(&s->owner) != tree)
        return NULL;
    *ret_what = atomic_load(&s->what);
    return mesh_ledger_phase(*ret_what) == PHASE_COUNTED ? s : NULL;
}

void mesh_ledger_ease(struct mesh_view *v, uint64_t tree, uint32_t slot) {
    struct view_chunk *c;
    uint64_t what;
    struct view_slot *s = counted(v, tree, slot, &what, &c);
    uint32_t stat = (uint32_t)what, dial = s ? mesh_ledger_dial_of(what) : 0;
    if (!dial || !mesh_counter_valid(v, stat, KIND_STATS) ||
        !atomic_compare_exchange_strong(&s->what, &what, mesh_ledger_what(PHASE_EASING, dial, stat)))
        return;
    struct mesh_cluster_stat *live = cluster_of(v, stat);
    if (live)
        lower_dial(live, dial);
    atomic_store(&s->what, mesh_ledger_what(PHASE_COUNTED, 0, stat));
}

void mesh_ledger_describe(struct mesh_view *v, uint32_t slot, const struct mesh_conn_info *info) {
    struct view_chunk *c;
    if (slot == UINT32_MAX || !slot_at(v, slot, &c))
        return;
    struct view_slot_info *i = &c->infos[slot % VIEW_CHUNK_SLOTS];
    uint32_t odd = atomic_load(&i->sequence) | 1;
    atomic_store(&i->sequence, odd);
    atomic_thread_fence(memory_order_release);
    i->info = *info;
    atomic_store_explicit(&i->sequence, odd + 1, memory_order_release);
}

void mesh_ledger_free(struct view_chunk *c, uint32_t i) {
    atomic_store(&c->infos[i].sequence, 0);
    atomic_store(&c->slots[i].what, 0);
    atomic_store(&c->slots[i].owner, 0);
    atomic_fetch_and(&c->taken[i / 64], ~(UINT64_C(1) << (i % 64)));
}

void mesh_ledger_release(struct mesh_view *v, uint64_t tree, uint32_t slot) {
    struct view_chunk *c;
    uint64_t what;
    struct view_slot *s = counted(v, tree, slot, &what, &c);
    if (!s ||
        !atomic_compare_exchange_strong(
            &s->what, &what, mesh_ledger_what(PHASE_LOWERING, mesh_ledger_dial_of(what), (uint32_t)what)))
        return;
    mesh_ledger_lower(v, what);
    mesh_ledger_free(c, slot % VIEW_CHUNK_SLOTS);
}

/* ---- looking ----------------------------------------------------------------------------------------------
 */
static bool read_info(const struct view_slot_info *i, struct mesh_conn_info *ret) {
    _Atomic uint32_t *sequence = &((struct view_slot_info *)i)->sequence;
    uint32_t before = atomic_load_explicit(sequence, memory_order_acquire);
    if (!before || before & 1)
        return false;
    *ret = i->info;
    ret->name[sizeof ret->name - 1] = ret->endpoint[sizeof ret->endpoint - 1] =
        ret->peer[sizeof ret->peer - 1] = 0;
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(sequence, memory_order_relaxed) == before;
}

int mesh_ledger_each(const struct mesh_view *v, void (*fn)(void *arg, const struct mesh_conn_info *info),
                     void *arg) {
    struct mesh_conn_info info;
    struct view_chunk *c;
    int count = 0;
    for (uint32_t n = 0; (c = mesh_ledger_chunk(v, n)); n++)
        for (uint32_t i = 0; i < VIEW_CHUNK_SLOTS; i++) {
            if (!atomic_load(&c->slots[i].owner) || !read_info(&c->infos[i], &info))
                continue;
            fn(arg, &info);
            count++;
        }
    return count;
}

int mesh_ledger_each_process(const struct mesh_view *v,
                             void (*fn)(void *arg, int pid, uint64_t tree, uint64_t since,
                                        const char *identity),
                             void *arg) {
    struct view_head *h = mesh_view_head(v);
    char identity[sizeof h->processes[0].identity];
    int count = 0;
    for (uint32_t i = 0; i < VIEW_PROCESSES; i++) {
        struct view_process *p = &h->processes[i];
        uint32_t pid = atomic_load(&p->pid);
        uint64_t tree = atomic_load(&p->tree);
        if (!pid || !tree)
            continue;
        memcpy(identity, p->identity, sizeof identity);
        identity[sizeof identity - 1] = 0;
        fn(arg, (int)pid, tree, atomic_load(&p->since), atomic_load(&p->sequence) & 1 ? "" : identity);
        count++;
    }
    return count;
}
