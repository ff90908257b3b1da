/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool of a small cluster, gathered on each pick: priorities are weighed by who is healthy and not ejected at
 * this moment, and the members are those that may be picked.
 */
#include <string.h>
#include "lb/ops.h"

/* Classes and levels; returns how many priorities there are, 0 when no endpoint is in reach. */
static uint32_t survey(struct lb_ask *a, struct lb_few *room, uint32_t n) {
    const struct mesh_endpoint *e = a->c->endpoints;
    uint32_t priorities = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t p = e[i].priority < LB_PRIORITIES ? e[i].priority : LB_PRIORITIES - 1;
        room->priority[i] = p;
        room->class[i] = (uint8_t)mesh_lb_class_of(&e[i], a->r->families);
        if (room->class[i] != LB_ABSENT && p >= priorities) priorities = p + 1u;
    }
    memset(room->levels, 0, priorities * sizeof room->levels[0]);
    for (uint32_t i = 0; i < n; i++) {
        if (room->class[i] == LB_ABSENT) continue;
        struct lb_level *l = &room->levels[room->priority[i]];
        l->hosts++;
        if (room->class[i] == LB_UNHEALTHY || lb_out(a, e[i].stat)) continue;
        if (room->class[i] == LB_HEALTHY)
            l->healthy++;
        else
            l->degraded++;
    }
    return priorities;
}

static bool in_set(uint8_t class, enum lb_set set) {
    if (set == LB_SET_ALL) return class != LB_ABSENT;
    return class == (set == LB_SET_HEALTHY ? LB_HEALTHY : LB_DEGRADED);
}

int mesh_lb_few_pool(struct lb_ask *a, struct lb_few *room, struct lb_pool *ret_pool) {
    const struct mesh_endpoint *e = a->c->endpoints;
    uint32_t n = a->c->n < LB_FEW ? a->c->n : LB_FEW, priority, count = 0;
    enum lb_set set;
    uint64_t sum = 0;
    bool equal = true;
    uint32_t priorities = survey(a, room, n);
    if (!mesh_lb_level_choose(room->levels, priorities, &a->policy, (uint32_t)lb_scale(lb_random(a), 100), &priority, &set))
        return MESH_E_NOENDPOINT;
    for (uint32_t i = 0; i < n; i++) {
        if (room->priority[i] != priority || !in_set(room->class[i], set)) continue;
        struct lb_member m = {i, e[i].stat};
        if (!lb_usable(a, &m)) continue;
        uint32_t weight = e[i].weight ? e[i].weight : 1;
        room->members[count] = m;
        sum += weight;
        room->cum[count] = sum;
        equal = equal && sum == (count + 1ull) * room->cum[0];
        count++;
    }
    if (!count) return MESH_E_NOENDPOINT;
    *ret_pool = (struct lb_pool){.members = room->members, .cum = equal ? NULL : room->cum, .n = count, .priority = priority};
    return 0;
}
