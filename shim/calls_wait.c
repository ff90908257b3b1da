/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of the wait calls. When no mesh connection is concerned libc's own call is made, as it was asked
 * for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/bodies.h"
#include "shim/fd.h"
#include "shim/pend.h"
#include "shim/real.h"
#include "shim/watch.h"

int shim_poll(struct pollfd *fds, nfds_t n, int timeout) {
    uint64_t deadline = mesh_deadline_ms(timeout);
    if (!mesh_poll_concerns(fds, n, deadline))
        return real.poll(fds, n, timeout);
    return mesh_poll(fds, n, deadline, NULL);
}

int shim_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
    uint64_t deadline = mesh_deadline_ts(timeout);
    if (!mesh_poll_concerns(fds, n, deadline))
        return real.ppoll(fds, n, timeout, mask);
    return mesh_poll(fds, n, deadline, mask);
}

/* ---- select, over poll ---- */

enum {
    SELECT_IN = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR,
    SELECT_OUT = POLLWRNORM | POLLWRBAND | POLLOUT | POLLERR,
    MOST = 64,
};

/* The program's sets may be larger than fd_set says. */
static bool has(const fd_set *s, int fd) {
    return s && ((const unsigned long *)s)[fd / 64] >> (fd % 64) & 1;
}
static void put(fd_set *s, int fd) {
    ((unsigned long *)s)[fd / 64] |= 1UL << (fd % 64);
}
static void clear(fd_set *s, int n) {
    if (s)
        memset(s, 0, ((size_t)n + 63) / 64 * 8);
}

static bool select_concerns(int n, const fd_set *in, const fd_set *out, const fd_set *except,
                            uint64_t deadline) {
    if (mesh_pend_count())
        return true;
    for (int fd = 0; fd < n; fd++)
        if (has(in, fd) || has(out, fd) || has(except, fd)) {
            struct pollfd p = {.fd = fd};
            if (mesh_poll_concerns(&p, 1, deadline))
                return true;
        }
    return false;
}

static nfds_t gather(struct pollfd *ret, int n, const fd_set *in, const fd_set *out, const fd_set *except) {
    nfds_t k = 0;
    for (int fd = 0; fd < n; fd++) {
        short e = (short)((has(in, fd) ? POLLIN | POLLRDNORM : 0) |
                          (has(out, fd) ? POLLOUT | POLLWRNORM : 0) | (has(except, fd) ? POLLPRI : 0));
        if (e) {
            if (ret)
                ret[k] = (struct pollfd){.fd = fd, .events = e};
            k++;
        }
    }
    return k;
}

static int scatter(const struct pollfd *fds, nfds_t k, int n, fd_set *in, fd_set *out, fd_set *except) {
    for (nfds_t i = 0; i < k; i++)
        if (fds[i].revents & POLLNVAL) {
            errno = EBADF;
            return -1;
        }
    clear(in, n);
    clear(out, n);
    clear(except, n);
    int found = 0;
    for (nfds_t i = 0; i < k; i++) {
        short e = fds[i].events, r = fds[i].revents;
        if (e & POLLIN && r & SELECT_IN)
            put(in, fds[i].fd), found++;
        if (e & POLLOUT && r & SELECT_OUT)
            put(out, fds[i].fd), found++;
        if (e & POLLPRI && r & POLLPRI)
            put(except, fds[i].fd), found++;
    }
    return found;
}

static int select_by_poll(int n, fd_set *in, fd_set *out, fd_set *except, uint64_t deadline,
                          const sigset_t *mask) {
    struct pollfd few[MOST], *fds = few;
    nfds_t k = gather(NULL, n, in, out, except);
    if (k > MOST && !(fds = malloc(k * sizeof *fds))) {
        errno = ENOMEM;
        return -1;
    }
    gather(fds, n, in, out, except);
    int r;
    for (;;) { /* an event that select does not know (POLLHUP of a set for writing) must not end it */
        r = mesh_poll(fds, k, deadline, mask);
        if (r >= 0)
            r = scatter(fds, k, n, in, out, except);
        if (r != 0 || mesh_now() >= deadline)
            break;
    }
    if (fds != few) {
        int keep = errno;
        free(fds);
        errno = keep;
    }
    return r;
}

int shim_select(int n, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout) {
    struct timespec ts;
    if (n < 0 || n > MESH_FD_MAX || (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0)))
        return real.select(n, in, out, except, timeout);
    if (timeout)
        ts = (struct timespec){timeout->tv_sec, timeout->tv_usec * 1000};
    uint64_t deadline = mesh_deadline_ts(timeout ? &ts : NULL);
    if (!select_concerns(n, in, out, except, deadline))
        return real.select(n, in, out, except, timeout);
    int r = select_by_poll(n, in, out, except, deadline, NULL);
    if (timeout) { /* Linux tells the time left */
        uint64_t now = mesh_now(), left = deadline > now ? deadline - now : 0;
        *timeout = (struct timeval){(time_t)(left / MESH_SEC), (suseconds_t)(left % MESH_SEC / 1000)};
    }
    return r;
}

int shim_pselect(int n, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
                 const sigset_t *mask) {
    if (n < 0 || n > MESH_FD_MAX || (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0)))
        return real.pselect(n, in, out, except, timeout, mask);
    uint64_t deadline = mesh_deadline_ts(timeout);
    if (!select_concerns(n, in, out, except, deadline))
        return real.pselect(n, in, out, except, timeout, mask);
    return select_by_poll(n, in, out, except, deadline, mask);
}

/* ---- epoll ---- */

static bool epoll_concerns(int ep) {
    return mesh_fd_kind(mesh_fd_get(ep)) == MESH_FD_EPOLL || mesh_pend_count();
}

int shim_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event) {
    enum mesh_fd_kind k = mesh_fd_kind(mesh_fd_get(fd));
    (void)mesh_fd_shown(&fd);
    if (k != MESH_FD_CONN && k != MESH_FD_FRESH && k != MESH_FD_KIN)
        return real.epoll_ctl(epfd, op, fd, event);
    int r = mesh_epoll_ctl(epfd, op, fd, event);
    if (r >= 0)
        return r;
    errno = -r;
    return -1;
}

int shim_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout) {
    if (max <= 0 || !epoll_concerns(epfd))
        return mesh_epoll_woken(events, real.epoll_wait(epfd, events, max, timeout));
    return mesh_epoll_wait(epfd, events, max, mesh_deadline_ms(timeout), NULL);
}

int shim_epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask) {
    if (max <= 0 || !epoll_concerns(epfd))
        return mesh_epoll_woken(events, real.epoll_pwait(epfd, events, max, timeout, mask));
    return mesh_epoll_wait(epfd, events, max, mesh_deadline_ms(timeout), mask);
}

int shim_epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
                      const sigset_t *mask) {
    if (max <= 0 || !epoll_concerns(epfd))
        return mesh_epoll_woken(events, real.epoll_pwait2(epfd, events, max, timeout, mask));
    return mesh_epoll_wait(epfd, events, max, mesh_deadline_ts(timeout), mask);
}
