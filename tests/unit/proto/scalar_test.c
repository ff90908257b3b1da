/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <math.h>

#include "proto/inner.h"
#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/pb.pb-c.h"
#include "proto/route.pb-c.h"
#include "tests/unit/proto/reading.h"

#define U32 "google.protobuf.UInt32Value"
#define I64 "google.protobuf.Int64Value"
#define DBL "google.protobuf.DoubleValue"
#define FLT "google.protobuf.FloatValue"
#define BYT "google.protobuf.BytesValue"
#define BOO "google.protobuf.BoolValue"
#define STR "google.protobuf.StringValue"

static void u32_is(const char *text, uint32_t v) {
    Mesh__Pb__UInt32Value *m = must_read(U32, text);
    cr_expect_eq(m->value, v, "%s is %u", text, m->value);
    drop(m);
}

static void i64_is(const char *text, int64_t v) {
    Mesh__Pb__Int64Value *m = must_read(I64, text);
    cr_expect_eq(m->value, v, "%s is %ld", text, (long)m->value);
    drop(m);
}

static double dbl(const char *text) {
    Mesh__Pb__DoubleValue *m = must_read(DBL, text);
    double v = m->value;
    drop(m);
    return v;
}

Test(scalar, whole_numbers_are_read_in_all_their_forms) {
    u32_is("0", 0);
    u32_is("4294967295", UINT32_MAX);
    u32_is("\"42\"", 42);
    u32_is("010", 10);
    u32_is("0x1f", 31);
    u32_is("0o17", 15);
    u32_is("1e3", 1000);
    u32_is("5.0", 5);
    u32_is("-0", 0);
    i64_is("\"-9223372036854775808\"", INT64_MIN);
    i64_is("9223372036854775807", INT64_MAX);
    i64_is("-3", -3);
}

Test(scalar, numbers_out_of_range_are_refused) {
    read_fails(U32, "4294967296", MESH_E_INVALID, "f:1:1: 4294967296 is out of range");
    read_fails(U32, "-1", MESH_E_INVALID, "f:1:1: -1 is out of range");
    read_fails(I64, "9223372036854775808", MESH_E_INVALID, "f:1:1: 9223372036854775808 is out of range");
    read_fails(I64, "-9223372036854775809", MESH_E_INVALID, "f:1:1: -9223372036854775809 is out of range");
    read_fails("google.protobuf.Int32Value", "2147483648", MESH_E_INVALID,
               "f:1:1: 2147483648 is out of range");
    read_fails("google.protobuf.Int32Value", "-2147483649", MESH_E_INVALID,
               "f:1:1: -2147483649 is out of range");
    read_fails("google.protobuf.UInt64Value", "18446744073709551616", MESH_E_INVALID,
               "f:1:1: wants a whole number, not a number");
    read_fails(U32, "1.5", MESH_E_INVALID, "f:1:1: wants a whole number, not a number");
    read_fails(U32, "\"\"", MESH_E_INVALID, "f:1:1: wants a whole number, not a text");
    read_fails(U32, "\" 1\"", MESH_E_INVALID, "f:1:1: wants a whole number, not a text");
    read_fails(U32, "\"+-1\"", MESH_E_INVALID, "f:1:1: wants a whole number, not a text");
    read_fails(U32, "true", MESH_E_INVALID, "f:1:1: wants a whole number, not a boolean");
    read_fails(U32, "[1]", MESH_E_INVALID, "f:1:1: wants a whole number, not a list");
}

Test(scalar, doubles_know_their_words) {
    cr_expect_eq(dbl("1.5"), 1.5);
    cr_expect_eq(dbl("\"-2e-3\""), -2e-3);
    cr_expect_eq(dbl("0x10"), 16);
    cr_expect(isnan(dbl("\"NaN\"")));
    cr_expect(isnan(dbl(".nan")));
    cr_expect_eq(dbl("\"Infinity\""), (double)INFINITY);
    cr_expect_eq(dbl("-.inf"), (double)-INFINITY);
    read_fails(DBL, "1e999", MESH_E_INVALID, "f:1:1: wants a number that can be held, not a number");
    read_fails(DBL, "\"0x\"", MESH_E_INVALID, "f:1:1: wants a number that can be held, not a text");
    read_fails(DBL, "\"nan\"", MESH_E_INVALID, "f:1:1: wants a number that can be held, not a text");
    read_fails(DBL, "{}", MESH_E_INVALID, "f:1:1: wants a number, not a map");
    read_fails(FLT, "1e39", MESH_E_INVALID, "f:1:1: 1e39 is out of range");
}

/* A host program may run in a locale with a decimal comma; the case is void where none is installed. */
Test(scalar, host_locale_changes_nothing) {
    char text[32];
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8"))
        cr_skip_test("no locale with a decimal comma");
    cr_expect_eq(dbl("1.5"), 1.5);
    mesh_double_to_text(1.5, false, text);
    cr_expect_str_eq(text, "1.5");
}

