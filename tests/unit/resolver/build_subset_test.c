/* SPDX-License-Identifier: Apache-2.0 */
#include "lb/lb.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "tests/unit/resolver/fixture.h"

#define EP(addr, meta)                                                                                       \
    "     - {endpoint: {address: {socket_address: {address: " addr                                           \
    ", port_value: 80}}}, metadata: {filter_metadata: {envoy.lb: " meta "}}}\n"
#define LISTEN(name, what)                                                                                   \
    "- '@type': type.googleapis.com/envoy.config.listener.v3.Listener\n  name: '" name "'\n"                 \
    "  filter_chains: [{filters: [{name: envoy.filters.network.tcp_proxy, typed_config: {'@type': "          \
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, " what      \
    "}}]}]\n"
#define MATCH(m) "cluster: c, metadata_match: {filter_metadata: {envoy.lb: " m "}}"

/* 1: v1 prod, 2: v1 test, 3: v2 prod, 4: no metadata of ours, 5: a list of versions */
static const char endpoints[] =
    "resources:\n"
    "- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n"
    "  name: c\n"
    "  type: STATIC\n"
    "%s"
    "  load_assignment:\n"
    "   cluster_name: c\n"
    "   endpoints:\n"
    "   - lb_endpoints:\n" EP("10.0.0.1", "{version: v1, stage: prod}")
        EP("10.0.0.2", "{version: v1, stage: test}") EP("10.0.0.3", "{version: v2, stage: prod}")
            EP("10.0.0.4", "{other: x}") EP("10.0.0.5", "{version: [v1, v7]}");
static const char routes[] = LISTEN("none.mesh:80", "cluster: c") LISTEN("v1.mesh:80", MATCH("{version: v1}"))
    LISTEN("v2.mesh:80", MATCH("{version: v2}")) LISTEN("v9.mesh:80", MATCH("{version: v9}"))
        LISTEN("prod.mesh:80", MATCH("{stage: prod, version: v1}")) LISTEN(
            "both.mesh:80", MATCH("{stage: canary, version: v2}")) LISTEN("key.mesh:80", MATCH("{other: x}"))
            LISTEN("weighted.mesh:80",
                   "weighted_clusters: {clusters: [{name: c, weight: 1, metadata_match: {filter_metadata: "
                   "{envoy.lb: {version: v2}}}}]}, metadata_match: {filter_metadata: {envoy.lb: "
                   "{version: v1, stage: prod}}}");

static void begin(struct fixture *f, const char *config) {
    static char text[16384];
    int n = snprintf(text, sizeof text, endpoints, config);
    snprintf(text + n, sizeof text - (size_t)n, "%s", routes);
    fixture_start(f, text);
}

/* The last numbers of the endpoints' addresses that a name leads to, "13". */
static const char *leads_to(const struct fixture *f, const char *name, struct mesh_route *ret) {
    static char text[16];
    struct mesh_cluster_view cv;
    uint64_t seq;
    cr_assert_eq(fixture_connect(f->view, name, 80, 0, ret), 0, "%s", name);
    cr_assert_eq(mesh_view_cluster(f->view, ret, &cv, &seq), 0);
    uint32_t n = 0;
    for (; n < cv.n; n++)
        text[n] = (char)('0' + cv.endpoints[n].addr[3]);
    text[n] = 0;
    return text;
}

static void expect(const char *config, const char *name, const char *endpoints_of) {
    struct fixture f;
    struct mesh_route r;
    begin(&f, config);
    cr_assert_str_eq(leads_to(&f, name, &r), endpoints_of, "%s: %s", name, config);
    fixture_done(&f);
}

#define SELECT(fallback, selectors)                                                                          \
    "  lb_subset_config: {fallback_policy: " fallback ", subset_selectors: [" selectors "]}\n"
#define VERSION "{keys: [version]}"

Test(build_subset, without_a_configuration_all_endpoints_serve) {
    expect("", "v1.mesh", "12345");
}

Test(build_subset, selector_with_the_keys_leaves_what_has_the_values) {
    expect(SELECT("NO_FALLBACK", VERSION), "v1.mesh", "12");
    expect(SELECT("NO_FALLBACK", VERSION), "v2.mesh", "3");
    expect(SELECT("NO_FALLBACK", VERSION ", {keys: [version, stage]}"), "prod.mesh", "1");
}

Test(build_subset, no_fallback_leaves_nobody) {
    expect(SELECT("NO_FALLBACK", VERSION), "v9.mesh", "");
    expect(SELECT("NO_FALLBACK", VERSION), "none.mesh", "");
    expect(SELECT("NO_FALLBACK", VERSION), "key.mesh", "");
}

Test(build_subset, any_endpoint_leaves_all) {
    expect(SELECT("ANY_ENDPOINT", VERSION), "v9.mesh", "12345");
    expect(SELECT("ANY_ENDPOINT", VERSION), "none.mesh", "12345");
    expect(SELECT("ANY_ENDPOINT", VERSION), "key.mesh", "12345");
}

Test(build_subset, default_subset_serves_what_fits_nothing) {
    static const char config[] =
        "  lb_subset_config: {fallback_policy: DEFAULT_SUBSET, default_subset: {stage: "
        "prod}, subset_selectors: [{keys: [version]}]}\n";
    expect(config, "v9.mesh", "13");
    expect(config, "none.mesh", "13");
    expect(config, "v1.mesh", "12");
}

