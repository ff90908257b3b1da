/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "lb/lb.h"
#include "tests/unit/resolver/fixture.h"

#define TYPE(x) "- '@type': type.googleapis.com/envoy.config.cluster.v3." x "\n"
#define AGGREGATE(name, members)                                                                             \
    TYPE("Cluster")                                                                                          \
    "  name: " name "\n  lb_policy: CLUSTER_PROVIDED\n  cluster_type: {name: envoy.clusters.aggregate, "     \
    "typed_config: {'@type': type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, "     \
    "clusters: [" members "]}}\n"
#define ENDPOINT(addr, more)                                                                                 \
    "{endpoint: {address: {socket_address: {address: " addr ", port_value: 80}}}" more "}"
#define STATIC(name, policy, localities, more)                                                               \
    TYPE("Cluster")                                                                                          \
    "  name: " name "\n  type: STATIC\n  lb_policy: " policy "\n  load_assignment: {cluster_name: " name     \
    ", endpoints: [" localities "]}\n" more
#define CLEAR                                                                                                \
    "  transport_socket: {name: raw, typed_config: {'@type': "                                               \
    "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}\n"

static const char text[] = "resources:\n" AGGREGATE("all.mesh", "near, gone, bad, inner")
    AGGREGATE("inner", "far") AGGREGATE("self.mesh", "self.mesh") AGGREGATE("none.mesh", "bad, gone")
        STATIC("near", "RANDOM",
               "{lb_endpoints: [" ENDPOINT("10.0.0.1", "") "]}, {priority: 1, lb_endpoints: [" ENDPOINT(
                   "10.0.0.2", "") "]}",
               "")
            STATIC("far", "ROUND_ROBIN",
                   "{lb_endpoints: [" ENDPOINT("10.0.0.3", "") "," ENDPOINT("10.0.0.1", "") "]}", CLEAR)
                TYPE("Cluster") "  name: bad\n  cluster_type: {name: envoy.clusters.other}\n";

/* The endpoints as "last byte of the address/priority/transport" each. */
static const char *endpoints_of(struct fixture *f, const char *name, struct mesh_route *r) {
    static char out[256];
    struct mesh_cluster_view cv;
    uint64_t seq;
    size_t n = 0;
    out[0] = 0;
    cr_assert_eq(fixture_connect(f->view, name, 80, 0, r), 0, "%s", name);
    cr_assert_eq(mesh_view_cluster(f->view, r, &cv, &seq), 0);
    for (uint32_t i = 0; i < cv.n; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, "%u/%u/%u ", cv.endpoints[i].addr[3],
                              cv.endpoints[i].priority, cv.endpoints[i].transport);
    return out;
}

Test(aggregate, members_follow_each_other_and_bad_ones_are_left_out) {
    struct fixture f;
    struct mesh_route r;
    struct mesh_cluster_view cv;
    struct mesh_target *t;
    uint64_t seq;
    fixture_start(&f, text);
    cr_assert_str_eq(endpoints_of(&f, "all.mesh", &r), "1/0/0 2/1/0 3/2/1 ");
    cr_assert_eq(mesh_view_cluster(f.view, &r, &cv, &seq), 0);
    cr_assert_eq(cv.policy->policy, MESH_LB_RANDOM, "the first good member's");
    cr_assert_eq(mesh_view_target(f.view, &r, 0, &t), 0);
    cr_assert_not(t->plain);
    free(t);
    cr_assert_eq(mesh_view_target(f.view, &r, 1, &t), 0);
    cr_assert(t->plain, "each member keeps its transport socket");
    free(t);
    fixture_done(&f);
}

Test(aggregate, one_without_members_is_refused) {
    struct fixture f;
    struct mesh_route r;
    fixture_start(&f, text);
    cr_assert_eq(fixture_connect(f.view, "self.mesh", 80, 0, &r), MESH_E_UNSUPPORTED);
    cr_assert_eq(fixture_connect(f.view, "none.mesh", 80, 0, &r), MESH_E_UNSUPPORTED);
    fixture_done(&f);
}
