/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "proto/inner.h"
#include "proto/pb.pb-c.h"
#include "shim/base/buf.h"

enum {
    WIRE_MAX = 64 << 20, /* bytes of one message */
    HEAP_BASE = 1 << 20, /* small messages may grow by any factor, ... */
    HEAP_FACTOR = 64, /* large ones by this: an empty message is 2 bytes on the wire and some 100 in memory */
    HEAP_MAX = 256 << 20, /* ... and none beyond this */
};

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static uint64_t take_varint(struct mesh_rbuf *b) {
    uint64_t v = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        uint8_t byte = mesh_rbuf_u8(b);
        if (shift < 64)
            v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return v;
    }
    b->broken = true;
    return 0;
}

/* Bytes of the character that begins with c, 0: none does. */
static size_t char_len(uint8_t c) {
    return c && c < 0x80           ? 1
           : c >= 0xc2 && c < 0xe0 ? 2
           : c >= 0xe0 && c < 0xf0 ? 3
           : c >= 0xf0 && c < 0xf5 ? 4
                                   : 0;
}

/* Well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF) without NUL. */
static bool is_text(const uint8_t *p, size_t n) {
    for (size_t i = 0, len; i < n; i += len) {
        uint8_t c = p[i];
        len = char_len(c);
        if (!len || len > n - i)
            return false;
        for (size_t k = 1; k < len; k++)
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
        if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xed && p[i + 1] > 0x9f) ||
            (c == 0xf0 && p[i + 1] < 0x90) || (c == 0xf4 && p[i + 1] > 0x8f))
            return false;
    }
    return true;
}

static void skip_value(struct mesh_rbuf *b, unsigned wire) {
    if (wire == VARINT)
        take_varint(b);
    else if (wire == FIXED64 || wire == FIXED32)
        mesh_rbuf_take(b, wire == FIXED64 ? 8 : 4);
    else
        b->broken = true; /* groups are of no message here */
}

struct scan {
    const ProtobufCMessageDescriptor *d;
    struct mesh_rbuf b;
};

/* One field. A message inside is put on top of the stack. */
static int scan_field(struct scan *stack, int *depth) {
    struct scan *s = &stack[*depth - 1];
    uint64_t tag = take_varint(&s->b);
    if ((tag & 7) != BYTES) {
        skip_value(&s->b, (unsigned)(tag & 7));
        return s->b.broken ? MESH_E_SYNTAX : 0;
    }
    uint64_t n = take_varint(&s->b);
    const uint8_t *p = n <= WIRE_MAX ? mesh_rbuf_take(&s->b, (size_t)n) : NULL;
    if (!p || tag >> 3 > UINT32_MAX)
        return MESH_E_SYNTAX;
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(s->d, (unsigned)(tag >> 3));
    if (!f)
        return 0;
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return is_text(p, (size_t)n) ? 0 : MESH_E_SYNTAX;
    if (f->type != PROTOBUF_C_TYPE_MESSAGE)
        return 0;
    if (*depth == MESH_UNIT_DEPTH)
        return MESH_E_LIMIT;
    stack[(*depth)++] = (struct scan){f->descriptor, mesh_rbuf_of(p, (size_t)n)};
    return 0;
}

/* protobuf-c recurses without a limit and cuts strings at NUL: both are looked at before, without recursion.
 */
static int scan(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t n) {
    struct scan stack[MESH_UNIT_DEPTH] = {{d, mesh_rbuf_of(n ? p : (const uint8_t *)"", n)}};
    int depth = 1, err = 0;
    while (depth && !err) {
        if (!mesh_rbuf_left(&stack[depth - 1].b))
            depth--;
        else
            err = scan_field(stack, &depth);
    }
    return err;
}

int mesh_proto_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t n,
                      ProtobufCMessage **ret) {
    struct mesh_heap heap;
    if (n > WIRE_MAX)
        return MESH_E_LIMIT;
    int err = scan(d, p, n);
    if (err)
        return err;
    size_t ceiling = HEAP_BASE + n * HEAP_FACTOR;
    mesh_heap_init(&heap, ceiling < HEAP_MAX ? ceiling : HEAP_MAX);
    ProtobufCMessage *m = protobuf_c_message_unpack(d, &heap.allocator, n, p);
    if (!m)
        return heap.over || heap.failed ? mesh_heap_err(&heap) : MESH_E_SYNTAX;
    *ret = m;
    return 0;
}
