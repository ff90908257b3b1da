/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tls/pair.h"

/* A ClientHello of OpenSSL's own with these protocols; returns its length. */
static size_t hello_make(const char *alpn, uint8_t *out, size_t cap) {
    cr_assert_eq(mesh_tls_start(), 0);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *wire = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, wire);
    SSL_set_connect_state(ssl);
    if (alpn)
        SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    SSL_do_handshake(ssl);
    int n = BIO_read(wire, out, (int)cap);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    cr_assert_gt(n, 100);
    return (size_t)n;
}

static enum mesh_first first_of(const char *alpn) {
    uint8_t p[2048];
    size_t n = hello_make(alpn, p, sizeof p);
    return mesh_first_bytes(p, n);
}

Test(hello, mesh_protocols_are_told_from_others) {
    cr_assert_eq(first_of("\5istio"), MESH_FIRST_TLS_MESH);
    cr_assert_eq(first_of("\2h2\23istio-peer-exchange\5istio"), MESH_FIRST_TLS_MESH);
    cr_assert_eq(first_of("\10istio-h2"), MESH_FIRST_TLS_MESH);
    cr_assert_eq(first_of("\2h2\10http/1.1"), MESH_FIRST_TLS_OTHER);
    cr_assert_eq(first_of("\6istiox\4isti"), MESH_FIRST_TLS_OTHER);
    cr_assert_eq(first_of(NULL), MESH_FIRST_TLS_OTHER);
}

Test(hello, our_own_clients_hello_is_a_mesh_clients) {
    struct pki_cert root = pki_root("r");
    struct mesh_identity *id = pki_workload(&root, "spiffe://shop/a");
    struct mesh_handshake_config c = client_config(id);
    struct mesh_handshake *hs;
    const uint8_t *p;
    cr_assert_eq(mesh_handshake_new(&c, &hs), 0);
    cr_assert_eq(mesh_handshake_step(hs, NULL, 0, NULL), MESH_E_AGAIN);
    size_t n = mesh_handshake_out(hs, &p);
    cr_assert_eq(mesh_first_bytes(p, n), MESH_FIRST_TLS_MESH);
    mesh_handshake_free(hs);
    mesh_identity_unref(id);
    pki_free(&root);
}

Test(hello, every_prefix_wants_more) {
    uint8_t p[2048];
    size_t n = hello_make("\5istio", p, sizeof p);
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(mesh_first_bytes(p, i), MESH_FIRST_MORE, "%zu", i);
    memset(p + n, 0xff, 100); /* what follows does not matter */
    cr_assert_eq(mesh_first_bytes(p, n + 100), MESH_FIRST_TLS_MESH);
}

Test(hello, other_programs_first_bytes_are_plain_at_once) {
    static const char *const plain[] = {
        "GET / HTTP/1.1\r\n", "SSH-2.0-x\r\n", "*1\r\n$4\r\n", "\26\2", "\26\3\5",
        "\26\3\1\0\3",        "\26\3\1\100\1", "\26\3\1\1\0\2"};
    static const size_t len[] = {1, 1, 1, 2, 3, 5, 5, 6};
    for (size_t i = 0; i < sizeof len / sizeof len[0]; i++)
        cr_assert_eq(mesh_first_bytes((const uint8_t *)plain[i], len[i]), MESH_FIRST_PLAIN, "%zu", i);
    cr_assert_eq(mesh_first_bytes(NULL, 0), MESH_FIRST_MORE);
}

Test(hello, damaged_lengths_are_survived) {
    uint8_t p[2048], q[2048];
    size_t n = hello_make("\5istio", p, sizeof p);
    for (size_t i = 5; i < n; i++)
        for (int v = 0; v < 256; v += 51) {
            memcpy(q, p, n);
            q[i] = (uint8_t)v;
            uint8_t *exact = malloc(n); /* so that a sanitizer sees the end */
            memcpy(exact, q, n);
            (void)mesh_first_bytes(exact, n);
            free(exact);
        }
}
