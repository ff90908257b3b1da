/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>
#include "tls/tls.h"

static bool valid(const char *id) {
    return mesh_spiffe_valid(id, strlen(id), NULL);
}

Test(spiffe, workload_and_domain_ids_are_valid) {
    static const char *const good[] = {
        "spiffe://shop/ns/prod/sa/web", "spiffe://shop",  "spiffe://a.b-c_d.9/x",
        "spiffe://s/A-Z_a.z0",          "spiffe://s/...", "spiffe://s/a..b",
        "spiffe://10.0.0.1/x"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        cr_assert(valid(good[i]), "%s", good[i]);
}

Test(spiffe, everything_else_is_not) {
    static const char *const bad[] = {"",
                                      "spiffe:",
                                      "spiffe://",
                                      "spiffe:///x",
                                      "SPIFFE://shop/x",
                                      "https://shop/x",
                                      "spiffe://Shop/x",
                                      "spiffe://shop/",
                                      "spiffe://shop//x",
                                      "spiffe://shop/x/",
                                      "spiffe://shop/./x",
                                      "spiffe://shop/../x",
                                      "spiffe://shop/x/..",
                                      "spiffe://shop/x/.",
                                      "spiffe://shop/a b",
                                      "spiffe://shop/%41",
                                      "spiffe://shop/a*",
                                      "spiffe://shop?x",
                                      "spiffe://shop#x",
                                      "spiffe://user@shop/x",
                                      "spiffe://shop:80/x",
                                      "spiffe://sh\303\266p/x",
                                      " spiffe://shop/x",
                                      "spiffe://shop/x "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert(!valid(bad[i]), "%s", bad[i]);
    cr_assert(!mesh_spiffe_valid("spiffe://shop/a\0b", 17, NULL));
}

Test(spiffe, the_trust_domain_is_measured) {
    size_t n = 99;
    cr_assert(mesh_spiffe_valid("spiffe://shop/x", 15, &n));
    cr_assert_eq(n, 4);
    cr_assert(mesh_spiffe_valid("spiffe://shop", 13, &n));
    cr_assert_eq(n, 4);
    n = 99;
    cr_assert(!mesh_spiffe_valid("spiffe://shop/", 14, &n));
    cr_assert_eq(n, 99);
}

Test(spiffe, lengths_are_bounded) {
    char id[3000];
    memset(id, 'a', sizeof id);
    memcpy(id, "spiffe://shop/", 14);
    cr_assert(mesh_spiffe_valid(id, 2048, NULL));
    cr_assert(!mesh_spiffe_valid(id, 2049, NULL));
    memset(id, 'a', sizeof id);
    memcpy(id, "spiffe://", 9);
    cr_assert(mesh_spiffe_valid(id, 9 + 255, NULL));
    cr_assert(!mesh_spiffe_valid(id, 9 + 256, NULL));
}
