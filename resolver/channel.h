/* SPDX-License-Identifier: Apache-2.0
 *
 * A channel to one management server: addresses by c-ares, all of them tried; TCP or unix socket, plain, TLS or mTLS with
 * ALPN h2; one gRPC stream over HTTP/2 (nghttp2, resolver/grpc.h); keepalive; backoff 1 s x 1.6 to 120 s with 20 % jitter
 * for connects and streams, reset by a response. Nothing here blocks or sleeps: the owner polls what mesh_channel_fill names
 * and calls mesh_channel_drive. Sockets are made by raw system calls and handed to `hooks`, which keeps them out of the
 * program's reach. After mesh_heavy_load. Threads: one at a time per object (the publisher's).
 */
#ifndef MESH_RESOLVER_CHANNEL_H
#define MESH_RESOLVER_CHANNEL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "resolver/bootstrap.h"
#include "shim/base/err.h"

/* What the host of this thread does with a descriptor of ours. */
struct mesh_fd_hooks {
    int (*keep)(int fd);  /* moves it where the program's close loops do not reach; returns the new number, or a negative
                             errno, and fd is closed then. NULL: stays where it is */
    void (*drop)(int fd); /* forgets it; the caller closes it. NULL: nothing */
};

/* ---- names (resolver/dns.c): c-ares, one channel, used by channels and by DNS clusters ------------------------------- */
struct mesh_dns;
enum { MESH_DNS_ADDRS = 256 };
struct mesh_dns_answer {
    int err;            /* 0, MESH_E_NOTFOUND (no such name, no data), MESH_E_TIMEOUT, MESH_E_IO, MESH_E_NOMEM */
    uint32_t ttl;       /* seconds, the smallest of the records; 0 when unknown */
    uint32_t n;
    struct { uint8_t family; uint8_t addr[16]; } addrs[MESH_DNS_ADDRS]; /* 4 or 6; in the server's order */
};
/* families: bit 0 IPv4, bit 1 IPv6. Numeric hosts and /etc/hosts are answered too; resolv.conf and its search list hold,
 * and are read again when the file has changed. A try takes 2 s, then 4, then 8; after 20 s the answer is MESH_E_TIMEOUT. The
 * callback comes from drive (or at once, from mesh_dns_ask), never after mesh_dns_forget(dns, arg); it may ask and forget. */
int mesh_dns_new(const struct mesh_fd_hooks *hooks, struct mesh_dns **ret) MESH_MUST_CHECK;
void mesh_dns_free(struct mesh_dns *dns);
int mesh_dns_ask(struct mesh_dns *dns, const char *host, unsigned families,
                 void (*fn)(void *arg, const struct mesh_dns_answer *answer), void *arg) MESH_MUST_CHECK;
void mesh_dns_forget(struct mesh_dns *dns, const void *arg);
/* As mesh_channel_fill and _drive. */
uint32_t mesh_dns_fill(struct mesh_dns *dns, struct pollfd *ret, uint32_t max, uint64_t *io_deadline);
void mesh_dns_drive(struct mesh_dns *dns, uint64_t now);

/* ---- the channel ---------------------------------------------------------------------------------------------------- */
struct mesh_channel;
struct mesh_channel_events { /* called from mesh_channel_drive; may call send and stop, not free */
    void (*up)(void *arg);   /* a stream is open: requests may be sent; nonces of an earlier one are void */
    void (*message)(void *arg, const uint8_t *p, size_t n); /* one gRPC message (<= 64 MiB); p dies with the call */
    /* the stream or the attempt has ended; it is tried again after the backoff. `answered`: some message had come.
     * `status`: gRPC status code, 12 UNIMPLEMENTED means the method is not known there */
    void (*down)(void *arg, int status, bool answered, const char *why);
};

/* `path`: /envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources or DeltaAggregatedResources.
 * `server`, `hooks` and `dns` outlive the channel. Starts to connect at the first drive (`eager` false: after a random part of
 * a second, so that a fleet does not come at once). Errors: MESH_E_NOMEM. */
struct mesh_channel_config {
    const struct mesh_xds_server *server;
    const char *path;
    const struct mesh_fd_hooks *hooks;
    struct mesh_dns *dns;
    const struct mesh_channel_events *events;
    void *arg;
    bool eager;
};
int mesh_channel_new(const struct mesh_channel_config *cfg, struct mesh_channel **ret) MESH_MUST_CHECK;
void mesh_channel_free(struct mesh_channel *ch); /* closes at once, without events */
/* Changes the method (UNIMPLEMENTED on Delta: state of the world is next); takes effect at the next stream. */
void mesh_channel_path(struct mesh_channel *ch, const char *path);
/* Queues one message. MESH_E_AGAIN: no stream is open. MESH_E_NOMEM, MESH_E_LIMIT (64 MiB queued). */
int mesh_channel_send(struct mesh_channel *ch, const uint8_t *p, size_t n) MESH_MUST_CHECK;
/* Ends the stream (in the next drive, with `down` and status 1 CANCELLED) and opens another after the backoff, which a
 * message of that stream does not reset: for a server that sends rubbish. */
void mesh_channel_restart(struct mesh_channel *ch, const char *why);
/* Adds what to poll for (at most max entries) and pulls *io_deadline (mesh_now() time) in. */
uint32_t mesh_channel_fill(struct mesh_channel *ch, struct pollfd *ret, uint32_t max, uint64_t *io_deadline);
/* Does what can be done without waiting. Call when a descriptor is ready or the deadline has come; cheap otherwise. */
void mesh_channel_drive(struct mesh_channel *ch, uint64_t now);

enum mesh_channel_state { MESH_CHANNEL_IDLE, MESH_CHANNEL_CONNECTING, MESH_CHANNEL_UP, MESH_CHANNEL_BACKOFF };
struct mesh_channel_info {
    enum mesh_channel_state state;
    uint64_t since;      /* mesh_now() of the last change of state */
    char peer[64];       /* address in use */
    char error[160];     /* of the last failure, "" when up */
};
void mesh_channel_describe(const struct mesh_channel *ch, struct mesh_channel_info *ret);

#endif
