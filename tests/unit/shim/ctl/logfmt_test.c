/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>
#include "shim/base/trace.h"
#include "shim/ctl/logfmt.h"

static struct mesh_ctl_line line;
static struct mesh_ctl_field field;

static void expect_field(const char **rest, const char *key, const char *value) {
    cr_assert(mesh_ctl_field_next(rest, &field), "%s", key);
    cr_assert_str_eq(field.key, key);
    cr_assert_str_eq(field.value, value);
}

Test(logfmt, what_trace_writes_is_read_back) {
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
    mesh_line_str(&l, "why", "two \"words\" \\ \n\t\x1b\xc3\xa9");
    mesh_line_int(&l, "fd", -7);
    mesh_line_str(&l, "empty", "");
    mesh_line_str(&l, "name", "web:80");
    l.text[l.len] = 0;
    cr_assert(mesh_ctl_line_parse(l.text, &line));
    cr_assert_str_eq(line.level, "error");
    cr_assert_str_eq(line.event, "refused");
    const char *rest = line.rest;
    expect_field(&rest, "why", "two \"words\" \\ \n\t\x1b\xc3\xa9");
    expect_field(&rest, "fd", "-7");
    expect_field(&rest, "empty", "");
    expect_field(&rest, "name", "web:80");
    cr_assert_not(mesh_ctl_field_next(&rest, &field));
}

Test(logfmt, other_lines_are_none) {
    static const char *const wrong[] = {"",
                                        "meshshim",
                                        "meshshim[12",
                                        "meshshim[12]error x",
                                        "meshshim[1] ",
                                        "other[1] a b",
                                        "meshshim[1] error",
                                        "meshshim[1] overlong-level event"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_not(mesh_ctl_line_parse(wrong[i], &line), "%s", wrong[i]);
}

Test(logfmt, broken_fields_end_the_line) {
    static const char *const wrong[] = {
        "a",          "=v",          "a=\"open", "a=\"\\",
        "a=\"\\x1\"", "a=\"\\xzz\"", "a =b",     "keykeykeykeykeykeykeykeykeykeykeykeykey=1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *rest = wrong[i];
        cr_expect_not(mesh_ctl_field_next(&rest, &field), "%s", wrong[i]);
    }
}

Test(logfmt, value_longer_than_a_line_is_refused) {
    static char text[4000] = "a=";
    memset(text + 2, 'x', sizeof text - 3);
    const char *rest = text;
    cr_assert_not(mesh_ctl_field_next(&rest, &field));
    text[2] = text[sizeof text - 2] = '"';
    rest = text;
    cr_assert_not(mesh_ctl_field_next(&rest, &field));
}

Test(logfmt, nul_in_a_value_is_dropped) {
    const char *rest = "a=\"x\\x00y\"";
    expect_field(&rest, "a", "xy");
}

Test(logfmt, line_is_about_its_name_with_or_without_port) {
    cr_assert(mesh_ctl_line_parse("meshshim[1] error refused why=peer name=web.shop:80 peer=db", &line));
    cr_assert(mesh_ctl_line_is_about(&line, "web.shop"));
    cr_assert(mesh_ctl_line_is_about(&line, "Web.shop:80"));
    cr_assert_not(mesh_ctl_line_is_about(&line, "web"));
    cr_assert_not(mesh_ctl_line_is_about(&line, "web.shop:8"));
    cr_assert_not(mesh_ctl_line_is_about(&line, "db"));
}
