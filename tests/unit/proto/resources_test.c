/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/endpoint.pb-c.h"
#include "proto/listener.pb-c.h"
#include "proto/tls.pb-c.h"
#include "tests/unit/proto/reading.h"

#define CLUSTER_TYPE "'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster"

static struct mesh_resources *read_text(const char *text, size_t len, bool keep, struct warnings *w) {
    struct mesh_read_opts opts = {.file = "f", .warn = w ? remember : NULL, .arg = w, .keep_refused = keep};
    struct mesh_resources *r = NULL;
    struct mesh_why why = {""};
    cr_assert_eq(mesh_resources_read(text, len, &opts, &r, &why), 0, "%s", why.text);
    return r;
}

static struct mesh_resources *read_all(const char *text) {
    return read_text(text, strlen(text), false, NULL);
}

static void fails(const char *text, int err, const char *says) {
    struct mesh_read_opts opts = {.file = "f"};
    struct mesh_resources *r = (void *)1;
    struct mesh_why why = {""};
    cr_expect_eq(mesh_resources_read(text, strlen(text), &opts, &r, &why), err, "%s: %s", text, why.text);
    cr_expect_eq(r, (void *)1);
    cr_expect_str_eq(why.text, says, "%s", why.text);
}

static void is(const struct mesh_resource *r, const char *type, const char *name, const char *path,
               uint32_t line, uint32_t column) {
    cr_expect_str_eq(r->type->short_name, type);
    cr_expect_str_eq(r->name, name);
    cr_expect_str_eq(r->path, path);
    cr_expect(r->line == line && r->column == column, "%s at %u:%u", r->path, r->line, r->column);
    cr_expect_eq(r->msg->descriptor, r->type);
    cr_expect_null(r->refused);
}

Test(resources, list_holds_types_that_each_entry_names) {
    struct mesh_resources *r = read_all("resources:\n- {" CLUSTER_TYPE ", name: a}\n"
                                        "- name: b\n  '@type': x/envoy.config.listener.v3.Listener\n");
    cr_assert_eq(r->n, 2);
    is(&r->items[0], "Cluster", "a", "resources[0]", 2, 3);
    is(&r->items[1], "Listener", "b", "resources[1]", 3, 3);
    mesh_resources_free(r);
}

Test(resources, wrapper_is_taken_off) {
    struct mesh_resources *r = read_all(
        "resources: [{'@type': x/envoy.service.discovery.v3.Resource, name: a, resource: {" CLUSTER_TYPE
        ", name: a}}, {'@type': x/envoy.service.discovery.v3.Resource, name: heartbeat}]");
    cr_assert_eq(r->n, 1);
    is(&r->items[0], "Cluster", "a", "resources[0]", 1, 13);
    mesh_resources_free(r);
}

Test(resources, bootstrap_gives_its_static_resources) {
    struct warnings w = {0};
    const char *text =
        "admin: {address: {}}\nstatic_resources:\n  clusters:\n  - name: a\n  - {name: b, " CLUSTER_TYPE "}\n"
        "  listeners: [{name: l}]\n  secrets: [{name: s, tls_certificate: {}}]\n";
    struct mesh_resources *r = read_text(text, strlen(text), false, &w);
    cr_assert_eq(r->n, 4);
    cr_expect_eq(w.n, 1);
    cr_expect_str_eq(w.last, "1:1 admin: not known");
    is(&r->items[0], "Cluster", "a", "static_resources.clusters[0]", 4, 5);
    is(&r->items[1], "Cluster", "b", "static_resources.clusters[1]", 5, 5);
    is(&r->items[2], "Listener", "l", "static_resources.listeners[0]", 6, 15);
    is(&r->items[3], "Secret", "s", "static_resources.secrets[0]", 7, 13);
    mesh_resources_free(r);
}

