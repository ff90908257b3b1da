/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash part of a table, and finding one's host on a wheel. Weights are normalised as Envoy's
 * ThreadAwareLoadBalancerBase does: w / sum, and under locality weights w / sum(w of L) * weight(L) /
 * sum(weight), localities without weight left out, availability not considered.
 */
#include "lb/hashing.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shim/base/mem.h"

enum { KEY_MAX = 64 /* "[ipv6]:port" */ };

/* ---- the publisher's side
 * ------------------------------------------------------------------------------------------ */
struct gathered { /* one priority */
    struct lb_host *hosts;
    uint32_t n;
};

static bool hashes(const struct mesh_policy *p) {
    return p->policy == MESH_LB_RING_HASH || p->policy == MESH_LB_MAGLEV;
}

static uint32_t priorities_of(const struct mesh_cluster_view *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++)
        if (lb_priority(&c->endpoints[i]) >= n)
            n = lb_priority(&c->endpoints[i]) + 1u;
    return n;
}

static void count_levels(const struct mesh_cluster_view *c, struct lb_level *levels) {
    memset(levels, 0, LB_PRIORITIES * sizeof *levels);
    for (uint32_t i = 0; i < c->n; i++) {
        enum lb_class class = mesh_lb_class_of(&c->endpoints[i], 3);
        struct lb_level *l = &levels[lb_priority(&c->endpoints[i])];
        l->hosts++;
        l->healthy += class == LB_HEALTHY;
        l->degraded += class == LB_DEGRADED;
    }
}

/* Which of each priority's endpoints are on its wheel. */
static void choose_sets(const struct mesh_cluster_view *c, uint32_t n, enum lb_set *sets) {
    struct lb_level levels[LB_PRIORITIES];
    struct lb_loads loads;
    count_levels(c, levels);
    bool any = mesh_lb_loads(levels, n, c->policy->overprovisioning, c->policy->panic_percent, &loads);
    for (uint32_t p = 0; p < n; p++) {
        if (any && loads.panic[p])
            sets[p] = LB_SET_ALL;
        else
            sets[p] = levels[p].healthy ? LB_SET_HEALTHY : LB_SET_DEGRADED;
    }
}

struct sum {          /* of one locality in one priority */
    uint64_t members; /* on the wheel */
    uint32_t weight, seen;
};

static uint32_t localities_of(const struct mesh_cluster_view *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++)
        if (c->endpoints[i].locality >= n)
            n = c->endpoints[i].locality + 1u;
    return n;
}

/* The sum of the localities' weights; every locality of the priority counts, also one with nobody on the
 * wheel. */
static uint64_t sum_localities(const struct mesh_cluster_view *c, uint32_t priority, enum lb_set set,
                               struct sum *sums) {
    uint64_t total = 0;
    memset(sums, 0, localities_of(c) * sizeof *sums);
    for (uint32_t i = 0; i < c->n; i++) {
        const struct mesh_endpoint *e = &c->endpoints[i];
        struct sum *s = &sums[e->locality];
        if (lb_priority(e) != priority)
            continue;
        if (!s->seen)
            total += s->weight = e->locality_weight;
        s->seen = 1;
        if (lb_in_set((uint8_t)mesh_lb_class_of(e, 3), set))
            s->members += e->weight ? e->weight : 1;
    }
    return total;
}

static void add_host(struct gathered *g, const struct mesh_endpoint *e, uint32_t i, double weight) {
    g->hosts[g->n++] = (struct lb_host){.weight = weight, .endpoint = i, .stat = e->stat};
}

/* By locality only when asked to and when any locality has a weight, as in Envoy. */
static void gather(const struct mesh_cluster_view *c, uint32_t priority, enum lb_set set, struct sum *sums,
                   struct gathered *g) {
    uint64_t weights = sum_localities(c, priority, set, sums), sum = 0;
    bool by_locality = c->policy->locality_weighted && weights;
    g->n = 0;
    for (uint32_t i = 0, n = localities_of(c); i < n; i++)
        sum += sums[i].members;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct mesh_endpoint *e = &c->endpoints[i];
        uint32_t weight = e->weight ? e->weight : 1;
        if (lb_priority(e) != priority || !lb_in_set((uint8_t)mesh_lb_class_of(e, 3), set))
            continue;
        if (!by_locality) {
            add_host(g, e, i, weight * 1.0 / (double)sum);
        } else if (e->locality_weight) {
            double share = (double)sums[e->locality].weight / (double)weights;
            add_host(g, e, i, weight * share / (double)sums[e->locality].members);
        }
    }
}

size_t mesh_lb_address_text(const struct mesh_endpoint *e, char *out, size_t cap) {
    char ip[INET6_ADDRSTRLEN] = "";
    inet_ntop(e->family == 6 ? AF_INET6 : AF_INET, e->addr, ip, sizeof ip);
    int n = snprintf(out, cap, e->family == 6 ? "[%s]:%u" : "%s:%u", ip, e->port);
    return n > 0 ? (size_t)n : 0;
}

/* The hosts' hash keys; text of formatted ones lives in `room`, KEY_MAX each. */
static void list_keys(const struct mesh_cluster_view *c, const struct gathered *g, struct lb_key *keys,
                      char *room) {
    for (uint32_t i = 0; i < g->n; i++, room += KEY_MAX) {
        const struct mesh_endpoint *e = &c->endpoints[g->hosts[i].endpoint];
        size_t len = 0;
        const char *text = e->hash_key && c->hash_key ? c->hash_key(c->view, e->hash_key, &len) : NULL;
        if (!text) {
            len = mesh_lb_address_text(e, room, KEY_MAX);
            text = room;
        }
        keys[i] = (struct lb_key){.text = text, .len = (uint32_t)len, .host = i};
    }
}

