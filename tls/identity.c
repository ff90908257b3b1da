/* SPDX-License-Identifier: Apache-2.0
 *
 * Who we are: chain, key and roots, parsed once, and the two contexts that every handshake of this identity
 * uses.
 */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "tls/internal.h"

enum { PEM_MAX = 1 << 20 };

/* A key file that is encrypted must not make the library ask on the program's terminal. */
static int no_password(char *buf, int size, int writing, void *arg) {
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

/* Empties the queue. Was there no memory? */
static bool out_of_memory(void) {
    bool found = false;
    for (unsigned long e; (e = ERR_get_error());)
        found |= ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE;
    return found;
}

/* What OpenSSL makes of a certificate at its first use is made now: when there is no memory for it, or two
 * threads come at once, the certificate is marked for good. A key that could not be decoded is not told from
 * one for which there was no memory: one more try. */
static int cert_prepare(X509 **io_cert) {
    if (!X509_get0_pubkey(*io_cert)) {
        X509 *again = X509_dup(*io_cert);
        if (!again)
            return MESH_E_NOMEM;
        X509_free(*io_cert);
        *io_cert = again;
    }
    return X509_check_purpose(*io_cert, -1, 0) != 1 && out_of_memory() ? MESH_E_NOMEM : 0;
}

/* Reads every certificate of a PEM text; others of its blocks are stepped over by the library. */
static int certs_parse(const void *pem, size_t len, int max, const char *what, STACK_OF(X509) * *ret_certs,
                       struct mesh_why *why) {
    if (len > PEM_MAX)
        return mesh_why(why, MESH_E_INVALID, "%s is larger than 1 MiB", what);
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    STACK_OF(X509) *certs = sk_X509_new_null();
    int err = bio && certs ? 0 : MESH_E_NOMEM;
    X509 *cert;
    while (!err && (cert = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
        if (sk_X509_num(certs) == max)
            err = mesh_why(why, MESH_E_INVALID, "%s holds more than %d certificates", what, max);
        if (!err)
            err = cert_prepare(&cert);
        if (err || !sk_X509_push(certs, cert)) {
            X509_free(cert);
            err = err ? err : MESH_E_NOMEM;
        }
    }
    if (!err && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        err = mesh_why(why, MESH_E_SYNTAX, "%s: certificate %d is damaged", what, sk_X509_num(certs) + 1);
    if (!err && sk_X509_num(certs) == 0)
        err = mesh_why(why, MESH_E_SYNTAX, "%s holds no certificate", what);
    BIO_free(bio);
    if (err)
        sk_X509_pop_free(certs, X509_free);
    else
        *ret_certs = certs;
    return err;
}

static int key_parse(const struct mesh_pem *pem, EVP_PKEY **ret_key, uint8_t ret_digest[MESH_TLS_DIGEST],
                     struct mesh_why *why) {
    if (pem->key_len > PEM_MAX)
        return mesh_why(why, MESH_E_INVALID, "key is larger than 1 MiB");
    BIO *bio = BIO_new_mem_buf(pem->key, (int)pem->key_len);
    if (!bio)
        return MESH_E_NOMEM;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    BIO_free(bio);
    if (!key)
        return mesh_why(why, MESH_E_SYNTAX, "key holds no private key that can be read");
    *ret_key = key;
    return EVP_Digest(pem->key, pem->key_len, ret_digest, NULL, mesh_tls_hash_get(MESH_TLS_DIGEST), NULL) == 1
               ? 0
               : MESH_E_NOMEM;
}

/* One digest over all certificates of a stack, after what came before. */
static int certs_digest(const uint8_t *before, const STACK_OF(X509) * certs,
                        uint8_t ret_digest[MESH_TLS_DIGEST]) {
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t one[MESH_TLS_DIGEST];
    bool ok = md && EVP_DigestInit_ex(md, mesh_tls_hash_get(MESH_TLS_DIGEST), NULL) == 1 &&
              (!before || EVP_DigestUpdate(md, before, MESH_TLS_DIGEST) == 1);
    for (int i = 0; ok && i < sk_X509_num(certs); i++)
        ok = mesh_tls_cert_digest(sk_X509_value(certs, i), one) == 0 &&
             EVP_DigestUpdate(md, one, sizeof one) == 1;
    ok = ok && EVP_DigestFinal_ex(md, ret_digest, NULL) == 1;
    EVP_MD_CTX_free(md);
    return ok ? 0 : MESH_E_NOMEM;
}

static int roots_set(struct mesh_identity *id, const void *ca, size_t ca_len, struct mesh_why *why) {
    STACK_OF(X509) * certs;
    int err = certs_parse(ca, ca_len, MESH_TLS_ROOTS_MAX, "trust bundle", &certs, why);
    if (err)
        return err;
    id->roots = X509_STORE_new();
    err = id->roots ? certs_digest(NULL, certs, id->bundle) : MESH_E_NOMEM;
    for (int i = 0; !err && i < sk_X509_num(certs); i++)
        if (X509_STORE_add_cert(id->roots, sk_X509_value(certs, i)) != 1)
            err = MESH_E_NOMEM;
    /* What the bundle lists is trusted, self-signed or not: SPIFFE bundles may hold intermediates. */
    if (!err)
        X509_STORE_set_flags(id->roots, X509_V_FLAG_PARTIAL_CHAIN);
    sk_X509_pop_free(certs, X509_free);
    return err;
}

static int names_read(struct mesh_identity *id, struct mesh_why *why) {
    GENERAL_NAMES *names;
    if (mesh_tls_cert_names(id->leaf, &names) != 0)
        return mesh_why(why, MESH_E_INVALID, "names in the certificate cannot be read");
    struct mesh_tls_san san = {.text = ""};
    size_t domain = 0;
    int spiffe = mesh_tls_names_spiffe(names, &san, why);
    if (spiffe >= 0) {
        if (spiffe == 0)
            san = (struct mesh_tls_san){.text = ""};
        id->spiffe = strndup(san.text, san.len);
        if (spiffe)
            (void)mesh_spiffe_valid(san.text, san.len, &domain);
        id->trust_domain = strndup(spiffe ? san.text + 9 : "", domain);
    }
    GENERAL_NAMES_free(names);
    if (spiffe < 0)
        return spiffe;
    return id->spiffe && id->trust_domain ? 0 : MESH_E_NOMEM;
}

static int leaf_check(const struct mesh_identity *id, int64_t wall, struct mesh_why *why) {
    if (X509_check_private_key(id->leaf, id->key) != 1 && /* no memory for it says the same: once more */
        X509_check_private_key(id->leaf, id->key) != 1)
        return mesh_why(why, MESH_E_INVALID, "key does not belong to the certificate");
    if (id->not_before == INT64_MIN || id->not_after == INT64_MIN)
        return mesh_why(why, MESH_E_INVALID, "certificate's validity cannot be read");
    if (wall > id->not_after)
        return mesh_why(why, MESH_E_INVALID, "certificate expired %lld seconds ago",
                        (long long)(wall - id->not_after));
    if (wall < id->not_before)
        return mesh_why(why, MESH_E_INVALID, "certificate is not valid for another %lld seconds (clock?)",
                        (long long)(id->not_before - wall));
    return 0;
}

/* The digest and the contexts: what needs all the rest. */
static int complete(struct mesh_identity *id, struct mesh_why *why) {
    uint8_t leaf[MESH_TLS_DIGEST], both[MESH_TLS_DIGEST];
    int err = mesh_tls_cert_digest(id->leaf, leaf);
    if (!err)
        err = certs_digest(leaf, id->chain, both);
    uint8_t text[2 * MESH_TLS_DIGEST];
    if (!err) {
        memcpy(text, both, sizeof both);
        memcpy(text + sizeof both, id->bundle, sizeof id->bundle);
        if (EVP_Digest(text, sizeof text, id->digest, NULL, mesh_tls_hash_get(MESH_TLS_DIGEST), NULL) != 1)
            err = MESH_E_NOMEM;
    }
    if (!err)
        err = mesh_tls_ticket_keys_make(id);
    if (!err)
        err = mesh_tls_context_new(id, false, &id->client, why);
    if (!err)
        err = mesh_tls_context_new(id, true, &id->server, why);
    return err;
}

static int build(struct mesh_identity *id, const struct mesh_pem *pem, int64_t wall, struct mesh_why *why) {
    int err = certs_parse(pem->cert, pem->cert_len, MESH_TLS_CHAIN_MAX, "certificate", &id->chain, why);
    if (err)
        return err;
    id->leaf = sk_X509_shift(id->chain);
    id->not_before = mesh_tls_time_seconds(X509_get0_notBefore(id->leaf));
    id->not_after = mesh_tls_time_seconds(X509_get0_notAfter(id->leaf));
    err = key_parse(pem, &id->key, id->key_digest, why);
    if (!err)
        err = leaf_check(id, wall, why);
    if (!err)
        err = names_read(id, why);
    if (!err)
        err = roots_set(id, pem->ca, pem->ca_len, why);
    return err ? err : complete(id, why);
}

static int finish_new(struct mesh_identity *id, int err, struct mesh_identity **ret_id,
                      struct mesh_why *why) {
    if (err) {
        if (out_of_memory() || err == MESH_E_NOMEM)
            err = mesh_why(why, MESH_E_NOMEM, "out of memory");
        mesh_identity_unref(id);
        return err;
    }
    ERR_clear_error();
    *ret_id = id;
    return 0;
}

int mesh_identity_new(const struct mesh_pem *pem, int64_t wall, struct mesh_identity **ret_id,
                      struct mesh_why *why) {
    struct mesh_identity *id = calloc(1, sizeof *id);
    if (!id)
        return mesh_why(why, MESH_E_NOMEM, "out of memory");
    atomic_init(&id->refs, 1);
    ERR_clear_error();
    return finish_new(id, build(id, pem, wall, why), ret_id, why);
}

int mesh_identity_with_ca(const struct mesh_identity *base, const void *ca, size_t ca_len,
                          struct mesh_identity **ret_id, struct mesh_why *why) {
    struct mesh_identity *id = calloc(1, sizeof *id);
    if (!id)
        return mesh_why(why, MESH_E_NOMEM, "out of memory");
    atomic_init(&id->refs, 1);
    ERR_clear_error();
    id->not_before = base->not_before;
    id->not_after = base->not_after;
    memcpy(id->key_digest, base->key_digest, sizeof id->key_digest);
    id->spiffe = strdup(base->spiffe);
    id->trust_domain = strdup(base->trust_domain);
    id->chain = X509_chain_up_ref(base->chain);
    if (X509_up_ref(base->leaf))
        id->leaf = base->leaf;
    if (EVP_PKEY_up_ref(base->key))
        id->key = base->key;
    int err = id->spiffe && id->trust_domain && id->chain && id->leaf && id->key ? 0 : MESH_E_NOMEM;
    if (!err)
        err = roots_set(id, ca, ca_len, why);
    if (!err)
        err = complete(id, why);
    return finish_new(id, err, ret_id, why);
}

struct mesh_identity *mesh_identity_ref(struct mesh_identity *id) {
    if (id)
        atomic_fetch_add_explicit(&id->refs, 1, memory_order_relaxed);
    return id;
}

/* Handshakes hold references; SSL objects hold their SSL_CTX besides, so neither outlives what it points to.
 */
void mesh_identity_unref(struct mesh_identity *id) {
    if (!id || atomic_fetch_sub_explicit(&id->refs, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(id->client);
    SSL_CTX_free(id->server);
    X509_STORE_free(id->roots);
    sk_X509_pop_free(id->chain, X509_free);
    X509_free(id->leaf);
    EVP_PKEY_free(id->key); /* the library zeroes private numbers */
    free(id->spiffe);
    free(id->trust_domain);
    OPENSSL_cleanse(id, sizeof *id);
    free(id);
    ERR_clear_error();
}

const char *mesh_identity_spiffe(const struct mesh_identity *id) {
    return id->spiffe;
}

const char *mesh_identity_trust_domain(const struct mesh_identity *id) {
    return id->trust_domain;
}

int64_t mesh_identity_not_after(const struct mesh_identity *id) {
    return id->not_after;
}

int64_t mesh_identity_not_before(const struct mesh_identity *id) {
    return id->not_before;
}

const uint8_t *mesh_identity_digest(const struct mesh_identity *id) {
    return id->digest;
}
