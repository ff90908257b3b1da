/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocking, and what a read or write of the program comes to in each state of the connection (shim/conn.h).
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#include "shim/admit.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/close.h"
#include "shim/conn.h"
#include "shim/drain.h"
#include "shim/engine.h"
#include "shim/fd.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/real.h"
#include "shim/watch.h"

bool mesh_nonblocking(int fd, int flags) {
    if (flags & MSG_DONTWAIT)
        return true;
    uint32_t word = mesh_fd_get(fd);
    if (!mesh_sys_may(SYS_fcntl) && mesh_fd_kind(word) == MESH_FD_CONN)
        return mesh_local_at(mesh_fd_slot(word))->nonblock;
    int fl = mesh_sys_fcntl(fd, F_GETFL, 0);
    return fl < 0 || fl & O_NONBLOCK;
}

/* How long one call of the program waits, in all its waits together. */
struct limit {
    int option;     /* SO_RCVTIMEO or SO_SNDTIMEO */
    uint64_t begun; /* mesh_now() at the first wait; 0: none yet */
    uint64_t end;   /* UINT64_MAX: no limit is set; 0: not looked up yet */
};

static void limit_begin(struct limit *l) {
    if (!l->begun)
        l->begun = mesh_now();
}

static uint64_t limit_end(struct limit *l, int fd) {
    limit_begin(l);
    if (l->end)
        return l->end;
    struct timeval tv = {0};
    socklen_t n = sizeof tv;
    l->end = UINT64_MAX;
    if (mesh_sys_getsockopt(fd, SOL_SOCKET, l->option, &tv, &n) == 0 && (tv.tv_sec || tv.tv_usec))
        l->end = l->begun + (uint64_t)tv.tv_sec * MESH_SEC + (uint64_t)tv.tv_usec * 1000;
    return l->end;
}

/* At most until `due` as well, when it is worth another look. 0, or -errno: -EAGAIN is the program's limit.
 */
static int limit_wait(struct limit *l, int fd, short events, uint64_t due) {
    uint64_t end = limit_end(l, fd);
    int r = mesh_wait_fd(fd, events, due < end ? due : end, end != UINT64_MAX);
    return r == -EAGAIN && mesh_now() < end ? 0 : r;
}

/* A close() in one thread leaves another's call on the descriptor to its end, as the kernel does: the
 * connection moves to a descriptor of ours meanwhile (shim/close.c), and the last call that leaves ends it.
 */
static void enter(struct mesh_io *io) {
    mesh_engine_look_around();
    mesh_drain_look();
    atomic_fetch_add_explicit(&mesh_local_at(io->slot)->users, 1, memory_order_acq_rel);
}

static void leave(void *arg) {
    struct mesh_io *io = arg;
    struct mesh_local *l = mesh_local_at(io->slot);
    if (atomic_fetch_sub_explicit(&l->users, 1, memory_order_acq_rel) == 1 &&
        mesh_unlikely(atomic_load(&l->closing)) && atomic_exchange(&l->closing, 0))
        mesh_close_late(io->slot);
}

/* After a wait: is the descriptor still what it was? */
static void here(struct mesh_io *io) {
    uint32_t word = mesh_fd_get(io->fd);
    if (mesh_unlikely(mesh_fd_kind(word) != MESH_FD_CONN || mesh_fd_slot(word) != io->slot))
        io->fd = atomic_load(&mesh_local_at(io->slot)->fd);
}

/* A close() or dup2() in another thread is about to give the connection another descriptor: worth another
 * look? */
static bool moves(struct mesh_io *io, int *io_tries) {
    struct mesh_local *l = mesh_local_at(io->slot);
    if (l->generation == 0 || l->generation != atomic_load(&io->c->generation) || ++*io_tries > 100)
        return false;
    (void)mesh_sys_ppoll(NULL, 0, &(struct timespec){0, 100000}, NULL);
    here(io);
    return true;
}

/* ---- reading ---- */

/* Only when other work is pending must we wait for more than one thing; and for the rest of a record that has
 * begun to come only as long as is left. */
static int wait_readable(const struct mesh_io *io, struct limit *l) {
    bool first = !l->begun;
    limit_begin(l);
    if (mesh_pend_count() == 0 && mesh_sys_may(SYS_recvfrom) && (first || limit_end(l, io->fd) == UINT64_MAX))
        return mesh_wait_data(io->fd);
    return limit_wait(l, io->fd, POLLIN, UINT64_MAX);
}

