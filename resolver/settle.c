/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "resolver/ledger.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"

enum { START_EVERY = 4 /* rounds between closer looks (/proc) at processes that seem alive */ };
/* A tree without a process is dead when it still has none so much later: a child joins right after its fork,
 * perhaps after its parent's end. */
#define EMPTY_FOR MESH_SEC

struct alive { /* trees that have a living process, sorted */
    uint32_t n;
    uint64_t trees[VIEW_PROCESSES];
};

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool has(const struct alive *a, uint64_t tree) {
    return bsearch(&tree, a->trees, a->n, sizeof tree, by_value) != NULL;
}

static void sweep_processes(struct view_head *h, bool closely, struct alive *ret) {
    for (uint32_t i = 0; i < VIEW_PROCESSES; i++) {
        struct view_process *p = &h->processes[i];
        uint32_t pid = atomic_load(&p->pid);
        uint64_t tree = atomic_load(&p->tree);
        if (!pid)
            continue;
        if (!mesh_process_lives((int)pid, closely ? atomic_load(&p->start) : 0)) {
            atomic_store(&p->start, 0);
            if (atomic_compare_exchange_strong(&p->tree, &tree, 0))
                atomic_compare_exchange_strong(&p->pid, &pid, 0);
            continue;
        }
        if (tree)
            ret->trees[ret->n++] = tree;
    }
    qsort(ret->trees, ret->n, sizeof ret->trees[0], by_value);
}

/* Trees that just lost their last process start waiting; those that have waited are dead. */
static uint32_t dead_trees(struct view_head *h, const struct alive *alive, uint64_t now, uint64_t *ret_dead) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < VIEW_TREES; i++) {
        struct view_tree *t = &h->trees[i];
        uint64_t id = atomic_load(&t->id), since = atomic_load(&t->empty_since);
        if (!id)
            continue;
        if (has(alive, id))
            atomic_compare_exchange_strong(&t->empty_since, &since, 0);
        else if (!since)
            atomic_store(&t->empty_since, now ? now : 1);
        else if (now - since >= EMPTY_FOR)
            ret_dead[n++] = id;
    }
    return n;
}

static bool is_in(const uint64_t *trees, uint32_t n, uint64_t tree) {
    for (uint32_t i = 0; i < n; i++)
        if (trees[i] == tree)
            return true;
    return false;
}

/* ---- one slot ---------------------------------------------------------------------------------------------
 */
static uint64_t suspect(uint32_t stat) {
    return mesh_ledger_what(PHASE_SUSPECT, 0, stat);
}

/* Returns 1 when the slot was given back. */
static int settle_slot(const struct mesh_view *v, struct view_chunk *c, uint32_t i) {
    uint64_t what = atomic_load(&c->slots[i].what);
    switch (mesh_ledger_phase(what)) {
    case PHASE_COUNTED:
        if (!atomic_compare_exchange_strong(&c->slots[i].what, &what, suspect((uint32_t)what)))
            return 0;
        mesh_ledger_lower(v, what);
        break;
    case PHASE_NAMED:
    case PHASE_EASING:
    case PHASE_LOWERING:
        atomic_compare_exchange_strong(&c->slots[i].what, &what, suspect((uint32_t)what));
        return 0;
    case PHASE_SUSPECT:
        return 0;
    default: /* died between taking the slot and naming an endpoint */
        break;
    }
    mesh_ledger_free(c, i);
    return 1;
}

/* ---- recount ----------------------------------------------------------------------------------------------
 */
struct tally {
    const struct mesh_view *v;
    uint32_t stat, live; /* one of them is UINT32_MAX: not asked for */
    uint32_t dial;       /* only slots that say so; 0: all */
    uint32_t counted;
    bool moving; /* somebody is just now raising or lowering it */
};

static bool concerns(const struct tally *t, uint64_t what) {
    uint32_t stat = (uint32_t)what;
    if ((mesh_ledger_dial_of(what) & t->dial) != t->dial || stat == UINT32_MAX ||
        !mesh_counter_valid(t->v, stat, KIND_STATS))
        return false;
    return t->stat != UINT32_MAX ? stat == t->stat : mesh_counter_owner(t->v, stat)->live == t->live;
}

static void tally_slot(struct tally *t, enum ledger_phase phase) {
    bool easing = phase == PHASE_EASING;
    t->counted += phase == PHASE_COUNTED || (easing && !t->dial);
    t->moving |= phase == PHASE_NAMED || phase == PHASE_LOWERING || (easing && t->dial);
}

static void tally_all(struct tally *t) {
    struct view_chunk *c;
    t->counted = 0;
    t->moving = false;
    for (uint32_t n = 0; (c = mesh_ledger_chunk(t->v, n)); n++)
        for (uint32_t i = 0; i < VIEW_CHUNK_SLOTS; i++) {
            uint64_t what = atomic_load(&c->slots[i].what);
            if (what && concerns(t, what))
                tally_slot(t, mesh_ledger_phase(what));
        }
}

