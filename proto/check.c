/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/inner.h"
#include "proto/pb.pb-c.h"

struct walk {
    struct mesh_path path;
    struct mesh_why *why;
    int depth;
};

static int walk_message(struct walk *w, const ProtobufCMessage *m);

static int fail(const struct walk *w, int err, const char *what) {
    char path[MESH_BRIEF_MAX];
    mesh_path_brief(&w->path, path);
    return mesh_why(w->why, err, "%s%s%s", path, *path ? ": " : "", what);
}

/* What an Any of a known type holds must be that. */
static int walk_any(struct walk *w, const Mesh__Pb__Any *any) {
    const ProtobufCMessageDescriptor *d = any->type_url ? mesh_proto_type(any->type_url) : NULL;
    ProtobufCMessage *inner;
    if (!d)
        return 0;
    int err = mesh_proto_unpack(d, any->value.data, any->value.len, &inner);
    if (err)
        return fail(w, err, mesh_err_text(err));
    err = walk_message(w, inner);
    protobuf_c_message_free_unpacked(inner, NULL);
    return err;
}

static int walk_elements(struct walk *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    if (!mesh_field_repeated(f))
        return walk_message(w, *(ProtobufCMessage *const *)mesh_field_value(m, f));
    ProtobufCMessage *const *items = *(ProtobufCMessage *const *const *)mesh_field_value(m, f);
    int err = 0;
    for (size_t i = 0; i < *mesh_field_count(m, f) && !err; i++) {
        size_t mark = mesh_path_down(&w->path, "[%zu]", i);
        err = walk_message(w, items[i]);
        mesh_path_up(&w->path, mark);
    }
    return err;
}

static int walk_field(struct walk *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    const char *refused = mesh_guard_refuses(m, f);
    if (refused)
        return fail(w, MESH_E_UNSUPPORTED, refused);
    return mesh_field_message(f) ? walk_elements(w, m, f) : 0;
}

static int walk_fields(struct walk *w, const ProtobufCMessage *m) {
    int err = 0;
    for (unsigned i = 0; i < m->descriptor->n_fields && !err; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (!mesh_field_set(m, f))
            continue;
        size_t mark = mesh_path_field(&w->path, f->name);
        err = walk_field(w, m, f);
        mesh_path_up(&w->path, mark);
    }
    return err;
}

static int walk_message(struct walk *w, const ProtobufCMessage *m) {
    if (m->descriptor == &mesh__pb__duration__descriptor) {
        const Mesh__Pb__Duration *d = (const Mesh__Pb__Duration *)m;
        return mesh_duration_sound(d->seconds, d->nanos) ? 0
                                                         : fail(w, MESH_E_INVALID, "duration out of range");
    }
    if (w->depth == MESH_TOTAL_DEPTH)
        return fail(w, MESH_E_LIMIT, "messages are nested too deep");
    w->depth++;
    int err = m->descriptor == &mesh__pb__any__descriptor ? walk_any(w, (const Mesh__Pb__Any *)m)
                                                          : walk_fields(w, m);
    w->depth--;
    return err;
}

int mesh_proto_check(const ProtobufCMessage *m, const char *path, struct mesh_why *why) {
    struct walk w = {.why = why};
    mesh_path_down(&w.path, "%s", path ? path : "");
    return walk_message(&w, m);
}
