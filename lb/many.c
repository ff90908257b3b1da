/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool of a large cluster, from its table. The table's counts know nothing of ejections: those of the
 * first priorities are subtracted from the live counts. What is drawn may still be ejected or tried.
 */
#include <string.h>
#include "lb/table.h"
#include "shim/base/mem.h"

const void *mesh_lb_table_part(const struct mesh_cluster_view *c, uint32_t at, uint64_t count, size_t size) {
    if (at % 8 || at > c->table_len || count > (c->table_len - at) / size)
        return NULL;
    return (const char *)c->table + at;
}

bool mesh_lb_table_read(const struct mesh_cluster_view *c, struct lb_table *ret) {
    if (!c->table || c->table_len < sizeof *ret)
        return false;
    memcpy(ret, c->table, sizeof *ret);
    return ret->magic == LB_TABLE_MAGIC && ret->version == LB_TABLE_VERSION && ret->n == c->n;
}

static void subtract(uint32_t *from, uint32_t n) {
    *from -= n < *from ? n : *from;
}

/* The levels as of now; in `room` when some of theirs are ejected. */
static const struct lb_level *levels_now(const struct lb_ask *a, const struct lb_level *built, uint32_t n,
                                         struct lb_level *room) {
    struct mesh_cluster_stat *live = a->c->live;
    if (!a->any_ejected)
        return built;
    memcpy(room, built, n * sizeof *room);
    for (uint32_t p = 0; p < n && p < MESH_ARRAY_LEN(live->out_healthy); p++) {
        subtract(&room[p].healthy, atomic_load_explicit(&live->out_healthy[p], memory_order_relaxed));
        subtract(&room[p].degraded, atomic_load_explicit(&live->out_degraded[p], memory_order_relaxed));
    }
    return room;
}

static int pool_of(const struct mesh_cluster_view *c, const struct lb_table *t, const struct lb_set_at *s,
                   struct lb_pool *ret_pool) {
    const struct lb_member *members = mesh_lb_table_part(c, t->members_at, t->members, sizeof *members);
    const uint64_t *cum = mesh_lb_table_part(c, t->cum_at, t->cums, sizeof *cum);
    const struct lb_locality *localities =
        mesh_lb_table_part(c, t->localities_at, t->localities, sizeof *localities);
    if (!members || !cum || !localities || !s->n)
        return MESH_E_NOENDPOINT;
    if (s->first > t->members || s->n > t->members - s->first)
        return MESH_E_NOENDPOINT;
    bool weighted = s->cum != UINT32_MAX;
    if (weighted && (s->cum > t->cums || s->n > t->cums - s->cum))
        return MESH_E_NOENDPOINT;
    if (s->locality > t->localities || s->localities > t->localities - s->locality)
        return MESH_E_NOENDPOINT;
    *ret_pool = (struct lb_pool){
        .members = members + s->first,
        .n = s->n,
        .cum = weighted ? cum + s->cum : NULL,
        .localities = localities + s->locality,
        .nlocalities = weighted ? s->localities : 0,
        .stride = s->stride,
    };
    return 0;
}

int mesh_lb_many_pool(struct lb_ask *a, struct lb_pool *ret_pool) {
    const struct mesh_cluster_view *c = a->c;
    struct lb_table t;
    struct lb_level room[LB_PRIORITIES];
    uint32_t priority;
    enum lb_set set;
    if (!mesh_lb_table_read(c, &t) || t.priorities > LB_PRIORITIES)
        return MESH_E_NOENDPOINT;
    uint32_t view = t.view_of[a->r->families & 3];
    if (view >= t.views)
        return MESH_E_NOENDPOINT;
    uint64_t slots = (uint64_t)t.views * t.priorities;
    const struct lb_level *levels = mesh_lb_table_part(c, t.levels_at, slots, sizeof *levels);
    const struct lb_set_at *sets = mesh_lb_table_part(c, t.sets_at, slots * LB_SETS, sizeof *sets);
    if (!levels || !sets)
        return MESH_E_NOENDPOINT;
    levels = levels_now(a, levels + view * t.priorities, t.priorities, room);
    if (!mesh_lb_level_choose(levels, t.priorities, &a->policy, lb_percent(a), &priority, &set))
        return MESH_E_NOENDPOINT;
    a->barred = set == LB_SETS;
    if (a->barred)
        return MESH_E_NOENDPOINT;
    const struct lb_set_at s = sets[(view * t.priorities + priority) * LB_SETS + set];
    int err = pool_of(c, &t, &s, ret_pool);
    if (!err) {
        ret_pool->priority = priority;
        ret_pool->set = set;
    }
    return err;
}
