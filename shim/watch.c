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

enum { ON_STACK = 64, PEND_MOST = 64 };
/* Another thread may drive a handshake to its end while we sleep on what it waited for: then what to wait for
 * has changed. */
static const uint64_t SLICE = 10 * MESH_MS;

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
        return mesh_look(c->control) || !mesh_local_at(slot)->nonblock;
    case MESH_CONN_RAW:
    case MESH_CONN_FREE:
        return false;
    default:
        return true;
    }
}

static struct mesh_conn *special_at(int fd, uint32_t *ret_slot) {
    uint32_t word = fd >= 0 ? mesh_fd_get(fd) : 0;
    if (mesh_fd_kind(word) != MESH_FD_CONN)
        return NULL;
    *ret_slot = mesh_fd_slot(word);
    struct mesh_conn *c = mesh_conn_at(*ret_slot);
    return c && mesh_watch_special(c, *ret_slot) ? c : NULL;
}

bool mesh_poll_concerns(const struct pollfd *fds, nfds_t n) {
    mesh_drain_look();
    if (mesh_pend_count())
        return true;
    uint32_t slot;
    for (nfds_t i = 0; i < n; i++)
        if (special_at(fds[i].fd, &slot))
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
        short wants = mesh_hand_drive(c, slot, p->fd);
        if (!wants) {
            *ret_again = true;
            return 0;
        }
        return mesh_tx_room(c) ? kernel & p->events & (POLLOUT | POLLWRNORM) : 0;
    }
    if (state == MESH_CONN_DEAD)
        return c->error ? with_end(p->events)
                        : (short)(kernel | (p->events & (POLLIN | POLLRDNORM)) | POLLHUP);
    if (kernel & (POLLIN | POLLRDNORM) && !mesh_rx_ready(c, slot, p->fd))
        kernel &= (short)~(POLLIN | POLLRDNORM);
    return c->rx_error ? (short)(kernel | POLLERR) : kernel;
}

static void timeout_of(uint64_t deadline, struct timespec *ret, struct timespec **ret_p) {
    *ret_p = NULL;
    if (deadline == UINT64_MAX)
        return;
    uint64_t now = mesh_now(), left = deadline > now ? deadline - now : 0;
    *ret = (struct timespec){(time_t)(left / MESH_SEC), (long)(left % MESH_SEC)};
    *ret_p = ret;
}

/* One round. -1: again; else what poll returns. */
static int round_(struct pollfd *fds, nfds_t n, struct pollfd *kfds, uint64_t deadline,
                  const sigset_t *mask) {
    uint64_t until = deadline;
    bool again = false, dead = false;
    uint32_t slot;
    mesh_pend_drive();
    for (nfds_t i = 0; i < n; i++) {
        kfds[i] = (struct pollfd){.fd = fds[i].fd, .events = ask(&fds[i])};
        struct mesh_conn *c = special_at(fds[i].fd, &slot);
        if (!c)
            continue;
        if (atomic_load(&c->state) == MESH_CONN_DEAD)
            dead = true;
        if (atomic_load(&c->state) == MESH_CONN_OPEN)
            continue;
        uint64_t d = mesh_hand_deadline(slot), soon = mesh_now() + SLICE;
        until = least(until, least(d, soon));
    }
    uint32_t extra = mesh_pend_fill(kfds + n, PEND_MOST, -1, &until);
    struct timespec ts, *tp;
    timeout_of(dead ? 0 : until, &ts, &tp);
    int r = real.ppoll(kfds, n + extra, tp, mask);
    if (r < 0)
        return r == -1 ? -2 : r;
    int found = 0;
    for (nfds_t i = 0; i < n; i++) {
        fds[i].revents = tell(&fds[i], kfds[i].revents, &again);
        found += fds[i].revents != 0;
    }
    if (found)
        return found;
    return again || mesh_now() < deadline ? -1 : 0;
}

/* The way out of a wait, also for a thread that is cancelled in it. */
static void cancelled(void *heap) {
    int keep = errno;
    free(heap);
    errno = keep;
}

int mesh_poll(struct pollfd *fds, nfds_t n, uint64_t deadline, const sigset_t *mask) {
    struct pollfd small[ON_STACK + PEND_MOST], *volatile kfds = small;
    if (n > ON_STACK) {
        kfds = n > (1 << 20) ? NULL : malloc((n + PEND_MOST) * sizeof *kfds);
        if (!kfds) {
            errno = ENOMEM;
            return -1;
        }
    }
    struct pollfd *heap = kfds == small ? NULL : kfds;
    int r;
    pthread_cleanup_push(cancelled, heap);
    do
        r = round_(fds, n, kfds, deadline, mask);
    while (r == -1);
    pthread_cleanup_pop(1);
    return r == -2 ? -1 : r;
}

/* ---- waiting inside a blocking call ---- */

/* Would the kernel restart a call that a handler interrupted? poll never says so, so we ask the dispositions:
 * yes when every handler of the process was installed with SA_RESTART. */
static bool restarts(void) {
    for (int s = 1; s < 65; s++) {
        struct sigaction a;
        if (s == SIGKILL || s == SIGSTOP || sigaction(s, NULL, &a))
            continue;
        if (a.sa_handler != SIG_DFL && a.sa_handler != SIG_IGN && !(a.sa_flags & SA_RESTART))
            return false;
    }
    return true;
}

static int wait_fd(int fd, short events, uint64_t deadline) {
    struct pollfd fds[1 + PEND_MOST];
    for (;;) {
        mesh_pend_drive();
        uint64_t until = deadline;
        fds[0] = (struct pollfd){.fd = fd, .events = events};
        uint32_t n = 1 + mesh_pend_fill(fds + 1, PEND_MOST, fd, &until);
        struct timespec ts, *tp;
        if (n > 1 || mesh_pend_count())
            until = least(until, mesh_now() + SLICE);
        timeout_of(until, &ts, &tp);
        int r = real.ppoll(fds, n, tp, NULL);
        if (r < 0 && errno == EINTR && restarts())
            continue;
        if (r < 0)
            return -errno;
        if (fds[0].revents)
            return 0;
        if (deadline != UINT64_MAX && mesh_now() >= deadline)
            return -EAGAIN;
        if (n == 1) /* nothing else is pending any more: the caller's own way of waiting will do */
            return 0;
    }
}

int mesh_wait_fd(int fd, short events, uint64_t deadline) {
    int keep = errno, r = wait_fd(fd, events, deadline);
    errno = keep;
    return r;
}
