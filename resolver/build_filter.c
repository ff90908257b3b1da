/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/http.pb-c.h"
#include "proto/xds.pb-c.h"
#include "resolver/builder.h"
#include "shim/base/mem.h"

/* Filters that only observe, or that mean something to single requests but let all of them through.
 * Everything else may guard what it stands before, so what it stands before is refused. */
static const char *const harmless[] = {
    "istio.metadata_exchange",
    "istio.stats",
    "istio.alpn",
    "istio.peer_metadata",
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.cors",
    "envoy.filters.http.router",
    "envoy.router",
    "envoy.filters.network.tcp_proxy",
    "envoy.filters.network.http_connection_manager",
};
static const char *const guards[] = {
    "envoy.filters.network.rbac",         "envoy.filters.http.rbac",
    "envoy.filters.network.ext_authz",    "envoy.filters.http.ext_authz",
    "envoy.filters.http.jwt_authn",       "envoy.filters.network.local_ratelimit",
    "envoy.filters.http.local_ratelimit", "envoy.filters.network.ratelimit",
    "envoy.filters.http.ratelimit",
};

static bool is_one_of(const char *const *list, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

static bool is_empty_fault(const Mesh__Pb__Any *config) {
    int rc;
    if (!mesh_any_is(config, &mesh__http__httpfault__descriptor))
        return false;
    Mesh__Http__HTTPFault *f = mesh_any_open(config, &mesh__http__httpfault__descriptor, &rc);
    bool empty = f && !f->delay && !f->abort;
    if (f)
        protobuf_c_message_free_unpacked(&f->base, NULL);
    return empty;
}

static bool is_guard_type(const char *type) {
    static const char *const parts[] = {".rbac.", ".ext_authz.", ".jwt_authn.", "ratelimit."};
    for (size_t i = 0; i < MESH_ARRAY_LEN(parts); i++)
        if (type && strstr(type, parts[i]))
            return true;
    return false;
}

/* What a TypedStruct stands for: the message that it would be. Both kinds have the same fields. */
static bool wraps_guard(const Mesh__Pb__Any *config) {
    const ProtobufCMessageDescriptor *kinds[] = {&mesh__xds__typed_struct__descriptor,
                                                 &mesh__xds__udpa_typed_struct__descriptor};
    bool yes = false;
    for (size_t i = 0; i < MESH_ARRAY_LEN(kinds); i++) {
        int rc;
        ProtobufCMessage *m = mesh_any_is(config, kinds[i]) ? mesh_any_open(config, kinds[i], &rc) : NULL;
        if (mesh_any_is(config, kinds[i]) && !m)
            return true; /* it cannot be read */
        if (!m)
            continue;
        yes |= is_guard_type(i ? ((Mesh__Xds__UdpaTypedStruct *)m)->type_url
                               : ((Mesh__Xds__TypedStruct *)m)->type_url);
        protobuf_c_message_free_unpacked(m, NULL);
    }
    return yes;
}

/* Names are free text: what has a guard's type is one under any name. */
static bool is_guard(const char *name, const Mesh__Pb__Any *config) {
    if (is_guard_type(mesh_any_type(config)) || wraps_guard(config))
        return true;
    return is_one_of(guards, MESH_ARRAY_LEN(guards), name);
}

const char *mesh_filter_fault(const char *name, const Mesh__Pb__Any *config, bool is_optional) {
    if (is_guard(name, config))
        return "it decides who may pass, and is not supported";
    if (is_one_of(harmless, MESH_ARRAY_LEN(harmless), name) || is_optional)
        return NULL;
    if (strcmp(name, "envoy.filters.http.fault") == 0)
        return is_empty_fault(config) ? NULL : "injected faults are not supported";
    if (mesh_any_is(config, &mesh__http__router__descriptor))
        return NULL;
    return "not known: it may decide who may pass";
}
