/* SPDX-License-Identifier: Apache-2.0
 *
 * Which policy a cluster asks for, in the old dialect (lb_policy and its companions) and the new one
 * (load_balancing_policy, which wins). What a setting must not be is what Envoy's protos and its loading of
 * clusters refuse.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "lb/lb.h"
#include "proto/lb.pb-c.h"
#include "resolver/builder.h"
#include "shim/base/mem.h"

enum { RING_MAX = 8 << 20, TABLE_MAX = 5000011, POLICIES_DEEP = 16, ZONE_MIN = 6 };

struct reading {
    struct build_reading x;
    struct build_lb *lb;
};

/* ---- single values ----------------------------------------------------------------------------------------
 */
int mesh_build_bad(struct build_reading *x, const char *field, const char *what) {
    if (!x->rc)
        x->rc = mesh_why(x->why, MESH_E_INVALID, "%s%s: %s", x->at, field, what);
    return x->rc;
}

static uint32_t within(struct build_reading *x, const char *field, uint64_t n, uint32_t least,
                       uint32_t most) {
    char what[64];
    if (n >= least && n <= most)
        return (uint32_t)n;
    snprintf(what, sizeof what, most == UINT32_MAX ? "must be at least %u" : "must be %u to %u", least, most);
    mesh_build_bad(x, field, what);
    return least;
}

uint32_t mesh_build_u32(struct build_reading *x, const Mesh__Pb__UInt32Value *v, const char *field,
                        uint32_t otherwise, uint32_t least, uint32_t most) {
    return v ? within(x, field, v->value, least, most) : otherwise;
}

uint32_t mesh_build_u64(struct build_reading *x, const Mesh__Pb__UInt64Value *v, const char *field,
                        uint32_t otherwise, uint32_t least, uint32_t most) {
    return v ? within(x, field, v->value, least, most) : otherwise;
}

double mesh_build_percent(struct build_reading *x, const Mesh__Core__Percent *v, const char *field,
                          double otherwise) {
    if (!v)
        return otherwise;
    if (v->value >= 0 && v->value <= 100)
        return v->value;
    mesh_build_bad(x, field, "must be 0 to 100");
    return otherwise;
}

uint32_t mesh_build_ms(struct build_reading *x, const Mesh__Pb__Duration *v, const char *field,
                       uint32_t otherwise, uint32_t least) {
    if (!v)
        return otherwise;
    uint32_t ms = mesh_duration_ms(v, otherwise);
    if (v->seconds < 0 || v->nanos < 0 || ms < least)
        mesh_build_bad(x, field, least ? "must be at least 1ms" : "must not be negative");
    return ms;
}

/* ---- what the two dialects have in common -----------------------------------------------------------------
 */
struct slow_start {
    const Mesh__Pb__Duration *window;
    const Mesh__Core__RuntimeDouble *aggression;
    const Mesh__Core__Percent *least;
};

static void set_slow_start(struct reading *r, const struct slow_start *s) {
    struct mesh_policy *p = &r->lb->policy;
    p->slow_start_ms = mesh_build_ms(&r->x, s->window, "slow_start_config.slow_start_window", 0, 0);
    if (s->aggression && !(s->aggression->default_value > 0 && isfinite(s->aggression->default_value)))
        mesh_build_bad(&r->x, "slow_start_config.aggression", "must be greater than 0");
    p->slow_start_aggression = s->aggression ? (float)s->aggression->default_value : 0;
    p->slow_start_least_percent =
        (uint8_t)mesh_build_percent(&r->x, s->least, "slow_start_config.min_weight_percent", 0);
}

static void old_slow_start(struct reading *r, const Mesh__Cluster__Cluster__SlowStartConfig *s) {
    if (s)
        set_slow_start(r, &(struct slow_start){s->slow_start_window, s->aggression, s->min_weight_percent});
}

static void new_slow_start(struct reading *r, const Mesh__Lb__SlowStartConfig *s) {
    if (s)
        set_slow_start(r, &(struct slow_start){s->slow_start_window, s->aggression, s->min_weight_percent});
}

/* Zones are weighed by the build, for all connections alike: a share of them cannot be left out. */
static bool zones_asked(struct reading *r, const Mesh__Core__Percent *enabled, const char *field) {
    double percent = mesh_build_percent(&r->x, enabled, field, 100);
    if (percent != 0 && percent != 100)
        mesh_build_bad(&r->x, field, "only 0 and 100 are supported");
    return percent == 100;
}

