/* SPDX-License-Identifier: Apache-2.0
 *
 * Building the table (lb/table.h): the publisher's work, on its heap. Endpoints are sorted once by priority
 * and locality; each set is then a filter over one priority's slice.
 */
#include "lb/table.h"
#include <stdlib.h>
#include <string.h>
#include "lb/hashing.h"

struct plan { /* what goes where; worked out alike for the size and for the build */
    struct lb_table t;
    uint8_t families[3]; /* of each view */
    bool weighted;       /* running sums are needed */
};

static uint64_t up8(uint64_t n) {
    return (n + 7) & ~UINT64_C(7);
}

static void plan_views(struct plan *p, const struct mesh_cluster_view *c) {
    bool four = false, six = false;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct mesh_endpoint *e = &c->endpoints[i];
        uint32_t priority = lb_priority(e);
        four = four || e->family != 6;
        six = six || e->family == 6;
        if (priority >= p->t.priorities)
            p->t.priorities = priority + 1;
        p->weighted = p->weighted || e->weight != c->endpoints[0].weight;
    }
    p->weighted = p->weighted || c->policy->locality_weighted;
    memset(p->t.view_of, LB_VIEW_NONE, sizeof p->t.view_of);
    if (four && six) {
        for (uint8_t f = 1; f <= 3; f++)
            p->families[f - 1] = f, p->t.view_of[f] = (uint8_t)(f - 1);
        p->t.views = 3;
    } else if (c->n) {
        p->families[0] = 3;
        p->t.view_of[six ? 2 : 1] = p->t.view_of[3] = 0;
        p->t.views = 1;
    }
}

/* At most three sets list an endpoint in each view: its own and that of all, which is shared when all are
 * healthy. */
static void count_members(struct plan *p, const struct mesh_cluster_view *c, struct lb_level *levels) {
    for (uint32_t v = 0; v < p->t.views; v++) {
        memset(levels, 0, p->t.priorities * sizeof *levels);
        for (uint32_t i = 0; i < c->n; i++) {
            enum lb_class class = mesh_lb_class_of(&c->endpoints[i], p->families[v]);
            struct lb_level *l = &levels[lb_priority(&c->endpoints[i])];
            if (class == LB_ABSENT)
                continue;
            l->hosts++;
            l->healthy += class == LB_HEALTHY;
            l->degraded += class == LB_DEGRADED;
        }
        for (uint32_t i = 0; i < p->t.priorities; i++) {
            p->t.members += levels[i].healthy + levels[i].degraded;
            if (levels[i].healthy != levels[i].hosts || c->policy->locality_weighted)
                p->t.members += levels[i].hosts;
        }
    }
}

static uint64_t place(uint64_t *io_at, uint64_t count, size_t size) {
    uint64_t at = *io_at;
    *io_at = up8(at + count * size);
    return at;
}

/* False: over 4 GiB. */
static bool plan(struct plan *p, const struct mesh_cluster_view *c) {
    struct lb_level levels[LB_PRIORITIES];
    uint64_t at = up8(sizeof p->t);
    memset(p, 0, sizeof *p);
    p->t.magic = LB_TABLE_MAGIC;
    p->t.version = LB_TABLE_VERSION;
    p->t.n = c->n;
    p->t.hash_policy = c->policy->policy;
    plan_views(p, c);
    count_members(p, c, levels);
    uint64_t slots = (uint64_t)p->t.views * p->t.priorities;
    p->t.cums = p->weighted ? p->t.members : 0;
    p->t.localities = c->policy->locality_weighted ? p->t.members : 0;
    p->t.levels_at = (uint32_t)place(&at, slots, sizeof(struct lb_level));
    p->t.sets_at = (uint32_t)place(&at, slots * LB_SETS, sizeof(struct lb_set_at));
    p->t.localities_at = (uint32_t)place(&at, p->t.localities, sizeof(struct lb_locality));
    p->t.cum_at = (uint32_t)place(&at, p->t.cums, sizeof(uint64_t));
    p->t.members_at = (uint32_t)place(&at, p->t.members, sizeof(struct lb_member));
    p->t.hash_at = (uint32_t)place(&at, mesh_lb_hash_size(c), 1);
    p->t.len = (uint32_t)at;
    return at <= UINT32_MAX;
}

size_t mesh_lb_table_size(const struct mesh_cluster_view *c) {
    struct plan p;
    if (!c->n)
        return 0;
    return plan(&p, c) ? p.t.len : SIZE_MAX;
}

/* ---- the build
 * ---------------------------------------------------------------------------------------------------- */
struct site {
    const struct mesh_cluster_view *c;
    struct plan plan;
    const uint32_t *order; /* endpoints by priority, locality, index */
    struct lb_level *levels;
    struct lb_set_at *sets;
    struct lb_locality *localities;
    uint64_t *cum;
    struct lb_member *members;
    uint32_t nmembers, nlocalities;
};

