/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/discovery.pb-c.h"
#include "proto/proto.h"
#include "proto/scan.h"
#include "shim/base/clock.h"

/* A message from its JSON, packed. The block has exactly its size, so that a sanitizer sees the end. */
static uint8_t *packed(const char *type, const char *text, size_t *ret_n) {
    struct mesh_doc *doc = NULL;
    ProtobufCMessage *m = NULL;
    struct mesh_why why = {""};
    struct mesh_read_opts opts = {.file = "f"};
    cr_assert_eq(mesh_doc_parse(text, strlen(text), "f", &doc, &why), 0, "%s", why.text);
    cr_assert_eq(mesh_proto_read(mesh_doc_root(doc), mesh_proto_type(type), "", &opts, &m, &why), 0, "%s",
                 why.text);
    *ret_n = protobuf_c_message_get_packed_size(m);
    uint8_t *p = malloc(*ret_n ? *ret_n : 1);
    protobuf_c_message_pack(m, p);
    protobuf_c_message_free_unpacked(m, NULL);
    mesh_doc_free(doc);
    return p;
}

/* What the walk says, as text. */
struct log {
    char text[4096];
    size_t len;
    int stop_after; /* calls */
};
static int say(struct log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int say(struct log *l, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(l->text + l->len, sizeof l->text - l->len, fmt, args);
    va_end(args);
    l->len += (size_t)n < sizeof l->text - l->len ? (size_t)n : 0;
    return l->stop_after && --l->stop_after == 0 ? MESH_E_LIMIT : 0;
}
#define B(b) (int)(b).n, (const char *)((b).p ? (b).p : (const uint8_t *)"")

static int on_name(void *arg, struct mesh_bytes name) {
    return say(arg, "name %.*s\n", B(name));
}
static int on_locality(void *arg, const struct mesh_scan_locality *l) {
    return say(arg, "locality %.*s/%.*s/%.*s weight %d:%u priority %u first %u n %u\n", B(l->region),
               B(l->zone), B(l->sub_zone), l->has_weight, l->weight, l->priority, l->first, l->n);
}
static int on_endpoint(void *arg, const struct mesh_scan_endpoint *e) {
    return say(arg, "endpoint %u %.*s:%u (%.*s) health %u weight %d:%u metadata %zu additional %d kind %u\n",
               e->locality, B(e->address), e->port, B(e->hostname), e->health, e->has_weight, e->weight,
               e->metadata.n, e->additional.n != 0, e->kind);
}
static int on_policy(void *arg, bool has, uint32_t factor, uint64_t stale, bool weighted) {
    return say(arg, "policy %d:%u stale %llu weighted %d\n", has, factor, (unsigned long long)stale,
               weighted);
}
static int on_drop(void *arg, const struct mesh_scan_drop *d) {
    return say(arg, "drop %.*s %u/%u\n", B(d->category), d->numerator, d->denominator);
}
static const struct mesh_scan_assignment_sink all = {on_name, on_locality, on_endpoint, on_policy, on_drop};

#define CLA "envoy.config.endpoint.v3.ClusterLoadAssignment"
static const char assignment[] =
    "{cluster_name: c, policy: {overprovisioning_factor: 150, endpoint_stale_after: 2.5s, "
    "weighted_priority_health: true, drop_overloads: [{category: lb, drop_percentage: {numerator: 3, "
    "denominator: TEN_THOUSAND}}]}, endpoints: ["
    "{locality: {region: r, zone: z, sub_zone: s}, load_balancing_weight: 7, priority: 2, lb_endpoints: ["
    "{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}, hostname: h}, "
    "health_status: "
    "DRAINING, load_balancing_weight: 5, metadata: {filter_metadata: {x: {k: [1, {a: b}]}}}},"
    "{endpoint: {address: {pipe: {path: /x}}}}, {endpoint_name: e}, {},"
    "{endpoint: {address: {socket_address: {address: h, protocol: UDP, port_value: 70000}}, "
    "additional_addresses: [{address: {socket_address: {address: 10.0.0.2, port_value: 1}}}]}}]},"
    "{lb_endpoints: [{endpoint: {address: {socket_address: {address: '::1', port_value: 65535}}}}]}]}";

Test(scan, assignment_is_walked_in_order) {
    size_t n;
    uint8_t *p = packed(CLA, assignment, &n);
    struct log l = {.len = 0};
    cr_expect_eq(mesh_scan_assignment(p, n, &all, &l), 0);
    cr_expect_str_eq(l.text,
                     "name c\n"
                     "locality r/z/s weight 1:7 priority 2 first 0 n 5\n"
                     "endpoint 0 10.0.0.1:80 (h) health 3 weight 1:5 metadata 41 additional 0 kind 0\n"
                     "endpoint 0 :0 () health 0 weight 0:0 metadata 0 additional 0 kind 1\n"
                     "endpoint 0 :0 () health 0 weight 0:0 metadata 0 additional 0 kind 2\n"
                     "endpoint 0 :0 () health 0 weight 0:0 metadata 0 additional 0 kind 3\n"
                     "endpoint 0 h:0 () health 0 weight 0:0 metadata 0 additional 1 kind 2\n"
                     "locality // weight 0:0 priority 0 first 5 n 1\n"
                     "endpoint 1 ::1:65535 () health 0 weight 0:0 metadata 0 additional 0 kind 0\n"
                     "drop lb 3/10000\n"
                     "policy 1:150 stale 2500000000 weighted 1\n",
                     "%s", l.text);
    free(p);
}

Test(scan, sink_that_ends_the_walk_is_obeyed) {
    size_t n;
    uint8_t *p = packed(CLA, assignment, &n);
    for (int i = 1; i <= 11; i++) {
        struct log l = {.stop_after = i};
        cr_expect_eq(mesh_scan_assignment(p, n, &all, &l), MESH_E_LIMIT, "%d", i);
    }
    static const struct mesh_scan_assignment_sink none;
    cr_expect_eq(mesh_scan_assignment(p, n, &none, NULL), 0);
    free(p);
}

/* Whether a prefix is a message is protobuf-c's to say. */
static int oracle(const char *type, const uint8_t *p, size_t n) {
    ProtobufCMessage *m = NULL;
    int err = mesh_proto_unpack(mesh_proto_type(type), p, n, &m);
    if (!err)
        protobuf_c_message_free_unpacked(m, NULL);
    return err;
}

Test(scan, every_truncation_of_an_assignment_is_judged_as_by_protobuf_c) {
    size_t n, whole = 0;
    uint8_t *p = packed(CLA, assignment, &n);
    for (size_t k = 0; k <= n; k++) {
        uint8_t *exact = malloc(k ? k : 1);
        memcpy(exact, p, k);
        struct log l = {.len = 0};
        int err = mesh_scan_assignment(exact, k, &all, &l);
        cr_expect_eq(err, oracle(CLA, exact, k), "at %zu: %d", k, err);
        whole += err == 0;
        free(exact);
    }
    cr_expect_eq(whole, 5); /* nothing, and after each of its four fields */
    free(p);
}

static int scan(const char *bytes, size_t n) {
    static const struct mesh_scan_assignment_sink none;
    return mesh_scan_assignment((const uint8_t *)bytes, n, &none, NULL);
}
#define SCAN(bytes) scan(bytes, sizeof(bytes) - 1)

Test(scan, rubbish_is_a_syntax_error) {
    cr_expect_eq(SCAN(""), 0);
    cr_expect_eq(SCAN("\x00\x00"), MESH_E_SYNTAX);                         /* number 0 */
    cr_expect_eq(SCAN("\x80\x00\x00"), MESH_E_SYNTAX);                     /* the same, longer */
    cr_expect_eq(SCAN("\x0b\x0c"), MESH_E_SYNTAX);                         /* a group */
    cr_expect_eq(SCAN("\x0a\x01\xff"), MESH_E_SYNTAX);                     /* no UTF-8 */
    cr_expect_eq(SCAN("\x0a\x01\x00"), MESH_E_SYNTAX);                     /* NUL */
    cr_expect_eq(SCAN("\x08\x01"), MESH_E_SYNTAX);                         /* a number where a text belongs */
    cr_expect_eq(SCAN("\x0a\x81\x80\x80\x80\x80\x00x"), MESH_E_SYNTAX);    /* over-long length */
    cr_expect_eq(SCAN("\xf8\xff\xff\xff\xff\xff\x01\x01"), MESH_E_SYNTAX); /* over-long tag */
    cr_expect_eq(SCAN("\x50\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 0);
    cr_expect_eq(SCAN("\x50\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), MESH_E_SYNTAX);
    cr_expect_eq(SCAN("\x55\x01\x02\x03\x04\x51\x01\x02\x03\x04\x05\x06\x07\x08"), 0); /* unknown */
}

Test(scan, singular_message_that_comes_twice_is_refused) {
    cr_expect_eq(SCAN("\x22\x00\x22\x00"), MESH_E_UNSUPPORTED);                 /* policy */
    cr_expect_eq(SCAN("\x12\x04\x0a\x00\x0a\x00"), MESH_E_UNSUPPORTED);         /* locality */
    cr_expect_eq(SCAN("\x12\x06\x12\x04\x22\x00\x22\x00"), MESH_E_UNSUPPORTED); /* weight */
    cr_expect_eq(SCAN("\x12\x06\x12\x04\x0a\x00\x0a\x00"), 0); /* of a oneof the last one counts */
}

/* ---- responses --------------------------------------------------------------------------------------------
 */
static int on_resource(void *arg, const struct mesh_scan_resource *r) {
    return say(arg, "resource %.*s version %.*s type %.*s value %.*s%s wrapped %d ttl %d:%llu\n", B(r->name),
               B(r->version), B(r->type_url), B(r->value), r->value.p ? "" : "(none)", r->is_wrapped,
               r->has_ttl, (unsigned long long)r->ttl);
}
static int on_removed(void *arg, struct mesh_bytes name) {
    return say(arg, "removed %.*s\n", B(name));
}
static int on_error(void *arg, struct mesh_bytes name, int code, struct mesh_bytes message) {
    return say(arg, "error %.*s %d %.*s\n", B(name), code, B(message));
}
static const struct mesh_scan_sink sink = {on_resource, on_removed, on_error};

static uint8_t *pack(const void *m, size_t *ret_n) {
    *ret_n = protobuf_c_message_get_packed_size(m);
    uint8_t *p = malloc(*ret_n ? *ret_n : 1);
    protobuf_c_message_pack(m, p);
    return p;
}

struct parts { /* of both kinds of response */
    Mesh__Pb__Duration ttl;
    Mesh__Pb__Any any;
    Mesh__Discovery__Resource full, heartbeat;
    Mesh__Discovery__Resource *resources[2];
    Mesh__Discovery__ResourceName gone, bad;
    Mesh__Discovery__ResourceName *gones[1];
    Mesh__Pb__Status status;
    Mesh__Discovery__ResourceError error;
    Mesh__Discovery__ResourceError *errors[1];
    char *removed[1];
};

static void fill(struct parts *x) {
    mesh__pb__duration__init(&x->ttl);
    x->ttl.seconds = 3;
    mesh__pb__any__init(&x->any);
    x->any.type_url = "t/x";
    x->any.value = (ProtobufCBinaryData){3, (uint8_t *)"abc"};
    mesh__discovery__resource__init(&x->full);
    x->full.name = "a";
    x->full.version = "1";
    x->full.resource = &x->any;
    x->full.ttl = &x->ttl;
    mesh__discovery__resource__init(&x->heartbeat);
    x->heartbeat.name = "b";
    x->resources[0] = &x->full;
    x->resources[1] = &x->heartbeat;
    mesh__discovery__resource_name__init(&x->gone);
    x->gone.name = "g";
    x->gones[0] = &x->gone;
    mesh__discovery__resource_name__init(&x->bad);
    x->bad.name = "e";
    mesh__pb__status__init(&x->status);
    x->status.code = 5;
    x->status.message = "no";
    mesh__discovery__resource_error__init(&x->error);
    x->error.resource_name = &x->bad;
    x->error.error_detail = &x->status;
    x->errors[0] = &x->error;
    x->removed[0] = "r";
}

static void truncations(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t n, bool is_delta) {
    for (size_t k = 0; k <= n; k++) {
        uint8_t *exact = malloc(k ? k : 1);
        struct mesh_scan_response head;
        struct log l = {.len = 0};
        ProtobufCMessage *m = NULL;
        memcpy(exact, p, k);
        int err = mesh_proto_unpack(d, exact, k, &m);
        cr_expect_eq(mesh_scan_response(exact, k, is_delta, &head), err, "at %zu", k);
        cr_expect_eq(mesh_scan_response_each(exact, k, is_delta, &sink, &l), err, "at %zu", k);
        if (!err)
            protobuf_c_message_free_unpacked(m, NULL);
        free(exact);
    }
}

Test(scan, delta_response_is_walked) {
    struct parts x;
    struct mesh_scan_response head;
    struct log l = {.len = 0};
    size_t n;
    fill(&x);
    Mesh__Discovery__DeltaDiscoveryResponse m = MESH__DISCOVERY__DELTA_DISCOVERY_RESPONSE__INIT;
    m.system_version_info = "v";
    m.type_url = "t/x";
    m.nonce = "n";
    m.n_resources = 2;
    m.resources = x.resources;
    m.n_removed_resources = 1;
    m.removed_resources = x.removed;
    m.n_removed_resource_names = 1;
    m.removed_resource_names = x.gones;
    m.n_resource_errors = 1;
    m.resource_errors = x.errors;
    uint8_t *p = pack(&m, &n);
    cr_assert_eq(mesh_scan_response(p, n, true, &head), 0);
    cr_expect(head.version.n == 1 && head.type_url.n == 3 && *head.nonce.p == 'n');
    cr_expect(head.nresources == 2 && head.nremoved == 2 && head.nerrors == 1);
    cr_assert_eq(mesh_scan_response_each(p, n, true, &sink, &l), 0);
    cr_expect_str_eq(l.text,
                     "resource a version 1 type t/x value abc wrapped 1 ttl 1:3000000000\n"
                     "resource b version  type  value (none) wrapped 1 ttl 0:0\n"
                     "removed r\nremoved g\nerror e 5 no\n",
                     "%s", l.text);
    truncations(m.base.descriptor, p, n, true);
    for (int i = 1; i <= 5; i++)
        cr_expect_eq(mesh_scan_response_each(p, n, true, &sink, &(struct log){.stop_after = i}),
                     MESH_E_LIMIT);
    free(p);
}

Test(scan, state_of_the_world_response_is_walked_and_unwrapped) {
    struct parts x;
    struct mesh_scan_response head;
    struct log l = {.len = 0};
    size_t n, inner;
    fill(&x);
    uint8_t *wrapped = pack(&x.full, &inner);
    Mesh__Pb__Any around = MESH__PB__ANY__INIT, broken = MESH__PB__ANY__INIT;
    around.type_url = broken.type_url = "type.googleapis.com/envoy.service.discovery.v3.Resource";
    around.value = (ProtobufCBinaryData){inner, wrapped};
    broken.value = (ProtobufCBinaryData){1, wrapped};
    Mesh__Pb__Any *any[] = {&x.any, &around, &broken};
    Mesh__Discovery__DiscoveryResponse m = MESH__DISCOVERY__DISCOVERY_RESPONSE__INIT;
    m.version_info = "v";
    m.type_url = "t/x";
    m.nonce = "n";
    m.n_resources = 3;
    m.resources = any;
    m.n_resource_errors = 1;
    m.resource_errors = x.errors;
    uint8_t *p = pack(&m, &n);
    cr_assert_eq(mesh_scan_response(p, n, false, &head), 0);
    cr_expect(head.nresources == 3 && head.nremoved == 0 && head.nerrors == 1 && *head.version.p == 'v');
    cr_assert_eq(mesh_scan_response_each(p, n, false, &sink, &l), 0);
    cr_expect_str_eq(
        l.text,
        "resource  version  type t/x value abc wrapped 0 ttl 0:0\n"
        "resource a version 1 type t/x value abc wrapped 1 ttl 1:3000000000\n"
        "resource  version  type type.googleapis.com/envoy.service.discovery.v3.Resource value \n"
        " wrapped 0 ttl 0:0\n"
        "error e 5 no\n",
        "%s", l.text);
    truncations(m.base.descriptor, p, n, false);
    free(p);
    free(wrapped);
}
