/* SPDX-License-Identifier: Apache-2.0
 *
 * A certificate authority for tests, made anew in each run. Times are relative to now, in seconds. Whatever
 * fails here aborts the test.
 */
#ifndef MESH_TESTS_TLS_PKI_H
#define MESH_TESTS_TLS_PKI_H

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tls/tls.h"

/* What the library has and our rooms do without (tls/provider.c): for a test that plays somebody else. */
__attribute__((unused)) static inline void pki_stock_algorithms(void) {
    if (!OSSL_PROVIDER_load(NULL, "default"))
        abort();
}

struct pki_cert {
    X509 *cert;
    EVP_PKEY *key;
    const struct pki_cert *issuer; /* NULL: itself */
};

struct pki_spec {
    const char *san;       /* "URI:spiffe://shop/a,DNS:b"; NULL: none */
    const char *san_again; /* a second extension of that kind, which X.509 forbids */
    const char *usage;     /* NULL: digitalSignature, or keyCertSign for a CA; "": none */
    const char *eku;       /* NULL: none */
    const char *key;       /* NULL: P-256; "P-384", "RSA", "RSA1024", "ED25519" */
    bool ca;
    bool no_constraints; /* leave basicConstraints out */
    const char *name_constraints;
    long from, to; /* 0, 0: an hour ago to an hour from now */
};

#define PKI_CHECK(x)                                                                                         \
    do {                                                                                                     \
        if (!(x)) {                                                                                          \
            fprintf(stderr, "pki: %s:%d: %s\n", __FILE__, __LINE__, #x);                                     \
            ERR_print_errors_fp(stderr);                                                                     \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

static inline EVP_PKEY *pki_key(const char *type) {
    if (!type || strcmp(type, "P-256") == 0)
        return EVP_EC_gen("P-256");
    if (strcmp(type, "P-384") == 0)
        return EVP_EC_gen("P-384");
    if (strcmp(type, "ED25519") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return EVP_RSA_gen(strcmp(type, "RSA1024") == 0 ? 1024 : 2048);
}

static inline void pki_extend(X509 *cert, X509 *issuer, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    PKI_CHECK(ext && X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

static inline struct pki_cert pki_make(const struct pki_cert *issuer, const char *cn, struct pki_spec spec) {
    static long serial = 1;
    struct pki_cert c = {X509_new(), pki_key(spec.key), issuer};
    X509 *signer = issuer ? issuer->cert : c.cert;
    PKI_CHECK(c.cert && c.key);
    X509_set_version(c.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c.cert), serial++);
    long from = spec.from || spec.to ? spec.from : -3600, to = spec.from || spec.to ? spec.to : 3600;
    time_t now = time(NULL);
    PKI_CHECK(X509_time_adj_ex(X509_getm_notBefore(c.cert), 0, from, &now));
    PKI_CHECK(X509_time_adj_ex(X509_getm_notAfter(c.cert), 0, to, &now));
    X509_set_pubkey(c.cert, c.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(c.cert), "CN", MBSTRING_ASC, (const unsigned char *)cn,
                               -1, -1, 0);
    X509_set_issuer_name(c.cert, X509_get_subject_name(signer));
    if (!spec.no_constraints)
        pki_extend(c.cert, signer, NID_basic_constraints, spec.ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    const char *usage = spec.usage ? spec.usage
                        : spec.ca  ? "critical,keyCertSign,cRLSign"
                                   : "critical,digitalSignature";
    if (*usage)
        pki_extend(c.cert, signer, NID_key_usage, usage);
    if (spec.eku)
        pki_extend(c.cert, signer, NID_ext_key_usage, spec.eku);
    if (spec.san)
        pki_extend(c.cert, signer, NID_subject_alt_name, spec.san);
    if (spec.san_again)
        pki_extend(c.cert, signer, NID_subject_alt_name, spec.san_again);
    if (spec.name_constraints)
        pki_extend(c.cert, signer, NID_name_constraints, spec.name_constraints);
    if (spec.ca)
        pki_extend(c.cert, signer, NID_subject_key_identifier, "hash");
    EVP_PKEY *key = issuer ? issuer->key : c.key;
    PKI_CHECK(X509_sign(c.cert, key, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256()) > 0);
    return c;
}

static inline struct pki_cert pki_root(const char *cn) {
    return pki_make(NULL, cn, (struct pki_spec){.ca = true, .to = 86400, .from = -86400});
}

static inline void pki_free(struct pki_cert *c) {
    X509_free(c->cert);
    EVP_PKEY_free(c->key);
}

/* ---- PEM texts, NUL-terminated, free() ---- */
static inline char *pki_text(BIO *bio) {
    char *p;
    long n = BIO_get_mem_data(bio, &p);
    char *text = malloc((size_t)n + 1);
    memcpy(text, p, (size_t)n);
    text[n] = 0;
    BIO_free(bio);
    return text;
}

/* The certificate, and its issuers without the root. */
static inline char *pki_chain_pem(const struct pki_cert *c) {
    BIO *bio = BIO_new(BIO_s_mem());
    do
        PEM_write_bio_X509(bio, c->cert);
    while ((c = c->issuer) && c->issuer);
    return pki_text(bio);
}

static inline char *pki_cert_pem(const struct pki_cert *c) {
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, c->cert);
    return pki_text(bio);
}

static inline char *pki_key_pem(const struct pki_cert *c) {
    BIO *bio = BIO_new(BIO_s_mem());
    PKI_CHECK(PEM_write_bio_PKCS8PrivateKey(bio, c->key, NULL, NULL, 0, NULL, NULL) == 1);
    return pki_text(bio);
}

/* An identity of a certificate, trusting `root`; built as of `wall`, seconds from now. */
static inline struct mesh_identity *pki_identity_at(const struct pki_cert *c, const struct pki_cert *root,
                                                    long wall) {
    char *cert = pki_chain_pem(c), *key = pki_key_pem(c), *ca = pki_cert_pem(root);
    struct mesh_pem pem = {cert, key, ca, strlen(cert), strlen(key), strlen(ca)};
    struct mesh_identity *id = NULL;
    struct mesh_why why = {""};
    PKI_CHECK(mesh_tls_start() == 0);
    int err = mesh_identity_new(&pem, time(NULL) + wall, &id, &why);
    if (err) {
        fprintf(stderr, "pki: identity: %s\n", why.text);
        abort();
    }
    free(cert);
    free(key);
    free(ca);
    return id;
}

static inline struct mesh_identity *pki_identity(const struct pki_cert *c, const struct pki_cert *root) {
    return pki_identity_at(c, root, 0);
}

/* The short way: a fresh identity of this SPIFFE ID under the root. */
static inline struct mesh_identity *pki_workload(const struct pki_cert *root, const char *spiffe) {
    char san[2200];
    snprintf(san, sizeof san, "URI:%s", spiffe);
    struct pki_cert c = pki_make(root, "workload", (struct pki_spec){.san = san});
    struct mesh_identity *id = pki_identity(&c, root);
    pki_free(&c);
    return id;
}

#endif
