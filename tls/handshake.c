/* SPDX-License-Identifier: Apache-2.0
 *
 * One handshake: OpenSSL between two memory BIOs, a record in, bytes out.
 */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include "tls/internal.h"

enum { RECORD_BODY_MAX = 16384 + 2048, SNI_MAX = 255, ALPN_MAX = 255 };

/* ---- making one -------------------------------------------------------------------------------------------
 */

static int config_check(const struct mesh_handshake_config *cfg) {
    if (!cfg->identity || (cfg->npeers && !cfg->peers))
        return MESH_E_INVALID;
    if (cfg->npeers > MESH_TLS_PEERS_MAX || (cfg->sni && strlen(cfg->sni) > SNI_MAX) ||
        cfg->alpn_len > ALPN_MAX)
        return MESH_E_LIMIT;
    for (size_t i = 0; cfg->alpn && i < cfg->alpn_len; i += 1u + cfg->alpn[i])
        if (cfg->alpn[i] == 0 || cfg->alpn[i] >= cfg->alpn_len - i)
            return MESH_E_INVALID;
    return 0;
}

static int alpn_copy(struct mesh_handshake *hs, const struct mesh_handshake_config *cfg) {
    static const uint8_t own[] = {sizeof MESH_ALPN - 1, 'i', 's', 't', 'i', 'o'};
    const uint8_t *from = cfg->alpn ? cfg->alpn : own;
    hs->alpn_len = cfg->alpn ? cfg->alpn_len : sizeof own;
    hs->alpn = malloc(hs->alpn_len + 1);
    if (!hs->alpn)
        return MESH_E_NOMEM;
    memcpy(hs->alpn, from, hs->alpn_len);
    return 0;
}

/* A kept session is offered only to a peer whom today's rule still accepts. */
static void session_offer(struct mesh_handshake *hs) {
    int64_t expires = INT64_MAX;
    char id[sizeof hs->peer_id];
    SSL_SESSION *session = mesh_tls_tickets_take(hs->identity, hs->ticket_key, hs->wall, &expires);
    if (!session)
        return;
    X509 *leaf = SSL_SESSION_get0_peer(session);
    if (leaf && mesh_tls_rule_check(&hs->rule, leaf, id, sizeof id, NULL) == 0 &&
        SSL_set_session(hs->ssl, session) == 1)
        hs->chain_not_after = expires;
    SSL_SESSION_free(session);
}

static int client_set(struct mesh_handshake *hs, const struct mesh_handshake_config *cfg) {
    SSL_set_connect_state(hs->ssl);
    SSL_set_verify(hs->ssl, SSL_VERIFY_PEER, NULL);
    if (cfg->sni && *cfg->sni && SSL_set_tlsext_host_name(hs->ssl, cfg->sni) != 1)
        return MESH_E_NOMEM;
    if (hs->alpn_len && SSL_set_alpn_protos(hs->ssl, hs->alpn, (unsigned)hs->alpn_len) != 0)
        return MESH_E_NOMEM;
    if (!cfg->ticket_key)
        return 0;
    int err = mesh_tls_rule_digest(&hs->rule, hs->identity, cfg->ticket_key, cfg->sni, hs->ticket_key);
    if (err)
        return err;
    hs->keeps_tickets = true;
    session_offer(hs);
    return 0;
}

static int server_set(struct mesh_handshake *hs) {
    uint8_t context[MESH_TLS_DIGEST];
    SSL_set_accept_state(hs->ssl);
    SSL_set_verify(hs->ssl, SSL_VERIFY_PEER | (hs->no_client_cert ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT),
                   NULL);
    /* A ticket made under another identity, bundle or list of callers is a stranger's. */
    int err =
        mesh_tls_rule_digest(&hs->rule, hs->identity, "server", hs->no_client_cert ? "open" : NULL, context);
    if (!err && SSL_set_session_id_context(hs->ssl, context, sizeof context) != 1)
        err = MESH_E_INTERNAL;
    return err;
}

static int ssl_set(struct mesh_handshake *hs, const struct mesh_handshake_config *cfg) {
    hs->ssl = SSL_new(hs->server ? hs->identity->server : hs->identity->client);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (!hs->ssl || !in || !out) {
        BIO_free(in);
        BIO_free(out);
        return MESH_E_NOMEM;
    }
    SSL_set_bio(hs->ssl, hs->in = in, hs->out = out); /* owned by the SSL from here */
    if (SSL_set_app_data(hs->ssl, hs) != 1)
        return MESH_E_NOMEM;
    uint16_t low = cfg->min_version > TLS1_2_VERSION ? cfg->min_version : TLS1_2_VERSION;
    uint16_t high = cfg->max_version ? cfg->max_version : TLS1_3_VERSION;
    if (low > high || SSL_set_min_proto_version(hs->ssl, low) != 1 ||
        SSL_set_max_proto_version(hs->ssl, high) != 1)
        return MESH_E_INVALID;
    return hs->server ? server_set(hs) : client_set(hs, cfg);
}

