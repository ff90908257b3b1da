/* SPDX-License-Identifier: Apache-2.0
 *
 * Slow start (Envoy's slow_start_config): a new endpoint's weight grows over the window,
 *   w * max(min_weight_percent, time_factor^(1 / aggression)),  time_factor = age / window.
 * In a large cluster, whose weights are prepared, a drawn newcomer is kept with that probability instead.
 */
#include "lb/ops.h"
#include "lb/power.h"
#include "shim/base/clock.h"

double mesh_lb_slow_start(const struct mesh_endpoint *e, const struct mesh_policy *p, uint64_t now) {
    uint64_t window = p->slow_start_ms * MESH_MS, age = now > e->since ? now - e->since : 0;
    if (age >= window)
        return 1;
    double least = (p->slow_start_least_percent ? p->slow_start_least_percent : 10) / 100.0;
    double factor = (double)age / (double)window;
    if (p->slow_start_aggression > 0 && p->slow_start_aggression != 1.0f)
        factor = mesh_lb_pow(factor, 1.0 / p->slow_start_aggression);
    return factor > least ? factor : least;
}

uint64_t mesh_lb_weight(const struct mesh_endpoint *e, const struct mesh_policy *p, uint64_t now) {
    uint64_t weight = e->weight ? e->weight : 1;
    if (!p->slow_start_ms)
        return weight;
    double grown = (double)weight * 1024 * mesh_lb_slow_start(e, p, now);
    return grown > 1 ? (uint64_t)grown : 1;
}
