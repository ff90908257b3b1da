// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include "shim/real.h"
#include "tests/unit/shim/names_double.h"

static struct hostent he, *result;
static char buf[2048], shown[512];
static int h_err;

static void start(void) {
    double_start("search shop.mesh\n");
    errno = 0;
    h_err = 55;
}

TestSuite(names_host, .init = start, .fini = double_stop);

static const char *show(const struct hostent *h) {
    char addr[INET6_ADDRSTRLEN];
    if (!h)
        return "none";
    snprintf(shown, sizeof shown, "%s %d/%d", h->h_name, h->h_addrtype, h->h_length);
    for (char **p = h->h_addr_list; *p; p++)
        snprintf(shown + strlen(shown), sizeof shown - strlen(shown), " %s",
                 inet_ntop(h->h_addrtype, *p, addr, sizeof addr));
    return shown;
}

Test(names_host, name_gives_addresses_of_the_family) {
    cr_assert_eq(shim_gethostbyname_r("reviews", &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_eq(result, &he);
    cr_assert_eq(h_err, NETDB_SUCCESS);
    cr_assert_str_eq(show(result), "reviews.shop.mesh 2/4 241.0.0.5");
    cr_assert_eq(shim_gethostbyname2_r("reviews", AF_INET6, &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_str_eq(show(result), "reviews.shop.mesh 10/16 fd6d:6573:6800::5");
    cr_assert_eq(shim_gethostbyname_r("headless", &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_str_eq(show(result), "headless.shop.mesh 2/4 10.0.0.7 10.0.0.8");
}

/* What the manual says, tried with libc's own names: not found is 0 without a result, try again is EAGAIN. */
Test(names_host, failures_speak_through_h_errno) {
    cr_assert_eq(shim_gethostbyname_r("nothing.shop.mesh", &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_null(result);
    cr_assert_eq(h_err, HOST_NOT_FOUND);
    cr_assert_eq(shim_gethostbyname_r("six", &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_null(result);
    cr_assert_eq(h_err, NO_DATA);
    cr_assert_eq(shim_gethostbyname_r("x.later", &he, buf, sizeof buf, &result, &h_err), EAGAIN);
    cr_assert_eq(h_err, TRY_AGAIN);
    double_error = MESH_E_INTERNAL;
    cr_assert_eq(shim_gethostbyname_r("reviews", &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_eq(h_err, NO_RECOVERY);
}

static int grow(const char *name, size_t *ret_len) {
    int rc;
    for (*ret_len = 0;; (*ret_len)++) {
        result = &he;
        errno = 0;
        rc = shim_gethostbyname_r(name, &he, buf, *ret_len, &result, &h_err);
        if (rc != ERANGE)
            return rc;
        cr_assert_null(result);
        cr_assert_eq(h_err, NETDB_INTERNAL);
        cr_assert_eq(errno, ERANGE);
    }
}

Test(names_host, small_buffer_is_erange_until_it_fits) {
    size_t len;
    cr_assert_eq(grow("reviews", &len), 0);
    cr_assert_str_eq(show(result), "reviews.shop.mesh 2/4 241.0.0.5");
    cr_assert_leq(len, 8 + 3 * sizeof(char *) + 4 + sizeof "reviews.shop.mesh");
}

Test(names_host, family_that_is_none_is_libcs) {
    cr_assert_eq(shim_gethostbyname2_r("reviews", 99, &he, buf, sizeof buf, &result, &h_err), EAFNOSUPPORT);
}

Test(names_host, address_finds_its_name) {
    uint8_t four[4] = {241, 0, 0, 6}, unknown[4] = {241, 9, 9, 9}, mapped[16];
    inet_pton(AF_INET6, "::ffff:241.0.0.5", mapped);
    cr_assert_eq(shim_gethostbyaddr_r(four, 4, AF_INET, &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_str_eq(show(result), "four.shop.mesh 2/4 241.0.0.6");
    cr_assert_eq(shim_gethostbyaddr_r(mapped, 16, AF_INET6, &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_str_eq(show(result), "reviews.shop.mesh 10/16 ::ffff:241.0.0.5");
    cr_assert_eq(shim_gethostbyaddr_r(unknown, 4, AF_INET, &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_null(result);
    cr_assert_eq(h_err, HOST_NOT_FOUND);
    cr_assert_eq(shim_gethostbyaddr_r(four, 4, AF_INET, &he, buf, 3, &result, &h_err), ERANGE);
}

Test(names_host, forms_without_buffer_answer_the_same) {
    uint8_t four[4] = {241, 0, 0, 6};
    cr_assert_str_eq(show(shim_gethostbyname("reviews")), "reviews.shop.mesh 2/4 241.0.0.5");
    cr_assert_str_eq(show(shim_gethostbyname2("reviews", AF_INET6)),
                     "reviews.shop.mesh 10/16 fd6d:6573:6800::5");
    cr_assert_str_eq(show(shim_gethostbyaddr(four, 4, AF_INET)), "four.shop.mesh 2/4 241.0.0.6");
    h_errno = 0;
    cr_assert_null(shim_gethostbyname("nothing.shop.mesh"));
    cr_assert_eq(h_errno, HOST_NOT_FOUND);
    h_errno = 0;
    cr_assert_null(shim_gethostbyname2("four", AF_INET6));
    cr_assert_eq(h_errno, NO_DATA);
}

Test(names_host, single_label_of_the_hosts_file_survives_denied_expansions) {
    real.gethostbyname2_r = double_box_r;
    cr_assert_str_eq(show(shim_gethostbyname("box")), "10.0.0.99 2/4 10.0.0.99");
    cr_assert_eq(shim_gethostbyname_r("box", &he, buf, sizeof buf, &result, &h_err), 0);
    cr_assert_str_eq(show(result), "10.0.0.99 2/4 10.0.0.99");
    cr_assert_eq(shim_gethostbyname_r("box", &he, buf, 4, &result, &h_err), ERANGE);
}

static void *other_thread(void *arg) {
    return shim_gethostbyname("four");
}

Test(names_host, each_thread_has_its_own_answer) {
    pthread_t t;
    struct hostent *mine = shim_gethostbyname("reviews");
    void *its;
    pthread_create(&t, NULL, other_thread, NULL);
    pthread_join(t, &its);
    cr_assert_neq(mine, its);
    cr_assert_str_eq(show(mine), "reviews.shop.mesh 2/4 241.0.0.5");
}
