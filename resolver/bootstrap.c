/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/bootstrap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "resolver/bootstrap_read.h"
#include "resolver/view.h"

enum { TEXT_MAX = 16 << 20, TEMPLATE_MAX = 1024 };
static const char default_template[] = "%s", wildcard[] = "*";

/* ---- authorities (gRFC A47) -------------------------------------------------------------------------------
 */
/* `xdstp://NAME/`, and the default's rest behind it. */
static int default_of(const struct boot_reading *r, const struct boot_place *at, const char *name,
                      char **ret_prefix, char **ret_template) {
    char text[TEMPLATE_MAX];
    if (strchr(name, '/'))
        return mesh_boot_fail(r, MESH_E_INVALID, at, "is the name of no authority");
    int n = mesh_bootstrap_expand("xdstp://%s/", name, text, sizeof text);
    if (n < 0 || strlen(text) > TEMPLATE_MAX / 2)
        return mesh_boot_fail(r, MESH_E_INVALID, at, "the name is too long");
    *ret_prefix = strdup(text);
    strcat(text, "envoy.config.listener.v3.Listener/%s");
    *ret_template = strdup(text);
    return *ret_prefix && *ret_template ? 0 : mesh_boot_fail(r, MESH_E_NOMEM, at, "out of memory");
}

static int read_template(const struct boot_reading *r, const struct boot_place *at, const char *prefix,
                         char **io_template) {
    char *text = NULL;
    int err = mesh_boot_text(r, at, false, &text);
    if (err || !text)
        return err;
    free(*io_template);
    *io_template = text;
    if (strlen(text) >= TEMPLATE_MAX)
        return mesh_boot_fail(r, MESH_E_INVALID, at, "is too long");
    if (prefix && strncmp(text, prefix, strlen(prefix)) != 0)
        return mesh_boot_fail(r, MESH_E_INVALID, at, "must begin with %s", prefix);
    return 0;
}

static int read_authority(const struct boot_reading *r, const struct boot_place *at,
                          const struct mesh_bootstrap *b, struct mesh_xds_authority *ret) {
    char *prefix = NULL;
    struct boot_place servers = mesh_boot_key(at, "xds_servers");
    struct boot_place named = mesh_boot_key(at, "client_listener_resource_name_template");
    int err = mesh_boot_want(r, at, MESH_NODE_MAP);
    if (!err)
        err = default_of(r, at, ret->name, &prefix, &ret->client_template);
    if (!err)
        err = read_template(r, &named, prefix, &ret->client_template);
    free(prefix);
    ret->servers = b->servers;
    ret->nservers = b->nservers;
    if (err || !servers.node)
        return err;
    ret->owns_servers = true;
    ret->servers = NULL;
    ret->nservers = 0;
    return mesh_boot_servers(r, &servers, &ret->servers, &ret->nservers);
}

static int read_authorities(const struct boot_reading *r, const struct boot_place *at,
                            struct mesh_bootstrap *b) {
    int err = at->node ? mesh_boot_want(r, at, MESH_NODE_MAP) : 0;
    if (err || !at->node || !at->node->n)
        return err;
    if (!(b->authorities = calloc(at->node->n, sizeof *b->authorities)))
        return mesh_boot_fail(r, MESH_E_NOMEM, at, "out of memory");
    for (uint32_t i = 0; !err && i < at->node->n; i++) {
        struct boot_place one = mesh_boot_entry(at, i);
        struct mesh_xds_authority *a = &b->authorities[b->nauthorities++];
        a->name = strdup(at->node->items[2 * i]->text);
        err =
            a->name ? read_authority(r, &one, b, a) : mesh_boot_fail(r, MESH_E_NOMEM, &one, "out of memory");
    }
    return err;
}

/* ---- certificate providers --------------------------------------------------------------------------------
 */
