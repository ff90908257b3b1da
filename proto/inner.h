/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of proto/ share: messages as their descriptors describe them, heap with a ceiling, the
 * tables of types and guarded fields, and the state of one reading. Not for other rooms. Threads: any (no
 * shared state).
 */
#ifndef MESH_PROTO_INNER_H
#define MESH_PROTO_INNER_H

#include "proto/proto.h"
#include "proto/scan.h"

enum {
    MESH_UNIT_DEPTH = 32,  /* messages inside each other in one serialised piece: what protobuf-c recurses
                              into,  with up to 1 KiB of stack each */
    MESH_TOTAL_DEPTH = 64, /* the same through Any fields, each of which is a piece of its own */
    MESH_PATH_MAX = 512,   /* bytes of a path; what does not fit is cut */
    MESH_BRIEF_MAX = 108,  /* and of the form that fits into a sentence */
};

/* ---- text -------------------------------------------------------------------------------------------------
 * JSON writes characters beyond the first plane as two \u escapes, which YAML has not. When `text` is JSON
 * and has such a pair, *ret is a copy (free()) that says \U instead, with its length in *io_len; else NULL.
 */
int mesh_json_join_surrogates(const char *text, size_t *io_len, char **ret) MESH_MUST_CHECK;

/* ---- wire -------------------------------------------------------------------------------------------------
 * Does a field have the wire type of its descriptor, and a sound text? MESH_E_SYNTAX. */
int mesh_scan_fits(const ProtobufCFieldDescriptor *d, const struct mesh_field *f) MESH_MUST_CHECK;
const ProtobufCFieldDescriptor *mesh_scan_find(const ProtobufCMessageDescriptor *d, uint32_t number); /* NULL: none */
/* mesh_scan_next with that check; fields that d does not have come with number 0. */
int mesh_scan_known(struct mesh_scan *s, const ProtobufCMessageDescriptor *d, struct mesh_field *ret) MESH_MUST_CHECK;
/* Is it a whole message of type d, at most `limit` (<= MESH_UNIT_DEPTH) messages inside each other? Unknown fields are
 * passed over, Any fields not opened. No recursion. MESH_E_SYNTAX, MESH_E_LIMIT. */
int mesh_scan_skim(const ProtobufCMessageDescriptor *d, struct mesh_bytes b, int limit) MESH_MUST_CHECK;

/* ---- heap -------------------------------------------------------------------------------------------------
 * malloc with a ceiling. `left` is not given back by free: it bounds the work too. */
struct mesh_heap {
    ProtobufCAllocator allocator; /* over this very struct, for protobuf-c */
    size_t left;
    bool over, failed; /* the ceiling was hit; malloc said no */
};
void mesh_heap_init(struct mesh_heap *h, size_t ceiling);
void *mesh_heap_zalloc(struct mesh_heap *h, size_t n); /* NULL: none; 0 bytes give a block too */
char *mesh_heap_strndup(struct mesh_heap *h, const char *text, size_t n);
int mesh_heap_err(const struct mesh_heap *h); /* after a NULL: MESH_E_LIMIT or MESH_E_NOMEM */

/* ---- messages by descriptor -------------------------------------------------------------------------------
 */
ProtobufCMessage *mesh_message_new(struct mesh_heap *h, const ProtobufCMessageDescriptor *d);
static inline void *mesh_field_value(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    return (char *)(uintptr_t)m + f->offset;
}
/* Repeated: the number of elements. Oneof: the number of the member that is set. */
static inline size_t *mesh_field_count(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    return (size_t *)(void *)((char *)(uintptr_t)m + f->quantifier_offset);
}
static inline uint32_t *mesh_field_case(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
    return (uint32_t *)(void *)((char *)(uintptr_t)m + f->quantifier_offset);
}
static inline bool mesh_field_repeated(const ProtobufCFieldDescriptor *f) {
    return f->label == PROTOBUF_C_LABEL_REPEATED;
}
static inline bool mesh_field_oneof(const ProtobufCFieldDescriptor *f) {
    return (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}
static inline const ProtobufCMessageDescriptor *mesh_field_message(const ProtobufCFieldDescriptor *f) {
    return f->type == PROTOBUF_C_TYPE_MESSAGE ? f->descriptor : NULL;
}
size_t mesh_field_size(const ProtobufCFieldDescriptor *f); /* bytes of one element in the struct */
/* Would it be written to the wire? A wrapper, message or oneof member: yes, even when it holds the default.
 */
bool mesh_field_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f);
/* A repeated field is a map when its message is called ...Entry and has the two fields key and value. */
bool mesh_field_map(const ProtobufCFieldDescriptor *f);
const ProtobufCFieldDescriptor *mesh_field_find(const ProtobufCMessageDescriptor *d, const char *name);
/* Is `text` the proto name or its camelCase form? */
bool mesh_name_is(const char *proto_name, const char *text);

