/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "proto/endpoint.pb-c.h"
#include "proto/inner.h"

enum { /* field numbers of envoy.config.endpoint.v3 and envoy.config.core.v3 */
       CLA_NAME = 1,
       CLA_LOCALITIES = 2,
       CLA_POLICY = 4,
       POLICY_DROPS = 2,
       POLICY_OVERPROVISIONING = 3,
       POLICY_STALE_AFTER = 4,
       POLICY_WEIGHTED_PRIORITY = 6,
       LOCALITY_NAME = 1,
       LOCALITY_ENDPOINTS = 2,
       LOCALITY_WEIGHT = 3,
       LOCALITY_PRIORITY = 5,
       LB_ENDPOINT = 1,
       LB_HEALTH = 2,
       LB_METADATA = 3,
       LB_WEIGHT = 4,
       LB_ENDPOINT_NAME = 5,
       ENDPOINT_ADDRESS = 1,
       ENDPOINT_HOSTNAME = 3,
       ENDPOINT_ADDITIONAL = 4,
       ADDRESS_SOCKET = 1,
       ADDRESS_INTERNAL = 3,
       SOCKET_PROTOCOL = 1,
       SOCKET_ADDRESS = 2,
       SOCKET_PORT = 3,
       SOCKET_NAMED_PORT = 4,
       HEALTH_UNHEALTHY = 2,
       HEALTH_LAST = 5,
};
enum { KIND_SOCKET, KIND_PIPE, KIND_OTHER, KIND_NONE };

struct walk {
    const struct mesh_scan_assignment_sink *sink;
    void *arg;
    uint32_t localities, endpoints;
    struct mesh_bytes metadata; /* the last that was found sound: those of one workload are alike */
};

/* Messages that protobuf merges when they come twice: no encoder writes that, and merging would take memory.
 */
static int once(bool *seen) {
    if (*seen)
        return MESH_E_UNSUPPORTED;
    *seen = true;
    return 0;
}

static int take_u32(struct mesh_bytes in, uint32_t *ret) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    int rc;
    *ret = 0;
    while ((rc = mesh_scan_next(&s, &f)) > 0) {
        if (f.number != 1)
            continue;
        if (f.wire != MESH_WIRE_VARINT)
            return MESH_E_SYNTAX;
        *ret = (uint32_t)f.value;
    }
    return rc;
}

static bool is_text(const struct mesh_field *f) {
    return f->wire == MESH_WIRE_BYTES && mesh_text_sound(f->bytes.p, f->bytes.n);
}

/* ---- endpoints --------------------------------------------------------------------------------------------
 */
struct socket_address {
    struct mesh_bytes address;
    uint64_t port, protocol;
};

static int take_socket(struct mesh_bytes in, struct socket_address *ret) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    int rc;
    *ret = (struct socket_address){.port = 0};
    while ((rc = mesh_scan_next(&s, &f)) > 0) {
        if (f.number == SOCKET_ADDRESS && is_text(&f)) {
            ret->address = f.bytes;
        } else if (f.number == SOCKET_PORT && f.wire == MESH_WIRE_VARINT) {
            ret->port = (uint32_t)f.value;
        } else if (f.number == SOCKET_PROTOCOL && f.wire == MESH_WIRE_VARINT) {
            ret->protocol = (uint32_t)f.value;
        } else {
            const ProtobufCFieldDescriptor *d =
                mesh_scan_find(&mesh__core__socket_address__descriptor, f.number);
            if (d && mesh_scan_fits(d, &f))
                return MESH_E_SYNTAX;
            ret->port = f.number == SOCKET_NAMED_PORT ? 0 : ret->port;
        }
    }
    return rc;
}

static int use_socket(struct mesh_bytes in, struct mesh_scan_endpoint *e) {
    struct socket_address at;
    int rc = take_socket(in, &at);
    bool usable = at.port <= UINT16_MAX && !at.protocol;
    e->kind = usable ? KIND_SOCKET : KIND_OTHER;
    e->address = at.address;
    e->port = usable ? (uint16_t)at.port : 0;
    return rc;
}