static void locality(struct reading *r, const Mesh__Lb__LocalityLbConfig *l) {
    if (l && l->locality_config_specifier_case ==
                 MESH__LB__LOCALITY_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG)
        r->lb->policy.locality_weighted = 1;
    if (!l || l->locality_config_specifier_case !=
                  MESH__LB__LOCALITY_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_ZONE_AWARE_LB_CONFIG)
        return;
    const Mesh__Lb__LocalityLbConfig__ZoneAwareLbConfig *z = l->zone_aware_lb_config;
    r->lb->zone_aware =
        zones_asked(r, z->routing_enabled, "locality_lb_config.zone_aware_lb_config.routing_enabled");
    r->lb->zone_min =
        mesh_build_u64(&r->x, z->min_cluster_size, "locality_lb_config.zone_aware_lb_config.min_cluster_size",
                       ZONE_MIN, 0, UINT32_MAX);
    r->lb->zone_direct = z->force_locality_direct_routing || z->force_local_zone;
    r->lb->policy.fail_in_panic = z->fail_traffic_on_panic;
}

static uint16_t balance(struct reading *r, const Mesh__Pb__UInt32Value *v, const char *field) {
    return (uint16_t)mesh_build_u32(&r->x, v, field, 0, 100, UINT16_MAX);
}

static void consistent(struct reading *r, const Mesh__Lb__ConsistentHashingLbConfig *c) {
    if (!c)
        return;
    r->lb->hash_by_host |= c->use_hostname_for_hashing;
    r->lb->policy.hash_balance =
        balance(r, c->hash_balance_factor, "consistent_hashing_lb_config.hash_balance_factor");
}

static void choices(struct reading *r, const Mesh__Pb__UInt32Value *n,
                    const Mesh__Core__RuntimeDouble *bias) {
    struct mesh_policy *p = &r->lb->policy;
    p->choice_count = (uint16_t)mesh_build_u32(&r->x, n, "choice_count", 2, 2, UINT16_MAX);
    if (bias && !(bias->default_value >= 0 && isfinite(bias->default_value)))
        mesh_build_bad(&r->x, "active_request_bias", "must not be negative");
    if (bias)
        p->active_request_bias = (float)bias->default_value;
}

static void ring(struct reading *r, const Mesh__Pb__UInt64Value *least, const Mesh__Pb__UInt64Value *most) {
    struct mesh_policy *p = &r->lb->policy;
    p->ring_min = mesh_build_u64(&r->x, least, "minimum_ring_size", 1024, 1, RING_MAX);
    p->ring_max = mesh_build_u64(&r->x, most, "maximum_ring_size", RING_MAX, 1, RING_MAX);
    if (p->ring_min > p->ring_max)
        mesh_build_bad(&r->x, "minimum_ring_size", "is greater than maximum_ring_size");
}

static bool is_prime(uint32_t n) {
    for (uint32_t d = 2; (uint64_t)d * d <= n; d++)
        if (n % d == 0)
            return false;
    return n > 1;
}

static void table(struct reading *r, const Mesh__Pb__UInt64Value *size) {
    struct mesh_policy *p = &r->lb->policy;
    p->table_size = mesh_build_u64(&r->x, size, "table_size", 65537, 2, TABLE_MAX);
    if (!is_prime(p->table_size))
        mesh_build_bad(&r->x, "table_size", "must be a prime number");
}

/* ---- load_balancing_policy: a list of extensions, the first that we know ----------------------------------
 */
static int read_extension(struct reading *r, const Mesh__Pb__Any *config, int deep);

static int read_list(struct reading *r, const Mesh__Cluster__LoadBalancingPolicy *list, const char *field,
                     int deep) {
    size_t mark = strlen(r->x.at);
    for (size_t i = 0; list && deep < POLICIES_DEEP && i < list->n_policies; i++) {
        const Mesh__Core__TypedExtensionConfig *e = list->policies[i]->typed_extension_config;
        snprintf(r->x.at + mark, sizeof r->x.at - mark,
                 "%s.policies[%zu].typed_extension_config.typed_config.", field, i);
        int rc = e ? read_extension(r, e->typed_config, deep + 1) : MESH_E_UNSUPPORTED;
        r->x.at[mark] = 0;
        if (rc != MESH_E_UNSUPPORTED)
            return rc;
    }
    return MESH_E_UNSUPPORTED;
}

