/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/base/buf.h"

#include <string.h>

const uint8_t *mesh_rbuf_take(struct mesh_rbuf *b, size_t n) {
    if (b->broken || n > (size_t)(b->end - b->p)) {
        b->broken = true;
        return NULL;
    }
    const uint8_t *at = b->p;
    b->p += n;
    return at;
}

static uint32_t take_number(struct mesh_rbuf *b, size_t n) {
    const uint8_t *p = mesh_rbuf_take(b, n);
    uint32_t v = 0;
    for (size_t i = 0; p && i < n; i++)
        v = v << 8 | p[i];
    return v;
}

uint8_t mesh_rbuf_u8(struct mesh_rbuf *b) {
    return (uint8_t)take_number(b, 1);
}

uint16_t mesh_rbuf_u16(struct mesh_rbuf *b) {
    return (uint16_t)take_number(b, 2);
}

uint32_t mesh_rbuf_u24(struct mesh_rbuf *b) {
    return take_number(b, 3);
}

uint32_t mesh_rbuf_u32(struct mesh_rbuf *b) {
    return take_number(b, 4);
}

struct mesh_rbuf mesh_rbuf_sub(struct mesh_rbuf *b, size_t n) {
    const uint8_t *p = mesh_rbuf_take(b, n);
    if (!p)
        return (struct mesh_rbuf){b->end, b->end, true};
    return mesh_rbuf_of(p, n);
}

void mesh_wbuf_put(struct mesh_wbuf *b, const void *src, size_t n) {
    if (b->broken || n > (size_t)(b->end - b->p)) {
        b->broken = true;
        return;
    }
    if (n == 0) /* src may be NULL then */
        return;
    memcpy(b->p, src, n);
    b->p += n;
}

static void put_number(struct mesh_wbuf *b, uint32_t v, size_t n) {
    uint8_t bytes[4];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    mesh_wbuf_put(b, bytes, n);
}

void mesh_wbuf_u8(struct mesh_wbuf *b, uint8_t v) {
    put_number(b, v, 1);
}

void mesh_wbuf_u16(struct mesh_wbuf *b, uint16_t v) {
    put_number(b, v, 2);
}

void mesh_wbuf_u24(struct mesh_wbuf *b, uint32_t v) {
    put_number(b, v, 3);
}

void mesh_wbuf_u32(struct mesh_wbuf *b, uint32_t v) {
    put_number(b, v, 4);
}
