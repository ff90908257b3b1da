/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of the calls that make, name, tune and end sockets. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

#include "shim/accept.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/bodies.h"
#include "shim/close.h"
#include "shim/conn.h"
#include "shim/datagram.h"
#include "shim/engine.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/slab_fd.h"
#include "shim/real.h"
#include "shim/stdio.h"
#include "shim/watch.h"

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

static int give(int r) {
    if (r >= 0)
        return r;
    errno = -r;
    return -1;
}

static struct mesh_conn *conn_of(int fd, uint32_t *ret_slot) {
    return mesh_fd_conn(fd, ret_slot);
}

/* ---- socket ---- */

int shim_socket(int domain, int type, int protocol) {
    int fd = real.socket(domain, type, protocol);
    if (fd < 0 || mesh_engine_foreign())
        return fd;
    mesh_fd_new(fd);
    bool tcp = (domain == AF_INET || domain == AF_INET6) && (type & 0xf) == SOCK_STREAM &&
               (protocol == 0 || mesh_protocol_is_tcp(protocol));
    if (tcp)
        mesh_fresh_made(fd);
    return fd;
}

/* ---- connect ---- */

static void refused(const struct sockaddr *to, const char *why) {
    struct mesh_line l;
    struct mesh_why detail = {""};
    socklen_t len = to->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    struct mesh_view *v = mesh_engine_view();
    int err = v ? mesh_view_route_why(v, to, len, &detail) : 0;
    (void)err; /* known already; this is about the sentence */
    mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
    mesh_line_str(&l, "why", why);
    mesh_line_addr(&l, "address", to, len);
    mesh_line_str(&l, "detail", detail.text[0] ? detail.text : NULL);
    mesh_line_end(&l);
}

/* What the program is told of a dial that has ended or may be told: 0, -errno, or 1: not yet. */
static int outcome(struct mesh_conn *c) {
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_OPEN || state == MESH_CONN_RAW)
        return 0;
    if (state == MESH_CONN_DEAD)
        return c->error ? -c->error : -ECONNRESET;
    return mesh_look(c->told) ? 0 : 1;
}

static uint64_t connect_deadline(int fd) {
    struct timeval tv = {0};
    socklen_t n = sizeof tv;
    if (mesh_sys_getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &n) || (!tv.tv_sec && !tv.tv_usec))
        return UINT64_MAX;
    return mesh_now() + (uint64_t)tv.tv_sec * MESH_SEC + (uint64_t)tv.tv_usec * 1000;
}

/* Drives the dial until the program can be told something. */
static int await(struct mesh_conn *c, uint32_t slot, int fd) {
    uint64_t deadline = 0;
    for (;;) {
        short wants = mesh_hand_drive(c, slot, fd);
        int r = outcome(c);
        if (r <= 0) {
            if (atomic_load(&c->state) == MESH_CONN_DIAL)
                mesh_pend_add(slot);
            return r;
        }
        if (!deadline)
            deadline = connect_deadline(fd);
        uint64_t d = mesh_hand_deadline(slot);
        r = mesh_wait_fd(fd, wants, d < deadline ? d : deadline, deadline != UINT64_MAX);
        if (r == -EINTR || (r == -EAGAIN && mesh_now() >= deadline)) {
            mesh_pend_add(slot);
            return r == -EINTR ? r : -EINPROGRESS;
        }
    }
}

static int dial(int fd, const struct mesh_route *route, const struct sockaddr *to, socklen_t len) {
    if ((unsigned)fd >= MESH_FD_MAX)
        return -EMFILE;
    if (mesh_engine_foreign()) { /* it would be entered in its parent's tables */
        refused(to, "vfork");
        return -EACCES;
    }
    uint32_t slot;
    int r = mesh_fresh_begin(fd, &slot);
    if (r == -ENOBUFS)
        refused(to, "no-memory");
    if (r)
        return r;
    atomic_store(&mesh_armed, 1);
    struct mesh_conn *c = mesh_conn_at(slot);
    int flags = mesh_sys_fcntl(fd, F_GETFL, 0);
    bool nonblock = flags >= 0 && flags & O_NONBLOCK;
    mesh_local_at(slot)->nonblock = nonblock;
    r = mesh_dial_begin(c, slot, fd, flags, route, to, len);
    if (r < 0) {
        mesh_fresh_again(slot, fd);
        return r;
    }
    mesh_fresh_watch(slot);
    if (nonblock) {
        mesh_pend_add(slot);
        (void)mesh_hand_drive(c, slot, fd); /* an error is told when it is asked for, as TCP's would be */
        return -EINPROGRESS;
    } else {
        r = await(c, slot, fd);
        c->connect_seen = r == 0;
    }
    if (r < 0 && r != -EINTR && r != -EINPROGRESS)
        mesh_fresh_again(slot, fd);
    return r;
}

