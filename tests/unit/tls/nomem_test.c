/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that runs out at any of the library's allocations is an ordinary error, and the next try succeeds.
 */
#include "tests/unit/tls/pair.h"

static long left = -1; /* allocations that still succeed; -1: all */
static long asked;
static bool only_one; /* and then memory is back, so that a step that goes on unaware is found out */

static bool denied(void) {
    asked++;
    if (left < 0)
        return false;
    if (left > 0) {
        left--;
        return false;
    }
    if (only_one)
        left = -1;
    return true;
}

static void *test_malloc(size_t n, const char *file, int line) {
    (void)file, (void)line;
    return n == 0 || denied() ? NULL : malloc(n);
}

static void *test_realloc(void *p, size_t n, const char *file, int line) {
    (void)file, (void)line;
    return denied() ? NULL : realloc(p, n);
}

static void test_free(void *p, const char *file, int line) {
    (void)file, (void)line;
    free(p);
}

/* Before anybody allocates: the runner's own libraries may find our libcrypto's symbols. */
static void hooks_set(void) {
    (void)CRYPTO_set_mem_functions(test_malloc, test_realloc, test_free);
}
__attribute__((section(".preinit_array"), used)) static void (*const hooks_set_early)(void) = hooks_set;

static struct mesh_identity *web, *reviews;
static struct mesh_pem pem;

static void setup(void) {
    cr_assert_eq(mesh_tls_start(), 0);
    struct pki_cert root = pki_root("root"),
                    leaf = pki_make(&root, "x", (struct pki_spec){.san = "URI:spiffe://shop/x"});
    web = pki_workload(&root, "spiffe://shop/web");
    reviews = pki_workload(&root, "spiffe://shop/reviews");
    pem.cert = pki_chain_pem(&leaf);
    pem.key = pki_key_pem(&leaf);
    pem.ca = pki_cert_pem(&root);
    pem.cert_len = strlen(pem.cert);
    pem.key_len = strlen(pem.key);
    pem.ca_len = strlen(pem.ca);
    pki_free(&leaf);
    pki_free(&root);
}

TestSuite(nomem, .init = setup, .timeout = 120);

static int identity_once(void) {
    struct mesh_identity *id;
    struct mesh_why why;
    int err = mesh_identity_new(&pem, time(NULL), &id, &why);
    if (!err)
        mesh_identity_unref(id);
    return err;
}

static struct mesh_handshake_config config[2];

static int ends_once(struct pair *p) {
    struct wire *wires[2] = {&p->to_server, &p->to_client};
    struct end *ends[2] = {&p->client, &p->server};
    for (int i = 0; i < 2; i++) {
        ends[i]->err = mesh_handshake_new(&config[i], &ends[i]->hs);
        if (ends[i]->err)
            return ends[i]->err;
        ends[i]->err = i ? MESH_E_AGAIN : mesh_handshake_step(ends[i]->hs, NULL, 0, &ends[i]->why);
    }
    for (int i = 0; i < 8; i++) {
        end_take_out(ends[i % 2], wires[i % 2]);
        end_feed(ends[1 - i % 2], wires[i % 2]);
    }
    for (int i = 0; i < 2; i++) {
        int err = ends[i]->err
                      ? ends[i]->err
                      : mesh_handshake_finish(ends[i]->hs, &ends[i]->rx, &ends[i]->tx, &ends[i]->peer);
        if (err)
            return err;
    }
    const uint8_t *ticket;
    size_t n = mesh_handshake_tickets(p->server.hs, &ticket);
    mesh_handshake_ticket(p->client.hs, ticket, n);
    uint8_t wire[64], text[64], type;
    int len =
        mesh_record_seal(&p->client.tx, &p->client.tx_aead, 1, MESH_REC_DATA, "x", 1, wire, sizeof wire);
    if (len >= 0)
        len = mesh_record_open(&p->server.rx, &p->server.rx_aead, 1, wire, (size_t)len, text, sizeof text,
                               &type);
    return len < 0 ? len : 0;
}

static int handshake_once(void) {
    static struct pair p;
    memset(&p, 0, sizeof p);
    int err = ends_once(&p);
    if (p.client.hs)
        end_free(&p.client);
    if (p.server.hs)
        end_free(&p.server);
    return err;
}

static void expect_survived(int (*once)(void), long stride) {
    for (int i = 0; i < 3; i++) /* what is kept from the first time on */
        cr_assert_eq(once(), 0);
    asked = 0;
    cr_assert_eq(once(), 0);
    long total = asked, refused = 0;
    cr_assert_gt(total, 100);
    for (int mode = 0; mode < 2; mode++) {
        only_one = mode;
        for (long k = 0; k < total; k += k < 200 ? 1 : stride) {
            left = k;
            refused += once() != 0;
            left = -1;
            cr_assert_eq(once(), 0, "after failing from allocation %ld", k);
        }
    }
    cr_assert_gt(refused, 200);
}

Test(nomem, an_identity_survives_it_anywhere) {
    expect_survived(identity_once, 61);
}

Test(nomem, a_handshake_survives_it_anywhere_in_both_versions) {
    config[0] = client_config(web);
    config[1] = server_config(reviews);
    config[0].ticket_key = "k";
    expect_survived(handshake_once, 41);
    config[0].max_version = 0x0303;
    expect_survived(handshake_once, 41);
}
