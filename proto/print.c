/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/core.pb-c.h"
#include "proto/inner.h"
#include "proto/out.h"
#include "proto/pb.pb-c.h"
#include "proto/tls.pb-c.h"
#include "shim/base/mem.h"

struct printing {
    struct mesh_out out;
    int depth;
    int secret; /* > 0: inside a field that holds secrets */
    int err;
};

/* Fields whose data sources are for nobody's eyes. */
static const struct {
    const ProtobufCMessageDescriptor *d;
    const char *field;
} secrets[] = {
    {&mesh__tls__tls_certificate__descriptor, "private_key"},
    {&mesh__tls__tls_certificate__descriptor, "password"},
    {&mesh__tls__tls_certificate__descriptor, "pkcs12"},
    {&mesh__tls__tls_session_ticket_keys__descriptor, "keys"},
    {&mesh__tls__generic_secret__descriptor, "secret"},
    {&mesh__tls__generic_secret__descriptor, "secrets"},
};

static bool holds_secret(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f) {
    for (size_t i = 0; i < MESH_ARRAY_LEN(secrets); i++)
        if (secrets[i].d == d && !strcmp(secrets[i].field, f->name))
            return true;
    return false;
}

/* Of a data source only the content is secret; where it lies is not. */
static bool redacted(const struct printing *p, const ProtobufCMessageDescriptor *d,
                     const ProtobufCFieldDescriptor *f) {
    return p->secret && d == &mesh__core__data_source__descriptor && !strncmp(f->name, "inline", 6);
}

static void print_message(struct printing *p, const ProtobufCMessage *m);

static void print_bytes(struct printing *p, const ProtobufCBinaryData *b) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((b->len + 2) / 3 * 4 + 1), *o = text;
    if (!text) {
        p->err = MESH_E_NOMEM;
        return;
    }
    for (size_t i = 0; i < b->len; i += 3) {
        size_t left = b->len - i;
        unsigned v = (unsigned)b->data[i] << 16 | (left > 1 ? (unsigned)b->data[i + 1] << 8 : 0) |
                     (left > 2 ? b->data[i + 2] : 0);
        *o++ = digits[v >> 18];
        *o++ = digits[v >> 12 & 63];
        *o++ = left > 1 ? digits[v >> 6 & 63] : '=';
        *o++ = left > 2 ? digits[v & 63] : '=';
    }
    mesh_out_text(&p->out, text, (size_t)(o - text));
    free(text);
}

static void print_text(struct printing *p, const char *text) {
    mesh_out_text(&p->out, text, strlen(text));
}

static void print_enum(struct printing *p, const ProtobufCEnumDescriptor *e, int v) {
    char number[16];
    const ProtobufCEnumValue *named = protobuf_c_enum_descriptor_get_value(e, v);
    if (named) {
        print_text(p, named->name);
        return;
    }
    snprintf(number, sizeof(number), "%d", v);
    mesh_out_word(&p->out, number);
}

static void print_double(struct printing *p, double v, bool single) {
    char text[32];
    mesh_double_to_text(v, single, text);
    if (strpbrk(text, "IN")) /* JSON has no such numbers: a text */
        print_text(p, text);
    else
        mesh_out_word(&p->out, text);
}

/* 64-bit integers are texts in proto3 JSON. */
static void print_element(struct printing *p, const ProtobufCFieldDescriptor *f, const void *v) {
    char text[32];
    switch (f->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        print_message(p, *(const ProtobufCMessage *const *)v);
        return;
    case PROTOBUF_C_TYPE_STRING:
        print_text(p, *(const char *const *)v ? *(const char *const *)v : "");
        return;
    case PROTOBUF_C_TYPE_BYTES:
        print_bytes(p, v);
        return;
    case PROTOBUF_C_TYPE_ENUM:
        print_enum(p, f->descriptor, *(const int *)v);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        mesh_out_word(&p->out, *(const protobuf_c_boolean *)v ? "true" : "false");
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        print_double(p, *(const double *)v, false);
        return;
    case PROTOBUF_C_TYPE_FLOAT:
        print_double(p, (double)*(const float *)v, true);
        return;
    case PROTOBUF_C_TYPE_INT64:
        snprintf(text, sizeof(text), "%" PRId64, *(const int64_t *)v);
        print_text(p, text);
        return;
    case PROTOBUF_C_TYPE_UINT64:
        snprintf(text, sizeof(text), "%" PRIu64, *(const uint64_t *)v);
        print_text(p, text);
        return;
    case PROTOBUF_C_TYPE_UINT32:
        snprintf(text, sizeof(text), "%" PRIu32, *(const uint32_t *)v);
        mesh_out_word(&p->out, text);
        return;
    default:
        snprintf(text, sizeof(text), "%" PRId32, *(const int32_t *)v);
        mesh_out_word(&p->out, text);
    }
}

