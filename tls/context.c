/* SPDX-License-Identifier: Apache-2.0
 *
 * The two SSL_CTX of an identity. Everything that differs by connection is set on the SSL; callbacks find it
 * there.
 */
#include <openssl/err.h>
#include <string.h>
#include "tls/internal.h"

static const char suites13[] = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";
static const char suites12[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                               "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
                               "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
static const char groups[] = "X25519:P-256";

static int verify(X509_STORE_CTX *ctx, void *arg) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct mesh_handshake *hs = SSL_get_app_data(ssl);
    (void)arg;
    /* The name first, so that the sentence about a broken chain can say whose it is. */
    struct mesh_why name_why = {""};
    int name = mesh_tls_rule_check(&hs->rule, X509_STORE_CTX_get0_cert(ctx), hs->peer_id, sizeof hs->peer_id,
                                   &name_why);
    struct mesh_why chain_why = {""};
    int chain =
        mesh_tls_chain_verify(ctx, hs->identity, !hs->server, hs->wall, &hs->chain_not_after, &chain_why);
    if (chain == 0 && name == 0)
        return 1;
    hs->refusal = MESH_E_PEER;
    if (chain) {
        mesh_why(&hs->why, chain, "%.150s: %.80s", *hs->peer_id ? hs->peer_id : "peer", chain_why.text);
    } else {
        hs->why = name_why;
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REJECTED); /* becomes bad_certificate */
    }
    return 0;
}

static int unhex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* "LABEL client_random secret", all hex. Only the two application traffic secrets are kept. */
static void keylog(const SSL *ssl, const char *line) {
    static const char *const labels[2] = {"CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 "};
    struct mesh_handshake *hs = SSL_get_app_data(ssl);
    for (int side = 0; side < 2; side++) {
        size_t n = strlen(labels[side]);
        if (strncmp(line, labels[side], n) != 0)
            continue;
        const char *hex = strchr(line + n, ' ');
        for (size_t i = 0; hex && i < MESH_TLS_HASH_MAX; i++) {
            int high = unhex(hex[1 + 2 * i]), low = high < 0 ? -1 : unhex(hex[2 + 2 * i]);
            if (low < 0)
                break;
            hs->secret[side][i] = (uint8_t)(high << 4 | low);
        }
    }
}

/* Walks a wire-form list; the i-th entry, or NULL. */
static const uint8_t *protocol_at(const uint8_t *list, size_t n, size_t at, size_t *ret_next) {
    if (at >= n || list[at] == 0 || list[at] >= n - at)
        return NULL;
    *ret_next = at + 1 + list[at];
    return list + at;
}

static const uint8_t *protocol_common(const uint8_t *ours, size_t n_ours, const uint8_t *theirs,
                                      size_t n_theirs) {
    const uint8_t *a, *b;
    for (size_t i = 0, next_i; (a = protocol_at(ours, n_ours, i, &next_i)); i = next_i)
        for (size_t j = 0, next_j; (b = protocol_at(theirs, n_theirs, j, &next_j)); j = next_j)
            if (*a == *b && memcmp(a + 1, b + 1, *a) == 0)
                return b;
    return NULL;
}

/* Ours if the caller offers it; a caller that speaks one protocol only is told that one (some, as gRPC,
 * insist); for the rest no protocol is chosen: bytes are bytes. Never a reason to refuse. */
static int alpn_select(SSL *ssl, const unsigned char **ret, unsigned char *ret_len,
                       const unsigned char *theirs, unsigned int n, void *arg) {
    const struct mesh_handshake *hs = SSL_get_app_data(ssl);
    size_t next = 0;
    (void)arg;
    const uint8_t *hit = protocol_common(hs->alpn, hs->alpn_len, theirs, n);
    if (!hit && protocol_at(theirs, n, 0, &next) && next == n)
        hit = theirs;
    if (!hit)
        return SSL_TLSEXT_ERR_NOACK;
    *ret = hit + 1;
    *ret_len = *hit;
    return SSL_TLSEXT_ERR_OK;
}

