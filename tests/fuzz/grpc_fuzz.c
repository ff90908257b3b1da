/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as what a server says, in pieces: input is [size of the pieces] [bytes]. What is told keeps to
 * the header: one end, nothing behind it; and the reader of messages agrees with itself however its bytes are
 * cut.
 */
#include <stdlib.h>
#include <string.h>
#include "resolver/grpc.h"
#include "shim/base/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds)
        abort();
}

struct told {
    struct mesh_grpc *g;
    int ready, closed;
};

static void on_ready(void *arg) {
    struct told *t = arg;
    must(!t->ready++ && !t->closed);
    must(mesh_grpc_send(t->g, (const uint8_t *)"request", 7) == 0);
}

static void on_message(void *arg, const uint8_t *p, size_t n) {
    struct told *t = arg;
    must(t->ready && !t->closed && n <= MESH_GRPC_MESSAGE_MAX);
    int err = mesh_grpc_send(t->g, p, n < 100 ? n : 100);
    must(err == 0 || err == MESH_E_AGAIN);
}

static void on_closed(void *arg, int status, const char *why) {
    struct told *t = arg;
    must(!t->closed++ && status >= 0 && status <= 16 && *why);
}

static void drain(struct mesh_grpc *g) {
    const uint8_t *p;
    for (size_t n; (n = mesh_grpc_out(g, &p));)
        mesh_grpc_sent(g, n > 100 ? 100 : n);
}

static void whole_stream(const uint8_t *data, size_t size, size_t cut) {
    static const struct mesh_grpc_events events = {on_ready, on_message, on_closed};
    struct told t = {0};
    struct mesh_grpc_config cfg = {
        .path = "/s/M", .authority = "a", .keepalive = MESH_SEC, .events = &events, .arg = &t};
    uint64_t now = MESH_SEC;
    must(mesh_grpc_new(&cfg, now, &t.g) == 0);
    for (size_t i = 0; i < size; i += cut) {
        mesh_grpc_feed(t.g, data + i, size - i < cut ? size - i : cut, now);
        drain(t.g);
    }
    mesh_grpc_tick(t.g, now + MESH_SEC);
    drain(t.g);
    mesh_grpc_tick(t.g, now + 30 * MESH_SEC);
    must(t.closed == 1); /* nobody has answered the ping */
    must(mesh_grpc_send(t.g, NULL, 0) == MESH_E_AGAIN);
    mesh_grpc_free(t.g);
}

/* Messages seen, and a sum of their bytes, of a stream cut in pieces. */
static uint64_t messages(const uint8_t *p, size_t n, size_t cut) {
    struct mesh_grpc_reader r = {0};
    uint64_t sum = 0;
    for (size_t i = 0; i < n;) {
        bool whole;
        size_t piece = n - i < cut ? n - i : cut;
        int took = mesh_grpc_reader_feed(&r, p + i, piece, &whole);
        if (took < 0) {
            sum = sum * 31 + (uint64_t)-took;
            break;
        }
        must((size_t)took <= piece && (took || whole));
        must(r.cap <= 2 * n + (32 << 10));
        i += (size_t)took;
        if (whole) {
            for (size_t k = 0; k < r.have; k++)
                sum = sum * 31 + r.bytes[k];
            sum = sum * 31 + 7;
            mesh_grpc_reader_next(&r);
        }
    }
    mesh_grpc_reader_done(&r);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char text[64];
    if (!size)
        return 0;
    size_t cut = data[0] ? data[0] : size;
    whole_stream(data + 1, size - 1, cut);
    must(messages(data + 1, size - 1, cut) == messages(data + 1, size - 1, size));
    mesh_grpc_message_decode(data, size, text, sizeof text);
    must(strlen(text) < sizeof text);
    (void)mesh_grpc_status_parse(data, size);
    return 0;
}
