/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/discovery.pb-c.h"
#include "proto/listener.pb-c.h"
#include "proto/pb.pb-c.h"
#include "proto/rbac.pb-c.h"
#include "proto/tls.pb-c.h"
#include "proto/xds.pb-c.h"
#include "tests/unit/proto/reading.h"

static void says(const void *m, int err, const char *text) {
    struct mesh_why why = {""};
    cr_expect_eq(mesh_proto_check(m, "x", &why), err, "%s", why.text);
    cr_expect_str_eq(why.text, text);
}

static Mesh__Pb__Any any_of(const char *type, const void *m, uint8_t *wire) {
    Mesh__Pb__Any any = MESH__PB__ANY__INIT;
    any.type_url = (char *)(uintptr_t)type;
    any.value = (ProtobufCBinaryData){protobuf_c_message_pack(m, wire), wire};
    return any;
}

Test(check, sound_message_passes) {
    Mesh__Cluster__Cluster c = MESH__CLUSTER__CLUSTER__INIT;
    Mesh__Pb__Duration d = MESH__PB__DURATION__INIT;
    c.connect_timeout = &d;
    d.seconds = 315576000000;
    says(&c, 0, "");
}

Test(check, guarded_field_is_refused_with_its_path) {
    Mesh__Listener__Listener l = MESH__LISTENER__LISTENER__INIT;
    Mesh__Listener__FilterChain chain = MESH__LISTENER__FILTER_CHAIN__INIT, *chains[] = {&chain};
    Mesh__Listener__FilterChainMatch match = MESH__LISTENER__FILTER_CHAIN_MATCH__INIT;
    l.n_filter_chains = 1;
    l.filter_chains = chains;
    chain.filter_chain_match = &match;
    says(&l, 0, "");
    match.address_suffix = (char[]){"10."};
    says(&l, MESH_E_UNSUPPORTED,
         "x.filter_chains[0].filter_chain_match.address_suffix: address suffixes are not matched");
}

Test(check, false_and_null_say_nothing) {
    Mesh__Tls__DownstreamTlsContext t = MESH__TLS__DOWNSTREAM_TLS_CONTEXT__INIT;
    Mesh__Pb__BoolValue b = MESH__PB__BOOL_VALUE__INIT;
    t.require_sni = &b;
    says(&t, 0, "");
    b.value = 1;
    says(&t, MESH_E_UNSUPPORTED, "x.require_sni: a missing server name is not refused");
}

Test(check, inside_of_an_any_is_checked) {
    uint8_t wire[256];
    Mesh__Tls__UpstreamTlsContext t = MESH__TLS__UPSTREAM_TLS_CONTEXT__INIT;
    Mesh__Tls__CommonTlsContext common = MESH__TLS__COMMON_TLS_CONTEXT__INIT;
    Mesh__Core__TypedExtensionConfig ext = MESH__CORE__TYPED_EXTENSION_CONFIG__INIT;
    Mesh__Cluster__Cluster c = MESH__CLUSTER__CLUSTER__INIT;
    Mesh__Core__TransportSocket socket = MESH__CORE__TRANSPORT_SOCKET__INIT;
    t.common_tls_context = &common;
    common.custom_handshaker = &ext;
    Mesh__Pb__Any any = any_of("a/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", &t, wire);
    c.transport_socket = &socket;
    socket.config_type_case = MESH__CORE__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG;
    socket.typed_config = &any;
    says(&c, MESH_E_UNSUPPORTED,
         "x.transport_socket.typed_config.common_tls_context.custom_handshaker: custom handshakers are not "
         "supported");
    any.value.len--;
    says(&c, MESH_E_SYNTAX, "x.transport_socket.typed_config: not well-formed");
    any.type_url = (char[]){"a/foo.Bar"};
    says(&c, 0, "");
}

Test(check, duration_out_of_range_is_refused) {
    static const struct {
        int64_t seconds;
        int32_t nanos;
    } bad[] = {{-1, 0},         {315576000001, 0}, {0, -1},
               {0, 1000000000}, {315576000000, 1}, {INT64_MIN, INT32_MIN}};
    Mesh__Cluster__Cluster c = MESH__CLUSTER__CLUSTER__INIT;
    Mesh__Pb__Duration d = MESH__PB__DURATION__INIT;
    c.connect_timeout = &d;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        d.seconds = bad[i].seconds;
        d.nanos = bad[i].nanos;
        says(&c, MESH_E_INVALID, "x.connect_timeout: duration out of range");
    }
}

Test(check, any_in_any_without_end_is_refused) {
    static uint8_t wire[70][8192];
    Mesh__Pb__Any any = MESH__PB__ANY__INIT;
    for (int i = 0; i < 70; i++) {
        Mesh__Pb__Any inner = any;
        any = any_of("x/google.protobuf.Any", &inner, wire[i]);
        if (i == 30)
            says(&any, 0, "");
    }
    says(&any, MESH_E_LIMIT, "x: messages are nested too deep");
}