int mesh_handshake_new(const struct mesh_handshake_config *cfg, struct mesh_handshake **ret_hs) {
    int err = config_check(cfg);
    if (err)
        return err;
    struct mesh_handshake *hs = calloc(1, sizeof *hs);
    if (!hs)
        return MESH_E_NOMEM;
    ERR_clear_error();
    hs->identity = mesh_identity_ref(cfg->identity);
    hs->server = cfg->server;
    hs->no_client_cert = cfg->no_client_cert;
    hs->wall = cfg->wall;
    hs->chain_not_after = INT64_MAX;
    err = mesh_tls_rule_init(&hs->rule, cfg);
    if (!err)
        err = alpn_copy(hs, cfg);
    if (!err)
        err = ssl_set(hs, cfg);
    if (err)
        mesh_handshake_free(hs);
    else
        *ret_hs = hs;
    ERR_clear_error();
    return err;
}

void mesh_handshake_free(struct mesh_handshake *hs) {
    if (!hs)
        return;
    /* The connection goes on without this object: its session is not to be taken for a broken one. */
    if (hs->state == MESH_TLS_DONE)
        SSL_set_shutdown(hs->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(hs->ssl);
    ERR_clear_error();
    mesh_tls_rule_done(&hs->rule);
    mesh_identity_unref(hs->identity);
    free(hs->alpn);
    OPENSSL_cleanse(hs, sizeof *hs);
    free(hs);
}

/* ---- bytes out --------------------------------------------------------------------------------------------
 */

static size_t out_all(const struct mesh_handshake *hs, const uint8_t **ret_bytes) {
    char *p = NULL;
    long n = BIO_get_mem_data(hs->out, &p);
    *ret_bytes = (const uint8_t *)p;
    return n > 0 ? (size_t)n : 0;
}

size_t mesh_handshake_out(const struct mesh_handshake *hs, const uint8_t **ret_bytes) {
    const uint8_t *p;
    (void)out_all(hs, &p);
    *ret_bytes = p + hs->sent;
    return hs->ready - hs->sent;
}

void mesh_handshake_sent(struct mesh_handshake *hs, size_t n) {
    size_t left = hs->ready - hs->sent;
    hs->sent += n < left ? n : left;
}

size_t mesh_handshake_tickets(const struct mesh_handshake *hs, const uint8_t **ret_bytes) {
    const uint8_t *p;
    (void)out_all(hs, &p);
    *ret_bytes = p + hs->ready;
    return hs->tickets_end - hs->ready;
}

static void out_drop_sent(struct mesh_handshake *hs) {
    if (hs->ready && hs->sent == hs->ready) {
        (void)BIO_reset(hs->out);
        hs->sent = hs->ready = hs->tickets_end = 0;
    }
}

/* ---- keys -------------------------------------------------------------------------------------------------
 */

static enum mesh_cipher suite_of(const SSL *ssl, size_t *ret_hash_len) {
    *ret_hash_len = 32;
    switch (SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl))) {
    case 0x1301:
    case 0xc02b:
    case 0xc02f:
        return MESH_AES128_GCM;
    case 0x1303:
    case 0xcca8:
    case 0xcca9:
        return MESH_CHACHA20_POLY1305;
    default:
        *ret_hash_len = 48;
        return MESH_AES256_GCM; /* 0x1302, 0xc02c, 0xc030: no others are enabled */
    }
}

static int keys12(const struct mesh_handshake *hs, enum mesh_cipher cipher, size_t hash_len,
                  struct mesh_record *ret_client, struct mesh_record *ret_server) {
    uint8_t master[SSL_MAX_MASTER_KEY_LENGTH], client_random[32], server_random[32];
    if (SSL_SESSION_get_master_key(SSL_get_session(hs->ssl), master, sizeof master) != sizeof master)
        return MESH_E_INTERNAL;
    SSL_get_client_random(hs->ssl, client_random, sizeof client_random);
    SSL_get_server_random(hs->ssl, server_random, sizeof server_random);
    int err = mesh_tls_record_init12(ret_client, ret_server, cipher, hash_len, master, client_random,
                                     server_random);
    OPENSSL_cleanse(master, sizeof master);
    return err;
}

