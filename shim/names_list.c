// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "shim/names.h"
#include "shim/real.h"

/* What getaddrinfo takes hints == NULL for. */
enum { DEFAULT_FLAGS = AI_V4MAPPED | AI_ADDRCONFIG };

static void add(struct mesh_names_addrs *to, uint8_t family, const uint8_t *addr) {
    if (to->n == MESH_ANSWER_ADDRS)
        return;
    to->a[to->n].family = family;
    memcpy(to->a[to->n].addr, addr, family == 4 ? 4 : 16);
    to->n++;
}

static void add_mapped(struct mesh_names_addrs *to, const uint8_t v4[4]) {
    uint8_t addr[16] = {[10] = 0xff, [11] = 0xff};
    memcpy(addr + 12, v4, 4);
    add(to, 6, addr);
}

/* Headless: the endpoints' own addresses, in the view's order. family 0: both. */
static void pick_own(const struct mesh_answer *a, int family, struct mesh_names_addrs *to) {
    for (unsigned i = 0; i < a->naddrs && i < MESH_ANSWER_ADDRS; i++)
        if (family == 0 || a->addrs[i].family == family)
            add(to, a->addrs[i].family, a->addrs[i].addr);
}

static void pick_family(const struct mesh_answer *a, int family, struct mesh_names_addrs *to) {
    if (a->naddrs > 0)
        pick_own(a, family, to);
    else if (family == 4 && a->has4)
        add(to, 4, a->v4);
    else if (family == 6 && a->has6)
        add(to, 6, a->v6);
}

static void pick_mapped(const struct mesh_answer *a, struct mesh_names_addrs *to) {
    struct mesh_names_addrs v4 = {.n = 0};
    pick_family(a, 4, &v4);
    for (unsigned i = 0; i < v4.n; i++)
        add_mapped(to, v4.a[i].addr);
}

void mesh_names_addrs_pick(const struct mesh_answer *answer, int family, bool mapped, bool all,
                           struct mesh_names_addrs *ret) {
    ret->n = 0;
    if (family == AF_UNSPEC && answer->naddrs > 0) {
        pick_own(answer, 0, ret);
        return;
    }
    if (family != AF_INET6)
        pick_family(answer, 4, ret);
    if (family != AF_INET)
        pick_family(answer, 6, ret);
    if (family == AF_INET6 && mapped && (all || ret->n == 0))
        pick_mapped(answer, ret);
}

/* libc's own list for a numeric address: which socket types, protocols and port the hints and the service
 * mean, in which order, and which error when they mean nothing, is libc's to say, in whatever version this
 * is. */
static int ask_pattern(bool six, const char *service, const struct addrinfo *hints, struct addrinfo **ret) {
    struct addrinfo h = {.ai_flags = DEFAULT_FLAGS};
    if (hints)
        h = (struct addrinfo){.ai_flags = hints->ai_flags,
                              .ai_family = hints->ai_family,
                              .ai_socktype = hints->ai_socktype,
                              .ai_protocol = hints->ai_protocol};
    h.ai_flags &= ~(AI_ADDRCONFIG | AI_CANONNAME);
    h.ai_flags |= AI_NUMERICHOST;
    return real.getaddrinfo(six ? "::" : "0.0.0.0", service, &h, ret);
}

static void set_addr(struct addrinfo *node, const uint8_t *addr) {
    if (node->ai_family == AF_INET)
        memcpy(&((struct sockaddr_in *)node->ai_addr)->sin_addr, addr, 4);
    else
        memcpy(&((struct sockaddr_in6 *)node->ai_addr)->sin6_addr, addr, 16);
}

static in_port_t port_of(const struct addrinfo *node) {
    return node->ai_family == AF_INET ? ((struct sockaddr_in *)node->ai_addr)->sin_port
                                      : ((struct sockaddr_in6 *)node->ai_addr)->sin6_port;
}

/* One block for node and address, as libc makes them and frees them. */
static struct addrinfo *clone_node(const struct addrinfo *like, bool six, int flags) {
    socklen_t len = six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    struct addrinfo *node = calloc(1, sizeof *node + len);
    if (!node)
        return NULL;
    node->ai_flags = flags;
    node->ai_family = six ? AF_INET6 : AF_INET;
    node->ai_socktype = like->ai_socktype;
    node->ai_protocol = like->ai_protocol;
    node->ai_addrlen = len;
    node->ai_addr = (struct sockaddr *)(node + 1);
    node->ai_addr->sa_family = (sa_family_t)node->ai_family;
    if (six)
        ((struct sockaddr_in6 *)node->ai_addr)->sin6_port = port_of(like);
    else
        ((struct sockaddr_in *)node->ai_addr)->sin_port = port_of(like);
    return node;
}

/* The pattern's nodes become the first address's; returns the last one and how many there are. */
static struct addrinfo *adopt(struct addrinfo *list, const uint8_t *addr, int flags, unsigned *ret_n) {
    struct addrinfo *node = list;
    for (*ret_n = 1;; (*ret_n)++, node = node->ai_next) {
        node->ai_flags = flags;
        set_addr(node, addr);
        if (!node->ai_next)
            return node;
    }
}

static bool append(struct addrinfo *list, struct addrinfo *tail, unsigned n,
                   const struct mesh_names_addrs *addrs, int flags) {
    for (unsigned i = 1; i < addrs->n; i++) {
        const struct addrinfo *like = list;
        for (unsigned j = 0; j < n; j++, like = like->ai_next) {
            tail->ai_next = clone_node(like, addrs->a[i].family == 6, flags);
            if (!tail->ai_next)
                return false;
            tail = tail->ai_next;
            set_addr(tail, addrs->a[i].addr);
        }
    }
    return true;
}

int mesh_names_list_build(const struct mesh_names_addrs *addrs, const char *canon, const char *service,
                          const struct addrinfo *hints, struct addrinfo **ret_list) {
    int flags = hints ? hints->ai_flags : DEFAULT_FLAGS;
    struct addrinfo *list = NULL;
    bool six = addrs->n > 0 ? addrs->a[0].family == 6 : hints && hints->ai_family == AF_INET6;
    int rc = ask_pattern(six, service, hints, &list);
    if (rc != 0)
        return rc;
    if (addrs->n == 0) {
        freeaddrinfo(list);
        *ret_list = NULL;
        return 0;
    }
    unsigned n;
    struct addrinfo *tail = adopt(list, addrs->a[0].addr, flags, &n);
    if (!append(list, tail, n, addrs, flags))
        goto nomem;
    if (flags & AI_CANONNAME) {
        list->ai_canonname = strdup(canon);
        if (!list->ai_canonname)
            goto nomem;
    }
    *ret_list = list;
    return 0;
nomem:
    freeaddrinfo(list);
    return EAI_MEMORY;
}
