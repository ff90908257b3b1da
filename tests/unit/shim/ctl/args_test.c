/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "shim/ctl/args.h"

static struct mesh_ctl_args args;
static struct mesh_why why;

/* Words separated by blanks become an argv. */
static int parse(const char *line) {
    static char copy[400];
    char *argv[20] = {"meshctl"}, *rest = copy, *word;
    int argc = 1;
    why.text[0] = 0;
    snprintf(copy, sizeof copy, "%s", line);
    while ((word = strsep(&rest, " ")) != NULL)
        argv[argc++] = word;
    return mesh_ctl_args_parse(argc, argv, &args, &why);
}

Test(args, options_stand_before_or_after_the_command) {
    cr_assert_eq(parse("-o json -p 12 view web"), 0);
    cr_assert(args.format == MESH_CTL_JSON && args.pid == 12);
    cr_assert_str_eq(args.command, "view");
    cr_assert_str_eq(args.operand, "web");
    cr_assert_eq(parse("view web -o yaml -p 13"), 0);
    cr_assert(args.format == MESH_CTL_YAML && args.pid == 13);
    cr_assert_eq(parse("status"), 0);
    cr_assert(args.format == MESH_CTL_TEXT && args.pid == 0 && args.operand == NULL);
}

Test(args, pick_has_its_own_options) {
    cr_assert_eq(parse("pick web:80"), 0);
    cr_assert(args.picks == 1 && !args.explain && !args.hash);
    cr_assert_eq(parse("pick --hash -x -n 100 web:80 --explain"), 0);
    cr_assert(args.picks == 100 && args.explain);
    cr_assert_str_eq(args.hash, "-x");
    cr_assert_str_eq(args.operand, "web:80");
}

Test(args, f_is_a_file_for_check_and_a_switch_for_why) {
    cr_assert_eq(parse("check -f view.yaml"), 0);
    cr_assert_str_eq(args.file, "view.yaml");
    cr_assert_eq(parse("why -f web"), 0);
    cr_assert(args.follow && !args.file);
    cr_assert_str_eq(args.operand, "web");
    cr_assert_eq(parse("check --procs"), 0);
    cr_assert(args.procs);
}

Test(args, double_dash_ends_options) {
    cr_assert_eq(parse("resolve -- -odd"), 0);
    cr_assert_str_eq(args.operand, "-odd");
}

Test(args, help_needs_no_command) {
    cr_assert_eq(parse("--help"), 0);
    cr_assert_null(args.command);
    cr_assert_eq(parse("view -h"), 0);
    cr_assert_null(args.command);
}

Test(args, wrong_use_is_named) {
    static const struct {
        const char *line, *says;
    } wrong[] = {{"views", "no command: views"},
                 {"-o xml view", "xml"},
                 {"-o", "-o needs a value"},
                 {"-p", "-p needs"},
                 {"-p 0 view", "\"0\""},
                 {"-p -1 view", "\"-1\""},
                 {"-p 99999999999 view", "range"},
                 {"-p 1x view", "1x"},
                 {"resolve", "resolve needs an argument"},
                 {"pick", "needs"},
                 {"trace info", "-p PID"},
                 {"view a b", "too many: b"},
                 {"status a", "too many: a"},
                 {"check -f", "-f needs a value"},
                 {"check -f a --procs", "exclude"},
                 {"view -f", "no option of this command: -f"},
                 {"pick a:1 -n 0", "range"},
                 {"pick a:1 -n 100001", "range"},
                 {"-z view", "no option: -z"},
                 {"--procs check", "--procs"},
                 {"status --explain", "--explain"}};
    cr_assert_eq(mesh_ctl_args_parse(1, (char *[]){"meshctl"}, &args, &why), MESH_E_INVALID);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_expect_eq(parse(wrong[i].line), MESH_E_INVALID, "%s", wrong[i].line);
        cr_expect(strstr(why.text, wrong[i].says), "%s: %s", wrong[i].line, why.text);
    }
}

Test(name_split, port_is_cut_off) {
    char name[256];
    uint16_t port = 9;
    cr_assert_eq(mesh_ctl_name_split("web.shop", name, &port), 0);
    cr_assert_str_eq(name, "web.shop");
    cr_assert_eq(port, 0);
    cr_assert_eq(mesh_ctl_name_split("web:65535", name, &port), 0);
    cr_assert_str_eq(name, "web");
    cr_assert_eq(port, 65535);
}

Test(name_split, bad_port_or_length_is_refused) {
    char name[256], text[300];
    uint16_t port;
    cr_assert_lt(mesh_ctl_name_split("web:", name, &port), 0);
    cr_assert_lt(mesh_ctl_name_split("web:65536", name, &port), 0);
    cr_assert_lt(mesh_ctl_name_split(":80", name, &port), 0);
    cr_assert_lt(mesh_ctl_name_split("", name, &port), 0);
    memset(text, 'a', sizeof text);
    text[256] = 0;
    cr_assert_lt(mesh_ctl_name_split(text, name, &port), 0);
    text[255] = 0;
    cr_assert_eq(mesh_ctl_name_split(text, name, &port), 0);
}
