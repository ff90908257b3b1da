/* SPDX-License-Identifier: Apache-2.0
 *
 * Start-up (shim/start.c): an ordered table of steps, run by the constructor or by the first call that could make a
 * connection, whichever comes first. Unconfigured, it costs the look-up of libc's symbols and one access(2).
 */
#ifndef MESH_SHIM_START_H
#define MESH_SHIM_START_H

#include <stdbool.h>

/* Runs the steps that have not run. A call from inside a step, or from another thread meanwhile, comes back at once:
 * what it is about to do goes to libc. Threads: any. */
void mesh_start(void);
/* The same, then: is the process configured? */
bool mesh_started_on(void);
/* The library's DT_INIT, run by the loader. Programs that link the rooms (meshctl, tests) start nothing by themselves. */
void mesh_init(void);

/* The last step of a configured process; shim/engine.c. */
void mesh_engine_start(void);

#endif