static int read_round_robin(struct reading *r, const void *m, int deep) {
    const Mesh__Lb__RoundRobin *c = m;
    r->lb->policy.policy = MESH_LB_ROUND_ROBIN;
    new_slow_start(r, c->slow_start_config);
    locality(r, c->locality_lb_config);
    return 0;
}

static int read_least_request(struct reading *r, const void *m, int deep) {
    const Mesh__Lb__LeastRequest *c = m;
    r->lb->policy.policy = MESH_LB_LEAST_REQUEST;
    r->lb->policy.full_scan = c->selection_method == MESH__LB__LEAST_REQUEST__SELECTION_METHOD__FULL_SCAN;
    choices(r, c->choice_count, c->active_request_bias);
    new_slow_start(r, c->slow_start_config);
    locality(r, c->locality_lb_config);
    return 0;
}

static int read_ring_hash(struct reading *r, const void *m, int deep) {
    const Mesh__Lb__RingHash *c = m;
    r->lb->policy.policy = MESH_LB_RING_HASH;
    r->lb->policy.murmur = c->hash_function == MESH__LB__RING_HASH__HASH_FUNCTION__MURMUR_HASH_2;
    ring(r, c->minimum_ring_size, c->maximum_ring_size);
    r->lb->policy.hash_balance = balance(r, c->hash_balance_factor, "hash_balance_factor");
    r->lb->policy.locality_weighted = c->locality_weighted_lb_config != NULL;
    r->lb->hash_by_host = c->use_hostname_for_hashing;
    consistent(r, c->consistent_hashing_lb_config);
    return 0;
}

static int read_maglev(struct reading *r, const void *m, int deep) {
    const Mesh__Lb__Maglev *c = m;
    r->lb->policy.policy = MESH_LB_MAGLEV;
    table(r, c->table_size);
    r->lb->policy.locality_weighted = c->locality_weighted_lb_config != NULL;
    consistent(r, c->consistent_hashing_lb_config);
    return 0;
}

static int read_random(struct reading *r, const void *m, int deep) {
    r->lb->policy.policy = MESH_LB_RANDOM;
    locality(r, ((const Mesh__Lb__Random *)m)->locality_lb_config);
    return 0;
}

static int read_pick_first(struct reading *r, const void *m, int deep) {
    r->lb->policy.policy = MESH_LB_PICK_FIRST;
    r->lb->policy.shuffle = ((const Mesh__Lb__PickFirst *)m)->shuffle_address_list;
    return 0;
}

/* Its settings (decay, default latency) are fixed: an unknown field is warned of by who reads the text. */
static int read_peak_ewma(struct reading *r, const void *m, int deep) {
    r->lb->policy.policy = MESH_LB_PEAK_EWMA;
    return 0;
}

/* Its weights are the endpoints' own until somebody reports load, which nobody does on plain connections. */
static int read_weighted(struct reading *r, const void *m, int deep) {
    r->lb->policy.policy = MESH_LB_ROUND_ROBIN;
    new_slow_start(r, ((const Mesh__Lb__ClientSideWeightedRoundRobin *)m)->slow_start_config);
    return 0;
}

static int read_wrr_locality(struct reading *r, const void *m, int deep) {
    int rc = read_list(r, ((const Mesh__Lb__WrrLocality *)m)->endpoint_picking_policy,
                       "endpoint_picking_policy", deep);
    r->lb->policy.locality_weighted = 1;
    return rc;
}

static int read_random_subsetting(struct reading *r, const void *m, int deep) {
    const Mesh__Lb__RandomSubsetting *c = m;
    if (!c->subset_size)
        mesh_build_bad(&r->x, "subset_size", "must be given");
    r->lb->subset_size = mesh_build_u32(&r->x, c->subset_size, "subset_size", 1, 1, UINT32_MAX);
    return read_list(r, c->child_policy, "child_policy", deep);
}

