/* SPDX-License-Identifier: Apache-2.0
 *
 * poll and select, and what all waits share. */
#include "shim/watch.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/conn.h"
#include "shim/drain.h"
#include "shim/fd.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/real.h"

/* Another thread may drive a handshake to its end while we sleep on what it waited for, and a program that
 * waits to be told *connected*, or for room behind what is held, would not learn of it. */
static const uint64_t SLICE = 10 * MESH_MS;

/* Has more than one thread waited in this process? */
static bool several(uint32_t me) {
    static _Atomic uint32_t first;
    uint32_t none = 0;
    return !atomic_compare_exchange_strong(&first, &none, me) && none != me;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint64_t mesh_deadline_ms(int ms) {
    return ms < 0 ? UINT64_MAX : mesh_now() + (uint64_t)ms * MESH_MS;
}

uint64_t mesh_deadline_ts(const struct timespec *ts) {
    if (!ts)
        return UINT64_MAX;
    if (ts->tv_sec > INT_MAX)
        return UINT64_MAX - 1;
    return mesh_now() + (uint64_t)ts->tv_sec * MESH_SEC + (uint64_t)ts->tv_nsec;
}

bool mesh_watch_special(const struct mesh_conn *c, uint32_t slot) {
    switch (atomic_load_explicit(&c->state, memory_order_acquire)) {
    case MESH_CONN_OPEN:
        return mesh_look(c->control) || !mesh_local_at(slot)->nonblock || mesh_rx_hidden(c);
    case MESH_CONN_RAW:
    case MESH_CONN_FREE:
    case MESH_CONN_NEW:
        return false;
    default:
        return true;
    }
}

/* A record without data (KeyUpdate, a late ticket) would make a connection at rest readable, and a pool of
 * connections would take that for its end. While data flows nobody is misled by a read that finds nothing. */
static bool rests(const struct mesh_conn *c) {
    return atomic_load_explicit(&c->state, memory_order_relaxed) == MESH_CONN_OPEN &&
           mesh_now_coarse() - mesh_look(c->rx_at) > MESH_SEC;
}

static struct mesh_conn *special_at(int fd, uint32_t *ret_slot) {
    uint32_t word = fd >= 0 ? mesh_fd_get(fd) : 0;
    if (mesh_fd_kind(word) != MESH_FD_CONN)
        return NULL;
    *ret_slot = mesh_fd_slot(word);
    struct mesh_conn *c = mesh_conn_at(*ret_slot);
    return c && (mesh_watch_special(c, *ret_slot) || rests(c)) ? c : NULL;
}

bool mesh_poll_concerns(const struct pollfd *fds, nfds_t n, uint64_t deadline) {
    mesh_drain_look();
    if (mesh_pend_count())
        return true;
    uint32_t slot;
    bool lasts = deadline - mesh_now_coarse() > MESH_SEC;
    for (nfds_t i = 0; i < n; i++)
        if (special_at(fds[i].fd, &slot) ||
            (lasts && fds[i].fd >= 0 && mesh_fd_kind(mesh_fd_get(fds[i].fd)) == MESH_FD_CONN))
            return true;
    return false;
}

/* What to ask the kernel for on behalf of one entry. */
static short ask(const struct pollfd *p) {
    uint32_t slot;
    struct mesh_conn *c = special_at(p->fd, &slot);
    if (!c)
        return p->events;
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_OPEN || state == MESH_CONN_DEAD)
        return p->events;
    return mesh_hand_wants(slot) | (mesh_tx_room(c) ? p->events & POLLOUT : 0);
}

static short with_end(short asked) {
    return (short)(POLLERR | POLLHUP | (asked & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDHUP)));
}

