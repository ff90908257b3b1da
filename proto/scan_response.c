/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "proto/discovery.pb-c.h"
#include "proto/inner.h"

enum { /* field numbers of envoy.service.discovery.v3 */
       RESPONSE_VERSION = 1,
       RESPONSE_RESOURCES = 2,
       RESPONSE_TYPE = 4,
       RESPONSE_NONCE = 5,
       RESPONSE_CONTROL_PLANE = 6,
       RESPONSE_ERRORS = 7,
       DELTA_REMOVED = 6,
       DELTA_CONTROL_PLANE = 7,
       DELTA_REMOVED_NAMES = 8,
       DELTA_ERRORS = 9,
       RESOURCE_VERSION = 1,
       RESOURCE_RESOURCE = 2,
       RESOURCE_NAME = 3,
       RESOURCE_TTL = 6,
       RESOURCE_RESOURCE_NAME = 8,
       SECONDS_MAX = 1 << 30, /* of a ttl: 34 years */
};

struct walk {
    bool is_delta;
    struct mesh_scan_response *head;
    const struct mesh_scan_sink *sink; /* NULL: the frame alone */
    void *arg;
    int ended; /* what the sink said */
};

/* A message of one text and one more field: Any, ResourceName, Status. */
static int take_two(const ProtobufCMessageDescriptor *d, struct mesh_bytes in, struct mesh_bytes *ret_first,
                    struct mesh_field *ret_second) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    int rc;
    while ((rc = mesh_scan_known(&s, d, &f)) > 0) {
        if (f.number == 1 && f.wire == MESH_WIRE_BYTES)
            *ret_first = f.bytes;
        else if (f.number)
            *ret_second = f;
    }
    return rc;
}

static int take_any(struct mesh_bytes in, struct mesh_scan_resource *r) {
    struct mesh_field value = {.bytes = r->value.p ? r->value : (struct mesh_bytes){in.p, 0}};
    int rc = take_two(&mesh__pb__any__descriptor, in, &r->type_url, &value);
    r->value = value.bytes;
    return rc;
}

static int take_name(struct mesh_bytes in, struct mesh_bytes *ret) {
    struct mesh_field none;
    return take_two(&mesh__discovery__resource_name__descriptor, in, ret, &none);
}

static int take_ttl(struct mesh_bytes in, struct mesh_scan_resource *r) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    int64_t part[2] = {0, 0};
    int rc;
    while ((rc = mesh_scan_known(&s, &mesh__pb__duration__descriptor, &f)) > 0)
        if (f.number)
            part[f.number - 1] = f.number == 1 ? (int64_t)f.value : (int32_t)f.value;
    r->has_ttl = mesh_duration_sound(part[0], (int32_t)part[1]);
    if (r->has_ttl && part[0] > SECONDS_MAX)
        part[0] = SECONDS_MAX;
    r->ttl = r->has_ttl ? (uint64_t)part[0] * UINT64_C(1000000000) + (uint64_t)part[1] : 0;
    return rc;
}

static int take_part(const struct mesh_field *f, struct mesh_scan_resource *r) {
    switch (f->number) {
    case RESOURCE_VERSION:
        r->version = f->bytes;
        return 0;
    case RESOURCE_RESOURCE:
        return take_any(f->bytes, r);
    case RESOURCE_NAME:
        r->name = f->bytes;
        return 0;
    case RESOURCE_TTL:
        return take_ttl(f->bytes, r);
    case RESOURCE_RESOURCE_NAME:
        return r->name.n ? 0 : take_name(f->bytes, &r->name);
    default:
        return 0;
    }
}

static int take_resource(struct mesh_bytes in, struct mesh_scan_resource *ret) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    int rc = mesh_scan_skim(&mesh__discovery__resource__descriptor, in, MESH_UNIT_DEPTH - 1);
    *ret = (struct mesh_scan_resource){.is_wrapped = true};
    while (rc == 0 && (rc = mesh_scan_known(&s, &mesh__discovery__resource__descriptor, &f)) > 0)
        rc = take_part(&f, ret);
    return rc;
}

static bool is_wrapper(struct mesh_bytes type_url) {
    static const char name[] = "envoy.service.discovery.v3.Resource";
    size_t n = sizeof name - 1;
    return type_url.n > n && type_url.p[type_url.n - n - 1] == '/' &&
           memcmp(type_url.p + type_url.n - n, name, n) == 0;
}

