// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "shim/names.h"
#include "shim/real.h"

/* ---- getaddrinfo
 * ---------------------------------------------------------------------------------------------- */

/* Datagrams are not the mesh's; nor are names that the program says are numbers. */
static bool wants_libc(const char *name, const struct addrinfo *hints) {
    if (!name)
        return true;
    return hints && (hints->ai_flags & AI_NUMERICHOST || hints->ai_socktype == SOCK_DGRAM ||
                     hints->ai_protocol == IPPROTO_UDP || hints->ai_protocol == IPPROTO_UDPLITE);
}

static int answer_mesh(const struct mesh_answer *answer, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret) {
    struct mesh_names_addrs addrs;
    int family = hints ? hints->ai_family : AF_UNSPEC, flags = hints ? hints->ai_flags : 0;
    mesh_names_addrs_pick(answer, family, flags & AI_V4MAPPED, flags & AI_ALL, &addrs);
    int rc = mesh_names_list_build(&addrs, answer->canon, service, hints, ret);
    return rc == 0 && addrs.n == 0 ? EAI_NODATA : rc;
}

/* Wrong hints and services come before an unknown name, as in libc. */
static int answer_none(int code, const char *service, const struct addrinfo *hints) {
    static const struct mesh_names_addrs none;
    struct addrinfo *ignored;
    int rc = mesh_names_list_build(&none, NULL, service, hints, &ignored);
    return rc == 0 ? code : rc;
}

struct question {
    const char *service;
    const struct addrinfo *hints;
    struct addrinfo **ret;
    int rc;
};

static bool is_unknown(int code) {
    return code == EAI_NONAME || code == EAI_NODATA;
}

/* A server that was silent for one name leaves it open whether another's absence means anything. */
static bool ask_libc(void *arg, const char *name) {
    struct question *q = arg;
    int rc = real.getaddrinfo(name, q->service, q->hints, q->ret);
    if (q->rc != EAI_AGAIN || !is_unknown(rc))
        q->rc = rc;
    return !is_unknown(rc) && rc != EAI_AGAIN;
}

static int answer_apart(const char *name, bool again, struct question q) {
    q.rc = EAI_NONAME;
    mesh_names_apart(name, ask_libc, &q);
    return again && is_unknown(q.rc) ? EAI_AGAIN : q.rc;
}

static int answer(const char *name, const char *service, const struct addrinfo *hints,
                  const struct mesh_names_found *f, struct addrinfo **ret) {
    switch (f->verdict) {
    case MESH_NAMES_MESH:
        return answer_mesh(&f->answer, service, hints, ret);
    case MESH_NAMES_DENIED:
        return answer_none(EAI_NONAME, service, hints);
    case MESH_NAMES_AGAIN:
        return answer_none(EAI_AGAIN, service, hints);
    case MESH_NAMES_FAIL:
        return answer_none(EAI_FAIL, service, hints);
    case MESH_NAMES_APART:
        return answer_apart(name, f->again, (struct question){service, hints, ret, 0});
    case MESH_NAMES_LIBC:
        break;
    }
    return real.getaddrinfo(name, service, hints, ret);
}

int shim_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                     struct addrinfo **ret) {
    struct mesh_names_found f;
    if (wants_libc(name, hints))
        return real.getaddrinfo(name, service, hints, ret);
    mesh_names_find(name, service, MESH_NAMES_SEARCH | MESH_NAMES_WAIT, &f);
    return answer(name, service, hints, &f, ret);
}

/* ---- getaddrinfo_a
 * -------------------------------------------------------------------------------------------- */

enum { LIST_ON_STACK = 64 };

/* Answers a request of ours at once, through its own fields: gai_error, gai_suspend and gai_cancel find it
 * done. Who does not wait for the call is not made to wait here either. */
static bool serve_request(struct gaicb *r, int mode) {
    struct mesh_names_found f;
    if (wants_libc(r->ar_name, r->ar_request))
        return false;
    mesh_names_find(r->ar_name, r->ar_service, MESH_NAMES_SEARCH | (mode == GAI_WAIT ? MESH_NAMES_WAIT : 0),
                    &f);
    if (f.verdict == MESH_NAMES_LIBC)
        return false;
    r->ar_result = NULL;
    r->__return = answer(r->ar_name, r->ar_service, r->ar_request, &f, &r->ar_result);
    return true;
}

/* libc gets the list with holes in place of what is done already, and with it the notification: it comes when
 * the others are done, or at once when there are none. */
int shim_getaddrinfo_a(int mode, struct gaicb **list, int n, struct sigevent *sig) {
    struct gaicb *few[LIST_ON_STACK], **rest = few;
    if ((mode != GAI_WAIT && mode != GAI_NOWAIT) || n <= 0)
        return real.getaddrinfo_a(mode, list, n, sig);
    if (n > LIST_ON_STACK && !(rest = malloc((size_t)n * sizeof *rest)))
        return EAI_AGAIN;
    for (int i = 0; i < n; i++)
        rest[i] = list[i] && serve_request(list[i], mode) ? NULL : list[i];
    int rc = real.getaddrinfo_a(mode, rest, n, sig);
    if (rest != few)
        free(rest);
    return rc;
}

/* ---- getnameinfo
 * ---------------------------------------------------------------------------------------------- */

/* Our own domain, which NI_NOFQDN takes off a name. */
static void cut_domain(char *name) {
    char host[256];
    if (gethostname(host, sizeof host) != 0)
        return;
    host[sizeof host - 1] = '\0';
    const char *domain = strchr(host, '.');
    size_t len = strlen(name), n = domain ? strlen(domain) : 0;
    if (n > 1 && len > n && strcasecmp(name + len - n, domain) == 0)
        name[len - n] = '\0';
}

static enum mesh_names_verdict find_sockaddr(const struct sockaddr *sa, socklen_t len, char *ret_name) {
    if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in))
        return mesh_names_find_addr(AF_INET, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4,
                                    ret_name);
    if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6))
        return mesh_names_find_addr(AF_INET6, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16,
                                    ret_name);
    return MESH_NAMES_LIBC;
}

/* The host is ours to say; the service, and every wrong argument, is libc's. */
int shim_getnameinfo(const struct sockaddr *sa, socklen_t len, char *host, socklen_t host_len, char *service,
                     socklen_t service_len, int flags) {
    char name[MESH_NAME_MAX + 1];
    const int known = NI_NUMERICHOST | NI_NUMERICSERV | NI_NOFQDN | NI_NAMEREQD | NI_DGRAM | NI_IDN;
    enum mesh_names_verdict verdict = MESH_NAMES_LIBC;
    if (sa && len >= sizeof sa->sa_family && host && host_len > 0 && !(flags & NI_NUMERICHOST) &&
        !(flags & ~known))
        verdict = find_sockaddr(sa, len, name);
    if (verdict == MESH_NAMES_LIBC)
        return real.getnameinfo(sa, len, host, host_len, service, service_len, flags);
    if (verdict != MESH_NAMES_MESH)
        return flags & NI_NAMEREQD
                   ? EAI_NONAME
                   : real.getnameinfo(sa, len, host, host_len, service, service_len, flags | NI_NUMERICHOST);
    if (flags & NI_NOFQDN)
        cut_domain(name);
    size_t n = strlen(name) + 1;
    if (n > host_len)
        return EAI_OVERFLOW;
    memcpy(host, name, n);
    return real.getnameinfo(sa, len, NULL, 0, service, service_len, flags & ~NI_NAMEREQD);
}
