/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <string.h>

#include "proto/inner.h"
#include "proto/scan.h"
#include "shim/base/mem.h"

enum { TAG_BYTES = 5, LENGTH_BYTES = 5, VARINT_BYTES = 10 }; /* as many as protobuf-c takes */

/* ---- text -------------------------------------------------------------------------------------------------
 * Bytes of the character that begins with c, 0: none does. */
static size_t char_len(uint8_t c) {
    return c && c < 0x80           ? 1
           : c >= 0xc2 && c < 0xe0 ? 2
           : c >= 0xe0 && c < 0xf0 ? 3
           : c >= 0xf0 && c < 0xf5 ? 4
                                   : 0;
}

static bool is_plain(const uint8_t *p) {
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    uint64_t w;
    memcpy(&w, p, sizeof(w));
    return !((w | (w - ones)) & tops);
}

/* The bytes before the first word that holds a NUL or something beyond ASCII; the last word may overlap the
 * one before. */
static size_t plain_len(const uint8_t *p, size_t n) {
    size_t i = 0;
    while (i + 8 <= n && is_plain(p + i))
        i += 8;
    return n >= 8 && i + 8 > n && is_plain(p + n - 8) ? n : i;
}

bool mesh_text_sound(const uint8_t *p, size_t n) {
    for (size_t i = plain_len(p, n), len; i < n; i += len) {
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

/* ---- fields -----------------------------------------------------------------------------------------------
 */
static bool take_long_varint(struct mesh_scan *s, int bytes, uint64_t *ret) {
    uint64_t v = 0;
    for (int shift = 0; bytes > 0 && s->p < s->end; bytes--, shift += 7) {
        uint8_t byte = *s->p++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = v;
            return true;
        }
    }
    return false;
}

/* Most are one byte: tags, lengths, enums. */
static inline bool take_varint(struct mesh_scan *s, int bytes, uint64_t *ret) {
    if (mesh_unlikely(s->p == s->end || *s->p & 0x80))
        return take_long_varint(s, bytes, ret);
    *ret = *s->p++;
    return true;
}

static bool take_fixed(struct mesh_scan *s, int bytes, uint64_t *ret) {
    *ret = 0;
    if (s->end - s->p < bytes)
        return false;
    for (int i = 0; i < bytes; i++)
        *ret |= (uint64_t)s->p[i] << (8 * i);
    s->p += bytes;
    return true;
}

static bool take_bytes(struct mesh_scan *s, struct mesh_bytes *ret) {
    uint64_t n;
    if (!take_varint(s, LENGTH_BYTES, &n) || n > INT_MAX || n > (size_t)(s->end - s->p))
        return false;
    *ret = (struct mesh_bytes){s->p, (size_t)n};
    s->p += n;
    return true;
}

static bool take_fixed_value(struct mesh_scan *s, struct mesh_field *ret) {
    ret->bytes = (struct mesh_bytes){NULL, 0};
    switch (ret->wire) {
    case MESH_WIRE_FIXED64:
        return take_fixed(s, 8, &ret->value);
    case MESH_WIRE_FIXED32:
        return take_fixed(s, 4, &ret->value);
    default: /* groups are of no message here */
        return false;
    }
}

int mesh_scan_next(struct mesh_scan *s, struct mesh_field *ret) {
    uint64_t tag;
    bool whole;
    if (s->p == s->end)
        return 0;
    if (!take_varint(s, TAG_BYTES, &tag) || !(uint32_t)(tag >> 3))
        return MESH_E_SYNTAX;
    ret->number = (uint32_t)(tag >> 3);
    ret->wire = tag & 7;
    if (ret->wire == MESH_WIRE_BYTES) {
        ret->value = 0;
        whole = take_bytes(s, &ret->bytes);
    } else if (ret->wire == MESH_WIRE_VARINT) {
        ret->bytes = (struct mesh_bytes){NULL, 0};
        whole = take_varint(s, VARINT_BYTES, &ret->value);
    } else {
        whole = take_fixed_value(s, ret);
    }
    return whole ? 1 : MESH_E_SYNTAX;
}

/* ---- whole messages by their descriptors ------------------------------------------------------------------
 */
static uint8_t wire_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return MESH_WIRE_BYTES;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return MESH_WIRE_FIXED32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return MESH_WIRE_FIXED64;
    default:
        return MESH_WIRE_VARINT;
    }
}

int mesh_scan_fits(const ProtobufCFieldDescriptor *d, const struct mesh_field *f) {
    uint8_t wire = wire_of(d->type);
    bool packed = mesh_field_repeated(d) && wire != MESH_WIRE_BYTES && f->wire == MESH_WIRE_BYTES;
    if (wire != f->wire && !packed)
        return MESH_E_SYNTAX;
    return d->type != PROTOBUF_C_TYPE_STRING || mesh_text_sound(f->bytes.p, f->bytes.n) ? 0 : MESH_E_SYNTAX;
}

/* Most messages number their fields without a gap. */
const ProtobufCFieldDescriptor *mesh_scan_find(const ProtobufCMessageDescriptor *d, uint32_t number) {
    if (number && number <= d->n_fields && d->fields[number - 1].id == number)
        return &d->fields[number - 1];
    return protobuf_c_message_descriptor_get_field(d, number);
}

int mesh_scan_known(struct mesh_scan *s, const ProtobufCMessageDescriptor *d, struct mesh_field *ret) {
    int rc = mesh_scan_next(s, ret);
    if (rc <= 0)
        return rc;
    const ProtobufCFieldDescriptor *f = mesh_scan_find(d, ret->number);
    ret->number = f ? ret->number : 0;
    rc = f ? mesh_scan_fits(f, ret) : 0;
    return rc ? rc : 1;
}

struct open_message {
    const ProtobufCMessageDescriptor *d;
    struct mesh_scan s;
};

/* One field. A message inside is put on top of the stack. */
static int skim_field(struct open_message *stack, int *depth, int limit) {
    struct open_message *m = &stack[*depth - 1];
    struct mesh_field f;
    int rc = mesh_scan_next(&m->s, &f);
    if (rc <= 0) {
        --*depth;
        return rc;
    }
    const ProtobufCFieldDescriptor *d = mesh_scan_find(m->d, f.number);
    rc = d ? mesh_scan_fits(d, &f) : 0;
    if (rc || !d || d->type != PROTOBUF_C_TYPE_MESSAGE)
        return rc;
    if (*depth == limit)
        return MESH_E_LIMIT;
    stack[(*depth)++] = (struct open_message){d->descriptor, mesh_scan_of(f.bytes)};
    return 0;
}

int mesh_scan_skim(const ProtobufCMessageDescriptor *d, struct mesh_bytes b, int limit) {
    struct open_message stack[MESH_UNIT_DEPTH];
    int depth = 1, rc = 0;
    stack[0] = (struct open_message){d, mesh_scan_of(b)};
    while (depth && !rc)
        rc = skim_field(stack, &depth, limit);
    return rc;
}
