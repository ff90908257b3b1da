/* SPDX-License-Identifier: Apache-2.0
 *
 * Our handshake and record layer against OpenSSL's own SSL object, over memory: every suite, both sides,
 * tickets, KeyUpdate in both directions, padding, small fragments, alerts.
 */
#include "tests/unit/tls/pair.h"
#include "tls/internal.h"

#define WEB "spiffe://shop/ns/prod/sa/web"
#define STOCK "spiffe://shop/ns/prod/sa/stock"

static struct pki_cert root, stock_cert, stock_rsa;
static struct mesh_identity *web;

static void setup(void) {
    cr_assert_eq(mesh_tls_start(), 0);
    root = pki_root("root");
    web = pki_workload(&root, WEB);
    stock_cert = pki_make(&root, "stock", (struct pki_spec){.san = "URI:" STOCK});
    stock_rsa = pki_make(&root, "stock", (struct pki_spec){.san = "URI:" STOCK, .key = "RSA"});
}

TestSuite(interop, .init = setup);

struct link { /* ours on one side, theirs on the other */
    struct end ours;
    SSL *theirs;
    BIO *in, *out;       /* theirs */
    struct wire pending; /* records from theirs that ours has not read */
    struct mesh_post post;
};

static SSL_CTX *stock_ctx(bool server, const struct pki_cert *cert, const char *suite13,
                          const char *suite12) {
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root.cert);
    cr_assert(SSL_CTX_use_certificate(ctx, cert->cert) && SSL_CTX_use_PrivateKey(ctx, cert->key));
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"stock", 5);
    if (suite13) {
        cr_assert(SSL_CTX_set_ciphersuites(ctx, suite13) &&
                  SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION));
    } else if (suite12) {
        cr_assert(SSL_CTX_set_cipher_list(ctx, suite12) &&
                  SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION));
    }
    return ctx;
}

static void pump(struct link *l) {
    struct wire w = {.n = 0};
    end_take_out(&l->ours, &w);
    if (w.n)
        cr_assert_eq(BIO_write(l->in, w.bytes, (int)w.n), (int)w.n);
    SSL_do_handshake(l->theirs);
    int n = BIO_read(l->out, l->pending.bytes + l->pending.n, (int)(sizeof l->pending.bytes - l->pending.n));
    l->pending.n += n > 0 ? (size_t)n : 0;
    end_feed(&l->ours, &l->pending);
}

static struct link *link_make(SSL_CTX *ctx, bool we_serve, const char *ticket_key) {
    struct link *l = calloc(1, sizeof *l);
    struct mesh_handshake_config cfg = we_serve ? server_config(web) : client_config(web);
    cfg.ticket_key = ticket_key;
    end_start(&l->ours, &cfg);
    l->theirs = SSL_new(ctx);
    SSL_set_bio(l->theirs, l->in = BIO_new(BIO_s_mem()), l->out = BIO_new(BIO_s_mem()));
    if (we_serve)
        SSL_set_connect_state(l->theirs);
    else
        SSL_set_accept_state(l->theirs);
    for (int i = 0; i < 6; i++)
        pump(l);
    cr_assert_eq(l->ours.err, 0, "%s", l->ours.why.text);
    cr_assert(SSL_is_init_finished(l->theirs));
    end_finish(&l->ours);
    const uint8_t *t;
    size_t n = mesh_handshake_tickets(l->ours.hs, &t);
    if (n)
        BIO_write(l->in, t, (int)n);
    return l;
}

static void link_free(struct link *l) {
    SSL_free(l->theirs);
    end_free(&l->ours);
    free(l);
    ERR_clear_error();
}

static void ours_send(struct link *l, uint8_t type, const void *p, size_t n) {
    static uint8_t out[MESH_REC_WIRE_MAX];
    size_t len = end_seal(&l->ours, type, p, n, out, sizeof out);
    cr_assert_eq(BIO_write(l->in, out, (int)len), (int)len);
}

/* Reads what theirs wrote; post-handshake messages are acted on as the shim would. Returns bytes of data, or
 * the error. */
