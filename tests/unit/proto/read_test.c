/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/endpoint.pb-c.h"
#include "proto/listener.pb-c.h"
#include "proto/pb.pb-c.h"
#include "proto/route.pb-c.h"
#include "proto/tls.pb-c.h"
#include "tests/unit/proto/reading.h"

#define CLUSTER "envoy.config.cluster.v3.Cluster"
#define LISTENER "envoy.config.listener.v3.Listener"
#define ROUTES "envoy.config.route.v3.RouteConfiguration"
#define UTLS "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"

Test(read, both_spellings_name_a_field) {
    Mesh__Cluster__Cluster *m =
        must_read(CLUSTER, "{connect_timeout: 1s, lbPolicy: RANDOM, outlierDetection: {consecutive5xx: 7}}");
    cr_expect_eq(m->connect_timeout->seconds, 1);
    cr_expect_eq(m->lb_policy, MESH__CLUSTER__CLUSTER__LB_POLICY__RANDOM);
    cr_expect_eq(m->outlier_detection->consecutive_5xx->value, 7);
    drop(m);
    m = must_read(CLUSTER, "{outlier_detection: {consecutive_5xx: 8}}");
    cr_expect_eq(m->outlier_detection->consecutive_5xx->value, 8);
    drop(m);
    read_fails(CLUSTER, "{lbPolicy: RANDOM,\n lb_policy: RANDOM}", MESH_E_INVALID,
               "f:2:2: lb_policy: is given under both of its names");
}

Test(read, absent_text_is_empty_and_absent_message_is_null) {
    Mesh__Cluster__Cluster *m = must_read(CLUSTER, "{}");
    cr_expect_str_eq(m->name, "");
    cr_expect_null(m->connect_timeout);
    cr_expect_eq(m->cluster_discovery_type_case, MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE__NOT_SET);
    drop(m);
}

Test(read, null_is_unset) {
    Mesh__Cluster__Cluster *m = must_read(CLUSTER, "{name: null, connect_timeout: ~, filters: }");
    cr_expect_str_eq(m->name, "");
    cr_expect_null(m->connect_timeout);
    drop(m);
    read_fails(CLUSTER, "lrs_report_endpoint_metrics: [a, null]", MESH_E_INVALID,
               "f:1:34: lrs_report_endpoint_metrics[1]: null has no meaning here");
}

Test(read, second_alternative_of_a_oneof_is_refused) {
    Mesh__Cluster__Cluster *m = must_read(CLUSTER, "{type: STATIC}");
    cr_expect_eq(m->cluster_discovery_type_case, MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE);
    drop(m);
    read_fails(CLUSTER, "type: EDS\ncluster_type: {name: x}", MESH_E_INVALID,
               "f:2:1: cluster_type: another of its alternatives is set too");
    m = must_read(CLUSTER, "{type: EDS, cluster_type: null}");
    cr_expect_eq(m->type, MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__EDS);
    drop(m);
}

Test(read, alternative_that_holds_a_default_is_set) {
    Mesh__Route__RouteConfiguration *m =
        must_read(ROUTES, "virtual_hosts: [{routes: [{match: {prefix: ''}, non_forwarding_action: {}}]}]");
    cr_assert(m->n_virtual_hosts == 1 && m->virtual_hosts[0]->n_routes == 1);
    Mesh__Route__Route *r = m->virtual_hosts[0]->routes[0];
    cr_expect_eq(r->match->path_specifier_case, MESH__ROUTE__ROUTE_MATCH__PATH_SPECIFIER_PREFIX);
    cr_expect_str_eq(r->match->prefix, "");
    cr_expect_eq(r->action_case, MESH__ROUTE__ROUTE__ACTION_NON_FORWARDING_ACTION);
    cr_expect_not_null(r->non_forwarding_action);
    drop(m);
}

Test(read, wrong_shape_is_named_with_path_and_place) {
    read_fails(CLUSTER, "[]", MESH_E_INVALID, "f:1:1: wants a map");
    read_fails(CLUSTER, "x: 1\nload_assignment:\n  endpoints:\n  - lb_endpoints:\n    - endpoint: 5\n",
               MESH_E_INVALID, "f:5:17: load_assignment.endpoints[0].lb_endpoints[0].endpoint: wants a map");
    read_fails(CLUSTER, "load_assignment: {endpoints: {}}", MESH_E_INVALID,
               "f:1:30: load_assignment.endpoints: wants a list");
    read_fails(CLUSTER, "metadata: {filter_metadata: []}", MESH_E_INVALID,
               "f:1:29: metadata.filter_metadata: wants a map");
    read_fails(CLUSTER, "metadata: {filter_metadata: {a.b: []}}", MESH_E_INVALID,
               "f:1:35: metadata.filter_metadata[a.b]: wants a map");
}