Test(resources, config_dump_gives_what_is_in_force) {
    struct mesh_resources *r =
        read_all("{\"configs\": [{\"@type\": \"x/envoy.admin.v3.BootstrapConfigDump\", \"bootstrap\": "
                 "{\"static_resources\": {\"clusters\": [{\"name\": \"s\"}]}}},\n"
                 "{\"static_clusters\": [{\"cluster\": {\"name\": \"s\"}}], \"dynamic_active_clusters\": "
                 "[{\"version_info\": \"1\", \"cluster\": {\"name\": \"a\"}}],"
                 " \"dynamic_warming_clusters\": [{\"cluster\": {\"name\": \"a\"}}]},\n"
                 "{\"dynamicListeners\": [{\"name\": \"l\", \"activeState\": null, \"active_state\": "
                 "{\"listener\": {\"name\": \"l\"}}, \"draining_state\": {\"listener\": {\"name\": \"l\"}}},"
                 " {\"name\": \"broken\", \"error_state\": {}}]},\n"
                 "{\"static_route_configs\": [{\"route_config\": {\"name\": \"x\"}}], "
                 "\"dynamic_route_configs\": [{\"route_config\": {\"name\": \"x\"}}]},\n"
                 "{\"dynamic_endpoint_configs\": [{\"endpoint_config\": {\"cluster_name\": \"a\"}}]}, "
                 "{\"dynamic_active_secrets\": [{\"name\": \"k\", \"secret\": {\"name\": \"k\"}}]}]}");
    cr_assert_eq(r->n, 6);
    is(&r->items[0], "Cluster", "s", "configs[1].static_clusters[0].cluster", 2, 34);
    is(&r->items[1], "Cluster", "a", "configs[1].dynamic_active_clusters[0].cluster", 2, 112);
    is(&r->items[2], "Listener", "l", "configs[2].dynamic_listeners[0].active_state.listener", 3, 87);
    is(&r->items[3], "RouteConfiguration", "x", "configs[3].dynamic_route_configs[0].route_config", 4, 104);
    is(&r->items[4], "ClusterLoadAssignment", "a", "configs[4].dynamic_endpoint_configs[0].endpoint_config",
       5, 51);
    is(&r->items[5], "Secret", "k", "configs[5].dynamic_active_secrets[0].secret", 5, 129);
    mesh_resources_free(r);
}

static void istio(const char *path, unsigned lds, unsigned cds, unsigned rds, unsigned eds) {
    struct warnings w = {0};
    size_t len;
    char *text = file_text(path, &len);
    struct mesh_resources *r = read_text(text, len, false, &w);
    free(text); /* nothing may point into it */
    unsigned n[4] = {0};
    for (size_t i = 0; i < r->n; i++) {
        struct mesh_why why = {""};
        n[0] += r->items[i].type == &mesh__listener__listener__descriptor;
        n[1] += r->items[i].type == &mesh__cluster__cluster__descriptor;
        n[3] += r->items[i].type == &mesh__endpoint__cluster_load_assignment__descriptor;
        cr_expect_eq(mesh_proto_check(r->items[i].msg, r->items[i].path, &why), 0, "%s", why.text);
    }
    cr_expect(n[0] == lds && n[1] == cds && n[3] == eds && r->n == lds + cds + rds + eds, "%s: %zu", path,
              r->n);
    cr_expect(strstr(w.last, "its type is not known"), "%s", w.last);
    mesh_resources_free(r);
}

Test(resources, what_istio_sends_is_read_whole) {
    istio("tests/data/istio/sidecar.json", 7, 16, 3, 11);
    istio("tests/data/istio/grpc.json", 4, 2, 3, 2);
}

Test(resources, other_types_are_warned_of) {
    struct warnings w = {0};
    const char *text = "resources:\n- '@type': x/istio.networking.nds.v1.Other\n- '@type': "
                       "x/google.protobuf.Empty\n  value: {}\n";
    struct mesh_resources *r = read_text(text, strlen(text), false, &w);
    cr_expect_eq(r->n, 0);
    cr_expect_eq(w.n, 2);
    cr_expect_str_eq(w.last, "3:12 resources[1]: not a type of resource that is used");
    mesh_resources_free(r);
}

Test(resources, empty_lists_are_an_empty_view) {
    struct mesh_resources *r = read_all("services: {}\nresources: []\n");
    cr_expect_eq(r->n, 0);
    mesh_resources_free(r);
    r = read_all("resources:\n");
    cr_expect_eq(r->n, 0);
    mesh_resources_free(r);
}

