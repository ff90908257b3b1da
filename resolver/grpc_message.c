/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "resolver/grpc.h"
#include "shim/base/buf.h"

enum {
    FIRST = 16 << 10,
    KEPT_MAX = 1 << 20, /* a larger buffer is given back once its message is done */
};

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static int read_prefix(struct mesh_grpc_reader *r) {
    struct mesh_rbuf b = mesh_rbuf_of(r->prefix, sizeof r->prefix);
    if (mesh_rbuf_u8(&b) != 0)
        return MESH_E_PROTOCOL;
    uint32_t want = mesh_rbuf_u32(&b);
    if (want > MESH_GRPC_MESSAGE_MAX)
        return MESH_E_LIMIT;
    r->want = want;
    return 0;
}

/* Room for n bytes more: doubled, so that what is held is at most twice what has come. */
static int grow(struct mesh_grpc_reader *r, size_t n) {
    if (n <= r->cap - r->have)
        return 0;
    size_t cap = r->cap ? r->cap : least(r->want, FIRST);
    while (cap < r->have + n)
        cap *= 2;
    cap = least(cap, r->want);
    uint8_t *more = realloc(r->bytes, cap);
    if (!more)
        return MESH_E_NOMEM;
    r->bytes = more;
    r->cap = cap;
    return 0;
}

int mesh_grpc_reader_feed(struct mesh_grpc_reader *r, const uint8_t *p, size_t n, bool *ret_whole) {
    size_t head = least(n, sizeof r->prefix - r->have_prefix);
    if (head) {
        memcpy(r->prefix + r->have_prefix, p, head);
        r->have_prefix += (uint8_t)head;
        int err = r->have_prefix == sizeof r->prefix ? read_prefix(r) : 0;
        if (err)
            return err;
    }
    *ret_whole = false;
    if (r->have_prefix < sizeof r->prefix)
        return (int)head;
    size_t body = least(n - head, r->want - r->have);
    if (body && grow(r, body) != 0)
        return MESH_E_NOMEM;
    if (body)
        memcpy(r->bytes + r->have, p + head, body);
    r->have += body;
    *ret_whole = r->have == r->want;
    return (int)(head + body);
}

void mesh_grpc_reader_next(struct mesh_grpc_reader *r) {
    if (r->cap > KEPT_MAX)
        mesh_grpc_reader_done(r);
    r->have_prefix = 0;
    r->want = 0;
    r->have = 0;
}

bool mesh_grpc_reader_is_inside(const struct mesh_grpc_reader *r) {
    return r->have_prefix > 0;
}

void mesh_grpc_reader_done(struct mesh_grpc_reader *r) {
    free(r->bytes);
    r->bytes = NULL;
    r->cap = 0;
}
