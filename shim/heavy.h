/* SPDX-License-Identifier: Apache-2.0
 *
 * Most of the library's data comes as it is in the file: its pointers are not relocated at load, which would cost `ls`
 * 130 us and 100 private pages. There are two groups: the rooms, which only a configured process runs, and the heavy
 * part, OpenSSL and proto/, which it may never need.
 *
 * How: shim/link/layout.ld puts each group on pages of its own, shim/link/defer.c takes their relocations out of what
 * the loader reads and leaves them, packed, in the room that they took. Programs that are linked without that step
 * (meshctl, tests) have nothing to load.
 *
 * So an unconfigured process may run nothing but shim/entry.c, real.c, start.c, fdtab.c: a table of pointers anywhere
 * else is not yet one.
 */
#ifndef MESH_SHIM_HEAVY_H
#define MESH_SHIM_HEAVY_H

/* Makes the rooms usable; start-up's first step in a configured process. Threads: the one that starts us. */
void mesh_rooms_load(void);

/* Makes OpenSSL and proto/ usable; call it before anything of tls/ or proto/. The first call of a process takes some
 * 100 us and later ones a load. A fork child whose parent was in the middle of it starts anew. Not in a signal
 * handler and not in a vfork child. Threads: any; a second thread waits for the first. */
void mesh_heavy_load(void);

#endif