static int connect_again(struct mesh_conn *c, uint32_t slot, int fd, const struct sockaddr *to,
                         socklen_t len) {
    if (len >= sizeof to->sa_family && to->sa_family == AF_UNSPEC) {
        mesh_watch_forget(fd);
        mesh_fresh_again(slot, fd);
        return mesh_sys_connect(fd, to, len);
    }
    (void)mesh_hand_drive(c, slot, fd);
    int r = outcome(c);
    if (r == 0 && c->connect_seen)
        return -EISCONN;
    if (r > 0) {
        if (mesh_nonblocking(fd, 0))
            return -EALREADY;
        r = await(c, slot, fd);
        if (r == -EINPROGRESS)
            return -EALREADY;
    }
    if (r == 0) { /* the answer to a non-blocking connect is told once by connect itself */
        c->connect_seen = 1;
        return 0;
    }
    if (r != -EINTR && r != -EINPROGRESS) {
        bool seen = c->error_seen;
        mesh_fresh_again(slot, fd);
        if (seen)
            return give(shim_connect(fd, to, len)) < 0 ? -errno : 0;
    }
    return r;
}

/* Not ours after all: what was recorded in case it would be is forgotten. */
static int libc_connect(int fd, const struct sockaddr *addr, socklen_t len) {
    if (mesh_fd_unconnected(mesh_fd_get(fd)))
        mesh_fresh_forget(fd);
    return real.connect(fd, addr, len);
}

/* What is no longer connected may be connected to the mesh next. */
static int dissolve(int fd, const struct sockaddr *addr, socklen_t len) {
    int r = real.connect(fd, addr, len), err;
    if (r == 0 && !mesh_fd_get(fd) && !mesh_engine_foreign() && mesh_is_tcp(fd, &err))
        mesh_fresh_made(fd);
    return r;
}

int shim_connect(int fd, const struct sockaddr *addr, socklen_t len) {
    uint32_t slot;
    struct mesh_conn *c = conn_of(fd, &slot);
    struct mesh_route route;
    int err;
    if (c && addr && atomic_load(&c->state) != MESH_CONN_NEW)
        return give(connect_again(c, slot, fd, addr, len));
    if (addr && len >= sizeof addr->sa_family && addr->sa_family == AF_UNSPEC)
        return dissolve(fd, addr, len);
    if (!addr || len < sizeof(struct sockaddr_in) ||
        (addr->sa_family != AF_INET && addr->sa_family != AF_INET6))
        return real.connect(fd, addr, len);
    if (addr->sa_family == AF_INET6 && len < sizeof(struct sockaddr_in6))
        return real.connect(fd, addr, len);
    int verdict = mesh_engine_route(addr, len, &route);
    if (verdict == MESH_E_NOTFOUND)
        return libc_connect(fd, addr, len);
    if (!mesh_is_tcp(fd, &err)) {
        if (!err)
            err = mesh_datagram_to(fd, addr, len);
        return err ? give(err) : real.connect(fd, addr, len); /* MESH_CAPTURE speaks of TCP */
    }
    if (verdict == MESH_E_NOROUTE) {
        int keep = errno;
        verdict = mesh_engine_route_ask(addr, len, !(mesh_sys_fcntl(fd, F_GETFL, 0) & O_NONBLOCK), &route);
        errno = keep;
    }
    if (verdict) {
        refused(addr, verdict == MESH_E_NOROUTE ? "no-route" : "configuration");
        return give(-mesh_errno(verdict));
    }
    int keep = errno;
    int r = dial(fd, &route, addr, len);
    errno = keep;
    return give(r);
}

/* ---- listening ---- */

int shim_listen(int fd, int backlog) {
    int r = real.listen(fd, backlog);
    if (r == 0)
        mesh_accept_listening(fd);
    return r;
}

int shim_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    return give(mesh_accept(fd, addr, len, flags));
}

int shim_accept(int fd, struct sockaddr *addr, socklen_t *len) {
    return give(mesh_accept(fd, addr, len, 0));
}

/* ---- names of sockets ---- */

