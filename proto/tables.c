/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

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
#include "shim/base/mem.h"

struct type {
    const char *name;
    const ProtobufCMessageDescriptor *d;
};
static const struct type types[] = {
#define MESH_TYPE(name, message) {name, &message##__descriptor},
#include "proto/types.def"
#undef MESH_TYPE
};

static int type_order(const void *name, const void *type) {
    return strcmp(name, ((const struct type *)type)->name);
}

const ProtobufCMessageDescriptor *mesh_proto_type(const char *type_url) {
    const char *slash = strrchr(type_url, '/');
    const struct type *t =
        bsearch(slash ? slash + 1 : type_url, types, MESH_ARRAY_LEN(types), sizeof(types[0]), type_order);
    return t ? t->d : NULL;
}

const char *mesh_proto_type_name(const ProtobufCMessageDescriptor *d) {
    for (size_t i = 0; i < MESH_ARRAY_LEN(types); i++)
        if (types[i].d == d)
            return types[i].name;
    return NULL;
}

struct guard {
    const ProtobufCMessageDescriptor *d;
    const char *field, *reason;
};
static const struct guard guards[] = {
#define MESH_REFUSE(message, field, reason) {&message##__descriptor, #field, reason},
#define MESH_HANDLED(message, field, reason)
#include "proto/guard.def"
#undef MESH_REFUSE
#undef MESH_HANDLED
};

const char *mesh_guard_refuses(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    for (size_t i = 0; i < MESH_ARRAY_LEN(guards); i++) {
        if (guards[i].d != m->descriptor || strcmp(guards[i].field, f->name))
            continue;
        if (!mesh_field_set(m, f))
            return NULL;
        if (f->descriptor == &mesh__pb__bool_value__descriptor &&
            !(*(Mesh__Pb__BoolValue *const *)mesh_field_value(m, f))->value)
            return NULL;
        return guards[i].reason;
    }
    return NULL;
}

struct skip {
    const ProtobufCMessageDescriptor *d;
    const char *names; /* each with its NUL; an empty one ends them */
};
static const struct skip skips[] = {
#define MESH_SKIP(message, names) {&message##__descriptor, names},
#include "proto/skip.def"
#undef MESH_SKIP
};

bool mesh_skip_has(const ProtobufCMessageDescriptor *d, const char *name) {
    for (size_t i = 0; i < MESH_ARRAY_LEN(skips); i++) {
        if (skips[i].d != d)
            continue;
        for (const char *s = skips[i].names; *s; s += strlen(s) + 1)
            if (*s == '*' || mesh_name_is(s, name))
                return true;
    }
    return false;
}

bool mesh_is_wrapper(const ProtobufCMessageDescriptor *d) {
    static const ProtobufCMessageDescriptor *const wrappers[] = {
        &mesh__pb__bool_value__descriptor,   &mesh__pb__uint32_value__descriptor,
        &mesh__pb__uint64_value__descriptor, &mesh__pb__int32_value__descriptor,
        &mesh__pb__int64_value__descriptor,  &mesh__pb__double_value__descriptor,
        &mesh__pb__float_value__descriptor,  &mesh__pb__string_value__descriptor,
        &mesh__pb__bytes_value__descriptor,
    };
    for (size_t i = 0; i < MESH_ARRAY_LEN(wrappers); i++)
        if (wrappers[i] == d)
            return true;
    return false;
}

bool mesh_special_json(const ProtobufCMessageDescriptor *d) {
    return mesh_is_wrapper(d) || d == &mesh__pb__duration__descriptor ||
           d == &mesh__pb__timestamp__descriptor || d == &mesh__pb__struct__descriptor ||
           d == &mesh__pb__value__descriptor || d == &mesh__pb__list_value__descriptor ||
           d == &mesh__pb__any__descriptor;
}
