/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a document: what is parsed keeps the promises of struct mesh_node.
 */
#include <stdlib.h>
#include <string.h>
#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds)
        abort();
}

static void look(const struct mesh_node *n, int depth) {
    must(depth <= 64 && n->line && n->column && n->text);
    must(strlen(n->text) == n->len);
    must(n->kind == MESH_NODE_LIST || n->kind == MESH_NODE_MAP || (!n->n && !n->items));
    for (uint32_t i = 0; n->kind == MESH_NODE_LIST && i < n->n; i++)
        look(n->items[i], depth + 1);
    for (uint32_t i = 0; n->kind == MESH_NODE_MAP && i < n->n; i++) {
        must(n->items[2 * i]->kind != MESH_NODE_LIST && n->items[2 * i]->kind != MESH_NODE_MAP);
        look(n->items[2 * i], depth + 1);
        look(n->items[2 * i + 1], depth + 1);
        if (n->n < 100)
            must(mesh_node_get(n, n->items[2 * i]->text) == n->items[2 * i + 1]); /* no key twice */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mesh_doc *doc = NULL;
    struct mesh_why why = {""};
    int err = mesh_doc_parse((const char *)data, size, "f", &doc, &why);
    must((err == 0) == (doc != NULL) && (err == 0) == !why.text[0]);
    if (!err)
        look(mesh_doc_root(doc), 0);
    mesh_doc_free(doc);
    return 0;
}