Test(resources, text_that_says_nothing_is_refused) {
    fails("", MESH_E_INVALID, "f:1:1: wants services, resources or static_resources");
    fails("[]", MESH_E_INVALID, "f:1:1: wants services, resources or static_resources");
    fails("node: {}", MESH_E_INVALID, "f:1:1: wants services, resources or static_resources");
    fails("resources: [", MESH_E_SYNTAX, "f:2:1: did not find expected node content");
    fails("resources: {}", MESH_E_INVALID, "f:1:12: resources: wants a list");
    fails("configs: {}", MESH_E_INVALID, "f:1:10: configs: wants a list");
    fails("resources: [1]", MESH_E_INVALID, "f:1:13: resources[0]: wants a map");
    fails("resources: [{name: x}]", MESH_E_INVALID, "f:1:13: resources[0]: wants an \"@type\"");
    fails("CDS: [{'@type': x/envoy.config.listener.v3.Listener}]", MESH_E_INVALID,
          "f:1:17: CDS[0]: is of another type than its list");
    fails("CDS: [{type: EDS}]", MESH_E_INVALID, "f:1:7: CDS[0]: wants a name");
}

Test(resources, second_of_a_name_is_refused) {
    fails("CDS:\n- name: a\n- name: b\nresources:\n- {" CLUSTER_TYPE ", name: a}\n", MESH_E_INVALID,
          "f:5:3: resources[0]: there is a Cluster \"a\" in line 2 already");
    struct mesh_resources *r = read_all("CDS: [{name: a}]\nEDS: [{cluster_name: a}]\nLDS: [{}, {}]\n");
    cr_expect_eq(r->n, 4); /* other types; listeners need no name */
    mesh_resources_free(r);
}

Test(resources, refused_field_fails_all_or_marks_its_resource) {
    const char *text =
        "CDS:\n- name: a\n  upstream_config: {name: x}\n  transport_socket_matcher: {}\n- name: b\n";
    fails(text, MESH_E_UNSUPPORTED, "f:3:3: CDS[0].upstream_config: custom upstreams are not supported");
    struct mesh_resources *r = read_text(text, strlen(text), true, NULL);
    cr_assert_eq(r->n, 2);
    cr_expect_str_eq(r->items[0].refused,
                     "f:3:3: CDS[0].upstream_config: custom upstreams are not supported");
    cr_expect_str_eq(r->items[0].name, "a");
    cr_expect_null(r->items[1].refused);
    mesh_resources_free(r);
}

Test(resources, refused_field_inside_an_any_marks_its_resource) {
    const char *text = "CDS:\n- name: a\n  transport_socket:\n    typed_config:\n      '@type': "
                       "x/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n"
                       "      common_tls_context: {validation_context: {crl: {}}}\n";
    struct mesh_resources *r = read_text(text, strlen(text), true, NULL);
    cr_assert(r->items[0].refused);
    cr_expect(strstr(r->items[0].refused, "f:6:49: CDS[0]"), "%s", r->items[0].refused);
    const Mesh__Cluster__Cluster *c = (void *)r->items[0].msg;
    cr_expect_gt(c->transport_socket->typed_config->value.len, 0);
    mesh_resources_free(r);
}

Test(resources, keeping_refused_ones_forgives_nothing_else) {
    struct mesh_read_opts opts = {.file = "f", .keep_refused = true};
    const char *text = "CDS: [{name: a, upstream_config: {}, connect_timeout: 5}]";
    struct mesh_resources *r = NULL;
    struct mesh_why why = {""};
    cr_expect_eq(mesh_resources_read(text, strlen(text), &opts, &r, &why), MESH_E_INVALID);
    cr_expect_str_eq(why.text, "f:1:55: CDS[0].connect_timeout: wants a duration in seconds, as in \"1.5s\"");
}

Test(resources, freeing_nothing_is_allowed) {
    mesh_resources_free(NULL);
    mesh_doc_free(NULL);
}
