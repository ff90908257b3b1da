/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/discovery.pb-c.h"
#include "proto/endpoint.pb-c.h"
#include "proto/http.pb-c.h"
#include "proto/inner.h"
#include "proto/lb.pb-c.h"
#include "proto/listener.pb-c.h"
#include "proto/matcher.pb-c.h"
#include "proto/nds.pb-c.h"
#include "proto/pb.pb-c.h"
#include "proto/rbac.pb-c.h"
#include "proto/route.pb-c.h"
#include "proto/tcp.pb-c.h"
#include "proto/tls.pb-c.h"
#include "proto/xds.pb-c.h"
#include "tests/unit/proto/reading.h"

Test(tables, each_type_is_found_by_what_follows_the_last_slash) {
    static const struct {
        const char *name;
        const ProtobufCMessageDescriptor *d;
    } types[] = {
#define MESH_TYPE(name, message) {name, &message##__descriptor},
#include "proto/types.def"
#undef MESH_TYPE
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        char url[256];
        snprintf(url, sizeof(url), "type.googleapis.com/%s", types[i].name);
        cr_expect_eq(mesh_proto_type(url), types[i].d, "%s: is the table sorted?", url);
        cr_expect_eq(mesh_proto_type(types[i].name), types[i].d);
        cr_expect_str_eq(mesh_proto_type_name(types[i].d), types[i].name);
    }
    cr_expect_null(mesh_proto_type("type.googleapis.com/"));
    cr_expect_null(mesh_proto_type(""));
    cr_expect_null(mesh_proto_type("x/envoy.config.cluster.v3.ClusterX"));
    cr_expect_null(mesh_proto_type_name(&mesh__core__node__descriptor));
}

Test(tables, each_guarded_field_exists) {
    static const struct {
        const ProtobufCMessageDescriptor *d;
        const char *field;
    } guards[] = {
#define MESH_REFUSE(message, field, reason) {&message##__descriptor, #field},
#define MESH_HANDLED(message, field, reason) {&message##__descriptor, #field},
#include "proto/guard.def"
#undef MESH_REFUSE
#undef MESH_HANDLED
    };
    for (size_t i = 0; i < sizeof(guards) / sizeof(guards[0]); i++)
        cr_expect(mesh_field_find(guards[i].d, guards[i].field), "%s has no %s", guards[i].d->name,
                  guards[i].field);
}

Test(tables, field_is_either_in_the_subset_or_left_out) {
    static const struct {
        const ProtobufCMessageDescriptor *d;
        const char *names;
    } skips[] = {
#define MESH_SKIP(message, names) {&message##__descriptor, names},
#include "proto/skip.def"
#undef MESH_SKIP
    };
    for (size_t i = 0; i < sizeof(skips) / sizeof(skips[0]); i++) {
        for (const char *s = skips[i].names; *s; s += strlen(s) + 1) {
            cr_expect_null(mesh_field_find(skips[i].d, s), "%s: %s", skips[i].d->name, s);
            cr_expect(mesh_skip_has(skips[i].d, s));
        }
    }
    cr_expect_not(mesh_skip_has(&mesh__cluster__cluster__descriptor, "name"));
    cr_expect(mesh_skip_has(&mesh__cluster__cluster__descriptor, "http2ProtocolOptions"));
}

Test(tables, camel_case_of_a_name_is_that_name) {
    cr_expect(mesh_name_is("use_original_dst", "useOriginalDst"));
    cr_expect(mesh_name_is("consecutive_5xx", "consecutive5xx"));
    cr_expect(mesh_name_is("a_b", "a_b"));
    cr_expect_not(mesh_name_is("a_b", "ab"));
    cr_expect_not(mesh_name_is("a_b", "aBc"));
    cr_expect_not(mesh_name_is("a_b", "a"));
    cr_expect_not(mesh_name_is("a_b", ""));
}