static int read_provider(const struct boot_reading *r, const struct boot_place *at,
                         struct mesh_cert_provider *ret) {
    struct boot_place plugin = mesh_boot_key(at, "plugin_name"), config = mesh_boot_key(at, "config");
    int err = mesh_boot_want(r, at, MESH_NODE_MAP);
    if (!err)
        err = mesh_boot_want(r, &plugin, MESH_NODE_STRING);
    ret->is_supported = !err && strcmp(plugin.node->text, "file_watcher") == 0;
    if (err || !ret->is_supported)
        return err;
    err = mesh_boot_want(r, &config, MESH_NODE_MAP);
    if (!err)
        err = mesh_boot_files(r, &config, &ret->files);
    if (!err && !ret->files.cert && !ret->files.ca)
        err = mesh_boot_fail(r, MESH_E_INVALID, &config,
                             "names neither certificate_file nor ca_certificate_file");
    return err;
}

static int read_providers(const struct boot_reading *r, const struct boot_place *at,
                          struct mesh_bootstrap *b) {
    int err = at->node ? mesh_boot_want(r, at, MESH_NODE_MAP) : 0;
    if (err || !at->node || !at->node->n)
        return err;
    if (!(b->providers = calloc(at->node->n, sizeof *b->providers)))
        return mesh_boot_fail(r, MESH_E_NOMEM, at, "out of memory");
    for (uint32_t i = 0; !err && i < at->node->n; i++) {
        struct boot_place one = mesh_boot_entry(at, i);
        struct mesh_cert_provider *p = &b->providers[b->nproviders++];
        p->instance = strdup(at->node->items[2 * i]->text);
        err =
            p->instance ? read_provider(r, &one, p) : mesh_boot_fail(r, MESH_E_NOMEM, &one, "out of memory");
    }
    return err;
}

/* ---- the digest: two views are one when the same servers are asked the same things
 * ------------------------- */
struct digest {
    uint64_t half[2];
};

static void mix(struct digest *d, const void *p, size_t n) {
    const uint64_t len = n; /* so that "ab", "c" is not "a", "bc" */
    for (int i = 0; i < 2; i++) {
        d->half[i] = mesh_hash_bytes(&len, sizeof len, d->half[i]);
        d->half[i] = mesh_hash_bytes(n ? p : "", n, d->half[i]);
    }
}

static void mix_text(struct digest *d, const char *text) {
    mix(d, text ? text : "", text ? strlen(text) + 1 : 0);
}

static void mix_servers(struct digest *d, const struct mesh_xds_server *s, uint32_t n) {
    mix(d, &n, sizeof n);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t flags[] = {s[i].is_tls,
                                 s[i].is_delta,
                                 s[i].keeps_deleted,
                                 s[i].fails_on_data_errors,
                                 s[i].timer_is_transient,
                                 s[i].is_trusted};
        const char *const texts[] = {s[i].uri, s[i].tls.cert, s[i].tls.key, s[i].tls.ca, s[i].token_file};
        mix(d, flags, sizeof flags);
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            mix_text(d, texts[k]);
    }
}

static void make_digest(struct mesh_bootstrap *b) {
    struct digest d = {{UINT64_C(0x6d657368), UINT64_C(0x7368696d)}};
    mix_servers(&d, b->servers, b->nservers);
    mix_text(&d, b->client_template);
    mix_text(&d, b->server_template);
    mix(&d, b->node, b->node_len);
    for (uint32_t i = 0; i < b->nauthorities; i++) {
        mix_text(&d, b->authorities[i].name);
        mix_text(&d, b->authorities[i].client_template);
        mix_servers(&d, b->authorities[i].servers, b->authorities[i].nservers);
    }
    for (uint32_t i = 0; i < b->nproviders; i++) { /* their files are named in the view */
        mix_text(&d, b->providers[i].instance);
        mix_text(&d, b->providers[i].files.cert);
        mix_text(&d, b->providers[i].files.key);
        mix_text(&d, b->providers[i].files.ca);
    }
    memcpy(b->digest, d.half, sizeof b->digest);
}

