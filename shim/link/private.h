/* SPDX-License-Identifier: Apache-2.0
 *
 * What the library gives its linked-in libraries instead of the process's: see shim/link/private.c. Programs that
 * link the rooms without it (meshctl, tests) have the process's own.
 */
#ifndef MESH_SHIM_LINK_PRIVATE_H
#define MESH_SHIM_LINK_PRIVATE_H

/* Fills in what is libc's; part of mesh_heavy_load. */
__attribute__((visibility("hidden"))) void mesh_private_start(void);

#endif
