/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocking, and what a read or write of the program comes to in each state of the connection (shim/conn.h). */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/conn.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/real.h"
#include "shim/watch.h"

bool mesh_nonblocking(int fd, int flags) {
    if (flags & MSG_DONTWAIT)
        return true;
    int fl = mesh_sys_fcntl(fd, F_GETFL, 0);
    return fl < 0 || fl & O_NONBLOCK;
}

/* SO_RCVTIMEO or SO_SNDTIMEO as a deadline from now. */
static uint64_t timeo(int fd, int option) {
    struct timeval tv = {0};
    socklen_t n = sizeof tv;
    if (mesh_sys_getsockopt(fd, SOL_SOCKET, option, &tv, &n) || (!tv.tv_sec && !tv.tv_usec))
        return UINT64_MAX;
    return mesh_now() + (uint64_t)tv.tv_sec * MESH_SEC + (uint64_t)tv.tv_usec * 1000;
}

/* ---- reading ---- */

/* Waits for the kernel to have something, in the very call that the program's own would be: restarted by SA_RESTART, woken by
 * shutdown, cancelled as recv is. Only when other work is pending must we wait for more than one thing. */
static int wait_readable(const struct mesh_io *io, uint64_t *io_deadline, short events) {
    if (mesh_pend_count() == 0 && events == POLLIN) {
        char b;
        ssize_t r = real.recv(io->fd, &b, 1, MSG_PEEK);
        return r < 0 ? -errno : 0;
    }
    if (*io_deadline == 0)
        *io_deadline = timeo(io->fd, SO_RCVTIMEO);
    return mesh_wait_fd(io->fd, events, *io_deadline);
}

static ssize_t recv_raw(struct mesh_io *io) {
    struct msghdr m = {.msg_iov = (struct iovec *)io->iov, .msg_iovlen = (size_t)io->cnt};
    ssize_t r = real.recvmsg(io->fd, &m, io->flags);
    return r < 0 ? -errno : r;
}

static ssize_t recv_dead(const struct mesh_io *io) {
    return io->c->error ? -io->c->error : 0;
}

/* Not open yet: drives the handshake. 1: look again; 0 or -errno for the program. */
static int recv_hand(struct mesh_io *io, uint64_t *io_deadline) {
    struct mesh_conn *c = io->c;
    short wants = mesh_hand_drive(c, io->slot, io->fd);
    if (!wants)
        return 1;
    mesh_pend_add(io->slot);
    if (mesh_nonblocking(io->fd, io->flags))
        return -EAGAIN;
    if (*io_deadline == 0)
        *io_deadline = timeo(io->fd, SO_RCVTIMEO);
    uint64_t d = mesh_hand_deadline(io->slot);
    int r = mesh_wait_fd(io->fd, wants, d < *io_deadline ? d : *io_deadline);
    return r == 0 || (r == -EAGAIN && mesh_now() < *io_deadline) ? 1 : r;
}

ssize_t mesh_io_recv(struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    uint64_t deadline = 0;
    bool all = io->flags & MSG_WAITALL;
    for (;;) {
        uint32_t state = atomic_load_explicit(&c->state, memory_order_acquire);
        if (state == MESH_CONN_RAW)
            return recv_raw(io);
        if (state == MESH_CONN_DEAD || state == MESH_CONN_FREE)
            return io->done ? (ssize_t)io->done : recv_dead(io);
        if (state != MESH_CONN_OPEN) {
            int r = recv_hand(io, &deadline);
            if (r <= 0)
                return r;
            continue;
        }
        int locked = mesh_conn_lock_rx(c);
        if (locked)
            return locked == MESH_E_AGAIN ? -EAGAIN : -ECONNRESET;
        size_t before = io->done;
        ssize_t r = c->rx_shut && !c->plain.bytes ? (c->rx_eof = 1, 0) : mesh_rx_try(io);
        mesh_conn_unlock_rx(c);
        bool enough = !all || io->done == io->want || io->flags & (MSG_DONTWAIT | MSG_PEEK);
        if (r >= 0 && (enough || c->rx_eof || io->done == before))
            return r;
        if (r < 0 && r != -EAGAIN)
            return io->done ? (ssize_t)io->done : r;
        if (r < 0 && mesh_nonblocking(io->fd, io->flags))
            return r;
        if (r >= 0 && mesh_nonblocking(io->fd, io->flags))
            return r;
        int w = wait_readable(io, &deadline, POLLIN);
        if (w < 0)
            return io->done ? (ssize_t)io->done : w;
    }
}

/* ---- writing ---- */

static ssize_t send_raw(struct mesh_io *io) {
    struct msghdr m = {.msg_iov = (struct iovec *)io->iov, .msg_iovlen = (size_t)io->cnt};
    ssize_t r = real.sendmsg(io->fd, &m, io->flags | MSG_NOSIGNAL);
    return r < 0 ? -errno : r;
}


/* The rest waits until the kernel takes it. 0: look again; -errno. */
static int wait_writable(const struct mesh_io *io, uint64_t *io_deadline) {
    struct mesh_conn *c = io->c;
    if (*io_deadline == 0)
        *io_deadline = timeo(io->fd, SO_SNDTIMEO);
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_OPEN)
        return mesh_wait_fd(io->fd, POLLOUT, *io_deadline);
    short wants = mesh_hand_drive(c, io->slot, io->fd);
    if (!wants)
        return 0;
    uint64_t d = mesh_hand_deadline(io->slot);
    int r = mesh_wait_fd(io->fd, wants, d < *io_deadline ? d : *io_deadline);
    return r == -EAGAIN && mesh_now() < *io_deadline ? 0 : r;
}

static ssize_t sent(const struct mesh_io *io, int err) {
    struct mesh_conn *c = io->c;
    if (mesh_tx_unsent(c))
        mesh_pend_leave(io->slot);
    return io->done ? (ssize_t)io->done : err;
}

ssize_t mesh_io_send(struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    uint64_t deadline = 0;
    for (;;) {
        uint32_t state = atomic_load_explicit(&c->state, memory_order_acquire);
        if (state == MESH_CONN_RAW)
            return send_raw(io);
        if (state == MESH_CONN_DIAL || state == MESH_CONN_HAND)
            (void)mesh_hand_drive(c, io->slot, io->fd);
        int r = mesh_tx_try(io);
        if (r != -EAGAIN)
            return sent(io, r);
        bool held = atomic_load(&c->state) != MESH_CONN_OPEN;
        if (mesh_nonblocking(io->fd, io->flags))
            return sent(io, -EAGAIN);
        if (held && io->done == io->want)
            return sent(io, 0);
        int w = wait_writable(io, &deadline);
        if (w < 0)
            return sent(io, w);
    }
}
