/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/pb.pb-c.h"
#include "proto/tls.pb-c.h"
#include "tests/unit/proto/reading.h"

#define DUR "google.protobuf.Duration"
#define TIM "google.protobuf.Timestamp"
#define ANY "google.protobuf.Any"
#define VAL "google.protobuf.Value"

static void duration_is(const char *text, int64_t seconds, int32_t nanos) {
    Mesh__Pb__Duration *m = must_read(DUR, text);
    cr_expect(m->seconds == seconds && m->nanos == nanos, "%s is %ld %d", text, (long)m->seconds, m->nanos);
    drop(m);
}

Test(special, durations_are_seconds_with_a_fraction) {
    duration_is("0s", 0, 0);
    duration_is("1.5s", 1, 500000000);
    duration_is("\"0.000000001s\"", 0, 1);
    duration_is("-0s", 0, 0);
    duration_is("315576000000s", 315576000000, 0);
}

Test(special, other_durations_are_refused) {
    static const char *const bad[] = {"5",    "250ms", "1.s", ".5s", "\"1s \"", "s", "1.0000000001s",
                                      "\"\"", "1e3s",  "+1s", "1S",  "1m",      "[]"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        read_fails(DUR, bad[i], MESH_E_INVALID, "f:1:1: wants a duration in seconds, as in \"1.5s\"");
    read_fails(DUR, "-1s", MESH_E_INVALID, "f:1:1: -1s is out of range");
    read_fails(DUR, "-0.1s", MESH_E_INVALID, "f:1:1: -0.1s is out of range");
    read_fails(DUR, "315576000001s", MESH_E_INVALID, "f:1:1: 315576000001s is out of range");
    read_fails(DUR, "315576000000.1s", MESH_E_INVALID, "f:1:1: 315576000000.1s is out of range");
}

static void time_is(const char *text, int64_t seconds, int32_t nanos) {
    Mesh__Pb__Timestamp *m = must_read(TIM, text);
    cr_expect(m->seconds == seconds && m->nanos == nanos, "%s is %ld %d", text, (long)m->seconds, m->nanos);
    drop(m);
}

Test(special, times_are_rfc_3339) {
    time_is("1970-01-01T00:00:00Z", 0, 0);
    time_is("2026-11-22T18:00:00.25Z", 1795370400, 250000000);
    time_is("2026-11-22T19:30:00+01:30", 1795370400, 0);
    time_is("2026-11-22T16:30:00-01:30", 1795370400, 0);
    time_is("0001-01-01T00:00:00Z", -62135596800, 0);
    time_is("9999-12-31T23:59:59Z", 253402300799, 0);
    time_is("2000-02-29T00:00:00z", 951782400, 0);
    static const char *const bad[] = {"5",
                                      "2026-11-22",
                                      "2026-11-22T18:00:00",
                                      "2026-13-22T18:00:00Z",
                                      "2026-11-22T24:00:00Z",
                                      "0000-01-01T00:00:00Z",
                                      "2026-11-22 18:00:00Z",
                                      "2026-1-22T18:00:00Z",
                                      "2026-11-22T18:00:00Zx",
                                      "2026-11-22T18:00:00+1:00",
                                      "2026-11-00T18:00:00Z"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        read_fails(TIM, bad[i], MESH_E_INVALID, "f:1:1: wants a time, as in \"2026-01-31T12:00:00Z\"");
}

Test(special, values_take_any_json) {
    Mesh__Pb__Value *m = must_read(VAL, "{a: null, b: 1.5, c: x, d: true, e: {}, f: [1, [null]]}");
    cr_assert_eq(m->kind_case, MESH__PB__VALUE__KIND_STRUCT_VALUE);
    Mesh__Pb__Struct__FieldsEntry **f = m->struct_value->fields;
    cr_expect_eq(f[0]->value->kind_case, MESH__PB__VALUE__KIND_NULL_VALUE);
    cr_expect_eq(f[1]->value->number_value, 1.5);
    cr_expect_str_eq(f[2]->value->string_value, "x");
    cr_expect(f[3]->value->bool_value);
    cr_expect_eq(f[4]->value->struct_value->n_fields, 0);
    cr_assert_eq(f[5]->value->list_value->n_values, 2);
    cr_expect_eq(f[5]->value->list_value->values[1]->list_value->values[0]->kind_case,
                 MESH__PB__VALUE__KIND_NULL_VALUE);
    drop(m);
    m = must_read(VAL, "null");
    cr_expect_eq(m->kind_case, MESH__PB__VALUE__KIND_NULL_VALUE);
    drop(m);
}

Test(special, value_that_is_no_json_number_is_refused) {
    read_fails(VAL, "[.nan]", MESH_E_INVALID, "f:1:2: [0]: JSON has no such number");
    read_fails(VAL, "-.inf", MESH_E_INVALID, "f:1:1: JSON has no such number");
}

Test(special, any_holds_the_packed_message) {
    Mesh__Pb__Any *m =
        must_read(ANY, "{'@type': type.googleapis.com/envoy.config.core.v3.Address, pipe: {path: /x}}");
    cr_expect_str_eq(m->type_url, "type.googleapis.com/envoy.config.core.v3.Address");
    cr_expect(m->value.len == 6 && !memcmp(m->value.data, "\x12\x04\x0a\x02/x", 6));
    drop(m);
    m = must_read(ANY, "{pipe: {}, '@type': x/envoy.config.core.v3.Address}");
    cr_expect_eq(m->value.len, 2);
    drop(m);
    m = must_read(ANY, "{}");
    cr_expect_str_eq(m->type_url, "");
    drop(m);
}

Test(special, special_form_in_an_any_stands_under_value) {
    Mesh__Pb__Any *m = must_read(ANY, "{'@type': x/google.protobuf.Duration, value: 1s}");
    cr_expect(m->value.len == 2 && !memcmp(m->value.data, "\x08\x01", 2));
    drop(m);
    m = must_read(ANY, "{'@type': x/google.protobuf.StringValue, value: a}");
    cr_expect(m->value.len == 3 && !memcmp(m->value.data,
                                           "\x0a\x01"
                                           "a",
                                           3));
    drop(m);
    m = must_read(ANY, "{'@type': x/google.protobuf.Empty, value: {}}");
    cr_expect_eq(m->value.len, 0);
    drop(m);
    read_fails(ANY, "{'@type': x/google.protobuf.Duration}", MESH_E_INVALID,
               "f:1:1: wants a \"value\" beside its \"@type\"");
}

Test(special, any_of_unknown_type_is_kept_empty_and_warned_of) {
    struct warnings w = {0};
    struct mesh_why why = {""};
    ProtobufCMessage *m;
    cr_assert_eq(try_read("envoy.config.core.v3.TypedExtensionConfig",
                          "{name: x, typed_config: {\n'@type': type.googleapis.com/foo.Bar, a: {b: [1]}}}",
                          &m, &why, &w),
                 0);
    const Mesh__Pb__Any *any = ((Mesh__Core__TypedExtensionConfig *)m)->typed_config;
    cr_expect_str_eq(any->type_url, "type.googleapis.com/foo.Bar");
    cr_expect_eq(any->value.len, 0);
    cr_expect_eq(w.n, 1);
    cr_expect_str_eq(w.last, "2:10 typed_config: its type is not known");
    drop(m);
}

Test(special, any_without_a_type_is_refused) {
    read_fails(ANY, "{a: 1}", MESH_E_INVALID, "f:1:1: wants an \"@type\"");
    read_fails(ANY, "{'@type': 5}", MESH_E_INVALID, "f:1:11: wants an \"@type\"");
    read_fails(ANY, "[]", MESH_E_INVALID, "f:1:1: wants a map with \"@type\"");
}

Test(special, typed_struct_is_a_known_type) {
    Mesh__Pb__Any *m =
        must_read(ANY, "{'@type': x/udpa.type.v1.TypedStruct, type_url: x/a.B, value: {k: v}}");
    cr_expect_gt(m->value.len, 7);
    drop(m);
}