static int keys_make(const struct mesh_handshake *hs, struct mesh_record *ret_rx,
                     struct mesh_record *ret_tx) {
    size_t hash_len;
    enum mesh_cipher cipher = suite_of(hs->ssl, &hash_len);
    struct mesh_record *client = hs->server ? ret_rx : ret_tx, *server = hs->server ? ret_tx : ret_rx;
    if (SSL_version(hs->ssl) != TLS1_3_VERSION)
        return keys12(hs, cipher, hash_len, client, server);
    int err = mesh_tls_record_init13(client, cipher, hash_len, hs->secret[0]);
    if (!err)
        err = mesh_tls_record_init13(server, cipher, hash_len, hs->secret[1]);
    ret_tx->seq = hs->ticket_records;
    ret_tx->sealed = (hs->tickets_end - hs->ready) / 16;
    return err;
}

static void peer_fill(const struct mesh_handshake *hs, struct mesh_peer *ret) {
    const unsigned char *alpn;
    unsigned int n;
    size_t hash_len;
    memset(ret, 0, sizeof *ret);
    memcpy(ret->spiffe, hs->peer_id, sizeof ret->spiffe);
    SSL_get0_alpn_selected(hs->ssl, &alpn, &n);
    if (n)
        memcpy(ret->alpn, alpn, n < sizeof ret->alpn ? n : sizeof ret->alpn - 1);
    ret->version = (uint16_t)SSL_version(hs->ssl);
    ret->cipher = (uint8_t)suite_of(hs->ssl, &hash_len);
    ret->resumed = SSL_session_reused(hs->ssl) == 1;
    X509 *leaf = SSL_get0_peer_certificate(hs->ssl);
    if (leaf)
        ret->not_after = mesh_tls_time_seconds(X509_get0_notAfter(leaf));
}

int mesh_handshake_finish(struct mesh_handshake *hs, struct mesh_record *ret_rx, struct mesh_record *ret_tx,
                          struct mesh_peer *ret_peer) {
    struct mesh_record rx, tx;
    if (hs->state != MESH_TLS_DONE)
        return MESH_E_INVALID;
    int err = keys_make(hs, &rx, &tx);
    if (!err) {
        *ret_rx = rx;
        *ret_tx = tx;
        peer_fill(hs, ret_peer);
    }
    OPENSSL_cleanse(&rx, sizeof rx);
    OPENSSL_cleanse(&tx, sizeof tx);
    ERR_clear_error();
    return err;
}

/* ---- the steps --------------------------------------------------------------------------------------------
 */

static uint32_t records_count(const uint8_t *p, size_t n) {
    uint32_t count = 0;
    while (n >= MESH_REC_HEADER) {
        size_t whole = MESH_REC_HEADER + ((size_t)p[3] << 8 | p[4]);
        if (whole > n)
            break;
        p += whole;
        n -= whole;
        count++;
    }
    return count;
}

/* OpenSSL is content, we are not: the alert goes out under the new keys. */
static int refuse_done(struct mesh_handshake *hs, int err, uint8_t alert) {
    struct mesh_record rx, tx;
    struct mesh_aead aead = {0};
    const uint8_t text[2] = {2, alert};
    uint8_t wire[sizeof text + MESH_REC_OVERHEAD_MAX];
    hs->state = MESH_TLS_FAILED;
    if (keys_make(hs, &rx, &tx) == 0) {
        int n = mesh_record_seal(&tx, &aead, 0, MESH_REC_ALERT, text, sizeof text, wire, sizeof wire);
        hs->ready = hs->tickets_end; /* tickets have used their numbers: the alert can only follow them */
        if (n > 0 && BIO_write(hs->out, wire, n) == n)
            hs->tickets_end = hs->ready += (size_t)n;
    }
    mesh_aead_done(&aead);
    OPENSSL_cleanse(&rx, sizeof rx);
    OPENSSL_cleanse(&tx, sizeof tx);
    return err;
}

/* A session is only as good as today's rule and clock; a verified certificate has passed both already. */
static int resumed_check(struct mesh_handshake *hs, struct mesh_why *why) {
    X509 *leaf = SSL_get0_peer_certificate(hs->ssl);
    if (!leaf && hs->server && hs->no_client_cert)
        return 0;
    if (!leaf)
        return mesh_why(why, MESH_E_PEER, "resumed session has no certificate");
    int err = mesh_tls_rule_check(&hs->rule, leaf, hs->peer_id, sizeof hs->peer_id, why);
    if (!err && mesh_tls_time_seconds(X509_get0_notAfter(leaf)) < hs->wall)
        err = mesh_why(why, MESH_E_PEER, "%.150s: certificate has expired since the session began",
                       hs->peer_id);
    return err;
}

