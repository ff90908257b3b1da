/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/close.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "shim/accept.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/conn.h"
#include "shim/datagram.h"
#include "shim/engine.h"
#include "shim/fd.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/slab_fd.h"
#include "shim/stdio.h"
#include "shim/watch.h"

_Atomic int mesh_fd_top;

static bool linger_zero(int fd) {
    struct linger l = {0};
    socklen_t n = sizeof l;
    return mesh_sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n) == 0 && l.l_onoff && l.l_linger == 0;
}

bool mesh_close_unread(struct mesh_conn *c, uint32_t slot, int fd) {
    int n = 0;
    if (mesh_sys_ioctl(fd, FIONREAD, &n) == 0 && n > 0)
        (void)mesh_rx_ready(c, slot, fd);
    return c->plain.bytes || (mesh_sys_ioctl(fd, FIONREAD, &n) == 0 && n > 0 && !c->rx_eof);
}

/* The last holder says goodbye as far as it can be said without waiting. */
static void farewell(struct mesh_conn *c, uint32_t slot, int fd) {
    if (atomic_load(&c->state) != MESH_CONN_OPEN || linger_zero(fd))
        return;
    if (mesh_close_unread(c, slot, fd)) {
        struct linger reset = {1, 0};
        (void)mesh_sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        return;
    }
    if (mesh_conn_lock_tx(c))
        return;
    if (!c->fin)
        (void)mesh_tx_alert(c, slot, fd, 1, 0);
    mesh_conn_unlock_tx(c);
}

/* Does something have to happen that close() must not wait for? A handshake that the program does not know of
 * goes on to its end as well: to the peer it must look like a connection that was made and closed. */
static bool must_linger(struct mesh_conn *c, uint32_t slot, int fd) {
    uint32_t state = atomic_load(&c->state);
    if (linger_zero(fd) || c->handed)
        return false;
    if (state == MESH_CONN_OPEN || state == MESH_CONN_RAW)
        return mesh_tx_unsent(c) && !mesh_close_unread(c, slot, fd); /* a reset ends it at once */
    return (state == MESH_CONN_DIAL || state == MESH_CONN_HAND) && mesh_look(c->told);
}

void mesh_close_wait(uint32_t slot) {
    struct mesh_conn *c = mesh_conn_at(slot);
    if (mesh_conn_lock_rx(c) == 0)
        mesh_conn_unlock_rx(c);
    if (mesh_conn_lock_tx(c) == 0)
        mesh_conn_unlock_tx(c);
}

static void last_look(uint32_t slot) {
    mesh_close_wait(slot);
    atomic_store(&mesh_local_at(slot)->ending, 0);
}

void mesh_close_end(uint32_t slot, int fd, bool ours) {
    struct mesh_conn *c = mesh_conn_at(slot);
    if (ours)
        mesh_fd_clear(fd);
    atomic_store(&mesh_local_at(slot)->ending, fd + 1);
    if (mesh_conn_lock_rx(c) == 0) {
        mesh_hand_drop(slot);
        mesh_conn_unlock_rx(c);
    }
    if (mesh_conn_let_go(slot, mesh_proc_self())) {
        farewell(c, slot, fd);
        mesh_hand_closed(c, slot, fd);
        last_look(slot);
        (void)mesh_local_drop(slot, fd);
        mesh_conn_give(slot);
    } else {
        last_look(slot);
        (void)mesh_local_drop(slot, fd);
    }
    if (ours)
        (void)mesh_sys_close(fd);
}

static int close_conn(uint32_t slot, int fd) {
    struct mesh_conn *c = mesh_conn_at(slot);
    struct mesh_local *l = mesh_local_at(slot);
    if (atomic_load(&l->fds) > 1) {
        mesh_watch_forget(fd);
        (void)mesh_local_drop(slot, fd);
        mesh_close_wait(slot);
        return mesh_sys_close(fd);
    }
    if (atomic_load(&l->users)) { /* another thread, or the call that a signal handler interrupted */
        int own = mesh_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (own >= 0) {
            mesh_watch_end(fd);
            mesh_fd_new(own);
            mesh_fd_set(own, MESH_FD_CONN, slot);
            atomic_store(&l->fd, own);
            atomic_store(&l->closing, 1);
            mesh_close_wait(slot);
            int r = mesh_sys_close(fd);
            if (!atomic_load(&l->users) && atomic_exchange(&l->closing, 0))
                mesh_close_late(slot);
            return r;
        }
    }
    if (mesh_hand_ours(c, slot) && mesh_conn_others(slot, mesh_proc_self())) { /* they need its end */
        mesh_pend_linger(slot, fd);
        return 0;
    }
    bool last = mesh_conn_let_go(slot, mesh_proc_self());
    if (last) {
        mesh_conn_hold(slot, mesh_proc_self()); /* until the end below */
        atomic_store(&l->ending, fd + 1);
        if (!c->handed)
            (void)mesh_hand_drive(c, slot, fd);
        if (atomic_load(&c->state) == MESH_CONN_OPEN && !must_linger(c, slot, fd))
            farewell(c, slot, fd);
        if (must_linger(c, slot, fd)) {
            mesh_watch_end(fd);
            mesh_pend_linger(slot, fd);
            return 0;
        }
    }
    mesh_watch_forget(fd);
    mesh_pend_forget(slot);
    mesh_close_end(slot, fd, false);
    return mesh_sys_close(fd);
}