int shim_getpeername(int fd, struct sockaddr *addr, socklen_t *len) {
    uint32_t slot;
    struct mesh_conn *c = conn_of(fd, &slot);
    if (!c || !c->dialled.sin6_family || atomic_load(&c->state) == MESH_CONN_DEAD)
        return real.getpeername(fd, addr, len);
    if (atomic_load(&c->state) == MESH_CONN_DIAL && !mesh_look(c->told))
        return give(-ENOTCONN);
    if (!addr || !len)
        return give(-EFAULT);
    socklen_t n =
        c->dialled.sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    memcpy(addr, &c->dialled, *len < n ? *len : n);
    *len = n;
    return 0;
}

/* ---- options ---- */

static int so_error(struct mesh_conn *c, uint32_t slot, int fd, void *value, socklen_t *len) {
    (void)mesh_hand_drive(c, slot, fd);
    uint32_t state = atomic_load(&c->state);
    bool kept = state == MESH_CONN_OPEN && mesh_look(c->rx_error);
    if (kept || state == MESH_CONN_DEAD || (state == MESH_CONN_DIAL && !mesh_look(c->told))) {
        int taken = __atomic_exchange_n(&c->rx_error, 0, __ATOMIC_RELAXED);
        int err = kept ? taken : state == MESH_CONN_DEAD && !c->error_seen ? c->error : 0;
        c->error_seen = 1;
        if (state == MESH_CONN_DIAL)
            c->error_seen = 0;
        if (*len < sizeof err)
            return -EINVAL;
        memcpy(value, &err, sizeof err);
        *len = sizeof err;
        return 0;
    }
    c->error_seen = 1; /* the program knows that it is connected */
    return state == MESH_CONN_DIAL ? (memset(value, 0, *len < 4 ? *len : 4), 0)
                                   : mesh_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, value, len);
}

int shim_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    uint32_t slot;
    struct mesh_conn *c = conn_of(fd, &slot);
    if (c && level == SOL_SOCKET && name == SO_ERROR && value && len)
        return give(so_error(c, slot, fd, value, len));
    return real.getsockopt(fd, level, name, value, len);
}

int shim_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    uint32_t slot;
    struct mesh_conn *c = conn_of(fd, &slot);
    if (!c || atomic_load(&c->state) == MESH_CONN_RAW)
        return real.setsockopt(fd, level, name, value, len);
    if (level == SOL_SOCKET && name == SO_ZEROCOPY)
        return give(-EOPNOTSUPP);
    if (level == IPPROTO_TCP && name == TCP_ULP)
        return give(-ENOPROTOOPT);
    if ((level == SOL_SOCKET && name == SO_PEEK_OFF) || (level == IPPROTO_TCP && name == TCP_REPAIR))
        return give(-EOPNOTSUPP);
    return real.setsockopt(fd, level, name, value, len);
}

int shim_sockatmark(int fd) {
    uint32_t slot;
    return conn_of(fd, &slot) ? 0 : real.sockatmark(fd);
}

int shim_ioctl(int fd, unsigned long request, long arg) {
    uint32_t slot;
    struct mesh_conn *c = conn_of(fd, &slot);
    if (!c)
        return real.ioctl(fd, request, arg);
    uint32_t state = atomic_load(&c->state);
    if (request == FIONREAD && state != MESH_CONN_RAW && arg) {
        (void)mesh_hand_drive(c, slot, fd);
        size_t n = mesh_rx_pending(c, slot, fd);
        int v = n > 0x7fffffff ? 0x7fffffff : (int)n;
        memcpy((void *)arg, &v, sizeof v);
        return 0;
    }
    if (request == SIOCATMARK && arg) {
        memset((void *)arg, 0, sizeof(int));
        return 0;
    }
    int r = real.ioctl(fd, request, arg);
    if (r == 0 && request == SIOCOUTQ && arg) {
        int v;
        memcpy(&v, (void *)arg, sizeof v);
        v += (int)(c->sealed.bytes + c->held.bytes);
        memcpy((void *)arg, &v, sizeof v);
    }
    if (r == 0 && request == FIONBIO && arg) {
        int on;
        memcpy(&on, (void *)arg, sizeof on);
        mesh_local_at(slot)->nonblock = on != 0;
        mesh_watch_settled(slot);
    }
    return r;
}

/* ---- ending ---- */

