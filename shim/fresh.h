/* SPDX-License-Identifier: Apache-2.0
 *
 * TCP sockets that nobody has connected yet. Which of its descriptors, in which process, will be the one that connects it is
 * not known: a fork's child, a thread with a dup, the receiver of a message. Wherever that happens, the others hold a mesh
 * connection then, and not a byte of theirs may go out as it is (promise 1).
 * - In one process all of them carry the same number in their words (MESH_FD_FRESH), and become the connection together.
 * - Before a fork, a spawn and a message such a socket gets a slot of the slab, state MESH_CONN_NEW (MESH_FD_KIN): who
 *   connects it uses that slot, the others see its state, and the last holder is known.
 * - Where no slab is shared (another tree, a fork past us) the kernel's socket tells: a dial sets SO_NO_CHECK on it, which
 *   TCP has no use for. A descriptor so marked that no slot speaks of is not ours to use: it becomes a dead socket.
 * Cost: one look at the word for others; a getsockopt for I/O on a socket that is not connected.
 * Threads: any. Not in a vfork child unless said.
 */
#ifndef MESH_SHIM_FRESH_H
#define MESH_SHIM_FRESH_H

#include <stdbool.h>
#include <stdint.h>
#include "shim/fd.h"
#include "shim/slab.h"

static inline bool mesh_fd_unconnected(uint32_t word) {
    return mesh_fd_kind(word) == MESH_FD_FRESH || mesh_fd_kind(word) == MESH_FD_KIN;
}

/* The descriptor is a new TCP socket. */
void mesh_fresh_made(int fd);
/* It is not a mesh connection's: connected elsewhere, or listening. Its epoll registrations are forgotten. */
void mesh_fresh_forget(int fd);
/* Another descriptor of `fd` (MESH_FD_FRESH or MESH_FD_KIN) in this process. -EMFILE: there is no room, it is not marked. */
int mesh_fresh_doubled(int fd, int to);

/* The connection behind a descriptor that is marked unconnected, when somebody has connected it; NULL: nobody has, or it is
 * no mesh connection (libc's then). The cold half of mesh_fd_conn. errno is kept. */
struct mesh_conn *mesh_fresh_conn(int fd, uint32_t *ret_slot);
/* The connection behind a descriptor; NULL: libc's. */
static inline struct mesh_conn *mesh_fd_conn(int fd, uint32_t *ret_slot) {
    uint32_t word = mesh_fd_get(fd);
    if (__builtin_expect(mesh_fd_kind(word) != MESH_FD_CONN, 0))
        return mesh_fd_unconnected(word) ? mesh_fresh_conn(fd, ret_slot) : NULL;
    *ret_slot = mesh_fd_slot(word);
    return mesh_conn_at(*ret_slot);
}

/* The same for a call that writes: 1: there is one; 0: libc's; -errno: there is none yet, and that is the call's answer.
 * Nothing but an empty write is ever tried on a socket that may become a connection meanwhile. */
int mesh_fresh_out(int fd, int flags, uint32_t *ret_slot);

/* connect() begins on `fd`: *ret_slot is its slot, state MESH_CONN_DIAL, and all descriptors of the socket in this process
 * are the connection's. -EALREADY: somebody else is at it; -EISCONN: it listens; -ENOBUFS. */
int mesh_fresh_begin(int fd, uint32_t *ret_slot);
/* The dial has begun: registrations made before are the connection's. */
void mesh_fresh_watch(uint32_t slot);
/* The dial failed, or was dissolved: the socket may be connected again. Its slot must not be driven by anybody else. */
void mesh_fresh_again(uint32_t slot, int fd);
/* The view says plaintext: whoever holds it may use it as it is. */
void mesh_fresh_plain(int fd);

/* Before a fork or a spawn (`inherited`: of those alone that do not close on exec): slots for what has none. */
void mesh_fresh_share(bool inherited);
/* The same for one that goes out in a message. */
void mesh_fresh_sent(int fd);
/* A descriptor from another process, not wrapped (shim/scm.h): is it such a socket, or connected already? */
void mesh_fresh_received(int fd);
/* The same for one fetched out of a process of our own tree, which may be any connection. */
void mesh_fresh_fetched(int fd);

/* A socket that leads nowhere takes the descriptor's place. Usable in a vfork child. */
void mesh_fresh_bury(int fd);

#endif
