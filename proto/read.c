/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "proto/inner.h"
#include "proto/pb.pb-c.h"

int mesh_read_list(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCFieldDescriptor *f,
                   ProtobufCMessage *m) {
    if (node->kind != MESH_NODE_LIST)
        return mesh_reading_fail(r, MESH_E_INVALID, node, "wants a list");
    if (!node->n)
        return 0;
    size_t size = mesh_field_size(f), *count = mesh_field_count(m, f);
    char *array = mesh_heap_zalloc(&r->heap, node->n * size);
    if (!array)
        return mesh_reading_no_room(r, node);
    *(void **)mesh_field_value(m, f) = array;
    for (uint32_t i = 0; i < node->n; i++) {
        size_t mark = mesh_path_down(&r->path, "[%u]", i);
        int err = mesh_read_value(r, node->items[i], f, array + i * size);
        if (err)
            return err;
        *count = i + 1; /* what is counted is whole, so that a half-built message can be freed */
        mesh_path_up(&r->path, mark);
    }
    return 0;
}

static int read_entry(struct mesh_reading *r, const struct mesh_node *key, const struct mesh_node *value,
                      const ProtobufCFieldDescriptor *f, ProtobufCMessage **ret) {
    const ProtobufCMessageDescriptor *d = f->descriptor;
    ProtobufCMessage *entry = mesh_message_new(&r->heap, d);
    if (!entry)
        return mesh_reading_no_room(r, key);
    *ret = entry;
    char *text = mesh_heap_strndup(&r->heap, key->text, key->len);
    if (!text)
        return mesh_reading_no_room(r, key);
    *(char **)mesh_field_value(entry, &d->fields[0]) = text;
    return mesh_read_value(r, value, &d->fields[1], mesh_field_value(entry, &d->fields[1]));
}

/* All maps of the API have texts as keys. The document has refused the same key twice. */
int mesh_read_map(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCFieldDescriptor *f,
                  ProtobufCMessage *m) {
    if (node->kind != MESH_NODE_MAP)
        return mesh_reading_fail(r, MESH_E_INVALID, node, "wants a map");
    if (!node->n)
        return 0;
    size_t *count = mesh_field_count(m, f);
    ProtobufCMessage **array = mesh_heap_zalloc(&r->heap, node->n * sizeof(*array));
    if (!array)
        return mesh_reading_no_room(r, node);
    *(void **)mesh_field_value(m, f) = array;
    for (uint32_t i = 0; i < node->n; i++) {
        const struct mesh_node *key = node->items[2 * i];
        size_t mark = mesh_path_down(&r->path, "[%s]", key->text);
        int err = mesh_reading_enter(r, key);
        if (err)
            return err;
        err = read_entry(r, key, node->items[2 * i + 1], f, &array[i]);
        mesh_reading_leave(r);
        *count += array[i] != NULL;
        if (err)
            return err;
        mesh_path_up(&r->path, mark);
    }
    return 0;
}

int mesh_read_value(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCFieldDescriptor *f,
                    void *slot) {
    const ProtobufCMessageDescriptor *d = mesh_field_message(f);
    if (node->kind == MESH_NODE_NULL && d != &mesh__pb__value__descriptor)
        return mesh_reading_fail(r, MESH_E_INVALID, node, "null has no meaning here");
    return d ? mesh_read_message(r, node, d, false, slot) : mesh_read_scalar(r, node, f, slot);
}

/* The member of a oneof is named only once it is whole: what frees the message goes by that. */
static int read_single(struct mesh_reading *r, const struct mesh_node *key, const struct mesh_node *node,
                       const ProtobufCFieldDescriptor *f, ProtobufCMessage *m) {
    if (!mesh_field_oneof(f))
        return mesh_read_value(r, node, f, mesh_field_value(m, f));
    if (*mesh_field_case(m, f))
        return mesh_reading_fail(r, MESH_E_INVALID, key, "another of its alternatives is set too");
    int err = mesh_read_value(r, node, f, mesh_field_value(m, f));
    if (!err)
        *mesh_field_case(m, f) = f->id;
    else
        memset(mesh_field_value(m, f), 0, mesh_field_size(f));
    return err;
}

static int read_field(struct mesh_reading *r, const struct mesh_node *key, const struct mesh_node *node,
                      const ProtobufCFieldDescriptor *f, ProtobufCMessage *m) {
    if (mesh_field_set(m, f) && !mesh_field_oneof(f))
        return mesh_reading_fail(r, MESH_E_INVALID, key, "is given under both of its names");
    int err = mesh_field_map(f)        ? mesh_read_map(r, node, f, m)
              : mesh_field_repeated(f) ? mesh_read_list(r, node, f, m)
                                       : read_single(r, key, node, f, m);
    const char *refused = err ? NULL : mesh_guard_refuses(m, f);
    return refused ? mesh_reading_fail(r, MESH_E_UNSUPPORTED, key, "%s", refused) : err;
}

static int read_entries(struct mesh_reading *r, const struct mesh_node *node, bool in_any,
                        ProtobufCMessage *m) {
    for (uint32_t i = 0; i < node->n; i++) {
        const struct mesh_node *key = node->items[2 * i], *value = node->items[2 * i + 1];
        if (in_any && !strcmp(key->text, "@type"))
            continue;
        const ProtobufCFieldDescriptor *f = mesh_field_find(m->descriptor, key->text);
        size_t mark = mesh_path_field(&r->path, f ? f->name : key->text);
        int err = 0;
        if (!f && !mesh_skip_has(m->descriptor, key->text))
            mesh_reading_warn(r, key, "not known");
        if (f && (value->kind != MESH_NODE_NULL || mesh_field_message(f) == &mesh__pb__value__descriptor))
            err = read_field(r, key, value, f, m);
        if (err)
            return err;
        mesh_path_up(&r->path, mark);
    }
    return 0;
}

static int read_into(struct mesh_reading *r, const struct mesh_node *node, bool in_any, ProtobufCMessage *m) {
    const struct mesh_node *value = node;
    if (mesh_special_json(m->descriptor)) {
        if (in_any && !(value = mesh_node_get(node, "value")))
            return mesh_reading_fail(r, MESH_E_INVALID, node, "wants a \"value\" beside its \"@type\"");
        return mesh_read_special(r, value, m);
    }
    if (node->kind != MESH_NODE_MAP)
        return mesh_reading_fail(r, MESH_E_INVALID, node, "wants a map");
    return read_entries(r, node, in_any, m);
}

int mesh_read_message(struct mesh_reading *r, const struct mesh_node *node,
                      const ProtobufCMessageDescriptor *d, bool in_any, ProtobufCMessage **ret) {
    int err = mesh_reading_enter(r, node);
    if (err)
        return err;
    ProtobufCMessage *m = mesh_message_new(&r->heap, d);
    err = m ? read_into(r, node, in_any, m) : mesh_reading_no_room(r, node);
    mesh_reading_leave(r);
    if (err) {
        protobuf_c_message_free_unpacked(m, NULL);
        return err;
    }
    *ret = m;
    return 0;
}

int mesh_proto_read(const struct mesh_node *node, const ProtobufCMessageDescriptor *d, const char *path,
                    const struct mesh_read_opts *opts, ProtobufCMessage **ret, struct mesh_why *why) {
    struct mesh_reading r;
    mesh_reading_init(&r, opts, why);
    mesh_path_down(&r.path, "%s", path ? path : "");
    bool typed =
        d != &mesh__pb__any__descriptor && mesh_node_get(node, "@type"); /* as in a list of resources */
    return mesh_read_message(&r, node, d, typed, ret);
}
