/* SPDX-License-Identifier: Apache-2.0
 *
 * The heavy part of the library, OpenSSL and the generated protos, comes as it is in the file: the pointers in its
 * data are not relocated at load (they would cost `ls` 130 us and 90 private pages). They are when a process first
 * needs them.
 *
 * How: shim/link/heavy.ld puts that data on pages of its own, shim/link/defer.c takes its relocations out of what the
 * loader reads and leaves them, packed, in the room that they took. Programs that are linked without that step
 * (meshctl, tests) have nothing to load.
 */
#ifndef MESH_SHIM_HEAVY_H
#define MESH_SHIM_HEAVY_H

/* Makes OpenSSL and the generated protos usable; call it before anything of tls/ or proto/. The first call of a process takes some 100 us
 * and later ones a load. A fork child whose parent was in the middle of it starts anew. Not in a signal handler and
 * not in a vfork child. Threads: any; a second thread waits for the first. */
void mesh_heavy_load(void);

#endif
