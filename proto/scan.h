/* SPDX-License-Identifier: Apache-2.0
 *
 * The bounded wire scanner: walks protobuf bytes without building messages, for what arrives in bulk (discovery responses,
 * ClusterLoadAssignments of 100,000 endpoints). No heap, no recursion, never reads outside [p, p + n). What it accepts is what
 * mesh_proto_unpack accepts (a fuzz target holds it to that), parts that no sink is given included; unknown fields are skipped.
 * One difference: of a ClusterLoadAssignment, a singular message that comes twice, which protobuf would merge, is
 * MESH_E_UNSUPPORTED; no encoder writes that. Threads: any.
 */
#ifndef MESH_PROTO_SCAN_H
#define MESH_PROTO_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shim/base/err.h"

struct mesh_bytes {
    const uint8_t *p;
    size_t n;
};

enum { MESH_WIRE_VARINT, MESH_WIRE_FIXED64, MESH_WIRE_BYTES, MESH_WIRE_FIXED32 = 5 };

/* ---- fields ---------------------------------------------------------------------------------------------------------- */
struct mesh_scan {
    const uint8_t *p, *end;
};
static inline struct mesh_scan mesh_scan_of(struct mesh_bytes b) {
    return (struct mesh_scan){b.p, b.n ? b.p + b.n : b.p};
}
struct mesh_field {
    uint32_t number;
    uint8_t wire;            /* MESH_WIRE_ */
    uint64_t value;          /* wire 0, 1, 5 */
    struct mesh_bytes bytes; /* wire 2 */
};
/* The next field: 1, 0 at the end, MESH_E_SYNTAX (truncated, over-long varint, group, number 0). */
int mesh_scan_next(struct mesh_scan *s, struct mesh_field *ret) MESH_MUST_CHECK;

/* Well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF) without NUL. */
bool mesh_text_sound(const uint8_t *p, size_t n);

/* ---- discovery.v3.DiscoveryResponse, DeltaDiscoveryResponse ----------------------------------------------------------- */
struct mesh_scan_resource {
    struct mesh_bytes name;     /* Resource wrapper's; empty for a bare Any */
    struct mesh_bytes version;  /* Resource wrapper's */
    struct mesh_bytes type_url, value; /* of the Any; value.p NULL: a wrapper without resource (heartbeat) */
    bool is_wrapped, has_ttl;   /* a ttl that is no sound duration: none */
    uint64_t ttl;               /* ns */
};
struct mesh_scan_response {
    struct mesh_bytes version, type_url, nonce; /* version: version_info, or system_version_info */
    uint32_t nresources, nremoved, nerrors;
};
/* First pass: the frame; a message whose frame does not scan cannot even be NACKed. */
int mesh_scan_response(const uint8_t *p, size_t n, bool is_delta, struct mesh_scan_response *ret) MESH_MUST_CHECK;
struct mesh_scan_sink {
    int (*resource)(void *arg, const struct mesh_scan_resource *r); /* negative ends the walk and is returned */
    int (*removed)(void *arg, struct mesh_bytes name);              /* Delta */
    int (*error)(void *arg, struct mesh_bytes name, int code, struct mesh_bytes message); /* resource_errors (A88) */
};
int mesh_scan_response_each(const uint8_t *p, size_t n, bool is_delta, const struct mesh_scan_sink *sink, void *arg) MESH_MUST_CHECK;

/* ---- endpoint.v3.ClusterLoadAssignment ------------------------------------------------------------------------------- */
struct mesh_scan_locality {
    struct mesh_bytes region, zone, sub_zone;
    uint32_t weight;   /* load_balancing_weight; 0 and has_weight false when not said */
    bool has_weight;
    uint32_t priority;
    uint32_t first, n; /* its endpoints come in the walk as number first .. first + n - 1 */
};
struct mesh_scan_endpoint {
    uint32_t locality;         /* number of its locality in the walk */
    struct mesh_bytes address; /* text of socket_address.address */
    struct mesh_bytes hostname;
    uint16_t port;
    uint8_t health;            /* core.v3.HealthStatus; a number beyond DEGRADED comes as UNHEALTHY */
    bool has_weight;
    uint32_t weight;
    struct mesh_bytes metadata;   /* core.v3.Metadata bytes, empty: none */
    struct mesh_bytes additional; /* the whole `endpoint` message when it has additional_addresses, else empty */
    uint8_t kind;              /* 0 socket_address of TCP, 1 pipe, 2 something else, 3 none */
};
struct mesh_scan_drop {
    struct mesh_bytes category;
    uint32_t numerator, denominator; /* denominator 100, 10000 or 1000000; UINT32_MAX when it is none of them */
};
struct mesh_scan_assignment_sink { /* any of them NULL: passed over; negative ends the walk */
    int (*name)(void *arg, struct mesh_bytes cluster_name);
    int (*locality)(void *arg, const struct mesh_scan_locality *l); /* before its endpoints; n is known */
    int (*endpoint)(void *arg, const struct mesh_scan_endpoint *e);
    int (*policy)(void *arg, bool has_overprovisioning, uint32_t factor, uint64_t stale_after, bool weighted_priority_health);
    int (*drop)(void *arg, const struct mesh_scan_drop *d);
};
int mesh_scan_assignment(const uint8_t *p, size_t n, const struct mesh_scan_assignment_sink *sink, void *arg) MESH_MUST_CHECK;

#endif
