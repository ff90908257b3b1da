/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the channel: sockets, made by raw system calls and kept out of the program's reach, and the bytes that go through
 * one, with TLS or without. No policy. Threads: one at a time per object.
 */
#ifndef MESH_RESOLVER_CHANNEL_DIAL_H
#define MESH_RESOLVER_CHANNEL_DIAL_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "resolver/channel.h"
#include "resolver/grpc.h"
#include "tls/channel.h"

struct channel_address {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } sa;
};

/* ---- channel_dial.c */
struct channel_address mesh_channel_ip(uint8_t family, const uint8_t addr[16], uint16_t port);
struct channel_address mesh_channel_unix(const char *path); /* "@name": abstract */
void mesh_channel_address_text(const struct channel_address *a, char *ret_text, size_t cap);
/* Begins to connect: 0 (connected or on its way, *ret_fd) or a negative errno. */
int mesh_channel_connect(const struct channel_address *a, const struct mesh_fd_hooks *hooks, int *ret_fd);
/* 1 connected, 0 on its way, or a negative errno. */
int mesh_channel_connected(int fd);
void mesh_channel_close(int fd, const struct mesh_fd_hooks *hooks);

/* ---- channel_io.c: one connection */
enum { CHANNEL_READ = 64 << 10, CHANNEL_SEAL = 16 << 10, CHANNEL_TURN = 1 << 20 /* bytes read in one go, for the others' sake */ };
struct channel_io {
    int fd;                       /* -1: none */
    struct mesh_tls_channel *tls; /* NULL: plain */
    struct mesh_grpc *grpc;       /* NULL: the handshake is not done */
    bool blocked;                 /* the last write found no room */
    bool shaken;
    uint8_t bytes[CHANNEL_READ], text[CHANNEL_SEAL];
};
/* Moves what can be moved without waiting. 0; MESH_E_CLOSED: the peer has closed; MESH_E_PEER, MESH_E_ALERT, MESH_E_PROTOCOL,
 * MESH_E_IO, MESH_E_NOMEM, with why. Without grpc it stops where the handshake is done. */
int mesh_channel_io_move(struct channel_io *io, uint64_t now, struct mesh_why *why) MESH_MUST_CHECK;
/* What is left to say, as far as there is room; errors do not matter any more. */
void mesh_channel_io_flush(struct channel_io *io);

#endif