/* What the program may know of one entry, given what the kernel said. `*ret_again`: ask anew. */
static short tell(const struct pollfd *p, short kernel, bool *ret_again) {
    uint32_t slot;
    struct mesh_conn *c = special_at(p->fd, &slot);
    if (!c)
        return kernel;
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_DIAL || state == MESH_CONN_HAND) {
        if (kernel & POLLNVAL)
            return kernel;
        bool due = kernel || mesh_hand_deadline(slot) <= mesh_now();
        short wants = due ? mesh_hand_drive(c, slot, p->fd) : 1;
        if (!wants) {
            *ret_again = true;
            return 0;
        }
        return mesh_tx_room(c) ? kernel & p->events & (POLLOUT | POLLWRNORM) : 0;
    }
    if (state == MESH_CONN_OPEN && kernel & (POLLIN | POLLRDNORM)) {
        if (!mesh_rx_ready(c, slot, p->fd))
            kernel &= (short)~(POLLIN | POLLRDNORM);
        state = atomic_load(&c->state); /* what came may have been an alert */
    }
    if (state == MESH_CONN_DEAD)
        return c->error ? with_end(p->events)
                        : (short)(kernel | (p->events & (POLLIN | POLLRDNORM)) | POLLHUP);
    if (mesh_rx_hidden(c))
        kernel |= p->events & (POLLIN | POLLRDNORM);
    return mesh_look(c->rx_error) ? (short)(kernel | POLLERR) : kernel;
}

/* A handshake of this wait's own: when must it be looked at again? Whoever else waits leaves it to us. */
static uint64_t look_by(const struct mesh_conn *c, uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    uint32_t me = mesh_thread();
    if (atomic_load_explicit(&l->waiter, memory_order_relaxed) != me)
        atomic_store_explicit(&l->waiter, me, memory_order_relaxed);
    uint64_t d = mesh_hand_deadline(slot);
    bool told = mesh_look(c->told);
    bool blind = told ? !mesh_tx_room(c) : atomic_load(&c->state) == MESH_CONN_DIAL && several(me);
    return blind ? least(d, mesh_now() + SLICE) : d;
}

static void timeout_of(uint64_t deadline, struct timespec *ret, struct timespec **ret_p) {
    *ret_p = NULL;
    if (deadline == UINT64_MAX)
        return;
    uint64_t now = mesh_now(), left = deadline > now ? deadline - now : 0;
    *ret = (struct timespec){(time_t)(left / MESH_SEC), (long)(left % MESH_SEC)};
    *ret_p = ret;
}

/* A filter may know poll alone. */
static int kernel_poll(struct pollfd *fds, nfds_t n, const struct timespec *tp, const sigset_t *mask) {
    if (mask || mesh_sys_may(SYS_ppoll))
        return real.ppoll(fds, n, tp, mask);
    return real.poll(fds, n, tp ? (int)(tp->tv_sec * 1000 + (tp->tv_nsec + 999999) / 1000000) : -1);
}

/* One round. -1: again; -2: the kernel's errno; else what poll returns. */
static int round_(struct pollfd *fds, struct mesh_wait *w, uint64_t deadline, const sigset_t *mask) {
    uint64_t until = deadline;
    bool again = false, dead = false;
    uint32_t slot;
    for (uint32_t i = 0; i < w->own; i++) {
        w->fds[i] = (struct pollfd){.fd = fds[i].fd, .events = ask(&fds[i])};
        struct mesh_conn *c = special_at(fds[i].fd, &slot);
        uint32_t state = c ? atomic_load(&c->state) : MESH_CONN_OPEN;
        if (state == MESH_CONN_DEAD)
            dead = true;
        else if (state == MESH_CONN_OPEN)
            dead |= c && mesh_rx_hidden(c) && fds[i].events & (POLLIN | POLLRDNORM);
        else
            until = least(until, look_by(c, slot));
    }
    mesh_pend_before(w, -1, -1, &until);
    struct timespec ts, *tp;
    timeout_of(dead ? 0 : until, &ts, &tp);
    if (kernel_poll(w->fds, w->n, tp, mask) < 0)
        return -2;
    if (mesh_pend_after(w))
        return -1;
    int found = 0;
    for (uint32_t i = 0; i < w->own; i++) {
        fds[i].revents = tell(&fds[i], w->fds[i].revents, &again);
        found += fds[i].revents != 0;
    }
    if (found)
        return found;
    return again || mesh_now() < deadline ? -1 : 0;
}

