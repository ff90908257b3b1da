/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/reading.h"
#include "proto/inner.h"

static void becomes(const char *text, const char *expected) {
    char *out = NULL;
    size_t n = strlen(text);
    cr_assert_eq(mesh_json_join_surrogates(text, &n, &out), 0);
    cr_assert(out, "%s", text);
    cr_expect(n == strlen(expected) && !memcmp(out, expected, n), "%s: %.*s", text, (int)n, out);
    free(out);
}

static void stays(const char *text) {
    char *out = (void *)1;
    size_t n = strlen(text);
    cr_assert_eq(mesh_json_join_surrogates(text, &n, &out), 0);
    cr_expect_null(out, "%s", text);
    cr_expect_eq(n, strlen(text));
}

Test(json, pair_becomes_one_escape) {
    becomes("{\"a\":\"x\\ud83d\\uDE00y\"}", "{\"a\":\"x\\U0001F600y\"}");
    becomes(" [\"\\uDBFF\\udfff\"]", " [\"\\U0010FFFF\"]");
    becomes("[\"\\\"\\ud800\\udc00\"]", "[\"\\\"\\U00010000\"]");
}

Test(json, what_is_no_pair_is_copied) {
    becomes("[\"\\ud83dx\\ude00\"]", "[\"\\ud83dx\\ude00\"]");
    becomes("[\"\\ude00\\ud83d\"]", "[\"\\ude00\\ud83d\"]");
    becomes("[\"\\\\ud83d\\ude00\"]", "[\"\\\\ud83d\\ude00\"]");
    becomes("[\\ud83d\\ude00]", "[\\ud83d\\ude00]");
    becomes("[\"\\ud83d\\ude0g\"]", "[\"\\ud83d\\ude0g\"]");
}

Test(json, yaml_and_plain_json_are_left_alone) {
    stays("a: '\\ud83d\\ude00'");
    stays("{\"a\": \"\\u00e9\"}");
    stays("[\"\\ud83d\"]");
    stays("[\"\\ud83d\\ude0");
    stays("");
    stays("  ");
}
