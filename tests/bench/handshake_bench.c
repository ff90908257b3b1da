/* SPDX-License-Identifier: Apache-2.0
 *
 * Processor time of a mutual TLS 1.3 handshake, both ends in one thread, in memory: the tls room against
 * OpenSSL's plain SSL API, same certificates (P-256 leaf under a P-256 root), same group and suite.
 * handshake_bench openssl|first|again|resumed N first: every client shows a chain that nobody has seen;
 * again: the chain was seen before; resumed: with the ticket of the connection before. openssl and first take
 * a new pair of certificates each time, made outside the measured part. Prints "handshake_ns X".
 */
#include <openssl/ssl.h>
#include <time.h>
#include "tests/unit/tls/pki.h"

enum { WIRE = 1 << 16 };

struct wire {
    uint8_t bytes[WIRE];
    size_t n;
};

struct party { /* one leaf, as both libraries want it */
    struct pki_cert cert;
    struct mesh_identity *id;
    SSL_CTX *ctx;
};

static void fail(const char *what) {
    fprintf(stderr, "handshake_bench: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static uint64_t spent(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- ours ---- */

static size_t whole_record(const uint8_t *p, size_t n) {
    if (n < MESH_REC_HEADER)
        return 0;
    size_t whole = MESH_REC_HEADER + ((size_t)p[3] << 8 | p[4]);
    return whole <= n ? whole : 0;
}

static void take_out(struct mesh_handshake *hs, struct wire *w) {
    const uint8_t *p;
    size_t n = mesh_handshake_out(hs, &p);
    if (n > WIRE - w->n)
        fail("flight too long");
    if (n)
        memcpy(w->bytes + w->n, p, n);
    w->n += n;
    mesh_handshake_sent(hs, n);
}

static int feed(struct mesh_handshake *hs, struct wire *w) {
    struct mesh_why why = {""};
    int err = MESH_E_AGAIN;
    size_t at = 0, len;
    while (err == MESH_E_AGAIN && (len = whole_record(w->bytes + at, w->n - at))) {
        err = mesh_handshake_step(hs, w->bytes + at, len, &why);
        at += len;
    }
    if (err && err != MESH_E_AGAIN)
        fail(why.text);
    w->n = 0; /* what follows the end of a handshake here is nothing */
    return err;
}

static bool resumed;

static void ours(const struct party *client, const struct party *server) {
    static struct wire up, down;
    struct mesh_handshake_config c = {.identity = client->id,
                                      .sni = "reviews.shop.mesh",
                                      .wall = time(NULL),
                                      .ticket_key = resumed ? "reviews" : NULL};
    struct mesh_handshake_config s = {.identity = server->id, .server = true, .wall = c.wall};
    struct mesh_handshake *a, *b;
    struct mesh_record rx, tx;
    struct mesh_peer peer;
    struct mesh_why why = {""};
    if (mesh_handshake_new(&c, &a) || mesh_handshake_new(&s, &b) ||
        mesh_handshake_step(a, NULL, 0, &why) != MESH_E_AGAIN)
        fail("begin");
    int err = MESH_E_AGAIN;
    up.n = down.n = 0;
    for (int i = 0; err == MESH_E_AGAIN && i < 8; i++) {
        take_out(a, &up);
        err = feed(b, &up);
        take_out(b, &down);
        if (down.n)
            (void)feed(a, &down);
    }
    if (err || mesh_handshake_finish(a, &rx, &tx, &peer) || mesh_handshake_finish(b, &rx, &tx, &peer))
        fail("finish");
    const uint8_t *ticket;
    size_t n = mesh_handshake_tickets(b, &ticket);
    if (resumed && n)
        mesh_handshake_ticket(a, ticket, n);
    mesh_handshake_free(a);
    mesh_handshake_free(b);
}

/* ---- OpenSSL ---- */

static SSL_CTX *context(const struct pki_cert *leaf, const struct pki_cert *root) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    X509_STORE *store = ctx ? SSL_CTX_get_cert_store(ctx) : NULL;
    if (!store || X509_STORE_add_cert(store, root->cert) != 1 ||
        SSL_CTX_use_certificate(ctx, leaf->cert) != 1 || SSL_CTX_use_PrivateKey(ctx, leaf->key) != 1)
        fail("context");
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set1_groups_list(ctx, "X25519");
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_num_tickets(ctx, 0);
    return ctx;
}

static void theirs(const struct party *client, const struct party *server) {
    SSL *a = SSL_new(client->ctx), *b = SSL_new(server->ctx);
    BIO *up, *down;
    if (!a || !b || BIO_new_bio_pair(&up, WIRE, &down, WIRE) != 1)
        fail("SSL");
    SSL_set_bio(a, up, up);
    SSL_set_bio(b, down, down);
    SSL_set_connect_state(a);
    SSL_set_accept_state(b);
    for (int i = 0; i < 8 && !(SSL_is_init_finished(a) && SSL_is_init_finished(b)); i++) {
        (void)SSL_do_handshake(a);
        (void)SSL_do_handshake(b);
    }
    if (!SSL_is_init_finished(a) || !SSL_is_init_finished(b) || SSL_get_verify_result(b) != X509_V_OK)
        fail("handshake");
    SSL_free(a);
    SSL_free(b);
    ERR_clear_error();
}

/* ---- */

/* Each library in a process of its own: ours has a provider of its own in there. */
static struct party party(const struct pki_cert *root, const char *san, bool of_ours) {
    struct party p = {.cert = pki_make(root, "workload", (struct pki_spec){.san = san})};
    if (of_ours)
        p.id = pki_identity(&p.cert, root);
    else
        p.ctx = context(&p.cert, root);
    return p;
}

static void party_free(struct party *p) {
    mesh_identity_unref(p->id);
    SSL_CTX_free(p->ctx);
    pki_free(&p->cert);
}

int main(int argc, char **argv) {
    int n = argc == 3 ? atoi(argv[2]) : 0;
    if (n < 1)
        fail("openssl|first|again|resumed N");
    resumed = strcmp(argv[1], "resumed") == 0;
    bool again = resumed || strcmp(argv[1], "again") == 0;
    void (*run)(const struct party *, const struct party *) = strcmp(argv[1], "openssl") == 0 ? theirs : ours;
    if (run == ours && mesh_tls_start())
        fail("start");
    struct pki_cert root = pki_root("shop");
    struct party warm = party(&root, "URI:spiffe://shop/ns/prod/sa/web", run == ours);
    run(&warm, &warm); /* what is loaded once */
    uint64_t cost = 0;
    for (int i = 0; i < n; i++) {
        struct party fresh[2] = {{.id = NULL}, {.id = NULL}};
        const struct party *c = &warm, *s = &warm;
        if (!again) {
            fresh[0] = party(&root, "URI:spiffe://shop/ns/prod/sa/web", run == ours);
            fresh[1] = party(&root, "URI:spiffe://shop/ns/prod/sa/reviews", run == ours);
            c = &fresh[0];
            s = &fresh[1];
        }
        uint64_t start = spent();
        run(c, s);
        cost += spent() - start;
        for (int k = 0; k < 2 && !again; k++)
            party_free(&fresh[k]);
    }
    party_free(&warm);
    pki_free(&root);
    printf("handshake_ns %lu\n", (unsigned long)(cost / (uint64_t)n));
    return 0;
}
