/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of resources: whose they are, and how a template makes them (gRFC A47, RFC 3986 3.3).
 */
#include <string.h>
#include "resolver/bootstrap.h"
#include "shim/base/buf.h"

static const char scheme[] = "xdstp:";

static bool is_xdstp(const char *name) {
    return strncmp(name, scheme, sizeof scheme - 1) == 0;
}

static int unhex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Is the percent-encoded text this name? */
static bool is_name(const char *p, const char *end, const char *name) {
    for (; p < end; name++) {
        char c = *p++;
        if (c == '%' && end - p >= 2 && unhex(p[0]) >= 0 && unhex(p[1]) >= 0) {
            c = (char)(unhex(p[0]) << 4 | unhex(p[1]));
            p += 2;
        }
        if (c != *name || !c)
            return false;
    }
    return !*name;
}

int mesh_bootstrap_authority(const struct mesh_bootstrap *b, const char *resource,
                             const struct mesh_xds_authority **ret_authority) {
    if (!is_xdstp(resource)) {
        *ret_authority = NULL;
        return 0;
    }
    const char *rest = resource + sizeof scheme - 1;
    const char *name = strncmp(rest, "//", 2) == 0 ? rest + 2 : rest; /* xdstp:/TYPE/ID: no authority */
    const char *end = name == rest ? rest : name + strcspn(name, "/?#");
    for (uint32_t i = 0; i < b->nauthorities; i++)
        if (is_name(name, end, b->authorities[i].name)) {
            *ret_authority = &b->authorities[i];
            return 0;
        }
    return MESH_E_NOTFOUND;
}

/* pchar, and the slash between segments. */
static bool is_path(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~!$&'()*+,;=:@/", c));
}

static void put_encoded(struct mesh_wbuf *w, const char *text) {
    static const char hex[] = "0123456789ABCDEF";
    for (; *text; text++) {
        if (is_path(*text)) {
            mesh_wbuf_u8(w, (uint8_t)*text);
        } else {
            mesh_wbuf_u8(w, '%');
            mesh_wbuf_u8(w, (uint8_t)hex[(uint8_t)*text >> 4]);
            mesh_wbuf_u8(w, (uint8_t)hex[(uint8_t)*text & 15]);
        }
    }
}

int mesh_bootstrap_expand(const char *template_, const char *target, char *ret_name, size_t cap) {
    const bool encode = is_xdstp(template_);
    struct mesh_wbuf w = mesh_wbuf_of(ret_name, cap);
    for (const char *p = template_, *hit; *p; p = hit + 2) {
        hit = strstr(p, "%s");
        mesh_wbuf_put(&w, p, hit ? (size_t)(hit - p) : strlen(p));
        if (!hit)
            break;
        if (encode)
            put_encoded(&w, target);
        else
            mesh_wbuf_put(&w, target, strlen(target));
    }
    mesh_wbuf_u8(&w, 0);
    return w.broken ? MESH_E_LIMIT : 0;
}
