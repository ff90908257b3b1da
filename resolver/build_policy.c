/* SPDX-License-Identifier: Apache-2.0 */
#include "lb/lb.h"
#include "proto/lb.pb-c.h"
#include "resolver/builder.h"
#include "shim/base/mem.h"

enum { RING_MAX = 8 << 20, TABLE_MAX = 5000011, POLICIES_DEEP = 16, MILLION = 1000000 };

static uint32_t u32_or(const Mesh__Pb__UInt32Value *v, uint32_t otherwise) {
    return v ? v->value : otherwise;
}

static uint32_t u64_or(const Mesh__Pb__UInt64Value *v, uint32_t otherwise, uint32_t most) {
    return !v ? otherwise : v->value > most ? most : (uint32_t)v->value;
}

static uint8_t percent(uint32_t n) {
    return (uint8_t)(n > 100 ? 100 : n);
}

static uint16_t short_of(uint32_t n) {
    return (uint16_t)(n > UINT16_MAX ? UINT16_MAX : n);
}

/* ---- what the two dialects of configuration have in common
 * --------------------------------------------------- */
struct slow_start {
    const Mesh__Pb__Duration *window;
    const Mesh__Core__RuntimeDouble *aggression;
    const Mesh__Core__Percent *least;
};

static void set_slow_start(struct mesh_policy *p, const struct slow_start *s) {
    p->slow_start_ms = mesh_duration_ms(s->window, 0);
    p->slow_start_aggression = s->aggression ? (float)s->aggression->default_value : 0;
    if (s->least && s->least->value >= 0 && s->least->value <= 100)
        p->slow_start_least_percent = (uint8_t)s->least->value;
}

static void old_slow_start(struct mesh_policy *p, const Mesh__Cluster__Cluster__SlowStartConfig *s) {
    if (s)
        set_slow_start(p, &(struct slow_start){s->slow_start_window, s->aggression, s->min_weight_percent});
}

static void new_slow_start(struct mesh_policy *p, const Mesh__Lb__SlowStartConfig *s) {
    if (s)
        set_slow_start(p, &(struct slow_start){s->slow_start_window, s->aggression, s->min_weight_percent});
}

static void locality(struct mesh_policy *p, const Mesh__Lb__LocalityLbConfig *l) {
    if (l && l->locality_config_specifier_case ==
                 MESH__LB__LOCALITY_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG)
        p->locality_weighted = 1;
}

static void consistent(struct mesh_policy *p, const Mesh__Lb__ConsistentHashingLbConfig *c) {
    if (c)
        p->hash_balance = short_of(u32_or(c->hash_balance_factor, 0));
}

/* ---- load_balancing_policy: a list of extensions, the first that we know
 * ----------------------------------------- */
static int read_extension(const Mesh__Pb__Any *config, struct mesh_policy *p, int deep);

static int read_list(const Mesh__Cluster__LoadBalancingPolicy *list, struct mesh_policy *p, int deep) {
    for (size_t i = 0; list && deep < POLICIES_DEEP && i < list->n_policies; i++) {
        const Mesh__Core__TypedExtensionConfig *e = list->policies[i]->typed_extension_config;
        int rc = e ? read_extension(e->typed_config, p, deep + 1) : MESH_E_UNSUPPORTED;
        if (rc != MESH_E_UNSUPPORTED)
            return rc;
    }
    return MESH_E_UNSUPPORTED;
}

static void read_round_robin(const void *m, struct mesh_policy *p, int deep) {
    const Mesh__Lb__RoundRobin *r = m;
    p->policy = MESH_LB_ROUND_ROBIN;
    new_slow_start(p, r->slow_start_config);
    locality(p, r->locality_lb_config);
}

