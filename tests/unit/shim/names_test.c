// SPDX-License-Identifier: Apache-2.0
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include "shim/real.h"
#include "tests/unit/shim/names_double.h"

static void start(void) {
    double_start("search shop.mesh\n");
}

TestSuite(names_getaddrinfo, .init = start, .fini = double_stop);
TestSuite(names_getaddrinfo_a, .init = start, .fini = double_stop);
TestSuite(names_getnameinfo, .init = start, .fini = double_stop);

/* ---- lists
 * ---------------------------------------------------------------------------------------------------- */

static char text_a[8192], text_b[8192];

/* A list in one line a node; `as` replaces the address, so that lists of different hosts compare. */
static void print(char *to, size_t cap, int rc, const struct addrinfo *list, const char *as) {
    size_t n = (size_t)snprintf(to, cap, "%d\n", rc);
    for (; list && rc == 0; list = list->ai_next) {
        char host[INET6_ADDRSTRLEN], port[8];
        getnameinfo(list->ai_addr, list->ai_addrlen, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
        n += (size_t)snprintf(to + n, cap - n, "flags=%x family=%d/%d type=%d proto=%d len=%u %s %s\n",
                              list->ai_flags, list->ai_family, list->ai_addr->sa_family, list->ai_socktype,
                              list->ai_protocol, list->ai_addrlen, as ? as : host, port);
    }
}

static const char *lookup(const char *name, const char *service, int flags, int family, int type) {
    struct addrinfo hints = {.ai_flags = flags, .ai_family = family, .ai_socktype = type}, *list = NULL;
    int rc = shim_getaddrinfo(name, service, &hints, &list);
    print(text_a, sizeof text_a, rc, list, NULL);
    if (rc == 0)
        freeaddrinfo(list);
    return text_a;
}

#define STREAM4(flags, addr, port) "flags=" flags " family=2/2 type=1 proto=6 len=16 " addr " " port "\n"
#define STREAM6(flags, addr, port) "flags=" flags " family=10/10 type=1 proto=6 len=28 " addr " " port "\n"

Test(names_getaddrinfo, both_families_ipv4_first) {
    cr_assert_str_eq(lookup("reviews", "9080", 0, AF_UNSPEC, SOCK_STREAM),
                     "0\n" STREAM4("0", "241.0.0.5", "9080") STREAM6("0", "fd6d:6573:6800::5", "9080"));
}

Test(names_getaddrinfo, one_family_gives_that_family) {
    cr_assert_str_eq(lookup("reviews", NULL, 0, AF_INET, SOCK_STREAM), "0\n" STREAM4("0", "241.0.0.5", "0"));
    cr_assert_str_eq(lookup("reviews", NULL, 0, AF_INET6, SOCK_STREAM),
                     "0\n" STREAM6("0", "fd6d:6573:6800::5", "0"));
}

Test(names_getaddrinfo, family_that_the_name_lacks_is_no_data) {
    cr_assert_str_eq(lookup("four", NULL, 0, AF_INET6, SOCK_STREAM), "-5\n");
    cr_assert_str_eq(lookup("six", NULL, 0, AF_INET, SOCK_STREAM), "-5\n");
    cr_assert_str_eq(lookup("six", NULL, 0, AF_UNSPEC, SOCK_STREAM),
                     "0\n" STREAM6("0", "fd6d:6573:6800::7", "0"));
}

Test(names_getaddrinfo, v4_mapped_when_there_is_no_ipv6_or_all) {
    cr_assert_str_eq(lookup("four", NULL, AI_V4MAPPED, AF_INET6, SOCK_STREAM),
                     "0\n" STREAM6("8", "::ffff:241.0.0.6", "0"));
    cr_assert_str_eq(lookup("reviews", NULL, AI_V4MAPPED, AF_INET6, SOCK_STREAM),
                     "0\n" STREAM6("8", "fd6d:6573:6800::5", "0"));
    cr_assert_str_eq(lookup("reviews", NULL, AI_V4MAPPED | AI_ALL, AF_INET6, SOCK_STREAM),
                     "0\n" STREAM6("18", "fd6d:6573:6800::5", "0") STREAM6("18", "::ffff:241.0.0.5", "0"));
    cr_assert_str_eq(lookup("four", NULL, AI_ALL, AF_INET6, SOCK_STREAM), "-5\n");
}

Test(names_getaddrinfo, headless_gives_the_endpoints_own_addresses) {
    cr_assert_str_eq(lookup("headless", "80", 0, AF_UNSPEC, SOCK_STREAM),
                     "0\n" STREAM4("0", "10.0.0.7", "80") STREAM6("0", "2001:db8::7", "80")
                         STREAM4("0", "10.0.0.8", "80"));
    cr_assert_str_eq(lookup("headless", "80", AI_V4MAPPED | AI_ALL, AF_INET6, SOCK_STREAM),
                     "0\n" STREAM6("18", "2001:db8::7", "80") STREAM6("18", "::ffff:10.0.0.7", "80")
                         STREAM6("18", "::ffff:10.0.0.8", "80"));
}

Test(names_getaddrinfo, no_hints_are_libcs_defaults) {
    static const int triple[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW};
    struct addrinfo *list, *node;
    cr_assert_eq(shim_getaddrinfo("reviews", NULL, NULL, &list), 0);
    int n = 0;
    for (node = list; node; node = node->ai_next, n++) {
        cr_assert_eq(node->ai_flags, AI_V4MAPPED | AI_ADDRCONFIG);
        cr_assert_eq(node->ai_socktype, triple[n % 3]);
    }
    cr_assert_eq(n, 6);
    freeaddrinfo(list);
}

Test(names_getaddrinfo, canonical_name_stands_on_the_first_node) {
    struct addrinfo hints = {.ai_flags = AI_CANONNAME}, *list;
    cr_assert_eq(shim_getaddrinfo("REVIEWS", NULL, &hints, &list), 0);
    cr_assert_str_eq(list->ai_canonname, "reviews.shop.mesh");
    cr_assert_null(list->ai_next->ai_canonname);
    freeaddrinfo(list);
}

/* An interface's addresses say nothing about a virtual address. */
Test(names_getaddrinfo, addrconfig_takes_no_family_away) {
    lookup("reviews", NULL, AI_ADDRCONFIG, AF_UNSPEC, SOCK_STREAM);
    cr_assert_str_eq(text_a, "0\n" STREAM4("20", "241.0.0.5", "0") STREAM6("20", "fd6d:6573:6800::5", "0"));
    cr_assert_str_eq(lookup("six", NULL, AI_ADDRCONFIG, AF_INET6, SOCK_STREAM),
                     "0\n" STREAM6("20", "fd6d:6573:6800::7", "0"));
    cr_assert_str_eq(lookup("four", NULL, AI_ADDRCONFIG, AF_INET, SOCK_STREAM),
                     "0\n" STREAM4("20", "241.0.0.6", "0"));
}

static int flags_asked;

static int spy(const char *node, const char *service_name, const struct addrinfo *hints,
               struct addrinfo **ret) {
    flags_asked = hints->ai_flags;
    return getaddrinfo(node, service_name, hints, ret);
}

/* With AI_ADDRCONFIG libc reads the interfaces through netlink. */
Test(names_getaddrinfo, libc_is_asked_without_system_calls) {
    real.getaddrinfo = spy;
    lookup("reviews", NULL, AI_ADDRCONFIG | AI_CANONNAME | AI_PASSIVE, AF_UNSPEC, SOCK_STREAM);
    cr_assert_eq(flags_asked, AI_NUMERICHOST | AI_PASSIVE);
}

Test(names_getaddrinfo, refusals_have_their_codes) {
    cr_assert_str_eq(lookup("nothing.shop.mesh", NULL, 0, AF_UNSPEC, SOCK_STREAM), "-2\n");
    cr_assert_str_eq(lookup("x.later", NULL, 0, AF_UNSPEC, SOCK_STREAM), "-3\n");
    double_error = MESH_E_INTERNAL;
    cr_assert_str_eq(lookup("reviews.shop.mesh", NULL, 0, AF_UNSPEC, SOCK_STREAM), "-4\n");
}

Test(names_getaddrinfo, wrong_hints_come_before_an_unknown_name) {
    cr_assert_str_eq(lookup("nothing.shop.mesh", NULL, 0x800000, AF_UNSPEC, SOCK_STREAM), "-1\n");
    cr_assert_str_eq(lookup("nothing.shop.mesh", "no-such-service", 0, AF_UNSPEC, SOCK_STREAM), "-8\n");
    cr_assert_str_eq(lookup("four.shop.mesh", "http", AI_NUMERICSERV, AF_INET6, SOCK_STREAM), "-2\n");
}

Test(names_getaddrinfo, datagrams_and_numbers_are_libcs) {
    double_asked = 0;
    lookup("241.0.0.5", NULL, 0, AF_UNSPEC, SOCK_DGRAM);
    cr_assert_str_eq(text_a, "0\nflags=0 family=2/2 type=2 proto=17 len=16 241.0.0.5 0\n");
    lookup("localhost", NULL, 0, AF_INET, SOCK_DGRAM);
    cr_assert_str_eq(text_a, "0\nflags=0 family=2/2 type=2 proto=17 len=16 127.0.0.1 0\n");
    struct addrinfo udp = {.ai_family = AF_INET, .ai_protocol = IPPROTO_UDP}, *list;
    cr_assert_eq(shim_getaddrinfo("localhost", NULL, &udp, &list), 0);
    freeaddrinfo(list);
    lookup("reviews.shop.mesh", NULL, AI_NUMERICHOST, AF_UNSPEC, SOCK_STREAM);
    cr_assert_str_eq(text_a, "-2\n");
    lookup(NULL, "80", 0, AF_INET, SOCK_STREAM);
    cr_assert_str_eq(text_a, "0\n" STREAM4("0", "127.0.0.1", "80"));
    cr_assert_eq(double_asked, 0);
}

Test(names_getaddrinfo, single_label_of_the_hosts_file_survives_denied_expansions) {
    real.getaddrinfo = double_box;
    cr_assert_str_eq(lookup("box", "80", 0, AF_INET, SOCK_STREAM), "0\n" STREAM4("0", "10.0.0.99", "80"));
}

Test(names_getaddrinfo, headless_without_endpoints_is_no_data) {
    cr_assert_str_eq(lookup("empty", "80", 0, AF_UNSPEC, SOCK_STREAM), "-5\n");
}

Test(names_getaddrinfo, errno_is_kept) {
    errno = 77;
    lookup("reviews", "80", 0, AF_UNSPEC, SOCK_STREAM);
    lookup("nothing.shop.mesh", "80", 0, AF_UNSPEC, SOCK_STREAM);
    cr_assert_eq(errno, 77);
}

/* ---- against libc
 * ----------------------------------------------------------------------------------------------- */

static const int types[] = {0, SOCK_STREAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_DCCP, 77};
static const int protocols[] = {0, IPPROTO_TCP, IPPROTO_SCTP, IPPROTO_ICMP, 200};
static const int flag_bits[] = {AI_PASSIVE, AI_V4MAPPED, AI_ALL,  AI_NUMERICSERV,
                                AI_IDN,     AI_CANONIDN, 0x800000};
static const char *const services[] = {NULL, "", "80", "http", "no-such-service", "70000", "-1", "domain"};

#define EACH(i, a) for (size_t i = 0; i < sizeof(a) / sizeof *(a); i++)

static unsigned compared;

static void compare(const char *ours, const char *libcs, const char *service, const struct addrinfo *hints) {
    struct addrinfo *a = NULL, *b = NULL;
    int rc_a = shim_getaddrinfo(ours, service, hints, &a), rc_b = getaddrinfo(libcs, service, hints, &b);
    print(text_a, sizeof text_a, rc_a, a, "ADDR");
    print(text_b, sizeof text_b, rc_b, b, "ADDR");
    compared++;
    bool canon = rc_a || rc_b || !a->ai_canonname == !b->ai_canonname;
    if (rc_a == 0)
        freeaddrinfo(a);
    if (rc_b == 0)
        freeaddrinfo(b);
    cr_assert(canon, "canonical name for flags %x", hints->ai_flags);
    cr_assert_str_eq(text_a, text_b,
                     "%s against %s: flags %x family %d type %d proto %d service %s: %s not %s", ours, libcs,
                     hints->ai_flags, hints->ai_family, hints->ai_socktype, hints->ai_protocol,
                     service ? service : "NULL", text_a, text_b);
}

static void compare_all(const char *ours, const char *libcs, const int *fams, size_t nfams) {
    for (size_t f = 0; f < nfams; f++)
        EACH(t, types)
    EACH(p, protocols)
    EACH(s, services)
    for (int bits = 0; bits < 1 << 7; bits++) {
        struct addrinfo hints = {.ai_family = fams[f], .ai_socktype = types[t], .ai_protocol = protocols[p]};
        EACH(b, flag_bits)
        hints.ai_flags |= bits & 1 << b ? flag_bits[b] : 0;
        compare(ours, libcs, services[s], &hints);
    }
}

/* A name with one IPv4 address, against the address itself. AF_INET6 is apart: a number of the wrong family
 * is EAI_ADDRFAMILY, a name without the family EAI_NODATA. */
Test(names_getaddrinfo, every_hint_means_what_it_means_for_a_number) {
    static const int here[] = {AF_UNSPEC, AF_INET, AF_UNIX, 99}, six[] = {AF_INET6};
    compare_all("four.shop.mesh", "241.0.0.6", here, 4);
    compare_all("six.shop.mesh", "fd6d:6573:6800::7", six, 1);
    cr_assert_eq(compared, 5 * 6 * 5 * 8 * 128);
}

/* A name, against a name: localhost from the hosts file. */
Test(names_getaddrinfo, every_hint_means_what_it_means_for_a_name) {
    static const int here[] = {AF_INET, AF_UNIX, 99};
    compare_all("four.shop.mesh", "localhost", here, 3);
    struct addrinfo hints = {.ai_family = AF_INET, .ai_flags = AI_CANONNAME};
    compare("four.shop.mesh", "localhost", NULL, &hints);
    hints.ai_flags |= AI_CANONIDN;
    compare("four.shop.mesh", "localhost", "http", &hints);
}

Test(names_getaddrinfo, two_addresses_are_two_lists_one_behind_the_other) {
    EACH(t, types)
    EACH(s, services) {
        struct addrinfo hints = {.ai_socktype = types[t]}, *list = NULL, *v4 = NULL, *v6 = NULL, *end;
        int rc = shim_getaddrinfo("reviews", services[s], &hints, &list);
        int rc4 = getaddrinfo("241.0.0.5", services[s], &hints, &v4);
        int rc6 = getaddrinfo("fd6d:6573:6800::5", services[s], &hints, &v6);
        cr_assert_eq(rc, rc4);
        cr_assert_eq(rc, rc6);
        if (rc != 0)
            continue;
        for (end = v4; end->ai_next; end = end->ai_next)
            ;
        end->ai_next = v6;
        print(text_a, sizeof text_a, rc, list, NULL);
        print(text_b, sizeof text_b, rc, v4, NULL);
        freeaddrinfo(list);
        freeaddrinfo(v4);
        cr_assert_str_eq(text_a, text_b);
    }
}

/* ---- getaddrinfo_a
 * ------------------------------------------------------------------------------------------------ */

/* libc's helper threads are started past pthread_create: ThreadSanitizer has no state for them and dies in
 * malloc. */
static void not_with_libcs_threads(void) {
#ifdef __SANITIZE_THREAD__
    cr_skip("libc starts its helper threads past ThreadSanitizer");
#endif
}

Test(names_getaddrinfo_a, mixed_list_is_answered_by_both) {
    not_with_libcs_threads();
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct gaicb r[4] = {{.ar_name = "reviews", .ar_service = "80", .ar_request = &hints},
                         {.ar_name = "127.0.0.1", .ar_request = &hints},
                         {.ar_name = "nothing.shop.mesh", .ar_request = &hints},
                         {.ar_name = "four", .ar_request = &hints}};
    struct gaicb *list[5] = {&r[0], &r[1], NULL, &r[2], &r[3]};
    cr_assert_eq(shim_getaddrinfo_a(GAI_WAIT, list, 5, NULL), 0);
    int want[] = {0, 0, EAI_NONAME, 0};
    for (int i = 0; i < 4; i++)
        cr_assert_eq(gai_error(&r[i]), want[i], "request %d", i);
    cr_assert_eq(((struct sockaddr_in *)r[0].ar_result->ai_addr)->sin_addr.s_addr, htonl(0xf1000005));
    cr_assert_null(r[2].ar_result);
    cr_assert_eq(gai_cancel(&r[0]), EAI_ALLDONE);
    cr_assert_eq(list[0], &r[0], "the program's list stays as it was");
    freeaddrinfo(r[0].ar_result);
    freeaddrinfo(r[1].ar_result);
    freeaddrinfo(r[3].ar_result);
}

static _Atomic int notified;

static void notify(union sigval v) {
    notified += v.sival_int;
}

Test(names_getaddrinfo_a, notification_comes_when_all_is_ours_and_when_it_is_not) {
    not_with_libcs_threads();
    struct sigevent sig = {
        .sigev_notify = SIGEV_THREAD, .sigev_notify_function = notify, .sigev_value.sival_int = 1};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct gaicb ours = {.ar_name = "four"}, theirs = {.ar_name = "127.0.0.1", .ar_request = &hints};
    struct gaicb *list[2] = {&ours, NULL};
    cr_assert_eq(shim_getaddrinfo_a(GAI_NOWAIT, list, 1, &sig), 0);
    cr_assert_eq(gai_error(&ours), 0, "done before the call returns");
    cr_assert_eq(gai_suspend((const struct gaicb *const *)list, 1, NULL), EAI_ALLDONE);
    freeaddrinfo(ours.ar_result);
    list[1] = &theirs;
    cr_assert_eq(shim_getaddrinfo_a(GAI_NOWAIT, list, 2, &sig), 0);
    for (int i = 0; i < 500 && (notified < 2 || gai_error(&theirs) == EAI_INPROGRESS); i++)
        usleep(10000);
    cr_assert_eq(notified, 2);
    cr_assert_eq(gai_error(&theirs), 0);
    freeaddrinfo(ours.ar_result);
    freeaddrinfo(theirs.ar_result);
}

Test(names_getaddrinfo_a, nowait_does_not_wait_for_an_unknown_name) {
    struct gaicb r = {.ar_name = "x.later"};
    uint64_t before = mesh_now();
    struct gaicb *list[1] = {&r};
    cr_assert_eq(shim_getaddrinfo_a(GAI_NOWAIT, list, 1, NULL), 0);
    cr_assert_eq(gai_error(&r), EAI_AGAIN);
    cr_assert_lt(mesh_now() - before, 50 * MESH_MS);
}

Test(names_getaddrinfo_a, long_list_and_wrong_mode) {
    enum { MANY = 300 };
    struct gaicb r[MANY] = {0}, *list[MANY];
    for (int i = 0; i < MANY; i++) {
        r[i].ar_name = "four";
        list[i] = &r[i];
    }
    cr_assert_eq(shim_getaddrinfo_a(GAI_WAIT, list, MANY, NULL), 0);
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(gai_error(&r[i]), 0);
        freeaddrinfo(r[i].ar_result);
    }
    cr_assert_eq(shim_getaddrinfo_a(77, list, 1, NULL), EAI_SYSTEM);
}