static int ours_receive(struct link *l, uint8_t *text, size_t cap) {
    static uint8_t plain[MESH_REC_WIRE_MAX];
    size_t got = 0, len;
    int n = BIO_read(l->out, l->pending.bytes + l->pending.n, (int)(sizeof l->pending.bytes - l->pending.n));
    l->pending.n += n > 0 ? (size_t)n : 0;
    while ((len = wire_record(l->pending.bytes, l->pending.n))) {
        uint8_t type, alert, msg[5];
        int r = mesh_record_open(&l->ours.rx, &l->ours.rx_aead, 1, l->pending.bytes, len, plain, sizeof plain,
                                 &type);
        if (r >= 0 && type == MESH_REC_HANDSHAKE) {
            int action = mesh_post_feed(&l->post, &l->ours.rx, l->ours.hs->server, plain, (size_t)r);
            if (action > 0 && (action & MESH_POST_TICKET))
                mesh_handshake_ticket(l->ours.hs, l->pending.bytes, len);
            if (action > 0 && (action & MESH_POST_KEY_UPDATE))
                cr_assert_eq(mesh_record_next_key(&l->ours.rx), 0);
            if (action > 0 && (action & MESH_POST_KEY_UPDATE_REPLY)) {
                mesh_key_update_message(false, msg);
                ours_send(l, MESH_REC_HANDSHAKE, msg, 5);
                cr_assert_eq(mesh_record_next_key(&l->ours.tx), 0);
            }
            r = action < 0 ? action : 0;
        } else if (r >= 0 && type == MESH_REC_ALERT) {
            r = mesh_alert_read(&l->ours.rx, plain, (size_t)r, &alert);
        } else if (r >= 0) {
            cr_assert_leq(got + (size_t)r, cap);
            memcpy(text + got, plain, (size_t)r);
            got += (size_t)r;
        }
        memmove(l->pending.bytes, l->pending.bytes + len, l->pending.n - len);
        l->pending.n -= len;
        if (r < 0)
            return r;
    }
    return (int)got;
}

static void expect_talk(struct link *l, size_t n) {
    static uint8_t text[1 << 17], got[1 << 17];
    for (size_t i = 0; i < n; i++)
        text[i] = (uint8_t)(i * 31 >> 2);
    ours_send(l, MESH_REC_DATA, text, n);
    size_t have = 0, part;
    while (have < n) {
        cr_assert_eq(SSL_read_ex(l->theirs, got + have, sizeof got - have, &part), 1);
        have += part;
    }
    cr_assert_eq(memcmp(text, got, n), 0);
    if (n == 0)
        return;
    cr_assert_eq(SSL_write(l->theirs, text, (int)n), (int)n);
    cr_assert_eq(ours_receive(l, got, sizeof got), (int)n);
    cr_assert_eq(memcmp(text, got, n), 0);
}

static void expect_closes(struct link *l) {
    uint8_t byte;
    SSL_shutdown(l->theirs);
    cr_assert_eq(ours_receive(l, &byte, 1), MESH_E_CLOSED);
    ours_send(l, MESH_REC_ALERT, "\1\0", 2);
    cr_assert_eq(SSL_read(l->theirs, &byte, 1), 0);
    cr_assert_eq(SSL_get_error(l->theirs, 0), SSL_ERROR_ZERO_RETURN);
}

static void expect_suite(const struct pki_cert *cert, const char *suite13, const char *suite12,
                         uint8_t cipher) {
    for (int we_serve = 0; we_serve < 2; we_serve++) {
        SSL_CTX *ctx = stock_ctx(!we_serve, cert, suite13, suite12);
        struct link *l = link_make(ctx, we_serve, NULL);
        cr_assert_eq(l->ours.peer.cipher, cipher);
        cr_assert_str_eq(l->ours.peer.spiffe, STOCK);
        static const size_t sizes[] = {1, 2, 15, 16, 17, 255, 256, 1000, 4096, 16383, 16384};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            expect_talk(l, sizes[i]);
        expect_closes(l);
        link_free(l);
        SSL_CTX_free(ctx);
    }
}

Test(interop, every_tls13_suite_talks) {
    expect_suite(&stock_cert, "TLS_AES_128_GCM_SHA256", NULL, MESH_AES128_GCM);
    expect_suite(&stock_cert, "TLS_AES_256_GCM_SHA384", NULL, MESH_AES256_GCM);
    expect_suite(&stock_rsa, "TLS_CHACHA20_POLY1305_SHA256", NULL, MESH_CHACHA20_POLY1305);
}

