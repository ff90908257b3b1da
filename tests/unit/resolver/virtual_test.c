/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/resolver/fixture.h"

enum { MANY = 300 };

/* `extra` names besides the one that is watched. */
static char *services(const char *name, int extra) {
    static char text[64 << 10];
    int n = snprintf(text, sizeof text, "services:\n  %s: {endpoints: ['10.0.0.1:80']}\n", name);
    for (int i = 0; i < extra; i++)
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "  extra%d.shop.mesh: {endpoints: ['10.0.0.2:80']}\n", i);
    return text;
}

Test(virtual, address_stays_over_restart_and_other_names) {
    struct fixture f;
    char first[INET_ADDRSTRLEN];
    fixture_start(&f, services("watched.shop.mesh", 0));
    strcpy(first, fixture_v4(f.view, "watched.shop.mesh"));
    mesh_view_close(f.view);
    fixture_write(&f, services("watched.shop.mesh", MANY));
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_str_eq(fixture_v4(f.view, "watched.shop.mesh"), first);
    cr_assert_str_neq(fixture_v4(f.view, "extra7.shop.mesh"), first);
    fixture_done(&f);
}

Test(virtual, address_is_the_same_in_another_view) {
    struct fixture f, g;
    char first[INET_ADDRSTRLEN];
    fixture_start(&f, services("watched.shop.mesh", 0));
    fixture_start(&g, services("watched.shop.mesh", 9));
    strcpy(first, fixture_v4(f.view, "watched.shop.mesh"));
    cr_assert_str_eq(fixture_v4(g.view, "watched.shop.mesh"), first);
    fixture_done(&f);
    fixture_done(&g);
}

static void collect(void *arg, const char *name) {
    struct mesh_answer a;
    struct fixture *f = arg;
    static uint8_t seen[256];
    cr_assert_eq(mesh_view_name(f->view, name, &a), 0);
    cr_assert(a.has4, "%s", name);
    cr_assert_eq(a.v4[2], 9);
    cr_assert(a.v4[3] != 0 && a.v4[3] != 255);
    cr_assert_not(seen[a.v4[3]], "%s shares its address", name);
    seen[a.v4[3]] = 1;
}

/* 254 addresses for 201 names: most of them collide. */
Test(virtual, collisions_get_addresses_of_their_own) {
    struct fixture f;
    struct mesh_cidr_list *list;
    fixture_init(&f, services("watched.shop.mesh", 200));
    cr_assert_eq(mesh_cidr_parse("241.1.9.0/24", false, &list, NULL), 0);
    f.cfg.virtual_ranges = list;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(mesh_view_each_name(f.view, collect, &f), 201);
    free(list);
    fixture_done(&f);
}

/* The name comes again after the others took what its hash would give it now. */
Test(virtual, address_is_kept_for_a_name_that_left) {
    struct fixture f;
    struct mesh_cidr_list *list;
    char first[INET_ADDRSTRLEN];
    fixture_init(&f, services("extra1.shop.mesh", 0));
    cr_assert_eq(mesh_cidr_parse("241.1.9.0/24", false, &list, NULL), 0);
    f.cfg.virtual_ranges = list;
    cr_assert_eq(fixture_open(&f), 0);
    strcpy(first, fixture_v4(f.view, "extra1.shop.mesh"));
    mesh_view_close(f.view);
    fixture_write(&f, services("other.shop.mesh", 0));
    cr_assert_eq(fixture_open(&f), 0);
    mesh_view_close(f.view);
    fixture_write(&f, services("other.shop.mesh", 200));
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_str_eq(fixture_v4(f.view, "extra1.shop.mesh"), first);
    free(list);
    fixture_done(&f);
}

Test(virtual, address_that_the_view_names_is_not_given_out) {
    struct fixture f;
    char first[INET_ADDRSTRLEN], text[512];
    fixture_start(&f, services("watched.shop.mesh", 0));
    strcpy(first, fixture_v4(f.view, "watched.shop.mesh"));
    fixture_done(&f);
    snprintf(text, sizeof text, "services:\n  watched.shop.mesh: {endpoints: ['%s:80']}\n", first);
    fixture_start(&f, text);
    cr_assert_str_neq(fixture_v4(f.view, "watched.shop.mesh"), first);
    fixture_done(&f);
}

static const char wild[] =
    "resources:\n"
    "- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n"
    "  name: backend\n"
    "  load_assignment: {cluster_name: backend, endpoints: [{lb_endpoints: [{endpoint: {address: "
    "{socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}\n"
    "- '@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration\n"
    "  name: routes\n"
    "  virtual_hosts:\n"
    "  - {name: w, domains: ['*.wild.mesh'], routes: [{match: {prefix: /}, route: {cluster: backend}}]}\n"
    "  - {name: p, domains: ['pre.*'], routes: [{match: {prefix: /}, route: {cluster: backend}}]}\n";

Test(virtual, wildcard_names_get_lasting_addresses) {
    struct fixture f;
    struct mesh_answer a;
    struct mesh_route r;
    char first[INET_ADDRSTRLEN], name[256];
    fixture_start(&f, wild);
    strcpy(first, fixture_v4(f.view, "one.wild.mesh"));
    cr_assert_str_neq(fixture_v4(f.view, "two.wild.mesh"), first);
    cr_assert_str_eq(fixture_v4(f.view, "one.wild.mesh"), first);
    cr_assert_eq(fixture_route(f.view, first, 80, &r), 0);
    cr_assert_str_eq(r.name, "one.wild.mesh:80");
    cr_assert_eq(mesh_view_name(f.view, "one.wild.mesh", &a), 0);
    cr_assert_eq(mesh_view_name_of(f.view, 4, a.v4, name, sizeof name), 0);
    cr_assert_str_eq(name, "one.wild.mesh");
    cr_assert_eq(mesh_view_name(f.view, "wild.mesh", &a), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_view_name(f.view, "*.wild.mesh", &a), 0);
    cr_assert_eq(mesh_view_name(f.view, "pre.anything", &a), 0);
    mesh_view_close(f.view);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_str_eq(fixture_v4(f.view, "one.wild.mesh"), first);
    fixture_done(&f);
}
