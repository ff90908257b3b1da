/* SPDX-License-Identifier: Apache-2.0
 *
 * What is not TCP. UDP, raw sockets and other protocols have no way through the mesh: towards a virtual address they are
 * refused (EACCES), towards any other they are libc's.
 */
#ifndef MESH_SHIM_DATAGRAM_H
#define MESH_SHIM_DATAGRAM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
/* Multipath TCP is TCP for us: the same calls, the same stream. */
static inline bool mesh_protocol_is_tcp(int protocol) {
    return protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
}

/* Is the descriptor a TCP socket? If not, *ret_err is 0 or what the kernel says of the descriptor. One or two system
 * calls. Threads: any. */
bool mesh_is_tcp(int fd, int *ret_err);

/* A connect or send of a socket to this address: 0 it is libc's, -EACCES it is refused, and traced. No system call unless
 * the address is virtual, but for the first one of a process, which attaches the view. Threads: any. */
int mesh_datagram_to(int fd, const struct sockaddr *to, socklen_t len);

#endif