Test(scalar, doubles_print_as_short_as_they_read_back) {
    static const struct {
        double v;
        const char *text;
    } cases[] = {{0.1, "0.1"}, {1.0 / 3, "0.3333333333333333"}, {1e22, "1e+22"}, {-5, "-5"},
                 {NAN, "NaN"}, {-INFINITY, "-Infinity"}};
    char text[32];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mesh_double_to_text(cases[i].v, false, text);
        cr_expect_str_eq(text, cases[i].text, "%s", text);
    }
    mesh_double_to_text((double)0.1f, true, text);
    cr_expect_str_eq(text, "0.1", "%s", text);
}

Test(scalar, booleans_take_the_words_that_yaml_1_1_had) {
    static const char *const yes[] = {"true", "True", "yes", "ON", "\"true\""}, *const no[] = {"false", "off",
                                                                                               "No", "OFF",
                                                                                               "\"false\""};
    for (size_t i = 0; i < 5; i++) {
        Mesh__Pb__BoolValue *m = must_read(BOO, yes[i]);
        cr_expect(m->value, "%s", yes[i]);
        drop(m);
    }
    for (size_t i = 0; i < 5; i++) {
        Mesh__Pb__BoolValue *m = must_read(BOO, no[i]);
        cr_expect_not(m->value, "%s", no[i]);
        drop(m);
    }
    read_fails(BOO, "1", MESH_E_INVALID, "f:1:1: wants true or false, not a number");
    read_fails(BOO, "y", MESH_E_INVALID, "f:1:1: wants true or false, not a text");
}

Test(scalar, texts_must_be_texts) {
    Mesh__Pb__StringValue *m = must_read(STR, "off");
    cr_expect_str_eq(m->value, "off");
    drop(m);
    read_fails(STR, "1.20", MESH_E_INVALID, "f:1:1: wants a text: write \"1.20\" in quotes");
    read_fails(STR, "true", MESH_E_INVALID, "f:1:1: wants a text: write \"true\" in quotes");
    read_fails(STR, "[]", MESH_E_INVALID, "f:1:1: wants a text, not a list");
}

static void bytes_are(const char *text, const char *bytes, size_t n) {
    Mesh__Pb__BytesValue *m = must_read(BYT, text);
    cr_expect(m->value.len == n && (!n || !memcmp(m->value.data, bytes, n)), "%s: %zu bytes", text,
              m->value.len);
    drop(m);
}

Test(scalar, bytes_are_base64_of_either_alphabet) {
    bytes_are("\"\"", "", 0);
    bytes_are("\"AA==\"", "\0", 1);
    bytes_are("\"AA\"", "\0", 1);
    bytes_are("aGVsbG8=", "hello", 5);
    bytes_are("aGVsbG8", "hello", 5);
    bytes_are("\"+/8=\"", "\xfb\xff", 2);
    bytes_are("\"-_8\"", "\xfb\xff", 2);
    bytes_are("1234", "\xd7\x6d\xf8", 3);
    read_fails(BYT, "a", MESH_E_INVALID, "f:1:1: is not base64");
    read_fails(BYT, "\"AB==\"", MESH_E_INVALID, "f:1:1: is not base64");
    read_fails(BYT, "\"A===\"", MESH_E_INVALID, "f:1:1: is not base64");
    read_fails(BYT, "\"AA=\"", MESH_E_INVALID, "f:1:1: wants base64, not a text");
    read_fails(BYT, "\"==\"", MESH_E_INVALID, "f:1:1: wants base64, not a text");
    read_fails(BYT, "\"AAA AA\"", MESH_E_INVALID, "f:1:1: is not base64");
    read_fails(BYT, "[]", MESH_E_INVALID, "f:1:1: wants base64, not a list");
}

Test(scalar, enums_go_by_name_or_number) {
    Mesh__Cluster__Cluster *m =
        must_read("envoy.config.cluster.v3.Cluster", "{lb_policy: MAGLEV, dns_lookup_family: 3}");
    cr_expect_eq(m->lb_policy, MESH__CLUSTER__CLUSTER__LB_POLICY__MAGLEV);
    cr_expect_eq(m->dns_lookup_family, MESH__CLUSTER__CLUSTER__DNS_LOOKUP_FAMILY__V4_PREFERRED);
    drop(m);
    m = must_read("envoy.config.cluster.v3.Cluster", "lb_policy: 99");
    cr_expect_eq((int)m->lb_policy, 99);
    drop(m);
    read_fails("envoy.config.cluster.v3.Cluster", "a: 1\nlb_policy: maglev", MESH_E_INVALID,
               "f:2:12: lb_policy: \"maglev\" is no LbPolicy");
    read_fails("envoy.config.cluster.v3.Cluster", "lb_policy: 1.5", MESH_E_INVALID,
               "f:1:12: lb_policy: wants a whole number, not a number");
}
