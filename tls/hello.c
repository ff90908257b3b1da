/* SPDX-License-Identifier: Apache-2.0
 *
 * The first bytes of an inbound connection: plaintext, a mesh client's TLS, or the program's own (RFC
 * 8446 4.1.2).
 */
#include <string.h>
#include "shim/base/buf.h"
#include "tls/tls.h"

enum { HANDSHAKE = 22, CLIENT_HELLO = 1, EXTENSION_ALPN = 16, RECORD_MAX = 16384 };

static bool is_mesh_protocol(const uint8_t *name, size_t n) {
    static const char own[5] = MESH_ALPN;
    return n >= sizeof own && memcmp(name, own, sizeof own) == 0 &&
           (n == sizeof own || name[sizeof own] == '-');
}

static bool alpn_is_mesh(struct mesh_rbuf extension) {
    uint16_t n = mesh_rbuf_u16(&extension);
    struct mesh_rbuf list = mesh_rbuf_sub(&extension, n);
    while (mesh_rbuf_left(&list)) {
        uint8_t len = mesh_rbuf_u8(&list);
        const uint8_t *name = mesh_rbuf_take(&list, len);
        if (name && is_mesh_protocol(name, len))
            return true;
    }
    return false;
}

static bool hello_is_mesh(struct mesh_rbuf b) {
    mesh_rbuf_take(&b, 1); /* message type */
    uint32_t len = mesh_rbuf_u24(&b);
    struct mesh_rbuf hello = mesh_rbuf_sub(&b, len);
    mesh_rbuf_take(&hello, 2 + 32);                /* version, random */
    mesh_rbuf_take(&hello, mesh_rbuf_u8(&hello));  /* session id */
    mesh_rbuf_take(&hello, mesh_rbuf_u16(&hello)); /* cipher suites */
    mesh_rbuf_take(&hello, mesh_rbuf_u8(&hello));  /* compression */
    uint16_t n = mesh_rbuf_u16(&hello);
    struct mesh_rbuf extensions = mesh_rbuf_sub(&hello, n);
    while (mesh_rbuf_left(&extensions)) {
        uint16_t type = mesh_rbuf_u16(&extensions), size = mesh_rbuf_u16(&extensions);
        struct mesh_rbuf body = mesh_rbuf_sub(&extensions, size);
        if (type == EXTENSION_ALPN)
            return alpn_is_mesh(body);
    }
    return false;
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
