/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "proto/http.pb-c.h"
#include "proto/tcp.pb-c.h"
#include "resolver/builder.h"
#include "resolver/cache.h"

struct gathering {
    struct mesh_dep *deps;
    uint32_t n, room;
    int rc; /* the first error ends it */
};

static void add(struct gathering *g, enum mesh_ads_type type, const char *name) {
    if (g->rc || !name || !*name)
        return;
    for (uint32_t i = g->n; i-- > 0 && g->n - i < 64;) /* doubles that are far apart do no harm */
        if (g->deps[i].type == type && strcmp(g->deps[i].name, name) == 0)
            return;
    if (g->n == g->room) {
        uint32_t room = g->room ? g->room * 2 : 4;
        struct mesh_dep *p = realloc(g->deps, room * sizeof(*p));
        if (!p) {
            g->rc = MESH_E_NOMEM;
            return;
        }
        g->deps = p;
        g->room = room;
    }
    g->deps[g->n].type = type;
    g->deps[g->n].name = strdup(name);
    if (g->deps[g->n].name)
        g->n++;
    else
        g->rc = MESH_E_NOMEM;
}

static bool is_ads(const Mesh__Core__ConfigSource *s) {
    return s && (s->config_source_specifier_case == MESH__CORE__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS ||
                 s->config_source_specifier_case == MESH__CORE__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_SELF);
}

/* Opens an Any of one type; NULL: it is of another, or an error ended the gathering. */
static void *open_any(struct gathering *g, const Mesh__Pb__Any *any, const ProtobufCMessageDescriptor *d) {
    int rc = 0;
    void *m = !g->rc && mesh_any_is(any, d) ? mesh_any_open(any, d, &rc) : NULL;
    if (rc < 0)
        g->rc = rc;
    return m;
}

/* ---- secrets ----------------------------------------------------------------------------------------------
 * By ADS only: those of an agent (sds-grpc) and certificate providers stand for the environment's identity.
 */
static void add_secret(struct gathering *g, const Mesh__Tls__SdsSecretConfig *s) {
    if (s && is_ads(s->sds_config))
        add(g, MESH_ADS_SECRET, s->name);
}

static void add_context(struct gathering *g, const Mesh__Tls__CommonTlsContext *c) {
    if (!c)
        return;
    for (size_t i = 0; i < c->n_tls_certificate_sds_secret_configs; i++)
        add_secret(g, c->tls_certificate_sds_secret_configs[i]);
    if (c->validation_context_type_case ==
        MESH__TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG)
        add_secret(g, c->validation_context_sds_secret_config);
    if (c->validation_context_type_case ==
            MESH__TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT &&
        c->combined_validation_context)
        add_secret(g, c->combined_validation_context->validation_context_sds_secret_config);
}

static void add_socket(struct gathering *g, const Mesh__Core__TransportSocket *s) {
    const Mesh__Pb__Any *any =
        s && s->config_type_case == MESH__CORE__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG ? s->typed_config
                                                                                           : NULL;
    Mesh__Tls__UpstreamTlsContext *up = open_any(g, any, &mesh__tls__upstream_tls_context__descriptor);
    Mesh__Tls__DownstreamTlsContext *down = open_any(g, any, &mesh__tls__downstream_tls_context__descriptor);
    add_context(g, up ? up->common_tls_context : down ? down->common_tls_context : NULL);
    if (up)
        protobuf_c_message_free_unpacked(&up->base, NULL);
    if (down)
        protobuf_c_message_free_unpacked(&down->base, NULL);
}

/* ---- routes -----------------------------------------------------------------------------------------------
 */
static void add_action(struct gathering *g, const Mesh__Route__RouteAction *a) {
    if (a->cluster_specifier_case == MESH__ROUTE__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER)
        add(g, MESH_ADS_CLUSTER, a->cluster);
    if (a->cluster_specifier_case != MESH__ROUTE__ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS ||
        !a->weighted_clusters)
        return;
    for (size_t i = 0; i < a->weighted_clusters->n_clusters; i++)
        add(g, MESH_ADS_CLUSTER, a->weighted_clusters->clusters[i]->name);
}

static void add_config(struct gathering *g, const Mesh__Route__RouteConfiguration *c) {
    for (size_t i = 0; c && i < c->n_virtual_hosts; i++)
        for (size_t j = 0; j < c->virtual_hosts[i]->n_routes; j++) {
            const Mesh__Route__Route *r = c->virtual_hosts[i]->routes[j];
            if (r->action_case == MESH__ROUTE__ROUTE__ACTION_ROUTE && r->route)
                add_action(g, r->route);
        }
}

