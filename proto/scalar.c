/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/inner.h"

static const char *const kind_names[] = {"null", "a boolean", "a number", "a text", "a list", "a map"};

static int wants(struct mesh_reading *r, const struct mesh_node *node, const char *what) {
    return mesh_reading_fail(r, MESH_E_INVALID, node, "wants %s, not %s", what, kind_names[node->kind]);
}

/* YAML 1.2 reads yes, no, on and off as texts; where only a boolean can stand they are what they say. */
static int read_bool(struct mesh_reading *r, const struct mesh_node *node, protobuf_c_boolean *ret) {
    static const char *const words[] = {"false", "False", "FALSE", "no",  "No",  "NO",  "off", "Off", "OFF",
                                        "true",  "True",  "TRUE",  "yes", "Yes", "YES", "on",  "On",  "ON"};
    if (node->kind != MESH_NODE_BOOL && node->kind != MESH_NODE_STRING)
        return wants(r, node, "true or false");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (!strcmp(node->text, words[i])) {
            *ret = i >= 9;
            return 0;
        }
    }
    return wants(r, node, "true or false");
}

/* Digits to magnitude and sign; 0x and 0o as YAML has them, decimals and exponents when the value is whole.
 */
static bool parse_whole(const char *s, bool *ret_negative, uint64_t *ret) {
    char *end;
    const char *digits = s + (*s == '-' || *s == '+');
    *ret_negative = *s == '-';
    if (!*digits)
        return false;
    int base = !strncmp(s, "0x", 2) ? 16 : !strncmp(s, "0o", 2) ? 8 : 10;
    if (base == 10 && digits[strspn(digits, "0123456789")]) {
        double d;
        if (!mesh_text_to_double(s, &d) || d != trunc(d) || fabs(d) >= 9007199254740992.0)
            return false;
        *ret = (uint64_t)fabs(d);
        return true;
    }
    if (base != 10)
        digits += 2;
    if (!*digits || strspn(digits, "0123456789abcdefABCDEF") != strlen(digits))
        return false;
    errno = 0;
    *ret = strtoull(digits, &end, base);
    return *end == '\0' && errno == 0;
}

/* From -max - 1 to max. */
static int read_signed(struct mesh_reading *r, const struct mesh_node *node, int64_t max, int64_t *ret) {
    bool negative;
    uint64_t v;
    if ((node->kind != MESH_NODE_NUMBER && node->kind != MESH_NODE_STRING) ||
        !parse_whole(node->text, &negative, &v))
        return wants(r, node, "a whole number");
    if (v > (negative ? (uint64_t)max + 1 : (uint64_t)max))
        return mesh_reading_fail(r, MESH_E_INVALID, node, "%.24s is out of range", node->text);
    *ret = negative ? (int64_t)(~v + 1) : (int64_t)v;
    return 0;
}

static int read_unsigned(struct mesh_reading *r, const struct mesh_node *node, uint64_t max, uint64_t *ret) {
    bool negative;
    uint64_t v;
    if ((node->kind != MESH_NODE_NUMBER && node->kind != MESH_NODE_STRING) ||
        !parse_whole(node->text, &negative, &v))
        return wants(r, node, "a whole number");
    if (v > max || (negative && v))
        return mesh_reading_fail(r, MESH_E_INVALID, node, "%.24s is out of range", node->text);
    *ret = v;
    return 0;
}

static int read_double(struct mesh_reading *r, const struct mesh_node *node, double *ret) {
    bool negative;
    uint64_t v;
    if (node->kind != MESH_NODE_NUMBER && node->kind != MESH_NODE_STRING)
        return wants(r, node, "a number");
    if (mesh_text_to_double(node->text, ret))
        return 0;
    if (!parse_whole(node->text, &negative, &v))
        return wants(r, node, "a number that can be held");
    *ret = negative ? -(double)v : (double)v;
    return 0;
}

static int read_float(struct mesh_reading *r, const struct mesh_node *node, float *ret) {
    double v;
    int err = read_double(r, node, &v);
    if (err)
        return err;
    if (isfinite(v) && fabs(v) > (double)FLT_MAX)
        return mesh_reading_fail(r, MESH_E_INVALID, node, "%.24s is out of range", node->text);
    *ret = (float)v;
    return 0;
}

