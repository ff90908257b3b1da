/* SPDX-License-Identifier: Apache-2.0
 *
 * Where trace lines go; used by trace.c alone. Nothing here blocks, raises SIGPIPE, keeps a descriptor or touches
 * errno: a line that cannot be written at once is lost. Threads: any, signal-safe.
 */
#ifndef MESH_BASE_TRACE_OUT_H
#define MESH_BASE_TRACE_OUT_H

#include <stddef.h>
#include <sys/types.h>
#include "shim/base/err.h"

/* Lines go to this file from now on; NULL: to descriptor 2. MESH_E_INVALID: too long, or a % that is neither %p nor %%. */
int mesh_trace_out_file(const char *path) MESH_MUST_CHECK;
int mesh_trace_out_check(const char *path) MESH_MUST_CHECK;
void mesh_trace_out_write(const char *line, size_t n);
pid_t mesh_trace_out_pid(void);

#endif