static int take_address(struct mesh_bytes in, struct mesh_scan_endpoint *e) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    int rc;
    while ((rc = mesh_scan_next(&s, &f)) > 0) {
        if (!f.number || f.number > ADDRESS_INTERNAL)
            continue;
        if (f.wire != MESH_WIRE_BYTES)
            return MESH_E_SYNTAX;
        e->kind = f.number == ADDRESS_INTERNAL ? KIND_OTHER : KIND_PIPE;
        rc = f.number == ADDRESS_SOCKET
                 ? use_socket(f.bytes, e)
                 : mesh_scan_skim(mesh__core__address__descriptor.fields[f.number - 1].descriptor, f.bytes,
                                  MESH_UNIT_DEPTH - 5);
        if (rc)
            return rc;
    }
    return rc;
}

/* Of a oneof the last one counts, alone. */
static void clear_host(struct mesh_scan_endpoint *e) {
    e->address = e->hostname = e->additional = (struct mesh_bytes){NULL, 0};
    e->port = 0;
    e->kind = KIND_NONE;
}

static int take_endpoint(struct mesh_bytes in, struct mesh_scan_endpoint *e) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    bool has_address = false;
    int rc;
    clear_host(e);
    while ((rc = mesh_scan_next(&s, &f)) > 0) {
        if (f.number == ENDPOINT_ADDRESS && f.wire == MESH_WIRE_BYTES) {
            rc = once(&has_address);
            rc = rc ? rc : take_address(f.bytes, e);
        } else if (f.number == ENDPOINT_HOSTNAME && is_text(&f)) {
            e->hostname = f.bytes;
            rc = 0;
        } else {
            const ProtobufCFieldDescriptor *d =
                mesh_scan_find(&mesh__endpoint__endpoint__descriptor, f.number);
            rc = d ? mesh_scan_fits(d, &f) : 0;
            if (rc == 0 && d && d->type == PROTOBUF_C_TYPE_MESSAGE)
                rc = mesh_scan_skim(d->descriptor, f.bytes, MESH_UNIT_DEPTH - 4);
            e->additional = f.number == ENDPOINT_ADDITIONAL ? in : e->additional;
        }
        if (rc)
            return rc;
    }
    return rc;
}

static int check_metadata(struct walk *w, struct mesh_bytes in) {
    if (in.n && in.n == w->metadata.n && memcmp(in.p, w->metadata.p, in.n) == 0)
        return 0;
    int rc = mesh_scan_skim(&mesh__core__metadata__descriptor, in, MESH_UNIT_DEPTH - 3);
    if (rc == 0)
        w->metadata = in;
    return rc;
}

static int take_lb_field(struct walk *w, const struct mesh_field *f, bool seen[2],
                         struct mesh_scan_endpoint *e) {
    int rc;
    switch (f->number) {
    case LB_ENDPOINT:
        return f->wire == MESH_WIRE_BYTES ? take_endpoint(f->bytes, e) : MESH_E_SYNTAX;
    case LB_HEALTH:
        e->health = (uint32_t)f->value <= HEALTH_LAST ? (uint8_t)f->value : HEALTH_UNHEALTHY;
        return f->wire == MESH_WIRE_VARINT ? 0 : MESH_E_SYNTAX;
    case LB_METADATA:
        rc = f->wire == MESH_WIRE_BYTES ? once(&seen[0]) : MESH_E_SYNTAX;
        e->metadata = f->bytes;
        return rc ? rc : check_metadata(w, f->bytes);
    case LB_WEIGHT:
        rc = f->wire == MESH_WIRE_BYTES ? once(&seen[1]) : MESH_E_SYNTAX;
        e->has_weight = true;
        return rc ? rc : take_u32(f->bytes, &e->weight);
    case LB_ENDPOINT_NAME:
        clear_host(e);
        e->kind = KIND_OTHER;
        return is_text(f) ? 0 : MESH_E_SYNTAX;
    default:
        return 0;
    }
}

