/* SPDX-License-Identifier: Apache-2.0
 *
 * One gRPC stream over one HTTP/2 connection, client side (gRPC over HTTP/2; RFC 9113), on nghttp2. Bytes in, bytes out:
 * sockets, TLS and the clock are the owner's. A second stream takes a second connection.
 *
 * A message may be cut anywhere by frames; it is put together in a buffer that grows with the bytes that have come, never
 * with the length that was announced, and one over 64 MiB is refused by its prefix. What has come is acknowledged to flow
 * control as it is taken, so an owner that stops feeding stops the peer, after the window at most.
 *
 * Callbacks come from mesh_grpc_feed and mesh_grpc_tick; they may call mesh_grpc_send, and must not free. Threads: one at
 * a time per object.
 */
#ifndef MESH_RESOLVER_GRPC_H
#define MESH_RESOLVER_GRPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shim/base/err.h"

enum { MESH_GRPC_MESSAGE_MAX = 64 << 20, MESH_GRPC_QUEUE_MAX = 64 << 20, MESH_GRPC_WINDOW = 4 << 20 };

enum mesh_grpc_status {
    MESH_GRPC_OK = 0,
    MESH_GRPC_CANCELLED = 1,
    MESH_GRPC_UNKNOWN = 2,
    MESH_GRPC_PERMISSION_DENIED = 7,
    MESH_GRPC_RESOURCE_EXHAUSTED = 8,
    MESH_GRPC_UNIMPLEMENTED = 12,
    MESH_GRPC_INTERNAL = 13,
    MESH_GRPC_UNAVAILABLE = 14,
    MESH_GRPC_UNAUTHENTICATED = 16
};

struct mesh_grpc_events {
    void (*ready)(void *arg); /* the peer speaks HTTP/2 and the stream is open */
    void (*message)(void *arg, const uint8_t *p, size_t n); /* p dies with the call */
    void (*closed)(void *arg, int status, const char *why); /* once; nothing comes after it */
};

struct mesh_grpc_config {
    const char *path, *authority;
    const char *token;  /* `authorization: Bearer`, NULL: none */
    bool is_tls;        /* :scheme https */
    uint64_t keepalive; /* ns without a byte from the peer after which it is asked for a sign of life */
    const struct mesh_grpc_events *events;
    void *arg;
};

struct mesh_grpc;
/* Texts are copied. Errors: MESH_E_NOMEM. */
int mesh_grpc_new(const struct mesh_grpc_config *cfg, uint64_t now, struct mesh_grpc **ret) MESH_MUST_CHECK;
void mesh_grpc_free(struct mesh_grpc *g); /* without events; NULL is fine */

/* Queues one message. MESH_E_AGAIN: not ready, or closed. MESH_E_LIMIT: 64 MiB wait already. MESH_E_NOMEM. */
int mesh_grpc_send(struct mesh_grpc *g, const uint8_t *p, size_t n) MESH_MUST_CHECK;
/* Bytes from the peer. */
void mesh_grpc_feed(struct mesh_grpc *g, const uint8_t *p, size_t n, uint64_t now);
/* The next bytes for the peer, valid until the next call; 0: none. mesh_grpc_sent says how many of them went. */
size_t mesh_grpc_out(struct mesh_grpc *g, const uint8_t **ret_p);
void mesh_grpc_sent(struct mesh_grpc *g, size_t n);
/* Keepalive: asks when it is time, and closes when there is no answer for 20 s. */
void mesh_grpc_tick(struct mesh_grpc *g, uint64_t now);
uint64_t mesh_grpc_deadline(const struct mesh_grpc *g); /* of the next tick that has something to do */
/* The peer has complained of too many pings (ENHANCE_YOUR_CALM): the next connection should ask half as often (gRFC A8). */
bool mesh_grpc_is_calmed(const struct mesh_grpc *g);

/* ---- resolver/grpc_status.c: what an end means (gRPC's doc/http-grpc-status-mapping.md and PROTOCOL-HTTP2.md) */
int mesh_grpc_status_of_http(int http_status);
int mesh_grpc_status_of_reset(uint32_t error_code);
int mesh_grpc_status_parse(const uint8_t *p, size_t n); /* grpc-status */
/* grpc-message, percent-decoded; control characters become blanks, and what does not fit is cut. */
void mesh_grpc_message_decode(const uint8_t *p, size_t n, char *ret_text, size_t cap);

/* ---- resolver/grpc_message.c: length-prefixed messages out of a stream of bytes */
struct mesh_grpc_reader {
    uint8_t prefix[5];
    uint8_t have_prefix;
    uint32_t want;  /* of the message, once the prefix is whole */
    uint8_t *bytes; /* grows as they come */
    size_t have, cap;
};
/* Takes bytes up to the end of the message they belong to and returns how many: then *ret_whole says whether it is
 * complete, as r->bytes and r->have until mesh_grpc_reader_next. MESH_E_LIMIT: announced over 64 MiB; MESH_E_PROTOCOL: compressed,
 * which was not offered; MESH_E_NOMEM. */
int mesh_grpc_reader_feed(struct mesh_grpc_reader *r, const uint8_t *p, size_t n, bool *ret_whole) MESH_MUST_CHECK;
void mesh_grpc_reader_next(struct mesh_grpc_reader *r);
bool mesh_grpc_reader_is_inside(const struct mesh_grpc_reader *r); /* of a message or its prefix */
void mesh_grpc_reader_done(struct mesh_grpc_reader *r);

#endif
