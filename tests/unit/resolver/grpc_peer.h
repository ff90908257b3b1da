/* SPDX-License-Identifier: Apache-2.0
 *
 * A client under test and an nghttp2 server session at its other end, with a pump between them that cuts bytes as it is
 * told. The server does what the test says, right or wrong.
 */
#ifndef MESH_TESTS_RESOLVER_GRPC_PEER_H
#define MESH_TESTS_RESOLVER_GRPC_PEER_H

#include <criterion/criterion.h>
#include <nghttp2/nghttp2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "resolver/grpc.h"
#include "shim/base/clock.h"

enum { PEER_FIELDS = 32, PEER_MESSAGES = 64 };
#define PEER_KEEPALIVE (300 * MESH_SEC)

struct peer {
    struct mesh_grpc *g;
    nghttp2_session *server;
    size_t cut; /* bytes that are fed at once, 0: all */
    uint64_t now;

    /* what the client was told */
    int ready, messages, closed, status;
    char why[200];
    size_t lengths[PEER_MESSAGES];
    uint64_t sums[PEER_MESSAGES]; /* of the bytes */
    void (*on_message)(struct peer *p, const uint8_t *bytes, size_t n);

    /* what the server saw */
    char fields[PEER_FIELDS][2][128];
    int nfields, pings;
    int32_t stream;
    uint32_t reset;    /* error code + 1, 0: none */
    uint8_t *got;      /* DATA */
    size_t got_len, got_cap;
    int32_t window, connection_window;

    /* what the server has to say */
    uint8_t *say;
    size_t say_at, say_len;
    bool say_ends;     /* END_STREAM behind it */
    bool say_trailers; /* or these */
    nghttp2_nv trailers[4];
    size_t ntrailers;
};

static inline uint64_t peer_sum(const uint8_t *p, size_t n) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static inline void peer_on_ready(void *arg) {
    ((struct peer *)arg)->ready++;
}

static inline void peer_on_message(void *arg, const uint8_t *bytes, size_t n) {
    struct peer *p = arg;
    cr_assert(!p->closed, "a message after the end");
    if (p->messages < PEER_MESSAGES) {
        p->lengths[p->messages] = n;
        p->sums[p->messages] = peer_sum(bytes, n);
    }
    p->messages++;
    if (p->on_message)
        p->on_message(p, bytes, n);
}

static inline void peer_on_closed(void *arg, int status, const char *why) {
    struct peer *p = arg;
    p->closed++;
    p->status = status;
    snprintf(p->why, sizeof p->why, "%s", why);
}

static inline int peer_on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t n,
                                 const uint8_t *value, size_t len, uint8_t flags, void *arg) {
    struct peer *p = arg;
    p->stream = frame->hd.stream_id;
    if (p->nfields < PEER_FIELDS) {
        snprintf(p->fields[p->nfields][0], 128, "%.*s", (int)n, name);
        snprintf(p->fields[p->nfields++][1], 128, "%.*s", (int)len, value);
    }
    return 0;
}

static inline int peer_on_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t n,
                               void *arg) {
    struct peer *p = arg;
    if (p->got_len + n > p->got_cap)
        p->got = realloc(p->got, p->got_cap = 2 * (p->got_len + n));
    memcpy(p->got + p->got_len, bytes, n);
    p->got_len += n;
    return 0;
}

