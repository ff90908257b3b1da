/* SPDX-License-Identifier: Apache-2.0
 *
 * Peak EWMA (Finagle's, as Envoy's peak_ewma policy has it): of two draws by weight the one of lower cost,
 *   cost = latency * (active + 1); 10 ms stand for the latency of one that is idle and never measured;
 *   one never measured that has connections is probably failing: 1,000,000 ms + active.
 */
#include "lb/ops.h"

static const double DEFAULT_MS = 10, PENALTY_MS = 1e6;

static double cost(const struct lb_ask *a, const struct lb_member *m) {
    struct mesh_stat *s = lb_stat(a->c, m->stat);
    if (!s || !lb_usable(a, m))
        return 2 * PENALTY_MS + UINT32_MAX;
    double active = lb_inflight(a, m->stat);
    double ms = atomic_load_explicit(&s->latency_us, memory_order_relaxed) / 1000.0;
    if (ms > 0)
        return ms * (active + 1);
    return active > 0 ? PENALTY_MS + active : DEFAULT_MS;
}

static int peak_ewma(struct lb_ask *a, const struct lb_pool *p, unsigned draw, struct lb_member *ret) {
    const struct lb_member *x = &p->members[lb_pool_draw(a, p)], *y = &p->members[lb_pool_draw(a, p)];
    *ret = cost(a, y) < cost(a, x) ? *y : *x;
    return 0;
}

const struct lb_ops mesh_lb_peak_ewma = {"peak_ewma", peak_ewma};
