/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "proto/inner.h"

static void *heap_alloc(void *heap, size_t n) {
    struct mesh_heap *h = heap;
    if (n > h->left) {
        h->over = true;
        return NULL;
    }
    void *p = malloc(n ? n : 1);
    if (p)
        h->left -= n;
    else
        h->failed = true;
    return p;
}

static void heap_free(void *heap, void *p) {
    (void)heap;
    free(p);
}

void mesh_heap_init(struct mesh_heap *h, size_t ceiling) {
    *h = (struct mesh_heap){{heap_alloc, heap_free, h}, ceiling, false, false};
}

void *mesh_heap_zalloc(struct mesh_heap *h, size_t n) {
    void *p = heap_alloc(h, n);
    if (p)
        memset(p, 0, n);
    return p;
}

char *mesh_heap_strndup(struct mesh_heap *h, const char *text, size_t n) {
    char *p = heap_alloc(h, n + 1);
    if (!p)
        return NULL;
    memcpy(p, text, n);
    p[n] = '\0';
    return p;
}

int mesh_heap_err(const struct mesh_heap *h) {
    return h->over ? MESH_E_LIMIT : MESH_E_NOMEM;
}

ProtobufCMessage *mesh_message_new(struct mesh_heap *h, const ProtobufCMessageDescriptor *d) {
    ProtobufCMessage *m = heap_alloc(h, d->sizeof_message);
    if (m)
        protobuf_c_message_init(d, m);
    return m;
}

size_t mesh_field_size(const ProtobufCFieldDescriptor *f) {
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 4;
    }
}

bool mesh_field_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    const void *v = mesh_field_value(m, f);
    if (mesh_field_oneof(f))
        return *mesh_field_case(m, f) == f->id;
    if (mesh_field_repeated(f))
        return *mesh_field_count(m, f) > 0;
    switch (f->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(void *const *)v != NULL;
    case PROTOBUF_C_TYPE_STRING:
        return *(const char *const *)v && **(const char *const *)v;
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *)v)->len > 0;
    case PROTOBUF_C_TYPE_BOOL:
        return *(const protobuf_c_boolean *)v;
    default:
        for (size_t i = 0; i < mesh_field_size(f); i++)
            if (((const char *)v)[i])
                return true;
        return false;
    }
}

bool mesh_field_map(const ProtobufCFieldDescriptor *f) {
    const ProtobufCMessageDescriptor *d = mesh_field_message(f);
    if (!d || !mesh_field_repeated(f) || d->n_fields != 2)
        return false;
    size_t n = strlen(d->short_name);
    return n > 5 && !strcmp(d->short_name + n - 5, "Entry") && !strcmp(d->fields[0].name, "key") &&
           !strcmp(d->fields[1].name, "value");
}

static char ascii_upper(char c) {
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

bool mesh_name_is(const char *proto_name, const char *text) {
    if (!strcmp(proto_name, text))
        return true;
    bool upper = false;
    for (; *proto_name; proto_name++) {
        if (*proto_name == '_') {
            upper = true;
            continue;
        }
        char c = upper ? ascii_upper(*proto_name) : *proto_name;
        if (*text++ != c)
            return false;
        upper = false;
    }
    return *text == '\0';
}

const ProtobufCFieldDescriptor *mesh_field_find(const ProtobufCMessageDescriptor *d, const char *name) {
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(d, name);
    for (unsigned i = 0; !f && i < d->n_fields; i++)
        if (mesh_name_is(d->fields[i].name, name))
            f = &d->fields[i];
    return f;
}
