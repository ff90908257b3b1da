/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a message off the wire, of a type that the first byte chooses: unpacked, checked, printed, and
 * its text parsed again.
 */
#include <stdlib.h>
#include <string.h>
#include "proto/proto.h"

enum { KEY_MAX = 1000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const types[] = {
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    "envoy.service.discovery.v3.Resource",
    "google.protobuf.Struct",
    "envoy.extensions.filters.network.rbac.v3.RBAC",
};

static void must(bool holds) {
    if (!holds)
        abort();
}

static void print(const ProtobufCMessage *m, bool yaml, size_t size) {
    char *text = NULL;
    struct mesh_doc *doc = NULL;
    int err = mesh_proto_print(m, yaml, 2, &text);
    must(err == 0 || err == MESH_E_LIMIT);
    if (err)
        return;
    if (size < KEY_MAX) {
        err = mesh_doc_parse(text, strlen(text), "printed", &doc, NULL);
        must(err == 0 || err == MESH_E_LIMIT || err == MESH_E_INVALID); /* invalid: a key that comes twice */
    }
    mesh_doc_free(doc);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ProtobufCMessage *m = NULL;
    struct mesh_why why = {""};
    if (!size)
        return 0;
    int err = mesh_proto_unpack(mesh_proto_type(types[data[0] % 8]), data + 1, size - 1, &m);
    must((err == 0) == (m != NULL));
    must(err == 0 || err == MESH_E_SYNTAX || err == MESH_E_LIMIT);
    if (err)
        return 0;
    err = mesh_proto_check(m, "m", &why);
    must((err == 0) == !why.text[0]);
    print(m, false, size);
    print(m, true, size);
    protobuf_c_message_free_unpacked(m, NULL);
    return 0;
}
