/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/close.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "shim/accept.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/conn.h"
#include "shim/fd.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/watch.h"

_Atomic int mesh_fd_top;

static bool linger_zero(int fd) {
    struct linger l = {0};
    socklen_t n = sizeof l;
    return mesh_sys_getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n) == 0 && l.l_onoff && l.l_linger == 0;
}

/* Records without data that nobody read (tickets) would make the kernel answer with a reset, which could destroy what we
 * sent last. Data that the program left unread stays: TCP resets as well then. */
static void drain_control(struct mesh_conn *c, uint32_t slot, int fd) {
    if (c->control)
        (void)mesh_rx_ready(c, slot, fd);
}

/* Says goodbye as far as it can be said without waiting. */
static void farewell(struct mesh_conn *c, uint32_t slot, int fd) {
    if (atomic_load(&c->state) != MESH_CONN_OPEN || linger_zero(fd))
        return;
    drain_control(c, slot, fd);
    if (mesh_conn_lock_tx(c))
        return;
    if (!c->fin)
        (void)mesh_tx_alert(c, slot, fd, 1, 0);
    mesh_conn_unlock_tx(c);
}

static bool must_linger(struct mesh_conn *c, int fd) {
    uint32_t state = atomic_load(&c->state);
    if (linger_zero(fd))
        return false;
    if (state == MESH_CONN_OPEN)
        return mesh_tx_unsent(c);
    return (state == MESH_CONN_DIAL || state == MESH_CONN_HAND) && c->told && c->held.bytes;
}

void mesh_close_end(uint32_t slot, int fd, bool ours) {
    struct mesh_conn *c = mesh_conn_at(slot);
    if (ours)
        mesh_fd_clear(fd);
    (void)mesh_local_drop(slot, fd);
    if (mesh_conn_lock_rx(c) == 0) {
        mesh_hand_drop(slot);
        mesh_conn_unlock_rx(c);
    }
    bool last = mesh_conn_let_go(slot, mesh_proc_self());
    if (last) {
        farewell(c, slot, fd);
        mesh_hand_closed(c, slot, fd);
        mesh_conn_give(slot);
    }
    if (ours)
        (void)mesh_sys_close(fd);
}

static int close_conn(uint32_t slot, int fd) {
    struct mesh_conn *c = mesh_conn_at(slot);
    struct mesh_local *l = mesh_local_at(slot);
    if (atomic_load(&l->fds) > 1) {
        (void)mesh_local_drop(slot, fd);
        return mesh_sys_close(fd);
    }
    (void)mesh_hand_drive(c, slot, fd);
    if (must_linger(c, fd)) {
        mesh_pend_linger(slot, fd);
        return 0;
    }
    farewell(c, slot, fd);
    if (must_linger(c, fd)) { /* not even close_notify fitted */
        mesh_pend_linger(slot, fd);
        return 0;
    }
    mesh_pend_forget(slot);
    mesh_close_end(slot, fd, false);
    return mesh_sys_close(fd);
}

int mesh_close(int fd) {
    uint32_t word = (unsigned)fd < MESH_FD_MAX ? atomic_exchange(&mesh_fdtab[fd], 0) : 0;
    switch (mesh_fd_kind(word)) {
    case MESH_FD_CONN:
        mesh_watch_forget(fd);
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
    default:
        break;
    }
    return mesh_sys_close(fd);
}

void mesh_fd_new(int fd) {
    uint32_t word = (unsigned)fd < MESH_FD_MAX ? atomic_exchange(&mesh_fdtab[fd], 0) : 0;
    if (mesh_fd_kind(word) == MESH_FD_CONN) { /* closed behind our back: the socket may be gone, say nothing on it */
        uint32_t slot = mesh_fd_slot(word);
        mesh_watch_forget(fd);
        struct mesh_local *l = mesh_local_at(slot);
        if (atomic_load(&l->fds) > 1) {
            (void)mesh_local_drop(slot, fd);
            return;
        }
        mesh_pend_forget(slot);
        struct mesh_conn *c = mesh_conn_at(slot);
        atomic_store(&c->state, MESH_CONN_DEAD);
        mesh_close_end(slot, -1, false);
    } else if (mesh_fd_kind(word) == MESH_FD_LISTENER) {
        mesh_accept_forget(mesh_fd_slot(word));
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

void mesh_close_all(void) {
    enum { MOST = 4096 };
    static uint32_t slots[MOST];
    uint32_t n = mesh_local_held(slots, MOST);
    for (uint32_t i = 0; i < n && i < MOST; i++) {
        struct mesh_conn *c = mesh_conn_at(slots[i]);
        int fd = atomic_load(&mesh_local_at(slots[i])->fd);
        if (!mesh_conn_let_go(slots[i], mesh_proc_self()))
            continue;
        farewell(c, slots[i], fd);
        mesh_hand_closed(c, slots[i], fd);
    }
}
