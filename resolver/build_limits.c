/* SPDX-License-Identifier: Apache-2.0
 *
 * Health, ejection, breakers and drops of a cluster.
 */
#include <stdio.h>
#include "resolver/builder.h"

enum { MILLION = 1000000 };

static void at(struct build_reading *x, const char *path) {
    snprintf(x->at, sizeof x->at, "%s", path);
}

static uint8_t percent(struct build_reading *x, const Mesh__Pb__UInt32Value *v, const char *field,
                       uint32_t otherwise) {
    return (uint8_t)mesh_build_u32(x, v, field, otherwise, 0, 100);
}

static uint16_t cut(uint32_t n) {
    return n < UINT16_MAX ? (uint16_t)n : UINT16_MAX;
}

static uint32_t number(const Mesh__Pb__UInt32Value *v, uint32_t otherwise) {
    return v ? v->value : otherwise;
}

static void read_common(struct build_reading *x, const Mesh__Cluster__Cluster__CommonLbConfig *c,
                        struct mesh_policy *p) {
    at(x, "common_lb_config.");
    if (c)
        p->panic_percent =
            (uint8_t)(mesh_build_percent(x, c->healthy_panic_threshold, "healthy_panic_threshold", 50) + 0.5);
}

/* ---- outlier_detection ------------------------------------------------------------------------------------
 * Envoy's tcp_proxy reports what fails on the way to a connection as local origin failures: with
 * split_external_local_origin_errors these have limits of their own, without they count as 503 and 504, that
 * is as 5xx and as gateway failures at once. All are counted in one row: the smaller limit of those enforced.
 */
static void read_consecutive(struct build_reading *x, const Mesh__Cluster__OutlierDetection *o,
                             struct mesh_policy *p) {
    uint32_t any = number(o->consecutive_5xx, 5), gateway = number(o->consecutive_gateway_failure, 5);
    uint8_t any_part = percent(x, o->enforcing_consecutive_5xx, "enforcing_consecutive_5xx", 100);
    uint8_t gateway_part =
        percent(x, o->enforcing_consecutive_gateway_failure, "enforcing_consecutive_gateway_failure", 0);
    uint8_t local_part = percent(x, o->enforcing_consecutive_local_origin_failure,
                                 "enforcing_consecutive_local_origin_failure", 100);
    p->consecutive = any_part ? any : 0;
    p->consecutive_enforcing = any_part;
    if (gateway_part && gateway && (!p->consecutive || gateway < p->consecutive)) {
        p->consecutive = gateway;
        p->consecutive_enforcing = gateway_part;
    }
    if (o->split_external_local_origin_errors) {
        p->consecutive = local_part ? number(o->consecutive_local_origin_failure, 5) : 0;
        p->consecutive_enforcing = local_part;
    }
}

static void read_shares(struct build_reading *x, const Mesh__Cluster__OutlierDetection *o,
                        struct mesh_policy *p) {
    bool split = o->split_external_local_origin_errors;
    uint8_t rate = percent(x, o->enforcing_success_rate, "enforcing_success_rate", 100);
    uint8_t local_rate =
        percent(x, o->enforcing_local_origin_success_rate, "enforcing_local_origin_success_rate", 100);
    uint8_t share = percent(x, o->enforcing_failure_percentage, "enforcing_failure_percentage", 0);
    uint8_t local_share = percent(x, o->enforcing_failure_percentage_local_origin,
                                  "enforcing_failure_percentage_local_origin", 0);
    p->success_enforcing = split ? local_rate : rate;
    p->failure_enforcing = split ? local_share : share;
    p->success_hosts = (uint8_t)(number(o->success_rate_minimum_hosts, 5) < UINT8_MAX
                                     ? number(o->success_rate_minimum_hosts, 5)
                                     : UINT8_MAX);
    p->success_volume = cut(number(o->success_rate_request_volume, 100));
    p->success_stdev = cut(number(o->success_rate_stdev_factor, 1900));
    p->failure_threshold = percent(x, o->failure_percentage_threshold, "failure_percentage_threshold", 85);
    p->failure_hosts = (uint8_t)(number(o->failure_percentage_minimum_hosts, 5) < UINT8_MAX
                                     ? number(o->failure_percentage_minimum_hosts, 5)
                                     : UINT8_MAX);
    p->failure_volume = cut(number(o->failure_percentage_request_volume, 50));
}

static void read_outlier(struct build_reading *x, const Mesh__Cluster__OutlierDetection *o,
                         struct mesh_policy *p) {
    if (!o)
        return;
    at(x, "outlier_detection.");
    read_consecutive(x, o, p);
    p->interval_ms = mesh_build_ms(x, o->interval, "interval", 10000, 1);
    p->base_ejection_ms = mesh_build_ms(x, o->base_ejection_time, "base_ejection_time", 30000, 1);
    p->max_ejection_ms = mesh_build_ms(x, o->max_ejection_time, "max_ejection_time", 300000, 1);
    if (o->max_ejection_time && p->max_ejection_ms < p->base_ejection_ms)
        mesh_build_bad(x, "max_ejection_time", "is less than base_ejection_time");
    if (p->max_ejection_ms < p->base_ejection_ms)
        p->max_ejection_ms = p->base_ejection_ms;
    p->max_ejection_jitter_ms =
        mesh_build_ms(x, o->max_ejection_time_jitter, "max_ejection_time_jitter", 0, 0);
    p->max_ejection_percent = percent(x, o->max_ejection_percent, "max_ejection_percent", 10);
    p->always_eject_one = o->always_eject_one_host && o->always_eject_one_host->value;
    read_shares(x, o, p);
}