/* ---- the whole --------------------------------------------------------------------------------------------
 */
static int read_templates(const struct boot_reading *r, const struct boot_place *top,
                          struct mesh_bootstrap *b) {
    struct boot_place client = mesh_boot_key(top, "client_default_listener_resource_name_template");
    struct boot_place server = mesh_boot_key(top, "server_listener_resource_name_template");
    if (!(b->client_template = strdup(default_template)))
        return mesh_boot_fail(r, MESH_E_NOMEM, top, "out of memory");
    int err = read_template(r, &client, NULL, &b->client_template);
    if (!err && strcmp(b->client_template, wildcard) == 0)
        b->is_wildcard = true;
    return err ? err : read_template(r, &server, NULL, &b->server_template);
}

static int read_top(const struct boot_reading *r, const struct mesh_node *root, struct mesh_bootstrap *b) {
    struct boot_place top = {.node = root, .line = root->line, .column = root->column};
    struct boot_place servers = mesh_boot_key(&top, "xds_servers"), node = mesh_boot_key(&top, "node");
    struct boot_place authorities = mesh_boot_key(&top, "authorities");
    struct boot_place providers = mesh_boot_key(&top, "certificate_providers");
    int err = mesh_boot_want(r, &top, MESH_NODE_MAP);
    if (!err)
        err = mesh_boot_servers(r, &servers, &b->servers, &b->nservers);
    if (!err)
        err = mesh_boot_node(r, &node, b);
    if (!err)
        err = read_templates(r, &top, b);
    if (!err)
        err = read_authorities(r, &authorities, b);
    return err ? err : read_providers(r, &providers, b);
}

int mesh_bootstrap_parse(const char *text, size_t len, const char *file, struct mesh_bootstrap **ret,
                         struct mesh_why *why) {
    struct boot_reading r = {file, why};
    struct mesh_doc *doc = NULL;
    if (len > TEXT_MAX)
        return mesh_why(why, MESH_E_LIMIT, "%s: longer than 16 MiB", file);
    int err = mesh_doc_parse(text, len, file, &doc, why);
    if (err)
        return err;
    struct mesh_bootstrap *b = calloc(1, sizeof *b);
    err = b ? read_top(&r, mesh_doc_root(doc), b) : mesh_why(why, MESH_E_NOMEM, "%s: out of memory", file);
    mesh_doc_free(doc);
    if (err) {
        mesh_bootstrap_free(b);
        return err;
    }
    make_digest(b);
    *ret = b;
    return 0;
}

int mesh_bootstrap_load(const char *path, const char *text, struct mesh_bootstrap **ret,
                        struct mesh_why *why) {
    char *file;
    size_t len;
    if (!path || !*path)
        return text && *text ? mesh_bootstrap_parse(text, strlen(text), "GRPC_XDS_BOOTSTRAP_CONFIG", ret, why)
                             : MESH_E_NOTFOUND;
    int err = mesh_file_read(path, TEXT_MAX, &file, &len, why);
    if (err)
        return err;
    err = mesh_bootstrap_parse(file, len, path, ret, why);
    free(file);
    return err;
}

void mesh_bootstrap_free(struct mesh_bootstrap *b) {
    if (!b)
        return;
    for (uint32_t i = 0; i < b->nauthorities; i++) {
        if (b->authorities[i].owns_servers)
            mesh_boot_servers_free(b->authorities[i].servers, b->authorities[i].nservers);
        free(b->authorities[i].name);
        free(b->authorities[i].client_template);
    }
    for (uint32_t i = 0; i < b->nproviders; i++) {
        free(b->providers[i].instance);
        mesh_boot_files_free(&b->providers[i].files);
    }
    char *const texts[] = {
        b->client_template, b->server_template, b->node_id, b->node_cluster, b->region, b->zone, b->sub_zone};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    mesh_boot_servers_free(b->servers, b->nservers);
    free(b->authorities);
    free(b->providers);
    free(b->node);
    free(b);
}