int shim_shutdown(int fd, int how) {
    uint32_t slot;
    struct mesh_conn *c = conn_of(fd, &slot);
    if (!c)
        return real.shutdown(fd, how);
    (void)mesh_hand_drive(c, slot, fd);
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_RAW && !mesh_look(c->held.bytes))
        return real.shutdown(fd, how);
    if (how < SHUT_RD || how > SHUT_RDWR)
        return give(-EINVAL);
    if (state == MESH_CONN_DEAD || state == MESH_CONN_NEW || (state == MESH_CONN_DIAL && !mesh_look(c->told)))
        return give(-ENOTCONN);
    int r = 0;
    if (how == SHUT_RDWR)
        mesh_show(c->rx_shut, 1);
    if (how != SHUT_RD) {
        r = mesh_tx_finish(c, slot, fd);
        if (mesh_tx_unsent(c))
            mesh_pend_leave(slot);
    }
    if (how != SHUT_WR && r == 0) {
        mesh_show(c->rx_shut, 1);
        if (state == MESH_CONN_OPEN ||
            state == MESH_CONN_RAW) /* a handshake still has to read; it follows when that is done */
            r = mesh_sys_shutdown(fd, SHUT_RD);
        if (how == SHUT_RDWR && r == -ENOTCONN) /* our FIN was answered by a reset in between */
            r = 0;
    }
    return give(r);
}

int shim_close(int fd) {
    if (mesh_engine_foreign())
        return real.close(fd);
    int keep = errno;
    int r = mesh_close(fd);
    errno = keep;
    return give(r);
}

static void close_marked(unsigned first, unsigned last) {
    for (unsigned fd = first; fd <= last && fd <= mesh_fd_highest(); fd++)
        if (mesh_fd_get((int)fd))
            (void)mesh_close((int)fd);
}

/* The slab's descriptor is in nobody's range, also in a vfork child: its program may need it. */
static int range_around(unsigned first, unsigned last, int flags) {
    int kept = mesh_slab_fd_number();
    unsigned at = (unsigned)kept;
    if (kept < 0 || at < first || at > last)
        return real.close_range(first, last, flags);
    int r = at > first ? real.close_range(first, at - 1, flags) : 0;
    return r == 0 && at < last ? real.close_range(at + 1, last, flags) : r;
}

int shim_close_range(unsigned first, unsigned last, int flags) {
    if ((flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE)) || first > last)
        return real.close_range(first, last, flags);
    if (!(flags & CLOSE_RANGE_CLOEXEC) && !mesh_engine_foreign())
        close_marked(first, last);
    return range_around(first, last, flags);
}

void shim_closefrom(int first) {
    unsigned from = first < 0 ? 0 : (unsigned)first;
    if (!mesh_engine_foreign())
        close_marked(from, ~0u);
    if (range_around(from, ~0u, 0))
        real.closefrom(first);
}

/* ---- duplicating ---- */

/* `to` is another descriptor of what `fd` is. */
static int doubled(int fd, int to) {
    if (to < 0 || mesh_engine_foreign())
        return to;
    uint32_t word = mesh_fd_get(fd);
    switch (mesh_fd_kind(word)) {
    case MESH_FD_CONN:
        if ((unsigned)to >= MESH_FD_MAX || mesh_local_add(mesh_fd_slot(word), to)) {
            (void)mesh_sys_close(to);
            return -EMFILE;
        }
        mesh_fd_set(to, MESH_FD_CONN, mesh_fd_slot(word));
        mesh_stdio_took(to);
        return to;
    case MESH_FD_LISTENER:
        mesh_accept_again(mesh_fd_slot(word));
        break;
    case MESH_FD_NONE:
    case MESH_FD_EPOLL:
        return to;
    case MESH_FD_FRESH:
    case MESH_FD_KIN:
        if ((unsigned)to < MESH_FD_MAX && mesh_fresh_doubled(fd, to) == 0) {
            mesh_stdio_took(to);
            return to;
        }
        (void)mesh_sys_close(to);
        return -EMFILE;
    default:
        break;
    }
    mesh_fd_set(to, mesh_fd_kind(word), mesh_fd_slot(word));
    return to;
}

int shim_dup(int fd) {
    int to = real.dup(fd);
    if (to >= 0)
        mesh_fd_new(to);
    return to < 0 ? to : give(doubled(fd, to));
}

