/* SPDX-License-Identifier: Apache-2.0
 *
 * libc's side of the door. Each interposed call has three names: `real.connect` (the next definition after ours in
 * link order, normally libc's), `shim_connect` (our body, in the file of its family) and `connect` (exported, generated
 * in shim/entry.c from shim/symbols.def). Our own code calls only `real.*` for what the table holds.
 *
 * Entries decide in a few instructions whether the body is needed at all:
 *   FD    the first argument is a descriptor: body only when mesh_fdtab[fd] is not 0
 *   WAIT  poll, select, epoll_wait...: body only when mesh_armed is not 0
 *   ANY   body only when mesh_on is not 0 (the process is configured)
 * Everything else is one jump into libc. A body is entered with mesh_depth raised; a call made while the depth is
 * already raised by the same thread (our own code, or a signal handler that interrupted it) still reaches the body:
 * bodies are written for that (see shim/conn.h, "Signals").
 */
#ifndef MESH_SHIM_DOOR_H
#define MESH_SHIM_DOOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Pointers to the next definition of every symbol of the table; filled before first use by whoever comes first (the
 * constructor, or an earlier call through an entry): no dlsym, no lock, no allocation (shim/real.c reads the link map's
 * hash tables). A symbol that this libc lacks points to a function that fails with ENOSYS. */
struct mesh_real; /* generated: shim/real.h */

enum { MESH_FD_MAX = 1 << 20 }; /* descriptors at or above are never mesh: connect and listen refuse them (EMFILE) */

/* What a descriptor is to us; 0: libc's. The value is (slot index << 4 | kind), see shim/fd.h. Zero pages until used. */
extern _Atomic uint32_t mesh_fdtab[MESH_FD_MAX];

extern _Atomic int mesh_on;    /* this process is configured: some name, address or port may be mesh */
extern _Atomic int mesh_armed; /* wait calls need us: mesh connections, listeners or pending work exist */

/* Is the descriptor ours in any way? One load. */
static inline uint32_t mesh_fd_get(int fd) {
    return (unsigned)fd < MESH_FD_MAX ? atomic_load_explicit(&mesh_fdtab[fd], memory_order_acquire) : 0;
}

#endif
