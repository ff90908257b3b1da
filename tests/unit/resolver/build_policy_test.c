/* SPDX-License-Identifier: Apache-2.0
 *
 * What a cluster must not say, each with the path that the fault names.
 */
#include "tests/unit/resolver/fixture.h"

#define EXT(type, fields)                                                                                    \
    "load_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: {'@type': "         \
    "type.googleapis.com/envoy.extensions.load_balancing_policies." type ", " fields "}}}]}"
#define AT "load_balancing_policy.policies[0].typed_extension_config.typed_config."
#define ROUND                                                                                                \
    "{policies: [{typed_extension_config: {name: r, typed_config: {'@type': "                                \
    "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin}}}]}"
#define SELECTORS(x) "lb_subset_config: {subset_selectors: [" x "]}"

static const struct {
    const char *says, *path;
} wrong[] = {
    {"lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 2000, maximum_ring_size: 1000}",
     "ring_hash_lb_config.minimum_ring_size: is greater than maximum_ring_size"},
    {"lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 9000000}",
     "ring_hash_lb_config.minimum_ring_size: must be 1 to 8388608"},
    {"lb_policy: RING_HASH, ring_hash_lb_config: {maximum_ring_size: 0}",
     "ring_hash_lb_config.maximum_ring_size: must be 1 to 8388608"},
    {"lb_policy: MAGLEV, maglev_lb_config: {table_size: 65536}",
     "maglev_lb_config.table_size: must be a prime number"},
    {"lb_policy: MAGLEV, maglev_lb_config: {table_size: 6000011}",
     "maglev_lb_config.table_size: must be 2 to 5000011"},
    {"lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 1}",
     "least_request_lb_config.choice_count: must be 2 to 65535"},
    {"lb_policy: LEAST_REQUEST, least_request_lb_config: {active_request_bias: {default_value: -1}}",
     "least_request_lb_config.active_request_bias: must not be negative"},
    {"round_robin_lb_config: {slow_start_config: {slow_start_window: 5s, aggression: {default_value: 0}}}",
     "round_robin_lb_config.slow_start_config.aggression: must be greater than 0"},
    {"round_robin_lb_config: {slow_start_config: {slow_start_window: 5s, min_weight_percent: {value: 101}}}",
     "round_robin_lb_config.slow_start_config.min_weight_percent: must be 0 to 100"},
    {"lb_policy: LOAD_BALANCING_POLICY_CONFIG", "lb_policy: is not known, or wants load_balancing_policy"},
    {"lb_policy: CLUSTER_PROVIDED", "lb_policy: CLUSTER_PROVIDED fits ORIGINAL_DST only"},
    {"common_lb_config: {healthy_panic_threshold: {value: 101}}",
     "common_lb_config.healthy_panic_threshold: must be 0 to 100"},
    {"common_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 99}}",
     "common_lb_config.consistent_hashing_lb_config.hash_balance_factor: must be 100 to 65535"},
    {"common_lb_config: {zone_aware_lb_config: {routing_enabled: {value: 50}}}",
     "common_lb_config.zone_aware_lb_config.routing_enabled: only 0 and 100 are supported"},
    {EXT("ring_hash.v3.RingHash", "minimum_ring_size: 10, maximum_ring_size: 5"),
     AT "minimum_ring_size: is greater than maximum_ring_size"},
    {EXT("maglev.v3.Maglev", "table_size: 4"), AT "table_size: must be a prime number"},
    {EXT("least_request.v3.LeastRequest", "choice_count: 0"), AT "choice_count: must be 2 to 65535"},
    {EXT("random_subsetting.v3.RandomSubsetting", "child_policy: " ROUND), AT "subset_size: must be given"},
    {EXT("random_subsetting.v3.RandomSubsetting", "subset_size: 0, child_policy: " ROUND),
     AT "subset_size: must be at least 1"},
    {EXT("random_subsetting.v3.RandomSubsetting", "subset_size: 2"),
     "load_balancing_policy: none of the policies is supported"},
    {EXT("subset.v3.Subset", "allow_redundant_keys: true, subset_lb_policy: " ROUND),
     AT "allow_redundant_keys: is not supported"},
    {EXT("subset.v3.Subset", "metadata_fallback_policy: FALLBACK_LIST, subset_lb_policy: " ROUND),
     AT "metadata_fallback_policy: FALLBACK_LIST is not supported"},
    {SELECTORS("{keys: []}"), "lb_subset_config.subset_selectors[0].keys: must not be empty"},
    {SELECTORS("{keys: [a, b]}, {keys: [b, a]}"),
     "lb_subset_config.subset_selectors[1].keys: are those of another selector"},
    {SELECTORS("{keys: [a, b], single_host_per_subset: true}"),
     "lb_subset_config.subset_selectors[0].single_host_per_subset: wants a selector of one key"},
    {SELECTORS("{keys: [a, b], fallback_policy: KEYS_SUBSET}"),
     "lb_subset_config.subset_selectors[0].fallback_keys_subset: goes with KEYS_SUBSET, and with that alone"},
    {SELECTORS("{keys: [a, b], fallback_keys_subset: [a]}"),
     "lb_subset_config.subset_selectors[0].fallback_keys_subset: goes with KEYS_SUBSET, and with that alone"},
    {SELECTORS("{keys: [a], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [a]}"),
     "lb_subset_config.subset_selectors[0].fallback_keys_subset: must be fewer keys than the selector's"},
    {SELECTORS("{keys: [a, b], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [c]}"),
     "lb_subset_config.subset_selectors[0].fallback_keys_subset: has a key that is not the selector's"},
    {"lb_subset_config: {subset_selectors: [{keys: [a]}], scale_locality_weight: true}",
     "lb_subset_config.scale_locality_weight: goes with locality_weight_aware"},
    {"outlier_detection: {max_ejection_percent: 101}",
     "outlier_detection.max_ejection_percent: must be 0 to 100"},
    {"outlier_detection: {enforcing_consecutive_5xx: 200}",
     "outlier_detection.enforcing_consecutive_5xx: must be 0 to 100"},
    {"outlier_detection: {enforcing_consecutive_gateway_failure: 200}",
     "outlier_detection.enforcing_consecutive_gateway_failure: must be 0 to 100"},
    {"outlier_detection: {enforcing_consecutive_local_origin_failure: 200}",
     "outlier_detection.enforcing_consecutive_local_origin_failure: must be 0 to 100"},
    {"outlier_detection: {enforcing_success_rate: 200}",
     "outlier_detection.enforcing_success_rate: must be 0 to 100"},
    {"outlier_detection: {enforcing_failure_percentage: 200}",
     "outlier_detection.enforcing_failure_percentage: must be 0 to 100"},
    {"outlier_detection: {failure_percentage_threshold: 200}",
     "outlier_detection.failure_percentage_threshold: must be 0 to 100"},
    {"outlier_detection: {interval: 0s}", "outlier_detection.interval: must be at least 1ms"},
    {"outlier_detection: {base_ejection_time: 0s}",
     "outlier_detection.base_ejection_time: must be at least 1ms"},
    {"outlier_detection: {max_ejection_time: 0s}",
     "outlier_detection.max_ejection_time: must be at least 1ms"},
    {"outlier_detection: {base_ejection_time: 30s, max_ejection_time: 10s}",
     "outlier_detection.max_ejection_time: is less than base_ejection_time"},
    {"circuit_breakers: {thresholds: [{max_connections: 1}, {max_connections: 2}]}",
     "circuit_breakers.thresholds[1].priority: there are thresholds for DEFAULT already"},
    {"circuit_breakers: {per_host_thresholds: [{max_retries: 2}]}",
     "circuit_breakers.per_host_thresholds.max_connections: is the only limit that there is for one host"},
    {"circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 101}}}]}",
     "circuit_breakers.thresholds.retry_budget.budget_percent: must be 0 to 100"},
    {"load_assignment: {cluster_name: c, policy: {drop_overloads: [{category: x, drop_percentage: "
     "{numerator: "
     "101}}]}}",
     "load_assignment.policy.drop_overloads[0].drop_percentage: must be 0 to 100 percent"},
    {"load_assignment: {cluster_name: c, policy: {overprovisioning_factor: 0}}",
     "load_assignment.policy.overprovisioning_factor: must be at least 1"},
    {"load_assignment: {cluster_name: c, endpoints: [{priority: 129}]}",
     "load_assignment.endpoints[0]: priority must be 0 to 128"},
    {"load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{load_balancing_weight: 0}]}]}",
     "load_assignment.endpoints[0]: load_balancing_weight of an endpoint must be at least 1"},
    {"load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{load_balancing_weight: 4294967295}, "
     "{load_balancing_weight: 1}]}]}",
     "load_assignment.endpoints[0]: the endpoints' weights sum up to more than 2^32-1"},
};

