// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include "tests/unit/shim/names_double.h"

static struct mesh_names_addrs three_v6(void) {
    struct mesh_names_addrs a = {.n = 3};
    for (int i = 0; i < 3; i++) {
        a.a[i].family = 6;
        memset(a.a[i].addr, i + 1, 16);
    }
    return a;
}

Test(names_hostent, smallest_buffer_is_exact_at_every_alignment) {
    struct mesh_names_addrs a = three_v6();
    size_t need = 5 * sizeof(char *) + 3 * 16 + sizeof "n.mesh";
    for (size_t shift = 0; shift < 8; shift++) {
        struct hostent he;
        size_t pad = (8 - shift) % 8;
        char *block = malloc(shift + pad + need); /* its end is where a sanitizer watches */
        cr_assert_eq(mesh_names_hostent_build("n.mesh", &a, &he, block + shift, pad + need - 1), ERANGE);
        cr_assert_eq(mesh_names_hostent_build("n.mesh", &a, &he, block + shift, pad + need), 0);
        cr_assert_str_eq(he.h_name, "n.mesh");
        cr_assert_eq(he.h_addrtype, AF_INET6);
        cr_assert_eq(he.h_length, 16);
        cr_assert_null(he.h_aliases[0]);
        cr_assert_eq(he.h_addr_list[2][15], 3);
        cr_assert_null(he.h_addr_list[3]);
        free(block);
    }
}

Test(names_hostent, tiny_buffer_is_refused) {
    struct mesh_names_addrs a = three_v6();
    struct hostent he;
    char c[1];
    cr_assert_eq(mesh_names_hostent_build("n", &a, &he, c, 0), ERANGE);
    cr_assert_eq(mesh_names_hostent_build("n", &a, &he, c, 1), ERANGE);
}
