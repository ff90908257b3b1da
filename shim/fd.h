/* SPDX-License-Identifier: Apache-2.0
 *
 * What one of this process's descriptors is to us, in one 32-bit word (door.h, mesh_fdtab): kind in the low four bits,
 * above it a slot: of the slab for a connection, of a process-private table for the others. 0 is libc's.
 * A descriptor that was closed behind our back (a raw system call, a vfork child of another library) leaves a stale word;
 * every call that makes a new descriptor clears the word of that number first (mesh_fd_new).
 * Threads: any, signal-safe.
 */
#ifndef MESH_SHIM_FD_H
#define MESH_SHIM_FD_H

#include "shim/door.h"

enum mesh_fd_kind {
    MESH_FD_NONE = 0,
    MESH_FD_CONN = 1,     /* a mesh connection, from the first connect() or accept() on */
    MESH_FD_LISTENER = 2, /* a listening socket on a protected port; slot: shim/accept.c */
    MESH_FD_OPEN_PORT = 3,/* a listening socket whose port is known not to be protected */
    MESH_FD_FRESH = 4,    /* a TCP socket that is not connected yet: epoll_ctl is recorded for it */
    MESH_FD_EPOLL = 5,    /* an epoll descriptor that holds one of ours */
    MESH_FD_KIN = 6,      /* the same, with a slot of the slab, because other processes hold it as well (shim/fresh.h) */
    MESH_FD_OURS = 7,     /* the slab's (shim/slab_fd.h): for the program the number is not open */
    MESH_FD_GONE = 8,     /* a connection was closed here: while its socket is still open under the number, and when the next
                             connection is but not yet marked, another thread's call must not reach it past us */
};

static inline uint32_t mesh_fd_kind(uint32_t word) {
    return word & 15;
}
static inline uint32_t mesh_fd_slot(uint32_t word) {
    return word >> 4;
}
/* The highest number that was ever marked. */
extern _Atomic int mesh_fd_top;
static inline unsigned mesh_fd_highest(void) {
    return (unsigned)atomic_load_explicit(&mesh_fd_top, memory_order_relaxed);
}
static inline void mesh_fd_reach(int fd) {
    int top = atomic_load_explicit(&mesh_fd_top, memory_order_relaxed);
    while (fd > top && !atomic_compare_exchange_weak(&mesh_fd_top, &top, fd))
        ;
}
static inline void mesh_fd_set(int fd, enum mesh_fd_kind kind, uint32_t slot) {
    if ((unsigned)fd >= MESH_FD_MAX)
        return;
    mesh_fd_reach(fd);
    atomic_store_explicit(&mesh_fdtab[fd], slot << 4 | (uint32_t)kind, memory_order_release);
}
static inline void mesh_fd_clear(int fd) {
    if (mesh_fd_get(fd))
        atomic_store_explicit(&mesh_fdtab[fd], 0, memory_order_release);
}
/* The mark is MESH_FD_GONE: is it still a connection's? If not it is taken away. */
bool mesh_fd_gone(int fd);
/* For a call on a descriptor: false, and the number is one that is never open, when it is ours alone, or gone. */
static inline bool mesh_fd_shown(int *io_fd) {
    uint32_t kind = mesh_fd_kind(mesh_fd_get(*io_fd));
    if (kind < MESH_FD_OURS || (kind == MESH_FD_GONE && !mesh_fd_gone(*io_fd)))
        return true;
    *io_fd = -1;
    return false;
}
/* A number that the kernel has just handed out: whatever we knew of it is stale. Drops it as if it had been closed. */
void mesh_fd_new(int fd);

#endif
