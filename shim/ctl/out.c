/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/out.h"

#include <string.h>

static void put(struct mesh_ctl_out *o, const char *text) {
    fputs(text, o->file);
}

static void new_line(struct mesh_ctl_out *o, unsigned indent) {
    fprintf(o->file, "\n%*s", (int)indent, "");
}

/* Length of the UTF-8 sequence at p (RFC 3629), 0 when it is none. */
static size_t utf8_len(const unsigned char *p) {
    static const struct {
        unsigned char first, last, low, high; /* of the first byte; of the second */
        uint8_t len;
    } forms[] = {{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
                 {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
                 {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    if (p[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (p[0] < forms[i].first || p[0] > forms[i].last)
            continue;
        if (p[1] < forms[i].low || p[1] > forms[i].high)
            return 0;
        for (size_t k = 2; k < forms[i].len; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return forms[i].len;
    }
    return 0;
}

/* One character of a JSON string; returns the bytes it took. */
static size_t put_char(struct mesh_ctl_out *o, const unsigned char *p) {
    size_t n = utf8_len(p);
    if (n == 0) {
        put(o, "\xef\xbf\xbd");
        return 1;
    }
    if (*p == '"' || *p == '\\')
        fprintf(o->file, "\\%c", *p);
    else if (*p == '\n')
        put(o, "\\n");
    else if (*p == '\t')
        put(o, "\\t");
    else if (*p < 0x20 || *p == 0x7f)
        fprintf(o->file, "\\u%04x", *p);
    else
        fwrite(p, 1, n, o->file);
    return n;
}

static void put_string(struct mesh_ctl_out *o, const char *text) {
    put(o, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p;)
        p += put_char(o, p);
    put(o, "\"");
}

/* YAML: a list of maps has the first key beside the dash, so an entry's line may have been begun by its
 * parent. */
static void begin_yaml_entry(struct mesh_ctl_out *o, const char *key) {
    bool list = o->level[o->depth].list, first = !o->level[o->depth].any;
    bool beside_dash = first && o->depth > 0 && !list && o->level[o->depth - 1].list;
    bool first_of_all = first && o->depth == 0;
    if (!beside_dash && !first_of_all)
        new_line(o, 2u * o->depth);
    if (list)
        put(o, "-");
    else
        fprintf(o->file, "%s:", key);
}

static void begin_json_entry(struct mesh_ctl_out *o, const char *key) {
    if (o->level[o->depth].any)
        put(o, ",");
    new_line(o, 2u * o->depth + 2);
    if (!o->level[o->depth].list) {
        put_string(o, key);
        put(o, ":");
    }
}

static void begin_entry(struct mesh_ctl_out *o, const char *key) {
    if (o->yaml)
        begin_yaml_entry(o, key ? key : "");
    else
        begin_json_entry(o, key ? key : "");
    o->level[o->depth].any = true;
}

/* A scalar, after the blank that separates it from its key or dash. */
static void begin_scalar(struct mesh_ctl_out *o, const char *key) {
    begin_entry(o, key);
    if (o->yaml || !o->level[o->depth].list)
        put(o, " ");
}

void mesh_ctl_out_init(struct mesh_ctl_out *o, FILE *file, bool yaml) {
    memset(o, 0, sizeof *o);
    o->file = file;
    o->yaml = yaml;
    if (!yaml)
        put(o, "{");
}

static void begin(struct mesh_ctl_out *o, const char *key, bool list) {
    if (o->depth == MESH_CTL_DEPTH_MAX) {
        o->broken = true;
        return;
    }
    bool in_list = o->level[o->depth].list;
    begin_entry(o, key);
    if (!o->yaml)
        put(o, in_list ? "" : " ");
    if (!o->yaml)
        put(o, list ? "[" : "{");
    else if (in_list && !list)
        put(o, " ");
    o->depth++;
    o->level[o->depth].list = list;
    o->level[o->depth].any = false;
}

void mesh_ctl_map_begin(struct mesh_ctl_out *o, const char *key) {
    begin(o, key, false);
}

void mesh_ctl_list_begin(struct mesh_ctl_out *o, const char *key) {
    begin(o, key, true);
}

void mesh_ctl_end(struct mesh_ctl_out *o) {
    if (o->depth == 0) {
        o->broken = true;
        return;
    }
    bool list = o->level[o->depth].list, any = o->level[o->depth].any;
    o->depth--;
    if (!o->yaml && any)
        new_line(o, 2u * o->depth + 2);
    if (!o->yaml)
        put(o, list ? "]" : "}");
    else if (!any)
        put(o, list ? " []" : o->level[o->depth].list ? "{}" : " {}");
}

void mesh_ctl_str(struct mesh_ctl_out *o, const char *key, const char *value) {
    begin_scalar(o, key);
    if (value)
        put_string(o, value);
    else
        put(o, "null");
}

void mesh_ctl_int(struct mesh_ctl_out *o, const char *key, int64_t value) {
    begin_scalar(o, key);
    fprintf(o->file, "%lld", (long long)value);
}

void mesh_ctl_bool(struct mesh_ctl_out *o, const char *key, bool value) {
    begin_scalar(o, key);
    put(o, value ? "true" : "false");
}

void mesh_ctl_ms(struct mesh_ctl_out *o, const char *key, uint64_t ns) {
    begin_scalar(o, key);
    fprintf(o->file, "%llu.%llu", (unsigned long long)(ns / 1000000), (unsigned long long)(ns / 100000 % 10));
}

void mesh_ctl_raw(struct mesh_ctl_out *o, const char *key, const char *json) {
    begin_scalar(o, key);
    put(o, json);
}

int mesh_ctl_out_done(struct mesh_ctl_out *o) {
    if (!o->yaml)
        put(o, o->level[0].any ? "\n}" : "}");
    else if (!o->level[0].any)
        put(o, "{}");
    put(o, "\n");
    if (fflush(o->file) != 0 || ferror(o->file))
        return MESH_E_IO;
    return o->broken || o->depth ? MESH_E_INTERNAL : 0;
}
