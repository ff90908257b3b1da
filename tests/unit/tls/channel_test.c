/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/channel.h"

#include <criterion/criterion.h>
#include <openssl/ssl.h>
#include <unistd.h>
#include "shim/base/clock.h"
#include "tests/unit/tls/pki.h"

static struct pki_cert root, other_root;
static char dir[64], ca[96], cert[96], key[96];

static void put(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void put_pem(const char *path, char *pem) {
    put(path, pem);
    free(pem);
}

static void put_client(const char *san) {
    struct pki_cert c = pki_make(&root, "client", (struct pki_spec){.san = san});
    put_pem(cert, pki_chain_pem(&c));
    put_pem(key, pki_key_pem(&c));
    pki_free(&c);
}

static void setup(void) {
    cr_assert_eq(mesh_tls_start(), 0);
    strcpy(dir, "/tmp/mesh-tls-XXXXXX");
    cr_assert(mkdtemp(dir));
    snprintf(ca, sizeof ca, "%s/ca", dir);
    snprintf(cert, sizeof cert, "%s/cert", dir);
    snprintf(key, sizeof key, "%s/key", dir);
    root = pki_root("root");
    other_root = pki_root("other");
    put_pem(ca, pki_cert_pem(&root));
    put_client("URI:spiffe://shop/first");
}

static void teardown(void) {
    unlink(ca);
    unlink(cert);
    unlink(key);
    rmdir(dir);
    pki_free(&root);
    pki_free(&other_root);
}

TestSuite(tls_channel, .init = setup, .fini = teardown, .timeout = 120);

/* ---- the server's end ---- */
struct server {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
};

static int choose_h2(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in,
                     unsigned n, void *arg) {
    *out = in + 1;
    *len = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static struct server serve(const struct pki_cert *id, bool alpn, bool asks_client) {
    struct server s = {.ctx = SSL_CTX_new(TLS_server_method())};
    SSL_CTX_use_certificate(s.ctx, id->cert);
    SSL_CTX_use_PrivateKey(s.ctx, id->key);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(s.ctx), root.cert);
    if (alpn)
        SSL_CTX_set_alpn_select_cb(s.ctx, choose_h2, NULL);
    if (asks_client)
        SSL_CTX_set_verify(s.ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    s.ssl = SSL_new(s.ctx);
    s.in = BIO_new(BIO_s_mem());
    s.out = BIO_new(BIO_s_mem());
    SSL_set_bio(s.ssl, s.in, s.out);
    SSL_set_accept_state(s.ssl);
    return s;
}

static void serve_done(struct server *s) {
    SSL_free(s->ssl);
    SSL_CTX_free(s->ctx);
}

/* Bytes both ways, once. */
static void carry(struct mesh_tls_channel *ch, struct server *s) {
    const uint8_t *p;
    char *q;
    for (size_t n; (n = mesh_tls_channel_out(ch, &p)); mesh_tls_channel_sent(ch, n > 7 ? n - 3 : n))
        BIO_write(s->in, p, (int)(n > 7 ? n - 3 : n)); /* in two goes */
    char text[100];
    int got = SSL_read(s->ssl, text, sizeof text);
    if (got > 0)
        SSL_write(s->ssl, text, got); /* an echo */
    long n = BIO_get_mem_data(s->out, &q);
    if (n > 0)
        cr_assert_eq(mesh_tls_channel_feed(ch, q, (size_t)n), 0);
    (void)BIO_reset(s->out);
    ERR_clear_error();
}

struct outcome {
    int err;
    struct mesh_why why;
    char peer[64]; /* the client's first name as the server saw it */
};

/* A handshake, and an echo through it. */
static struct outcome meet(struct mesh_tls_creds *creds, const char *host, struct server s, uint64_t now) {
    struct outcome o = {.err = MESH_E_AGAIN};
    struct mesh_tls_channel *ch = NULL;
    int err = mesh_tls_channel_new(creds, host, now, &ch, &o.why);
    for (int i = 0; !err && o.err == MESH_E_AGAIN && i < 10; i++) {
        o.err = mesh_tls_channel_shake(ch, &o.why);
        carry(ch, &s);
    }
    char text[100];
    if (!err && o.err == 0) {
        cr_assert_eq(mesh_tls_channel_write(ch, "hello", 5), 0);
        int n = MESH_E_AGAIN;
        for (int i = 0; n == MESH_E_AGAIN && i < 10; i++) {
            carry(ch, &s);
            n = mesh_tls_channel_read(ch, text, sizeof text, &o.why);
        }
        o.err = n == 5 && memcmp(text, "hello", 5) == 0 ? 0 : n;
        X509 *peer = SSL_get0_peer_certificate(s.ssl);
        GENERAL_NAMES *names = peer ? X509_get_ext_d2i(peer, NID_subject_alt_name, NULL, NULL) : NULL;
        if (names)
            snprintf(o.peer, sizeof o.peer, "%s",
                     (const char *)ASN1_STRING_get0_data(
                         sk_GENERAL_NAME_value(names, 0)->d.uniformResourceIdentifier));
        GENERAL_NAMES_free(names);
    }
    cr_expect_eq(ERR_peek_error(), 0u, "the error queue is clean");
    mesh_tls_channel_free(ch);
    serve_done(&s);
    o.err = err ? err : o.err;
    return o;
}

static struct mesh_tls_creds *creds_of(const char *with_cert, const char *with_key, const char *with_ca) {
    struct mesh_tls_creds *c;
    struct mesh_tls_channel_files files = {with_cert, with_key, with_ca, 600 * MESH_SEC};
    cr_assert_eq(mesh_tls_creds_new(&files, &c), 0);
    return c;
}

static struct outcome meet_named(const char *san, const char *host) {
    struct pki_cert id = pki_make(&root, "xds.example", (struct pki_spec){.san = san});
    struct mesh_tls_creds *c = creds_of(NULL, NULL, ca);
    struct outcome o = meet(c, host, serve(&id, true, false), MESH_SEC);
    mesh_tls_creds_free(c);
    pki_free(&id);
    return o;
}

static void named(const char *san, const char *host, int as) {
    struct outcome o = meet_named(san, host);
    cr_expect_eq(o.err, as, "%s at %s: %s, %s", san ? san : "no name", host, mesh_err_text(o.err),
                 o.why.text);
}

Test(tls_channel, certificate_must_have_the_name) {
    named("DNS:xds.example", "xds.example", 0);
    named("DNS:xds.example", "XDS.example.", 0);
    named("DNS:*.b.example", "xds.b.example", 0);
    named("DNS:other.example", "xds.example", MESH_E_PEER);
    named("DNS:x*.b.example", "xds.b.example", MESH_E_PEER);
    named("URI:spiffe://shop/xds", "xds.example", MESH_E_PEER);
    named(NULL, "xds.example", MESH_E_PEER); /* the common name does not count */
    named("IP:127.0.0.1", "127.0.0.1", 0);
    named("IP:2001:db8::1", "2001:db8:0::1", 0);
    named("IP:127.0.0.2", "127.0.0.1", MESH_E_PEER);
    named("DNS:127.0.0.1", "127.0.0.1", MESH_E_PEER);
    struct outcome o = meet_named("DNS:a", "b");
    cr_expect(strstr(o.why.text, "hostname mismatch"), "%s", o.why.text);
}

Test(tls_channel, certificate_must_have_our_root_and_be_in_time) {
    struct pki_cert foreign = pki_make(&other_root, "x", (struct pki_spec){.san = "DNS:a"});
    struct pki_cert expired =
        pki_make(&root, "x", (struct pki_spec){.san = "DNS:a", .from = -7200, .to = -60});
    struct mesh_tls_creds *c = creds_of(NULL, NULL, ca), *system = creds_of(NULL, NULL, NULL);
    cr_expect_eq(meet(c, "a", serve(&foreign, true, false), MESH_SEC).err, MESH_E_PEER);
    struct outcome o = meet(c, "a", serve(&expired, true, false), MESH_SEC);
    cr_expect_eq(o.err, MESH_E_PEER);
    cr_expect(strstr(o.why.text, "expired"), "%s", o.why.text);
    struct pki_cert good = pki_make(&root, "x", (struct pki_spec){.san = "DNS:a"});
    o = meet(system, "a", serve(&good, true, false), MESH_SEC);
    cr_expect(o.err == MESH_E_PEER || o.err == MESH_E_IO, "the system does not know our root: %s",
              o.why.text);
    mesh_tls_creds_free(c);
    mesh_tls_creds_free(system);
    pki_free(&foreign);
    pki_free(&expired);
    pki_free(&good);
}

Test(tls_channel, server_must_choose_h2) {
    struct pki_cert id = pki_make(&root, "x", (struct pki_spec){.san = "DNS:a"});
    struct mesh_tls_creds *c = creds_of(NULL, NULL, ca);
    struct outcome o = meet(c, "a", serve(&id, false, false), MESH_SEC);
    cr_expect_eq(o.err, MESH_E_PROTOCOL);
    cr_expect(strstr(o.why.text, "h2"), "%s", o.why.text);
    struct server old = serve(&id, true, false);
    SSL_set_max_proto_version(old.ssl, TLS1_1_VERSION);
    SSL_set_security_level(old.ssl, 0);
    SSL_set_cipher_list(old.ssl, "ALL:@SECLEVEL=0");
    o = meet(c, "a", old, MESH_SEC);
    cr_expect(o.err == MESH_E_ALERT || o.err == MESH_E_PROTOCOL, "TLS 1.1: %s", mesh_err_text(o.err));
    mesh_tls_creds_free(c);
    pki_free(&id);
}

Test(tls_channel, our_certificate_is_shown_where_it_is_asked_for) {
    struct pki_cert id = pki_make(&root, "x", (struct pki_spec){.san = "DNS:a"});
    struct mesh_tls_creds *with = creds_of(cert, key, ca), *without = creds_of(NULL, NULL, ca);
    struct outcome o = meet(with, "a", serve(&id, true, true), MESH_SEC);
    cr_expect_eq(o.err, 0, "%s", o.why.text);
    cr_expect_str_eq(o.peer, "spiffe://shop/first");
    o = meet(without, "a", serve(&id, true, true), MESH_SEC);
    cr_expect_eq(o.err, MESH_E_ALERT, "%s", mesh_err_text(o.err));
    cr_expect(strstr(o.why.text, "certificate required"), "%s", o.why.text);
    mesh_tls_creds_free(with);
    mesh_tls_creds_free(without);
    pki_free(&id);
}

Test(tls_channel, files_are_read_again_after_their_interval_or_a_failure) {
    struct pki_cert id = pki_make(&root, "x", (struct pki_spec){.san = "DNS:a"});
    struct mesh_tls_creds *c = creds_of(cert, key, ca);
    cr_expect_str_eq(meet(c, "a", serve(&id, true, true), MESH_SEC).peer, "spiffe://shop/first");
    put_client("URI:spiffe://shop/second");
    cr_expect_str_eq(meet(c, "a", serve(&id, true, true), 600 * MESH_SEC).peer, "spiffe://shop/first");
    cr_expect_str_eq(meet(c, "a", serve(&id, true, true), 601 * MESH_SEC).peer, "spiffe://shop/second");
    put_client("URI:spiffe://shop/third");
    cr_expect_eq(meet(c, "b", serve(&id, true, true), 602 * MESH_SEC).err, MESH_E_PEER);
    cr_expect_str_eq(meet(c, "a", serve(&id, true, true), 603 * MESH_SEC).peer, "spiffe://shop/third");
    mesh_tls_creds_free(c);
    pki_free(&id);
}

Test(tls_channel, bad_files_leave_what_was_good) {
    struct pki_cert id = pki_make(&root, "x", (struct pki_spec){.san = "DNS:a"}),
                    odd = pki_make(&root, "y", (struct pki_spec){.san = "DNS:b"});
    struct mesh_tls_creds *c = creds_of(cert, key, ca);
    cr_expect_eq(meet(c, "a", serve(&id, true, true), MESH_SEC).err, 0);
    put_pem(key, pki_key_pem(&odd)); /* half of a rotation */
    cr_expect_str_eq(meet(c, "a", serve(&id, true, true), 1000 * MESH_SEC).peer, "spiffe://shop/first");
    unlink(ca);
    cr_expect_str_eq(meet(c, "a", serve(&id, true, true), 2000 * MESH_SEC).peer, "spiffe://shop/first");
    mesh_tls_creds_free(c);
    pki_free(&id);
    pki_free(&odd);
}

static void refused(const char *with_cert, const char *with_key, const char *with_ca, int err,
                    const char *says) {
    struct mesh_tls_creds *c = creds_of(with_cert, with_key, with_ca);
    struct mesh_tls_channel *ch = NULL;
    struct mesh_why why = {""};
    int got = mesh_tls_channel_new(c, "a", MESH_SEC, &ch, &why);
    cr_expect_eq(got, err, "%s: %s", mesh_err_text(got), why.text);
    cr_expect(strstr(why.text, says), "%s", why.text);
    cr_expect_eq(ERR_peek_error(), 0u);
    mesh_tls_creds_free(c);
}

Test(tls_channel, files_that_were_never_good_are_named) {
    struct pki_cert odd = pki_make(&root, "y", (struct pki_spec){.san = "DNS:b"});
    char absent[80], empty[80];
    snprintf(absent, sizeof absent, "%s/absent", dir);
    snprintf(empty, sizeof empty, "%s/empty", dir);
    put(empty, "nothing here\n");
    refused(NULL, NULL, absent, MESH_E_IO, "absent: No such file");
    refused(NULL, NULL, empty, MESH_E_SYNTAX, "empty: no certificate");
    refused(absent, key, ca, MESH_E_IO, "absent: No such file");
    refused(empty, key, ca, MESH_E_SYNTAX, "empty: no certificate");
    refused(cert, empty, ca, MESH_E_SYNTAX, "empty: no private key");
    refused(cert, key, dir, MESH_E_LIMIT, "not a file");
    put_pem(key, pki_key_pem(&odd));
    refused(cert, key, ca, MESH_E_INVALID, "key: the key does not belong");
    unlink(empty);
    pki_free(&odd);
}

Test(tls_channel, other_bytes_than_tls_are_refused) {
    struct mesh_tls_creds *c = creds_of(NULL, NULL, ca);
    struct mesh_tls_channel *ch;
    struct mesh_why why = {""};
    cr_assert_eq(mesh_tls_channel_new(c, "a", MESH_SEC, &ch, &why), 0);
    cr_expect_eq(mesh_tls_channel_shake(ch, &why), MESH_E_AGAIN);
    cr_assert_eq(mesh_tls_channel_feed(ch, "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 0);
    cr_expect_eq(mesh_tls_channel_shake(ch, &why), MESH_E_PROTOCOL);
    mesh_tls_channel_free(ch);
    mesh_tls_creds_free(c);
}