/* The way out of a wait, also for a thread that is cancelled in it. */
static void left(void *w) {
    int keep = errno;
    mesh_wait_done(w);
    errno = keep;
}

int mesh_poll(struct pollfd *fds, nfds_t n, uint64_t deadline, const sigset_t *mask) {
    struct mesh_wait w;
    if (n > MESH_FD_MAX || !mesh_wait_init(&w, (uint32_t)n)) {
        errno = n > MESH_FD_MAX ? EINVAL : ENOMEM;
        return -1;
    }
    int r;
    pthread_cleanup_push(left, &w);
    do
        r = round_(fds, &w, deadline, mask);
    while (r == -1);
    pthread_cleanup_pop(1);
    return r == -2 ? -1 : r;
}

/* ---- waiting inside a blocking call ---- */

/* Would the kernel restart a call that a handler interrupted? poll never says so, so we ask the dispositions:
 * yes when every handler of the process was installed with SA_RESTART. */
static bool restarts(void) {
    if (!mesh_sys_may(SYS_rt_sigaction))
        return true;
    for (int s = 1; s < 65; s++) {
        struct sigaction a;
        if (s == SIGKILL || s == SIGSTOP || sigaction(s, NULL, &a))
            continue;
        if (a.sa_handler != SIG_DFL && a.sa_handler != SIG_IGN && !(a.sa_flags & SA_RESTART))
            return false;
    }
    return true;
}

/* Not inlined: tests/tsan.supp names it. */
__attribute__((noinline)) int mesh_wait_data(int fd) {
    char b;
    int keep = errno;
    ssize_t r = real.recv(fd, &b, 1, MSG_PEEK);
    int err = r < 0 ? -errno : 0;
    errno = keep;
    return err;
}

static int wait_fd(struct mesh_wait *w, int fd, short events, uint64_t deadline, bool timed) {
    uint32_t slot;
    struct mesh_conn *c = special_at(fd, &slot);
    bool shakes = c && atomic_load(&c->state) != MESH_CONN_OPEN;
    for (;;) {
        uint64_t until = shakes ? least(deadline, look_by(c, slot)) : deadline;
        bool slice = until < deadline;
        w->fds[0] = (struct pollfd){.fd = fd, .events = events};
        mesh_pend_before(w, fd, -1, &until);
        if (w->n == 1 && until == UINT64_MAX && events == POLLIN && !shakes && mesh_sys_may(SYS_recvfrom))
            return mesh_wait_data(fd);
        struct timespec ts, *tp;
        timeout_of(until, &ts, &tp);
        int r = kernel_poll(w->fds, w->n, tp, NULL);
        if (r < 0 && errno == EINTR && !timed && restarts())
            continue;
        if (r < 0)
            return -errno;
        if (w->fds[0].revents)
            return 0;
        (void)mesh_pend_after(w);
        if (deadline != UINT64_MAX && mesh_now() >= deadline)
            return -EAGAIN;
        if (slice ||
            w->n == 1) /* nothing else is pending any more: the caller's own way of waiting will do */
            return 0;
    }
}

int mesh_wait_fd(int fd, short events, uint64_t deadline, bool timed) {
    int keep = errno, r;
    struct mesh_wait w;
    if (!mesh_wait_init(&w, 1))
        return -ENOMEM;
    pthread_cleanup_push(left, &w);
    r = wait_fd(&w, fd, events, deadline, timed);
    pthread_cleanup_pop(1);
    errno = keep;
    return r;
}
