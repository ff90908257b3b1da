/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/resolver/fixture.h"

static const char shop[] = "services:\n"
                           "  reviews.shop.mesh:9080: {endpoints: ['10.0.0.7:8080', '10.0.0.8:8080']}\n"
                           "  six.shop.mesh: {endpoints: ['[fd00::7]:80']}\n"
                           "  own.shop.mesh: {endpoints: ['10.0.0.9:80'], addresses: [10.96.3.7]}\n"
                           "  empty.shop.mesh: {endpoints: []}\n";

Test(names, listed_name_answers_virtual_addresses) {
    struct fixture f;
    struct mesh_answer a;
    fixture_start(&f, shop);
    cr_assert_eq(mesh_view_name(f.view, "reviews.shop.mesh", &a), 0);
    cr_assert_str_eq(a.canon, "reviews.shop.mesh");
    cr_assert(a.has4 && a.has6);
    cr_assert_eq(a.v4[0], 241);
    cr_assert_eq(a.v6[0], 0xfd);
    cr_assert_eq(a.naddrs, 0);
    cr_assert(mesh_view_is_virtual(f.view, 4, a.v4) && mesh_view_is_virtual(f.view, 6, a.v6));
    fixture_done(&f);
}

Test(names, case_and_one_trailing_dot_do_not_matter) {
    struct fixture f;
    struct mesh_answer a;
    fixture_start(&f, shop);
    cr_assert_eq(mesh_view_name(f.view, "Reviews.SHOP.mesh.", &a), 0);
    cr_assert_str_eq(a.canon, "reviews.shop.mesh");
    cr_assert_eq(mesh_view_name(f.view, "reviews.shop.mesh..", &a), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_view_name(f.view, "", &a), MESH_E_NOTFOUND);
    fixture_done(&f);
}

Test(names, name_with_ipv6_endpoints_only_answers_no_ipv4) {
    struct fixture f;
    struct mesh_answer a;
    fixture_start(&f, shop);
    cr_assert_eq(mesh_view_name(f.view, "six.shop.mesh", &a), 0);
    cr_assert(!a.has4 && a.has6);
    fixture_done(&f);
}

Test(names, name_without_endpoints_answers_both_families) {
    struct fixture f;
    struct mesh_answer a;
    fixture_start(&f, shop);
    cr_assert_eq(mesh_view_name(f.view, "empty.shop.mesh", &a), 0);
    cr_assert(a.has4 && a.has6);
    fixture_done(&f);
}

Test(names, service_with_addresses_answers_its_own) {
    struct fixture f;
    char name[256];
    uint8_t addr[4] = {10, 96, 3, 7};
    fixture_start(&f, shop);
    cr_assert_str_eq(fixture_v4(f.view, "own.shop.mesh"), "10.96.3.7");
    cr_assert_eq(mesh_view_name_of(f.view, 4, addr, name, sizeof name), 0);
    cr_assert_str_eq(name, "own.shop.mesh");
    fixture_done(&f);
}

Test(names, name_of_a_virtual_address_is_the_name) {
    struct fixture f;
    struct mesh_answer a;
    char name[256] = "untouched";
    fixture_start(&f, shop);
    cr_assert_eq(mesh_view_name(f.view, "reviews.shop.mesh", &a), 0);
    cr_assert_eq(mesh_view_name_of(f.view, 4, a.v4, name, 5), MESH_E_LIMIT);
    cr_assert_str_eq(name, "untouched");
    cr_assert_eq(mesh_view_name_of(f.view, 4, a.v4, name, sizeof name), 0);
    cr_assert_str_eq(name, "reviews.shop.mesh");
    cr_assert_eq(mesh_view_name_of(f.view, 6, a.v6, name, sizeof name), 0);
    a.v4[1] ^= 0x55;
    cr_assert_eq(mesh_view_name_of(f.view, 4, a.v4, name, sizeof name), MESH_E_NOTFOUND);
    fixture_done(&f);
}

Test(names, name_in_a_domain_but_not_listed_is_denied) {
    struct fixture f;
    struct mesh_answer a;
    fixture_init(&f, shop);
    f.cfg.domains = "shop.mesh, svc.cluster.local?";
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(mesh_view_name(f.view, "nobody.shop.mesh", &a), MESH_E_DENIED);
    cr_assert_eq(mesh_view_name(f.view, "shop.mesh", &a), MESH_E_DENIED);
    cr_assert_eq(mesh_view_name(f.view, "notshop.mesh", &a), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_view_name(f.view, "nobody.svc.cluster.local", &a), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_view_name(f.view, "example.com", &a), MESH_E_NOTFOUND);
    fixture_done(&f);
}

Test(names, excluded_name_is_not_of_the_mesh) {
    struct fixture f;
    struct mesh_answer a;
    struct mesh_cidr_list *list;
    fixture_init(&f, shop);
    cr_assert_eq(mesh_cidr_parse("reviews.shop.mesh", true, &list, NULL), 0);
    f.cfg.exclude = list;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(mesh_view_name(f.view, "reviews.shop.mesh", &a), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_view_name(f.view, "six.shop.mesh", &a), 0);
    free(list);
    fixture_done(&f);
}

static void count_name(void *arg, const char *name) {
    *(int *)arg += strstr(name, ".shop.mesh") != NULL;
}

Test(names, each_name_is_called_once) {
    struct fixture f;
    int n = 0;
    fixture_start(&f, shop);
    cr_assert_eq(mesh_view_each_name(f.view, count_name, &n), 4);
    cr_assert_eq(n, 4);
    fixture_done(&f);
}

static const char headless[] =
    "resources:\n"
    "- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n"
    "  name: db.shop.mesh\n"
    "  type: ORIGINAL_DST\n"
    "  lb_policy: CLUSTER_PROVIDED\n"
    "- '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\n"
    "  cluster_name: db.shop.mesh\n"
    "  endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.1.0.1, port_value: "
    "5432}}}},\n"
    "                              {endpoint: {address: {socket_address: {address: 10.1.0.2, port_value: "
    "5432}}}}]}]\n";

Test(names, headless_name_answers_its_endpoints) {
    struct fixture f;
    struct mesh_answer a;
    struct mesh_route r;
    fixture_start(&f, headless);
    cr_assert_eq(mesh_view_name(f.view, "db.shop.mesh", &a), 0);
    cr_assert(!a.has4 && !a.has6);
    cr_assert_eq(a.naddrs, 2);
    cr_assert_eq(a.addrs[1].addr[3], 2);
    cr_assert_eq(fixture_route(f.view, "10.1.0.2", 5432, &r), 0);
    cr_assert(r.original_dst);
    cr_assert_str_eq(r.cluster, "db.shop.mesh");
    cr_assert_eq(fixture_route(f.view, "10.1.0.2", 22, &r), MESH_E_NOTFOUND);
    fixture_done(&f);
}
