/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/inner.h"
#include "proto/pb.pb-c.h"

static const int64_t duration_max = INT64_C(315576000000); /* seconds in 10000 years */

bool mesh_duration_sound(int64_t seconds, int32_t nanos) {
    return seconds >= 0 && seconds <= duration_max && nanos >= 0 && nanos < 1000000000 &&
           (seconds < duration_max || nanos == 0);
}

/* At most `most` digits, at least one. */
static bool take_digits(const char **p, int most, int64_t *ret) {
    int64_t v = 0;
    int n = 0;
    for (; **p >= '0' && **p <= '9' && n < most; n++)
        v = v * 10 + *(*p)++ - '0';
    *ret = v;
    return n > 0;
}

/* ".5" as nanoseconds; nothing is 0. */
static bool take_fraction(const char **p, int32_t *ret) {
    int32_t unit = 100000000, v = 0;
    *ret = 0;
    if (**p != '.')
        return true;
    const char *first = ++*p;
    for (; **p >= '0' && **p <= '9' && unit; unit /= 10)
        v += (*(*p)++ - '0') * unit;
    *ret = v;
    return *p > first;
}

static int read_duration(struct mesh_reading *r, const struct mesh_node *node, ProtobufCMessage *m) {
    Mesh__Pb__Duration *d = (Mesh__Pb__Duration *)m;
    const char *p = node->text;
    bool negative = *p == '-';
    p += negative;
    if (node->kind != MESH_NODE_STRING || !take_digits(&p, 12, &d->seconds) ||
        !take_fraction(&p, &d->nanos) || strcmp(p, "s"))
        return mesh_reading_fail(r, MESH_E_INVALID, node, "wants a duration in seconds, as in \"1.5s\"");
    if ((negative && (d->seconds || d->nanos)) || !mesh_duration_sound(d->seconds, d->nanos))
        return mesh_reading_fail(r, MESH_E_INVALID, node, "%.24s is out of range", node->text);
    return 0;
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar. */
static int64_t days_of(int64_t y, int64_t month, int64_t day) {
    y -= month <= 2;
    int64_t era = y / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool take_two(const char **p, char before, int64_t *ret) {
    if (before && *(*p)++ != before)
        return false;
    const char *first = *p;
    return take_digits(p, 2, ret) && *p == first + 2;
}

/* RFC 3339: 2026-01-31T12:00:00.5Z or with +01:00. */
static bool parse_time(const char *p, Mesh__Pb__Timestamp *t) {
    int64_t year, month, day, hour, minute, second, zone_hour = 0, zone_minute = 0;
    const char *first = p;
    if (!take_digits(&p, 4, &year) || p != first + 4 || !take_two(&p, '-', &month) ||
        !take_two(&p, '-', &day) || (*p != 'T' && *p != 't'))
        return false;
    p++;
    if (!take_two(&p, 0, &hour) || !take_two(&p, ':', &minute) || !take_two(&p, ':', &second) ||
        !take_fraction(&p, &t->nanos))
        return false;
    int sign = *p == '-' ? -1 : 1;
    if (*p == '+' || *p == '-') {
        p++;
        if (!take_two(&p, 0, &zone_hour) || !take_two(&p, ':', &zone_minute) || *p)
            return false;
    } else if ((*p != 'Z' && *p != 'z') || p[1]) {
        return false;
    }
    if (!year || !month || month > 12 || !day || day > 31 || hour > 23 || minute > 59 || second > 59 ||
        zone_hour > 23 || zone_minute > 59)
        return false;
    t->seconds = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second -
                 sign * (zone_hour * 3600 + zone_minute * 60);
    return true;
}

static int read_timestamp(struct mesh_reading *r, const struct mesh_node *node, ProtobufCMessage *m) {
    if (node->kind != MESH_NODE_STRING || !parse_time(node->text, (Mesh__Pb__Timestamp *)m))
        return mesh_reading_fail(r, MESH_E_INVALID, node, "wants a time, as in \"2026-01-31T12:00:00Z\"");
    return 0;
}

static int read_wrapper(struct mesh_reading *r, const struct mesh_node *node, ProtobufCMessage *m) {
    const ProtobufCFieldDescriptor *f = &m->descriptor->fields[0];
    return mesh_read_value(r, node, f, mesh_field_value(m, f));
}

static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessage *m, unsigned id) {
    return protobuf_c_message_descriptor_get_field(m->descriptor, id);
}

static int read_json_value(struct mesh_reading *r, const struct mesh_node *node, ProtobufCMessage *m) {
    static const unsigned ids[] = {
        [MESH_NODE_NULL] = 1, [MESH_NODE_NUMBER] = 2, [MESH_NODE_STRING] = 3,
        [MESH_NODE_BOOL] = 4, [MESH_NODE_MAP] = 5,    [MESH_NODE_LIST] = 6,
    };
    const ProtobufCFieldDescriptor *f = field_of(m, ids[node->kind]);
    int err = node->kind == MESH_NODE_NULL ? 0 : mesh_read_value(r, node, f, mesh_field_value(m, f));
    if (err)
        return err;
    *mesh_field_case(m, f) = f->id;
    if (node->kind == MESH_NODE_NUMBER && !isfinite(((Mesh__Pb__Value *)m)->number_value))
        return mesh_reading_fail(r, MESH_E_INVALID, node, "JSON has no such number");
    return 0;
}

static int pack_into(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCMessage *inner,
                     Mesh__Pb__Any *any) {
    size_t n = protobuf_c_message_get_packed_size(inner);
    if (!n)
        return 0;
    uint8_t *data = mesh_heap_zalloc(&r->heap, n);
    if (!data)
        return mesh_reading_no_room(r, node);
    any->value = (ProtobufCBinaryData){protobuf_c_message_pack(inner, data), data};
    return 0;
}

/* An Any is serialised: what is inside counts its depth anew. */
static int read_payload(struct mesh_reading *r, const struct mesh_node *node,
                        const ProtobufCMessageDescriptor *d, Mesh__Pb__Any *any) {
    ProtobufCMessage *inner;
    int unit = r->unit;
    r->unit = 0;
    int err = mesh_read_message(r, node, d, true, &inner);
    r->unit = unit;
    if (err)
        return err;
    err = pack_into(r, node, inner, any);
    protobuf_c_message_free_unpacked(inner, NULL);
    return err;
}

static int read_any(struct mesh_reading *r, const struct mesh_node *node, ProtobufCMessage *m) {
    Mesh__Pb__Any *any = (Mesh__Pb__Any *)m;
    const struct mesh_node *type = mesh_node_get(node, "@type");
    if (node->kind != MESH_NODE_MAP)
        return mesh_reading_fail(r, MESH_E_INVALID, node, "wants a map with \"@type\"");
    if (!node->n)
        return 0;
    if (!type || type->kind != MESH_NODE_STRING || !type->len)
        return mesh_reading_fail(r, MESH_E_INVALID, type ? type : node, "wants an \"@type\"");
    any->type_url = mesh_heap_strndup(&r->heap, type->text, type->len);
    if (!any->type_url)
        return mesh_reading_no_room(r, node);
    const ProtobufCMessageDescriptor *d = mesh_proto_type(any->type_url);
    if (d)
        return read_payload(r, node, d, any);
    mesh_reading_warn(r, type, "its type is not known");
    return 0;
}

int mesh_read_special(struct mesh_reading *r, const struct mesh_node *node, ProtobufCMessage *m) {
    const ProtobufCMessageDescriptor *d = m->descriptor;
    if (d == &mesh__pb__duration__descriptor)
        return read_duration(r, node, m);
    if (d == &mesh__pb__timestamp__descriptor)
        return read_timestamp(r, node, m);
    if (d == &mesh__pb__struct__descriptor)
        return mesh_read_map(r, node, &d->fields[0], m);
    if (d == &mesh__pb__list_value__descriptor)
        return mesh_read_list(r, node, &d->fields[0], m);
    if (d == &mesh__pb__value__descriptor)
        return read_json_value(r, node, m);
    if (d == &mesh__pb__any__descriptor)
        return read_any(r, node, m);
    return read_wrapper(r, node, m);
}
