// SPDX-License-Identifier: Apache-2.0
#include <arpa/nameser.h>
#include <criterion/criterion.h>
#include <errno.h>
#include "tests/unit/shim/names_double.h"

static uint8_t answer[4096];
static char shown[1024];

static void start(void) {
    double_start("search shop.mesh\n");
    res_init();
    h_errno = 55;
}

TestSuite(names_res, .init = start, .fini = double_stop);

/* The answer as a program reads it with libc's dn_expand: code, question, then TTL and content of each
 * record. */
static const char *show(int len) {
    const uint8_t *p = answer + NS_HFIXEDSZ, *end = answer + len;
    char text[256];
    if (len < 0)
        return "none";
    cr_assert_geq(len, NS_HFIXEDSZ);
    int n = dn_expand(answer, end, p, text, sizeof text);
    cr_assert_gt(n, 0);
    p += n + NS_QFIXEDSZ;
    int at = snprintf(shown, sizeof shown, "rcode=%d %s", answer[3] & 15, text);
    for (int left = answer[6] << 8 | answer[7]; left > 0; left--) {
        p += dn_skipname(p, end);
        int type = p[0] << 8 | p[1], ttl = p[6] << 8 | p[7], rdlen = p[8] << 8 | p[9];
        p += NS_RRFIXEDSZ;
        if (type == ns_t_ptr)
            cr_assert_eq(dn_expand(answer, end, p, text, sizeof text), rdlen);
        else
            inet_ntop(type == ns_t_a ? AF_INET : AF_INET6, p, text, sizeof text);
        at += snprintf(shown + at, sizeof shown - (size_t)at, " %d:%s", ttl, text);
        p += rdlen;
    }
    cr_assert_eq(p, end);
    return shown;
}

#define ASK(name, type) shim_res_query(name, ns_c_in, type, answer, sizeof answer)

Test(names_res, query_is_answered_by_type) {
    cr_assert_str_eq(show(ASK("reviews.shop.mesh", ns_t_a)), "rcode=0 reviews.shop.mesh 30:241.0.0.5");
    cr_assert_str_eq(show(ASK("reviews.shop.mesh.", ns_t_aaaa)),
                     "rcode=0 reviews.shop.mesh 30:fd6d:6573:6800::5");
    cr_assert_str_eq(show(ASK("headless.shop.mesh", ns_t_a)),
                     "rcode=0 headless.shop.mesh 30:10.0.0.7 30:10.0.0.8");
}

Test(names_res, what_is_not_there_speaks_through_h_errno) {
    cr_assert_eq(ASK("reviews.shop.mesh", ns_t_mx), -1);
    cr_assert_eq(h_errno, NO_DATA);
    cr_assert_eq(ASK("four.shop.mesh", ns_t_aaaa), -1);
    cr_assert_eq(h_errno, NO_DATA);
    cr_assert_eq(ASK("nothing.shop.mesh", ns_t_a), -1);
    cr_assert_eq(h_errno, HOST_NOT_FOUND);
    cr_assert_eq(ASK("x.later", ns_t_a), -1);
    cr_assert_eq(h_errno, TRY_AGAIN);
    double_error = MESH_E_INTERNAL;
    cr_assert_eq(ASK("reviews.shop.mesh", ns_t_a), -1);
    cr_assert_eq(h_errno, NO_RECOVERY);
}

Test(names_res, search_expands_and_answers_for_the_whole_name) {
    int n = shim_res_search("reviews", ns_c_in, ns_t_a, answer, sizeof answer);
    cr_assert_str_eq(show(n), "rcode=0 reviews.shop.mesh 30:241.0.0.5");
}

Test(names_res, querydomain_joins) {
    int n = shim_res_querydomain("reviews", "shop.mesh", ns_c_in, ns_t_a, answer, sizeof answer);
    cr_assert_str_eq(show(n), "rcode=0 reviews.shop.mesh 30:241.0.0.5");
    n = shim_res_querydomain("reviews.shop.mesh.", NULL, ns_c_in, ns_t_a, answer, sizeof answer);
    cr_assert_str_eq(show(n), "rcode=0 reviews.shop.mesh 30:241.0.0.5");
}

