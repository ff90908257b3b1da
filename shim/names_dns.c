// SPDX-License-Identifier: Apache-2.0
#include <string.h>
#include <strings.h>
#include "shim/base/buf.h"
#include "shim/names.h"

enum {
    LABEL_MAX = 63,
    FLAG_QR = 0x8000,
    FLAG_OPCODE = 0x7800,
    FLAG_AA = 0x0400,
    FLAG_TC = 0x0200,
    FLAG_RD = 0x0100,
    FLAG_RA = 0x0080,
    POINTER_TO_QUESTION = 0xc000 | MESH_DNS_HEADER
};

/* ---- names
 * ---------------------------------------------------------------------------------------------------- */

static bool is_name_byte(uint8_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '*';
}

static bool all_name_bytes(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!is_name_byte(p[i]))
            return false;
    return true;
}

/* A question's name is never compressed: nothing stands before it. */
static int take_name(struct mesh_rbuf *msg, struct mesh_dns_question *q) {
    struct mesh_wbuf text = mesh_wbuf_of(q->name, sizeof q->name - 1),
                     wire = mesh_wbuf_of(q->wire, sizeof q->wire);
    uint8_t n;
    bool plain = true;
    do {
        n = mesh_rbuf_u8(msg);
        const uint8_t *label = n <= LABEL_MAX ? mesh_rbuf_take(msg, n) : NULL;
        if (!label || msg->broken)
            return MESH_E_SYNTAX;
        mesh_wbuf_u8(&wire, n);
        mesh_wbuf_put(&wire, label, n);
        if (n > 0 && mesh_wbuf_len(&text) > 0)
            mesh_wbuf_u8(&text, '.');
        mesh_wbuf_put(&text, label, n);
        plain = plain && all_name_bytes(label, n);
    } while (n > 0 && !wire.broken && !text.broken);
    if (wire.broken || text.broken)
        return MESH_E_SYNTAX;
    *text.p = '\0';
    q->wire_len = (uint16_t)mesh_wbuf_len(&wire);
    return plain && q->name[0] ? 0 : MESH_E_UNSUPPORTED;
}

/* A name in text as labels; an empty one as well as one that is too long marks the buffer broken. */
static void put_name(struct mesh_wbuf *out, const char *name) {
    size_t left = strlen(name);
    left -= left > 0 && name[left - 1] == '.';
    for (size_t n; left > 0; name += n + 1, left -= n + (left > n)) {
        const char *dot = memchr(name, '.', left);
        n = dot ? (size_t)(dot - name) : left;
        if (n == 0 || n > LABEL_MAX || (dot && left == n + 1) || !all_name_bytes((const uint8_t *)name, n))
            out->broken = true;
        mesh_wbuf_u8(out, (uint8_t)n);
        mesh_wbuf_put(out, name, n);
    }
    mesh_wbuf_u8(out, 0);
}

/* ---- questions
 * ------------------------------------------------------------------------------------------------ */

int mesh_dns_question_parse(const uint8_t *msg, size_t len, struct mesh_dns_question *ret) {
    struct mesh_rbuf b = mesh_rbuf_of(msg, len);
    struct mesh_dns_question q;
    q.id = mesh_rbuf_u16(&b);
    q.flags = mesh_rbuf_u16(&b);
    uint16_t questions = mesh_rbuf_u16(&b), answers = mesh_rbuf_u16(&b);
    mesh_rbuf_take(&b, 4); /* authority and additional records: EDNS at most */
    if (b.broken)
        return MESH_E_SYNTAX;
    if (q.flags & (FLAG_QR | FLAG_OPCODE) || questions != 1 || answers != 0)
        return MESH_E_UNSUPPORTED;
    int rc = take_name(&b, &q);
    if (rc != 0)
        return rc;
    q.type = mesh_rbuf_u16(&b);
    q.class = mesh_rbuf_u16(&b);
    if (b.broken)
        return MESH_E_SYNTAX;
    *ret = q;
    return 0;
}

int mesh_dns_question_of(const char *name, uint16_t type, uint16_t class, struct mesh_dns_question *ret) {
    struct mesh_dns_question q = {.flags = FLAG_RD, .type = type, .class = class};
    struct mesh_wbuf wire = mesh_wbuf_of(q.wire, sizeof q.wire);
    size_t n = strnlen(name, MESH_NAME_MAX + 2);
    n -= n > 0 && name[n - 1] == '.';
    if (n == 0 || n > MESH_NAME_MAX)
        return MESH_E_UNSUPPORTED;
    put_name(&wire, name);
    if (wire.broken)
        return MESH_E_UNSUPPORTED;
    memcpy(q.name, name, n);
    q.wire_len = (uint16_t)mesh_wbuf_len(&wire);
    *ret = q;
    return 0;
}

/* ---- reverse names
 * -------------------------------------------------------------------------------------------- */

static bool ends_in(const char *name, size_t len, const char *suffix) {
    size_t n = strlen(suffix);
    return len > n && strncasecmp(name + len - n, suffix, n) == 0;
}