/* The extension's first seven fields are those of the cluster's own lb_subset_config, number by number. */
static int read_subset(struct reading *r, const void *m, int deep) {
    const Mesh__Lb__Subset *c = m;
    if (c->metadata_fallback_policy !=
        MESH__LB__SUBSET__LB_SUBSET_METADATA_FALLBACK_POLICY__METADATA_NO_FALLBACK)
        return mesh_build_bad(&r->x, "metadata_fallback_policy", "FALLBACK_LIST is not supported");
    if (c->allow_redundant_keys)
        return mesh_build_bad(&r->x, "allow_redundant_keys", "is not supported");
    size_t n = protobuf_c_message_get_packed_size(&c->base);
    uint8_t *bytes = malloc(n + 1);
    if (!bytes)
        return MESH_E_NOMEM;
    protobuf_c_message_pack(&c->base, bytes);
    int rc = r->lb->owned ? MESH_E_INVALID
                          : mesh_proto_unpack(&mesh__cluster__cluster__lb_subset_config__descriptor, bytes, n,
                                              &r->lb->owned);
    free(bytes);
    if (rc < 0)
        return rc == MESH_E_NOMEM ? rc : mesh_build_bad(&r->x, "subset_lb_policy", "cannot be read");
    r->lb->subsets = (const Mesh__Cluster__Cluster__LbSubsetConfig *)r->lb->owned;
    return read_list(r, c->subset_lb_policy, "subset_lb_policy", deep);
}

static const struct {
    const ProtobufCMessageDescriptor *type;
    int (*read)(struct reading *r, const void *m, int deep);
} extensions[] = {
    {&mesh__lb__round_robin__descriptor, read_round_robin},
    {&mesh__lb__least_request__descriptor, read_least_request},
    {&mesh__lb__ring_hash__descriptor, read_ring_hash},
    {&mesh__lb__maglev__descriptor, read_maglev},
    {&mesh__lb__random__descriptor, read_random},
    {&mesh__lb__pick_first__descriptor, read_pick_first},
    {&mesh__lb__peak_ewma__descriptor, read_peak_ewma},
    {&mesh__lb__client_side_weighted_round_robin__descriptor, read_weighted},
    {&mesh__lb__wrr_locality__descriptor, read_wrr_locality},
    {&mesh__lb__random_subsetting__descriptor, read_random_subsetting},
    {&mesh__lb__subset__descriptor, read_subset},
};

static int read_extension(struct reading *r, const Mesh__Pb__Any *config, int deep) {
    int rc;
    for (size_t i = 0; i < MESH_ARRAY_LEN(extensions); i++) {
        if (!mesh_any_is(config, extensions[i].type))
            continue;
        ProtobufCMessage *m = mesh_any_open(config, extensions[i].type, &rc);
        if (!m)
            return rc;
        rc = extensions[i].read(r, m, deep);
        protobuf_c_message_free_unpacked(m, NULL);
        return r->x.rc ? r->x.rc : rc;
    }
    return MESH_E_UNSUPPORTED;
}

/* ---- lb_policy and its companions -------------------------------------------------------------------------
 */
static void at(struct reading *r, const char *path) {
    snprintf(r->x.at, sizeof r->x.at, "%s", path);
}

static void read_ring(struct reading *r, const Mesh__Cluster__Cluster__RingHashLbConfig *c) {
    at(r, "ring_hash_lb_config.");
    ring(r, c->minimum_ring_size, c->maximum_ring_size);
    r->lb->policy.murmur =
        c->hash_function == MESH__CLUSTER__CLUSTER__RING_HASH_LB_CONFIG__HASH_FUNCTION__MURMUR_HASH_2;
}

static void read_least(struct reading *r, const Mesh__Cluster__Cluster__LeastRequestLbConfig *c) {
    at(r, "least_request_lb_config.");
    choices(r, c->choice_count, c->active_request_bias);
    old_slow_start(r, c->slow_start_config);
}

static void read_companion(struct reading *r, const Mesh__Cluster__Cluster *c) {
    switch (c->lb_config_case) {
    case MESH__CLUSTER__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG:
        read_ring(r, c->ring_hash_lb_config);
        break;
    case MESH__CLUSTER__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG:
        read_least(r, c->least_request_lb_config);
        break;
    case MESH__CLUSTER__CLUSTER__LB_CONFIG_MAGLEV_LB_CONFIG:
        at(r, "maglev_lb_config.");
        table(r, c->maglev_lb_config->table_size);
        break;
    case MESH__CLUSTER__CLUSTER__LB_CONFIG_ROUND_ROBIN_LB_CONFIG:
        at(r, "round_robin_lb_config.");
        old_slow_start(r, c->round_robin_lb_config->slow_start_config);
        break;
    default:
        break;
    }
}