static void read_least_request(const void *m, struct mesh_policy *p, int deep) {
    const Mesh__Lb__LeastRequest *r = m;
    p->policy = MESH_LB_LEAST_REQUEST;
    p->choice_count = short_of(u32_or(r->choice_count, 2));
    p->full_scan = r->selection_method == MESH__LB__LEAST_REQUEST__SELECTION_METHOD__FULL_SCAN;
    if (r->active_request_bias)
        p->active_request_bias = (float)r->active_request_bias->default_value;
    new_slow_start(p, r->slow_start_config);
    locality(p, r->locality_lb_config);
}

static void read_ring_hash(const void *m, struct mesh_policy *p, int deep) {
    const Mesh__Lb__RingHash *r = m;
    p->policy = MESH_LB_RING_HASH;
    p->murmur = r->hash_function == MESH__LB__RING_HASH__HASH_FUNCTION__MURMUR_HASH_2;
    p->ring_min = u64_or(r->minimum_ring_size, 1024, RING_MAX);
    p->ring_max = u64_or(r->maximum_ring_size, RING_MAX, RING_MAX);
    p->hash_balance = short_of(u32_or(r->hash_balance_factor, 0));
    p->locality_weighted = r->locality_weighted_lb_config != NULL;
    consistent(p, r->consistent_hashing_lb_config);
}

static void read_maglev(const void *m, struct mesh_policy *p, int deep) {
    const Mesh__Lb__Maglev *r = m;
    p->policy = MESH_LB_MAGLEV;
    p->table_size = u64_or(r->table_size, 65537, TABLE_MAX);
    p->locality_weighted = r->locality_weighted_lb_config != NULL;
    consistent(p, r->consistent_hashing_lb_config);
}

static void read_random(const void *m, struct mesh_policy *p, int deep) {
    p->policy = MESH_LB_RANDOM;
    locality(p, ((const Mesh__Lb__Random *)m)->locality_lb_config);
}

static void read_pick_first(const void *m, struct mesh_policy *p, int deep) {
    p->policy = MESH_LB_PICK_FIRST;
    p->shuffle = ((const Mesh__Lb__PickFirst *)m)->shuffle_address_list;
}

/* Its weights are the endpoints' own until somebody reports load, which nobody does on plain connections. */
static void read_weighted(const void *m, struct mesh_policy *p, int deep) {
    p->policy = MESH_LB_ROUND_ROBIN;
    new_slow_start(p, ((const Mesh__Lb__ClientSideWeightedRoundRobin *)m)->slow_start_config);
}

static const struct {
    const ProtobufCMessageDescriptor *type;
    void (*read)(const void *m, struct mesh_policy *p, int deep);
} extensions[] = {
    {&mesh__lb__round_robin__descriptor, read_round_robin},
    {&mesh__lb__least_request__descriptor, read_least_request},
    {&mesh__lb__ring_hash__descriptor, read_ring_hash},
    {&mesh__lb__maglev__descriptor, read_maglev},
    {&mesh__lb__random__descriptor, read_random},
    {&mesh__lb__pick_first__descriptor, read_pick_first},
    {&mesh__lb__client_side_weighted_round_robin__descriptor, read_weighted},
};

static int read_wrr_locality(const Mesh__Pb__Any *config, struct mesh_policy *p, int deep) {
    int rc;
    Mesh__Lb__WrrLocality *w = mesh_any_open(config, &mesh__lb__wrr_locality__descriptor, &rc);
    if (!w)
        return rc;
    rc = read_list(w->endpoint_picking_policy, p, deep);
    p->locality_weighted = 1;
    protobuf_c_message_free_unpacked(&w->base, NULL);
    return rc;
}

static int read_extension(const Mesh__Pb__Any *config, struct mesh_policy *p, int deep) {
    int rc;
    if (mesh_any_is(config, &mesh__lb__wrr_locality__descriptor))
        return read_wrr_locality(config, p, deep);
    for (size_t i = 0; i < MESH_ARRAY_LEN(extensions); i++) {
        if (!mesh_any_is(config, extensions[i].type))
            continue;
        ProtobufCMessage *m = mesh_any_open(config, extensions[i].type, &rc);
        if (!m)
            return rc;
        extensions[i].read(m, p, deep);
        protobuf_c_message_free_unpacked(m, NULL);
        return 0;
    }
    return MESH_E_UNSUPPORTED;
}

