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
#include "shim/slab.h"

/* Puts a slot on the list; nothing if it is there. */
void mesh_pend_add(uint32_t slot);
/* Takes a slot off the list: its last descriptor goes. */
void mesh_pend_forget(uint32_t slot);
/* How many there are: one load. */
uint32_t mesh_pend_count(void);
/* Drives everything once without waiting; what is done leaves the list. */
void mesh_pend_drive(void);
/* Fills in what a wait must watch besides its own descriptors (never `except`), and pulls *io_deadline in to the next time
 * at which something must be driven. Returns how many were filled (at most max). */
uint32_t mesh_pend_fill(struct pollfd *ret, uint32_t max, int except, uint64_t *io_deadline);
/* A call returns to the program and leaves `slot` with unsent bytes or an unfinished told handshake. */
void mesh_pend_leave(uint32_t slot);
/* The program closed its last descriptor while something was unsent: the socket lives on, on a descriptor of ours, until it
 * is sent or the deadline passes. Closes fd. */
void mesh_pend_linger(uint32_t slot, int fd);
/* exit, _exit, exec: waits for what is unsent, at most until `deadline`; traces what is lost. */
void mesh_pend_drain(uint64_t deadline);
void mesh_pend_after_fork(void); /* child: no helper; work of descriptors it does not hold is dropped */

#endif
