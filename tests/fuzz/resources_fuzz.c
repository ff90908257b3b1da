/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a view file. What is read prints as JSON and YAML that read as the same message again.
 */
#include <stdlib.h>
#include <string.h>
#include "proto/proto.h"

enum { KEY_MAX = 1000 }; /* YAML knows no longer keys without a question mark, which is not written */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds)
        abort();
}

static void warn(void *arg, const char *path, uint32_t line, uint32_t column, const char *what) {
    *(size_t *)arg += strlen(path) + strlen(what) + line + column;
}

static bool same(const ProtobufCMessage *a, const ProtobufCMessage *b) {
    size_t n = protobuf_c_message_get_packed_size(a), m = protobuf_c_message_get_packed_size(b);
    uint8_t *x = malloc(n + 1), *y = malloc(m + 1);
    bool equal = n == m;
    if (equal) {
        protobuf_c_message_pack(a, x);
        protobuf_c_message_pack(b, y);
        equal = !memcmp(x, y, n);
    }
    free(x);
    free(y);
    return equal;
}

static void print_and_read(const ProtobufCMessage *m, bool yaml) {
    char *text = NULL;
    struct mesh_doc *doc = NULL;
    ProtobufCMessage *back = NULL;
    int err = mesh_proto_print(m, yaml, 2, &text);
    must(err == 0 || err == MESH_E_LIMIT);
    if (err)
        return;
    err = mesh_doc_parse(text, strlen(text), "printed", &doc, NULL);
    must(err == 0 || err == MESH_E_LIMIT);
    if (!err) {
        err = mesh_proto_read(mesh_doc_root(doc), m->descriptor, "", NULL, &back, NULL);
        must(err == 0 || err == MESH_E_LIMIT || err == MESH_E_UNSUPPORTED || strstr(text, "[redacted]"));
        must(err || same(m, back) || strstr(text, "[redacted]"));
    }
    protobuf_c_message_free_unpacked(back, NULL);
    mesh_doc_free(doc);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t sum = 0;
    struct mesh_read_opts opts = {.file = "f", .warn = warn, .arg = &sum, .keep_refused = true};
    struct mesh_resources *r = NULL;
    struct mesh_why why = {""};
    int err = mesh_resources_read((const char *)data, size, &opts, &r, &why);
    must((err == 0) == (r != NULL) && (err == 0) == !why.text[0]);
    for (size_t i = 0; r && i < r->n; i++) {
        const struct mesh_resource *one = &r->items[i];
        must(one->msg->descriptor == one->type && one->name && *one->path && one->line && one->column);
        err = mesh_proto_check(one->msg, one->path, &why);
        must(!err == !one->refused || err == MESH_E_LIMIT);
        if (size < KEY_MAX) {
            print_and_read(one->msg, false);
            print_and_read(one->msg, true);
        }
    }
    mesh_resources_free(r);
    return 0;
}
