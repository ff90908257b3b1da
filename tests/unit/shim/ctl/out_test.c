/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "shim/ctl/out.h"

static struct mesh_ctl_out out;
static char *text;
static size_t len;

static void begin(bool yaml) {
    mesh_ctl_out_init(&out, open_memstream(&text, &len), yaml);
}

static void expect(const char *want) {
    cr_assert_eq(mesh_ctl_out_done(&out), 0);
    fclose(out.file);
    cr_assert_str_eq(text, want);
    free(text);
}

static void expect_mismatch(void) {
    cr_assert_eq(mesh_ctl_out_done(&out), MESH_E_INTERNAL);
    fclose(out.file);
    free(text);
}

static void picks(void) {
    mesh_ctl_list_begin(&out, "picks");
    for (int i = 1; i < 3; i++) {
        mesh_ctl_map_begin(&out, NULL);
        mesh_ctl_str(&out, "endpoint", i == 1 ? "10.0.0.1:80" : "10.0.0.2:80");
        mesh_ctl_int(&out, "n", i);
        mesh_ctl_list_begin(&out, "tags");
        mesh_ctl_str(&out, NULL, "a");
        mesh_ctl_bool(&out, NULL, true);
        mesh_ctl_end(&out);
        mesh_ctl_end(&out);
    }
    mesh_ctl_end(&out);
    mesh_ctl_map_begin(&out, "more");
    mesh_ctl_ms(&out, "ms", 1250000);
    mesh_ctl_str(&out, "none", NULL);
    mesh_ctl_end(&out);
}

Test(out, json_nests) {
    begin(false);
    picks();
    expect(
        "{\n  \"picks\": [\n    {\n      \"endpoint\": \"10.0.0.1:80\",\n      \"n\": 1,\n      \"tags\": [\n"
        "        \"a\",\n        true\n      ]\n    },\n    {\n      \"endpoint\": \"10.0.0.2:80\",\n      "
        "\"n\": 2,\n"
        "      \"tags\": [\n        \"a\",\n        true\n      ]\n    }\n  ],\n  \"more\": {\n    \"ms\": "
        "1.2,\n"
        "    \"none\": null\n  }\n}\n");
}

Test(out, yaml_nests) {
    begin(true);
    picks();
    expect("picks:\n  - endpoint: \"10.0.0.1:80\"\n    n: 1\n    tags:\n      - \"a\"\n      - true\n"
           "  - endpoint: \"10.0.0.2:80\"\n    n: 2\n    tags:\n      - \"a\"\n      - true\nmore:\n  ms: "
           "1.2\n  none: null\n");
}

static void empties(void) {
    mesh_ctl_list_begin(&out, "list");
    mesh_ctl_end(&out);
    mesh_ctl_map_begin(&out, "map");
    mesh_ctl_end(&out);
    mesh_ctl_list_begin(&out, "maps");
    mesh_ctl_map_begin(&out, NULL);
    mesh_ctl_end(&out);
    mesh_ctl_end(&out);
}

Test(out, empty_containers_are_said_to_be_empty) {
    begin(false);
    empties();
    expect("{\n  \"list\": [],\n  \"map\": {},\n  \"maps\": [\n    {}\n  ]\n}\n");
    begin(true);
    empties();
    expect("list: []\nmap: {}\nmaps:\n  - {}\n");
    begin(false);
    expect("{}\n");
    begin(true);
    expect("{}\n");
}

Test(out, text_is_escaped_and_made_utf8) {
    begin(false);
    mesh_ctl_str(&out, "a", "\"\\\n\t\x01\x7f \xc3\xa9 \xff \xc0\xaf \xed\xa0\x80 \xf0\x9f\x98\x80 \xc3");
    expect("{\n  \"a\": \"\\\"\\\\\\n\\t\\u0001\\u007f \xc3\xa9 \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd "
           "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xf0\x9f\x98\x80 \xef\xbf\xbd\"\n}\n");
}

Test(out, depth_is_bounded) {
    begin(false);
    for (int i = 0; i < MESH_CTL_DEPTH_MAX; i++)
        mesh_ctl_map_begin(&out, "k");
    cr_assert_not(out.broken);
    mesh_ctl_map_begin(&out, "k");
    cr_assert(out.broken);
    expect_mismatch();
}

Test(out, unbalanced_calls_are_noticed) {
    begin(false);
    mesh_ctl_end(&out);
    expect_mismatch();
    begin(false);
    mesh_ctl_map_begin(&out, "k");
    expect_mismatch();
}

Test(out, full_device_is_an_error) {
    FILE *f = fopen("/dev/full", "w");
    mesh_ctl_out_init(&out, f, false);
    mesh_ctl_int(&out, "a", 1);
    cr_assert_eq(mesh_ctl_out_done(&out), MESH_E_IO);
    fclose(f);
}