static const char *map_key(const ProtobufCMessage *entry) {
    const char *key = *(const char *const *)mesh_field_value(entry, &entry->descriptor->fields[0]);
    return key ? key : "";
}

/* A message as the value of an entry may be absent on the wire: then it is empty. */
static void print_map_value(struct printing *p, const ProtobufCMessage *entry) {
    const ProtobufCFieldDescriptor *f = &entry->descriptor->fields[1];
    struct mesh_level l;
    if (f->type != PROTOBUF_C_TYPE_MESSAGE || mesh_field_set(entry, f)) {
        print_element(p, f, mesh_field_value(entry, f));
    } else if (f->descriptor == &mesh__pb__value__descriptor) {
        mesh_out_word(&p->out, "null");
    } else {
        mesh_out_open(&p->out, &l);
        mesh_out_close(&p->out, &l, false);
    }
}

static void print_map(struct printing *p, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    ProtobufCMessage *const *items = *(ProtobufCMessage *const *const *)mesh_field_value(m, f);
    struct mesh_level l;
    mesh_out_open(&p->out, &l);
    for (size_t i = 0; i < *mesh_field_count(m, f); i++) {
        mesh_out_key(&p->out, &l, map_key(items[i]));
        print_map_value(p, items[i]);
    }
    mesh_out_close(&p->out, &l, false);
}

static void print_list(struct printing *p, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    const char *items = *(const char *const *)mesh_field_value(m, f);
    struct mesh_level l;
    mesh_out_open(&p->out, &l);
    for (size_t i = 0; i < *mesh_field_count(m, f); i++) {
        mesh_out_item(&p->out, &l);
        print_element(p, f, items + i * mesh_field_size(f));
    }
    mesh_out_close(&p->out, &l, true);
}

static void print_field(struct printing *p, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    bool secret = holds_secret(m->descriptor, f);
    p->secret += secret;
    if (redacted(p, m->descriptor, f))
        print_text(p, "[redacted]");
    else if (mesh_field_map(f))
        print_map(p, m, f);
    else if (mesh_field_repeated(f))
        print_list(p, m, f);
    else
        print_element(p, f, mesh_field_value(m, f));
    p->secret -= secret;
}

static void print_fields(struct printing *p, const ProtobufCMessage *m, struct mesh_level *l) {
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (!mesh_field_set(m, f))
            continue;
        mesh_out_key(&p->out, l, f->name);
        print_field(p, m, f);
    }
}

/* Bytes that are not what their type says are shown as they are. */
static void print_any(struct printing *p, const Mesh__Pb__Any *any) {
    struct mesh_level l;
    ProtobufCMessage *inner = NULL;
    const ProtobufCMessageDescriptor *d =
        any->type_url && *any->type_url ? mesh_proto_type(any->type_url) : NULL;
    int err = d ? mesh_proto_unpack(d, any->value.data, any->value.len, &inner) : 0;
    if (err == MESH_E_NOMEM)
        p->err = err;
    mesh_out_open(&p->out, &l);
    if (any->type_url && *any->type_url) {
        mesh_out_key(&p->out, &l, "@type");
        print_text(p, any->type_url);
    }
    if (inner && mesh_special_json(d)) {
        mesh_out_key(&p->out, &l, "value");
        print_message(p, inner);
    } else if (inner) {
        print_fields(p, inner, &l);
    } else if (any->value.len) {
        mesh_out_key(&p->out, &l, "value");
        print_bytes(p, &any->value);
    }
    mesh_out_close(&p->out, &l, false);
    protobuf_c_message_free_unpacked(inner, NULL);
}

