/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the bootstrap's reader: a place in the document with the path that errors name, and what is read at it. All
 * texts that come out are heap copies. Errors: MESH_E_INVALID with FILE:LINE:COLUMN: PATH: what; MESH_E_NOMEM.
 */
#ifndef MESH_RESOLVER_BOOTSTRAP_READ_H
#define MESH_RESOLVER_BOOTSTRAP_READ_H

#include "proto/proto.h"
#include "resolver/bootstrap.h"

struct boot_reading {
    const char *file;
    struct mesh_why *why;
};

struct boot_place {
    const struct mesh_node *node; /* NULL: nothing is there (null counts as nothing) */
    uint32_t line, column;        /* of the node, or of what should have it */
    char path[160];
};

/* ---- bootstrap_read.c: any place */
struct boot_place mesh_boot_key(const struct boot_place *map, const char *key);
/* The i-th entry of a list, or value of a map. */
struct boot_place mesh_boot_entry(const struct boot_place *of, uint32_t i);
int mesh_boot_fail(const struct boot_reading *r, int err, const struct boot_place *at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int mesh_boot_want(const struct boot_reading *r, const struct boot_place *at, enum mesh_node_kind kind) MESH_MUST_CHECK;
/* A text; *ret_text stays NULL when nothing is there, which is an error where it is required. "" is one, too. */
int mesh_boot_text(const struct boot_reading *r, const struct boot_place *at, bool required,
              char **ret_text) MESH_MUST_CHECK;
/* certificate_file, private_key_file, ca_certificate_file, refresh_interval; `at` may hold nothing. */
int mesh_boot_files(const struct boot_reading *r, const struct boot_place *at, struct mesh_tls_files *ret) MESH_MUST_CHECK;
void mesh_boot_files_free(struct mesh_tls_files *f);

/* ---- bootstrap_server.c: a list of servers. What was read so far is in *ret_servers even after an error. */
int mesh_boot_servers(const struct boot_reading *r, const struct boot_place *at, struct mesh_xds_server **ret_servers,
                 uint32_t *ret_n) MESH_MUST_CHECK;
void mesh_boot_servers_free(struct mesh_xds_server *servers, uint32_t n);

/* ---- bootstrap_uri.c: gRPC's target names as far as they say one server. Fills uri, host, port, is_unix. NULL, or what
 * is wrong with it. */
const char *mesh_boot_uri(const char *text, struct mesh_xds_server *ret);

/* ---- bootstrap_node.c */
int mesh_boot_node(const struct boot_reading *r, const struct boot_place *at, struct mesh_bootstrap *b) MESH_MUST_CHECK;

#endif
