/* SPDX-License-Identifier: Apache-2.0
 *
 * The slab's descriptor: the one descriptor that the library keeps. It lies at a high number, closes on exec, and is
 * nobody's but ours (MESH_FD_OURS): the program's calls on the number answer EBADF, ranges are closed around it, and what
 * is to be put there makes it move. A process whose limit leaves no room for it has none (-1 everywhere below).
 * POSIX record locks on it tell a process that has become another program from one that has not: they go when an exec
 * closes the descriptor, and are no child's.
 * Threads: any. Signal-safe but for _new and _keep; all but those usable in a vfork child, which has a copy of the table.
 */
#ifndef MESH_SHIM_SLAB_FD_H
#define MESH_SHIM_SLAB_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A memfd of that size, sealed against any other, at a high number; -1: there is no room, or no memfd. */
int mesh_slab_fd_new(size_t size);
/* This is the slab's from now on (-1: it has none); marks the number. */
void mesh_slab_fd_keep(int fd);
/* Size of a sealed memfd of this user; 0: it is none. */
size_t mesh_slab_fd_size(int fd);

/* The number as it was kept; -1. Somebody may have closed it behind our back. */
int mesh_slab_fd_number(void);
/* The same after a look whether it still is what was kept; -1 if not. */
int mesh_slab_fd(void);
/* The program wants the number for itself: ours moves to another. */
void mesh_slab_fd_move(void);
/* The kernel has given the number to somebody else. */
void mesh_slab_fd_lost(void);

/* Locks the byte of a process's entry for this process; false: cannot. Unlock gives up all locks of this process. */
bool mesh_slab_fd_lock(uint32_t entry);
void mesh_slab_fd_unlock(void);
/* Has another process locked it? In doubt true. */
bool mesh_slab_fd_locked(uint32_t entry);

#endif
