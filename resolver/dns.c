/* SPDX-License-Identifier: Apache-2.0
 *
 * c-ares, without its threads and with sockets of our own. What it reads (resolv.conf, hosts, nsswitch.conf)
 * it reads by libc.
 */
#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include "resolver/channel.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"

enum { SOCKETS_MAX = 32, TRY_MS = 2000, TRIES = 3 };
static const uint64_t answer_timeout = 20 * MESH_SEC; /* whatever servers and search lists would take */
static const char servers_file[] = "/etc/resolv.conf";

struct question {
    struct question *next, **link;
    struct mesh_dns *dns;
    void (*fn)(void *arg, const struct mesh_dns_answer *answer); /* NULL: forgotten */
    void *arg;
    uint64_t deadline;
};

struct mesh_dns {
    ares_channel ares; /* NULL: to be made with the next question */
    const struct mesh_fd_hooks *hooks;
    unsigned inside;            /* calls into c-ares that are not back yet */
    struct question *questions; /* that c-ares has, forgotten ones too */
    struct pollfd sockets[SOCKETS_MAX];
    uint32_t nsockets;
    struct timespec servers_changed; /* mtime of resolv.conf as read */
};

/* ---- sockets: errno is c-ares's way to hear of errors
 * --------------------------------------------------------- */
static ssize_t answer(ssize_t rc) {
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}

static ares_socket_t open_socket(int family, int type, int protocol, void *arg) {
    const struct mesh_dns *dns = arg;
    int fd = mesh_sys_socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    if (fd >= 0 && dns->hooks && dns->hooks->keep)
        fd = dns->hooks->keep(fd);
    return (ares_socket_t)answer(fd);
}

static int close_socket(ares_socket_t fd, void *arg) {
    const struct mesh_dns *dns = arg;
    if (dns->hooks && dns->hooks->drop)
        dns->hooks->drop(fd);
    return (int)answer(mesh_sys_close(fd));
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *sa, ares_socklen_t len, void *arg) {
    return (int)answer(mesh_sys_connect(fd, sa, len));
}

static ares_ssize_t receive(ares_socket_t fd, void *p, size_t n, int flags, struct sockaddr *ret_sa,
                            ares_socklen_t *io_len, void *arg) {
    return answer(mesh_sys_recvfrom(fd, p, n, flags, ret_sa, io_len));
}

static ares_ssize_t send_all(ares_socket_t fd, const struct iovec *iov, int n, void *arg) {
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
    return answer(mesh_sys_sendmsg(fd, &msg, MSG_NOSIGNAL)); /* a server that closes TCP must not kill us */
}

static const struct ares_socket_functions functions = {open_socket, close_socket, connect_socket, receive,
                                                       send_all};

/* c-ares tells what it waits for, and with 0, 0 that the socket is about to be closed. */
static void on_state(void *arg, ares_socket_t fd, int readable, int writable) {
    struct mesh_dns *dns = arg;
    uint32_t i = 0;
    while (i < dns->nsockets && dns->sockets[i].fd != fd)
        i++;
    if (!readable && !writable) {
        if (i < dns->nsockets)
            dns->sockets[i] = dns->sockets[--dns->nsockets];
        return;
    }
    if (i == SOCKETS_MAX)
        return; /* its query times out */
    dns->sockets[i] =
        (struct pollfd){.fd = fd, .events = (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0))};
    if (i == dns->nsockets)
        dns->nsockets++;
}

/* ---- answers ----------------------------------------------------------------------------------------------
 */
static int error_of(int status) {
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_EBADNAME:
        return MESH_E_NOTFOUND;
    case ARES_ETIMEOUT:
        return MESH_E_TIMEOUT;
    case ARES_ENOMEM:
        return MESH_E_NOMEM;
    default:
        return MESH_E_IO;
    }
}

static void add_address(struct mesh_dns_answer *a, const struct ares_addrinfo_node *node) {
    if (a->n == MESH_DNS_ADDRS)
        return;
    if (node->ai_family == AF_INET) {
        a->addrs[a->n].family = 4;
        memcpy(a->addrs[a->n++].addr, &((const struct sockaddr_in *)(const void *)node->ai_addr)->sin_addr,
               4);
    } else if (node->ai_family == AF_INET6) {
        a->addrs[a->n].family = 6;
        memcpy(a->addrs[a->n++].addr, &((const struct sockaddr_in6 *)(const void *)node->ai_addr)->sin6_addr,
               16);
    }
}

/* The smallest of all records, those of aliases too; numeric addresses and /etc/hosts have none. */
static void add_ttl(struct mesh_dns_answer *a, int ttl) {
    if (ttl > 0 && (!a->ttl || (uint32_t)ttl < a->ttl))
        a->ttl = (uint32_t)ttl;
}

static void tell(struct question *q, const struct mesh_dns_answer *a) {
    void (*fn)(void *, const struct mesh_dns_answer *) = q->fn;
    q->fn = NULL;
    if (fn)
        fn(q->arg, a);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info) {
    struct question *q = arg;
    struct mesh_dns_answer a = {.err = error_of(status)};
    *q->link = q->next;
    if (q->next)
        q->next->link = q->link;
    for (const struct ares_addrinfo_node *n = info ? info->nodes : NULL; n; n = n->ai_next) {
        add_address(&a, n);
        add_ttl(&a, n->ai_ttl);
    }
    for (const struct ares_addrinfo_cname *c = info ? info->cnames : NULL; c; c = c->next)
        add_ttl(&a, c->ttl);
    if (info)
        ares_freeaddrinfo(info);
    if (!a.err && !a.n)
        a.err = MESH_E_NOTFOUND;
    tell(q, &a);
    free(q);
}

/* ---- the object -------------------------------------------------------------------------------------------
 */