/* ---- tables -----------------------------------------------------------------------------------------------
 */
/* Why this field, as it stands in m, is refused (proto/guard.def); NULL: it is not. */
const char *mesh_guard_refuses(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f);
/* Is it a field of the full API that the subset leaves out on purpose (proto/skip.def)? */
bool mesh_skip_has(const ProtobufCMessageDescriptor *d, const char *name);
/* Types whose JSON form is not a map of their fields; inside an Any it stands under "value". */
bool mesh_special_json(const ProtobufCMessageDescriptor *d);
bool mesh_is_wrapper(const ProtobufCMessageDescriptor *d);
/* Nothing but a sound Duration: 0 .. 315576000000 s (gRFC A50, A75), nanoseconds below 1e9. */
bool mesh_duration_sound(int64_t seconds, int32_t nanos);

/* ---- where we are -----------------------------------------------------------------------------------------
 * "clusters[2].transport_socket.typed_config.sni" */
struct mesh_path {
    size_t len;
    char text[MESH_PATH_MAX];
};
/* Lengthens the path; returns the mark to give to _up. */
size_t mesh_path_down(struct mesh_path *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
size_t mesh_path_field(struct mesh_path *p, const char *name); /* with its dot */
void mesh_path_up(struct mesh_path *p, size_t mark);
void mesh_path_brief(const struct mesh_path *p, char ret[MESH_BRIEF_MAX]); /* a long one loses its middle */

/* ---- reading ----------------------------------------------------------------------------------------------
 */
struct mesh_reading {
    const struct mesh_read_opts *opts;
    struct mesh_why *why;
    struct mesh_why *refused; /* not NULL: a guarded field does not end the reading; the first is told here */
    struct mesh_heap heap;
    int unit, total; /* depth of messages */
    struct mesh_path path;
};
void mesh_reading_init(struct mesh_reading *r, const struct mesh_read_opts *opts, struct mesh_why *why);
/* FILE:LINE:COLUMN: PATH: what; returns err. */
int mesh_reading_fail(struct mesh_reading *r, int err, const struct mesh_node *at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Steps into a message, or says that they are nested too deep. */
int mesh_reading_enter(struct mesh_reading *r, const struct mesh_node *at) MESH_MUST_CHECK;
void mesh_reading_leave(struct mesh_reading *r);
int mesh_reading_no_room(struct mesh_reading *r, const struct mesh_node *at);
void mesh_reading_warn(struct mesh_reading *r, const struct mesh_node *at, const char *what);
/* One message. in_any: "@type" is no field, and special forms stand under "value". */
int mesh_read_message(struct mesh_reading *r, const struct mesh_node *node,
                      const ProtobufCMessageDescriptor *d, bool in_any,
                      ProtobufCMessage **ret) MESH_MUST_CHECK;
/* One element of a field, into *slot. */
int mesh_read_value(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCFieldDescriptor *f,
                    void *slot) MESH_MUST_CHECK;
/* A whole field of many: map entries or list elements. */
int mesh_read_map(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCFieldDescriptor *f,
                  ProtobufCMessage *m) MESH_MUST_CHECK;
int mesh_read_list(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCFieldDescriptor *f,
                   ProtobufCMessage *m) MESH_MUST_CHECK;
int mesh_read_scalar(struct mesh_reading *r, const struct mesh_node *node, const ProtobufCFieldDescriptor *f,
                     void *slot) MESH_MUST_CHECK;
/* Fills a message whose type mesh_special_json names. */
int mesh_read_special(struct mesh_reading *r, const struct mesh_node *node,
                      ProtobufCMessage *m) MESH_MUST_CHECK;

/* ---- resources --------------------------------------------------------------------------------------------
 */
struct mesh_collect {
    struct mesh_reading *r;
    struct mesh_resources *out;
    size_t cap;
};
/* Reads one resource of type `d` at the reading's path and keeps it; `at` is where the file speaks of it. */
int mesh_collect_add(struct mesh_collect *c, const struct mesh_node *node,
                     const ProtobufCMessageDescriptor *d, const struct mesh_node *at) MESH_MUST_CHECK;
/* Expands the short form (proto.h, "The short form"). */
int mesh_short_expand(struct mesh_collect *c, const struct mesh_node *services) MESH_MUST_CHECK;

/* ---- numbers without the host program's locale ------------------------------------------------------------
 */
bool mesh_text_to_double(const char *text, double *ret);       /* the whole text, no blanks */
void mesh_double_to_text(double v, bool single, char ret[32]); /* shortest that reads back; NaN, Infinity */

#endif
