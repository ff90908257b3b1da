/* SPDX-License-Identifier: Apache-2.0 */
#include "lb/check.h"
#include "shim/base/clock.h"

static uint64_t below(uint64_t random, uint64_t n) {
    return (uint64_t)(((unsigned __int128)random * n) >> 64);
}

static uint32_t or_else(uint32_t ms, uint32_t otherwise) {
    return ms ? ms : otherwise;
}

static uint32_t base_of(const struct mesh_check_policy *p, bool healthy, bool changed, bool traffic) {
    if (!traffic)
        return healthy ? or_else(p->no_traffic_healthy_interval, p->no_traffic_interval)
                       : p->no_traffic_interval;
    if (healthy)
        return changed ? or_else(p->healthy_edge_interval, p->interval) : p->interval;
    uint32_t unhealthy = or_else(p->unhealthy_interval, p->interval);
    return changed ? or_else(p->unhealthy_edge_interval, unhealthy) : unhealthy;
}

/* Envoy's: so much percent of the interval, and so many ms, at random on top. */
static uint64_t with_jitter(const struct mesh_check_policy *p, uint32_t base, uint64_t random) {
    uint64_t share = below(random, (uint64_t)base * p->interval_jitter_percent / 100 + 1);
    return (base + share + below(random * UINT64_C(0x9e3779b97f4a7c15), (uint64_t)p->interval_jitter + 1)) *
           MESH_MS;
}

void mesh_check_init(struct mesh_check *c, const struct mesh_check_policy *p, uint64_t now, uint64_t random) {
    *c = (struct mesh_check){.due = now + below(random, (uint64_t)p->initial_jitter + 1) * MESH_MS};
}

/* Do the results so far change the state? */
static bool tips(const struct mesh_check *c, const struct mesh_check_policy *p,
                 enum mesh_check_result result) {
    if (!c->decided)
        return result == MESH_CHECK_GOOD;
    if (c->healthy)
        return result == MESH_CHECK_WRONG || c->row >= p->unhealthy_threshold;
    return c->row >= p->healthy_threshold;
}

bool mesh_check_result(struct mesh_check *c, const struct mesh_check_policy *p, enum mesh_check_result result,
                       bool traffic, uint64_t now, uint64_t random) {
    bool against = (result == MESH_CHECK_GOOD) != c->healthy;
    c->row = against ? c->row + 1 : 0;
    bool changed = against && tips(c, p, result);
    c->decided = true;
    if (changed) {
        c->healthy = !c->healthy;
        c->row = 0;
    }
    c->due = now + with_jitter(p, base_of(p, c->healthy, changed, traffic), random);
    return changed;
}
