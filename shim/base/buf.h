/* SPDX-License-Identifier: Apache-2.0
 *
 * The bounded buffer: all parsing of wire, DNS or file bytes, and all building of them, goes through it. A
 * reader or writer never passes its end: the operation fails, the buffer is marked broken, and every later
 * operation fails too, so a caller may check once at the end. Owns nothing; no heap. Threads: one at a time.
 */
#ifndef MESH_BASE_BUF_H
#define MESH_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mesh_rbuf {
    const uint8_t *p, *end;
    bool broken; /* an operation asked for more than there was */
};

static inline struct mesh_rbuf mesh_rbuf_of(const void *p, size_t n) {
    return (struct mesh_rbuf){(const uint8_t *)p, n ? (const uint8_t *)p + n : (const uint8_t *)p, false};
}
static inline size_t mesh_rbuf_left(const struct mesh_rbuf *b) {
    return b->broken ? 0 : (size_t)(b->end - b->p);
}
/* Returns the next n bytes and steps over them, or NULL (and marks the buffer broken). */
const uint8_t *mesh_rbuf_take(struct mesh_rbuf *b, size_t n);
/* Big-endian integers; 0 when there are not enough bytes. */
uint8_t mesh_rbuf_u8(struct mesh_rbuf *b);
uint16_t mesh_rbuf_u16(struct mesh_rbuf *b);
uint32_t mesh_rbuf_u24(struct mesh_rbuf *b);
uint32_t mesh_rbuf_u32(struct mesh_rbuf *b);
/* A window of n bytes as a reader of its own; an empty broken one when there are not enough. */
struct mesh_rbuf mesh_rbuf_sub(struct mesh_rbuf *b, size_t n);

struct mesh_wbuf {
    uint8_t *base, *p, *end;
    bool broken; /* something did not fit; what was written before stays valid */
};

static inline struct mesh_wbuf mesh_wbuf_of(void *p, size_t n) {
    return (struct mesh_wbuf){(uint8_t *)p, (uint8_t *)p, n ? (uint8_t *)p + n : (uint8_t *)p, false};
}
static inline size_t mesh_wbuf_len(const struct mesh_wbuf *b) {
    return (size_t)(b->p - b->base);
}
void mesh_wbuf_put(struct mesh_wbuf *b, const void *src, size_t n);
void mesh_wbuf_u8(struct mesh_wbuf *b, uint8_t v);
void mesh_wbuf_u16(struct mesh_wbuf *b, uint16_t v);
void mesh_wbuf_u24(struct mesh_wbuf *b, uint32_t v);
void mesh_wbuf_u32(struct mesh_wbuf *b, uint32_t v);

#endif