/* ---- getnameinfo
 * --------------------------------------------------------------------------------------------------- */

static char host[64], service[32];

static int name_info(const char *addr, int flags, socklen_t host_len, socklen_t service_len) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(80)};
    bool is6 = strchr(addr, ':');
    inet_pton(is6 ? AF_INET6 : AF_INET, addr, is6 ? (void *)&six.sin6_addr : (void *)&four.sin_addr);
    strcpy(host, "-");
    strcpy(service, "-");
    return shim_getnameinfo(is6 ? (void *)&six : (void *)&four, is6 ? sizeof six : sizeof four, host,
                            host_len, service, service_len, flags);
}

Test(names_getnameinfo, virtual_address_has_its_name_and_libcs_service) {
    cr_assert_eq(name_info("241.0.0.5", 0, sizeof host, sizeof service), 0);
    cr_assert_str_eq(host, "reviews.shop.mesh");
    cr_assert_str_eq(service, "http");
    cr_assert_eq(name_info("fd6d:6573:6800::5", NI_NAMEREQD | NI_NUMERICSERV, sizeof host, sizeof service),
                 0);
    cr_assert_str_eq(host, "reviews.shop.mesh");
    cr_assert_str_eq(service, "80");
    cr_assert_eq(name_info("::ffff:241.0.0.6", NI_NAMEREQD, sizeof host, 0), 0);
    cr_assert_str_eq(host, "four.shop.mesh");
}

