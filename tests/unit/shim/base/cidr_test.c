/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shim/base/cidr.h"

static struct mesh_cidr_list *parse(const char *text, bool names) {
    struct mesh_cidr_list *l = NULL;
    struct mesh_why why = {""};
    cr_assert_eq(mesh_cidr_parse(text, names, &l, &why), 0, "%s: %s", text, why.text);
    return l;
}

static bool has(const struct mesh_cidr_list *l, const char *addr, uint16_t port) {
    uint8_t bytes[16];
    bool six = strchr(addr, ':') != NULL;
    cr_assert_eq(inet_pton(six ? AF_INET6 : AF_INET, addr, bytes), 1);
    return mesh_cidr_has(l, six ? 6 : 4, bytes, port);
}

static void refused(const char *text, bool names, const char *says) {
    struct mesh_cidr_list *l = (void *)1;
    struct mesh_why why = {""};
    cr_expect_eq(mesh_cidr_parse(text, names, &l, &why), MESH_E_INVALID, "%s", text);
    cr_expect_eq(l, (void *)1);
    cr_expect(strstr(why.text, says), "%s: %s", text, why.text);
}

Test(cidr, prefix_covers_its_addresses_only) {
    struct mesh_cidr_list *l = parse("10.32.0.0/11,192.168.1.7", false);
    cr_assert(has(l, "10.32.0.0", 1) && has(l, "10.63.255.255", 1));
    cr_assert_not(has(l, "10.31.255.255", 1) || has(l, "10.64.0.0", 1));
    cr_assert(has(l, "192.168.1.7", 1));
    cr_assert_not(has(l, "192.168.1.6", 1) || has(l, "192.168.1.8", 1));
    free(l);
}

Test(cidr, port_narrows_the_entry) {
    struct mesh_cidr_list *l = parse("10.0.0.0/8:443,[2001:db8::/32]:8443,[fd00::1]", false);
    cr_assert(has(l, "10.1.2.3", 443) && has(l, "2001:db8:1::1", 8443));
    cr_assert_not(has(l, "10.1.2.3", 80) || has(l, "2001:db8:1::1", 443));
    cr_assert(has(l, "fd00::1", 5));
    free(l);
}

Test(cidr, everything_is_covered_by_zero_bits_of_its_family) {
    struct mesh_cidr_list *l = parse("0.0.0.0/0", false), *m = parse("::/0", false);
    cr_assert(has(l, "255.1.2.3", 9) && has(m, "fe80::1", 9));
    cr_assert_not(has(l, "fe80::1", 9) || has(m, "1.2.3.4", 9));
    free(l);
    free(m);
}

Test(cidr, mapped_addresses_count_as_ipv4_on_both_sides) {
    struct mesh_cidr_list *l = parse("10.0.0.0/8", false), *m = parse("::ffff:10.0.0.0/104", false);
    cr_assert(has(l, "::ffff:10.1.1.1", 1));
    cr_assert(has(m, "10.1.1.1", 1) && has(m, "::ffff:10.1.1.1", 1));
    cr_assert_not(has(m, "11.1.1.1", 1));
    free(l);
    free(m);
}

Test(cidr, names_match_in_any_case_and_only_as_a_whole) {
    struct mesh_cidr_list *l = parse("Db.Shop.Mesh.,cache:6379, 10.0.0.1 ", true);
    cr_assert(mesh_cidr_has_name(l, "db.shop.mesh", 1) && mesh_cidr_has_name(l, "DB.shop.MESH", 0));
    cr_assert(mesh_cidr_has_name(l, "cache", 6379));
    cr_assert_not(mesh_cidr_has_name(l, "cache", 0) || mesh_cidr_has_name(l, "cache", 80));
    cr_assert_not(mesh_cidr_has_name(l, "db.shop", 1) || mesh_cidr_has_name(l, "x.db.shop.mesh", 1));
    cr_assert_not(mesh_cidr_has_name(l, "", 1));
    cr_assert(has(l, "10.0.0.1", 1));
    free(l);
}

Test(cidr, name_entry_covers_no_address) {
    struct mesh_cidr_list *l = parse("a", true);
    cr_assert_not(has(l, "0.0.0.0", 1) || has(l, "::", 1));
    uint8_t bytes[16] = {0};
    cr_assert_not(mesh_cidr_has(l, 0, bytes, 1));
    free(l);
}

Test(cidr, missing_list_has_nothing) {
    cr_assert_not(has(NULL, "10.0.0.1", 1));
    cr_assert_not(mesh_cidr_has_name(NULL, "a", 1));
}

Test(cidr, malformed_entries_are_named) {
    refused("", false, "empty");
    refused("10.0.0.1,,10.0.0.2", false, "entry 2");
    refused("10.0.0.1,", false, "entry 2");
    refused("10.0.0.300", false, "10.0.0.300");
    refused("10.0.0.300", true, "10.0.0.300");
    refused("10.0.0", true, "not an address");
    refused("10.0.0.0/33", false, "prefix");
    refused("10.0.0.0/", false, "prefix");
    refused("10.0.0.0/08", false, "prefix");
    refused("10.0.0.0/-1", false, "prefix");
    refused("10.0.0.1/8", false, "not zero");
    refused("2001:db8::1/32", false, "not zero");
    refused("::/129", false, "prefix");
    refused("10.0.0.1:0", false, "port");
    refused("10.0.0.1:65536", false, "port");
    refused("10.0.0.1:", false, "port");
    refused("10.0.0.1:99999999999999999999", false, "port");
    refused("[10.0.0.1]:80", false, "brackets");
    refused("[::1", false, "brackets");
    refused("[::1]80", false, "brackets");
    refused("db.shop.mesh", false, "not an address");
    refused("db..mesh", true, "name");
    refused(".mesh", true, "name");
    refused("*.mesh", true, "name");
    refused("a b", true, "name");
    refused("db:80:90", true, "address");
    refused("name/8", true, "address");
}

Test(cidr, overlong_entry_is_refused) {
    char text[600];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    refused(text, true, "too long");
    text[260] = 0;
    refused(text, true, "name");
    text[64] = 0;
    refused(text, true, "name");
    memcpy(text + 64, ".mesh", 6);
    refused(text, true, "name");
    text[63] = 0;
    free(parse(text, true));
}

Test(cidr, too_many_entries_hit_the_limit) {
    char text[MESH_CIDR_MAX * 8 + 16] = "10.0.0.1";
    struct mesh_cidr_list *l = NULL;
    struct mesh_why why = {""};
    for (int i = 1; i < MESH_CIDR_MAX; i++)
        strcat(text, ",1.1.1.1");
    l = parse(text, false);
    cr_assert_eq(l->n, MESH_CIDR_MAX);
    free(l);
    char more[sizeof text + 16];
    snprintf(more, sizeof more, "%s,1.1.1.1", text);
    cr_assert_eq(mesh_cidr_parse(more, false, &l, &why), MESH_E_LIMIT);
}
