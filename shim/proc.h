/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes: what crosses fork and exec, and the end (DESIGN D9-D11).
 */
#ifndef MESH_SHIM_PROC_H
#define MESH_SHIM_PROC_H

/* Registers for fork; once, when the process is configured. */
void mesh_proc_start(void);

/* Around a fork that runs no handlers; `pid` is what it gave. Pairs, in the same thread. */
void mesh_proc_before_fork(void);
void mesh_proc_after_fork(long pid);
/* In a child that was forked past us, when it is noticed: its connections are held in doubt (D10). */
void mesh_proc_found_out(void);

#endif
