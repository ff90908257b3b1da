/* SPDX-License-Identifier: Apache-2.0
 *
 * The dynamic loader's ways past us: a plug-in bound deep, libc's own handle, a symbol by its version, a second libc in a
 * namespace of its own (DESIGN, bypass table).
 */
#ifndef MESH_SHIM_LOAD_H
#define MESH_SHIM_LOAD_H

/* What dlopen is to open instead of `file`: ourselves for libc, whose handle would give libc's functions (ours gives ours
 * first and libc's behind them), unless the caller stands in for libc itself: another preload's way to what is behind it.
 * RTLD_DEEPBIND is taken out of the mode. Threads: any. */
const char *mesh_load_instead(int *io_mode, const char *file, const void *caller);
/* Our function for a name that is asked for in a version of libc's; NULL: we have none, or it is nobody's of libc, or the caller is such a
 * preload. */
void *mesh_load_ours(const char *name, const char *version, const void *caller);

#endif