Test(names_res, forms_with_state_set_its_h_errno) {
    struct __res_state state = {0};
    res_ninit(&state);
    int n = shim_res_nquery(&state, "four.shop.mesh", ns_c_in, ns_t_a, answer, sizeof answer);
    cr_assert_str_eq(show(n), "rcode=0 four.shop.mesh 30:241.0.0.6");
    n = shim_res_nsearch(&state, "four", ns_c_in, ns_t_aaaa, answer, sizeof answer);
    cr_assert_eq(n, -1);
    cr_assert_eq(state.res_h_errno, NO_DATA);
    n = shim_res_nquerydomain(&state, "nothing", "shop.mesh", ns_c_in, ns_t_a, answer, sizeof answer);
    cr_assert_eq(n, -1);
    cr_assert_eq(state.res_h_errno, HOST_NOT_FOUND);
    res_nclose(&state);
}

Test(names_res, reverse_names_give_pointers) {
    cr_assert_str_eq(show(ASK("5.0.0.241.in-addr.arpa", ns_t_ptr)),
                     "rcode=0 5.0.0.241.in-addr.arpa 30:reviews.shop.mesh");
    cr_assert_eq(ASK("9.9.9.241.in-addr.arpa", ns_t_ptr), -1);
    cr_assert_eq(h_errno, HOST_NOT_FOUND);
}

Test(names_res, small_answer_buffer_is_refused) {
    cr_assert_eq(shim_res_query("four.shop.mesh", ns_c_in, ns_t_a, answer, 11), -1);
    cr_assert_eq(errno, EINVAL);
    cr_assert_eq(shim_res_query("four.shop.mesh", ns_c_in, ns_t_a, answer, 13), -1);
    cr_assert_eq(errno, EMSGSIZE);
    cr_assert_eq(h_errno, NETDB_INTERNAL);
}

static int send_query(const char *name, int type) {
    uint8_t msg[512];
    int n = res_mkquery(ns_o_query, name, ns_c_in, type, NULL, 0, NULL, msg, sizeof msg);
    cr_assert_gt(n, 0);
    int len = shim_res_send(msg, n, answer, sizeof answer);
    if (len >= 2)
        cr_assert_arr_eq(msg, answer, 2, "another id");
    return len;
}

Test(names_res, message_of_the_programs_own_is_answered_whatever_it_says) {
    cr_assert_str_eq(show(send_query("REVIEWS.shop.mesh", ns_t_a)), "rcode=0 REVIEWS.shop.mesh 30:241.0.0.5");
    cr_assert_str_eq(show(send_query("nothing.shop.mesh", ns_t_a)), "rcode=3 nothing.shop.mesh");
    cr_assert_str_eq(show(send_query("four.shop.mesh", ns_t_txt)), "rcode=0 four.shop.mesh");
    cr_assert_str_eq(show(send_query("x.later", ns_t_a)), "rcode=2 x.later");
    struct __res_state state = {0};
    uint8_t msg[512];
    int n = res_mkquery(ns_o_query, "four.shop.mesh", ns_c_in, ns_t_a, NULL, 0, NULL, msg, sizeof msg);
    cr_assert_str_eq(show(shim_res_nsend(&state, msg, n, answer, sizeof answer)),
                     "rcode=0 four.shop.mesh 30:241.0.0.6");
}

/* No server listens: libc's own answer is a failure, not ours. */
Test(names_res, other_questions_go_to_libc) {
    _res.nscount = 1;
    _res.nsaddr_list[0] = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    _res.retry = 1;
    _res.retrans = 1;
    double_asked = 0;
    cr_assert_eq(shim_res_query("reviews.shop.mesh", ns_c_chaos, ns_t_txt, answer, sizeof answer), -1);
    cr_assert_eq(double_asked, 0);
    cr_assert_eq(shim_res_query("www.example.com", ns_c_in, ns_t_a, answer, sizeof answer), -1);
    cr_assert_eq(h_errno, TRY_AGAIN);
}