static void keep(void *arg, const char *resource, const char *why) {
    snprintf(arg, 256, "%s", why);
}

Test(build_policy, settings_that_mean_nothing_are_refused_by_their_path, .timeout = 120) {
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct fixture f;
        struct mesh_route r;
        char text[2048], why[256] = "", expected[300];
        snprintf(text, sizeof text,
                 "resources:\n- {'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c.mesh, "
                 "type: STATIC, %s}\n",
                 wrong[i].says);
        fixture_start(&f, text);
        mesh_view_each_fault(f.view, keep, why);
        snprintf(expected, sizeof expected, "cluster c.mesh: %s", wrong[i].path);
        cr_expect(strncmp(why, expected, strlen(expected)) == 0, "%s\n  says: %s", wrong[i].says, why);
        cr_expect_eq(fixture_connect(f.view, "c.mesh", 80, 0, &r) == 0, false, "%s is used", wrong[i].says);
        fixture_done(&f);
    }
}

static const struct mesh_policy *policy_of(struct fixture *f, const char *says) {
    static struct mesh_policy p;
    struct mesh_route r;
    struct mesh_cluster_view cv;
    uint64_t seq;
    char text[2048];
    snprintf(text, sizeof text,
             "resources:\n- {'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c.mesh, "
             "type: STATIC, %s}\n",
             says);
    fixture_start(f, text);
    cr_assert_eq(mesh_view_route_name(f->view, "c.mesh", 80, 0, &r), 0, "%s", says);
    cr_assert_eq(mesh_view_cluster(f->view, &r, &cv, &seq), 0);
    p = *cv.policy;
    fixture_done(f);
    return &p;
}