/* ---- lb_policy and its companions -------------------------------------------------------------------------
 */
static void read_ring(const Mesh__Cluster__Cluster__RingHashLbConfig *r, struct mesh_policy *p) {
    p->ring_min = u64_or(r->minimum_ring_size, 1024, RING_MAX);
    p->ring_max = u64_or(r->maximum_ring_size, RING_MAX, RING_MAX);
    p->murmur = r->hash_function == MESH__CLUSTER__CLUSTER__RING_HASH_LB_CONFIG__HASH_FUNCTION__MURMUR_HASH_2;
}

static void read_least(const Mesh__Cluster__Cluster__LeastRequestLbConfig *l, struct mesh_policy *p) {
    p->choice_count = short_of(u32_or(l->choice_count, 2));
    if (l->active_request_bias)
        p->active_request_bias = (float)l->active_request_bias->default_value;
    old_slow_start(p, l->slow_start_config);
}

static int read_old(const Mesh__Cluster__Cluster *c, struct mesh_policy *p) {
    static const uint8_t policies[] = {MESH_LB_ROUND_ROBIN, MESH_LB_LEAST_REQUEST, MESH_LB_RING_HASH,
                                       MESH_LB_RANDOM,      MESH_LB_ROUND_ROBIN,   MESH_LB_MAGLEV,
                                       MESH_LB_ROUND_ROBIN};
    if (c->lb_policy < 0 || (size_t)c->lb_policy >= MESH_ARRAY_LEN(policies))
        return MESH_E_UNSUPPORTED;
    p->policy = policies[c->lb_policy];
    switch (c->lb_config_case) {
    case MESH__CLUSTER__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG:
        read_ring(c->ring_hash_lb_config, p);
        return 0;
    case MESH__CLUSTER__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG:
        read_least(c->least_request_lb_config, p);
        return 0;
    case MESH__CLUSTER__CLUSTER__LB_CONFIG_MAGLEV_LB_CONFIG:
        p->table_size = u64_or(c->maglev_lb_config->table_size, 65537, TABLE_MAX);
        return 0;
    case MESH__CLUSTER__CLUSTER__LB_CONFIG_ROUND_ROBIN_LB_CONFIG:
        old_slow_start(p, c->round_robin_lb_config->slow_start_config);
        return 0;
    default:
        return 0;
    }
}

/* ---- health, limits ---------------------------------------------------------------------------------------
 */
static void read_common(const Mesh__Cluster__Cluster__CommonLbConfig *c, struct mesh_policy *p) {
    if (!c)
        return;
    if (c->healthy_panic_threshold)
        p->panic_percent = percent((uint32_t)(c->healthy_panic_threshold->value + 0.5));
    if (c->locality_config_specifier_case ==
        MESH__CLUSTER__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG)
        p->locality_weighted = 1;
    if (c->consistent_hashing_lb_config)
        p->hash_balance = short_of(u32_or(c->consistent_hashing_lb_config->hash_balance_factor, 0));
}

/* A failed connect counts as a 5xx in Envoy; split_external_local_origin_errors gives it a limit of its own.
 */
static uint32_t consecutive(const Mesh__Cluster__OutlierDetection *o) {
    bool split = o->split_external_local_origin_errors;
    const Mesh__Pb__UInt32Value *n = split ? o->consecutive_local_origin_failure : o->consecutive_5xx;
    const Mesh__Pb__UInt32Value *enforcing =
        split ? o->enforcing_consecutive_local_origin_failure : o->enforcing_consecutive_5xx;
    return u32_or(enforcing, 100) ? u32_or(n, 5) : 0;
}