static int on_resource(struct walk *w, struct mesh_bytes in) {
    struct mesh_scan_resource r = {.is_wrapped = false}, inner;
    w->head->nresources++;
    int rc = w->is_delta ? take_resource(in, &r) : take_any(in, &r);
    if (rc || !w->sink)
        return rc;
    /* A wrapper that is none stays what it says: a resource of a type that nobody asked for. */
    if (!w->is_delta && is_wrapper(r.type_url) && take_resource(r.value, &inner) == 0)
        r = inner;
    return w->ended = w->sink->resource(w->arg, &r);
}

static int on_removed(struct walk *w, struct mesh_bytes in, bool is_name) {
    struct mesh_bytes name = {in.p, 0};
    w->head->nremoved++;
    int rc = is_name ? take_name(in, &name) : 0;
    if (rc || !w->sink)
        return rc;
    return w->ended = w->sink->removed(w->arg, is_name ? name : in);
}

static int on_error(struct walk *w, struct mesh_bytes in) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f, code;
    struct mesh_bytes name = {in.p, 0}, message = {in.p, 0};
    int number = 0,
        rc = mesh_scan_skim(&mesh__discovery__resource_error__descriptor, in, MESH_UNIT_DEPTH - 1);
    w->head->nerrors++;
    while (rc == 0 && (rc = mesh_scan_known(&s, &mesh__discovery__resource_error__descriptor, &f)) > 0) {
        rc = f.number == 1 ? take_name(f.bytes, &name) : 0;
        struct mesh_scan status = mesh_scan_of(f.bytes);
        while (f.number == 2 && rc == 0 &&
               (rc = mesh_scan_known(&status, &mesh__pb__status__descriptor, &code)) > 0) {
            number = code.number == 1 ? (int32_t)code.value : number;
            message = code.number == 2 ? code.bytes : message;
            rc = 0;
        }
    }
    if (rc || !w->sink)
        return rc;
    return w->ended = w->sink->error(w->arg, name, number, message);
}

static int on_field(struct walk *w, const struct mesh_field *f) {
    switch (f->number) {
    case RESPONSE_VERSION:
        w->head->version = f->bytes;
        return 0;
    case RESPONSE_RESOURCES:
        return on_resource(w, f->bytes);
    case RESPONSE_TYPE:
        w->head->type_url = f->bytes;
        return 0;
    case RESPONSE_NONCE:
        w->head->nonce = f->bytes;
        return 0;
    default:
        break;
    }
    if (f->number == (w->is_delta ? DELTA_CONTROL_PLANE : RESPONSE_CONTROL_PLANE))
        return mesh_scan_skim(&mesh__core__control_plane__descriptor, f->bytes, MESH_UNIT_DEPTH - 1);
    if (f->number == (w->is_delta ? DELTA_ERRORS : RESPONSE_ERRORS))
        return on_error(w, f->bytes);
    if (w->is_delta && (f->number == DELTA_REMOVED || f->number == DELTA_REMOVED_NAMES))
        return on_removed(w, f->bytes, f->number == DELTA_REMOVED_NAMES);
    return 0;
}

static int walk(struct walk *w, const uint8_t *p, size_t n) {
    const ProtobufCMessageDescriptor *d = w->is_delta ? &mesh__discovery__delta_discovery_response__descriptor
                                                      : &mesh__discovery__discovery_response__descriptor;
    struct mesh_scan s = mesh_scan_of((struct mesh_bytes){p, n});
    struct mesh_field f;
    int rc = 0;
    memset(w->head, 0, sizeof *w->head);
    while (rc >= 0 && !w->ended && (rc = mesh_scan_known(&s, d, &f)) > 0)
        rc = on_field(w, &f);
    return w->ended ? w->ended : rc;
}

int mesh_scan_response(const uint8_t *p, size_t n, bool is_delta, struct mesh_scan_response *ret) {
    struct mesh_scan_response head;
    int rc = walk(&(struct walk){.is_delta = is_delta, .head = &head}, p, n);
    if (rc == 0)
        *ret = head;
    return rc;
}

int mesh_scan_response_each(const uint8_t *p, size_t n, bool is_delta, const struct mesh_scan_sink *sink,
                            void *arg) {
    struct mesh_scan_response head;
    return walk(&(struct walk){is_delta, &head, sink, arg, 0}, p, n);
}
