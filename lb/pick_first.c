/* SPDX-License-Identifier: Apache-2.0
 *
 * Pick first (gRFC A62): the first endpoint that may be picked, in the order of the view. With
 * shuffle_address_list one is drawn by weight (A113: u^(1/w), which is that draw) and kept by all processes
 * until it may not be picked.
 */
#include "lb/ops.h"

static bool find_kept(const struct lb_ask *a, const struct lb_pool *p, uint32_t kept, struct lb_member *ret) {
    for (uint32_t i = 0; kept && i < p->n; i++) {
        if (p->members[i].stat + 1 != kept)
            continue;
        *ret = p->members[i];
        return lb_usable(a, ret);
    }
    return false;
}

static int shuffled(struct lb_ask *a, const struct lb_pool *p, struct lb_member *ret) {
    uint32_t kept = atomic_load(&a->c->live->first);
    if (find_kept(a, p, kept, ret))
        return 0;
    *ret = p->members[lb_pool_draw(a, p)];
    if (lb_usable(a, ret))
        atomic_compare_exchange_strong(&a->c->live->first, &kept, ret->stat + 1);
    return 0;
}

static int pick_first(struct lb_ask *a, const struct lb_pool *p, unsigned draw, struct lb_member *ret) {
    if (a->policy.shuffle)
        return shuffled(a, p, ret);
    uint32_t i = 0;
    while (i + 1 < p->n && !lb_usable(a, &p->members[i]))
        i++;
    *ret = p->members[i];
    return 0;
}

const struct lb_ops mesh_lb_pick_first = {"pick_first", pick_first};
