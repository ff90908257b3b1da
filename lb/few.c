/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool of a small cluster, gathered on each pick: priorities are weighed by who is healthy and not
 * ejected at this moment, and the members are those that may be picked.
 */
#include <string.h>
#include "lb/ops.h"

/* Classes and levels; returns how many priorities there are, 0 when no endpoint is in reach. */
static uint32_t survey(struct lb_ask *a, struct lb_few *room, uint32_t n) {
    const struct mesh_endpoint *e = a->c->endpoints;
    uint32_t priorities = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t p = lb_priority(&e[i]);
        room->priority[i] = p;
        room->class[i] = (uint8_t)mesh_lb_class_of(&e[i], a->r->families);
        if (room->class[i] != LB_ABSENT && p >= priorities)
            priorities = p + 1u;
    }
    memset(room->levels, 0, priorities * sizeof room->levels[0]);
    for (uint32_t i = 0; i < n; i++) {
        if (room->class[i] == LB_ABSENT)
            continue;
        struct lb_level *l = &room->levels[room->priority[i]];
        l->hosts++;
        if (room->class[i] == LB_UNHEALTHY || lb_out(a, e[i].stat))
            continue;
        if (room->class[i] == LB_HEALTHY)
            l->healthy++;
        else
            l->degraded++;
    }
    return priorities;
}

/* The members of a priority's set that may be picked, with running sums of their weights. */
static uint32_t gather(struct lb_ask *a, struct lb_few *room, uint32_t n, uint32_t priority,
                       enum lb_set set) {
    const struct mesh_endpoint *e = a->c->endpoints;
    uint32_t count = 0;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct lb_member m = {i, e[i].stat};
        if (room->priority[i] != priority || !lb_in_set(room->class[i], set) || !lb_usable(a, &m))
            continue;
        sum += mesh_lb_weight(&e[i], &a->policy, a->r->now);
        room->members[count] = m;
        room->cum[count++] = sum;
    }
    return count;
}

/* Puts members of one locality side by side, in order of their first. */
static void sort_by_locality(const struct mesh_endpoint *e, struct lb_few *room, uint32_t count) {
    uint64_t weight[LB_FEW], sum = 0;
    for (uint32_t i = 0; i < count; i++)
        weight[i] = room->cum[i] - (i ? room->cum[i - 1] : 0);
    for (uint32_t i = 1; i < count; i++) {
        struct lb_member m = room->members[i];
        uint64_t w = weight[i];
        uint32_t at = i;
        for (; at && e[room->members[at - 1].endpoint].locality > e[m.endpoint].locality; at--) {
            room->members[at] = room->members[at - 1];
            weight[at] = weight[at - 1];
        }
        room->members[at] = m;
        weight[at] = w;
    }
    for (uint32_t i = 0; i < count; i++)
        room->cum[i] = sum += weight[i];
}

static uint32_t hosts_of(const struct mesh_endpoint *e, const struct lb_few *room, uint32_t n,
                         uint32_t priority, uint16_t locality) {
    uint32_t hosts = 0;
    for (uint32_t i = 0; i < n; i++)
        hosts += room->priority[i] == priority && room->class[i] != LB_ABSENT && e[i].locality == locality;
    return hosts;
}

/* Weighs the pool by locality; the count of members left. */
static uint32_t weigh_localities(struct lb_ask *a, struct lb_few *room, uint32_t n, struct lb_pool *pool) {
    const struct mesh_endpoint *e = a->c->endpoints;
    uint32_t count = 0;
    sort_by_locality(e, room, pool->n);
    for (uint32_t i = 0; i < pool->n; i++) {
        const struct mesh_endpoint *m = &e[room->members[i].endpoint];
        if (!count || room->localities[count - 1].id != m->locality)
            room->localities[count++] =
                (struct lb_locality){.first = i,
                                     .id = m->locality,
                                     .weight = m->locality_weight,
                                     .hosts = hosts_of(e, room, n, pool->priority, m->locality)};
        room->localities[count - 1].n++;
    }
    uint32_t left = mesh_lb_localities_apply(room->localities, &count, a->policy.overprovisioning,
                                             room->members, room->cum);
    pool->localities = room->localities;
    pool->nlocalities = left ? count : 0;
    return left ? left : pool->n;
}

static bool all_equal(const uint64_t *cum, uint32_t n) {
    for (uint32_t i = 1; i < n; i++)
        if (cum[i] - cum[i - 1] != cum[0])
            return false;
    return true;
}

int mesh_lb_few_pool(struct lb_ask *a, struct lb_few *room, struct lb_pool *ret_pool) {
    uint32_t n = a->c->n < LB_FEW ? a->c->n : LB_FEW, priority;
    enum lb_set set;
    uint32_t priorities = survey(a, room, n);
    if (!mesh_lb_level_choose(room->levels, priorities, &a->policy, lb_percent(a), &priority, &set))
        return MESH_E_NOENDPOINT;
    a->barred = set == LB_SETS;
    if (a->barred)
        return MESH_E_NOENDPOINT;
    struct lb_pool pool = {.members = room->members, .priority = priority, .set = set};
    pool.n = gather(a, room, n, priority, set);
    if (!pool.n)
        return MESH_E_NOENDPOINT;
    if (a->policy.locality_weighted && set != LB_SET_ALL)
        pool.n = weigh_localities(a, room, n, &pool);
    pool.cum = !pool.nlocalities && all_equal(room->cum, pool.n) ? NULL : room->cum;
    *ret_pool = pool;
    return 0;
}
