/* SPDX-License-Identifier: Apache-2.0
 *
 * stdio on a mesh connection. libc's streams write from inside libc, past the door: fdopen() of a mesh descriptor gives a
 * cookie stream over our own calls instead, and a standard stream whose descriptor becomes a mesh connection (dup2 to
 * 0, 1, 2) is exchanged for one for as long as that lasts. Owner of the streams: the program (fclose), but for the standard
 * ones. Threads: as dup2 and fdopen are.
 */
#ifndef MESH_SHIM_STDIO_H
#define MESH_SHIM_STDIO_H

/* Descriptor 0, 1 or 2 has become, or is about to stop being, a mesh connection; nothing for others. */
void mesh_stdio_took(int fd);
void mesh_stdio_leaves(int fd);
/* exit: what the program left in buffers goes out before the connections end. */
void mesh_stdio_flush(void);

#endif
