/* SPDX-License-Identifier: Apache-2.0
 *
 * posix_spawn's file actions, as libc keeps them: what they make of our descriptors, and a copy that leaves room for what
 * must reach the new program besides. The record's layout is libc's own; it is looked at once before it is trusted.
 * Uses the heap; the process that spawns calls. Threads: any.
 */
#ifndef MESH_SHIM_SPAWN_ACTIONS_H
#define MESH_SHIM_SPAWN_ACTIONS_H

#include <spawn.h>
#include <stdbool.h>
#include "shim/handover.h"

/* The connections that the program would start with after `actions` (NULL: none); *ret_moved: it starts in another
 * directory. 0, or ENOMEM, or ENOTSUP: the records are not what we know. */
int mesh_spawn_simulate(const posix_spawn_file_actions_t *actions, struct mesh_crossing *x, bool *ret_moved);

/* A copy of `actions` that ends with: the slab's descriptor stays open (`slab` >= 0), and `dead` is put on each descriptor
 * that does not cross. 0 or an errno value; on success the caller destroys *ret. */
int mesh_spawn_rewrite(const posix_spawn_file_actions_t *actions, const struct mesh_crossing *x, int slab, int dead,
                       posix_spawn_file_actions_t *ret);

#endif
