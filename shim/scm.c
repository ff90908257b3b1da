/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/scm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shim/accept.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/hand.h"
#include "shim/handover.h"
#include "shim/real.h"

enum { RIGHTS_MAX = 253, CONTROL_MAX = 1 << 16 }; /* SCM_MAX_FD; what optmem_max allows is less */

struct parcel {
    char magic[8];
    uint64_t tree, inode;
    uint32_t layout, slot, generation;
    uint8_t untouched, mode;
    uint16_t port;
};
static const char magic[8] = "MESHSCM1";

/* ---- walking ---- */

static struct cmsghdr *next_rights(const struct msghdr *msg, struct cmsghdr *at) {
    do
        at = at ? CMSG_NXTHDR((struct msghdr *)msg, at) : CMSG_FIRSTHDR(msg);
    while (at && (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS ||
                  at->cmsg_len < CMSG_LEN(sizeof(int))));
    return at;
}

static size_t count(const struct cmsghdr *c) {
    return (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
}

static int fd_at(struct cmsghdr *c, size_t i) {
    int fd;
    memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
    return fd;
}

static void fd_put(struct cmsghdr *c, size_t i, int fd) {
    memcpy(CMSG_DATA(c) + i * sizeof fd, &fd, sizeof fd);
}

/* A connection whose bytes must not be anybody's; what has ended, and what is plaintext, goes as it is. */
static bool must_wrap(int fd) {
    uint32_t slot, state;
    struct mesh_conn *c = mesh_fd_conn(fd, &slot);
    if (!c) {
        mesh_fresh_sent(fd);
        return false;
    }
    state = atomic_load(&c->state);
    return state != MESH_CONN_RAW && state != MESH_CONN_DEAD && state != MESH_CONN_NEW;
}

bool mesh_scm_concerns(const struct msghdr *msg) {
    if (!msg || !msg->msg_control || msg->msg_controllen < sizeof(struct cmsghdr))
        return false;
    for (struct cmsghdr *c = next_rights(msg, NULL); c; c = next_rights(msg, c))
        for (size_t i = 0; i < count(c); i++)
            if (must_wrap(fd_at(c, i)))
                return true;
    return false;
}

/* ---- one message with one descriptor, between the ends of a socketpair ---- */

union control {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int))];
};

static struct msghdr parcel_message(struct iovec *iov, union control *control) {
    return (struct msghdr){
        .msg_iov = iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control->room};
}

/* The end that travels, or -errno. */
static int wrap(int fd, uint32_t slot) {
    struct mesh_conn *c = mesh_conn_at(slot);
    struct parcel p = {.tree = mesh_slab_tree(),
                       .inode = c->inode,
                       .layout = mesh_slab_layout(),
                       .slot = slot,
                       .generation = atomic_load(&c->generation),
                       .untouched = mesh_hand_untouched(c),
                       .mode = c->mode,
                       .port = c->port};
    union control control = {
        .head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)}};
    struct iovec iov = {&p, sizeof p};
    struct msghdr m = parcel_message(&iov, &control);
    int ends[2];
    memcpy(p.magic, magic, sizeof magic);
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    int r = mesh_sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
    if (r)
        return r;
    ssize_t n = mesh_sys_sendmsg(ends[0], &m, MSG_NOSIGNAL);
    (void)mesh_sys_close(ends[0]);
    if (n == sizeof p)
        return ends[1];
    (void)mesh_sys_close(ends[1]);
    return n < 0 ? (int)n : -EMSGSIZE;
}

/* ---- sending ---- */

struct sent {
    int n;
    struct {
        int end;
        uint32_t slot;
        bool untouched;
    } at[RIGHTS_MAX];
};

/* Between sender and receiver it is nobody's to end. */
static int send_one(struct sent *s, int fd, int *ret_end) {
    uint32_t slot = mesh_fd_slot(mesh_fd_get(fd));
    struct mesh_conn *c = mesh_conn_at(slot);
    struct mesh_crossing x;
    if (s->n == RIGHTS_MAX)
        return -EINVAL;
    mesh_crossing_init(&x);
    (void)mesh_crossing_add(&x, fd, slot);
    mesh_crossing_settle(&x);
    bool untouched = mesh_hand_untouched(c);
    int end = wrap(fd, slot);
    if (end < 0)
        return end;
    if (untouched) {
        c->handed = 1;
    } else {
        atomic_store(&c->transit_at, mesh_now_coarse());
        atomic_fetch_add(&c->transit, 1);
    }
    s->at[s->n].end = end;
    s->at[s->n].slot = slot;
    s->at[s->n++].untouched = untouched;
    *ret_end = end;
    return 0;
}