static int done(struct mesh_handshake *hs, size_t before, struct mesh_why *why) {
    const uint8_t *p;
    size_t n = out_all(hs, &p);
    bool tls13 = SSL_version(hs->ssl) == TLS1_3_VERSION;
    hs->tickets_end = n;
    /* What a 1.3 server sends after the client's Finished is tickets, under the keys of data. */
    hs->ready = hs->server && tls13 ? before : n;
    hs->ticket_records = records_count(p + hs->ready, n - hs->ready);
    if (SSL_has_pending(hs->ssl))
        return refuse_done(hs, mesh_why(why, MESH_E_PROTOCOL, "bytes after the Finished message"),
                           SSL_AD_UNEXPECTED_MESSAGE);
    if (!tls13 && SSL_get_extms_support(hs->ssl) != 1)
        return refuse_done(hs, mesh_why(why, MESH_E_PROTOCOL, "TLS 1.2 without extended master secret"),
                           SSL_AD_HANDSHAKE_FAILURE);
    if (SSL_session_reused(hs->ssl) && resumed_check(hs, why) != 0)
        return refuse_done(hs, MESH_E_PEER, SSL_AD_BAD_CERTIFICATE);
    hs->state = MESH_TLS_DONE;
    return 0;
}

static int failed(struct mesh_handshake *hs, struct mesh_why *why) {
    const uint8_t *p;
    unsigned long code = ERR_peek_error(), e;
    int err = MESH_E_PROTOCOL, alert = -1;
    const char *text = ERR_reason_error_string(code);
    hs->state = MESH_TLS_FAILED;
    hs->ready = hs->tickets_end = out_all(hs, &p);
    while ((e = ERR_get_error())) {
        int reason = ERR_GET_REASON(e);
        if (reason == ERR_R_MALLOC_FAILURE)
            err = MESH_E_NOMEM;
        else if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET &&
                 reason < SSL_AD_REASON_OFFSET + 256)
            alert = reason - SSL_AD_REASON_OFFSET;
        else if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
            err = MESH_E_PEER;
    }
    if (hs->refusal)
        return mesh_why(why, MESH_E_PEER, "%s", hs->why.text);
    if (alert >= 0)
        return mesh_why(why, MESH_E_ALERT, "peer refused the handshake: %s", mesh_alert_name((uint8_t)alert));
    if (err == MESH_E_PEER)
        return mesh_why(why, err, "peer shows no certificate");
    return mesh_why(why, err, "handshake failed: %s", text ? text : "no reason given");
}

static bool is_whole_record(const uint8_t *in, size_t n) {
    return n >= MESH_REC_HEADER && in[0] >= 20 && in[0] <= 23 && in[1] == 3 &&
           n - MESH_REC_HEADER == ((size_t)in[3] << 8 | in[4]) && n - MESH_REC_HEADER <= RECORD_BODY_MAX;
}

int mesh_handshake_step(struct mesh_handshake *hs, const void *in, size_t n, struct mesh_why *why) {
    const uint8_t *p;
    if (hs->state != MESH_TLS_RUNNING)
        return hs->state == MESH_TLS_DONE ? 0 : MESH_E_PROTOCOL;
    if (n == 0 && hs->server)
        return MESH_E_AGAIN;
    ERR_clear_error();
    if (n && !is_whole_record(in, n)) {
        hs->state = MESH_TLS_FAILED;
        return mesh_why(why, MESH_E_PROTOCOL, "not a TLS record");
    }
    out_drop_sent(hs);
    size_t before = out_all(hs, &p);
    if (n && BIO_write(hs->in, in, (int)n) != (int)n)
        return mesh_why(why, MESH_E_NOMEM, "out of memory");
    int ok = SSL_do_handshake(hs->ssl), err;
    if (ok == 1) {
        err = done(hs, before, why);
    } else if (SSL_get_error(hs->ssl, ok) == SSL_ERROR_WANT_READ) {
        hs->ready = hs->tickets_end = out_all(hs, &p);
        err = MESH_E_AGAIN;
    } else {
        err = failed(hs, why);
    }
    ERR_clear_error();
    return err;
}

void mesh_handshake_ticket(struct mesh_handshake *hs, const void *wire, size_t n) {
    uint8_t byte;
    size_t got;
    if (hs->server || hs->state != MESH_TLS_DONE || !hs->keeps_tickets ||
        SSL_version(hs->ssl) != TLS1_3_VERSION || !is_whole_record(wire, n))
        return;
    ERR_clear_error();
    /* Reads the ticket (which calls ticket_arrived) and then wants more; anything else ends its usefulness.
     * What it may write is behind `ready` and never sent. */
    if (BIO_write(hs->in, wire, (int)n) != (int)n || SSL_peek_ex(hs->ssl, &byte, 1, &got) == 1 ||
        SSL_get_error(hs->ssl, 0) != SSL_ERROR_WANT_READ)
        hs->keeps_tickets = false;
    ERR_clear_error();
}