/* Seconds with as many groups of three decimals as are needed. */
static int print_fraction(char *text, size_t cap, int32_t nanos, const char *unit) {
    if (nanos <= 0 || nanos > 999999999)
        return snprintf(text, cap, "%s", unit);
    if (nanos % 1000000 == 0)
        return snprintf(text, cap, ".%03d%s", nanos / 1000000, unit);
    if (nanos % 1000 == 0)
        return snprintf(text, cap, ".%06d%s", nanos / 1000, unit);
    return snprintf(text, cap, ".%09d%s", nanos, unit);
}

static void print_duration(struct printing *p, const Mesh__Pb__Duration *d) {
    char text[48];
    int64_t seconds = d->seconds;
    int32_t nanos = d->nanos;
    bool negative = seconds < 0 || nanos < 0;
    int n = snprintf(text, sizeof(text), "%s%" PRIu64, negative ? "-" : "",
                     seconds < 0 ? ~(uint64_t)seconds + 1 : (uint64_t)seconds);
    print_fraction(text + n, sizeof(text) - (size_t)n, nanos > -1000000000 && nanos < 0 ? -nanos : nanos,
                   "s");
    print_text(p, text);
}

static void print_timestamp(struct printing *p, const Mesh__Pb__Timestamp *t) {
    char text[64];
    int64_t days = t->seconds / 86400, rest = t->seconds % 86400;
    if (t->seconds < INT64_C(-62135596800) || t->seconds > INT64_C(253402300799))
        days = rest = 0; /* outside years 1 to 9999: no form for it */
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, of_era = z - era * 146097;
    int64_t of_year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t day = of_era - (365 * of_year + of_year / 4 - of_year / 100), month = (5 * day + 2) / 153;
    int64_t mday = day - (153 * month + 2) / 5 + 1;
    month += month < 10 ? 3 : -9;
    int64_t year = of_year + era * 400 + (month <= 2);
    int n = snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d", (int)year, (int)month, (int)mday,
                     (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60));
    print_fraction(text + n, sizeof(text) - (size_t)n, t->nanos, "Z");
    print_text(p, text);
}

static void print_json_value(struct printing *p, const ProtobufCMessage *m) {
    for (unsigned i = 1; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (mesh_field_set(m, f)) {
            print_element(p, f, mesh_field_value(m, f));
            return;
        }
    }
    mesh_out_word(&p->out, "null");
}

static void print_special(struct printing *p, const ProtobufCMessage *m) {
    const ProtobufCMessageDescriptor *d = m->descriptor;
    if (d == &mesh__pb__duration__descriptor)
        print_duration(p, (const Mesh__Pb__Duration *)m);
    else if (d == &mesh__pb__timestamp__descriptor)
        print_timestamp(p, (const Mesh__Pb__Timestamp *)m);
    else if (d == &mesh__pb__struct__descriptor)
        print_map(p, m, &d->fields[0]);
    else if (d == &mesh__pb__list_value__descriptor)
        print_list(p, m, &d->fields[0]);
    else if (d == &mesh__pb__value__descriptor)
        print_json_value(p, m);
    else if (d == &mesh__pb__any__descriptor)
        print_any(p, (const Mesh__Pb__Any *)m);
    else
        print_element(p, &d->fields[0], mesh_field_value(m, &d->fields[0]));
}

static void print_message(struct printing *p, const ProtobufCMessage *m) {
    struct mesh_level l;
    if (p->depth == MESH_TOTAL_DEPTH + MESH_UNIT_DEPTH) {
        p->err = MESH_E_LIMIT;
        return;
    }
    p->depth++;
    if (mesh_special_json(m->descriptor)) {
        print_special(p, m);
    } else {
        mesh_out_open(&p->out, &l);
        print_fields(p, m, &l);
        mesh_out_close(&p->out, &l, false);
    }
    p->depth--;
}

int mesh_proto_print(const ProtobufCMessage *m, bool yaml, int indent, char **ret_text) {
    struct printing p = {.err = 0};
    mesh_out_init(&p.out, yaml, indent);
    print_message(&p, m);
    char *text;
    int err = mesh_out_done(&p.out, &text);
    if (err)
        return err;
    if (p.err) {
        free(text);
        return p.err;
    }
    *ret_text = text;
    return 0;
}