/* What common_lb_config says of the policy; in the new dialect each extension says it itself. Zones are the
 * default there is, as in Envoy. */
static void read_common(struct reading *r, const Mesh__Cluster__Cluster__CommonLbConfig *c) {
    struct mesh_policy *p = &r->lb->policy;
    at(r, "common_lb_config.");
    r->lb->zone_aware = true;
    if (c && c->consistent_hashing_lb_config) {
        r->lb->hash_by_host = c->consistent_hashing_lb_config->use_hostname_for_hashing;
        p->hash_balance = balance(r, c->consistent_hashing_lb_config->hash_balance_factor,
                                  "consistent_hashing_lb_config.hash_balance_factor");
    }
    if (!c)
        return;
    if (c->locality_config_specifier_case ==
        MESH__CLUSTER__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG) {
        p->locality_weighted = 1;
        r->lb->zone_aware = false;
    } else if (c->zone_aware_lb_config) {
        const Mesh__Cluster__Cluster__CommonLbConfig__ZoneAwareLbConfig *z = c->zone_aware_lb_config;
        r->lb->zone_aware = zones_asked(r, z->routing_enabled, "zone_aware_lb_config.routing_enabled");
        r->lb->zone_min = mesh_build_u64(&r->x, z->min_cluster_size, "zone_aware_lb_config.min_cluster_size",
                                         ZONE_MIN, 0, UINT32_MAX);
        p->fail_in_panic = z->fail_traffic_on_panic;
    }
}

static int read_old(struct reading *r, const Mesh__Cluster__Cluster *c) {
    static const uint8_t policies[] = {MESH_LB_ROUND_ROBIN, MESH_LB_LEAST_REQUEST, MESH_LB_RING_HASH,
                                       MESH_LB_RANDOM,      MESH_LB_ROUND_ROBIN,   MESH_LB_MAGLEV,
                                       MESH_LB_ROUND_ROBIN};
    bool provided = c->lb_policy == MESH__CLUSTER__CLUSTER__LB_POLICY__CLUSTER_PROVIDED;
    if (c->lb_policy < 0 || (size_t)c->lb_policy >= MESH_ARRAY_LEN(policies))
        return mesh_build_bad(&r->x, "lb_policy", "is not known, or wants load_balancing_policy");
    if (provided && c->type != MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST)
        return mesh_build_bad(&r->x, "lb_policy", "CLUSTER_PROVIDED fits ORIGINAL_DST only");
    if (provided && c->lb_subset_config)
        return mesh_build_bad(&r->x, "lb_subset_config", "does not fit CLUSTER_PROVIDED");
    r->lb->policy.policy = policies[c->lb_policy];
    r->lb->subsets = c->lb_subset_config;
    read_companion(r, c);
    read_common(r, c->common_lb_config);
    at(r, "");
    return r->x.rc;
}

int mesh_build_policy(const Mesh__Cluster__Cluster *c, const Mesh__Endpoint__ClusterLoadAssignment *cla,
                      struct build_lb *ret, struct mesh_why *why) {
    struct reading r = {.x = {.why = why}, .lb = ret};
    *ret = (struct build_lb){.zone_min = ZONE_MIN};
    mesh_lb_policy_defaults(&ret->policy);
    int rc = c->load_balancing_policy ? read_list(&r, c->load_balancing_policy, "load_balancing_policy", 0)
                                      : read_old(&r, c);
    if (rc == MESH_E_UNSUPPORTED && !r.x.rc)
        return mesh_why(why, rc, "load_balancing_policy: none of the policies is supported");
    if (rc < 0)
        return rc;
    mesh_build_limits(&r.x, c, cla, &ret->policy);
    if (ret->subsets && !ret->subsets->n_subset_selectors)
        ret->subsets = NULL; /* as in Envoy */
    return ret->subsets ? mesh_subset_check(&r.x, ret->subsets) : r.x.rc;
}

void mesh_build_policy_done(struct build_lb *lb) {
    if (lb->owned)
        protobuf_c_message_free_unpacked(lb->owned, NULL);
    lb->owned = NULL;
}