Test(interop, every_tls12_suite_talks) {
    /* The certificate that matters is the server's: with ours (ECDSA) only the ECDSA names are possible. */
    static const struct {
        const char *name;
        uint8_t cipher;
    } ecdsa[] = {{"ECDHE-ECDSA-AES128-GCM-SHA256", MESH_AES128_GCM},
                 {"ECDHE-ECDSA-AES256-GCM-SHA384", MESH_AES256_GCM},
                 {"ECDHE-ECDSA-CHACHA20-POLY1305", MESH_CHACHA20_POLY1305}},
      rsa[] = {{"ECDHE-RSA-AES128-GCM-SHA256", MESH_AES128_GCM},
               {"ECDHE-RSA-AES256-GCM-SHA384", MESH_AES256_GCM},
               {"ECDHE-RSA-CHACHA20-POLY1305", MESH_CHACHA20_POLY1305}};
    for (size_t i = 0; i < 3; i++) {
        expect_suite(&stock_cert, NULL, ecdsa[i].name, ecdsa[i].cipher);
        SSL_CTX *ctx = stock_ctx(true, &stock_rsa, NULL, rsa[i].name);
        struct link *l = link_make(ctx, false, NULL);
        cr_assert_eq(l->ours.peer.cipher, rsa[i].cipher);
        expect_talk(l, 1000);
        expect_closes(l);
        link_free(l);
        SSL_CTX_free(ctx);
    }
}

