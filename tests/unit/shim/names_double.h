/* SPDX-License-Identifier: Apache-2.0
 *
 * A small mesh for the tests of the names family, put in place of the process's view:
 *
 *   reviews.shop.mesh   241.0.0.5 and fd6d:6573:6800::5      four.shop.mesh   241.0.0.6
 *   headless.shop.mesh  10.0.0.7, 2001:db8::7, 10.0.0.8      six.shop.mesh    fd6d:6573:6800::7
 *   empty.shop.mesh     headless without endpoints         NAME.wild.mesh      241.0.0.8, by a wildcard
 *   *.mesh              denied                               *.later          not known until double_known_at
 *   *.maybe             the same, and goes to libc when it is not answered
 */
#ifndef TESTS_NAMES_DOUBLE_H
#define TESTS_NAMES_DOUBLE_H

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "shim/base/clock.h"
#include "shim/bodies.h"
#include "shim/names.h"

static uint64_t double_known_at;      /* mesh_now() from which *.later exists; 0: never */
static _Atomic unsigned double_asked; /* look-ups by name */
static int double_error;              /* answered to every look-up by name when not 0 */

static inline bool double_ends(const char *name, const char *suffix) {
    size_t n = strlen(name), s = strlen(suffix);
    return n > s && strcasecmp(name + n - s, suffix) == 0;
}

static inline void double_listed(struct mesh_answer *ret, const char *canon, const char *v4, const char *v6) {
    snprintf(ret->canon, sizeof ret->canon, "%s", canon);
    ret->has4 = v4 && inet_pton(AF_INET, v4, ret->v4) == 1;
    ret->has6 = v6 && inet_pton(AF_INET6, v6, ret->v6) == 1;
    ret->naddrs = 0;
    ret->pattern = double_ends(canon, ".wild.mesh");
}

static inline void double_own(struct mesh_answer *ret, const char *addr) {
    bool six = strchr(addr, ':');
    ret->addrs[ret->naddrs].family = six ? 6 : 4;
    inet_pton(six ? AF_INET6 : AF_INET, addr, ret->addrs[ret->naddrs].addr);
    ret->naddrs++;
}

static inline int double_name(const struct mesh_view *v, const char *name, uint16_t port,
                              struct mesh_answer *ret) {
    double_asked++;
    if (double_error != 0)
        return double_error;
    if (strcasecmp(name, "reviews.shop.mesh") == 0)
        double_listed(ret, "reviews.shop.mesh", "241.0.0.5", "fd6d:6573:6800::5");
    else if (strcasecmp(name, "four.shop.mesh") == 0)
        double_listed(ret, "four.shop.mesh", "241.0.0.6", NULL);
    else if (strcasecmp(name, "six.shop.mesh") == 0)
        double_listed(ret, "six.shop.mesh", NULL, "fd6d:6573:6800::7");
    else if (strcasecmp(name, "headless.shop.mesh") == 0) {
        double_listed(ret, "headless.shop.mesh", NULL, NULL);
        double_own(ret, "10.0.0.7");
        double_own(ret, "2001:db8::7");
        double_own(ret, "10.0.0.8");
    } else if (strcasecmp(name, "empty.shop.mesh") == 0) {
        return MESH_E_NOENDPOINT;
    } else if (double_ends(name, ".wild.mesh")) {
        double_listed(ret, name, "241.0.0.8", NULL);
    } else if (double_ends(name, ".later") || double_ends(name, ".maybe")) {
        if (double_known_at == 0 || mesh_now() < double_known_at)
            return MESH_E_AGAIN;
        double_listed(ret, name, "241.0.0.9", NULL);
    } else
        return double_ends(name, ".mesh") ? MESH_E_DENIED : MESH_E_NOTFOUND;
    return 0;
}

