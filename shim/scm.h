/* SPDX-License-Identifier: Apache-2.0
 *
 * Descriptors in messages (SCM_RIGHTS, DESIGN D11). A mesh connection is replaced in the message by one end of a socketpair
 * in which a parcel lies: the real socket, and what it is. A receiver with the shim unwraps it in recvmsg; one without
 * holds a descriptor that no plaintext can be sent on.
 * What the parcel says is a slot of the slab for a receiver of the same tree. A connection that was accepted and not
 * touched needs no slab: any receiver with the shim takes it over. One in use does not reach another tree: its receiver
 * keeps the useless end, traced.
 */
#ifndef MESH_SHIM_SCM_H
#define MESH_SHIM_SCM_H

#include <stdbool.h>
#include <sys/socket.h>

/* Does the message carry a mesh connection? What it carries unconnected is shared with the tree (shim/fresh.h). */
bool mesh_scm_concerns(const struct msghdr *msg);
/* sendmsg of such a message: what libc's sendmsg gives, or -errno. */
ssize_t mesh_scm_send(int fd, const struct msghdr *msg, int flags);
/* After recvmsg gave `msg`: the descriptors in it are new numbers, and those that are wrapped are unwrapped in place. */
void mesh_scm_received(const struct msghdr *msg);

#endif