static void expect_key_updates(const char *suite) {
    for (int we_serve = 0; we_serve < 2; we_serve++) {
        SSL_CTX *ctx = stock_ctx(!we_serve, &stock_cert, suite, NULL);
        struct link *l = link_make(ctx, we_serve, NULL);
        uint8_t msg[5];
        expect_talk(l, 100);
        for (int i = 0; i < 3; i++) {
            cr_assert_eq(SSL_key_update(l->theirs, SSL_KEY_UPDATE_REQUESTED), 1);
            expect_talk(l, 500); /* ours first, under the old key; then theirs, which asks; we answer */
            expect_talk(l, 500);
            cr_assert_eq(SSL_key_update(l->theirs, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
            expect_talk(l, 20);
            mesh_key_update_message(i & 1, msg); /* now we begin, every other time asking for theirs */
            ours_send(l, MESH_REC_HANDSHAKE, msg, 5);
            cr_assert_eq(mesh_record_next_key(&l->ours.tx), 0);
            expect_talk(l, 16384);
            expect_talk(l, 1);
        }
        cr_assert_gt(l->ours.tx.generation, 3);
        cr_assert_gt(l->ours.rx.generation, 3);
        expect_closes(l);
        link_free(l);
        SSL_CTX_free(ctx);
    }
}

Test(interop, key_updates_in_both_directions_are_followed) {
    expect_key_updates("TLS_AES_128_GCM_SHA256");
    expect_key_updates("TLS_AES_256_GCM_SHA384");
    expect_key_updates("TLS_CHACHA20_POLY1305_SHA256");
}

Test(interop, a_key_update_that_we_send_in_fragments_is_understood) {
    SSL_CTX *ctx = stock_ctx(true, &stock_cert, "TLS_AES_128_GCM_SHA256", NULL);
    struct link *l = link_make(ctx, false, NULL);
    uint8_t msg[5];
    mesh_key_update_message(false, msg);
    for (int i = 0; i < 5; i++)
        ours_send(l, MESH_REC_HANDSHAKE, msg + i, 1);
    cr_assert_eq(mesh_record_next_key(&l->ours.tx), 0);
    expect_talk(l, 100);
    link_free(l);
    SSL_CTX_free(ctx);
}

Test(interop, padded_records_and_small_fragments_are_read) {
    SSL_CTX *ctx = stock_ctx(true, &stock_cert, "TLS_AES_256_GCM_SHA384", NULL);
    SSL_CTX_set_block_padding(ctx, 512);
    SSL_CTX_set_max_send_fragment(ctx, 512);
    struct link *l = link_make(ctx, false, NULL);
    expect_talk(l, 1);
    expect_talk(l, 511);
    expect_talk(l, 5000);
    expect_closes(l);
    link_free(l);
    SSL_CTX_free(ctx);
}

Test(interop, empty_records_are_passed_over_by_a_stock_peer) {
    SSL_CTX *ctx = stock_ctx(true, &stock_cert, "TLS_AES_128_GCM_SHA256", NULL);
    struct link *l = link_make(ctx, false, NULL);
    ours_send(l, MESH_REC_DATA, "", 0);
    expect_talk(l, 10);
    link_free(l);
    SSL_CTX_free(ctx);
}

Test(interop, a_stock_servers_tickets_resume_our_client) {
    for (int v = 0; v < 2; v++) {
        SSL_CTX *ctx = stock_ctx(true, &stock_cert, v ? "TLS_AES_128_GCM_SHA256" : NULL,
                                 v ? NULL : "ECDHE-ECDSA-AES128-GCM-SHA256");
        for (int i = 0; i < 4; i++) {
            struct link *l = link_make(ctx, false, v ? "thirteen" : "twelve");
            expect_talk(l, 100); /* its two tickets come before its data */
            cr_assert_eq(l->ours.peer.resumed, i > 0);
            cr_assert_eq(SSL_session_reused(l->theirs), i > 0);
            cr_assert_str_eq(l->ours.peer.spiffe, STOCK);
            expect_closes(l);
            link_free(l);
        }
        SSL_CTX_free(ctx);
    }
}

static SSL_SESSION *stock_session;

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    (void)ssl;
    SSL_SESSION_free(stock_session);
    stock_session = session;
    return 1;
}

Test(interop, our_servers_ticket_resumes_a_stock_client) {
    SSL_CTX *ctx = stock_ctx(false, &stock_cert, "TLS_AES_128_GCM_SHA256", NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    for (int i = 0; i < 3; i++) {
        struct link *l = calloc(1, sizeof *l);
        struct mesh_handshake_config cfg = server_config(web);
        end_start(&l->ours, &cfg);
        l->theirs = SSL_new(ctx);
        SSL_set_bio(l->theirs, l->in = BIO_new(BIO_s_mem()), l->out = BIO_new(BIO_s_mem()));
        SSL_set_connect_state(l->theirs);
        if (stock_session)
            SSL_set_session(l->theirs, stock_session);
        for (int j = 0; j < 6; j++)
            pump(l);
        cr_assert_eq(l->ours.err, 0, "%s", l->ours.why.text);
        end_finish(&l->ours);
        const uint8_t *t;
        size_t n = mesh_handshake_tickets(l->ours.hs, &t);
        cr_assert_gt(n, 0);
        BIO_write(l->in, t, (int)n);
        expect_talk(l, 100);
        cr_assert_eq(l->ours.peer.resumed, i > 0);
        cr_assert_str_eq(l->ours.peer.spiffe, STOCK);
        expect_closes(l);
        link_free(l);
    }
    SSL_SESSION_free(stock_session);
    SSL_CTX_free(ctx);
}

Test(interop, hello_retry_is_followed) {
    SSL_CTX *ctx = stock_ctx(true, &stock_cert, "TLS_AES_128_GCM_SHA256", NULL);
    SSL_CTX_set1_groups_list(ctx, "P-256"); /* our first share is X25519 */
    struct link *l = link_make(ctx, false, NULL);
    expect_talk(l, 100);
    link_free(l);
    SSL_CTX_free(ctx);
    ctx = stock_ctx(false, &stock_cert, "TLS_AES_128_GCM_SHA256", NULL);
    SSL_CTX_set1_groups_list(ctx, "P-521:X25519");
    l = link_make(ctx, true, NULL);
    expect_talk(l, 100);
    link_free(l);
    SSL_CTX_free(ctx);
}

Test(interop, a_stock_peers_alert_is_read_under_the_new_keys) {
    SSL_CTX *ctx = stock_ctx(true, &stock_cert, "TLS_AES_128_GCM_SHA256", NULL);
    struct link *l = link_make(ctx, false, NULL);
    static uint8_t wire[64], byte;
    size_t n = end_seal(&l->ours, MESH_REC_DATA, "x", 1, wire, sizeof wire);
    wire[n - 1] ^= 1;
    BIO_write(l->in, wire, (int)n);
    cr_assert_leq(SSL_read(l->theirs, &byte, 1), 0); /* bad_record_mac */
    cr_assert_eq(ours_receive(l, &byte, 1), MESH_E_ALERT);
    link_free(l);
    SSL_CTX_free(ctx);
}

Test(interop, a_stock_peer_reads_our_refusal) {
    SSL_CTX *ctx = stock_ctx(true, &stock_cert, "TLS_AES_128_GCM_SHA256", NULL);
    struct mesh_handshake_config cfg = client_config(web);
    cfg.peers_none = true;
    struct link *l = calloc(1, sizeof *l);
    end_start(&l->ours, &cfg);
    l->theirs = SSL_new(ctx);
    SSL_set_bio(l->theirs, l->in = BIO_new(BIO_s_mem()), l->out = BIO_new(BIO_s_mem()));
    SSL_set_accept_state(l->theirs);
    pump(l);
    cr_assert_eq(l->ours.err, MESH_E_PEER);
    ERR_clear_error();
    pump(l);
    cr_assert_eq(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_SSLV3_ALERT_BAD_CERTIFICATE);
    link_free(l);
    SSL_CTX_free(ctx);
}