/* ---- circuit_breakers -------------------------------------------------------------------------------------
 * A cluster that sets thresholds gets Envoy's defaults for those it leaves out; one that sets none has no
 * limits. A connection is our unit, so max_requests limits connections where it is given (gRFC A32).
 */
static void read_threshold(struct build_reading *x, const Mesh__Cluster__CircuitBreakers__Thresholds *t,
                           struct mesh_policy *p) {
    const Mesh__Cluster__CircuitBreakers__Thresholds__RetryBudget *budget = t->retry_budget;
    uint32_t requests = number(t->max_requests, UINT32_MAX);
    p->max_connections = number(t->max_connections, 1024);
    if (requests < p->max_connections)
        p->max_connections = requests;
    p->max_pending = number(t->max_pending_requests, 1024);
    p->max_retries = number(t->max_retries, 3);
    if (!budget)
        return;
    p->retry_budget =
        (uint16_t)(mesh_build_percent(x, budget->budget_percent, "retry_budget.budget_percent", 20) * 100);
    p->retry_min = number(budget->min_retry_concurrency, 3);
    if (p->retry_min == UINT32_MAX)
        mesh_build_bad(x, "retry_budget.min_retry_concurrency", "is no limit");
}

/* HIGH is for requests that ask for it. */
static const Mesh__Cluster__CircuitBreakers__Thresholds *
default_of(struct build_reading *x, Mesh__Cluster__CircuitBreakers__Thresholds **list, size_t n,
           const char *field) {
    const Mesh__Cluster__CircuitBreakers__Thresholds *found = NULL;
    for (size_t i = 0; i < n; i++) {
        snprintf(x->at, sizeof x->at, "circuit_breakers.%s[%zu].", field, i);
        if (list[i]->priority == 0 && found)
            mesh_build_bad(x, "priority", "there are thresholds for DEFAULT already");
        if (list[i]->priority == 0 && !found)
            found = list[i];
    }
    return found;
}

static void read_breakers(struct build_reading *x, const Mesh__Cluster__CircuitBreakers *b,
                          struct mesh_policy *p) {
    if (!b)
        return;
    const Mesh__Cluster__CircuitBreakers__Thresholds *t =
        default_of(x, b->thresholds, b->n_thresholds, "thresholds");
    at(x, "circuit_breakers.thresholds.");
    if (t)
        read_threshold(x, t, p);
    t = default_of(x, b->per_host_thresholds, b->n_per_host_thresholds, "per_host_thresholds");
    at(x, "circuit_breakers.per_host_thresholds.");
    if (!t)
        return;
    if (t->max_pending_requests || t->max_requests || t->max_retries || t->retry_budget ||
        t->max_connection_pools)
        mesh_build_bad(x, "max_connections", "is the only limit that there is for one host");
    p->max_host_connections = number(t->max_connections, UINT32_MAX);
}

/* ---- the load assignment's policy -------------------------------------------------------------------------
 */
static uint32_t per_million(struct build_reading *x, const Mesh__Core__FractionalPercent *f) {
    static const uint32_t scale[] = {10000, 100, 1};
    if (!f)
        return 0;
    uint64_t n = f->denominator < 0 || f->denominator > 2 ? UINT64_MAX
                                                          : (uint64_t)f->numerator * scale[f->denominator];
    if (n > MILLION)
        mesh_build_bad(x, "drop_percentage", "must be 0 to 100 percent");
    return n > MILLION ? MILLION : (uint32_t)n;
}

/* Categories apply one after the other: 60 % and 50 % of the rest drop 80 %. */
static void read_assignment(struct build_reading *x,
                            const Mesh__Endpoint__ClusterLoadAssignment__Policy *policy,
                            struct mesh_policy *p) {
    uint64_t pass = MILLION;
    for (size_t i = 0; i < policy->n_drop_overloads; i++) {
        snprintf(x->at, sizeof x->at, "load_assignment.policy.drop_overloads[%zu].", i);
        pass = pass * (MILLION - per_million(x, policy->drop_overloads[i]->drop_percentage)) / MILLION;
    }
    p->drop_per_million = MILLION - (uint32_t)pass;
    at(x, "load_assignment.policy.");
    p->overprovisioning = cut(
        mesh_build_u32(x, policy->overprovisioning_factor, "overprovisioning_factor", 140, 1, UINT32_MAX));
}

void mesh_build_limits(struct build_reading *x, const Mesh__Cluster__Cluster *c,
                       const Mesh__Endpoint__ClusterLoadAssignment *cla, struct mesh_policy *p) {
    read_common(x, c->common_lb_config, p);
    read_outlier(x, c->outlier_detection, p);
    read_breakers(x, c->circuit_breakers, p);
    if (cla && cla->policy)
        read_assignment(x, cla->policy, p);
    at(x, "");
}
