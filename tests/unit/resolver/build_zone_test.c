/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/resolver/fixture.h"

#define EPS(zone, n) "{locality: {region: r, zone: " zone "}, lb_endpoints: [" n "]}"
#define EP(addr) "{endpoint: {address: {socket_address: {address: " addr ", port_value: 80}}}}"
#define CLUSTER(name, more, endpoints)                                                                       \
    "  - {name: " name ", type: STATIC, " more "load_assignment: {cluster_name: " name                       \
    ", endpoints: [" endpoints "]}}\n"
#define THREE(x) EP("10.0." x ".1") ", " EP("10.0." x ".2") ", " EP("10.0." x ".3")

/* We are 3 of 4 in zone a; the cluster has 3 endpoints in a, 3 in b: 50 of 75 percent stay, 2/3; the rest
 * goes to b */
#define BOOTSTRAP(node, manager, more)                                                                       \
    node manager "static_resources:\n  clusters:\n" CLUSTER(                                                 \
        "us", "", EPS("a", THREE("1")) ", " EPS("b", EP("10.0.2.1")))                                        \
        CLUSTER("c.mesh", more, EPS("a", THREE("3")) ", " EPS("b", THREE("4")))
#define NODE "node: {id: x, cluster: us, locality: {region: r, zone: a}}\n"
#define MANAGER "cluster_manager: {local_cluster_name: us}\n"

/* The weight of zone a's locality in parts of both, percent; -1: localities do not weigh. */
static int share(const char *text) {
    struct fixture f;
    struct mesh_route r;
    struct mesh_cluster_view cv;
    uint64_t seq;
    fixture_start(&f, text);
    cr_assert_eq(mesh_view_route_name(f.view, "c.mesh", 80, 0, &r), 0);
    cr_assert_eq(mesh_view_cluster(f.view, &r, &cv, &seq), 0);
    double a = cv.endpoints[0].locality_weight, b = cv.endpoints[5].locality_weight;
    int percent = cv.policy->locality_weighted ? (int)(100 * a / (a + b) + 0.5) : -1;
    fixture_done(&f);
    return percent;
}

Test(build_zone, local_share_follows_where_we_run) {
    cr_assert_eq(share(BOOTSTRAP(NODE, MANAGER, "")), 67);
}

Test(build_zone, without_locality_or_own_cluster_zones_do_not_weigh) {
    cr_assert_eq(share(BOOTSTRAP("", MANAGER, "")), -1);
    cr_assert_eq(share(BOOTSTRAP(NODE, "", "")), -1);
    cr_assert_eq(share(BOOTSTRAP(NODE, "cluster_manager: {local_cluster_name: others}\n", "")), -1);
}

Test(build_zone, cluster_that_does_not_want_it_is_left_alone) {
    cr_assert_eq(share(BOOTSTRAP(NODE, MANAGER,
                                 "common_lb_config: {zone_aware_lb_config: {routing_enabled: "
                                 "{value: 0}}}, ")),
                 -1);
    cr_assert_eq(share(BOOTSTRAP(NODE, MANAGER,
                                 "common_lb_config: {zone_aware_lb_config: {min_cluster_size: "
                                 "7}}, ")),
                 -1);
    cr_assert_eq(share(BOOTSTRAP(NODE, MANAGER, "lb_policy: MAGLEV, ")), -1);
}

Test(build_zone, new_dialect_has_it_where_it_says_so) {
    static const char policy[] = BOOTSTRAP(
        NODE, MANAGER,
        "load_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin, "
        "locality_lb_config: {zone_aware_lb_config: {force_locality_direct_routing: true}}}}}]}, ");
    cr_assert_eq(share(policy), 100);
    cr_assert_eq(share(BOOTSTRAP(NODE, MANAGER,
                                 "load_balancing_policy: {policies: [{typed_extension_config: "
                                 "{name: x, typed_config: {'@type': "
                                 "type.googleapis.com/envoy.extensions.load_balancing_policies."
                                 "round_robin.v3.RoundRobin}}}]}, ")),
                 -1);
}