static int dup_over(int fd, int to, int flags, bool two) {
    if (!mesh_fd_shown(&fd))
        return two ? real.dup2(fd, to) : real.dup3(fd, to, flags);
    if (mesh_fd_kind(mesh_fd_get(to)) == MESH_FD_OURS) {
        to = mesh_slab_fd_number();
        if (fd != to && !mesh_engine_foreign())
            mesh_slab_fd_move();
    }
    if (fd == to || mesh_engine_foreign() || !(mesh_fd_get(fd) | mesh_fd_get(to)))
        return two ? real.dup2(fd, to) : real.dup3(fd, to, flags);
    if (mesh_sys_fcntl(fd, F_GETFD, 0) < 0)
        return give(-EBADF);
    mesh_stdio_leaves(to);
    /* The old meaning of `to` ends as close() would end it, but its number is never free meanwhile. */
    int old = -1;
    uint32_t word = mesh_fd_get(to);
    if (mesh_fd_kind(word) == MESH_FD_GONE)
        mesh_fd_clear(to);
    else if (word) {
        old = mesh_sys_fcntl(to, F_DUPFD_CLOEXEC, 3);
        if (old >= 0) {
            mesh_fd_new(old);
            mesh_watch_forget(to);
            bool held = mesh_fd_kind(word) == MESH_FD_CONN || mesh_fd_kind(word) == MESH_FD_KIN;
            if (held && mesh_local_add(mesh_fd_slot(word), old) == 0)
                (void)mesh_local_drop(mesh_fd_slot(word), to);
            mesh_fd_set(old, mesh_fd_kind(word), mesh_fd_slot(word));
            mesh_fd_set(to, MESH_FD_GONE, 0);
            if (mesh_fd_kind(word) == MESH_FD_CONN)
                mesh_close_wait(mesh_fd_slot(word));
        }
    }
    int r = two ? real.dup2(fd, to) : real.dup3(fd, to, flags);
    int err = errno;
    if (mesh_fd_kind(mesh_fd_get(to)) == MESH_FD_GONE)
        mesh_fd_clear(to);
    if (old >= 0)
        (void)mesh_close(old);
    else if (word && r >= 0) /* no descriptor was left to say goodbye on */
        mesh_fd_new(to);
    errno = err;
    return r < 0 ? r : give(doubled(fd, r));
}

int shim_dup2(int fd, int to) {
    return dup_over(fd, to, 0, true);
}
int shim_dup3(int fd, int to, int flags) {
    return dup_over(fd, to, flags, false);
}

int shim_fcntl(int fd, int cmd, long arg) {
    int r = real.fcntl(fd, cmd, arg);
    if (r < 0)
        return r;
    if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) {
        mesh_fd_new(r);
        return give(doubled(fd, r));
    }
    uint32_t slot;
    if (cmd == F_SETFL && conn_of(fd, &slot)) {
        mesh_local_at(slot)->nonblock = (arg & O_NONBLOCK) != 0;
        mesh_watch_settled(slot);
    }
    return r;
}

/* ---- what else brings a new number ---- */

static int fresh(int fd) {
    if (fd >= 0)
        mesh_fd_new(fd);
    return fd;
}

static int fresh_two(int r, const int fds[2]) {
    if (r == 0) {
        mesh_fd_new(fds[0]);
        mesh_fd_new(fds[1]);
    }
    return r;
}

int shim_socketpair(int domain, int type, int protocol, int ret_fds[2]) {
    return fresh_two(real.socketpair(domain, type, protocol, ret_fds), ret_fds);
}
int shim_pipe(int ret_fds[2]) {
    return fresh_two(real.pipe(ret_fds), ret_fds);
}
int shim_pipe2(int ret_fds[2], int flags) {
    return fresh_two(real.pipe2(ret_fds, flags), ret_fds);
}
int shim_open(const char *path, int flags, mode_t mode) {
    return fresh(real.open(path, flags, mode));
}
int shim_openat(int dir, const char *path, int flags, mode_t mode) {
    return fresh(real.openat(dir, path, flags, mode));
}
int shim_creat(const char *path, mode_t mode) {
    return fresh(real.creat(path, mode));
}
int shim_eventfd(unsigned value, int flags) {
    return fresh(real.eventfd(value, flags));
}
int shim_epoll_create(int size) {
    return fresh(real.epoll_create(size));
}
int shim_epoll_create1(int flags) {
    return fresh(real.epoll_create1(flags));
}
int shim_timerfd_create(clockid_t clock, int flags) {
    return fresh(real.timerfd_create(clock, flags));
}
int shim_signalfd(int fd, const sigset_t *mask, int flags) {
    return fd == -1 ? fresh(real.signalfd(fd, mask, flags)) : real.signalfd(fd, mask, flags);
}
int shim_memfd_create(const char *name, unsigned flags) {
    return fresh(real.memfd_create(name, flags));
}
