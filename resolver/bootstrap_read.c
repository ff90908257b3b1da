/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/bootstrap_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/pb.pb-c.h"
#include "shim/base/clock.h"

static const uint64_t refresh_default = 600 * MESH_SEC;

static struct boot_place place_of(const struct boot_place *parent, const struct mesh_node *node) {
    struct boot_place p = {.node = node && node->kind != MESH_NODE_NULL ? node : NULL,
                           .line = node ? node->line : parent->line,
                           .column = node ? node->column : parent->column};
    return p;
}

struct boot_place mesh_boot_key(const struct boot_place *map, const char *key) {
    struct boot_place p = place_of(map, map->node ? mesh_node_get(map->node, key) : NULL);
    snprintf(p.path, sizeof p.path, "%.100s%s%.50s", map->path, map->path[0] ? "." : "", key);
    return p;
}

struct boot_place mesh_boot_entry(const struct boot_place *of, uint32_t i) {
    bool map = of->node->kind == MESH_NODE_MAP;
    struct boot_place p = place_of(of, of->node->items[map ? 2 * i + 1 : i]);
    if (map)
        snprintf(p.path, sizeof p.path, "%.100s[%.50s]", of->path, of->node->items[2 * i]->text);
    else
        snprintf(p.path, sizeof p.path, "%.100s[%u]", of->path, i);
    return p;
}

int mesh_boot_fail(const struct boot_reading *r, int err, const struct boot_place *at, const char *fmt, ...) {
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return mesh_why(r->why, err, "%s:%u:%u: %s%s%s", r->file, at->line, at->column, at->path,
                    at->path[0] ? ": " : "", what);
}

int mesh_boot_want(const struct boot_reading *r, const struct boot_place *at, enum mesh_node_kind kind) {
    static const char *const names[] = {
        [MESH_NODE_BOOL] = "true or false", [MESH_NODE_NUMBER] = "a number", [MESH_NODE_STRING] = "a text",
        [MESH_NODE_LIST] = "a list",        [MESH_NODE_MAP] = "a map",
    };
    if (!at->node)
        return mesh_boot_fail(r, MESH_E_INVALID, at, "is missing");
    return at->node->kind == kind ? 0 : mesh_boot_fail(r, MESH_E_INVALID, at, "wants %s", names[kind]);
}

int mesh_boot_text(const struct boot_reading *r, const struct boot_place *at, bool required,
                   char **ret_text) {
    if (!at->node && !required)
        return 0;
    int err = mesh_boot_want(r, at, MESH_NODE_STRING);
    if (err)
        return err;
    if (required && !at->node->len)
        return mesh_boot_fail(r, MESH_E_INVALID, at, "is empty");
    char *text = strdup(at->node->text);
    if (!text)
        return mesh_boot_fail(r, MESH_E_NOMEM, at, "out of memory");
    *ret_text = text;
    return 0;
}

static int read_interval(const struct boot_reading *r, const struct boot_place *at, uint64_t *ret_ns) {
    ProtobufCMessage *m;
    struct mesh_read_opts opts = {.file = r->file};
    if (!at->node)
        return 0;
    int err = mesh_proto_read(at->node, &mesh__pb__duration__descriptor, at->path, &opts, &m, r->why);
    if (err)
        return err;
    const Mesh__Pb__Duration *d = (const Mesh__Pb__Duration *)m;
    uint64_t seconds = d->seconds < INT32_MAX ? (uint64_t)d->seconds : INT32_MAX;
    uint64_t ns = seconds * MESH_SEC + (uint64_t)d->nanos;
    protobuf_c_message_free_unpacked(m, NULL);
    if (!ns)
        return mesh_boot_fail(r, MESH_E_INVALID, at, "must be more than nothing");
    *ret_ns = ns;
    return 0;
}

int mesh_boot_files(const struct boot_reading *r, const struct boot_place *at, struct mesh_tls_files *ret) {
    ret->refresh = refresh_default;
    if (!at->node)
        return 0;
    struct boot_place cert = mesh_boot_key(at, "certificate_file"),
                      key = mesh_boot_key(at, "private_key_file");
    struct boot_place ca = mesh_boot_key(at, "ca_certificate_file"),
                      interval = mesh_boot_key(at, "refresh_interval");
    int err = mesh_boot_want(r, at, MESH_NODE_MAP);
    if (!err)
        err = mesh_boot_text(r, &cert, key.node != NULL, &ret->cert);
    if (!err)
        err = mesh_boot_text(r, &key, cert.node != NULL, &ret->key);
    if (!err)
        err = mesh_boot_text(r, &ca, false, &ret->ca);
    return err ? err : read_interval(r, &interval, &ret->refresh);
}

void mesh_boot_files_free(struct mesh_tls_files *f) {
    free(f->cert);
    free(f->key);
    free(f->ca);
}