/* ---- listeners --------------------------------------------------------------------------------------------
 */
static void add_manager(struct gathering *g, const Mesh__Pb__Any *any) {
    Mesh__Http__HttpConnectionManager *m = open_any(g, any, &mesh__http__http_connection_manager__descriptor);
    if (!m)
        return;
    if (m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS && m->rds)
        add(g, MESH_ADS_ROUTE, m->rds->route_config_name);
    if (m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG)
        add_config(g, m->route_config);
    protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void add_proxy(struct gathering *g, const Mesh__Pb__Any *any) {
    Mesh__Tcp__TcpProxy *p = open_any(g, any, &mesh__tcp__tcp_proxy__descriptor);
    if (!p)
        return;
    if (p->cluster_specifier_case == MESH__TCP__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER)
        add(g, MESH_ADS_CLUSTER, p->cluster);
    const Mesh__Tcp__TcpProxy__WeightedCluster *w =
        p->cluster_specifier_case == MESH__TCP__TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS
            ? p->weighted_clusters
            : NULL;
    for (size_t i = 0; w && i < w->n_clusters; i++)
        add(g, MESH_ADS_CLUSTER, w->clusters[i]->name);
    protobuf_c_message_free_unpacked(&p->base, NULL);
}

/* Where an inbound listener would send a connection is nobody's business: the program has it already. */
static void add_chain(struct gathering *g, const Mesh__Listener__FilterChain *c, bool is_inbound) {
    if (!c)
        return;
    add_socket(g, c->transport_socket);
    for (size_t i = 0; i < c->n_filters && !is_inbound; i++) {
        const Mesh__Listener__Filter *f = c->filters[i];
        if (f->config_type_case != MESH__LISTENER__FILTER__CONFIG_TYPE_TYPED_CONFIG)
            continue;
        add_manager(g, f->typed_config);
        add_proxy(g, f->typed_config);
    }
}

static void add_listener(struct gathering *g, const Mesh__Listener__Listener *l) {
    bool is_inbound = l->traffic_direction == MESH__CORE__TRAFFIC_DIRECTION__INBOUND;
    if (l->api_listener) { /* it wins over the address */
        add_manager(g, l->api_listener->api_listener);
        return;
    }
    for (size_t i = 0; i < l->n_filter_chains; i++)
        add_chain(g, l->filter_chains[i], is_inbound);
    add_chain(g, l->default_filter_chain, is_inbound);
}

/* ---- clusters ---------------------------------------------------------------------------------------------
 */
static void add_cluster(struct gathering *g, const Mesh__Cluster__Cluster *c) {
    add_socket(g, c->transport_socket);
    for (size_t i = 0; i < c->n_transport_socket_matches; i++)
        add_socket(g, c->transport_socket_matches[i]->transport_socket);
    if (c->cluster_discovery_type_case == MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE) {
        Mesh__Cluster__AggregateConfig *a =
            c->cluster_type
                ? open_any(g, c->cluster_type->typed_config, &mesh__cluster__aggregate_config__descriptor)
                : NULL;
        for (size_t i = 0; a && i < a->n_clusters; i++)
            add(g, MESH_ADS_CLUSTER, a->clusters[i]);
        if (a)
            protobuf_c_message_free_unpacked(&a->base, NULL);
    } else if (c->type == MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__EDS) {
        const char *service = c->eds_cluster_config ? c->eds_cluster_config->service_name : NULL;
        add(g, MESH_ADS_ENDPOINT, service && *service ? service : c->name);
    }
}

int mesh_deps_of(enum mesh_ads_type type, const ProtobufCMessage *m, struct mesh_dep **ret_deps,
                 uint32_t *ret_n) {
    struct gathering g = {.deps = NULL};
    if (type == MESH_ADS_LISTENER)
        add_listener(&g, (const Mesh__Listener__Listener *)m);
    else if (type == MESH_ADS_ROUTE)
        add_config(&g, (const Mesh__Route__RouteConfiguration *)m);
    else if (type == MESH_ADS_CLUSTER)
        add_cluster(&g, (const Mesh__Cluster__Cluster *)m);
    if (g.rc) {
        mesh_deps_free(g.deps, g.n);
        return g.rc;
    }
    *ret_deps = g.deps;
    *ret_n = g.n;
    return 0;
}

void mesh_deps_free(struct mesh_dep *deps, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        free(deps[i].name);
    free(deps);
}
