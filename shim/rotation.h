/* SPDX-License-Identifier: Apache-2.0
 *
 * Rotation for workers that dropped their privileges (DESIGN D12): a process of the tree that still can read the identity's
 * files publishes what it read in the slab, and those whose own look fails take it from there. The publisher is a server as
 * root that has forked: one thread of it, all signals blocked, looks once a second.
 * The area is bounded; what is replaced is zeroed first. Readers copy under a sequence number and judge as if it were files.
 */
#ifndef MESH_SHIM_ROTATION_H
#define MESH_SHIM_ROTATION_H

#include <stdbool.h>
#include <stdint.h>
#include "tls/tls.h"

enum { MESH_ROTATION_MAX = 128 << 10 }; /* bytes of the three files together */

/* Has anybody published? */
bool mesh_rotation_published(void);
/* Puts these bytes in force for the tree. false: they do not fit. One publisher at a time. */
bool mesh_rotation_publish(const struct mesh_pem *pem);
/* A copy of what was published after *io_seen, NULL: nothing new. The caller gives it back; *io_seen moves on. */
struct mesh_rotation_copy *mesh_rotation_copy(uint32_t *io_seen, struct mesh_pem *ret_pem);
void mesh_rotation_copy_free(struct mesh_rotation_copy *c); /* zeroes it */

/* A fork of this process has happened: starts the publisher where there is cause. Not in a fork handler. */
void mesh_rotation_forked(void);
void mesh_rotation_after_fork(void); /* child: there is no thread here */

#endif