Test(build_policy, consecutive_failures_are_of_the_smaller_limit_that_is_enforced) {
    struct fixture f;
    const struct mesh_policy *p = policy_of(&f, "outlier_detection: {}");
    cr_assert_eq(p->consecutive, 5);
    cr_assert_eq(p->consecutive_enforcing, 100);
    p = policy_of(&f, "outlier_detection: {consecutive_5xx: 7, enforcing_consecutive_5xx: 0}");
    cr_assert_eq(p->consecutive, 0);
    p = policy_of(&f, "outlier_detection: {consecutive_5xx: 7, consecutive_gateway_failure: 3, "
                      "enforcing_consecutive_gateway_failure: 40}");
    cr_assert_eq(p->consecutive, 3);
    cr_assert_eq(p->consecutive_enforcing, 40);
    p = policy_of(&f, "outlier_detection: {consecutive_5xx: 2, split_external_local_origin_errors: true, "
                      "consecutive_local_origin_failure: 9, enforcing_consecutive_local_origin_failure: 60}");
    cr_assert_eq(p->consecutive, 9);
    cr_assert_eq(p->consecutive_enforcing, 60);
}

Test(build_policy, breakers_take_envoys_defaults_once_thresholds_are_given) {
    struct fixture f;
    const struct mesh_policy *p = policy_of(&f, "connect_timeout: 1s");
    cr_assert_eq(p->max_connections, UINT32_MAX);
    cr_assert_eq(p->retry_min, UINT32_MAX);
    p = policy_of(&f, "circuit_breakers: {thresholds: [{max_requests: 7, retry_budget: {}}, {priority: HIGH, "
                      "max_connections: 1}], per_host_thresholds: [{max_connections: 9}]}");
    cr_assert_eq(p->max_connections, 7, "a connection is the unit of max_requests too");
    cr_assert_eq(p->max_pending, 1024);
    cr_assert_eq(p->max_retries, 3);
    cr_assert_eq(p->retry_budget, 2000);
    cr_assert_eq(p->retry_min, 3);
    cr_assert_eq(p->max_host_connections, 9);
}
