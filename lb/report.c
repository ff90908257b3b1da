/* SPDX-License-Identifier: Apache-2.0
 *
 * What became of a dial. Every field is one atomic of its own: two processes that report at once both count,
 * and the average latency is that of one of the two orders.
 *
 * What counts as a failure in the row is what Envoy's tcp_proxy reports to its detector (connect failure,
 * timeout), and a failed authentication. In TLS 1.3 a server's refusal of our certificate comes after the
 * connection counted as a success: such a late failure goes on from the row that the success had ended. A
 * connection reset later is counted, and does not eject: servers reset idle connections in good health.
 */
#include "lb/ops.h"

static void add_latency(struct mesh_stat *s, uint64_t now, uint64_t took_ns) {
    uint64_t us = took_ns / 1000;
    uint32_t sample = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    uint64_t before = atomic_exchange(&s->latency_at, now);
    uint32_t average = atomic_load(&s->latency_us);
    uint64_t elapsed = now > before ? now - before : 0;
    uint32_t after;
    do {
        after = before ? mesh_lb_latency_after(average, sample, elapsed) : sample;
    } while (!atomic_compare_exchange_weak(&s->latency_us, &average, after));
}

static void count_success(struct mesh_stat *s, uint64_t now, uint64_t took_ns) {
    atomic_fetch_add(&s->connects, 1);
    atomic_store(&s->row_before, atomic_exchange(&s->failures_in_row, 0));
    add_latency(s, now, took_ns);
}

/* Adds one to the row; true for the one report that fills it. */
static bool fill_row(struct mesh_stat *s, uint32_t already, uint32_t limit) {
    uint32_t row = atomic_load(&s->failures_in_row), after;
    do {
        after = (row > already ? row : already) + 1;
        if (after >= limit)
            after = 0;
    } while (!atomic_compare_exchange_weak(&s->failures_in_row, &row, after));
    return after == 0;
}

void mesh_lb_report(const struct mesh_cluster_view *c, uint32_t stat, enum mesh_lb_outcome outcome,
                    uint64_t now, uint64_t took_ns) {
    struct mesh_stat *s = lb_stat(c, stat);
    if (!s)
        return;
    struct mesh_policy p = *c->policy;
    if (outcome == MESH_LB_CONNECTED) {
        count_success(s, now, took_ns);
        mesh_lb_window_count(c, &p, stat, true, now);
        return;
    }
    atomic_fetch_add(&s->failures, 1);
    if (outcome == MESH_LB_RESET_LATER)
        return;
    mesh_lb_window_count(c, &p, stat, false, now);
    uint32_t already = outcome == MESH_LB_UNAUTHENTIC ? atomic_exchange(&s->row_before, 0) : 0;
    if (p.consecutive && fill_row(s, already, p.consecutive) &&
        mesh_lb_enforced(p.consecutive_enforcing, stat, now))
        mesh_lb_eject(c, &p, stat, now);
}
