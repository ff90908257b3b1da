/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/discovery.pb-c.h"
#include "proto/pb.pb-c.h"
#include "proto/tls.pb-c.h"
#include "tests/unit/proto/reading.h"

#define CLUSTER "envoy.config.cluster.v3.Cluster"
#define SECRET "envoy.extensions.transport_sockets.tls.v3.Secret"
#define VALUE "google.protobuf.Value"

static void prints(const char *type, const char *text, bool yaml, int indent, const char *expected) {
    ProtobufCMessage *m = must_read(type, text);
    char *out;
    cr_assert_eq(mesh_proto_print(m, yaml, indent, &out), 0);
    cr_expect_str_eq(out, expected, "%s", out);
    free(out);
    drop(m);
}

static const char sample[] =
    "{name: a, type: EDS, connect_timeout: 0.25s, metadata: {filter_metadata: {x: {k: [1, [], {a: b, c: d}, "
    "[x, y]], e: {}}}}, "
    "lrs_report_endpoint_metrics: ['on', b c], ring_hash_lb_config: {minimum_ring_size: 1024}}";

Test(print, json_on_one_line) {
    prints(CLUSTER, sample, false, 0,
           "{\"name\":\"a\",\"type\":\"EDS\",\"connect_timeout\":\"0.250s\",\"ring_hash_lb_config\":{"
           "\"minimum_ring_size\":\"1024\"},"
           "\"metadata\":{\"filter_metadata\":{\"x\":{\"k\":[1,[],{\"a\":\"b\",\"c\":\"d\"},[\"x\",\"y\"]],"
           "\"e\":{}}}},"
           "\"lrs_report_endpoint_metrics\":[\"on\",\"b c\"]}\n");
}

Test(print, json_with_indent) {
    prints(CLUSTER, "{name: a, filters: [{name: b}], common_lb_config: {}}", false, 2,
           "{\n  \"name\": \"a\",\n  \"common_lb_config\": {},\n  \"filters\": [\n    {\n      \"name\": "
           "\"b\"\n    }\n  ]\n}\n");
    prints(CLUSTER, "{}", false, 2, "{}\n");
}

Test(print, yaml_in_block_form) {
    prints(CLUSTER, sample, true, 2,
           "name: a\ntype: EDS\nconnect_timeout: \"0.250s\"\nring_hash_lb_config:\n  minimum_ring_size: "
           "\"1024\"\n"
           "metadata:\n  filter_metadata:\n    x:\n      k:\n        - 1\n        - []\n        - a: b\n     "
           "     c: d\n        - - x\n          - \"y\"\n"
           "      e: {}\nlrs_report_endpoint_metrics:\n  - \"on\"\n  - \"b c\"\n");
    prints(CLUSTER, "{filters: [{name: a}]}", true, 4, "filters:\n    -   name: a\n");
    prints(CLUSTER, "{}", true, 2, "{}\n");
    prints("google.protobuf.ListValue", "[a, {b: c}]", true, 0, "- a\n- b: c\n");
}

Test(print, texts_are_quoted_when_they_would_be_something_else) {
    static const char *const quoted[] = {"true", "Null", "NO", "y",   "1",        "1.5", ".inf", "~",  "-",
                                         "a ",   "a:",   "#a", "a b", "\xc3\xa9", "[",   "@a",   "0x1"},
                             *const plain[] = {
                                 "a", "yesterday", "n1", "a:b", "outbound|80||a.b", "spiffe://a/b", "a-b_c"};
    for (size_t i = 0; i < sizeof(quoted) / sizeof(quoted[0]); i++) {
        char text[64], out[64];
        snprintf(text, sizeof(text), "\"%s\"", quoted[i]);
        snprintf(out, sizeof(out), "\"%s\"\n", quoted[i]);
        prints(VALUE, text, true, 2, out);
    }
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        char out[64];
        snprintf(out, sizeof(out), "%s\n", plain[i]);
        prints(VALUE, plain[i], true, 2, out);
    }
}

Test(print, characters_that_a_reader_refuses_are_escaped) {
    static const char text[] =
        "\"\\b\\f\\n\\r\\t\\\"\\\\\\u0001\\x7f\\u0085\\u009f\\u2028\\uFEFF\\uFFFF\\u00e9\\U0001F600\"",
                      out[] = "\"\\b\\f\\n\\r\\t\\\"\\\\\\u0001\\u007f\\u0085\\u009f\\u2028\\ufeff\\uffff\xc3"
                              "\xa9\xf0\x9f\x98\x80\"\n";
    prints(VALUE, text, false, 0, out);
    prints(VALUE, text, true, 2, out);
}

Test(print, numbers_keep_their_value) {
    prints(VALUE, "[0.1, 1e300, -0.0, 5, .5]", false, 0, "[0.1,1e+300,-0,5,0.5]\n");
    prints("google.protobuf.DoubleValue", ".inf", false, 0, "\"Infinity\"\n");
    prints("google.protobuf.FloatValue", "0.1", false, 0, "0.1\n");
    prints("google.protobuf.Int64Value", "-5", false, 0, "\"-5\"\n");
    prints("google.protobuf.UInt64Value", "18446744073709551615", false, 0, "\"18446744073709551615\"\n");
    prints("google.protobuf.Int32Value", "-5", false, 0, "-5\n");
    prints("google.protobuf.BytesValue", "'-_8'", false, 0, "\"+/8=\"\n");
    prints("google.protobuf.BoolValue", "false", false, 0, "false\n");
    prints(CLUSTER, "{lb_policy: 99}", false, 0, "{\"lb_policy\":99}\n");
}