static int64_t session_end(const struct mesh_handshake *hs, const SSL_SESSION *session) {
    int64_t end = hs->wall + MESH_TLS_RESUME_SECONDS;
    X509 *leaf = SSL_SESSION_get0_peer((SSL_SESSION *)(uintptr_t)session);
    int64_t peer = leaf ? mesh_tls_time_seconds(X509_get0_notAfter(leaf)) : end;
    if (peer < end)
        end = peer;
    if (hs->chain_not_after < end)
        end = hs->chain_not_after;
    return hs->identity->not_after < end ? hs->identity->not_after : end;
}

/* Server: a ticket lives no longer than any certificate behind it. */
static int ticket_made(SSL *ssl, void *arg) {
    const struct mesh_handshake *hs = SSL_get_app_data(ssl);
    SSL_SESSION *session = SSL_get_session(ssl);
    (void)arg;
    int64_t left = session_end(hs, session) - hs->wall;
    SSL_SESSION_set_timeout(session, left > 0 ? (long)left : 1);
    return 1;
}

/* Server: a resumed session keeps the end that its first handshake gave it, since only that one saw the whole
 * chain. */
static SSL_TICKET_RETURN ticket_read(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                     size_t name_len, SSL_TICKET_STATUS status, void *arg) {
    struct mesh_handshake *hs = SSL_get_app_data(ssl);
    (void)name, (void)name_len, (void)arg;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    hs->chain_not_after = SSL_SESSION_get_time(session) + SSL_SESSION_get_timeout(session);
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

static int ticket_arrived(SSL *ssl, SSL_SESSION *session) {
    struct mesh_handshake *hs = SSL_get_app_data(ssl);
    if (!hs || !hs->keeps_tickets)
        return 0;
    unsigned long hint = SSL_SESSION_get_ticket_lifetime_hint(session); /* 0: 1.2 server that says nothing */
    int64_t end = session_end(hs, session), hinted = hint ? hs->wall + (int64_t)hint : end;
    mesh_tls_tickets_put(hs->identity, hs->ticket_key, session, hs->wall, hinted < end ? hinted : end);
    return 0; /* a copy was kept */
}

static int credentials_set(SSL_CTX *ctx, const struct mesh_identity *id, struct mesh_why *why) {
    if (SSL_CTX_use_certificate(ctx, id->leaf) != 1 || SSL_CTX_set1_chain(ctx, id->chain) != 1) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());
        return mesh_why(why, MESH_E_INVALID, "certificate cannot be used: %s", reason ? reason : "unknown");
    }
    if (SSL_CTX_use_PrivateKey(ctx, id->key) != 1)
        return mesh_why(why, MESH_E_INVALID, "key does not belong to the certificate");
    return 0;
}

static void server_set(SSL_CTX *ctx) {
    SSL_CTX_set_alpn_select_cb(ctx, alpn_select, NULL);
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_session_ticket_cb(ctx, ticket_made, ticket_read, NULL);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, mesh_tls_ticket_crypt);
}

static void client_set(SSL_CTX *ctx) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, ticket_arrived);
}

int mesh_tls_context_new(const struct mesh_identity *id, bool server, SSL_CTX **ret_ctx,
                         struct mesh_why *why) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    if (!ctx)
        return MESH_E_NOMEM;
    SSL_CTX_set_security_level(ctx, 2);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_max_cert_list(ctx, MESH_TLS_CHAIN_BYTES_MAX);
    SSL_CTX_set_verify_depth(ctx, MESH_TLS_CHAIN_MAX);
    SSL_CTX_set_timeout(ctx, MESH_TLS_RESUME_SECONDS);
    SSL_CTX_set_cert_verify_callback(ctx, verify, NULL);
    SSL_CTX_set_keylog_callback(ctx, keylog);
    int err = SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
                      SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
                      SSL_CTX_set_ciphersuites(ctx, suites13) == 1 &&
                      SSL_CTX_set_cipher_list(ctx, suites12) == 1 &&
                      SSL_CTX_set1_groups_list(ctx, groups) == 1
                  ? 0
                  : MESH_E_NOMEM;
    SSL_CTX_set1_cert_store(ctx, id->roots);
    if (!err)
        err = credentials_set(ctx, id, why);
    if (err) {
        SSL_CTX_free(ctx);
        return err;
    }
    (server ? server_set : client_set)(ctx);
    *ret_ctx = ctx;
    return 0;
}
