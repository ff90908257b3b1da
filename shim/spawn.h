/* SPDX-License-Identifier: Apache-2.0
 *
 * While popen starts a shell that connections cross to, no other program is started: it would find the slab open.
 */
#ifndef MESH_SHIM_SPAWN_H
#define MESH_SHIM_SPAWN_H

/* Around whatever makes a process that has a copy of this one's descriptors: fork, spawn. Threads: any, signal-safe. */
void mesh_spawn_enter(void);
void mesh_spawn_leave(void);
void mesh_spawn_after_fork(void); /* in the child */

#endif
