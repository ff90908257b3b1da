/* SPDX-License-Identifier: Apache-2.0
 *
 * The first bytes of an inbound connection: plaintext, a mesh client's TLS, or the program's own (RFC
 * 8446 4.1.2).
 */
#include <string.h>
#include "shim/base/buf.h"
#include "tls/tls.h"

enum { HANDSHAKE = 22, CLIENT_HELLO = 1, EXTENSION_SERVER_NAME = 0, EXTENSION_ALPN = 16, RECORD_MAX = 16384 };

static bool is_mesh_protocol(const uint8_t *name, size_t n) {
    static const char own[5] = MESH_ALPN;
    return n >= sizeof own && memcmp(name, own, sizeof own) == 0 &&
           (n == sizeof own || name[sizeof own] == '-');
}

static bool alpn_is_mesh(const struct mesh_hello *h) {
    struct mesh_rbuf list = mesh_rbuf_of(h->alpn, h->alpn_len);
    while (h->alpn && mesh_rbuf_left(&list)) {
        uint8_t len = mesh_rbuf_u8(&list);
        const uint8_t *name = mesh_rbuf_take(&list, len);
        if (name && is_mesh_protocol(name, len))
            return true;
    }
    return false;
}

static void read_alpn(struct mesh_rbuf body, struct mesh_hello *ret) {
    uint16_t n = mesh_rbuf_u16(&body);
    ret->alpn = mesh_rbuf_take(&body, n);
    ret->alpn_len = ret->alpn ? n : 0;
}

/* The first host name of the list. */
static void read_server_name(struct mesh_rbuf body, struct mesh_hello *ret) {
    mesh_rbuf_take(&body, 2); /* length of the list */
    uint8_t type = mesh_rbuf_u8(&body);
    uint16_t n = mesh_rbuf_u16(&body);
    ret->sni = type == 0 ? mesh_rbuf_take(&body, n) : NULL;
    ret->sni_len = ret->sni ? n : 0;
}

/* `b`: the body of the first record. False: the message is not whole in it. */
static bool read_hello(struct mesh_rbuf b, struct mesh_hello *ret) {
    memset(ret, 0, sizeof *ret);
    mesh_rbuf_take(&b, 1); /* message type */
    uint32_t len = mesh_rbuf_u24(&b);
    struct mesh_rbuf hello = mesh_rbuf_sub(&b, len);
    mesh_rbuf_take(&hello, 2 + 32);                /* version, random */
    mesh_rbuf_take(&hello, mesh_rbuf_u8(&hello));  /* session id */
    mesh_rbuf_take(&hello, mesh_rbuf_u16(&hello)); /* cipher suites */
    mesh_rbuf_take(&hello, mesh_rbuf_u8(&hello));  /* compression */
    uint16_t n = mesh_rbuf_left(&hello) ? mesh_rbuf_u16(&hello) : 0;
    struct mesh_rbuf extensions = mesh_rbuf_sub(&hello, n);
    while (mesh_rbuf_left(&extensions)) {
        uint16_t type = mesh_rbuf_u16(&extensions), size = mesh_rbuf_u16(&extensions);
        struct mesh_rbuf body = mesh_rbuf_sub(&extensions, size);
        if (type == EXTENSION_ALPN)
            read_alpn(body, ret);
        else if (type == EXTENSION_SERVER_NAME)
            read_server_name(body, ret);
    }
    return !b.broken && !hello.broken && !extensions.broken;
}

bool mesh_hello_read(const uint8_t *p, size_t n, struct mesh_hello *ret) {
    size_t len = n >= 6 && p[0] == HANDSHAKE && p[5] == CLIENT_HELLO ? (size_t)p[3] << 8 | p[4] : 0;
    memset(ret, 0, sizeof *ret);
    return len && n - 5 >= len && read_hello(mesh_rbuf_of(p + 5, len), ret);
}

static bool hello_is_mesh(struct mesh_rbuf b) {
    struct mesh_hello h;
    (void)read_hello(b, &h);
    return alpn_is_mesh(&h);
}

enum mesh_first mesh_first_bytes(const uint8_t *p, size_t n) {
    if ((n > 0 && p[0] != HANDSHAKE) || (n > 1 && p[1] != 3) || (n > 2 && p[2] > 4))
        return MESH_FIRST_PLAIN;
    if (n < 5)
        return MESH_FIRST_MORE;
    size_t len = (size_t)p[3] << 8 | p[4];
    if (len < 4 || len > RECORD_MAX || (n > 5 && p[5] != CLIENT_HELLO))
        return MESH_FIRST_PLAIN;
    if (n - 5 < len)
        return MESH_FIRST_MORE;
    return hello_is_mesh(mesh_rbuf_of(p + 5, len)) ? MESH_FIRST_TLS_MESH : MESH_FIRST_TLS_OTHER;
}
