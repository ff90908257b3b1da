/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes: what crosses fork and exec, and the end (DESIGN D9-D11).
 */
#ifndef MESH_SHIM_PROC_H
#define MESH_SHIM_PROC_H

/* Registers for fork; once, when the process is configured. */
void mesh_proc_start(void);

#endif