static int on_endpoint(struct walk *w, struct mesh_bytes in) {
    struct mesh_scan_endpoint e; /* field by field: as one initialiser it takes half of the walk's time */
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    bool seen[2] = {false, false};
    int rc;
    e.locality = w->localities;
    e.health = 0;
    e.has_weight = false;
    e.weight = 0;
    e.metadata = (struct mesh_bytes){NULL, 0};
    clear_host(&e);
    while ((rc = mesh_scan_next(&s, &f)) > 0) {
        rc = take_lb_field(w, &f, seen, &e);
        if (rc)
            return rc;
    }
    w->endpoints++;
    return rc || !w->sink->endpoint ? rc : w->sink->endpoint(w->arg, &e);
}

/* ---- localities -------------------------------------------------------------------------------------------
 */
static int take_names(struct mesh_bytes in, struct mesh_scan_locality *l) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_bytes *part[] = {&l->region, &l->zone, &l->sub_zone};
    struct mesh_field f;
    int rc;
    while ((rc = mesh_scan_known(&s, &mesh__core__locality__descriptor, &f)) > 0)
        if (f.number)
            *part[f.number - 1] = f.bytes;
    return rc;
}

static int take_locality_field(const struct mesh_field *f, bool seen[2], struct mesh_scan_locality *l) {
    int rc;
    switch (f->number) {
    case LOCALITY_NAME:
        rc = once(&seen[0]);
        return rc ? rc : take_names(f->bytes, l);
    case LOCALITY_ENDPOINTS:
        l->n++;
        return 0;
    case LOCALITY_WEIGHT:
        l->has_weight = true;
        rc = once(&seen[1]);
        return rc ? rc : take_u32(f->bytes, &l->weight);
    case LOCALITY_PRIORITY:
        l->priority = (uint32_t)f->value;
        return 0;
    default:
        break;
    }
    const ProtobufCFieldDescriptor *d =
        f->number ? protobuf_c_message_descriptor_get_field(
                        &mesh__endpoint__locality_lb_endpoints__descriptor, f->number)
                  : NULL;
    return d ? mesh_scan_skim(d->descriptor, f->bytes, MESH_UNIT_DEPTH - 2) : 0;
}

static int on_locality(struct walk *w, struct mesh_bytes in) {
    struct mesh_scan_locality l = {.first = w->endpoints};
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    bool seen[2] = {false, false};
    int rc;
    while ((rc = mesh_scan_known(&s, &mesh__endpoint__locality_lb_endpoints__descriptor, &f)) > 0) {
        rc = take_locality_field(&f, seen, &l);
        if (rc)
            return rc;
    }
    if (rc == 0 && w->sink->locality)
        rc = w->sink->locality(w->arg, &l);
    for (s = mesh_scan_of(in); rc == 0 && (rc = mesh_scan_next(&s, &f)) > 0;)
        rc = f.number == LOCALITY_ENDPOINTS ? on_endpoint(w, f.bytes) : 0;
    w->localities++;
    return rc;
}

/* ---- policy -----------------------------------------------------------------------------------------------
 */
static int on_drop(struct walk *w, struct mesh_bytes in) {
    static const uint32_t denominators[] = {100, 10000, 1000000};
    struct mesh_scan_drop drop = {.denominator = denominators[0]};
    struct mesh_scan s = mesh_scan_of(in), percentage;
    struct mesh_field f, part;
    bool seen = false;
    int rc;
    while ((rc = mesh_scan_known(
                &s, &mesh__endpoint__cluster_load_assignment__policy__drop_overload__descriptor, &f)) > 0) {
        drop.category = f.number == 1 ? f.bytes : drop.category;
        if (f.number != 2)
            continue;
        rc = once(&seen);
        percentage = mesh_scan_of(f.bytes);
        while (rc == 0 &&
               (rc = mesh_scan_known(&percentage, &mesh__core__fractional_percent__descriptor, &part)) > 0) {
            drop.numerator = part.number == 1 ? (uint32_t)part.value : drop.numerator;
            if (part.number == 2) /* a number that nobody knows drops nothing */
                drop.denominator = (uint32_t)part.value < 3 ? denominators[(uint32_t)part.value] : UINT32_MAX;
            rc = 0;
        }
        if (rc)
            return rc;
    }
    return rc || !w->sink->drop ? rc : w->sink->drop(w->arg, &drop);
}