static inline int double_name_of(const struct mesh_view *v, int family, const void *addr, char *ret_name,
                                 size_t cap) {
    static const struct {
        const char *addr, *name;
    } rows[] = {{"241.0.0.5", "reviews.shop.mesh"},
                {"fd6d:6573:6800::5", "reviews.shop.mesh"},
                {"241.0.0.6", "four.shop.mesh"},
                {"10.96.3.7", "four.shop.mesh"}};
    char text[INET6_ADDRSTRLEN];
    inet_ntop(family == 4 ? AF_INET : AF_INET6, addr, text, sizeof text);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].addr, text) == 0) {
            snprintf(ret_name, cap, "%s", rows[i].name);
            return 0;
        }
    return MESH_E_NOTFOUND;
}

static inline bool double_is_virtual(const struct mesh_view *v, int family, const void *addr) {
    const uint8_t *a = addr;
    return family == 4 ? a[0] == 241 : memcmp(a, "\xfd\x6d\x65\x73\x68\x00", 6) == 0;
}

static inline struct mesh_view *double_view(void) {
    static char there;
    return (struct mesh_view *)(void *)&there;
}

static inline struct mesh_view *double_no_view(void) {
    return NULL;
}

static inline uint64_t double_timeout(void) {
    return 100 * MESH_MS;
}

static inline bool double_falls_through(const struct mesh_view *v, const char *name) {
    return double_ends(name, ".maybe");
}

static bool double_provisional;

static inline bool double_is_provisional(const struct mesh_view *v) {
    return double_provisional;
}

static char double_demand[MESH_NAME_MAX + 1]; /* the last name that was asked for */
static uint16_t double_port;

static inline int double_ask(struct mesh_view *v, const char *name, uint16_t port) {
    snprintf(double_demand, sizeof double_demand, "%s", name);
    double_port = port;
    return 0;
}

static inline uint32_t double_answers(const struct mesh_view *v) {
    return 0;
}

static inline void double_wait(const struct mesh_view *v, uint32_t seen, uint64_t ns) {
    nanosleep(&(struct timespec){.tv_nsec = 5 * MESH_MS}, NULL);
}

static const struct mesh_names_source double_source = {
    .view = double_view,
    .name = double_name,
    .falls_through = double_falls_through,
    .is_provisional = double_is_provisional,
    .ask = double_ask,
    .answers = double_answers,
    .wait = double_wait,
    .name_of = double_name_of,
    .is_virtual = double_is_virtual,
    .timeout = double_timeout,
};

/* libc with a hosts file that says "10.0.0.99 box", asked as its resolver would: with the search list on, box
 * is not found. */
static inline int double_box(const char *name, const char *service, const struct addrinfo *hints,
                             struct addrinfo **ret) {
    if (strcmp(name, "box") == 0)
        return _res.options & (RES_DEFNAMES | RES_DNSRCH) ? EAI_NONAME
                                                          : getaddrinfo("10.0.0.99", service, hints, ret);
    return getaddrinfo(name, service, hints, ret);
}

static inline int double_box_r(const char *name, int family, struct hostent *ret, char *buf, size_t n,
                               struct hostent **ret_host, int *ret_herr) {
    bool box = strcmp(name, "box") == 0 && !(_res.options & (RES_DEFNAMES | RES_DNSRCH));
    return gethostbyname2_r(box ? "10.0.0.99" : name, family, ret, buf, n, ret_host, ret_herr);
}

static char double_conf[] = "/tmp/meshshim-resolv-XXXXXX";

/* The double as source, and a resolv.conf with these lines. */
static inline void double_start(const char *lines) {
    strcpy(double_conf + sizeof double_conf - 7, "XXXXXX");
    int fd = mkstemp(double_conf);
    FILE *f = fdopen(fd, "w");
    fputs(lines, f);
    fclose(f);
    mesh_names_search_from(double_conf);
    mesh_names_source = &double_source;
}

static inline void double_stop(void) {
    unlink(double_conf);
}

#endif
