/* SPDX-License-Identifier: Apache-2.0
 *
 * Prototypes of our bodies: shim_NAME for each CALL of shim/symbols.def, taken by the entry when its gate says so
 * (shim/door.h). A body that no file defines is a weak one that goes to libc. Aliases and fortified forms enter the
 * same body; execl and friends enter shim_execv, shim_execvp, shim_execve; dprintf enters shim_vdprintf.
 */
#ifndef MESH_SHIM_BODIES_H
#define MESH_SHIM_BODIES_H

#include "shim/libc.h"

#define CALL(family, lacks, ret, name, params, args) ret shim_##name params;
#define VOID(family, name, params, args) void shim_##name params;
#define NORETURN(family, name, params, args) void shim_##name params __attribute__((noreturn));
#define FIXED(family, lacks, ret, name, type, params, args) ret shim_##name params;
#include "shim/symbols.def"

#endif