struct policy {
    bool has_factor, has_stale, weighted;
    uint32_t factor;
    uint64_t stale;
};

static int take_stale(struct mesh_bytes in, uint64_t *ret) {
    struct mesh_scan s = mesh_scan_of(in);
    struct mesh_field f;
    int64_t seconds = 0, nanos = 0;
    int rc;
    while ((rc = mesh_scan_known(&s, &mesh__pb__duration__descriptor, &f)) > 0) {
        seconds = f.number == 1 ? (int64_t)f.value : seconds;
        nanos = f.number == 2 ? (int32_t)f.value : nanos;
    }
    *ret = mesh_duration_sound(seconds, (int32_t)nanos) && seconds < INT32_MAX
               ? (uint64_t)seconds * UINT64_C(1000000000) + (uint64_t)nanos
               : 0;
    return rc;
}

static int take_policy_field(struct walk *w, const struct mesh_field *f, struct policy *p) {
    int rc;
    switch (f->number) {
    case POLICY_DROPS:
        return on_drop(w, f->bytes);
    case POLICY_OVERPROVISIONING:
        rc = once(&p->has_factor);
        return rc ? rc : take_u32(f->bytes, &p->factor);
    case POLICY_STALE_AFTER:
        rc = once(&p->has_stale);
        return rc ? rc : take_stale(f->bytes, &p->stale);
    case POLICY_WEIGHTED_PRIORITY:
        p->weighted = f->value != 0;
        return 0;
    default:
        return 0;
    }
}

static int on_policy(struct walk *w, struct mesh_bytes in) {
    struct mesh_scan s = mesh_scan_of(in);
    struct policy p = {.factor = 0};
    struct mesh_field f;
    int rc;
    while ((rc = mesh_scan_known(&s, &mesh__endpoint__cluster_load_assignment__policy__descriptor, &f)) > 0) {
        rc = take_policy_field(w, &f, &p);
        if (rc)
            return rc;
    }
    return rc || !w->sink->policy ? rc : w->sink->policy(w->arg, p.has_factor, p.factor, p.stale, p.weighted);
}

/* ---- the whole --------------------------------------------------------------------------------------------
 */
static int on_field(struct walk *w, const struct mesh_field *f, bool *policy) {
    int rc;
    switch (f->number) {
    case CLA_NAME:
        return w->sink->name ? w->sink->name(w->arg, f->bytes) : 0;
    case CLA_LOCALITIES:
        return on_locality(w, f->bytes);
    case CLA_POLICY:
        rc = once(policy);
        return rc ? rc : on_policy(w, f->bytes);
    default:
        break;
    }
    const ProtobufCFieldDescriptor *d =
        f->number ? protobuf_c_message_descriptor_get_field(
                        &mesh__endpoint__cluster_load_assignment__descriptor, f->number)
                  : NULL;
    return d ? mesh_scan_skim(d->descriptor, f->bytes, MESH_UNIT_DEPTH - 1) : 0;
}

int mesh_scan_assignment(const uint8_t *p, size_t n, const struct mesh_scan_assignment_sink *sink,
                         void *arg) {
    struct walk w = {.sink = sink, .arg = arg};
    struct mesh_scan s = mesh_scan_of((struct mesh_bytes){p, n});
    struct mesh_field f;
    bool policy = false;
    int rc;
    while ((rc = mesh_scan_known(&s, &mesh__endpoint__cluster_load_assignment__descriptor, &f)) > 0) {
        rc = on_field(&w, &f, &policy);
        if (rc)
            return rc;
    }
    return rc;
}