/* By name, or by number: proto3 enums are open. */
static int read_enum(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCEnumDescriptor *e,
                     int *ret) {
    int64_t v;
    if (node->kind == MESH_NODE_STRING) {
        const ProtobufCEnumValue *named = protobuf_c_enum_descriptor_get_value_by_name(e, node->text);
        if (!named)
            return mesh_reading_fail(r, MESH_E_INVALID, node, "\"%.40s\" is no %s", node->text,
                                     e->short_name);
        *ret = named->value;
        return 0;
    }
    int err = read_signed(r, node, INT32_MAX, &v);
    if (!err)
        *ret = (int)v;
    return err;
}

static int read_string(struct mesh_reading *r, const struct mesh_node *node, char **ret) {
    if (node->kind == MESH_NODE_BOOL || node->kind == MESH_NODE_NUMBER)
        return mesh_reading_fail(r, MESH_E_INVALID, node, "wants a text: write \"%.24s\" in quotes",
                                 node->text);
    if (node->kind != MESH_NODE_STRING)
        return wants(r, node, "a text");
    char *copy = mesh_heap_strndup(&r->heap, node->text, node->len);
    if (!copy)
        return mesh_reading_no_room(r, node);
    *ret = copy;
    return 0;
}

/* Value of a base64 digit of either alphabet, -1: none. */
static int digit64(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = strchr(digits, c == '-' ? '+' : c == '_' ? '/' : c);
    return c && p ? (int)(p - digits) : -1;
}

/* Decodes n digits without padding; false on a foreign character, an impossible length or bits left over. */
static bool decode64(const char *text, size_t n, uint8_t *out) {
    unsigned bits = 0, have = 0;
    if (n % 4 == 1)
        return false;
    for (size_t i = 0; i < n; i++) {
        int d = digit64(text[i]);
        if (d < 0)
            return false;
        bits = bits << 6 | (unsigned)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *out++ = (uint8_t)(bits >> have);
        }
    }
    return (bits & ((1u << have) - 1)) == 0;
}

static int read_bytes(struct mesh_reading *r, const struct mesh_node *node, ProtobufCBinaryData *ret) {
    if (node->kind != MESH_NODE_STRING && node->kind != MESH_NODE_NUMBER)
        return wants(r, node, "base64");
    size_t n = node->len;
    while (n && node->len - n < 2 && node->text[n - 1] == '=')
        n--;
    if (n < node->len && node->len % 4)
        return wants(r, node, "base64");
    if (!n)
        return node->len ? wants(r, node, "base64") : 0;
    uint8_t *data = mesh_heap_zalloc(&r->heap, n * 3 / 4 + 1);
    if (!data)
        return mesh_reading_no_room(r, node);
    if (!decode64(node->text, n, data)) {
        free(data);
        return mesh_reading_fail(r, MESH_E_INVALID, node, "is not base64");
    }
    *ret = (ProtobufCBinaryData){n * 3 / 4, data};
    return 0;
}

static int read_32(struct mesh_reading *r, const struct mesh_node *node, bool is_signed, uint32_t *ret) {
    int64_t s = 0;
    uint64_t u = 0;
    int err = is_signed ? read_signed(r, node, INT32_MAX, &s) : read_unsigned(r, node, UINT32_MAX, &u);
    if (!err)
        *ret = is_signed ? (uint32_t)s : (uint32_t)u;
    return err;
}

int mesh_read_scalar(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCFieldDescriptor *f,
                     void *slot) {
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return read_bool(r, node, slot);
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(r, node, f->descriptor, slot);
    case PROTOBUF_C_TYPE_STRING:
        return read_string(r, node, slot);
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(r, node, slot);
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_double(r, node, slot);
    case PROTOBUF_C_TYPE_FLOAT:
        return read_float(r, node, slot);
    case PROTOBUF_C_TYPE_INT32:
        return read_32(r, node, true, slot);
    case PROTOBUF_C_TYPE_UINT32:
        return read_32(r, node, false, slot);
    case PROTOBUF_C_TYPE_INT64:
        return read_signed(r, node, INT64_MAX, slot);
    case PROTOBUF_C_TYPE_UINT64:
        return read_unsigned(r, node, UINT64_MAX, slot);
    default: /* the subset has no other */
        return mesh_reading_fail(r, MESH_E_INTERNAL, node, "type %d has no reader", (int)f->type);
    }
}
