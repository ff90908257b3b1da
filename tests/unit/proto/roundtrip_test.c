/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages made at random from the descriptors: printed as JSON and as YAML, read again and packed, they are
 * what they were. PROTO_SEED repeats one run.
 */
#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/inner.h"
#include "proto/lb.pb-c.h"
#include "proto/pb.pb-c.h"
#include "proto/tls.pb-c.h"
#include "tests/unit/proto/reading.h"

static uint64_t state;

static unsigned draw(unsigned n) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(state >> 33) % n;
}

static uint64_t draw64(void) {
    static const uint64_t corners[] = {
        0, 1, 127, 128, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, (uint64_t)INT64_MIN};
    return draw(2) ? corners[draw(9)] : ((uint64_t)draw(1u << 31) << 33 | draw(1u << 31)) >> draw(64);
}

static char *draw_text(struct mesh_heap *h) {
    static const char *const pieces[] = {"a",
                                         "Z",
                                         "0",
                                         " ",
                                         "-",
                                         ":",
                                         "\"",
                                         "\\",
                                         "\n",
                                         "\t",
                                         "#",
                                         "{",
                                         "]",
                                         ",",
                                         "'",
                                         "\x01",
                                         "\x7f",
                                         "\xc2\x85",
                                         "\xe2\x80\xa8",
                                         "\xef\xbb\xbf",
                                         "\xef\xbf\xbf",
                                         "\xf0\x9f\x98\x80",
                                         "\xf4\x8f\xbf\xbf",
                                         "true",
                                         "no",
                                         "~",
                                         "\\u0041",
                                         "\xc3\xa9"};
    char text[128] = "";
    for (unsigned n = draw(6); n; n--)
        strcat(text, pieces[draw(sizeof(pieces) / sizeof(pieces[0]))]);
    return mesh_heap_strndup(h, text, strlen(text));
}

static ProtobufCMessage *draw_message(struct mesh_heap *h, const ProtobufCMessageDescriptor *d, int depth);

static void draw_special(struct mesh_heap *h, ProtobufCMessage *m, int depth) {
    static const char *const types[] = {"envoy.config.cluster.v3.Cluster",
                                        "google.protobuf.Duration",
                                        "google.protobuf.Struct",
                                        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                                        "envoy.config.core.v3.Address",
                                        "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"};
    if (m->descriptor == &mesh__pb__duration__descriptor) {
        ((Mesh__Pb__Duration *)m)->seconds = (int64_t)(draw64() % 315576000000u);
        ((Mesh__Pb__Duration *)m)->nanos = (int32_t)draw(1000000000);
    } else if (m->descriptor == &mesh__pb__timestamp__descriptor) {
        ((Mesh__Pb__Timestamp *)m)->seconds = (int64_t)(draw64() % 315537897600u) - 62135596800;
        ((Mesh__Pb__Timestamp *)m)->nanos = (int32_t)draw(1000000000);
    } else if (m->descriptor == &mesh__pb__any__descriptor && depth > 1) {
        Mesh__Pb__Any *any = (Mesh__Pb__Any *)m;
        char url[128];
        snprintf(url, sizeof(url), "type.googleapis.com/%s", types[draw(6)]);
        ProtobufCMessage *inner = draw_message(h, mesh_proto_type(url), depth - 1);
        any->type_url = mesh_heap_strndup(h, url, strlen(url));
        any->value.data = mesh_heap_zalloc(h, protobuf_c_message_get_packed_size(inner));
        any->value.len = protobuf_c_message_pack(inner, any->value.data);
        drop(inner);
    }
}

static void draw_value(struct mesh_heap *h, const ProtobufCFieldDescriptor *f, void *v, int depth) {
    double number = (double)(int64_t)draw64() / (1 + draw(1000));
    switch (f->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)v = draw_message(h, f->descriptor, depth - 1);
        return;
    case PROTOBUF_C_TYPE_STRING:
        *(char **)v = draw_text(h);
        return;
    case PROTOBUF_C_TYPE_BYTES:
        ((ProtobufCBinaryData *)v)->len = draw(9);
        ((ProtobufCBinaryData *)v)->data = mesh_heap_zalloc(h, 9);
        for (size_t i = 0; i < 9; i++)
            ((ProtobufCBinaryData *)v)->data[i] = (uint8_t)draw(256);
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        *(double *)v = number;
        return;
    case PROTOBUF_C_TYPE_FLOAT:
        *(float *)v = (float)number;
        return;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)v = (int)draw(2);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        *(uint64_t *)v = draw64();
        return;
    case PROTOBUF_C_TYPE_ENUM:
        *(int *)v = (int)draw(9);
        return;
    default:
        *(uint32_t *)v = (uint32_t)draw64();
    }
}

static void draw_many(struct mesh_heap *h, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m,
                      int depth) {
    size_t n = 1 + draw(3), size = mesh_field_size(f);
    if (mesh_field_map(f))
        n = 1; /* two drawn keys might be one */
    char *array = mesh_heap_zalloc(h, n * size);
    for (size_t i = 0; i < n; i++)
        draw_value(h, f, array + i * size, depth);
    *mesh_field_count(m, f) = n;
    *(void **)mesh_field_value(m, f) = array;
}

