/* SPDX-License-Identifier: Apache-2.0
 *
 * Round robin over one counter that all processes share. Members of equal weight take turns. Otherwise turn k
 * goes to the member at point k * stride mod W of the summed weights, stride coprime to W: within any W
 * successive turns each member gets exactly its weight, as Envoy's EDF gives it, and without the state that
 * EDF keeps. Where W is large and no stride was prepared, multiples of the golden section serve: even, and
 * exact in the limit. The counter starts at random, so that many hosts that start together do not walk in
 * step.
 *
 * A redraw (large cluster, the member whose turn it is is ejected or was tried) is random: its turns fall to
 * all, not to its neighbour.
 */
#include "lb/ops.h"

enum { EXACT = 65536 }; /* finding a stride for more would cost more than the pick */

static uint32_t next_turn(struct lb_ask *a) {
    uint32_t k = atomic_fetch_add_explicit(&a->c->live->rr, 1, memory_order_relaxed);
    if (k)
        return k;
    k = (uint32_t)lb_random(a);
    atomic_fetch_add_explicit(&a->c->live->rr, k, memory_order_relaxed);
    return k;
}

static uint32_t turn(const struct lb_pool *p, uint32_t k) {
    if (!p->cum)
        return k % p->n;
    uint64_t total = lb_pool_total(p), stride = p->stride;
    if (!stride && total > EXACT)
        return mesh_lb_pool_at(p, lb_scale(k * UINT64_C(0x9e3779b97f4a7c15), total));
    if (!stride)
        stride = mesh_lb_stride(total);
    return mesh_lb_pool_at(p, total ? (uint64_t)((unsigned __int128)k * stride % total) : 0);
}

static int round_robin(struct lb_ask *a, const struct lb_pool *p, unsigned draw, struct lb_member *ret) {
    *ret = p->members[draw ? lb_pool_draw(a, p) : turn(p, next_turn(a))];
    return 0;
}

const struct lb_ops mesh_lb_round_robin = {"round_robin", round_robin};