/* Sets a counter to what the slots say, if nothing moved meanwhile: two counts that agree around an unchanged
 * counter. */
static bool recount(struct tally *t, _Atomic uint32_t *counter) {
    uint32_t before = atomic_load(counter);
    tally_all(t);
    uint32_t first = t->counted;
    if (t->moving)
        return false;
    tally_all(t);
    return !t->moving && t->counted == first && atomic_compare_exchange_strong(counter, &before, first);
}

static bool recount_cluster(const struct mesh_view *v, uint32_t live) {
    if (!mesh_counter_valid(v, live, KIND_LIVES))
        return true;
    struct mesh_cluster_stat *to = mesh_live_at(v, live);
    struct tally all = {.v = v, .stat = UINT32_MAX, .live = live}, pending = all, retries = all;
    pending.dial = MESH_LEDGER_DIAL;
    retries.dial = MESH_LEDGER_RETRY;
    return recount(&all, &to->inflight) && recount(&pending, &to->pending) && recount(&retries, &to->retries);
}

static bool recount_stat(const struct mesh_view *v, uint32_t stat) {
    struct tally one = {.v = v, .stat = stat, .live = UINT32_MAX};
    if (stat == UINT32_MAX || !mesh_counter_valid(v, stat, KIND_STATS))
        return true;
    return recount(&one, &mesh_counter_at(v, stat)->inflight) &&
           recount_cluster(v, mesh_counter_owner(v, stat)->live);
}

/* ---- all of it --------------------------------------------------------------------------------------------
 */
static int settle_slots(struct mesh_view *v, const uint64_t *dead, uint32_t ndead) {
    struct view_head *h = mesh_view_head(v);
    struct view_chunk *c;
    bool left = false;
    int back = 0;
    atomic_store(&h->suspects, 1); /* should we die on the way */
    for (uint32_t n = 0; (c = mesh_ledger_chunk(v, n)); n++)
        for (uint32_t i = 0; i < VIEW_CHUNK_SLOTS; i++) {
            uint64_t owner = atomic_load_explicit(&c->slots[i].owner, memory_order_relaxed);
            uint64_t what = atomic_load_explicit(&c->slots[i].what, memory_order_relaxed);
            if (owner && is_in(dead, ndead, owner))
                back += settle_slot(v, c, i);
            what = atomic_load(&c->slots[i].what);
            if (mesh_ledger_phase(what) == PHASE_SUSPECT) {
                bool done = recount_stat(v, (uint32_t)what);
                if (done)
                    mesh_ledger_free(c, i);
                back += done;
                left |= !done;
            }
            if (!owner && !what) /* a hint that a dead taker left */
                atomic_fetch_and(&c->taken[i / 64], ~(UINT64_C(1) << (i % 64)));
        }
    atomic_store(&h->suspects, left);
    return back;
}

static void free_trees(struct view_head *h, const uint64_t *dead, uint32_t ndead) {
    for (uint32_t i = 0; i < VIEW_TREES; i++) {
        uint64_t id = atomic_load(&h->trees[i].id);
        if (!id || !is_in(dead, ndead, id))
            continue;
        atomic_store(&h->trees[i].empty_since, 0);
        atomic_compare_exchange_strong(&h->trees[i].id, &id, 0);
    }
}

static bool due(struct view_head *h, uint64_t now) {
    uint64_t last = atomic_load(&h->settled_at);
    return (!last || now < last || now - last >= MESH_SEC) &&
           atomic_compare_exchange_strong(&h->settled_at, &last, now);
}

/* Two that settle at once would subtract twice. */
static bool enter(struct view_head *h) {
    uint32_t who = atomic_load(&h->settler), me = (uint32_t)mesh_sys_getpid();
    if (who && mesh_process_lives((int)who, 0))
        return false;
    return atomic_compare_exchange_strong(&h->settler, &who, me);
}

int mesh_ledger_settle(struct mesh_view *v, uint64_t now) {
    struct view_head *h = mesh_view_head(v);
    if (!due(h, now) || !enter(h))
        return 0;
    struct alive *alive = calloc(1, sizeof *alive);
    uint64_t *dead = malloc(VIEW_TREES * sizeof *dead);
    int back = 0;
    if (alive && dead) {
        uint32_t round = atomic_fetch_add(&h->settle_round, 1);
        sweep_processes(h, round % START_EVERY == 0, alive);
        uint32_t ndead = dead_trees(h, alive, now, dead);
        if (ndead || atomic_load(&h->suspects)) {
            back = settle_slots(v, dead, ndead);
            free_trees(h, dead, ndead);
        }
    }
    free(alive);
    free(dead);
    atomic_store(&h->settler, 0);
    return back;
}
