/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC's xDS bootstrap, taken as it is (gRFC A27, A30, A47, A53, A65, A71, A88): GRPC_XDS_BOOTSTRAP names a file,
 * GRPC_XDS_BOOTSTRAP_CONFIG holds the text; the file wins. Unknown keys are passed over, as gRPC does. Immutable once
 * parsed. Threads: any.
 */
#ifndef MESH_RESOLVER_BOOTSTRAP_H
#define MESH_RESOLVER_BOOTSTRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shim/base/err.h"

struct mesh_tls_files { /* of a file_watcher, or of channel_creds "tls"; each path may be NULL */
    char *cert, *key;   /* both or none */
    char *ca;           /* NULL: the system's roots (channel_creds only) */
    uint64_t refresh;   /* ns; 600 s when not said */
};

struct mesh_xds_server {
    char *uri;            /* server_uri as written */
    char *host;           /* DNS name or numeric address, without brackets; for unix: the path, or "@name" (abstract) */
    uint16_t port;        /* 0 for unix */
    bool is_unix;
    bool is_tls;          /* channel_creds: the first supported of insecure, tls */
    struct mesh_tls_files tls;
    char *token_file;     /* call_creds jwt_token_file, NULL: none */
    /* server_features; unknown ones are passed over */
    bool is_delta;        /* "delta": our switch for the incremental protocol */
    bool keeps_deleted;   /* "ignore_resource_deletion" (A53) */
    bool fails_on_data_errors;   /* "fail_on_data_errors" (A88) */
    bool timer_is_transient;     /* "resource_timer_is_transient_error" (A88) */
    bool is_trusted;             /* "trusted_xds_server" (A81) */
};

struct mesh_xds_authority {
    char *name;            /* "" is legal */
    char *client_template; /* client_listener_resource_name_template; never NULL */
    struct mesh_xds_server *servers; /* its own, or the top-level list */
    uint32_t nservers;
    bool owns_servers;
};

struct mesh_cert_provider { /* certificate_providers: plugin file_watcher */
    char *instance;
    struct mesh_tls_files files;
    bool is_supported; /* false: an unknown plugin, an error only where it is referenced */
};

struct mesh_bootstrap {
    struct mesh_xds_server *servers; /* in the order of preference, at least one */
    uint32_t nservers;
    struct mesh_xds_authority *authorities;
    uint32_t nauthorities;
    struct mesh_cert_provider *providers;
    uint32_t nproviders;
    char *client_template; /* client_default_listener_resource_name_template; "%s" when not said */
    char *server_template; /* server_listener_resource_name_template, NULL: none */
    char *node_id, *node_cluster;       /* "" when not said */
    char *region, *zone, *sub_zone;     /* "" when not said */
    uint8_t *node;         /* a packed envoy.config.core.v3.Node with user_agent and client_features filled in */
    size_t node_len;
    bool is_wildcard;      /* the template is "*", or the node is an Istio proxy (id `sidecar~...`) without
                              GENERATOR=grpc in its metadata: everything is subscribed to (Envoy's dialect) */
    uint8_t digest[16];    /* of servers, node, templates and providers: names the view */
};

/* Parses a text. Errors name the key: MESH_E_SYNTAX (why: FILE:LINE:COLUMN: what), MESH_E_INVALID (a missing or wrong
 * value: `FILE:LINE:COLUMN: xds_servers[0].channel_creds: ...`), MESH_E_UNSUPPORTED (no supported channel_creds), MESH_E_NOMEM, MESH_E_LIMIT
 * (16 MiB). Certificate files are not opened here. `file` names the text in errors. */
int mesh_bootstrap_parse(const char *text, size_t len, const char *file, struct mesh_bootstrap **ret, struct mesh_why *why)
    MESH_MUST_CHECK;
/* The two variables' values, either may be NULL. MESH_E_NOTFOUND: neither is set. MESH_E_IO: the file cannot be read. */
int mesh_bootstrap_load(const char *path, const char *text, struct mesh_bootstrap **ret, struct mesh_why *why) MESH_MUST_CHECK;
void mesh_bootstrap_free(struct mesh_bootstrap *b); /* NULL is fine */

/* The server that a listener name belongs to: of its xdstp authority, or the top-level list (authority NULL in
 * *ret_authority). MESH_E_NOTFOUND: an authority that the bootstrap does not have. */
int mesh_bootstrap_authority(const struct mesh_bootstrap *b, const char *resource, const struct mesh_xds_authority **ret_authority)
    MESH_MUST_CHECK;
/* A template with %s replaced; percent-encoded when the result is an xdstp name (A47). MESH_E_LIMIT. */
int mesh_bootstrap_expand(const char *template_, const char *target, char *ret_name, size_t cap) MESH_MUST_CHECK;

#endif