static inline int peer_on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *arg) {
    struct peer *p = arg;
    if (frame->hd.type == NGHTTP2_PING && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
        p->pings++;
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        p->reset = frame->rst_stream.error_code + 1;
    return 0;
}

static inline void peer_start(struct peer *p, const struct mesh_grpc_config *cfg) {
    static const struct mesh_grpc_events events = {peer_on_ready, peer_on_message, peer_on_closed};
    struct mesh_grpc_config c = cfg ? *cfg : (struct mesh_grpc_config){.path = "/s/M", .authority = "a:1"};
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    size_t cut = p->cut;
    memset(p, 0, sizeof *p);
    p->cut = cut;
    p->now = MESH_SEC;
    c.keepalive = PEER_KEEPALIVE;
    c.events = &events;
    c.arg = p;
    cr_assert_eq(mesh_grpc_new(&c, p->now, &p->g), 0);
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, peer_on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, peer_on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, peer_on_frame);
    nghttp2_option_new(&option);
    nghttp2_option_set_no_http_messaging(option, 1); /* of what is said, wrong things too */
    cr_assert_eq(nghttp2_session_server_new2(&p->server, callbacks, p, option), 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(p->server, 0, NULL, 0);
}

static inline void peer_done(struct peer *p) {
    mesh_grpc_free(p->g);
    nghttp2_session_del(p->server);
    free(p->got);
    free(p->say);
}

static inline void peer_feed(struct peer *p, const uint8_t *bytes, size_t n) {
    size_t cut = p->cut ? p->cut : n;
    for (size_t i = 0; i < n; i += cut)
        mesh_grpc_feed(p->g, bytes + i, n - i < cut ? n - i : cut, p->now);
}

/* Both ways until nothing moves. */
static inline void peer_pump(struct peer *p) {
    for (bool moved = true; moved;) {
        const uint8_t *bytes;
        moved = false;
        for (size_t n; (n = mesh_grpc_out(p->g, &bytes)); moved = true) {
            n = p->cut && n > p->cut ? p->cut : n;
            cr_assert_geq(nghttp2_session_mem_recv(p->server, bytes, n), 0);
            mesh_grpc_sent(p->g, n);
        }
        for (ssize_t n; (n = nghttp2_session_mem_send(p->server, &bytes)) > 0; moved = true)
            peer_feed(p, bytes, (size_t)n);
    }
}

static inline ssize_t peer_read(nghttp2_session *s, int32_t stream, uint8_t *buf, size_t cap, uint32_t *flags,
                                nghttp2_data_source *source, void *arg) {
    struct peer *p = arg;
    size_t left = p->say_len - p->say_at, n = left < cap ? left : cap;
    if (!left && !p->say_ends && !p->say_trailers)
        return NGHTTP2_ERR_DEFERRED;
    if (n)
        memcpy(buf, p->say + p->say_at, n);
    p->say_at += n;
    if (p->say_at == p->say_len && (p->say_ends || p->say_trailers)) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (p->say_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(s, stream, p->trailers, p->ntrailers);
        }
    }
    return (ssize_t)n;
}

static inline nghttp2_nv peer_field(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), 0};
}

static inline void peer_append(struct peer *p, const void *bytes, size_t n) {
    p->say = realloc(p->say, p->say_len + n);
    memcpy(p->say + p->say_len, bytes, n);
    p->say_len += n;
    nghttp2_session_resume_data(p->server, p->stream);
}

static inline void peer_prefix(struct peer *p, uint8_t flag, uint32_t n) {
    uint8_t prefix[5] = {flag, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    peer_append(p, prefix, sizeof prefix);
}

/* A message of n bytes that differ by `seed`; returns their sum. */
static inline uint64_t peer_message(struct peer *p, size_t n, unsigned seed) {
    uint8_t *bytes = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)((i * 31 + seed) >> (i & 3));
    uint64_t sum = peer_sum(bytes, n);
    peer_prefix(p, 0, (uint32_t)n);
    peer_append(p, bytes, n);
    free(bytes);
    return sum;
}

/* Response headers; what peer_append says follows. */
static inline void peer_answer(struct peer *p, const char *status, const char *type) {
    nghttp2_nv headers[] = {peer_field(":status", status), peer_field("content-type", type)};
    nghttp2_data_provider data = {.read_callback = peer_read};
    nghttp2_submit_response(p->server, p->stream, headers, type ? 2 : 1, &data);
}

static inline void peer_end(struct peer *p, const char *status, const char *message) {
    p->ntrailers = 0;
    p->trailers[p->ntrailers++] = peer_field("grpc-status", status);
    if (message)
        p->trailers[p->ntrailers++] = peer_field("grpc-message", message);
    p->say_trailers = true;
    nghttp2_session_resume_data(p->server, p->stream);
}

/* Up to the open stream with its 200. */
static inline void peer_open(struct peer *p) {
    peer_start(p, NULL);
    peer_pump(p);
    cr_assert_eq(p->ready, 1);
    cr_assert_eq(mesh_grpc_send(p->g, (const uint8_t *)"hello", 5), 0);
    peer_pump(p);
    cr_assert(p->stream);
    peer_answer(p, "200", "application/grpc");
    peer_pump(p);
}

#endif
