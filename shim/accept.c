/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/accept.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "shim/admit.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/datagram.h"
#include "shim/engine.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/real.h"
#include "shim/watch.h"

enum { LISTENERS = 1024 };

struct listener {
    uint32_t fds; /* descriptors of this process; 0: free */
    uint16_t port;
    uint8_t mode; /* enum mesh_inbound_mode */
    struct sockaddr_storage at;
};

static struct listener listeners[LISTENERS]; /* guarded by mesh_guard */

static uint16_t port_of(const struct sockaddr *sa) {
    return ntohs(sa->sa_family == AF_INET ? ((const struct sockaddr_in *)sa)->sin_port
                                          : ((const struct sockaddr_in6 *)sa)->sin6_port);
}

static bool is_tcp_listener(int fd, struct sockaddr_storage *ret_at) {
    int v = 0;
    socklen_t n = sizeof v, len = sizeof *ret_at;
    if (mesh_sys_getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &v, &n) || !v)
        return false;
    n = sizeof v;
    if (mesh_sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &v, &n) || !mesh_protocol_is_tcp(v))
        return false;
    if (mesh_sys_getsockname(fd, (struct sockaddr *)ret_at, &len))
        return false;
    return ret_at->ss_family == AF_INET || ret_at->ss_family == AF_INET6;
}

static uint32_t take(const struct sockaddr_storage *at, enum mesh_inbound_mode mode) {
    struct mesh_guard g = mesh_guard_enter();
    uint32_t i = 0;
    while (i < LISTENERS && listeners[i].fds)
        i++;
    if (i < LISTENERS)
        listeners[i] = (struct listener){1, port_of((const struct sockaddr *)at), (uint8_t)mode, *at};
    mesh_guard_leave(g);
    return i;
}

void mesh_accept_forget(uint32_t i) {
    struct mesh_guard g = mesh_guard_enter();
    if (i < LISTENERS && listeners[i].fds)
        listeners[i].fds--;
    mesh_guard_leave(g);
}

void mesh_accept_again(uint32_t i) {
    struct mesh_guard g = mesh_guard_enter();
    if (i < LISTENERS)
        listeners[i].fds++;
    mesh_guard_leave(g);
}

/* Does the view, as it is now, ask for TLS of ours on a port that it decides about? */
static bool is_guarded(const struct sockaddr_storage *at) {
    struct mesh_caller who = {.local = (const struct sockaddr *)at, .local_len = sizeof *at};
    bool asks;
    return mesh_admit_begin(&who, &asks) != MESH_INBOUND_OFF;
}

/* Who may call there? A control plane that cannot be asked leaves the port strict, and that is said once. */
static void ask_view(const struct sockaddr *at) {
    static _Atomic bool told;
    struct mesh_view *v = mesh_engine_view();
    if (v)
        mesh_view_inbound_ask(v, at);
    if (!v || !mesh_view_inbound_cannot(v) || atomic_exchange(&told, true))
        return;
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_ERROR, "config");
    mesh_line_str(&l, "variable", "MESH_INBOUND");
    mesh_line_str(&l, "detail",
                  "view: the bootstrap has no server_listener_resource_name_template; ports are strict");
    mesh_line_end(&l);
}

void mesh_accept_listening(int fd) {
    struct sockaddr_storage at;
    uint32_t word = mesh_fd_get(fd);
    if (mesh_fd_kind(word) == MESH_FD_LISTENER || !is_tcp_listener(fd, &at))
        return;
    enum mesh_inbound_mode mode = mesh_engine_inbound(port_of((struct sockaddr *)&at));
    mesh_fresh_forget(fd);
    if (mode == MESH_INBOUND_OFF) {
        mesh_fd_set(fd, MESH_FD_OPEN_PORT, 0);
        return;
    }
    if (mode == MESH_INBOUND_VIEW)
        ask_view((struct sockaddr *)&at);
    uint32_t i = take(&at, mode);
    if (i == LISTENERS) { /* fails closed: see mesh_accept */
        mesh_trace_refused("too-many-listeners", NULL, NULL);
        i = LISTENERS;
    }
    mesh_fd_set(fd, MESH_FD_LISTENER, i);
    atomic_store(&mesh_armed, 1);
    struct mesh_why why = {""};
    int err = mesh_slab_need(); /* before any fork, so that workers share it */
    if (!err)
        err = mesh_engine_crypto(&why);
    if (!err) {
        struct mesh_identity *id = mesh_engine_identity(&why);
        if (!id && (mode != MESH_INBOUND_VIEW || is_guarded(&at)))
            mesh_trace_refused("identity", "detail", why.text);
        mesh_identity_unref(id);
    }
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b) {
    if (port_of(a) != port_of(b))
        return false;
    static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)a, *b4 = (const struct sockaddr_in *)b;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a, *b6 = (const struct sockaddr_in6 *)b;
    if (a->sa_family == AF_INET)
        return a4->sin_addr.s_addr == INADDR_ANY ||
               (b->sa_family == AF_INET && a4->sin_addr.s_addr == b4->sin_addr.s_addr) ||
               (b->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&b6->sin6_addr) &&
                memcmp(b6->sin6_addr.s6_addr + 12, &a4->sin_addr, 4) == 0);
    return memcmp(&a6->sin6_addr, &any6, 16) == 0 ||
           (b->sa_family == AF_INET6 && memcmp(&a6->sin6_addr, &b6->sin6_addr, 16) == 0) ||
           (b->sa_family == AF_INET && IN6_IS_ADDR_V4MAPPED(&a6->sin6_addr) &&
            memcmp(a6->sin6_addr.s6_addr + 12, &b4->sin_addr, 4) == 0);
}

