// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/shim/names_double.h"

static struct mesh_names_search s;
static char joined[4096];

static const char *parse(const char *text, const char *localdomain, const char *options, const char *host) {
    mesh_names_search_parse(text, text ? strlen(text) : 0, localdomain, options, host, &s);
    joined[0] = '\0';
    const char *p = s.text;
    for (int i = 0; i < s.n && i < 8; i++, p += strlen(p) + 1)
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s", i ? " " : "", p);
    return joined;
}

/* Every candidate of a name, `*` before the one that is as written. */
static const char *walk(const char *name) {
    struct mesh_names_walk w;
    bool as_written;
    joined[0] = '\0';
    if (!mesh_names_walk_init(&w, name, &s))
        return "none";
    while (mesh_names_walk_next(&w, &as_written))
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s%s", joined[0] ? " " : "",
                 as_written ? "*" : "", w.text);
    return joined;
}

Test(names_search, empty_file_takes_domain_of_host_name) {
    cr_assert_str_eq(parse("", NULL, NULL, "web-1.shop.example"), "shop.example");
    cr_assert_eq(s.ndots, 1);
    cr_assert_str_eq(parse(NULL, NULL, NULL, "web-1"), "");
    cr_assert_str_eq(parse(NULL, NULL, NULL, NULL), "");
}

Test(names_search, search_and_domain_last_one_wins) {
    cr_assert_str_eq(parse("search a.x b.x\ndomain c.x d.x\n", NULL, NULL, "h.host"), "c.x");
    cr_assert_str_eq(parse("domain c.x\nsearch a.x\tb.x.  c.x # \n", NULL, NULL, "h.host"), "a.x b.x c.x #");
}

Test(names_search, comments_and_indented_lines_are_nothing) {
    cr_assert_str_eq(
        parse("# search a.x\n;search b.x\n search c.x\nsearchx d.x\nsearch e.x", NULL, NULL, NULL), "e.x");
}

Test(names_search, root_in_list_adds_nothing) {
    cr_assert_str_eq(parse("search . a.x .\n", NULL, NULL, NULL), "a.x");
}

Test(names_search, ndots_is_read_and_capped) {
    parse("options timeout:1 ndots:5 rotate\n", NULL, NULL, NULL);
    cr_assert_eq(s.ndots, 5);
    parse("options ndots:99999999999999999999\n", NULL, NULL, NULL);
    cr_assert_eq(s.ndots, 15);
    parse("options ndots:0\n", NULL, NULL, NULL);
    cr_assert_eq(s.ndots, 0);
    parse("options ndots:\n", NULL, NULL, NULL);
    cr_assert_eq(s.ndots, 1);
}

Test(names_search, environment_wins) {
    cr_assert_str_eq(parse("search a.x\noptions ndots:5\n", "l.x m.x", "ndots:2", NULL), "l.x m.x");
    cr_assert_eq(s.ndots, 2);
}

Test(names_search, more_than_fits_is_left_out) {
    char *text = malloc(40000);
    strcpy(text, "search");
    for (int i = 0; i < 200; i++)
        sprintf(text + strlen(text), " d%d.example", i);
    parse(text, NULL, NULL, NULL);
    cr_assert_eq(s.n, MESH_NAMES_SEARCH_MAX);
    strcpy(text, "search");
    for (int i = 0; i < 30; i++)
        sprintf(text + strlen(text), " %0200d", i);
    parse(text, NULL, NULL, NULL);
    cr_assert_eq(s.n, MESH_NAMES_SEARCH_BYTES / 201);
    cr_assert_leq(s.len, sizeof s.text);
    free(text);
}

Test(names_walk, order_follows_ndots) {
    parse("search a.x b.x\noptions ndots:2\n", NULL, NULL, NULL);
    cr_assert_str_eq(walk("n"), "n.a.x n.b.x *n");
    cr_assert_str_eq(walk("n.m"), "n.m.a.x n.m.b.x *n.m");
    cr_assert_str_eq(walk("n.m.o"), "*n.m.o n.m.o.a.x n.m.o.b.x");
}

Test(names_walk, absolute_name_stands_for_itself) {
    parse("search a.x\noptions ndots:5\n", NULL, NULL, NULL);
    cr_assert_str_eq(walk("n.m."), "*n.m");
    cr_assert_str_eq(walk("n."), "*n");
}

Test(names_walk, no_name_is_refused) {
    char text[300];
    parse("search a.x\n", NULL, NULL, NULL);
    cr_assert_str_eq(walk(""), "none");
    cr_assert_str_eq(walk("."), "none");
    memset(text, 'n', sizeof text);
    text[256] = '\0';
    cr_assert_str_eq(walk(text), "none");
    text[255] = '\0';
    cr_assert_eq(walk(text)[0], '*'); /* its expansions are too long */
    cr_assert_eq(strlen(joined), 256);
}

static void rewrite(const char *lines) {
    FILE *f = fopen(double_conf, "w");
    fputs(lines, f);
    fclose(f);
}

Test(names_search, file_is_read_again_when_it_changed_once_a_second) {
    unsetenv("LOCALDOMAIN");
    unsetenv("RES_OPTIONS");
    double_start("search one.x\n");
    const struct mesh_names_search *a = mesh_names_search_get(10 * MESH_SEC);
    cr_assert_str_eq(a->text, "one.x");
    rewrite("search second.x\n");
    cr_assert_eq(mesh_names_search_get(10 * MESH_SEC + MESH_SEC / 2), a, "looked again within the second");
    const struct mesh_names_search *b = mesh_names_search_get(11 * MESH_SEC + 1);
    cr_assert_str_eq(b->text, "second.x");
    cr_assert_str_eq(a->text, "one.x", "what a reader holds stays as it was");
    rewrite("search one.x\n");
    cr_assert_eq(mesh_names_search_get(13 * MESH_SEC), a, "an old content finds its version again");
    double_stop();
    cr_assert_str_eq(mesh_names_search_get(15 * MESH_SEC)->text, "", "a file that went");
}

Test(names_search, more_versions_than_kept_leave_the_last_in_force) {
    unsetenv("LOCALDOMAIN");
    double_start("search x0.x\n");
    for (int i = 0; i < MESH_NAMES_CONF_VERSIONS + 5; i++) {
        char text[128];
        snprintf(text, sizeof text, "search %0*d.x\n", i + 1, i);
        rewrite(text);
        cr_assert_eq(mesh_names_search_get((uint64_t)(10 + 2 * i) * MESH_SEC)->n, 1);
    }
    double_stop();
}