/* Decimal bytes, last first, without leading zeros. */
static bool reverse4(const char *p, const char *end, uint8_t addr[4]) {
    for (int i = 3; i >= 0; i--) {
        unsigned n = 0, digits = 0;
        for (; p < end && *p >= '0' && *p <= '9' && digits < 3; p++, digits++)
            n = n * 10 + (unsigned)(*p - '0');
        if (digits == 0 || n > 255 || (i > 0 && (p == end || *p++ != '.')))
            return false;
        addr[i] = (uint8_t)n;
    }
    return p == end;
}

static int hex(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool reverse6(const char *p, const char *end, uint8_t addr[16]) {
    if (end - p != 63)
        return false;
    for (int i = 0; i < 32; i++) {
        int digit = hex(p[2 * i]);
        if (digit < 0 || (i < 31 && p[2 * i + 1] != '.'))
            return false;
        uint8_t *byte = &addr[15 - i / 2];
        *byte = (uint8_t)(i % 2 ? *byte | digit << 4 : digit);
    }
    return true;
}

int mesh_dns_reverse_parse(const char *name, uint8_t ret_addr[16]) {
    static const char arpa4[] = ".in-addr.arpa", arpa6[] = ".ip6.arpa";
    size_t len = strnlen(name, MESH_NAME_MAX + 2);
    len -= len > 0 && name[len - 1] == '.';
    if (ends_in(name, len, arpa4) && reverse4(name, name + len - (sizeof arpa4 - 1), ret_addr))
        return 4;
    if (ends_in(name, len, arpa6) && reverse6(name, name + len - (sizeof arpa6 - 1), ret_addr))
        return 6;
    return 0;
}

/* ---- answers
 * -------------------------------------------------------------------------------------------------- */

static bool begin_record(struct mesh_wbuf *b, uint16_t type) {
    mesh_wbuf_u16(b, POINTER_TO_QUESTION);
    mesh_wbuf_u16(b, type);
    mesh_wbuf_u16(b, MESH_DNS_IN);
    mesh_wbuf_u32(b, MESH_DNS_TTL);
    return !b->broken;
}

/* Takes back a record that did not fit; false then. */
static bool whole(struct mesh_wbuf *b, uint8_t *start) {
    if (!b->broken)
        return true;
    b->p = start;
    b->broken = false;
    return false;
}

static bool put_addr(struct mesh_wbuf *b, uint8_t family, const uint8_t *addr) {
    uint8_t *start = b->p;
    uint16_t n = family == 4 ? 4 : 16;
    begin_record(b, family == 4 ? MESH_DNS_A : MESH_DNS_AAAA);
    mesh_wbuf_u16(b, n);
    mesh_wbuf_put(b, addr, n);
    return whole(b, start);
}

static bool put_ptr(struct mesh_wbuf *b, const char *name) {
    uint8_t *start = b->p, wire[MESH_NAME_MAX];
    struct mesh_wbuf encoded = mesh_wbuf_of(wire, sizeof wire);
    put_name(&encoded, name);
    if (encoded.broken)
        return true; /* no name that DNS could carry: no record, but nothing was cut either */
    begin_record(b, MESH_DNS_PTR);
    mesh_wbuf_u16(b, (uint16_t)mesh_wbuf_len(&encoded));
    mesh_wbuf_put(b, wire, mesh_wbuf_len(&encoded));
    return whole(b, start);
}

static bool wanted(uint16_t type, uint8_t family) {
    return type == MESH_DNS_ANY || type == (family == 4 ? MESH_DNS_A : MESH_DNS_AAAA);
}

static void put_header(struct mesh_wbuf *b, const struct mesh_dns_question *q, unsigned flags,
                       unsigned answers) {
    mesh_wbuf_u16(b, q->id);
    mesh_wbuf_u16(b, (uint16_t)(FLAG_QR | FLAG_AA | FLAG_RA | (q->flags & FLAG_RD) | flags));
    mesh_wbuf_u16(b, 1);
    mesh_wbuf_u16(b, (uint16_t)answers);
    mesh_wbuf_u32(b, 0);
}

int mesh_dns_answer_build(const struct mesh_dns_question *q, int rcode, const struct mesh_names_addrs *addrs,
                          const char *ptr, uint8_t *buf, size_t len, unsigned *ret_count) {
    struct mesh_wbuf b = mesh_wbuf_of(buf, len < UINT16_MAX ? len : UINT16_MAX);
    unsigned count = 0;
    bool fits = true;
    put_header(&b, q, (unsigned)rcode, 0);
    mesh_wbuf_put(&b, q->wire, q->wire_len);
    mesh_wbuf_u16(&b, q->type);
    mesh_wbuf_u16(&b, q->class);
    if (b.broken)
        return MESH_E_LIMIT;
    for (unsigned i = 0; addrs && fits && i < addrs->n; i++)
        if (wanted(q->type, addrs->a[i].family) &&
            (fits = put_addr(&b, addrs->a[i].family, addrs->a[i].addr)))
            count++;
    uint8_t *before = b.p;
    if (ptr && (q->type == MESH_DNS_PTR || q->type == MESH_DNS_ANY))
        fits = put_ptr(&b, ptr);
    count += b.p > before;
    struct mesh_wbuf head = mesh_wbuf_of(buf, MESH_DNS_HEADER);
    put_header(&head, q, (unsigned)rcode | (fits ? 0 : FLAG_TC), count);
    *ret_count = count;
    return (int)mesh_wbuf_len(&b);
}
