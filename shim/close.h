/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of descriptors and connections (DESIGN D10).
 */
#ifndef MESH_SHIM_CLOSE_H
#define MESH_SHIM_CLOSE_H

#include <stdbool.h>
#include <stdint.h>
#include "shim/slab.h"

/* The program closes a marked descriptor. Returns what close() returns: 0 or -errno. The table's word is MESH_FD_GONE
 * before the kernel's descriptor goes. */
int mesh_close(int fd);
/* A descriptor of the connection has lost its mark: comes back when nobody is inside with it any more. */
void mesh_close_wait(uint32_t slot);
/* The last descriptor of this process goes: ends the connection when nobody else holds it, closes the kernel's descriptor
 * when `ours` (a private one). */
void mesh_close_end(uint32_t slot, int fd, bool ours);
/* Is there something that the program did not read? TCP answers a close with a reset then. Records without data (tickets, a
 * close_notify) are no such thing: they are taken out first. */
bool mesh_close_unread(struct mesh_conn *c, uint32_t slot, int fd);
/* The last call inside a connection that was closed under it has left. */
void mesh_close_late(uint32_t slot);
/* A fork child does not take a private descriptor of its parent over. */
void mesh_close_inherited(uint32_t slot, int fd);
/* At exit: close_notify on every connection that only this process holds. */
void mesh_close_all(void);

#endif