bool mesh_accept_is_ours(const struct sockaddr *to) {
    bool ours = false;
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = 0; i < LISTENERS && !ours; i++)
        ours = listeners[i].fds && same_address((struct sockaddr *)&listeners[i].at, to);
    mesh_guard_leave(g);
    return ours;
}

bool mesh_accept_any(void) {
    bool any = false;
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = 0; i < LISTENERS && !any; i++)
        any = listeners[i].fds;
    mesh_guard_leave(g);
    return any;
}

static void refused(uint16_t port, const struct sockaddr *from, const char *why) {
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
    mesh_line_str(&l, "why", why);
    mesh_line_int(&l, "port", port);
    mesh_line_addr(&l, "from", from, sizeof(struct sockaddr_in6));
    mesh_line_end(&l);
}

/* Sources that may speak plaintext to a strict port: node's probes, the pod's own loopback. */
static bool may_be_plain(const struct sockaddr *from, uint16_t port) {
    const struct mesh_cidr_list *plain = mesh_env()->inbound_plain;
    if (!plain)
        return false;
    if (from->sa_family == AF_INET)
        return mesh_cidr_has(plain, 4, &((const struct sockaddr_in *)from)->sin_addr, port);
    return mesh_cidr_has(plain, 6, &((const struct sockaddr_in6 *)from)->sin6_addr, port);
}

int mesh_accept_adopt(int fd, enum mesh_inbound_mode mode, uint16_t port, bool nonblock) {
    if ((unsigned)fd >= MESH_FD_MAX)
        return -EMFILE;
    uint32_t slot = mesh_conn_take();
    if (slot == UINT32_MAX)
        return -ENOBUFS;
    int r = mesh_local_add(slot, fd);
    if (r) {
        mesh_conn_give(slot);
        return -ENOBUFS;
    }
    struct mesh_conn *c = mesh_conn_at(slot);
    struct mesh_local *l = mesh_local_at(slot);
    mesh_hand_accepted(c, mode, port);
    l->nonblock = nonblock;
    mesh_fd_set(fd, MESH_FD_CONN, slot);
    atomic_store(&mesh_armed, 1);
    if (mode == MESH_INBOUND_STRICT) {
        l->due = c->started + MESH_SILENT_SECONDS * MESH_SEC;
        mesh_pend_add(slot);
    }
    return 0;
}

int mesh_accept_take_over(int fd, uint64_t inode, enum mesh_inbound_mode mode, uint16_t port) {
    uint32_t slot = mesh_local_by_inode(inode);
    if (slot == UINT32_MAX)
        return mesh_accept_adopt(fd, mode, port, mesh_nonblocking(fd, 0));
    if (mesh_local_add(slot, fd))
        return -ENOBUFS;
    mesh_conn_at(slot)->handed = 0; /* it came back */
    mesh_fd_set(fd, MESH_FD_CONN, slot);
    return 0;
}

/* VIEW: the view has a say in this connection; OFF: it has none. */
static enum mesh_inbound_mode by_view(int fd, const struct sockaddr_storage *from, socklen_t len) {
    struct sockaddr_storage local;
    socklen_t n = sizeof local;
    bool asks = true;
    if (mesh_sys_getsockname(fd, (struct sockaddr *)&local, &n))
        return MESH_INBOUND_VIEW;
    struct mesh_caller who = {.local = (struct sockaddr *)&local,
                              .peer = (const struct sockaddr *)from,
                              .local_len = n,
                              .peer_len = len};
    return mesh_admit_begin(&who, &asks) == MESH_INBOUND_OFF && !asks ? MESH_INBOUND_OFF : MESH_INBOUND_VIEW;
}

int mesh_accept(int fd, struct sockaddr *sa, socklen_t *len, int flags) {
    uint32_t word = mesh_fd_get(fd);
    if (!word || mesh_fd_unconnected(word)) { /* inherited, or another process has made it listen */
        mesh_accept_listening(fd);
        word = mesh_fd_get(fd);
    }
    struct listener l = {.mode = MESH_INBOUND_OFF};
    if (mesh_fd_kind(word) == MESH_FD_LISTENER) {
        if (mesh_fd_slot(word) >= LISTENERS)
            return -EMFILE;
        struct mesh_guard g = mesh_guard_enter();
        l = listeners[mesh_fd_slot(word)];
        mesh_guard_leave(g);
        if (mesh_engine_foreign()) /* it would be entered in its parent's tables */
            return -EACCES;
    }
    for (;;) {
        struct sockaddr_storage from;
        socklen_t n = sizeof from;
        int got = real.accept4(fd, (struct sockaddr *)&from, &n, flags);
        if (got < 0)
            return -errno;
        if (l.mode == MESH_INBOUND_OFF || mesh_fd_kind(mesh_fd_get(got)) != MESH_FD_GONE)
            mesh_fd_new(got); /* else: closed to everybody until it is marked */
        int r = 0;
        enum mesh_inbound_mode mode = (enum mesh_inbound_mode)l.mode;
        if (mode == MESH_INBOUND_VIEW)
            mode = by_view(got, &from, n);
        if ((mode == MESH_INBOUND_STRICT || mode == MESH_INBOUND_VIEW) &&
            may_be_plain((struct sockaddr *)&from, l.port))
            mode = MESH_INBOUND_PERMISSIVE; /* may: the first bytes tell */
        if (mode != MESH_INBOUND_OFF)
            r = mesh_accept_adopt(got, mode, l.port, flags & SOCK_NONBLOCK);
        if (r) {
            refused(l.port, (struct sockaddr *)&from, "no-memory");
            (void)mesh_sys_close(got);
            continue;
        }
        if (sa && len) {
            memcpy(sa, &from, *len < n ? *len : n);
            *len = n;
        }
        return got;
    }
}
