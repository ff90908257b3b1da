// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include <errno.h>
#include <resolv.h>
#include "shim/base/trace.h"
#include "tests/unit/shim/names_double.h"

static struct mesh_names_found f;

static enum mesh_names_verdict find(const char *name) {
    mesh_names_find(name, NULL, MESH_NAMES_SEARCH, &f);
    return f.verdict;
}

static void start(void) {
    double_start("search shop.mesh corp.example\n");
}

TestSuite(names_find, .init = start, .fini = double_stop);

Test(names_find, listed_name_is_mesh_as_written_and_expanded) {
    cr_assert_eq(find("reviews.shop.mesh"), MESH_NAMES_MESH);
    cr_assert_eq(double_asked, 1, "one look-up in the view");
    cr_assert_eq(find("REVIEWS.shop.mesh."), MESH_NAMES_MESH);
    cr_assert_eq(find("reviews"), MESH_NAMES_MESH);
    cr_assert_str_eq(f.answer.canon, "reviews.shop.mesh");
}

Test(names_find, expansion_counts_by_a_wildcard_only_for_a_single_label) {
    double_start("search wild.mesh\n");
    cr_assert_eq(find("www.example.com"), MESH_NAMES_LIBC);
    cr_assert_eq(find("a.wild.mesh"), MESH_NAMES_MESH);
    cr_assert_eq(find("single"), MESH_NAMES_MESH);
    cr_assert_str_eq(f.answer.canon, "single.wild.mesh");
}

Test(names_find, without_search_only_the_name_as_written_counts) {
    mesh_names_find("reviews", NULL, 0, &f);
    cr_assert_eq(f.verdict, MESH_NAMES_LIBC);
    mesh_names_find("reviews.shop.mesh", NULL, 0, &f);
    cr_assert_eq(f.verdict, MESH_NAMES_MESH);
}

Test(names_find, other_names_go_to_libc) {
    cr_assert_eq(find("www.example.com"), MESH_NAMES_LIBC);
    cr_assert_eq(find("localhost."), MESH_NAMES_LIBC);
    cr_assert_eq(find(""), MESH_NAMES_LIBC);
    struct mesh_names_source none = double_source;
    none.view = double_no_view;
    mesh_names_source = &none;
    cr_assert_eq(find("reviews.shop.mesh"), MESH_NAMES_LIBC, "no view, no mesh");
}

static struct mesh_view *no_attach(void) {
    cr_assert_fail("a view is attached for nothing");
    return NULL;
}

Test(names_find, numbers_attach_no_view) {
    struct mesh_names_source none = double_source;
    none.view = no_attach;
    mesh_names_source = &none;
    cr_assert_eq(find("127.0.0.1"), MESH_NAMES_LIBC);
    cr_assert_eq(find("localhost"), MESH_NAMES_LIBC);
}

