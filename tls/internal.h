/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of this room share and nobody else sees. OpenSSL's types appear here and below, never above.
 *
 * The library is linked statically and hidden (DESIGN D6), so its default context is already private to us:
 * one context, because several of its own paths (a certificate inside a session ticket) know no other. Every
 * public function that may have left something in the thread's error queue ends with ERR_clear_error.
 */
#ifndef MESH_TLS_INTERNAL_H
#define MESH_TLS_INTERNAL_H

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include "tls/tls.h"

enum {
    MESH_TLS_DIGEST = 32,             /* SHA-256 */
    MESH_TLS_HASH_MAX = 48,           /* SHA-384, the largest of our suites */
    MESH_TLS_CHAIN_MAX = 10,          /* certificates that a peer may show, and that we send */
    MESH_TLS_CHAIN_BYTES_MAX = 65536, /* and their bytes: one handshake cannot make us hold more */
    MESH_TLS_ROOTS_MAX = 2048,        /* in one bundle */
    MESH_TLS_PEERS_MAX = 256,
    MESH_TLS_RESUME_SECONDS = 7200, /* longest life of a session, if no certificate ends before */
};

/* ---- memory.c: OpenSSL's memory while it comes up. MESH_E_NOMEM: OpenSSL must not be touched. One thread at a time. */
int mesh_tls_memory_begin(void);
void mesh_tls_memory_end(void);

/* ---- provider.c: the algorithms that there are; before any is fetched. Once it loaded it stays. */
bool mesh_tls_provider_load(void);

/* ---- start.c: algorithms, looked up once */
const EVP_CIPHER *mesh_tls_cipher_get(enum mesh_cipher cipher);
const EVP_MD *mesh_tls_hash_get(size_t hash_len); /* 32 or 48 */
const EVP_CIPHER *mesh_tls_cbc_get(void);          /* AES-256-CBC, for tickets */

/* ---- keys.c: RFC 8446 7.1, RFC 5246 5 */
size_t mesh_tls_cipher_key_len(enum mesh_cipher cipher);
/* HKDF-Expand-Label with an empty context; n <= hash_len. */
int mesh_tls_hkdf_label(size_t hash_len, const uint8_t *secret, const char *label, uint8_t *ret_out,
                        size_t n) MESH_MUST_CHECK;
/* Fills a direction from its application traffic secret; seq and sealed become 0. */
int mesh_tls_record_init13(struct mesh_record *r, enum mesh_cipher cipher, size_t hash_len,
                           const uint8_t *secret) MESH_MUST_CHECK;
/* Fills both directions from a TLS 1.2 master secret; seq starts behind the Finished messages. */
int mesh_tls_record_init12(struct mesh_record *ret_client, struct mesh_record *ret_server,
                           enum mesh_cipher cipher, size_t hash_len, const uint8_t master[48],
                           const uint8_t client_random[32], const uint8_t server_random[32]) MESH_MUST_CHECK;

/* ---- gcm.c: AES-GCM for short records; NULL where the machine has no AES instructions (or no memory) */
struct mesh_tls_gcm;
struct mesh_tls_gcm *mesh_tls_gcm_new(const uint8_t *key, size_t key_len);
void mesh_tls_gcm_free(struct mesh_tls_gcm *g); /* zeroes the key */
void mesh_tls_gcm_begin(struct mesh_tls_gcm *g, const uint8_t nonce[12], const uint8_t *aad, size_t aad_len);
bool mesh_tls_gcm_encrypt(struct mesh_tls_gcm *g, const uint8_t *in, size_t n,
                          uint8_t *out); /* any number of pieces */
void mesh_tls_gcm_tag(struct mesh_tls_gcm *g, uint8_t ret_tag[16]);
/* All of a record's text at once; false when the tag does not fit. */
bool mesh_tls_gcm_decrypt(struct mesh_tls_gcm *g, const uint8_t *in, size_t n, const uint8_t tag[16],
                          uint8_t *out);

/* ---- cert.c: what a certificate says */
int64_t mesh_tls_time_seconds(const ASN1_TIME *t); /* UTC; INT64_MIN when it cannot be read */
struct mesh_tls_san {
    enum mesh_san_type type;
    const char *text; /* borrowed from the names; for IP from `ip` */
    size_t len;
    char ip[46];
};
/* The i-th name as text; false when it is of a kind that we do not match, or holds a NUL. */
bool mesh_tls_san_get(const GENERAL_NAMES *names, int i, struct mesh_tls_san *ret_san);
/* The subject alternative names, NULL when there are none; free with GENERAL_NAMES_free. MESH_E_INVALID when they
 * cannot be read: that is not the same as none. */
int mesh_tls_cert_names(X509 *cert, GENERAL_NAMES **ret_names) MESH_MUST_CHECK;
/* The SPIFFE ID among the names: 1 and a borrowed pointer, 0 when there is none, MESH_E_INVALID (with why)
 * when the certificate breaks the rule of exactly one URI. */
int mesh_tls_names_spiffe(const GENERAL_NAMES *names, struct mesh_tls_san *ret_id,
                          struct mesh_why *why) MESH_MUST_CHECK;
