/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include "proto/cluster.pb-c.h"
#include "proto/discovery.pb-c.h"
#include "proto/proto.h"
#include "proto/route.pb-c.h"
#include "resolver/copies.h"

static const char type_prefix[] = "type.googleapis.com/";

int mesh_view_each_fault(const struct mesh_view *v,
                         void (*fn)(void *arg, const char *resource, const char *why), void *arg) {
    struct mesh_copies all;
    int count = 0, rc = mesh_copies_all(v, &all);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < all.n; i++) {
        if (!all.items[i].why[0])
            continue;
        fn(arg, all.items[i].path, all.items[i].why);
        count++;
    }
    mesh_copies_done(&all);
    return count;
}

static int print_one(const struct mesh_copy *c, void (*fn)(void *, const char *, const char *, const char *),
                     void *arg) {
    char url[256], *json;
    Mesh__Pb__Any any;
    protobuf_c_message_init(&mesh__pb__any__descriptor, &any);
    snprintf(url, sizeof url, "%s%s", type_prefix, c->type);
    any.type_url = url;
    any.value = (ProtobufCBinaryData){c->n, c->bytes};
    int rc = mesh_proto_print(&any.base, false, 0, &json);
    if (rc < 0)
        return rc;
    json[strcspn(json, "\n")] = 0; /* the one at its end */
    fn(arg, url, c->name, json);
    free(json);
    return 0;
}

int mesh_view_each_resource(const struct mesh_view *v,
                            void (*fn)(void *arg, const char *type_url, const char *name, const char *json),
                            void *arg) {
    struct mesh_copies all;
    int rc = mesh_copies_all(v, &all);
    for (uint32_t i = 0; rc == 0 && i < all.n; i++)
        rc = print_one(&all.items[i], fn, arg);
    mesh_copies_done(&all);
    return rc;
}

/* ---- what a name leads to ---------------------------------------------------------------------------------
 */
struct wanted { /* names of resources that a name's entries mention */
    const char *name;
    size_t len;
    char **texts;
    uint32_t n, room;
    bool broken;
};

static void want(struct wanted *w, const char *text) {
    for (uint32_t i = 0; i < w->n; i++)
        if (strcmp(w->texts[i], text) == 0)
            return;
    if (w->n == w->room) {
        uint32_t room = w->room ? w->room * 2 : 32;
        char **texts = realloc(w->texts, room * sizeof *texts);
        if (!texts) {
            w->broken = true;
            return;
        }
        w->texts = texts;
        w->room = room;
    }
    w->texts[w->n] = strdup(text);
    w->broken |= !w->texts[w->n];
    w->n += w->texts[w->n] != NULL;
}

static bool is_wanted(const struct wanted *w, const char *text) {
    for (uint32_t i = 0; i < w->n; i++)
        if (strcmp(w->texts[i], text) == 0)
            return true;
    return false;
}

static void want_entries(const struct mesh_view *v, const struct mesh_found *f, struct wanted *w) {
    uint32_t bytes, len;
    char text[MESH_NAME_MAX + 1];
    const struct view_entry *e = mesh_view_span(f->rec, f->len, &f->rec->entries, 4, &bytes);
    for (uint32_t i = 0; e && i < bytes / sizeof *e; i++) {
        const struct view_route *r = mesh_view_rec(v, e[i].route, KIND_ROUTE, sizeof *r, &len);
        if (r && mesh_view_text(r, len, &r->text, text, sizeof text))
            want(w, text);
    }
}

static void want_clusters(const struct mesh_view *v, const struct view_root *root, const struct mesh_found *f,
                          struct wanted *w) {
    uint32_t bytes, flags, len;
    char text[MESH_NAME_MAX + 1];
    const uint32_t *ids = mesh_view_span(f->rec, f->len, &f->rec->clusters, 4, &bytes);
    for (uint32_t i = 0; ids && i < bytes / 4; i++) {
        const struct view_cluster *c = mesh_cluster_at(v, root, ids[i], &flags, &len);
        if (c && c->whole != c->id)
            c = mesh_cluster_at(v, root, c->whole, &flags, &len);
        if (c && mesh_view_text(c, len, &c->text, text, sizeof text))
            want(w, text);
    }
}

static int find_wanted(const struct mesh_view *v, struct wanted *w) {
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        struct mesh_found f;
        const struct view_root *root = mesh_view_begin(v, &seq);
        bool found = root && mesh_name_find(v, root, w->name, w->len, &f);
        if (found) {
            want_entries(v, &f, w);
            want_clusters(v, root, &f, w);
        }
        if (mesh_view_still(v, seq))
            return !found ? MESH_E_NOTFOUND : w->broken ? MESH_E_NOMEM : 0;
    }
    return MESH_E_AGAIN;
}

