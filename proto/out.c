/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/out.h"

void mesh_out_init(struct mesh_out *o, bool yaml, int indent) {
    *o = (struct mesh_out){.yaml = yaml, .indent = yaml && indent < 2 ? 2 : indent};
}

static void put(struct mesh_out *o, const char *p, size_t n) {
    if (!o->failed && o->cap - o->n <= n) {
        size_t cap = (o->cap ? o->cap * 2 : 1024) + n;
        char *more = realloc(o->text, cap);
        if (more) {
            o->text = more;
            o->cap = cap;
        }
        o->failed = !more;
    }
    if (o->failed)
        return;
    memcpy(o->text + o->n, p, n);
    o->n += n;
}

static void puts_(struct mesh_out *o, const char *p) {
    put(o, p, strlen(p));
}

static void new_line(struct mesh_out *o, int level) {
    if (!o->indent)
        return;
    if (o->n)
        put(o, "\n", 1);
    for (int i = 0; i < level * o->indent; i++)
        put(o, " ", 1);
}

/* YAML puts a blank between "key:" and what stands on the same line; "- " has its own. */
static void before_scalar(struct mesh_out *o) {
    if (o->yaml && !o->bare && o->n)
        put(o, " ", 1);
    o->bare = false;
}

void mesh_out_open(struct mesh_out *o, struct mesh_level *l) {
    l->used = false;
    o->level++;
}

/* Goes to where the next entry of the open map or list begins. */
static void next_entry(struct mesh_out *o, struct mesh_level *l, const char *bracket) {
    if (!o->yaml) {
        puts_(o, l->used ? "," : bracket);
        new_line(o, o->level);
    } else if (!o->bare) {
        new_line(o, o->level - 1);
    }
    o->bare = false;
    l->used = true;
}

void mesh_out_key(struct mesh_out *o, struct mesh_level *l, const char *key) {
    next_entry(o, l, "{");
    o->bare = true;
    mesh_out_text(o, key, strlen(key));
    puts_(o, o->yaml || !o->indent ? ":" : ": ");
}

void mesh_out_item(struct mesh_out *o, struct mesh_level *l) {
    next_entry(o, l, "[");
    if (!o->yaml)
        return;
    put(o, "- ", 2);
    for (int i = 2; i < o->indent; i++)
        put(o, " ", 1);
    o->bare = true;
}

void mesh_out_close(struct mesh_out *o, const struct mesh_level *l, bool list) {
    o->level--;
    if (!l->used) {
        before_scalar(o);
        puts_(o, list ? "[]" : "{}");
    } else if (!o->yaml) {
        new_line(o, o->level);
        puts_(o, list ? "]" : "}");
    }
}

void mesh_out_word(struct mesh_out *o, const char *word) {
    before_scalar(o);
    puts_(o, word);
}

static bool is_plain_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("_-./:|", c));
}

/* A text that every YAML reader takes for a text without quotes. */
static bool is_plain(const char *text, size_t n) {
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", NULL};
    if (!n || n > 256 || !is_plain_char(text[0]) || strchr("-.:|/_0123456789", text[0]) || text[n - 1] == ':')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_plain_char(text[i]))
            return false;
    for (const char *const *w = words; *w; w++) {
        size_t k = 0;
        while (k < n && (*w)[k] && (text[k] | 0x20) == (*w)[k])
            k++;
        if (k == n && !(*w)[k])
            return false;
    }
    return true;
}

/* Characters that a YAML reader refuses, or takes for a line's end, when they stand as they are. */
static unsigned needs_escape(const unsigned char *p, size_t left) {
    if (left >= 2 && p[0] == 0xc2 && p[1] < 0xa0)
        return p[1];
    if (left < 3 || p[0] < 0xe0 || p[0] > 0xef)
        return 0;
    unsigned point = (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    return point == 0x2028 || point == 0x2029 || point == 0xfeff || point >= 0xfffe ? point : 0;
}

static void put_quoted(struct mesh_out *o, const char *text, size_t n) {
    static const char shorts[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
    put(o, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        const char *escape = c ? strchr(shorts, c) : NULL;
        unsigned point = needs_escape((const unsigned char *)text + i, n - i);
        char code[8];
        if (point) {
            snprintf(code, sizeof(code), "\\u%04x", point & 0xffff);
            puts_(o, code);
            i += point < 0x800 ? 1 : 2;
        } else if (escape) {
            put(o, (const char[]){'\\', letters[escape - shorts]}, 2);
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(code, sizeof(code), "\\u%04x", c);
            puts_(o, code);
        } else {
            put(o, text + i, 1);
        }
    }
    put(o, "\"", 1);
}

void mesh_out_text(struct mesh_out *o, const char *text, size_t n) {
    before_scalar(o);
    if (o->yaml && is_plain(text, n))
        put(o, text, n);
    else
        put_quoted(o, text, n);
}

int mesh_out_done(struct mesh_out *o, char **ret_text) {
    put(o, "\n", 2);
    if (o->failed) {
        free(o->text);
        return MESH_E_NOMEM;
    }
    *ret_text = o->text;
    return 0;
}
