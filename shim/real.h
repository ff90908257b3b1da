/* SPDX-License-Identifier: Apache-2.0
 *
 * `real.connect` is the next definition of connect after ours in link order, normally libc's; one pointer for each
 * CALL of shim/symbols.def. Usable at any time, also before our constructor and in a signal handler: a pointer first leads
 * to a stub that looks its own name up, stores what it found and goes on (170 names at once would cost every `ls` 6 us). A call that this libc lacks fails with ENOSYS.
 */
#ifndef MESH_SHIM_REAL_H
#define MESH_SHIM_REAL_H

#include "shim/libc.h"

struct mesh_real {
#define CALL(family, lacks, ret, name, params, args) ret(*name) params;
#define VOID(family, name, params, args) void(*name) params;
#define NORETURN(family, name, params, args) void(*name) params;
#define FIXED(family, lacks, ret, name, type, params, args) ret(*name) params;
#define CHECKED(family, ret, name, params, args, overrun, call, call_args) ret(*name) params;
#define POINTER(lacks, ret, name, params, args) ret(*name) params;
#include "shim/symbols.def"
};

extern struct mesh_real real __attribute__((visibility("hidden")));

/* Marks the end of the objects that were there at start: later ones may be unloaded while we look, and none of them
 * comes before libc. Called once, by the loader's thread. */
void mesh_real_remember(void);

/* The definition of `name` that a program's unversioned reference would get from the objects after ours, or NULL. No
 * lock, no allocation, no system call. Threads: any, signal-safe. */
void *mesh_real_lookup(const char *name);

struct link_map;
/* Does an object define it for others? */
bool mesh_real_defines(const struct link_map *m, const char *name);
/* Our own exported function of that name, or NULL. The same. */
void *mesh_real_own(const char *name);

#endif