Test(names_find, numbers_are_never_asked_for) {
    static const char *const numbers[] = {"241.0.0.5", "10.1",       "0x7f000001",
                                          "::1",       "fe80::1%lo", "2130706433"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cr_assert_eq(find(numbers[i]), MESH_NAMES_LIBC);
    cr_assert_eq(double_asked, 0);
    find("1and1.com");
    cr_assert_gt(double_asked, 0, "a digit does not make a number");
}

Test(names_find, name_in_domain_that_is_not_listed_is_denied) {
    cr_assert_eq(find("nothing.shop.mesh"), MESH_NAMES_DENIED);
    cr_assert_eq(find("nothing.shop.mesh."), MESH_NAMES_DENIED);
}

Test(names_find, expansion_of_several_labels_counts_only_when_listed) {
    double_stop();
    double_start("search mesh later\noptions ndots:2\n");
    cr_assert_eq(find("reviews.shop"), MESH_NAMES_MESH);
    cr_assert_eq(find("www.example"), MESH_NAMES_LIBC, "neither denied nor waited for");
}

Test(names_find, single_label_denied_is_apart) {
    cr_assert_eq(find("box"), MESH_NAMES_APART);
    cr_assert_not(f.again);
}

Test(names_find, localhost_is_never_asked_for) {
    cr_assert_eq(find("localhost"), MESH_NAMES_LIBC);
    cr_assert_eq(find("LocalHost."), MESH_NAMES_LIBC);
    cr_assert_eq(find("shop.localhost"), MESH_NAMES_LIBC);
    cr_assert_eq(double_asked, 0);
    find("notlocalhost");
    cr_assert_gt(double_asked, 0);
}

Test(names_find, headless_without_endpoints_is_mesh_without_addresses) {
    cr_assert_eq(find("empty"), MESH_NAMES_MESH);
    cr_assert_str_eq(f.answer.canon, "empty.shop.mesh");
    cr_assert_eq(f.answer.naddrs + f.answer.has4 + f.answer.has6, 0);
}

Test(names_find, damaged_view_fails_closed) {
    double_error = MESH_E_INTERNAL;
    cr_assert_eq(find("reviews.shop.mesh"), MESH_NAMES_FAIL);
}

Test(names_find, unknown_name_waits_until_it_is_known) {
    double_known_at = mesh_now() + 30 * MESH_MS;
    cr_assert_eq(find("x.later"), MESH_NAMES_AGAIN, "not asked to wait");
    mesh_names_find("x.later", NULL, MESH_NAMES_WAIT, &f);
    cr_assert_eq(f.verdict, MESH_NAMES_MESH);
    cr_assert_geq(mesh_now(), double_known_at);
}

Test(names_find, unknown_name_is_asked_for_with_the_port_of_its_service) {
    mesh_names_find("x.later", "9080", MESH_NAMES_WAIT, &f);
    cr_assert_eq(f.verdict, MESH_NAMES_AGAIN);
    cr_assert_str_eq(double_demand, "x.later");
    cr_assert_eq(double_port, 9080);
    mesh_names_find("x.later", "no-such-service", MESH_NAMES_WAIT, &f);
    cr_assert_eq(double_port, 0);
}

Test(names_find, listed_name_is_asked_for_while_the_view_is_provisional) {
    mesh_names_find("reviews", "9080", MESH_NAMES_SEARCH | MESH_NAMES_WAIT, &f);
    cr_assert_str_eq(double_demand, "");
    double_provisional = true;
    mesh_names_find("reviews", "9080", MESH_NAMES_SEARCH | MESH_NAMES_WAIT, &f);
    cr_assert_eq(f.verdict, MESH_NAMES_MESH);
    cr_assert_str_eq(double_demand, "reviews.shop.mesh");
    cr_assert_eq(double_port, 9080);
}

Test(names_find, other_names_are_never_asked_for) {
    mesh_names_find("www.example.com", "80", MESH_NAMES_SEARCH | MESH_NAMES_WAIT, &f);
    mesh_names_find("nothing.shop.mesh", "80", MESH_NAMES_SEARCH | MESH_NAMES_WAIT, &f);
    cr_assert_str_eq(double_demand, "");
}

Test(names_find, what_is_not_answered_goes_to_libc_where_the_domain_says_so) {
    mesh_names_find("x.maybe", NULL, MESH_NAMES_WAIT, &f);
    cr_assert_eq(f.verdict, MESH_NAMES_LIBC);
    double_known_at = mesh_now() + 10 * MESH_MS;
    mesh_names_find("x.maybe", NULL, MESH_NAMES_WAIT, &f);
    cr_assert_eq(f.verdict, MESH_NAMES_MESH);
}

Test(names_find, errno_is_kept) {
    errno = 77;
    find("reviews");
    find("nothing.shop.mesh");
    find("www.example.com");
    cr_assert_eq(errno, 77);
}

static char refused[256];

static void keep(const char *line, size_t len) {
    snprintf(refused, sizeof refused, "%.*s", (int)len, line);
}

Test(names_find, refusals_are_kept_with_their_reason) {
    mesh_trace_sink = keep;
    find("reviews");
    find("www.example.com");
    find("box");
    cr_assert_str_eq(refused, "");
    find("nothing.shop.mesh");
    cr_assert(strstr(refused, "refused why=denied name=nothing.shop.mesh"), "%s", refused);
    find("x.later");
    cr_assert(strstr(refused, "why=no-answer name=x.later"), "%s", refused);
    double_error = MESH_E_INTERNAL;
    find("reviews");
    cr_assert(strstr(refused, "why=view name=reviews"), "%s", refused);
}

Test(names_find, each_look_up_is_one_line_of_trace) {
    char spec[64], text[1024] = "";
    snprintf(spec, sizeof spec, "debug:%s.trace", double_conf);
    cr_assert_eq(mesh_trace_set(spec), 0);
    find("reviews");
    find("headless");
    find("www.example.com");
    FILE *file = fopen(spec + 6, "r");
    cr_assert_gt(fread(text, 1, sizeof text - 1, file), 0);
    fclose(file);
    unlink(spec + 6);
    cr_assert(strstr(text,
                     "debug resolve name=reviews answer=mesh canon=reviews.shop.mesh address4=241.0.0.5 "
                     "address6=fd6d:6573:6800::5\n"),
              "%s", text);
    cr_assert(strstr(text, "name=headless answer=mesh canon=headless.shop.mesh addresses=3\n"), "%s", text);
    cr_assert(strstr(text, "name=www.example.com answer=libc\n"), "%s", text);
}

static char asked[8][64];
static unsigned nasked;
static unsigned long options_seen[8];

static bool note(void *arg, const char *name) {
    snprintf(asked[nasked], sizeof asked[0], "%s", name);
    options_seen[nasked++] = _res.options;
    return false;
}

Test(names_find, apart_asks_for_what_is_not_denied_alone) {
    res_init();
    unsigned long before = _res.options;
    mesh_names_apart("wiki", note, NULL);
    cr_assert_eq(nasked, 2);
    cr_assert_str_eq(asked[0], "wiki");
    cr_assert_eq(options_seen[0] & (RES_DEFNAMES | RES_DNSRCH), 0, "libc would expand it");
    cr_assert_str_eq(asked[1], "wiki.corp.example.");
    cr_assert_eq(_res.options, before);
}

static char found[MESH_NAME_MAX + 1];

static enum mesh_names_verdict find_addr(const char *text) {
    uint8_t addr[16];
    bool six = strchr(text, ':');
    inet_pton(six ? AF_INET6 : AF_INET, text, addr);
    return mesh_names_find_addr(six ? AF_INET6 : AF_INET, addr, six ? 16 : 4, found);
}

Test(names_find, address_finds_its_name) {
    cr_assert_eq(find_addr("241.0.0.5"), MESH_NAMES_MESH);
    cr_assert_str_eq(found, "reviews.shop.mesh");
    cr_assert_eq(find_addr("::ffff:241.0.0.6"), MESH_NAMES_MESH);
    cr_assert_str_eq(found, "four.shop.mesh");
    cr_assert_eq(find_addr("10.96.3.7"), MESH_NAMES_MESH, "a service's own address");
    cr_assert_eq(find_addr("241.9.9.9"), MESH_NAMES_DENIED);
    cr_assert_eq(find_addr("127.0.0.1"), MESH_NAMES_LIBC);
    cr_assert_eq(mesh_names_find_addr(AF_INET, "1234", 16, found), MESH_NAMES_LIBC, "wrong length");
    cr_assert_eq(mesh_names_find_addr(AF_UNIX, "1234", 4, found), MESH_NAMES_LIBC);
}