Test(build_subset, selectors_own_fallback_goes_before) {
    expect(SELECT("NO_FALLBACK", "{keys: [version], fallback_policy: ANY_ENDPOINT}"), "v9.mesh", "12345");
    expect(SELECT("ANY_ENDPOINT", "{keys: [version], fallback_policy: NO_FALLBACK}"), "v9.mesh", "");
    expect(SELECT("NO_FALLBACK", VERSION ", {keys: [stage, version], fallback_policy: KEYS_SUBSET, "
                                         "fallback_keys_subset: [version]}"),
           "both.mesh", "3");
}

Test(build_subset, list_values_count_singly_when_asked) {
    expect("  lb_subset_config: {list_as_any: true, subset_selectors: [{keys: [version]}]}\n", "v1.mesh",
           "125");
}

Test(build_subset, panic_mode_any_serves_all_where_nobody_is_left) {
    expect("  lb_subset_config: {panic_mode_any: true, subset_selectors: [{keys: [version]}]}\n", "v9.mesh",
           "12345");
}

Test(build_subset, single_host_keeps_one) {
    expect(SELECT("NO_FALLBACK", "{keys: [version], single_host_per_subset: true}"), "v1.mesh", "1");
}

Test(build_subset, weighted_clusters_values_go_before_the_routes) {
    expect(SELECT("NO_FALLBACK", "{keys: [version, stage]}"), "weighted.mesh", "3");
}

Test(build_subset, extension_reads_the_same) {
    expect("  load_balancing_policy: {policies: [{typed_extension_config: {name: s, typed_config: {'@type': "
           "type.googleapis.com/envoy.extensions.load_balancing_policies.subset.v3.Subset, subset_selectors: "
           "[{keys: [version]}], fallback_policy: ANY_ENDPOINT, subset_lb_policy: {policies: "
           "[{typed_extension_config: {name: r, typed_config: {'@type': "
           "type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random}}}]}}}}]}\n",
           "v1.mesh", "12");
}

Test(build_subset, subset_shares_counters_ejections_and_breakers_with_its_cluster) {
    struct fixture f;
    struct mesh_route r, all;
    struct mesh_cluster_view some, whole;
    struct mesh_lb_request q = {.now = 5 * MESH_SEC, .families = 3};
    uint64_t seq;
    uint32_t at, seen = 0;
    begin(&f, SELECT("ANY_ENDPOINT", VERSION) "  circuit_breakers: {thresholds: [{max_connections: 5}]}\n");
    leads_to(&f, "v1.mesh", &r);
    cr_assert_str_eq(r.cluster, "c{version=v1}");
    leads_to(&f, "none.mesh", &all);
    cr_assert_eq(mesh_view_cluster(f.view, &r, &some, &seq), 0);
    struct mesh_route to_whole = {.cluster_id = r.whole_id, .cluster_generation = r.whole_generation};
    cr_assert_eq(mesh_view_cluster(f.view, &to_whole, &whole, &seq), 0);
    cr_assert_eq(whole.n, 5);
    cr_assert_eq(some.endpoints[0].stat, whole.endpoints[0].stat);
    for (int i = 0; i < 5; i++) /* Envoy's default limit of consecutive failures does not hold here: two do */
        mesh_lb_report(&whole, whole.endpoints[0].stat, MESH_LB_REFUSED, q.now, 0);
    cr_assert(mesh_lb_ejected(&some.stats[some.endpoints[0].stat], q.now));
    for (int i = 0; i < 50; i++) {
        q.random = mesh_random();
        cr_assert_eq(mesh_lb_pick(&some, &q, &at, NULL), 0);
        seen |= 1u << at;
    }
    cr_assert_eq(seen, 2, "the subset's other endpoint alone is picked");
    q.now += 1000 * MESH_SEC;
    for (int i = 0; i < 50; i++) {
        q.random = mesh_random();
        cr_assert_eq(mesh_lb_pick(&some, &q, &at, NULL), 0);
        seen |= 1u << at;
    }
    cr_assert_eq(seen, 3, "and it comes back");
    atomic_store(&whole.live->inflight, 5);
    cr_assert_eq(mesh_lb_pick(&some, &q, &at, NULL), MESH_E_OVERLOAD);
    fixture_done(&f);
}

static void count(void *arg, const struct mesh_route *cluster) {
    ++*(int *)arg;
}

Test(build_subset, subsets_are_no_clusters_to_who_lists_them) {
    struct fixture f;
    struct mesh_view_info info;
    char *text;
    int n = 0;
    begin(&f, SELECT("ANY_ENDPOINT", VERSION));
    cr_assert_eq(mesh_view_each_cluster(f.view, count, &n), 1);
    cr_assert_eq(mesh_view_describe(f.view, &info), 0);
    cr_assert_eq(info.clusters, 1);
    cr_assert_eq(info.endpoints, 5);
    cr_assert_eq(mesh_view_print(f.view, "v1.mesh", false, &text), 0);
    cr_assert(strstr(text, "10.0.0.3"), "the cluster is printed whole");
    free(text);
    fixture_done(&f);
}

Test(build_subset, random_subsetting_keeps_its_number_and_its_choice) {
    static const char config[] =
        "  load_balancing_policy: {policies: [{typed_extension_config: {name: s, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.load_balancing_policies.random_subsetting.v3.RandomSubsetting, "
        "subset_size: 2, child_policy: {policies: [{typed_extension_config: {name: r, typed_config: "
        "{'@type': "
        "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin}}}]}}}}]}\n";
    struct fixture f;
    struct mesh_route r;
    char first[16];
    begin(&f, config);
    snprintf(first, sizeof first, "%s", leads_to(&f, "none.mesh", &r));
    cr_assert_eq(strlen(first), 2);
    mesh_view_close(f.view);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_str_eq(leads_to(&f, "none.mesh", &r), first);
    fixture_done(&f);
}