static int start(struct mesh_dns *dns) {
    struct ares_options options = {
        .timeout = TRY_MS, .tries = TRIES, .sock_state_cb = on_state, .sock_state_cb_data = dns};
    int rc =
        ares_init_options(&dns->ares, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
    if (rc != ARES_SUCCESS) {
        dns->ares = NULL;
        return error_of(rc);
    }
    ares_set_socket_functions(dns->ares, &functions, dns);
    return 0;
}

/* The answers that are still out are forgotten. */
static void stop(struct mesh_dns *dns) {
    for (struct question *q = dns->questions; q; q = q->next)
        q->fn = NULL;
    if (dns->ares)
        ares_destroy(dns->ares);
    dns->ares = NULL;
    dns->nsockets = 0;
}

/* A network that has changed brings other servers: c-ares reads the file only once. */
static int refresh(struct mesh_dns *dns) {
    struct stat st = {0};
    (void)mesh_sys_stat(servers_file, &st); /* none: the defaults */
    bool same = dns->servers_changed.tv_sec == st.st_mtim.tv_sec &&
                dns->servers_changed.tv_nsec == st.st_mtim.tv_nsec;
    if (dns->ares && (same || dns->questions || dns->inside))
        return 0;
    stop(dns);
    dns->servers_changed = st.st_mtim;
    return start(dns);
}

int mesh_dns_new(const struct mesh_fd_hooks *hooks, struct mesh_dns **ret) {
    struct mesh_dns *dns = calloc(1, sizeof *dns);
    if (!dns)
        return MESH_E_NOMEM;
    dns->hooks = hooks;
    *ret = dns;
    return 0;
}

void mesh_dns_free(struct mesh_dns *dns) {
    if (!dns)
        return;
    stop(dns);
    free(dns);
}

/* A numeric address is its own answer; this c-ares would ask a server for some. */
static bool is_numeric(const char *host, unsigned families, struct mesh_dns_answer *ret) {
    ret->addrs[0].family = inet_pton(AF_INET, host, ret->addrs[0].addr) == 1    ? 4
                           : inet_pton(AF_INET6, host, ret->addrs[0].addr) == 1 ? 6
                                                                                : 0;
    if (!ret->addrs[0].family)
        return false;
    ret->n = families & (ret->addrs[0].family == 4 ? 1 : 2) ? 1 : 0;
    ret->err = ret->n ? 0 : MESH_E_NOTFOUND;
    return true;
}

int mesh_dns_ask(struct mesh_dns *dns, const char *host, unsigned families,
                 void (*fn)(void *arg, const struct mesh_dns_answer *answer), void *arg) {
    static const int family[] = {AF_UNSPEC, AF_INET, AF_INET6, AF_UNSPEC};
    const struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT, .ai_family = family[families & 3]};
    struct mesh_dns_answer at_once = {0};
    if (is_numeric(host, families, &at_once)) {
        fn(arg, &at_once);
        return 0;
    }
    int err = refresh(dns);
    if (err)
        return err;
    struct question *q = calloc(1, sizeof *q);
    if (!q)
        return MESH_E_NOMEM;
    *q = (struct question){.next = dns->questions,
                           .link = &dns->questions,
                           .dns = dns,
                           .fn = fn,
                           .arg = arg,
                           .deadline = mesh_now() + answer_timeout};
    if (q->next)
        q->next->link = &q->next;
    dns->questions = q;
    dns->inside++;
    ares_getaddrinfo(dns->ares, host, NULL, &hints, on_answer, q);
    dns->inside--;
    return 0;
}

void mesh_dns_forget(struct mesh_dns *dns, const void *arg) {
    for (struct question *q = dns->questions; q; q = q->next)
        if (q->arg == arg)
            q->fn = NULL;
}

uint32_t mesh_dns_fill(struct mesh_dns *dns, struct pollfd *ret, uint32_t max, uint64_t *io_deadline) {
    struct timeval tv;
    uint32_t n = dns->nsockets < max ? dns->nsockets : max;
    for (struct question *q = dns->questions; q; q = q->next)
        if (q->fn && q->deadline < *io_deadline)
            *io_deadline = q->deadline;
    if (dns->ares && ares_timeout(dns->ares, NULL, &tv)) {
        uint64_t at = mesh_now() + (uint64_t)tv.tv_sec * MESH_SEC + (uint64_t)tv.tv_usec * 1000;
        *io_deadline = at < *io_deadline ? at : *io_deadline;
    }
    if (n)
        memcpy(ret, dns->sockets, n * sizeof *ret);
    return n;
}

static void give_up_late(struct mesh_dns *dns, uint64_t now) {
    const struct mesh_dns_answer late = {.err = MESH_E_TIMEOUT};
    for (struct question *q = dns->questions, *next; q; q = next) {
        next = q->next;
        if (!q->fn || now < q->deadline)
            continue;
        tell(q, &late);
        next = dns->questions; /* the callback may have asked and had its answer: from the start again */
    }
}

void mesh_dns_drive(struct mesh_dns *dns, uint64_t now) {
    struct pollfd ready[SOCKETS_MAX];
    uint32_t n = dns->nsockets;
    if (!dns->questions)
        return;
    memcpy(ready, dns->sockets, n * sizeof *ready);
    dns->inside++;
    if (n && mesh_sys_poll(ready, n, 0) > 0)
        for (uint32_t i = 0; i < n; i++)
            if (ready[i].revents)
                ares_process_fd(dns->ares, ready[i].revents & ~POLLOUT ? ready[i].fd : ARES_SOCKET_BAD,
                                ready[i].revents & POLLOUT ? ready[i].fd : ARES_SOCKET_BAD);
    ares_process_fd(dns->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* what has waited too long */
    dns->inside--;
    give_up_late(dns, now);
}