static void sent_done(const struct sent *s, bool failed) {
    for (int i = 0; i < s->n; i++) {
        struct mesh_conn *c = mesh_conn_at(s->at[i].slot);
        (void)mesh_sys_close(s->at[i].end);
        if (failed && s->at[i].untouched)
            c->handed = 0;
        else if (failed)
            atomic_fetch_sub(&c->transit, 1);
    }
}

static int wrap_all(const struct msghdr *msg, struct sent *s) {
    for (struct cmsghdr *c = next_rights(msg, NULL); c; c = next_rights(msg, c))
        for (size_t i = 0; i < count(c); i++) {
            int end, r = must_wrap(fd_at(c, i)) ? send_one(s, fd_at(c, i), &end) : 1;
            if (r < 0)
                return r;
            if (r == 0)
                fd_put(c, i, end);
        }
    return 0;
}

ssize_t mesh_scm_send(int fd, const struct msghdr *msg, int flags) {
    struct msghdr m = *msg;
    struct sent s = {.n = 0};
    if (m.msg_controllen > CONTROL_MAX)
        return -ENOBUFS;
    m.msg_control = malloc(m.msg_controllen);
    if (!m.msg_control)
        return -ENOMEM;
    memcpy(m.msg_control, msg->msg_control, m.msg_controllen);
    ssize_t r = wrap_all(&m, &s);
    if (r == 0) {
        r = real.sendmsg(fd, &m, flags);
        if (r < 0)
            r = -errno;
    }
    sent_done(&s, r < 0);
    free(m.msg_control);
    return r;
}

/* ---- receiving ---- */

static bool may_be_wrapped(int fd) {
    int domain = 0, type = 0;
    socklen_t n = sizeof type;
    if (mesh_sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) || type != SOCK_SEQPACKET)
        return false;
    n = sizeof domain;
    return mesh_sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX;
}

/* The socket in the parcel, or -1. Looked at, not taken out: the program may have peeked, and comes again. */
static int open_parcel(int fd, struct parcel *ret) {
    union control control;
    struct iovec iov = {ret, sizeof *ret};
    struct msghdr m = parcel_message(&iov, &control);
    ssize_t n = mesh_sys_recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n >= 0 ? next_rights(&m, NULL) : NULL;
    int real_fd = c ? fd_at(c, 0) : -1;
    struct stat st;
    if (real_fd < 0)
        return -1;
    if (n == sizeof *ret && memcmp(ret->magic, magic, sizeof magic) == 0 &&
        mesh_sys_fstat(real_fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == ret->inode)
        return real_fd;
    (void)mesh_sys_close(real_fd);
    return -1;
}

static bool is_here(const struct parcel *p) {
    const struct mesh_conn *c = mesh_slab && p->layout == mesh_slab_layout() && p->tree == mesh_slab_tree()
                                    ? mesh_conn_at(p->slot)
                                    : NULL;
    return c && atomic_load(&c->generation) == p->generation && c->inode == p->inode;
}

static bool take_shared(int fd, const struct parcel *p) {
    struct mesh_conn *c = mesh_conn_at(p->slot);
    mesh_conn_hold(p->slot, mesh_proc_self());
    if (mesh_local_add(p->slot, fd))
        return false;
    uint32_t transit = atomic_load(&c->transit);
    while (transit && !atomic_compare_exchange_weak(&c->transit, &transit, transit - 1))
        ;
    mesh_local_at(p->slot)->nonblock = mesh_nonblocking(fd, 0);
    mesh_fd_set(fd, MESH_FD_CONN, p->slot);
    atomic_store(&mesh_armed, 1);
    return true;
}

static void unwrap(int fd) {
    struct parcel p;
    int real_fd = may_be_wrapped(fd) ? open_parcel(fd, &p) : -1;
    if (real_fd < 0)
        return;
    bool here = is_here(&p);
    int cloexec = mesh_sys_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC ? O_CLOEXEC : 0;
    if ((!p.untouched && !here) || mesh_sys_dup3(real_fd, fd, cloexec) < 0) {
        mesh_trace_refused("scm", "reason", "another-tree");
    } else if (p.untouched ? mesh_accept_take_over(fd, p.inode, (enum mesh_inbound_mode)p.mode, p.port) != 0
                           : !take_shared(fd, &p)) {
        mesh_trace_refused("scm", "reason", "no-memory");
        (void)mesh_sys_shutdown(fd, SHUT_RDWR);
    } else {
        mesh_handover_trace(fd, "scm");
    }
    (void)mesh_sys_close(real_fd);
}

void mesh_scm_received(const struct msghdr *msg) {
    if (!msg->msg_control || msg->msg_controllen < sizeof(struct cmsghdr))
        return;
    for (struct cmsghdr *c = next_rights(msg, NULL); c; c = next_rights(msg, c))
        for (size_t i = 0; i < count(c); i++) {
            mesh_fd_new(fd_at(c, i));
            unwrap(fd_at(c, i));
            mesh_fresh_received(fd_at(c, i));
        }
}
