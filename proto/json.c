/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/inner.h"

enum { PAIR = 12 }; /* bytes of "\uD83D\uDE00" */

/* The code unit behind "\uXXXX", or 0. */
static unsigned code_unit(const char *p) {
    static const char digits[] = "0123456789abcdef";
    unsigned v = 0;
    if (p[0] != '\\' || p[1] != 'u')
        return 0;
    for (int i = 2; i < 6; i++) {
        const char *digit = p[i] ? strchr(digits, p[i] | 0x20) : NULL;
        if (!digit)
            return 0;
        v = v * 16 + (unsigned)(digit - digits);
    }
    return v;
}

static unsigned code_point(const char *p, const char *end) {
    if (end - p < PAIR)
        return 0;
    unsigned high = code_unit(p), low = code_unit(p + 6);
    if (high < 0xd800 || high > 0xdbff || low < 0xdc00 || low > 0xdfff)
        return 0;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

static size_t join(const char *p, const char *end, char *out) {
    char *o = out;
    bool inside = false; /* of a quoted text */
    while (p < end) {
        unsigned point = inside ? code_point(p, end) : 0;
        if (point) {
            char escape[11];
            snprintf(escape, sizeof(escape), "\\U%08X", point);
            memcpy(o, escape, 10);
            o += 10;
            p += PAIR;
            continue;
        }
        if (*p == '"')
            inside = !inside;
        if (*p == '\\' && inside && end - p > 1)
            *o++ = *p++; /* whatever is escaped is copied with it */
        *o++ = *p++;
    }
    return (size_t)(o - out);
}

/* Only a text that begins as JSON does: in YAML's single quotes a backslash is a backslash. */
int mesh_json_join_surrogates(const char *text, size_t *io_len, char **ret) {
    size_t at = 0, n = *io_len;
    *ret = NULL;
    while (at < n && memchr(" \t\r\n", text[at], 4))
        at++;
    if (at == n || (text[at] != '{' && text[at] != '['))
        return 0;
    while (at < n &&
           (n - at < PAIR || text[at] != '\\' || text[at + 1] != 'u' || (text[at + 2] | 0x20) != 'd'))
        at++;
    if (at == n)
        return 0;
    char *out = malloc(n);
    if (!out)
        return MESH_E_NOMEM;
    *io_len = join(text, text + n, out);
    *ret = out;
    return 0;
}
