/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting. What poll, select and epoll report of a mesh connection: before it is open nothing but what the program may know
 * (D8), once it is open the kernel's truth less records without data. The descriptor's epoll registrations are recorded;
 * while a connection is not settled they carry a cookie of ours and the events that the handshake waits for, and get the
 * program's own mask and data back when it is.
 * The registry is private to the process, guarded by mesh_guard (innermost lock).
 */
#ifndef MESH_SHIM_WATCH_H
#define MESH_SHIM_WATCH_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>
#include "shim/slab.h"

/* Must waits look at this connection at all? */
bool mesh_watch_special(const struct mesh_conn *c, uint32_t slot);
/* A descriptor became a mesh connection: registrations made before are ours now. */
void mesh_watch_begin(uint32_t slot, int fd);
/* Its readiness rules changed (open, dead, told, first data): registrations follow. Any lock but the guard may be held. */
void mesh_watch_settled(uint32_t slot);
/* The descriptor is gone from this process; so is an epoll descriptor. */
void mesh_watch_forget(int fd);
/* The same for a descriptor whose socket lives on, on one of ours: to the program it is closed, so the kernel may not tell
 * its epoll instances of it any more. */
void mesh_watch_end(int fd);
void mesh_watch_forget_ep(int ep);

/* Guard held: is the connection registered in `ep`, for the events of its handshake? If it is in another,
 * *ret_owner is the thread that waited there last (mesh_thread; 0: nobody). */
bool mesh_epoll_tells(uint32_t slot, int ep, uint32_t *ret_owner);

int mesh_epoll_ctl(int ep, int op, int fd, struct epoll_event *ev);
int mesh_epoll_wait(int ep, struct epoll_event *events, int max, uint64_t deadline, const sigset_t *mask);
/* libc's epoll_wait answered n to a thread that slept there when no connection was registered yet: takes our events out. When
 * nothing is left of them the call was interrupted (EINTR); the thread comes through mesh_epoll_wait the next time. */
int mesh_epoll_woken(struct epoll_event *events, int n);
/* poll with an absolute deadline (UINT64_MAX: none). */
int mesh_poll(struct pollfd *fds, nfds_t n, uint64_t deadline, const sigset_t *mask);
/* Is any of them special, or may become so before the deadline, or is work pending? If not, libc's own call will do. */
bool mesh_poll_concerns(const struct pollfd *fds, nfds_t n, uint64_t deadline);

/* Waits for the kernel to have something to read, in the very call that the program's own would be: restarted by SA_RESTART,
 * ended by the socket's timeout, woken by shutdown, cancelled as recv is. 0 or -errno. */
int mesh_wait_data(int fd);
/* Waits inside a blocking call for `events` on fd, driving what is pending. 0 ready (or worth another look), -EAGAIN at the
 * deadline, -EINTR when a handler without SA_RESTART ran, or any where the program has set a time limit (`timed`), as the
 * kernel has it. A cancellation point; no lock may be held. */
int mesh_wait_fd(int fd, short events, uint64_t deadline, bool timed);
/* mesh_now() + a relative time; UINT64_MAX for none. */
uint64_t mesh_deadline_ms(int ms);
uint64_t mesh_deadline_ts(const struct timespec *ts);

#endif