Test(read, long_path_keeps_its_ends) {
    read_fails(LISTENER,
               "filter_chains: [{transport_socket: {typed_config: {'@type': "
               "a/envoy.extensions.transport_sockets.tls.v3."
               "DownstreamTlsContext, common_tls_context: {combined_validation_context: "
               "{default_validation_context: "
               "{match_subject_alt_names: [{exact: 1}]}}}}}}]",
               MESH_E_INVALID,
               "f:1:241: "
               "filter_chains[0].transport_socket.typed_conf....default_validation_context.match_subject_alt_"
               "names[0].exact: "
               "wants a text: write \"1\" in quotes");
}

Test(read, unknown_field_is_warned_of_and_passed_over) {
    struct warnings w = {0};
    struct mesh_why why = {""};
    ProtobufCMessage *m;
    cr_assert_eq(try_read(CLUSTER, "name: x\nload_assignment:\n  endpoints:\n  - nmae: 1\n", &m, &why, &w),
                 0);
    cr_expect_eq(w.n, 1);
    cr_expect_str_eq(w.last, "4:5 load_assignment.endpoints[0].nmae: not known");
    drop(m);
}

Test(read, field_that_the_subset_leaves_out_is_passed_over_in_silence) {
    struct warnings w = {0};
    struct mesh_why why = {""};
    ProtobufCMessage *m;
    cr_assert_eq(
        try_read(CLUSTER, "{per_connection_buffer_limit_bytes: 5, trackTimeoutBudgets: true}", &m, &why, &w),
        0);
    cr_expect_eq(w.n, 0, "%s", w.last);
    drop(m);
    cr_assert_eq(
        try_read(CLUSTER, "lrs_server: {api_config_source: {grpc_services: [{any_thing: 1}]}}", &m, &why, &w),
        0);
    cr_expect_eq(w.n, 0, "%s", w.last);
    drop(m);
}

