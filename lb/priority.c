/* SPDX-License-Identifier: Apache-2.0
 *
 * Traffic over priorities, as Envoy's LoadBalancerBase does it:
 *   health(P)   = min(100, overprovisioning * healthy / hosts), degraded(P) likewise, rounded down
 *   total       = min(100, sum of both over all P)
 *   load(P)     = min(what is left, health(P) * 100 / total), healthy first in order of P, then degraded
 *   what rounding leaves goes to the first that has healthy (else degraded) ones
 *   panic(P)    = total < 100 and (healthy + degraded) / hosts < threshold: all of P's hosts are used
 *   all in panic: load by number of hosts.
 * One difference: where nobody at all is healthy or degraded there is no panic, and no endpoint. Envoy would
 * try the unhealthy ones; here the control plane's word stands, and the program gets EHOSTUNREACH.
 */
#include <string.h>
#include "lb/ops.h"

static uint32_t availability(uint32_t part, uint32_t hosts, uint32_t overprovisioning) {
    if (!hosts)
        return 0;
    uint64_t percent = (uint64_t)overprovisioning * part / hosts;
    return percent < 100 ? (uint32_t)percent : 100;
}

/* Gives out `left` percent by availability; returns what is left. */
static uint32_t spread(const uint8_t *available, uint32_t n, uint32_t total, uint32_t left, uint8_t *load) {
    for (uint32_t p = 0; p < n; p++) {
        uint32_t share = available[p] * 100u / total;
        if (share > left)
            share = left;
        load[p] = (uint8_t)share;
        left -= share;
    }
    return left;
}

static uint8_t *first_available(uint8_t *load, const uint8_t *available, uint32_t n) {
    for (uint32_t p = 0; p < n; p++)
        if (available[p])
            return &load[p];
    return NULL;
}

static bool in_panic(const struct lb_level *l, uint32_t panic_percent) {
    if (!l->hosts)
        return panic_percent > 0;
    return ((uint64_t)l->healthy + l->degraded) * 100 < (uint64_t)panic_percent * l->hosts;
}

/* By hosts: a level with more endpoints takes more of the blind traffic. */
static void spread_in_panic(const struct lb_level *levels, uint32_t n, struct lb_loads *ret) {
    uint64_t hosts = 0;
    uint32_t left = 100;
    uint8_t *first = NULL;
    memset(ret->degraded, 0, n);
    for (uint32_t p = 0; p < n; p++)
        hosts += levels[p].hosts;
    if (!hosts)
        return; /* counts that contradict each other: torn */
    for (uint32_t p = 0; p < n; p++) {
        uint32_t share = (uint32_t)(100ull * levels[p].hosts / hosts);
        ret->healthy[p] = (uint8_t)share;
        left -= share;
        if (!first && levels[p].hosts)
            first = &ret->healthy[p];
    }
    *first = (uint8_t)(*first + left);
}

bool mesh_lb_loads(const struct lb_level *levels, uint32_t n, uint32_t overprovisioning,
                   uint32_t panic_percent, struct lb_loads *ret) {
    uint8_t healthy[LB_PRIORITIES], degraded[LB_PRIORITIES];
    uint32_t total = 0;
    uint64_t available = 0;
    for (uint32_t p = 0; p < n; p++) {
        healthy[p] = (uint8_t)availability(levels[p].healthy, levels[p].hosts, overprovisioning);
        degraded[p] = (uint8_t)availability(levels[p].degraded, levels[p].hosts, overprovisioning);
        total += (uint32_t)healthy[p] + degraded[p];
        available += (uint64_t)levels[p].healthy + levels[p].degraded;
    }
    if (!available)
        return false;
    if (total > 100)
        total = 100;
    memset(ret->healthy, 0, n);
    memset(ret->degraded, 0, n);
    if (total) {
        uint32_t left = spread(healthy, n, total, 100, ret->healthy);
        left = spread(degraded, n, total, left, ret->degraded);
        uint8_t *first = first_available(ret->healthy, healthy, n);
        if (!first)
            first = first_available(ret->degraded, degraded, n);
        *first = (uint8_t)(*first + left);
    } else {
        ret->healthy[0] = 100; /* each level rounds to 0 percent: panic below, or the driver's scan */
    }
    bool all = true;
    for (uint32_t p = 0; p < n; p++) {
        ret->panic[p] = total < 100 && in_panic(&levels[p], panic_percent);
        all = all && ret->panic[p];
    }
    if (all)
        spread_in_panic(levels, n, ret);
    return true;
}

bool mesh_lb_level_choose(const struct lb_level *levels, uint32_t n, const struct mesh_policy *p,
                          uint32_t percent, uint32_t *ret_priority, enum lb_set *ret_set) {
    if (n && levels[0].healthy &&
        (uint64_t)p->overprovisioning * levels[0].healthy >= 100ull * levels[0].hosts) {
        *ret_priority = 0;
        *ret_set = LB_SET_HEALTHY;
        return true;
    }
    struct lb_loads loads;
    if (!mesh_lb_loads(levels, n, p->overprovisioning, p->panic_percent, &loads))
        return false;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 2 * n; i++) {
        uint32_t at = i < n ? i : i - n;
        sum += i < n ? loads.healthy[at] : loads.degraded[at];
        if (percent >= sum)
            continue;
        *ret_priority = at;
        *ret_set = i < n ? LB_SET_HEALTHY : LB_SET_DEGRADED;
        if (loads.panic[at])
            *ret_set = p->fail_in_panic ? LB_SETS : LB_SET_ALL;
        return true;
    }
    return false;
}