static ssize_t recv_raw(struct mesh_io *io) {
    struct msghdr m = {.msg_iov = (struct iovec *)io->iov, .msg_iovlen = (size_t)io->cnt};
    if (!mesh_sys_may(SYS_recvmsg))
        return io->cnt ? mesh_sys_read(io->fd, io->iov->iov_base, io->iov->iov_len) : 0;
    ssize_t r = real.recvmsg(io->fd, &m, io->flags);
    return r < 0 ? -errno : r;
}

static ssize_t recv_dead(const struct mesh_io *io) {
    return io->c->error ? -io->c->error : 0;
}

/* When to look again at a handshake. Another thread or process may drive it while we wait for what it waited
 * for. */
static uint64_t look_at(const struct mesh_conn *c, uint32_t slot) {
    uint64_t d = mesh_hand_deadline(slot), soon = mesh_now() + 10 * MESH_MS;
    return mesh_hand_under_way(c) && soon < d ? soon : d;
}

/* Not open yet: drives the handshake. 1: look again; 0 or -errno for the program. */
static int recv_hand(struct mesh_io *io, struct limit *l) {
    struct mesh_conn *c = io->c;
    short wants = mesh_hand_drive(c, io->slot, io->fd);
    if (!wants)
        return 1;
    uint64_t d = look_at(c, io->slot);
    if (d != UINT64_MAX)
        mesh_pend_add(io->slot);
    if (mesh_nonblocking(io->fd, io->flags))
        return -EAGAIN;
    int r = limit_wait(l, io->fd, wants, d);
    return r == 0 ? 1 : r;
}

/* MSG_WAITALL with MSG_PEEK: the byte that keeps us readable is there, so the wait is for one byte more than
 * there is. */
static int wait_for_more(const struct mesh_io *io) {
    int n = 0;
    if (mesh_sys_ioctl(io->fd, FIONREAD, &n))
        return -ENOTCONN;
    if (n >= MESH_SCRATCH) {
        struct timespec t = {0, 1000000};
        return mesh_sys_ppoll(NULL, 0, &t, NULL) < 0 ? -EINTR : 0;
    }
    uint8_t *p = mesh_scratch_take();
    ssize_t r = p ? real.recv(io->fd, p, (size_t)n + 1, MSG_PEEK | MSG_WAITALL) : -1;
    int err = p ? errno : ENOBUFS;
    mesh_scratch_give(p);
    return r < 0 ? -err : r == n ? -ESHUTDOWN : 0; /* as much as before: no more will come */
}

/* One look at a connection whose keys are in place. */
static ssize_t recv_open(struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    int locked = mesh_conn_lock_rx(c);
    if (locked)
        return locked == MESH_E_AGAIN ? -EAGAIN : -ECONNRESET;
    ssize_t r;
    here(io);
    if (!mesh_conn_owns(io->slot, io->fd)) {
        r = -EBADF;
    } else {
        r = mesh_rx_try(io);
    }
    mesh_conn_unlock_rx(c);
    return r;
}

/* A read of nothing waits like any other, and then takes nothing. */
static ssize_t recv_nothing(struct mesh_io *io) {
    return mesh_rx_ready(io->c, io->slot, io->fd) ? 0 : -EAGAIN;
}

static ssize_t recv_loop(struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    const struct mesh_io whole = *io;
    struct limit limit = {.option = SO_RCVTIMEO};
    bool all = io->flags & MSG_WAITALL, peek = io->flags & MSG_PEEK;
    int tries = 0;
    for (;;) {
        uint32_t state = atomic_load_explicit(&c->state, memory_order_acquire);
        if ((state == MESH_CONN_RAW || state == MESH_CONN_OPEN) &&
            mesh_unlikely(!mesh_admit_still(c, io->slot, io->fd)))
            continue;
        if (state == MESH_CONN_RAW)
            return recv_raw(io);
        if (state == MESH_CONN_NEW) /* dissolved by another holder */
            return -ENOTCONN;
        if (state == MESH_CONN_DEAD || state == MESH_CONN_FREE)
            return io->done ? (ssize_t)io->done : recv_dead(io);
        if (state != MESH_CONN_OPEN) {
            int r = recv_hand(io, &limit);
            if (r <= 0)
                return r;
            continue;
        }
        if (peek)
            *io = whole; /* but for the descriptor, which `here` tells anew */
        ssize_t r = io->want ? recv_open(io) : recv_nothing(io);
        bool more = all && r > 0 && io->done < io->want && !c->rx_eof;
        if (r >= 0 && !more)
            return r;
        if (r == -EBADF && moves(io, &tries))
            continue;
        if (r < 0 && r != -EAGAIN)
            return io->done ? (ssize_t)io->done : r;
        if (mesh_nonblocking(io->fd, io->flags))
            return r;
        int w = more && peek ? wait_for_more(io) : wait_readable(io, &limit);
        if (w < 0)
            return io->done ? (ssize_t)io->done : w;
        here(io);
    }
}

