/* SPDX-License-Identifier: Apache-2.0
 *
 * A handshake with damaged or invented records. The first byte chooses the side and version; then come steps
 * of (what, where high, where low, mask): the peer of the same program answers honestly, and `what` says
 * whether its next record is passed on, changed at `where`, cut, doubled, or replaced by bytes of the input.
 * No end may come out with a name that the other does not bear.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tests/unit/tls/pki.h"

static struct mesh_identity *web, *reviews;
static int64_t wall;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    struct pki_cert root = pki_root("root");
    web = pki_workload(&root, "spiffe://shop/web");
    reviews = pki_workload(&root, "spiffe://shop/reviews");
    pki_free(&root);
    wall = time(NULL);
    return 0;
}

struct stream {
    uint8_t bytes[1 << 16];
    size_t n;
};

static void collect(struct mesh_handshake *hs, struct stream *s) {
    const uint8_t *p;
    size_t n = mesh_handshake_out(hs, &p);
    if (n > sizeof s->bytes - s->n)
        n = sizeof s->bytes - s->n;
    if (n)
        memcpy(s->bytes + s->n, p, n);
    s->n += n;
    mesh_handshake_sent(hs, n);
}

static int feed_exact(struct mesh_handshake *hs, const uint8_t *p, size_t n) {
    struct mesh_why why;
    uint8_t *exact = malloc(n + !n);
    memcpy(exact, p, n);
    int err = mesh_handshake_step(hs, exact, n, &why);
    free(exact);
    return err;
}

static int deliver(struct mesh_handshake *to, struct stream *s, const uint8_t **io_data, size_t *io_size) {
    size_t len = s->n < 5 ? 0 : 5 + ((size_t)s->bytes[3] << 8 | s->bytes[4]);
    if (len == 0 || len > s->n)
        return MESH_E_AGAIN;
    uint8_t record[5 + 65535];
    size_t n = len;
    memcpy(record, s->bytes, len);
    memmove(s->bytes, s->bytes + len, s->n - len);
    s->n -= len;
    const uint8_t *d = *io_data;
    if (*io_size >= 4) {
        size_t where = ((size_t)d[1] << 8 | d[2]) % len;
        *io_data += 4;
        *io_size -= 4;
        if (d[0] % 5 == 1)
            record[where] ^= d[3];
        else if (d[0] % 5 == 2)
            n = where;
        else if (d[0] % 5 == 3)
            (void)feed_exact(to, record, len);
        else if (d[0] % 5 == 4 && *io_size >= d[3]) {
            memcpy(record + (where < 5 ? 5 : where), *io_data, d[3]);
            *io_data += d[3];
            *io_size -= d[3];
        }
    }
    return feed_exact(to, record, n);
}

static void check(struct mesh_handshake *hs, const char *name) {
    struct mesh_record rx, tx;
    struct mesh_peer peer;
    if (mesh_handshake_finish(hs, &rx, &tx, &peer) == 0 && strcmp(peer.spiffe, name) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct stream to_server, to_client;
    struct mesh_handshake *c = NULL, *s = NULL;
    struct mesh_why why;
    if (size < 1)
        return 0;
    struct mesh_handshake_config cc = {
        .identity = web, .sni = "x", .wall = wall, .max_version = data[0] & 1 ? 0x0303 : 0};
    struct mesh_handshake_config sc = {
        .server = true, .identity = reviews, .wall = wall, .no_client_cert = data[0] & 2};
    if (mesh_handshake_new(&cc, &c) != 0 || mesh_handshake_new(&sc, &s) != 0)
        abort();
    data++;
    size--;
    to_server.n = to_client.n = 0;
    int ce = mesh_handshake_step(c, NULL, 0, &why), se = MESH_E_AGAIN;
    for (int i = 0; i < 24; i++) {
        collect(c, &to_server);
        if (se == MESH_E_AGAIN)
            se = deliver(s, &to_server, &data, &size);
        collect(s, &to_client);
        if (ce == MESH_E_AGAIN)
            ce = deliver(c, &to_client, &data, &size);
    }
    check(c, "spiffe://shop/reviews");
    check(s, "spiffe://shop/web");
    mesh_handshake_ticket(c, to_client.bytes, to_client.n);
    mesh_handshake_free(c);
    mesh_handshake_free(s);
    return 0;
}
