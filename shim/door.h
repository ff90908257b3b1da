/* SPDX-License-Identifier: Apache-2.0
 *
 * libc's side of the door. Each interposed call has three names: `real.connect` (the next definition after ours in
 * link order, normally libc's), `shim_connect` (our body, in the file of its family) and `connect` (exported, generated
 * in shim/entry.c from shim/symbols.def). Our own code calls only `real.*` for what the table holds.
 *
 * Entries decide in a few instructions whether the body is needed at all:
 *   FD    the first argument is a descriptor: body only when mesh_fdtab[fd] is not 0
 *   WAIT  poll, select, epoll_wait, dup2, close_range...: body only when mesh_armed is not 0
 *   ANY   body only when mesh_on is not 0 (the process is configured, or start-up has not looked yet: then it runs first)
 *   ON    body only when mesh_on is positive; never starts anything (malloc implementations call syscall(2) themselves)
 *   TO    sendto: as FD, and as ON when it names an address
 *   PROC  as ANY, for fork, exec, spawn, exit: entered without mesh_depth, since they may not come back
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
struct mesh_real; /* shim/real.h; prototypes of the bodies: shim/bodies.h */

enum { MESH_FD_MAX = 1 << 20 }; /* descriptors at or above are never mesh: connect and listen refuse them (EMFILE) */

#pragma GCC visibility push(hidden) /* reached without the GOT, also from other files */

/* What a descriptor is to us; 0: libc's. The value is (slot index << 4 | kind), see shim/fd.h. Zero pages until used. */
extern _Atomic uint32_t mesh_fdtab[MESH_FD_MAX];

extern _Atomic int mesh_on;    /* 1: this process is configured, some name, address or port may be mesh; -1: not looked yet */
extern _Atomic int mesh_armed; /* wait calls need us: mesh connections, listeners or pending work exist */

/* How many bodies this thread is inside. A handler that leaves one by longjmp leaves its count: a hint, not a lock. */
extern _Thread_local int mesh_depth __attribute__((tls_model("initial-exec")));
/* At this depth a thread is none of the program's (shim/steward.h): what it calls goes to libc. */
#define MESH_DEPTH_APART (1 << 20)

#pragma GCC visibility pop

/* Is the descriptor ours in any way? One load. */
static inline uint32_t mesh_fd_get(int fd) {
    if (__builtin_expect((unsigned)fd >= MESH_FD_MAX, 0))
        return 0;
    return atomic_load_explicit(&mesh_fdtab[(unsigned)fd], memory_order_acquire);
}

#endif
