/* SPDX-License-Identifier: Apache-2.0
 *
 * The tickets of the run directory: one file of fixed size, 0600, that processes of one user map and share
 * (tls/tickets.c says what is in it).
 */
#ifndef MESH_SHIM_TICKET_FILE_H
#define MESH_SHIM_TICKET_FILE_H

/* Maps the file of `run_dir`, making it, or making it anew when it is damaged, and gives it to the tls room. Where
 * there is none (no directory, not ours, full), the room goes on with what children inherit. Keeps no descriptor
 * open. Threads: once a process, before its first identity. */
void mesh_ticket_file_use(const char *run_dir);

#endif
