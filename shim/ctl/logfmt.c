/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/logfmt.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool take_word(const char **io_text, char *ret_word, size_t cap) {
    size_t n = strcspn(*io_text, " ");
    if (n == 0 || n >= cap)
        return false;
    memcpy(ret_word, *io_text, n);
    ret_word[n] = 0;
    *io_text += n;
    *io_text += strspn(*io_text, " ");
    return true;
}

bool mesh_ctl_line_parse(const char *text, struct mesh_ctl_line *ret) {
    static const char head[] = "meshshim[";
    char *end;
    if (strncmp(text, head, sizeof head - 1) != 0)
        return false;
    ret->pid = strtol(text + sizeof head - 1, &end, 10);
    if (end[0] != ']' || end[1] != ' ')
        return false;
    ret->rest = end + 2;
    return take_word(&ret->rest, ret->level, sizeof ret->level) &&
           take_word(&ret->rest, ret->event, sizeof ret->event);
}

static int hex(char c) {
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* One character of a quoted value; returns the bytes it took, 0 at the end of the text. */
static size_t unescape(const char *p, char *ret_c) {
    *ret_c = p[0];
    if (p[0] != '\\')
        return p[0] ? 1 : 0;
    *ret_c = p[1] == 'n' ? '\n' : p[1] == 't' ? '\t' : p[1];
    if (p[1] != 'x')
        return p[1] ? 2 : 0;
    if (hex(p[2]) < 0 || hex(p[3]) < 0)
        return 0;
    *ret_c = (char)(hex(p[2]) << 4 | hex(p[3]));
    return 4;
}

static bool take_quoted(const char **io_text, char *ret_value, size_t cap) {
    const char *p = *io_text + 1;
    size_t n = 0;
    while (*p != '"') {
        char c;
        size_t took = unescape(p, &c);
        if (took == 0 || n + 1 >= cap)
            return false;
        if (c)
            ret_value[n++] = c;
        p += took;
    }
    ret_value[n] = 0;
    *io_text = p + 1;
    return true;
}

static bool take_plain(const char **io_text, char *ret_value, size_t cap) {
    size_t n = strcspn(*io_text, " ");
    if (n >= cap)
        return false;
    memcpy(ret_value, *io_text, n);
    ret_value[n] = 0;
    *io_text += n;
    return true;
}

bool mesh_ctl_field_next(const char **io_rest, struct mesh_ctl_field *ret) {
    const char *p = *io_rest + strspn(*io_rest, " ");
    size_t n = strcspn(p, "= ");
    if (n == 0 || n >= sizeof ret->key || p[n] != '=')
        return false;
    memcpy(ret->key, p, n);
    ret->key[n] = 0;
    p += n + 1;
    bool good = *p == '"' ? take_quoted(&p, ret->value, sizeof ret->value)
                          : take_plain(&p, ret->value, sizeof ret->value);
    *io_rest = p;
    return good;
}

bool mesh_ctl_line_is_about(const struct mesh_ctl_line *l, const char *name) {
    struct mesh_ctl_field f;
    const char *rest = l->rest;
    size_t n = strlen(name);
    while (mesh_ctl_field_next(&rest, &f))
        if (strcmp(f.key, "name") == 0 && strncasecmp(f.value, name, n) == 0 &&
            (!f.value[n] || f.value[n] == ':'))
            return true;
    return false;
}
