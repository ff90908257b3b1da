/* SPDX-License-Identifier: Apache-2.0
 *
 * xds_servers: where they are, how they are spoken to, what is particular about them.
 */
#include <stdlib.h>
#include <string.h>
#include "resolver/bootstrap_read.h"

/* gRPC's tls credentials (gRFC A65): every member may be missing. */
static int read_channel_creds(const struct boot_reading *r, const struct boot_place *at, bool *io_found,
                              struct mesh_xds_server *ret) {
    int err = mesh_boot_want(r, at, MESH_NODE_MAP);
    if (err)
        return err;
    struct boot_place type = mesh_boot_key(at, "type"), config = mesh_boot_key(at, "config");
    err = mesh_boot_want(r, &type, MESH_NODE_STRING);
    if (err || *io_found)
        return err;
    ret->is_tls = strcmp(type.node->text, "tls") == 0;
    *io_found = ret->is_tls || strcmp(type.node->text, "insecure") == 0;
    return ret->is_tls ? mesh_boot_files(r, &config, &ret->tls) : 0;
}

/* The first type that is supported; the others only have to look like one. */
static int read_channel(const struct boot_reading *r, const struct boot_place *at,
                        struct mesh_xds_server *ret) {
    bool found = false;
    int err = mesh_boot_want(r, at, MESH_NODE_LIST);
    for (uint32_t i = 0; !err && i < at->node->n; i++) {
        struct boot_place one = mesh_boot_entry(at, i);
        err = read_channel_creds(r, &one, &found, ret);
    }
    if (err || found)
        return err;
    return mesh_boot_fail(r, MESH_E_UNSUPPORTED, at, "none of a type that is supported (insecure, tls)");
}

/* gRFC A97. A token is never sent in clear. */
static int read_call_creds(const struct boot_reading *r, const struct boot_place *at,
                           struct mesh_xds_server *ret) {
    int err = at->node ? mesh_boot_want(r, at, MESH_NODE_LIST) : 0;
    for (uint32_t i = 0; !err && at->node && i < at->node->n && !ret->token_file; i++) {
        struct boot_place one = mesh_boot_entry(at, i), type = mesh_boot_key(&one, "type"),
                          config = mesh_boot_key(&one, "config");
        struct boot_place file = mesh_boot_key(&config, "jwt_token_file");
        err = mesh_boot_want(r, &one, MESH_NODE_MAP);
        if (!err)
            err = mesh_boot_want(r, &type, MESH_NODE_STRING);
        if (!err && strcmp(type.node->text, "jwt_token_file") == 0)
            err = mesh_boot_text(r, &file, true, &ret->token_file);
    }
    if (!err && ret->token_file && !ret->is_tls)
        return mesh_boot_fail(r, MESH_E_INVALID, at, "a token is not sent over an insecure channel");
    return err;
}

static int read_features(const struct boot_reading *r, const struct boot_place *at,
                         struct mesh_xds_server *ret) {
    const struct {
        const char *name;
        bool *flag;
    } known[] = {
        {"delta", &ret->is_delta},
        {"ignore_resource_deletion", &ret->keeps_deleted},
        {"fail_on_data_errors", &ret->fails_on_data_errors},
        {"resource_timer_is_transient_error", &ret->timer_is_transient},
        {"trusted_xds_server", &ret->is_trusted},
    };
    int err = at->node ? mesh_boot_want(r, at, MESH_NODE_LIST) : 0;
    for (uint32_t i = 0; !err && at->node && i < at->node->n; i++)
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (at->node->items[i]->kind == MESH_NODE_STRING &&
                strcmp(at->node->items[i]->text, known[k].name) == 0)
                *known[k].flag = true;
    return err;
}

static int read_server(const struct boot_reading *r, const struct boot_place *at,
                       struct mesh_xds_server *ret) {
    int err = mesh_boot_want(r, at, MESH_NODE_MAP);
    struct boot_place uri = mesh_boot_key(at, "server_uri"), channel = mesh_boot_key(at, "channel_creds");
    struct boot_place call = mesh_boot_key(at, "call_creds"), features = mesh_boot_key(at, "server_features");
    if (!err)
        err = mesh_boot_text(r, &uri, true, &ret->uri);
    const char *wrong = err ? NULL : mesh_boot_uri(ret->uri, ret);
    if (wrong)
        return mesh_boot_fail(r, MESH_E_INVALID, &uri, "%s", wrong);
    if (!err)
        err = read_channel(r, &channel, ret);
    if (!err)
        err = read_call_creds(r, &call, ret);
    return err ? err : read_features(r, &features, ret);
}

int mesh_boot_servers(const struct boot_reading *r, const struct boot_place *at,
                      struct mesh_xds_server **ret_servers, uint32_t *ret_n) {
    int err = mesh_boot_want(r, at, MESH_NODE_LIST);
    if (err)
        return err;
    if (!at->node->n)
        return mesh_boot_fail(r, MESH_E_INVALID, at, "is empty");
    if (!(*ret_servers = calloc(at->node->n, sizeof **ret_servers)))
        return mesh_boot_fail(r, MESH_E_NOMEM, at, "out of memory");
    *ret_n = at->node->n;
    for (uint32_t i = 0; !err && i < at->node->n; i++) {
        struct boot_place one = mesh_boot_entry(at, i);
        err = read_server(r, &one, &(*ret_servers)[i]);
    }
    return err;
}

void mesh_boot_servers_free(struct mesh_xds_server *servers, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        free(servers[i].uri);
        free(servers[i].host);
        free(servers[i].token_file);
        mesh_boot_files_free(&servers[i].tls);
    }
    free(servers);
}
