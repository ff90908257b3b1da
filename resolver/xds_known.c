/* SPDX-License-Identifier: Apache-2.0
 *
 * Which names the published set knows, where all of it was asked for: listeners, virtual hosts, clusters, the
 * table of names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/http.pb-c.h"
#include "proto/nds.pb-c.h"
#include "resolver/builder.h"
#include "resolver/xds_inner.h"

struct known {
    struct mesh_dict_item item;
    char text[];
};

static void add(struct mesh_xds *x, const char *text, size_t n) {
    if (!n || mesh_dict_find(&x->known, text, n))
        return;
    struct known *k = calloc(1, sizeof(*k) + n + 1);
    if (!k)
        return; /* it is asked after again */
    memcpy(k->text, text, n);
    if (mesh_dict_add(&x->known, &k->item, k->text))
        free(k);
}

static void add_domain(struct mesh_xds *x, const char *domain) {
    if (domain && strcmp(domain, "*") != 0)
        add(x, domain, strlen(domain));
}

static void add_config(struct mesh_xds *x, const Mesh__Route__RouteConfiguration *c) {
    for (size_t i = 0; c && i < c->n_virtual_hosts; i++)
        for (size_t j = 0; j < c->virtual_hosts[i]->n_domains; j++)
            add_domain(x, c->virtual_hosts[i]->domains[j]);
}

static void add_manager(struct mesh_xds *x, const Mesh__Pb__Any *any) {
    int rc;
    Mesh__Http__HttpConnectionManager *m =
        mesh_any_open(any, &mesh__http__http_connection_manager__descriptor, &rc);
    if (!m)
        return;
    if (m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG)
        add_config(x, m->route_config);
    protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void add_listener(struct mesh_xds *x, const Mesh__Listener__Listener *l) {
    if (l->traffic_direction == MESH__CORE__TRAFFIC_DIRECTION__INBOUND)
        return;
    add(x, l->name, strlen(l->name));
    if (l->api_listener)
        add_manager(x, l->api_listener->api_listener);
    for (size_t i = 0; i < l->n_filter_chains; i++)
        for (size_t j = 0; j < l->filter_chains[i]->n_filters; j++)
            if (l->filter_chains[i]->filters[j]->config_type_case ==
                MESH__LISTENER__FILTER__CONFIG_TYPE_TYPED_CONFIG)
                add_manager(x, l->filter_chains[i]->filters[j]->typed_config);
}

/* outbound|PORT||HOST is the host, on that port and on none in particular. */
static void add_cluster(struct mesh_xds *x, const char *name) {
    static const char outbound[] = "outbound|";
    const char *bar = strncmp(name, outbound, sizeof(outbound) - 1) == 0 ? strstr(name, "||") : NULL;
    add(x, name, strlen(name));
    if (bar)
        add(x, bar + 2, strlen(bar + 2));
}

static void add_table(struct mesh_xds *x, const Mesh__Nds__NameTable *t) {
    for (size_t i = 0; i < t->n_table; i++)
        add(x, t->table[i]->key, strlen(t->table[i]->key));
}

static void add_entry(struct mesh_xds *x, const struct mesh_entry *e) {
    const ProtobufCMessage *m = e->out->msg;
    if (e->type == MESH_ADS_LISTENER)
        add_listener(x, (const Mesh__Listener__Listener *)m);
    else if (e->type == MESH_ADS_ROUTE)
        add_config(x, (const Mesh__Route__RouteConfiguration *)m);
    else if (e->type == MESH_ADS_CLUSTER)
        add_cluster(x, e->text);
    else if (e->type == MESH_ADS_NAMES)
        add_table(x, (const Mesh__Nds__NameTable *)m);
}

void mesh_xds_known_done(struct mesh_xds *x) {
    while (x->known.first) {
        struct mesh_dict_item *i = x->known.first;
        mesh_dict_remove(&x->known, i);
        free(i);
    }
    mesh_dict_done(&x->known);
}

static void build(struct mesh_xds *x) {
    if (x->is_known_built && x->known_shape == x->cache.shape)
        return;
    mesh_xds_known_done(x);
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        for (struct mesh_entry *e = mesh_cache_first(&x->cache, i); e; e = mesh_cache_next(e))
            if (mesh_closure_shows(&x->cache, e) && e->out->msg)
                add_entry(x, e);
    x->known_shape = x->cache.shape;
    x->is_known_built = true;
}

static bool has(const struct mesh_xds *x, const char *text) {
    return mesh_dict_find(&x->known, text, strlen(text)) != NULL;
}

bool mesh_xds_known(struct mesh_xds *x, const char *name, uint16_t port) {
    char text[1024];
    build(x);
    if (has(x, name))
        return true;
    snprintf(text, sizeof(text), "%s:%u", name, port);
    if (port && has(x, text))
        return true;
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        snprintf(text, sizeof(text), "*%s", dot);
        if (has(x, text))
            return true;
    }
    return false;
}
