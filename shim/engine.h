/* SPDX-License-Identifier: Apache-2.0
 *
 * The process's own attachment to the mesh.
 */
#ifndef MESH_SHIM_ENGINE_H
#define MESH_SHIM_ENGINE_H

struct mesh_view;

/* The process's view, opened on first use; NULL: there is none, and everything is libc's. Threads: any. */
struct mesh_view *mesh_engine_view(void);

#endif
