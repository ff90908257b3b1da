/* SPDX-License-Identifier: Apache-2.0
 *
 * Pending work of this process: handshakes under way, bytes that were accepted from the program and are not sent. Every
 * wait inside the shim drives all of it (DESIGN D8), so a process with one thread makes progress; when a call leaves work
 * behind, a helper thread with all signals blocked carries it and ends with it (D1): the program need not wait ever again,
 * and a thread that waits already does not know of it.
 */
#ifndef MESH_SHIM_PEND_H
#define MESH_SHIM_PEND_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include "shim/door.h"
#include "shim/slab.h"

/* The descriptors of one wait: the caller's own, and behind them those that pending work waits for. */
struct mesh_wait {
    struct pollfd *fds;      /* `few`, or memory that mesh_wait_done gives back */
    uint32_t own, n, cap;
    uint32_t rounds;         /* in which there was something else to do */
    struct pollfd few[96];
};
/* Room for `own` descriptors, which the caller fills in; false: no memory. */
bool mesh_wait_init(struct mesh_wait *w, uint32_t own) MESH_MUST_CHECK;
void mesh_wait_done(struct mesh_wait *w);

/* This thread, as long as it lives; never 0. A word of 28 bits: two threads may share one, which costs a wake-up. */
static inline uint32_t mesh_thread(void) {
    return ((uint32_t)((uintptr_t)&mesh_depth >> 6) & 0x7ffffff) | 0x8000000;
}

/* Puts a slot on the list; nothing if it is there. */
void mesh_pend_add(uint32_t slot);
/* Takes a slot off the list: its last descriptor goes. */
void mesh_pend_forget(uint32_t slot);
/* How many there are: one load. */
uint32_t mesh_pend_count(void);
/* Before a wait: drives what is due, takes what is done off the list, adds to `w` what the rest waits for (but not the
 * caller's own `fd`, and not what the epoll descriptor `ep` tells of itself; -1: none) and pulls *io_deadline in to the next
 * time at which something must be driven. A handshake that another thread was the last to wait for is that thread's. */
void mesh_pend_before(struct mesh_wait *w, int fd, int ep, uint64_t *io_deadline);
/* After it: drives what the kernel told of. True: there was some, and what the kernel said of the caller's own is stale: an
 * epoll descriptor may have been readable for nothing but what has been driven. Not for ever: what the caller waits for has
 * its turn after some such rounds. */
bool mesh_pend_after(struct mesh_wait *w);
/* Both, with a wait in between that ends at the latest then; no cancellation point. */
void mesh_pend_round(uint64_t deadline);
/* A call returns to the program and leaves `slot` with unsent bytes or an unfinished told handshake. */
void mesh_pend_leave(uint32_t slot);
/* The program closed its last descriptor while something was unsent: the socket lives on, on a descriptor of ours, until it
 * is sent or the deadline passes. Closes fd. */
void mesh_pend_linger(uint32_t slot, int fd);
/* exit, _exit, exec: waits for what is unsent, at most until `deadline`; traces what is lost. */
void mesh_pend_drain(uint64_t deadline);
void mesh_pend_after_fork(void); /* child: no helper; work of descriptors it does not hold is dropped */

#endif