Test(print, durations_and_times_have_groups_of_three) {
    prints("google.protobuf.Duration", "1s", false, 0, "\"1s\"\n");
    prints("google.protobuf.Duration", "1.5s", false, 0, "\"1.500s\"\n");
    prints("google.protobuf.Duration", "0.000001s", false, 0, "\"0.000001s\"\n");
    prints("google.protobuf.Duration", "0.000000001s", false, 0, "\"0.000000001s\"\n");
    prints("google.protobuf.Timestamp", "2026-11-22T19:30:00.25+01:30", false, 0,
           "\"2026-11-22T18:00:00.250Z\"\n");
    prints("google.protobuf.Timestamp", "0001-01-01T00:00:00Z", false, 0, "\"0001-01-01T00:00:00Z\"\n");
    prints("google.protobuf.Timestamp", "9999-12-31T23:59:59Z", false, 0, "\"9999-12-31T23:59:59Z\"\n");
    prints("google.protobuf.Timestamp", "2024-02-29T00:00:00Z", false, 0, "\"2024-02-29T00:00:00Z\"\n");
    prints("google.protobuf.Timestamp", "1969-12-31T23:59:59Z", false, 0, "\"1969-12-31T23:59:59Z\"\n");
}

Test(print, any_is_expanded_when_it_can_be) {
    prints("google.protobuf.Any", "{'@type': x/envoy.config.core.v3.Address, pipe: {path: /x}}", false, 0,
           "{\"@type\":\"x/envoy.config.core.v3.Address\",\"pipe\":{\"path\":\"/x\"}}\n");
    prints("google.protobuf.Any", "{'@type': x/google.protobuf.Duration, value: 1s}", false, 0,
           "{\"@type\":\"x/google.protobuf.Duration\",\"value\":\"1s\"}\n");
    prints("google.protobuf.Any", "{'@type': x/foo.Bar}", true, 2, "\"@type\": x/foo.Bar\n");
    Mesh__Pb__Any any = MESH__PB__ANY__INIT;
    char *out;
    any.type_url = (char[]){"x/envoy.config.core.v3.Address"};
    any.value = (ProtobufCBinaryData){2, (uint8_t *)"\xff\xff"};
    cr_assert_eq(mesh_proto_print(&any.base, false, 0, &out), 0);
    cr_expect_str_eq(out, "{\"@type\":\"x/envoy.config.core.v3.Address\",\"value\":\"//8=\"}\n");
    free(out);
}

Test(print, keys_and_passwords_are_redacted) {
    prints(SECRET,
           "{name: s, tls_certificate: {certificate_chain: {inline_string: CHAIN}, private_key: "
           "{inline_string: KEY}, password: {inline_bytes: S0VZ}}}",
           false, 0,
           "{\"name\":\"s\",\"tls_certificate\":{\"certificate_chain\":{\"inline_string\":\"CHAIN\"},"
           "\"private_key\":{\"inline_string\":\"[redacted]\"},\"password\":{\"inline_bytes\":\"[redacted]\"}"
           "}}\n");
    prints(SECRET, "{tls_certificate: {private_key: {filename: /key.pem}}}", false, 0,
           "{\"tls_certificate\":{\"private_key\":{\"filename\":\"/key.pem\"}}}\n");
    prints(SECRET, "{session_ticket_keys: {keys: [{inline_bytes: S0VZ}, {inline_string: KEY}]}}", false, 0,
           "{\"session_ticket_keys\":{\"keys\":[{\"inline_bytes\":\"[redacted]\"},{\"inline_string\":\"["
           "redacted]\"}]}}\n");
    prints(SECRET, "{generic_secret: {secret: {inline_string: KEY}, secrets: {k: {inline_string: KEY}}}}",
           false, 0,
           "{\"generic_secret\":{\"secret\":{\"inline_string\":\"[redacted]\"},\"secrets\":{\"k\":{\"inline_"
           "string\":\"[redacted]\"}}}}\n");
    prints("envoy.service.discovery.v3.Resource",
           "{resource: {'@type': x/" SECRET ", tls_certificate: {private_key: {inline_string: KEY}}}}", false,
           0,
           "{\"resource\":{\"@type\":\"x/" SECRET
           "\",\"tls_certificate\":{\"private_key\":{\"inline_string\":\"[redacted]\"}}}}\n");
    prints("envoy.config.cluster.v3.Cluster", "{health_checks: []}", false, 0, "{}\n");
}

Test(print, discovery_response_prints_as_a_view_file) {
    struct mesh_read_opts opts = {.file = "f"};
    struct mesh_resources *r;
    Mesh__Pb__Any *any =
                      must_read("google.protobuf.Any", "{'@type': type.googleapis.com/" CLUSTER ", name: a}"),
                  *anys[] = {any};
    Mesh__Discovery__DiscoveryResponse d = MESH__DISCOVERY__DISCOVERY_RESPONSE__INIT;
    char *out;
    d.n_resources = 1;
    d.resources = anys;
    cr_assert_eq(mesh_proto_print(&d.base, true, 2, &out), 0);
    cr_expect_str_eq(out, "resources:\n  - \"@type\": type.googleapis.com/" CLUSTER "\n    name: a\n");
    cr_assert_eq(mesh_resources_read(out, strlen(out), &opts, &r, NULL), 0);
    cr_expect_str_eq(r->items[0].name, "a");
    mesh_resources_free(r);
    free(out);
    drop(any);
}