static int by_key(const void *x, const void *y) {
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

static uint32_t *sorted(const struct mesh_cluster_view *c) {
    uint64_t *key = malloc(c->n * sizeof *key);
    uint32_t *order = malloc(c->n * sizeof *order);
    if (!key || !order) {
        free(key);
        free(order);
        return NULL;
    }
    for (uint32_t i = 0; i < c->n; i++)
        key[i] = (uint64_t)lb_priority(&c->endpoints[i]) << 48 | (uint64_t)c->endpoints[i].locality << 32 | i;
    qsort(key, c->n, sizeof *key, by_key);
    for (uint32_t i = 0; i < c->n; i++)
        order[i] = (uint32_t)key[i];
    free(key);
    return order;
}

/* Fills members and running sums from a slice of the order; localities too, when they weigh. */
static void fill_set(struct site *b, struct lb_set_at *s, uint32_t from, uint32_t to, uint8_t families,
                     enum lb_set set) {
    bool by_locality = b->c->policy->locality_weighted && set != LB_SET_ALL;
    struct lb_locality *l = b->localities + b->nlocalities, *now = NULL;
    uint32_t hosts = 0, count = 0, n = 0;
    uint64_t sum = 0;
    bool equal = true;
    for (uint32_t i = from; i < to; i++) {
        const struct mesh_endpoint *e = &b->c->endpoints[b->order[i]];
        enum lb_class class = mesh_lb_class_of(e, families);
        if (i == from || e->locality != b->c->endpoints[b->order[i - 1]].locality)
            hosts = 0, now = NULL;
        if (class == LB_ABSENT)
            continue;
        hosts++;
        if (now)
            now->hosts = hosts;
        if (!lb_in_set(class, set))
            continue;
        if (by_locality && !now) {
            now = &l[count++];
            *now = (struct lb_locality){
                .first = n, .hosts = hosts, .weight = e->locality_weight, .id = e->locality};
        }
        if (now)
            now->n++;
        b->members[b->nmembers + n] = (struct lb_member){b->order[i], e->stat};
        sum += e->weight ? e->weight : 1;
        if (b->plan.weighted)
            b->cum[b->nmembers + n] = sum;
        n++;
        if (b->plan.weighted)
            equal = equal && sum == n * b->cum[b->nmembers];
    }
    *s = (struct lb_set_at){.first = b->nmembers, .n = n, .cum = b->plan.weighted ? b->nmembers : UINT32_MAX};
    uint32_t left = by_locality ? mesh_lb_localities_apply(l, &count, b->c->policy->overprovisioning,
                                                           b->members + s->first, b->cum + s->first)
                                : 0;
    if (left) {
        s->n = left;
        s->locality = b->nlocalities;
        s->localities = count;
        b->nlocalities += count;
    } else if (equal) {
        s->cum = UINT32_MAX;
    }
    if (s->cum != UINT32_MAX && s->n)
        s->stride = mesh_lb_stride(b->cum[s->first + s->n - 1]);
    b->nmembers += n;
}

static void fill_level(struct lb_level *l, const struct site *b, uint32_t from, uint32_t to,
                       uint8_t families) {
    memset(l, 0, sizeof *l);
    for (uint32_t i = from; i < to; i++) {
        enum lb_class class = mesh_lb_class_of(&b->c->endpoints[b->order[i]], families);
        l->hosts += class != LB_ABSENT;
        l->healthy += class == LB_HEALTHY;
        l->degraded += class == LB_DEGRADED;
    }
}

static void fill_priority(struct site *b, uint32_t view, uint32_t priority, uint32_t from, uint32_t to) {
    uint8_t families = b->plan.families[view];
    uint32_t slot = view * b->plan.t.priorities + priority;
    struct lb_level *l = &b->levels[slot];
    struct lb_set_at *s = &b->sets[slot * LB_SETS];
    fill_level(l, b, from, to, families);
    fill_set(b, &s[LB_SET_HEALTHY], from, to, families, LB_SET_HEALTHY);
    fill_set(b, &s[LB_SET_DEGRADED], from, to, families, LB_SET_DEGRADED);
    if (l->healthy == l->hosts && !b->c->policy->locality_weighted)
        s[LB_SET_ALL] = s[LB_SET_HEALTHY];
    else
        fill_set(b, &s[LB_SET_ALL], from, to, families, LB_SET_ALL);
}

static void fill(struct site *b) {
    for (uint32_t v = 0; v < b->plan.t.views; v++) {
        uint32_t from = 0;
        for (uint32_t p = 0; p < b->plan.t.priorities; p++) {
            uint32_t to = from;
            while (to < b->c->n && lb_priority(&b->c->endpoints[b->order[to]]) == p)
                to++;
            fill_priority(b, v, p, from, to);
            from = to;
        }
    }
}

int mesh_lb_table_build(const struct mesh_cluster_view *c, void *ret_table, size_t cap, uint32_t *ret_len) {
    struct site b = {.c = c};
    char *at = ret_table;
    size_t size = mesh_lb_table_size(c);
    if (size > cap)
        return MESH_E_LIMIT;
    if (!size) {
        *ret_len = 0;
        return 0;
    }
    if (!plan(&b.plan, c))
        return MESH_E_LIMIT;
    uint32_t *order = sorted(c);
    if (!order)
        return MESH_E_NOMEM;
    b.order = order;
    b.levels = (struct lb_level *)(at + b.plan.t.levels_at);
    b.sets = (struct lb_set_at *)(at + b.plan.t.sets_at);
    b.localities = (struct lb_locality *)(at + b.plan.t.localities_at);
    b.cum = (uint64_t *)(at + b.plan.t.cum_at);
    b.members = (struct lb_member *)(at + b.plan.t.members_at);
    memset(at, 0, size);
    fill(&b);
    free(order);
    memcpy(at, &b.plan.t, sizeof b.plan.t);
    int err = mesh_lb_hash_build(c, at + b.plan.t.hash_at, size - b.plan.t.hash_at);
    if (!err)
        *ret_len = (uint32_t)size;
    return err;
}