ssize_t mesh_io_recv(struct mesh_io *io) {
    ssize_t r;
    enter(io);
    pthread_cleanup_push(leave, io);
    r = recv_loop(io);
    pthread_cleanup_pop(1);
    return r;
}

/* ---- writing ---- */

static ssize_t send_raw(struct mesh_io *io) {
    struct msghdr m = {.msg_iov = (struct iovec *)io->iov, .msg_iovlen = (size_t)io->cnt};
    if (!mesh_sys_may(SYS_sendmsg))
        return io->cnt ? mesh_sys_write(io->fd, io->iov->iov_base, io->iov->iov_len) : 0;
    ssize_t r = real.sendmsg(io->fd, &m, io->flags | MSG_NOSIGNAL);
    return r < 0 ? -errno : r;
}

/* The same for what is left of a send whose first part was held. */
static ssize_t send_raw_rest(struct mesh_io *io) {
    size_t at = io->done;
    for (int i = 0; i<io->cnt; at = at> io->iov[i].iov_len ? at - io->iov[i].iov_len : 0, i++) {
        if (at >= io->iov[i].iov_len)
            continue;
        size_t n = io->iov[i].iov_len - at;
        ssize_t r = real.send(io->fd, (uint8_t *)io->iov[i].iov_base + at, n, io->flags | MSG_NOSIGNAL);
        if (r > 0)
            io->done += (size_t)r;
        if (r != (ssize_t)n)
            break;
    }
    return (ssize_t)io->done;
}

/* The rest waits until the kernel takes it. 0: look again; -errno. */
static int wait_writable(const struct mesh_io *io, struct limit *l) {
    struct mesh_conn *c = io->c;
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_OPEN || state == MESH_CONN_RAW)
        return limit_wait(l, io->fd, POLLOUT, UINT64_MAX);
    short wants = mesh_hand_drive(c, io->slot, io->fd);
    return wants ? limit_wait(l, io->fd, wants, look_at(c, io->slot)) : 0;
}

/* The kernel says that nobody is there to read. Why, the peer may have said before that: a server that
 * refuses us does so when we are done, in an alert that nobody has read yet. Or it said so to a look-ahead.
 */
static int broken_pipe(const struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    if (c->fin)
        return -EPIPE;
    (void)mesh_rx_ready(c, io->slot, io->fd);
    if (atomic_load(&c->state) == MESH_CONN_DEAD && c->error)
        return -c->error;
    int err = __atomic_exchange_n(&c->rx_error, 0, __ATOMIC_RELAXED);
    return err ? -err : -EPIPE;
}

static ssize_t sent(const struct mesh_io *io, int err) {
    struct mesh_conn *c = io->c;
    if (mesh_tx_unsent(c))
        mesh_pend_leave(io->slot);
    if (!io->done)
        return err == -EPIPE ? broken_pipe(io) : err;
    if (err && err != -EAGAIN && err != -EPIPE && err != -EINTR) /* a part went: the next call tells it */
        mesh_conn_error(c, io->slot, io->fd, -err);
    return (ssize_t)io->done;
}

static ssize_t send_loop(struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    struct limit limit = {.option = SO_SNDTIMEO};
    int tries = 0;
    for (;;) {
        uint32_t state = atomic_load_explicit(&c->state, memory_order_acquire);
        if ((state == MESH_CONN_RAW || state == MESH_CONN_OPEN) &&
            mesh_unlikely(!mesh_admit_still(c, io->slot, io->fd)))
            continue;
        if (state == MESH_CONN_RAW && !mesh_look(c->held.bytes))
            return io->done ? send_raw_rest(io) : send_raw(io);
        if (state == MESH_CONN_DIAL || state == MESH_CONN_HAND)
            (void)mesh_hand_drive(c, io->slot, io->fd);
        here(io);
        int r = mesh_tx_try(io);
        state = atomic_load(&c->state);
        if (r == 0 && state == MESH_CONN_RAW && io->done < io->want)
            continue;
        if (r == -EBADF && moves(io, &tries))
            continue;
        if (r != -EAGAIN)
            return sent(io, r);
        bool held = state != MESH_CONN_OPEN;
        if (mesh_nonblocking(io->fd, io->flags))
            return sent(io, -EAGAIN);
        if (held && io->done == io->want)
            return sent(io, 0);
        int w = wait_writable(io, &limit);
        if (w < 0)
            return sent(io, w);
        here(io);
    }
}

ssize_t mesh_io_send(struct mesh_io *io) {
    ssize_t r;
    enter(io);
    pthread_cleanup_push(leave, io);
    r = send_loop(io);
    pthread_cleanup_pop(1);
    return r;
}