static bool secret(const ProtobufCFieldDescriptor *f) {
    static const char *const names[] = {"private_key", "password", "pkcs12", "keys", "secret", "secrets"};
    for (size_t i = 0; i < 6; i++)
        if (!strcmp(names[i], f->name))
            return true;
    return false;
}

static void draw_into(struct mesh_heap *h, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m,
                      int depth) {
    if (mesh_field_repeated(f)) {
        draw_many(h, f, m, depth);
        return;
    }
    if (mesh_field_oneof(f))
        *mesh_field_case(m, f) = f->id;
    draw_value(h, f, mesh_field_value(m, f), depth);
}

/* Drawn into a message of its own, and moved from there unless it is one that is refused. */
static void draw_field(struct mesh_heap *h, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m,
                       int depth) {
    if (secret(f) || (depth <= 1 && f->type == PROTOBUF_C_TYPE_MESSAGE) ||
        (mesh_field_oneof(f) && *mesh_field_case(m, f)))
        return;
    ProtobufCMessage *own = mesh_message_new(h, m->descriptor);
    draw_into(h, f, own, depth);
    if (mesh_guard_refuses(own, f)) {
        drop(own);
        return;
    }
    memcpy(mesh_field_value(m, f), mesh_field_value(own, f),
           mesh_field_repeated(f) ? sizeof(void *) : mesh_field_size(f));
    if (mesh_field_repeated(f))
        *mesh_field_count(m, f) = *mesh_field_count(own, f);
    else if (mesh_field_oneof(f))
        *mesh_field_case(m, f) = f->id;
    free(own);
}

static ProtobufCMessage *draw_message(struct mesh_heap *h, const ProtobufCMessageDescriptor *d, int depth) {
    ProtobufCMessage *m = mesh_message_new(h, d);
    bool entry = d->n_fields == 2 && !strcmp(d->fields[0].name, "key") && !strcmp(d->fields[1].name, "value");
    bool value = d == &mesh__pb__value__descriptor;
    draw_special(h, m, depth);
    if (d == &mesh__pb__duration__descriptor || d == &mesh__pb__timestamp__descriptor ||
        d == &mesh__pb__any__descriptor)
        return m;
    if (value && depth <= 2) { /* one that holds no message; a value of no kind prints as null */
        draw_field(h, &d->fields[2], m, depth);
        return m;
    }
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[value ? draw(d->n_fields) : i];
        if (value && f->type == PROTOBUF_C_TYPE_ENUM)
            continue;
        if (entry || value || draw(4) == 0)
            draw_field(h, f, m, entry && depth < 3 ? 3 : depth);
    }
    if (value && !*mesh_field_case(m, &d->fields[0]))
        draw_field(h, &d->fields[2], m, depth);
    return m;
}

static void comes_back(const ProtobufCMessage *m, bool yaml, int indent, uint64_t seed) {
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *before = malloc(n + 1), *after;
    char *text;
    struct mesh_doc *doc = NULL;
    struct mesh_why why = {""};
    struct mesh_read_opts opts = {.file = "f"};
    ProtobufCMessage *back = NULL;
    protobuf_c_message_pack(m, before);
    cr_assert_eq(mesh_proto_print(m, yaml, indent, &text), 0);
    cr_assert_eq(mesh_doc_parse(text, strlen(text), "f", &doc, &why), 0, "seed %lu: %s\n%s",
                 (unsigned long)seed, why.text, text);
    cr_assert_eq(mesh_proto_read(mesh_doc_root(doc), m->descriptor, "", &opts, &back, &why), 0,
                 "seed %lu: %s\n%s", (unsigned long)seed, why.text, text);
    size_t n2 = protobuf_c_message_get_packed_size(back);
    after = malloc(n2 + 1);
    protobuf_c_message_pack(back, after);
    cr_assert(n == n2 && !memcmp(before, after, n), "seed %lu: %zu and %zu bytes\n%s", (unsigned long)seed, n,
              n2, text);
    drop(back);
    ProtobufCMessage *unpacked = NULL;
    cr_assert_eq(mesh_proto_unpack(m->descriptor, before, n, &unpacked), 0);
    cr_assert_eq(mesh_proto_check(unpacked, "", &why), 0, "seed %lu: %s", (unsigned long)seed, why.text);
    drop(unpacked);
    mesh_doc_free(doc);
    free(text);
    free(before);
    free(after);
}

Test(roundtrip, random_messages_come_back_as_they_were) {
    static const char *const types[] = {
        "envoy.config.cluster.v3.Cluster",
        "envoy.config.listener.v3.Listener",
        "envoy.config.route.v3.RouteConfiguration",
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "envoy.extensions.transport_sockets.tls.v3.Secret",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "envoy.extensions.filters.network.rbac.v3.RBAC",
        "google.protobuf.Value",
        "google.protobuf.Struct",
        "google.protobuf.Any",
        "google.protobuf.Timestamp"};
    const char *only = getenv("PROTO_SEED");
    for (uint64_t seed = only ? strtoull(only, NULL, 10) : 1; seed <= (only ? strtoull(only, NULL, 10) : 600);
         seed++) {
        struct mesh_heap h;
        state = seed * 977;
        mesh_heap_init(&h, (size_t)64 << 20);
        ProtobufCMessage *m = draw_message(&h, mesh_proto_type(types[seed % 12]), 9);
        comes_back(m, false, (int)draw(3), seed);
        comes_back(m, true, 2 + (int)draw(3), seed);
        drop(m);
    }
}