Test(read, guarded_field_is_refused_unless_it_says_nothing) {
    read_fails(UTLS, "common_tls_context:\n  validation_context:\n    crl: {filename: x}\n",
               MESH_E_UNSUPPORTED,
               "f:3:5: common_tls_context.validation_context.crl: revocation lists are not read");
    read_fails(CLUSTER, "{upstreamConfig: {}}", MESH_E_UNSUPPORTED,
               "f:1:2: upstream_config: custom upstreams are not supported");
    read_fails("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "require_sni: true",
               MESH_E_UNSUPPORTED, "f:1:1: require_sni: a missing server name is not refused");
    drop(must_read("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                   "{require_sni: false, ocsp_staple_policy: LENIENT_STAPLING}"));
    drop(must_read(UTLS,
                   "common_tls_context: {validation_context: {verify_certificate_hash: [], crl: null}}"));
    drop(must_read(LISTENER, "{use_original_dst: true, listener_filters: [{name: x}]}"));
}

Test(read, guarded_field_is_found_inside_an_any) {
    read_fails(CLUSTER,
               "transport_socket:\n  name: tls\n  typed_config:\n    '@type': type.googleapis.com/" UTLS
               "\n    common_tls_context: {custom_handshaker: {name: x}}\n",
               MESH_E_UNSUPPORTED,
               "f:5:26: transport_socket.typed_config.common_tls_context.custom_handshaker: custom "
               "handshakers are not supported");
}

Test(read, maps_become_entries_in_order) {
    Mesh__Cluster__Cluster *m = must_read(CLUSTER, "metadata: {filter_metadata: {b: {x: 1}, a: {}}}");
    cr_assert_eq(m->metadata->n_filter_metadata, 2);
    cr_expect_str_eq(m->metadata->filter_metadata[0]->key, "b");
    cr_expect_str_eq(m->metadata->filter_metadata[0]->value->fields[0]->key, "x");
    cr_expect_eq(m->metadata->filter_metadata[0]->value->fields[0]->value->number_value, 1);
    cr_expect_str_eq(m->metadata->filter_metadata[1]->key, "a");
    cr_expect_not_null(m->metadata->filter_metadata[1]->value);
    drop(m);
}

/* Struct, entry and value are three messages a level, before which there are two or four. What is read can be
 * unpacked. */
static void nested(const char *type, const char *start, const char *end, int levels, int err) {
    char text[512];
    strcpy(text, start);
    for (int i = 0; i < levels; i++)
        strcat(text, "{k: ");
    strcat(text, "1");
    for (int i = 0; i < levels; i++)
        strcat(text, "}");
    strcat(text, end);
    ProtobufCMessage *m = NULL;
    struct mesh_why why = {""};
    cr_expect_eq(try_read(type, text, &m, &why, NULL), err, "%d: %s", levels, why.text);
    if (m) {
        uint8_t wire[1024];
        ProtobufCMessage *back;
        size_t n = protobuf_c_message_pack(m, wire);
        cr_assert_eq(mesh_proto_unpack(m->descriptor, wire, n, &back), 0,
                     "%d levels are read but not unpacked", levels);
        drop(back);
    }
    drop(m);
}

Test(read, depth_is_that_of_the_wire) {
    nested(CLUSTER, "metadata: {filter_metadata: {f: ", "}}", 9, 0);
    nested(CLUSTER, "metadata: {filter_metadata: {f: ", "}}", 10, MESH_E_LIMIT); /* a value is the 33rd */
    nested("google.protobuf.Value", "", "", 10, 0);
    nested("google.protobuf.Value", "", "", 11, MESH_E_LIMIT); /* an entry is */
}

Test(read, type_of_a_message_is_none_of_its_fields) {
    struct warnings w = {0};
    struct mesh_why why = {""};
    ProtobufCMessage *m;
    cr_assert_eq(
        try_read("google.protobuf.Any", "{'@type': x/envoy.config.core.v3.Address, pipe: {}}", &m, &why, &w),
        0);
    drop(m);
    cr_assert_eq(try_read(CLUSTER, "{'@type': x/" CLUSTER "}", &m, &why, &w), 0);
    drop(m);
    cr_expect_eq(w.n, 0, "%s", w.last);
}

/* Each step: one Any, and in it a policy of a policy. Five levels of text as well: 64 are allowed. */
static ProtobufCMessage *read_policies(int steps) {
    static const char open[] =
        "{policies: [{typed_extension_config: {typed_config: {'@type': x/envoy.extensions."
        "load_balancing_policies.wrr_locality.v3.WrrLocality, endpoint_picking_policy: ";
    char text[4096] = "load_balancing_policy: ";
    for (int i = 0; i < steps; i++)
        strcat(text, open);
    strcat(text, "{}");
    for (int i = 0; i < steps; i++)
        strcat(text, "}}}]}");
    return must_read(CLUSTER, text);
}

Test(read, inside_of_an_any_counts_anew) {
    drop(read_policies(12)); /* 2 + 5 * 12 messages */
}

static void *all_on_a_small_stack(void *arg) {
    ProtobufCMessage *m = read_policies(12);
    struct mesh_why why;
    char *text;
    *(int *)arg = mesh_proto_check(m, "", &why);
    if (!*(int *)arg)
        *(int *)arg = mesh_proto_print(m, true, 2, &text);
    free(text);
    drop(m);
    return NULL;
}

Test(read, deepest_text_fits_on_a_small_stack) {
    pthread_attr_t attr;
    pthread_t t;
    int err = 1;
    pthread_attr_init(&attr);
#if !defined(__SANITIZE_ADDRESS__)
    pthread_attr_setstacksize(&attr, 96 << 10);
#endif
    cr_assert_eq(pthread_create(&t, &attr, all_on_a_small_stack, &err), 0);
    pthread_join(t, NULL);
    cr_expect_eq(err, 0);
}

Test(read, path_of_the_caller_comes_first) {
    struct mesh_doc *doc = parse("{name: 1}");
    struct mesh_why why;
    ProtobufCMessage *m;
    cr_assert_eq(mesh_proto_read(mesh_doc_root(doc), mesh_proto_type(CLUSTER), "clusters[2]", NULL, &m, &why),
                 MESH_E_INVALID);
    cr_expect_str_eq(why.text, "view:1:8: clusters[2].name: wants a text: write \"1\" in quotes");
    mesh_doc_free(doc);
}
