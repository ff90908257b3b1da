/* SPDX-License-Identifier: Apache-2.0
 *
 * Two ends in one test: handshakes of ours against each other or against OpenSSL's own SSL, and records
 * between them.
 */
#ifndef MESH_TESTS_TLS_PAIR_H
#define MESH_TESTS_TLS_PAIR_H

#include <criterion/criterion.h>
#include <openssl/ssl.h>
#include "tests/unit/tls/pki.h"

struct end { /* one of ours */
    struct mesh_handshake *hs;
    int err; /* of the last step */
    struct mesh_why why;
    struct mesh_record rx, tx;
    struct mesh_aead rx_aead, tx_aead;
    struct mesh_peer peer;
};

struct wire {
    uint8_t bytes[1 << 17];
    size_t n;
};

static inline size_t wire_record(const uint8_t *p, size_t n) { /* bytes of the first record, 0: not whole */
    if (n < 5)
        return 0;
    size_t whole = 5 + ((size_t)p[3] << 8 | p[4]);
    return whole <= n ? whole : 0;
}

static inline void end_take_out(struct end *e, struct wire *w) {
    const uint8_t *p;
    size_t n = mesh_handshake_out(e->hs, &p);
    cr_assert_leq(w->n + n, sizeof w->bytes);
    if (n)
        memcpy(w->bytes + w->n, p, n);
    w->n += n;
    mesh_handshake_sent(e->hs, n);
}

/* Feeds whole records until the end is done or failed; what is left stays in the wire. */
static inline void end_feed(struct end *e, struct wire *w) {
    size_t at = 0, len;
    while (e->err == MESH_E_AGAIN && (len = wire_record(w->bytes + at, w->n - at))) {
        e->err = mesh_handshake_step(e->hs, w->bytes + at, len, &e->why);
        at += len;
    }
    memmove(w->bytes, w->bytes + at, w->n - at);
    w->n -= at;
}

static inline void end_start(struct end *e, const struct mesh_handshake_config *cfg) {
    memset(e, 0, sizeof *e);
    cr_assert_eq(mesh_handshake_new(cfg, &e->hs), 0);
    e->err = cfg->server ? MESH_E_AGAIN : mesh_handshake_step(e->hs, NULL, 0, &e->why);
}

static inline void end_finish(struct end *e) {
    cr_assert_eq(mesh_handshake_finish(e->hs, &e->rx, &e->tx, &e->peer), 0);
}

static inline void end_free(struct end *e) {
    mesh_handshake_free(e->hs);
    mesh_aead_done(&e->rx_aead);
    mesh_aead_done(&e->tx_aead);
}

struct pair {
    struct end client, server;
    struct wire to_server, to_client;
};

/* Runs until both are done, one failed and the other has heard of it, or nothing moves. */
static inline struct pair *pair_run(const struct mesh_handshake_config *client,
                                    const struct mesh_handshake_config *server) {
    struct pair *p = calloc(1, sizeof *p);
    end_start(&p->client, client);
    end_start(&p->server, server);
    for (int i = 0; i < 10; i++) {
        end_take_out(&p->client, &p->to_server);
        end_feed(&p->server, &p->to_server);
        end_take_out(&p->server, &p->to_client);
        end_feed(&p->client, &p->to_client);
    }
    end_take_out(&p->client, &p->to_server);
    end_take_out(&p->server, &p->to_client);
    return p;
}

static inline void pair_free(struct pair *p) {
    end_free(&p->client);
    end_free(&p->server);
    free(p);
}

static inline struct mesh_handshake_config client_config(struct mesh_identity *id) {
    return (struct mesh_handshake_config){.identity = id, .sni = "reviews.shop.mesh", .wall = time(NULL)};
}

static inline struct mesh_handshake_config server_config(struct mesh_identity *id) {
    return (struct mesh_handshake_config){.server = true, .identity = id, .wall = time(NULL)};
}

static inline size_t end_seal(struct end *e, uint8_t type, const void *p, size_t n, uint8_t *out,
                              size_t cap) {
    int len = mesh_record_seal(&e->tx, &e->tx_aead, 1, type, p, n, out, cap);
    cr_assert_gt(len, 0, "seal: %s", mesh_err_text(len));
    return (size_t)len;
}

/* Both finish, the client takes the server's tickets, and data passes both ways. */
static inline void pair_exchange(struct pair *p) {
    uint8_t wire[1024], text[1024], type;
    const uint8_t *ticket;
    cr_assert_eq(p->client.err, 0, "client: %s", p->client.why.text);
    cr_assert_eq(p->server.err, 0, "server: %s", p->server.why.text);
    end_finish(&p->client);
    end_finish(&p->server);
    size_t left = mesh_handshake_tickets(p->server.hs, &ticket), len;
    for (; (len = wire_record(ticket, left)); ticket += len, left -= len) {
        uint8_t plain[4096];
        cr_assert_gt(
            mesh_record_open(&p->client.rx, &p->client.rx_aead, 1, ticket, len, plain, sizeof plain, &type),
            0);
        cr_assert_eq(type, MESH_REC_HANDSHAKE);
        mesh_handshake_ticket(p->client.hs, ticket, len);
    }
    struct end *from = &p->client, *to = &p->server;
    for (int i = 0; i < 4; i++) {
        size_t n = end_seal(from, MESH_REC_DATA, "mesh", 4, wire, sizeof wire);
        cr_assert_eq(mesh_record_open(&to->rx, &to->rx_aead, 1, wire, n, text, sizeof text, &type), 4);
        cr_assert(memcmp(text, "mesh", 4) == 0 && type == MESH_REC_DATA);
        struct end *swap = from;
        from = to;
        to = swap;
    }
}

#endif