int mesh_tls_cert_digest(const X509 *cert, uint8_t ret_digest[MESH_TLS_DIGEST]) MESH_MUST_CHECK;

/* ---- regex.c: Envoy's safe_regex by POSIX ERE, whole string */
bool mesh_tls_regex_match(const struct mesh_match *m, const char *value, size_t len);

/* ---- rule.c: who may be at the other end */
struct mesh_tls_rule {
    struct mesh_match *list; /* own copy, texts behind it in the same block */
    size_t n;
    bool none, any;
    const char *own_domain; /* borrowed from the identity; "" when it has none */
};
int mesh_tls_rule_init(struct mesh_tls_rule *rule, const struct mesh_handshake_config *cfg) MESH_MUST_CHECK;
void mesh_tls_rule_done(struct mesh_tls_rule *rule);
/* Checks one leaf (SPIFFE's demands on it, then the rule). `ret_id` gets its SPIFFE ID or first name whether
 * or not it passes. 0 or MESH_E_PEER. */
int mesh_tls_rule_check(const struct mesh_tls_rule *rule, X509 *leaf, char *ret_id, size_t cap,
                        struct mesh_why *why) MESH_MUST_CHECK;
/* Digest of identity, rule and two texts (may be NULL): changes with every answer that the rule could give.
 */
int mesh_tls_rule_digest(const struct mesh_tls_rule *rule, const struct mesh_identity *id, const char *what,
                         const char *which, uint8_t ret_digest[MESH_TLS_DIGEST]) MESH_MUST_CHECK;

/* ---- identity.c */
struct mesh_tls_ticket_key {
    uint8_t name[16], cipher[32], mac[32];
};
struct mesh_identity {
    _Atomic int refs;
    SSL_CTX *client, *server;
    X509 *leaf;
    STACK_OF(X509) * chain; /* what follows the leaf */
    EVP_PKEY *key;
    X509_STORE *roots;
    int64_t not_before, not_after;
    char *spiffe, *trust_domain; /* never NULL */
    uint8_t bundle[MESH_TLS_DIGEST];
    uint8_t digest[MESH_TLS_DIGEST];
    uint8_t key_digest[MESH_TLS_DIGEST];                  /* of the private key's PEM bytes */
    uint8_t vault[32];                                    /* seals kept tickets */
    struct mesh_tls_ticket_key ticket_shared, ticket_own; /* TLS 1.3, and 1.2 */
};

/* ---- context.c: the two SSL_CTX of an identity; callbacks find their handshake by SSL_get_app_data */
int mesh_tls_context_new(const struct mesh_identity *id, bool server, SSL_CTX **ret_ctx,
                         struct mesh_why *why) MESH_MUST_CHECK;

/* ---- chain.c: verified chains of this process */
/* Verifies the chain against the context's roots at `wall`, from the cache when it was verified before.
 * Returns 0 or MESH_E_PEER; ret_not_after is where the first of its certificates ends. */
int mesh_tls_chain_verify(X509_STORE_CTX *ctx, const struct mesh_identity *id, bool peer_is_server,
                          int64_t wall, int64_t *ret_not_after, struct mesh_why *why) MESH_MUST_CHECK;

/* ---- tickets.c: the client's sessions */
/* Keeps a copy until `expires`; forgets it when there is no room, or it is too large. */
void mesh_tls_tickets_put(const struct mesh_identity *id, const uint8_t key[MESH_TLS_DIGEST], SSL_SESSION *session,
                          int64_t wall, int64_t expires);
/* A session of this key that lives past `wall`, the caller's; NULL if none. */
SSL_SESSION *mesh_tls_tickets_take(const struct mesh_identity *id, const uint8_t key[MESH_TLS_DIGEST], int64_t wall,
                                   int64_t *ret_expires);
const uint8_t *mesh_tls_tickets_salt(void); /* MESH_TLS_DIGEST bytes */

/* ---- ticket_keys.c */
/* Fills vault and ticket keys of an identity whose digests are there. */
int mesh_tls_ticket_keys_make(struct mesh_identity *id) MESH_MUST_CHECK;
/* SSL_CTX_set_tlsext_ticket_key_evp_cb */
int mesh_tls_ticket_crypt(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                          int making);

/* ---- handshake.c */
struct mesh_handshake {
    SSL *ssl;
    BIO *in, *out;
    struct mesh_identity *identity;
    struct mesh_tls_rule rule;
    bool server, no_client_cert;
    enum { MESH_TLS_RUNNING, MESH_TLS_DONE, MESH_TLS_FAILED } state;
    int64_t wall;
    /* `out` holds what is for the caller now, [sent, ready), then what is for later, [ready, tickets_end) */
    size_t sent, ready, tickets_end;
    uint32_t ticket_records;
    uint8_t secret[2][MESH_TLS_HASH_MAX]; /* application traffic secrets: client, server */
    uint8_t *alpn;
    size_t alpn_len;
    bool keeps_tickets;
    uint8_t ticket_key[MESH_TLS_DIGEST];
    int refusal; /* why the peer's certificate was refused: 0 or MESH_E_PEER */
    struct mesh_why why;
    char peer_id[256];
    int64_t chain_not_after; /* of the peer's chain as verified, now or when the session began */
};

#endif
