// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include "tests/unit/shim/names_double.h"

static unsigned count(const struct mesh_names_addrs *a, int family) {
    unsigned n = 0;
    for (unsigned i = 0; i < a->n; i++)
        n += a->a[i].family == family;
    return n;
}

Test(names_list, most_addresses_fit_and_no_more) {
    struct mesh_answer a = {.naddrs = 0};
    struct mesh_names_addrs addrs;
    for (int i = 0; i < MESH_ANSWER_ADDRS / 2; i++) {
        double_own(&a, "10.0.0.7");
        double_own(&a, "2001:db8::7");
    }
    mesh_names_addrs_pick(&a, AF_UNSPEC, false, false, &addrs);
    cr_assert_eq(addrs.n, MESH_ANSWER_ADDRS);
    mesh_names_addrs_pick(&a, AF_INET6, true, true, &addrs);
    cr_assert_eq(addrs.n, MESH_ANSWER_ADDRS, "IPv6, then v4-mapped");
    a.naddrs = UINT16_MAX; /* a damaged view */
    mesh_names_addrs_pick(&a, AF_UNSPEC, false, false, &addrs);
    cr_assert_eq(addrs.n, MESH_ANSWER_ADDRS);
}

Test(names_list, families_are_chosen) {
    struct mesh_answer a = {.has4 = 1, .has6 = 1};
    struct mesh_names_addrs addrs;
    mesh_names_addrs_pick(&a, AF_UNSPEC, true, true, &addrs);
    cr_assert_eq(addrs.a[0].family, 4, "IPv4 first");
    cr_assert_eq(addrs.n, 2);
    mesh_names_addrs_pick(&a, AF_INET, true, true, &addrs);
    cr_assert_eq(count(&addrs, 4), 1);
    cr_assert_eq(addrs.n, 1);
    mesh_names_addrs_pick(&a, AF_INET6, true, false, &addrs);
    cr_assert_eq(addrs.n, 1);
    a.has6 = 0;
    mesh_names_addrs_pick(&a, AF_INET6, true, false, &addrs);
    cr_assert_arr_eq(addrs.a[0].addr + 10, "\xff\xff", 2);
    mesh_names_addrs_pick(&a, AF_INET6, false, false, &addrs);
    cr_assert_eq(addrs.n, 0);
}

/* A sanitizer brings an allocator of its own. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

/* The allocator of this program, libc's own calls included: the n-th allocation from now fails, and blocks
 * are counted. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void __libc_free(void *p);

/* volatile: libc declares that freeaddrinfo never comes back into this file. */
static volatile bool counting;
static volatile long fail_at, blocks;

#define EXPORTED __attribute__((visibility("default")))

static bool fails(void) {
    if (counting && --fail_at == 0) {
        errno = ENOMEM;
        return true;
    }
    blocks += counting;
    return false;
}

EXPORTED void *malloc(size_t n) {
    return fails() ? NULL : __libc_malloc(n);
}

EXPORTED void *calloc(size_t n, size_t size) {
    return fails() ? NULL : __libc_calloc(n, size);
}

EXPORTED void free(void *p) {
    blocks -= counting && p;
    __libc_free(p);
}

static void start(long at) {
    blocks = 0;
    fail_at = at;
    counting = true;
}

/* libc 2.36 leaves its own nodes behind when it runs out of memory half way: those allocations are its own
 * affair. */
static int libcs_allocations(const struct addrinfo *hints) {
    struct addrinfo *list;
    start(0);
    int rc = getaddrinfo("0.0.0.0", "80", hints, &list);
    counting = false;
    cr_assert_eq(rc, 0);
    freeaddrinfo(list);
    return (int)blocks;
}

Test(names_list, every_allocation_that_fails_is_eai_memory_and_leaks_nothing) {
    struct mesh_answer a = {.naddrs = 0};
    struct mesh_names_addrs addrs;
    struct addrinfo hints = {.ai_flags = AI_CANONNAME}, plain = {0}, *list = NULL;
    int rc = EAI_MEMORY, libcs = libcs_allocations(&plain), n;
    double_own(&a, "10.0.0.7");
    double_own(&a, "2001:db8::7");
    double_own(&a, "10.0.0.8");
    mesh_names_addrs_pick(&a, AF_UNSPEC, false, false, &addrs);
    for (n = 1; rc == EAI_MEMORY && n < 100; n++) {
        start(n);
        rc = mesh_names_list_build(&addrs, "headless.shop.mesh", "80", &hints, &list);
        counting = false;
        if (rc == EAI_MEMORY && n > libcs)
            cr_assert_eq(blocks, 0, "allocation %d leaves %ld blocks", n, blocks);
    }
    cr_assert_eq(rc, 0);
    cr_assert_eq(n, 3 * 3 + 1 + 2, "nine nodes and a name failed once each");
    cr_assert_eq(blocks, 3 * 3 + 1);
    counting = true;
    freeaddrinfo(list);
    counting = false;
    cr_assert_eq(blocks, 0);
}

#endif
