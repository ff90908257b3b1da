/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that publishes this process's view (resolver/publisher.h) when the view needs a publisher and has none. It is
 * made at the first need, with all signals blocked and a descriptor table of its own: the program's close loops, its fork
 * children and its /proc/self/fd know nothing of the descriptors of the control plane's stream, and it holds none of the
 * program's. It ends when another process has the role, and is gone with the process; never in a process that changed its
 * user, root, namespaces or filter (DESIGN D12), nor in a vfork child.
 * A thread is in an entry of the library as if it were libc's: nothing it calls is interposed (MESH_DEPTH_APART).
 */
#ifndef MESH_SHIM_STEWARD_H
#define MESH_SHIM_STEWARD_H

#include <stdbool.h>
#include <stdint.h>
#include "resolver/resolver.h"

/* Sees to it that somebody publishes; some loads while somebody does. Threads: any. */
void mesh_steward_look(struct mesh_view *v, uint64_t now);
/* The process is about to give up what it may do: ends the thread, waits until it is gone, and never starts another. */
void mesh_steward_retire(void);
/* Around a fork: the thread holds no lock of libc's or OpenSSL's meanwhile, unless it is in a build that takes long. */
void mesh_steward_before_fork(void);
void mesh_steward_after_fork(bool in_child);

#endif
