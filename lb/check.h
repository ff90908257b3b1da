/* SPDX-License-Identifier: Apache-2.0
 *
 * Active health checks, the part without I/O: when the next check of an endpoint is due, and what its results make of it.
 * Envoy's HealthCheckerImplBase: an endpoint starts unhealthy, and the first check alone decides; later `healthy_threshold`
 * successes in a row make it healthy, `unhealthy_threshold` network failures (refused, reset, timeout) in a row unhealthy, and
 * a wrong answer at once. Intervals differ by state, by whether it has just changed, and while nobody uses the cluster.
 * Results come from whoever does the I/O (resolver/health.h). Time is an argument. Threads: one at a time per object.
 */
#ifndef MESH_LB_CHECK_H
#define MESH_LB_CHECK_H

#include <stdbool.h>
#include <stdint.h>

struct mesh_check_policy { /* envoy.config.core.v3.HealthCheck; ms. 0 for those of the second line: what follows in brackets */
    uint32_t timeout, interval, no_traffic_interval;
    uint32_t unhealthy_interval, unhealthy_edge_interval, healthy_edge_interval, no_traffic_healthy_interval;
    /* [interval]       [unhealthy_interval]     [interval]             [no_traffic_interval] */
    uint32_t interval_jitter, interval_jitter_percent, initial_jitter;
    uint32_t unhealthy_threshold, healthy_threshold;
};

struct mesh_check { /* of one endpoint */
    bool healthy, decided; /* decided: some result has come */
    uint32_t row;          /* results in a row that speak against the state */
    uint64_t due;          /* mesh_now() of the next check */
};

enum mesh_check_result { MESH_CHECK_GOOD, MESH_CHECK_NETWORK /* no answer */, MESH_CHECK_WRONG /* a wrong one */ };

void mesh_check_init(struct mesh_check *c, const struct mesh_check_policy *p, uint64_t now, uint64_t random);
/* A check has ended: *c moves, and the next one is due. `traffic`: somebody has connected to the cluster. Returns whether
 * `healthy` changed. */
bool mesh_check_result(struct mesh_check *c, const struct mesh_check_policy *p, enum mesh_check_result result, bool traffic,
                       uint64_t now, uint64_t random);

#endif
