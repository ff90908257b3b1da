/* SPDX-License-Identifier: Apache-2.0
 *
 * What the cases of this folder share: texts to documents and messages, and the errors that they give.
 */
#ifndef MESH_TESTS_PROTO_READING_H
#define MESH_TESTS_PROTO_READING_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/proto.h"

struct warnings {
    unsigned n;
    char last[256]; /* LINE:COLUMN PATH: what */
};

static inline void remember(void *arg, const char *path, uint32_t line, uint32_t column, const char *what) {
    struct warnings *w = arg;
    w->n++;
    snprintf(w->last, sizeof(w->last), "%u:%u %s: %s", line, column, path, what);
}

static inline struct mesh_doc *parse(const char *text) {
    struct mesh_doc *doc = NULL;
    struct mesh_why why = {""};
    cr_assert_eq(mesh_doc_parse(text, strlen(text), "f", &doc, &why), 0, "%s: %s", text, why.text);
    return doc;
}

/* `type` by its full name. */
static inline int try_read(const char *type, const char *text, ProtobufCMessage **ret, struct mesh_why *why,
                           struct warnings *w) {
    struct mesh_read_opts opts = {.file = "f", .warn = w ? remember : NULL, .arg = w};
    const ProtobufCMessageDescriptor *d = mesh_proto_type(type);
    cr_assert(d, "%s", type);
    struct mesh_doc *doc = parse(text);
    int err = mesh_proto_read(mesh_doc_root(doc), d, "", &opts, ret, why);
    mesh_doc_free(doc);
    return err;
}

static inline void *must_read(const char *type, const char *text) {
    ProtobufCMessage *m = NULL;
    struct mesh_why why = {""};
    cr_assert_eq(try_read(type, text, &m, &why, NULL), 0, "%s: %s", text, why.text);
    return m;
}

static inline void read_fails(const char *type, const char *text, int err, const char *says) {
    ProtobufCMessage *m = (void *)1;
    struct mesh_why why = {""};
    int got = try_read(type, text, &m, &why, NULL);
    cr_expect_eq(got, err, "%s: %s, %s", text, mesh_err_text(got), why.text);
    cr_expect_eq(m, (void *)1, "%s: the result was touched", text);
    cr_expect_str_eq(why.text, says, "%s: %s", text, why.text);
}

static inline void drop(void *m) {
    protobuf_c_message_free_unpacked(m, NULL);
}

static inline char *file_text(const char *path, size_t *ret_len) {
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s (run from the root of the tree)", path);
    char *text = malloc(1 << 20);
    *ret_len = fread(text, 1, (1 << 20) - 1, f);
    text[*ret_len] = '\0';
    fclose(f);
    return text;
}

#endif
