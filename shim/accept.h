/* SPDX-License-Identifier: Apache-2.0
 *
 * Listening sockets on protected ports, and what is accepted from them.
 */
#ifndef MESH_SHIM_ACCEPT_H
#define MESH_SHIM_ACCEPT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "resolver/resolver.h"

/* Is this the address of a listening socket of this process? Then a dial must not wait for its peer. */
bool mesh_accept_is_ours(const struct sockaddr *to);

/* Has this process a protected listener? */
bool mesh_accept_any(void);

/* bind() or listen() succeeded on fd: marks it when its port is protected. */
void mesh_accept_listening(int fd);
/* Bodies of accept: what libc's accept4 gives, or -errno. */
int mesh_accept(int fd, struct sockaddr *sa, socklen_t *len, int flags);
/* Makes an accepted descriptor that nobody has touched a mesh connection. -errno: it must not reach the program. */
int mesh_accept_adopt(int fd, enum mesh_inbound_mode mode, uint16_t port, bool nonblock);
/* The same for one that another program or process accepted. It may be a second descriptor of one that came before. */
int mesh_accept_take_over(int fd, uint64_t inode, enum mesh_inbound_mode mode, uint16_t port);
/* A listening descriptor is gone, or another one of it is made (dup). */
void mesh_accept_forget(uint32_t listener);
void mesh_accept_again(uint32_t listener);

#endif