static void free_wanted(struct wanted *w) {
    for (uint32_t i = 0; i < w->n; i++)
        free(w->texts[i]);
    free(w->texts);
}

/* Endpoints may come under another name than their cluster's. */
static void want_service(struct wanted *w, const struct mesh_copy *c) {
    ProtobufCMessage *m;
    if (strcmp(c->type, "envoy.config.cluster.v3.Cluster") != 0 || !is_wanted(w, c->name) ||
        mesh_proto_unpack(&mesh__cluster__cluster__descriptor, c->bytes, c->n, &m) < 0)
        return;
    const Mesh__Cluster__Cluster *cluster = (const Mesh__Cluster__Cluster *)m;
    if (cluster->eds_cluster_config && cluster->eds_cluster_config->service_name)
        want(w, cluster->eds_cluster_config->service_name);
    protobuf_c_message_free_unpacked(m, NULL);
}

static bool has_domain(const struct wanted *w, const struct mesh_copy *c) {
    ProtobufCMessage *m;
    bool has = false;
    if (strcmp(c->type, "envoy.config.route.v3.RouteConfiguration") != 0 ||
        mesh_proto_unpack(&mesh__route__route_configuration__descriptor, c->bytes, c->n, &m) < 0)
        return false;
    const Mesh__Route__RouteConfiguration *r = (const Mesh__Route__RouteConfiguration *)m;
    for (size_t i = 0; i < r->n_virtual_hosts; i++)
        for (size_t j = 0; j < r->virtual_hosts[i]->n_domains; j++) {
            const char *d = r->virtual_hosts[i]->domains[j];
            has |=
                strncasecmp(d, w->name, w->len) == 0 && (!d[w->len] || d[w->len] == ':' || d[w->len] == '.');
        }
    protobuf_c_message_free_unpacked(m, NULL);
    return has;
}

static bool is_chosen(const struct wanted *w, const struct mesh_copy *c) {
    size_t n = w->len;
    return is_wanted(w, c->name) ||
           (strncasecmp(c->name, w->name, n) == 0 && (!c->name[n] || c->name[n] == ':')) || has_domain(w, c);
}

/* ---- text -------------------------------------------------------------------------------------------------
 */
static int print_copies(const struct mesh_copies *all, const bool *chosen, bool yaml, char **ret_text) {
    Mesh__Discovery__DiscoveryResponse response;
    protobuf_c_message_init(&mesh__discovery__discovery_response__descriptor, &response);
    Mesh__Pb__Any *anys = calloc(all->n + 1, sizeof *anys), **list = calloc(all->n + 1, sizeof *list);
    int rc = anys && list ? 0 : MESH_E_NOMEM;
    for (uint32_t i = 0; i < all->n && rc == 0; i++) {
        const struct mesh_copy *c = &all->items[i];
        char *url = chosen[i] ? malloc(sizeof type_prefix + strlen(c->type)) : NULL;
        if (!chosen[i])
            continue;
        if (!url) {
            rc = MESH_E_NOMEM;
            break;
        }
        memcpy(url, type_prefix, sizeof type_prefix - 1);
        strcpy(url + sizeof type_prefix - 1, c->type);
        Mesh__Pb__Any *a = &anys[response.n_resources];
        protobuf_c_message_init(&mesh__pb__any__descriptor, a);
        a->type_url = url;
        a->value = (ProtobufCBinaryData){c->n, c->bytes};
        list[response.n_resources++] = a;
    }
    response.resources = list;
    if (rc == 0)
        rc = mesh_proto_print(&response.base, yaml, 2, ret_text);
    for (size_t i = 0; anys && i < response.n_resources; i++)
        free(anys[i].type_url);
    free(anys);
    free(list);
    return rc;
}

int mesh_view_print(const struct mesh_view *v, const char *name, bool yaml, char **ret_text) {
    char normal[MESH_NAME_MAX + 1];
    struct wanted w = {.name = normal};
    struct mesh_copies all = {0};
    bool *chosen = NULL;
    int rc = 0;
    if (name && !(w.len = mesh_name_normal(name, normal)))
        return MESH_E_NOTFOUND;
    if (name)
        rc = find_wanted(v, &w);
    if (rc == 0)
        rc = mesh_copies_all(v, &all);
    if (rc == 0 && !(chosen = calloc(all.n + 1, sizeof *chosen)))
        rc = MESH_E_NOMEM;
    for (uint32_t i = 0; rc == 0 && name && i < all.n; i++)
        want_service(&w, &all.items[i]);
    for (uint32_t i = 0; rc == 0 && i < all.n; i++)
        chosen[i] = !name || is_chosen(&w, &all.items[i]);
    if (rc == 0)
        rc = print_copies(&all, chosen, yaml, ret_text);
    free(chosen);
    mesh_copies_done(&all);
    free_wanted(&w);
    return rc;
}
