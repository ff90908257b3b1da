/* SPDX-License-Identifier: Apache-2.0
 *
 * The node: what the file says, and what every client adds of itself (gRFC A27).
 */
#include <stdlib.h>
#include <string.h>
#include "proto/core.pb-c.h"
#include "resolver/bootstrap_read.h"

static char agent_name[] = "meshshim", agent_version[] = "1";
/* Resources of the state of the world may come wrapped with a time to live. Overprovisioning we do ourselves,
 * so the server is not told that we cannot. */
static char in_sotw[] = "xds.config.resource-in-sotw", with_ttl[] = "xds.config.supports-resource-ttl";

static bool copy(char **ret, const char *text) {
    *ret = strdup(text ? text : "");
    return *ret != NULL;
}

static bool copy_names(const Mesh__Core__Node *node, struct mesh_bootstrap *b) {
    const Mesh__Core__Locality *l = node->locality;
    return copy(&b->node_id, node->id) && copy(&b->node_cluster, node->cluster) &&
           copy(&b->region, l ? l->region : "") && copy(&b->zone, l ? l->zone : "") &&
           copy(&b->sub_zone, l ? l->sub_zone : "");
}

static const char *metadata_text(const Mesh__Core__Node *node, const char *key) {
    for (size_t i = 0; node->metadata && i < node->metadata->n_fields; i++) {
        const Mesh__Pb__Struct__FieldsEntry *f = node->metadata->fields[i];
        if (strcmp(f->key, key) == 0 && f->value && f->value->kind_case == MESH__PB__VALUE__KIND_STRING_VALUE)
            return f->value->string_value;
    }
    return "";
}

/* Packed with what is ours in place of what the file says of it; the message gets its own back. */
static bool pack(Mesh__Core__Node *node, struct mesh_bootstrap *b) {
    char *features[] = {in_sotw, with_ttl};
    Mesh__Core__Node full = *node;
    full.user_agent_name = agent_name;
    full.user_agent_version_type_case = MESH__CORE__NODE__USER_AGENT_VERSION_TYPE_USER_AGENT_VERSION;
    full.user_agent_version = agent_version;
    full.client_features = features;
    full.n_client_features = sizeof features / sizeof *features;
    b->node_len = protobuf_c_message_get_packed_size(&full.base);
    b->node = malloc(b->node_len);
    return b->node && protobuf_c_message_pack(&full.base, b->node) == b->node_len;
}

int mesh_boot_node(const struct boot_reading *r, const struct boot_place *at, struct mesh_bootstrap *b) {
    static const struct mesh_node nothing = {.kind = MESH_NODE_MAP, .text = ""};
    struct mesh_read_opts opts = {.file = r->file};
    ProtobufCMessage *m;
    int err = mesh_proto_read(at->node ? at->node : &nothing, &mesh__core__node__descriptor, at->path, &opts,
                              &m, r->why);
    if (err)
        return err;
    Mesh__Core__Node *node = (Mesh__Core__Node *)m;
    if (!copy_names(node, b) || !pack(node, b))
        err = mesh_boot_fail(r, MESH_E_NOMEM, at, "out of memory");
    else
        b->is_wildcard =
            strncmp(b->node_id, "sidecar~", 8) == 0 && strcmp(metadata_text(node, "GENERATOR"), "grpc") != 0;
    protobuf_c_message_free_unpacked(m, NULL);
    return err;
}
