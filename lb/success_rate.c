/* SPDX-License-Identifier: Apache-2.0
 *
 * Ejection by share of successes, as Envoy's outlier detection at the end of each interval:
 *   success rate   among endpoints with at least success_volume reports, when there are success_hosts of
 * them: out is who lies below mean - stdev * factor / 1000 (population deviation, rates in percent) failure
 * share  among those with failure_volume reports, when there are failure_hosts: out is who failed
 *                  failure_threshold percent or more
 * Each with its enforcing percentage, and within what ejection allows (lb/outlier.c).
 *
 * No timer: the first report of an interval, in whatever process, judges the one before. Counters alternate
 * between the even and the odd intervals, so what is judged is not written any more. Reports that race with
 * the first one of their endpoint in an interval may be lost to the rate (never to the totals), and an
 * interval that is followed by an idle one is judged late or not at all.
 */
#include "lb/ops.h"
#include "shim/base/clock.h"

static const double VARIANCE_LEAST =
    1e-9; /* what rounding leaves of a sum of squares when all rates are equal */

static uint32_t window_of(const struct mesh_policy *p, uint64_t now) {
    uint64_t interval = p->interval_ms ? p->interval_ms * MESH_MS : MESH_MS;
    return (uint32_t)(now / interval);
}

static void add_one(_Atomic uint16_t *n) {
    uint16_t value = atomic_load_explicit(n, memory_order_relaxed);
    while (value < UINT16_MAX && !atomic_compare_exchange_weak(n, &value, (uint16_t)(value + 1))) {
    }
}

struct rate {
    bool known; /* it has reports */
    uint32_t volume;
    double percent; /* of successes */
};

static struct rate rate_of(const struct mesh_cluster_view *c, uint32_t endpoint, uint32_t window,
                           uint64_t now) {
    struct rate r = {0};
    struct mesh_stat *s = lb_stat(c, c->endpoints[endpoint].stat);
    if (!s || mesh_lb_ejected(s, now))
        return r;
    uint32_t newest = atomic_load(&s->window);
    if (newest != window && newest != window + 1)
        return r;
    uint32_t good = atomic_load(&s->window_good[window & 1]), bad = atomic_load(&s->window_bad[window & 1]);
    r.volume = good + bad;
    r.known = r.volume > 0;
    r.percent = r.known ? 100.0 * good / r.volume : 0;
    return r;
}

/* Below mean - stdev * factor / 1000, without a root. */
bool mesh_lb_success_below(double rate, uint32_t n, double sum, double squares, uint32_t factor) {
    double mean = sum / n, variance = squares / n - mean * mean, below = (mean - rate) * 1000;
    if (variance < VARIANCE_LEAST)
        variance = 0;
    return below > 0 && below * below > variance * factor * factor;
}

static void judge_success(const struct mesh_cluster_view *c, const struct mesh_policy *p, uint32_t window,
                          uint64_t now) {
    uint32_t n = 0;
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        struct rate r = rate_of(c, i, window, now);
        if (!r.known || r.volume < p->success_volume)
            continue;
        n++;
        sum += r.percent;
        squares += r.percent * r.percent;
    }
    if (!n || n < p->success_hosts)
        return;
    for (uint32_t i = 0; i < c->n; i++) {
        struct rate r = rate_of(c, i, window, now);
        uint32_t stat = c->endpoints[i].stat;
        if (!r.known || r.volume < p->success_volume ||
            !mesh_lb_success_below(r.percent, n, sum, squares, p->success_stdev))
            continue;
        if (mesh_lb_enforced(p->success_enforcing, stat, now))
            mesh_lb_eject(c, p, stat, now);
    }
}

static void judge_failures(const struct mesh_cluster_view *c, const struct mesh_policy *p, uint32_t window,
                           uint64_t now) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        struct rate r = rate_of(c, i, window, now);
        n += r.known && r.volume >= p->failure_volume;
    }
    if (!n || n < p->failure_hosts)
        return;
    for (uint32_t i = 0; i < c->n; i++) {
        struct rate r = rate_of(c, i, window, now);
        uint32_t stat = c->endpoints[i].stat;
        if (!r.known || r.volume < p->failure_volume || 100 - r.percent < p->failure_threshold)
            continue;
        if (mesh_lb_enforced(p->failure_enforcing, stat, now))
            mesh_lb_eject(c, p, stat, now);
    }
}

static void clear(struct mesh_stat *s, uint32_t side) {
    atomic_store(&s->window_good[side], 0);
    atomic_store(&s->window_bad[side], 0);
}

void mesh_lb_window_count(const struct mesh_cluster_view *c, const struct mesh_policy *p, uint32_t stat,
                          bool good, uint64_t now) {
    struct mesh_stat *s = lb_stat(c, stat);
    if (!s || (!p->success_enforcing && !p->failure_enforcing))
        return;
    uint32_t window = window_of(p, now), judged = atomic_load(&c->live->window);
    if (judged != window && atomic_compare_exchange_strong(&c->live->window, &judged, window)) {
        if (p->success_enforcing)
            judge_success(c, p, window - 1, now);
        if (p->failure_enforcing)
            judge_failures(c, p, window - 1, now);
    }
    uint32_t newest = atomic_load(&s->window);
    if (newest != window) {
        clear(s, window & 1);
        if (newest + 1 != window)
            clear(s, ~window & 1);
        atomic_store(&s->window, window);
    }
    add_one(good ? &s->window_good[window & 1] : &s->window_bad[window & 1]);
}