static void read_outlier(const Mesh__Cluster__OutlierDetection *o, struct mesh_policy *p) {
    if (!o)
        return;
    p->consecutive = consecutive(o);
    p->interval_ms = mesh_duration_ms(o->interval, 10000);
    p->base_ejection_ms = mesh_duration_ms(o->base_ejection_time, 30000);
    p->max_ejection_ms = mesh_duration_ms(o->max_ejection_time, 300000);
    if (p->max_ejection_ms < p->base_ejection_ms)
        p->max_ejection_ms = p->base_ejection_ms;
    p->max_ejection_jitter_ms = mesh_duration_ms(o->max_ejection_time_jitter, 0);
    p->max_ejection_percent = percent(u32_or(o->max_ejection_percent, 10));
    p->always_eject_one = o->always_eject_one_host && o->always_eject_one_host->value;
    bool split = o->split_external_local_origin_errors;
    p->success_enforcing =
        percent(u32_or(split ? o->enforcing_local_origin_success_rate : o->enforcing_success_rate, 100));
    p->success_hosts = percent(u32_or(o->success_rate_minimum_hosts, 5));
    p->success_volume = short_of(u32_or(o->success_rate_request_volume, 100));
    p->success_stdev = short_of(u32_or(o->success_rate_stdev_factor, 1900));
    p->failure_enforcing = percent(
        u32_or(split ? o->enforcing_failure_percentage_local_origin : o->enforcing_failure_percentage, 0));
    p->failure_threshold = percent(u32_or(o->failure_percentage_threshold, 85));
    p->failure_hosts = percent(u32_or(o->failure_percentage_minimum_hosts, 5));
    p->failure_volume = short_of(u32_or(o->failure_percentage_request_volume, 50));
}

/* A cluster that sets thresholds gets Envoy's defaults for those it leaves out; one that sets none has no
 * limits. */
static void read_breakers(const Mesh__Cluster__CircuitBreakers *b, struct mesh_policy *p) {
    for (size_t i = 0; b && i < b->n_thresholds; i++) {
        const Mesh__Cluster__CircuitBreakers__Thresholds *t = b->thresholds[i];
        if (t->priority != 0) /* HIGH is for requests that ask for it */
            continue;
        p->max_connections = u32_or(t->max_connections, 1024);
        p->max_pending = u32_or(t->max_pending_requests, 1024);
        p->max_retries = u32_or(t->max_retries, 3);
        return;
    }
}

static uint32_t per_million(const Mesh__Core__FractionalPercent *f) {
    static const uint32_t scale[] = {10000, 100, 1};
    if (!f || f->denominator < 0 || f->denominator > 2)
        return 0;
    uint64_t n = (uint64_t)f->numerator * scale[f->denominator];
    return n > MILLION ? MILLION : (uint32_t)n;
}

/* Categories apply one after the other: 60 % and 50 % of the rest drop 80 %. */
static void read_drops(const Mesh__Endpoint__ClusterLoadAssignment__Policy *policy, struct mesh_policy *p) {
    uint64_t pass = MILLION;
    for (size_t i = 0; i < policy->n_drop_overloads; i++)
        pass = pass * (MILLION - per_million(policy->drop_overloads[i]->drop_percentage)) / MILLION;
    p->drop_per_million = MILLION - (uint32_t)pass;
    p->overprovisioning = short_of(u32_or(policy->overprovisioning_factor, 140));
}

int mesh_build_policy(const Mesh__Cluster__Cluster *c, const Mesh__Endpoint__ClusterLoadAssignment *cla,
                      struct mesh_policy *ret, struct mesh_why *why) {
    mesh_lb_policy_defaults(ret);
    int rc = c->load_balancing_policy ? read_list(c->load_balancing_policy, ret, 0) : read_old(c, ret);
    if (rc < 0)
        return mesh_why(why, rc, "none of the cluster's load balancing policies is supported");
    if (ret->choice_count < 2)
        return mesh_why(why, MESH_E_INVALID, "choice_count must be at least 2");
    read_common(c->common_lb_config, ret);
    read_outlier(c->outlier_detection, ret);
    read_breakers(c->circuit_breakers, ret);
    if (cla && cla->policy)
        read_drops(cla->policy, ret);
    return 0;
}