Test(names_getnameinfo, number_is_asked_for_or_all_there_is) {
    cr_assert_eq(name_info("241.0.0.5", NI_NUMERICHOST, sizeof host, sizeof service), 0);
    cr_assert_str_eq(host, "241.0.0.5");
    cr_assert_eq(name_info("241.9.9.9", 0, sizeof host, sizeof service), 0);
    cr_assert_str_eq(host, "241.9.9.9");
    cr_assert_str_eq(service, "http");
    cr_assert_eq(name_info("241.9.9.9", NI_NAMEREQD, sizeof host, sizeof service), EAI_NONAME);
}

Test(names_getnameinfo, small_buffers_overflow_and_wrong_flags_are_libcs) {
    cr_assert_eq(name_info("241.0.0.5", 0, sizeof "reviews.shop.mesh" - 1, sizeof service), EAI_OVERFLOW);
    cr_assert_eq(name_info("241.0.0.5", 0, sizeof "reviews.shop.mesh", 2), EAI_OVERFLOW);
    cr_assert_eq(name_info("241.0.0.5", 1 << 20, sizeof host, sizeof service), EAI_BADFLAGS);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xf1000005)};
    cr_assert_eq(shim_getnameinfo((void *)&sa, sizeof sa - 1, host, sizeof host, NULL, 0, 0), EAI_FAMILY);
    cr_assert_eq(shim_getnameinfo(NULL, 0, host, sizeof host, NULL, 0, 0), EAI_FAMILY);
    cr_assert_eq(shim_getnameinfo((void *)&sa, sizeof sa, NULL, 0, service, sizeof service, NI_DGRAM), 0);
}