static uint32_t slots_of(const struct mesh_policy *p, const struct gathered *g) {
    if (!g->n)
        return 0;
    return p->policy == MESH_LB_MAGLEV ? mesh_lb_maglev_slots(p) : mesh_lb_ring_slots(p, g->hosts, g->n);
}

static uint32_t place(uint64_t *io_at, uint64_t bytes) {
    uint64_t at = *io_at;
    *io_at = (at + bytes + 7) & ~UINT64_C(7);
    return (uint32_t)at;
}

struct lb_site { /* the walk over the priorities, to measure (part NULL) or to build */
    const struct mesh_cluster_view *c;
    char *part;
    size_t cap;
    struct gathered g;
    struct sum *sums;
    struct lb_key *keys;
    char *text;
};

static int build_wheel(struct lb_site *b, const struct lb_wheel *w) {
    const struct mesh_policy *p = b->c->policy;
    uint32_t *slots = (uint32_t *)(b->part + w->slots_at);
    memcpy(b->part + w->hosts_at, b->g.hosts, w->hosts * sizeof *b->g.hosts);
    list_keys(b->c, &b->g, b->keys, b->text);
    if (p->policy == MESH_LB_MAGLEV)
        return mesh_lb_maglev_fill(b->g.hosts, b->keys, w->hosts, slots, w->slots);
    return mesh_lb_ring_fill(p, b->g.hosts, b->keys, w->hosts, (uint64_t *)(b->part + w->positions_at), slots,
                             w->slots);
}

static int walk(struct lb_site *b, uint64_t *ret_size) {
    enum lb_set sets[LB_PRIORITIES];
    const struct mesh_policy *p = b->c->policy;
    uint32_t n = priorities_of(b->c);
    uint64_t at = 0;
    place(&at, sizeof(struct lb_hash));
    place(&at, n * sizeof(struct lb_wheel));
    choose_sets(b->c, n, sets);
    for (uint32_t i = 0; i < n; i++) {
        struct lb_wheel w = {0};
        gather(b->c, i, sets[i], b->sums, &b->g);
        w.hosts = b->g.n;
        w.slots = slots_of(p, &b->g);
        w.hosts_at = place(&at, w.hosts * sizeof(struct lb_host));
        w.positions_at = place(&at, p->policy == MESH_LB_RING_HASH ? w.slots * sizeof(uint64_t) : 0);
        w.slots_at = place(&at, w.slots * sizeof(uint32_t));
        if (at > UINT32_MAX / 2)
            return MESH_E_LIMIT;
        if (!b->part)
            continue;
        if (at > b->cap)
            return MESH_E_LIMIT;
        memcpy(b->part + sizeof(struct lb_hash) + i * sizeof w, &w, sizeof w);
        int err = w.slots ? build_wheel(b, &w) : 0;
        if (err)
            return err;
    }
    if (b->part)
        memcpy(b->part, &(struct lb_hash){.priorities = n}, sizeof(struct lb_hash));
    *ret_size = at;
    return 0;
}

static int run(const struct mesh_cluster_view *c, void *part, size_t cap, uint64_t *ret_size) {
    struct lb_site b = {.c = c, .part = part, .cap = cap};
    int err = MESH_E_NOMEM;
    b.g.hosts = malloc((c->n + 1) * sizeof *b.g.hosts);
    b.sums = malloc((localities_of(c) + 1) * sizeof *b.sums);
    b.keys = malloc((c->n + 1) * sizeof *b.keys);
    b.text = malloc(((size_t)c->n + 1) * KEY_MAX);
    if (b.g.hosts && b.sums && b.keys && b.text)
        err = walk(&b, ret_size);
    free(b.text);
    free(b.keys);
    free(b.sums);
    free(b.g.hosts);
    return err;
}

size_t mesh_lb_hash_size(const struct mesh_cluster_view *c) {
    uint64_t size = 0;
    if (!hashes(c->policy) || !c->n)
        return 0;
    return run(c, NULL, 0, &size) < 0 ? SIZE_MAX : size;
}

int mesh_lb_hash_build(const struct mesh_cluster_view *c, void *part, size_t cap) {
    uint64_t size;
    return hashes(c->policy) && c->n ? run(c, part, cap, &size) : 0;
}

/* ---- the reader's side
 * ---------------------------------------------------------------------------------------------- */
static const void *part_of(const struct mesh_cluster_view *c, const struct lb_table *t, uint32_t at,
                           uint64_t count, size_t size) {
    return at > UINT32_MAX - t->hash_at ? NULL : mesh_lb_table_part(c, t->hash_at + at, count, size);
}

bool mesh_lb_wheel_open(const struct lb_ask *a, uint32_t priority, struct lb_wheel_open *ret) {
    const struct mesh_cluster_view *c = a->c;
    struct lb_table t;
    if (!mesh_lb_table_read(c, &t) || t.hash_policy != a->policy.policy)
        return false;
    const struct lb_hash *h = part_of(c, &t, 0, 1, sizeof *h);
    if (!h || priority >= h->priorities)
        return false;
    const struct lb_wheel *at = part_of(c, &t, sizeof *h, priority + 1ull, sizeof *at);
    if (!at)
        return false;
    struct lb_wheel w = at[priority];
    bool ring = t.hash_policy == MESH_LB_RING_HASH;
    ret->hosts = part_of(c, &t, w.hosts_at, w.hosts, sizeof *ret->hosts);
    ret->positions = part_of(c, &t, w.positions_at, ring ? w.slots : 0, sizeof *ret->positions);
    ret->slots = part_of(c, &t, w.slots_at, w.slots, sizeof *ret->slots);
    ret->nhosts = w.hosts;
    ret->nslots = w.slots;
    return ret->hosts && ret->positions && ret->slots && w.hosts && w.slots;
}