void mesh_close_late(uint32_t slot) {
    (void)mesh_close(atomic_load(&mesh_local_at(slot)->fd));
}

bool mesh_fd_gone(int fd) {
    int err;
    uint32_t gone = MESH_FD_GONE;
    if (mesh_is_tcp(fd, &err))
        return true;
    if (!mesh_engine_foreign())
        (void)atomic_compare_exchange_strong(&mesh_fdtab[fd], &gone, 0);
    return false;
}

/* The number loses its meaning; at once, for who comes next. */
static uint32_t unmark(int fd) {
    uint32_t word = mesh_fd_get(fd);
    while (word &&
           !atomic_compare_exchange_weak(&mesh_fdtab[fd], &word,
                                         mesh_fd_kind(word) == MESH_FD_CONN ? (uint32_t)MESH_FD_GONE : 0))
        ;
    return word;
}

int mesh_close(int fd) {
    mesh_stdio_leaves(fd);
    uint32_t word = unmark(fd);
    switch (mesh_fd_kind(word)) {
    case MESH_FD_CONN:
    case MESH_FD_KIN:
        return close_conn(mesh_fd_slot(word), fd);
    case MESH_FD_LISTENER:
        mesh_accept_forget(mesh_fd_slot(word));
        break;
    case MESH_FD_FRESH:
        mesh_watch_forget(fd);
        break;
    case MESH_FD_EPOLL:
        mesh_watch_forget_ep(fd);
        break;
    case MESH_FD_OURS:
        mesh_fd_set(fd, MESH_FD_OURS, 0);
        return -EBADF;
    default:
        break;
    }
    return mesh_sys_close(fd);
}

void mesh_fd_new(int fd) {
    if (!mesh_fd_get(fd) || mesh_engine_foreign()) /* a vfork child's numbers are not its parent's */
        return;
    uint32_t word = atomic_exchange(&mesh_fdtab[fd], 0);
    if (mesh_fd_kind(word) == MESH_FD_CONN ||
        mesh_fd_kind(word) == MESH_FD_KIN) { /* closed behind our back: there is nothing to say goodbye on */
        uint32_t slot = mesh_fd_slot(word);
        mesh_watch_forget(fd);
        struct mesh_local *l = mesh_local_at(slot);
        if (atomic_load(&l->fds) > 1) {
            (void)mesh_local_drop(slot, fd);
            return;
        }
        mesh_pend_forget(slot);
        mesh_close_end(slot, -1, false);
    } else if (mesh_fd_kind(word) == MESH_FD_LISTENER) {
        mesh_accept_forget(mesh_fd_slot(word));
    } else if (mesh_fd_kind(word) == MESH_FD_OURS) {
        mesh_slab_fd_lost();
    } else if (word) {
        mesh_watch_forget(fd);
        if (mesh_fd_kind(word) == MESH_FD_EPOLL)
            mesh_watch_forget_ep(fd);
    }
}

void mesh_close_inherited(uint32_t slot, int fd) {
    mesh_fd_clear(fd);
    (void)mesh_local_drop(slot, fd);
    mesh_hand_drop(slot);
    (void)mesh_conn_let_go(slot, mesh_proc_self());
    (void)mesh_sys_close(fd);
}

static void close_at_exit(uint32_t slot) {
    struct mesh_conn *c = mesh_conn_at(slot);
    int fd = atomic_load(&mesh_local_at(slot)->fd);
    if (!mesh_conn_let_go(slot, mesh_proc_self()))
        return;
    farewell(c, slot, fd);
    mesh_hand_closed(c, slot, fd);
}

void mesh_close_all(void) {
    enum { BATCH = 256 };
    uint32_t slots[BATCH], n;
    for (uint32_t from = 0; (n = mesh_local_held(slots, from, BATCH)) != 0; from += n)
        for (uint32_t i = 0; i < n; i++)
            close_at_exit(slots[i]);
}
