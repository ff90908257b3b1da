/* SPDX-License-Identifier: Apache-2.0
 *
 * What no control plane may say: its failure is a NACK. As strict as Envoy, not as gRPC: what a raw
 * connection does not need is not judged, since a NACK for it would cost the whole service.
 */
#include <stdlib.h>
#include <string.h>
#include "proto/http.pb-c.h"
#include "proto/tcp.pb-c.h"
#include "resolver/builder.h"
#include "resolver/cache.h"

enum { RING_MAX = 8 << 20, PERCENT_MAX = 100, CHOICES_MIN = 2, PRIORITY_MAX = 128 };

static int wrong(struct mesh_why *why, const char *what) {
    return mesh_why(why, MESH_E_INVALID, "%s", what);
}

static bool is_ads(const Mesh__Core__ConfigSource *s) {
    return s && (s->config_source_specifier_case == MESH__CORE__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS ||
                 s->config_source_specifier_case == MESH__CORE__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_SELF);
}

/* ---- routes -----------------------------------------------------------------------------------------------
 */
static int check_sum(uint64_t sum, struct mesh_why *why) {
    if (!sum)
        return wrong(why, "weighted_clusters: the weights are all 0");
    return sum > UINT32_MAX ? wrong(why, "weighted_clusters: the weights are over 4294967295 together") : 0;
}

static int check_route(const Mesh__Route__Route *r, struct mesh_why *why) {
    if (r->action_case != MESH__ROUTE__ROUTE__ACTION_ROUTE || !r->route ||
        r->route->cluster_specifier_case != MESH__ROUTE__ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS ||
        !r->route->weighted_clusters)
        return 0;
    const Mesh__Route__WeightedCluster *w = r->route->weighted_clusters;
    uint64_t sum = 0;
    for (size_t i = 0; i < w->n_clusters; i++)
        sum += w->clusters[i]->weight ? w->clusters[i]->weight->value : 0;
    return check_sum(sum, why);
}

static int check_config(const Mesh__Route__RouteConfiguration *c, struct mesh_why *why) {
    for (size_t i = 0; i < c->n_virtual_hosts; i++) {
        const Mesh__Route__VirtualHost *v = c->virtual_hosts[i];
        if (!v->n_domains)
            return mesh_why(why, MESH_E_INVALID, "virtual host %.80s: no domains", v->name ? v->name : "");
        for (size_t j = 0; j < v->n_routes; j++)
            if (check_route(v->routes[j], why))
                return MESH_E_INVALID;
    }
    return 0;
}

/* ---- listeners --------------------------------------------------------------------------------------------
 */
static int check_manager_parts(const Mesh__Http__HttpConnectionManager *m, struct mesh_why *why) {
    if (m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS && m->rds) {
        if (!m->rds->route_config_name || !*m->rds->route_config_name)
            return wrong(why, "rds: no route_config_name");
        if (!is_ads(m->rds->config_source))
            return wrong(why, "rds.config_source: neither ads nor self");
    }
    if (m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG &&
        m->route_config)
        return check_config(m->route_config, why);
    return 0;
}

static int check_proxy_parts(const Mesh__Tcp__TcpProxy *p, struct mesh_why *why) {
    uint64_t sum = 0;
    if (p->cluster_specifier_case != MESH__TCP__TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS ||
        !p->weighted_clusters)
        return 0;
    for (size_t i = 0; i < p->weighted_clusters->n_clusters; i++)
        sum += p->weighted_clusters->clusters[i]->weight;
    return check_sum(sum, why);
}

static int check_filter(const Mesh__Pb__Any *any, struct mesh_why *why) {
    int rc = 0;
    if (mesh_any_is(any, &mesh__http__http_connection_manager__descriptor)) {
        Mesh__Http__HttpConnectionManager *m =
            mesh_any_open(any, &mesh__http__http_connection_manager__descriptor, &rc);
        rc = m ? check_manager_parts(m, why) : rc;
        if (m)
            protobuf_c_message_free_unpacked(&m->base, NULL);
    } else if (mesh_any_is(any, &mesh__tcp__tcp_proxy__descriptor)) {
        Mesh__Tcp__TcpProxy *p = mesh_any_open(any, &mesh__tcp__tcp_proxy__descriptor, &rc);
        rc = p ? check_proxy_parts(p, why) : rc;
        if (p)
            protobuf_c_message_free_unpacked(&p->base, NULL);
    }
    return rc < 0 ? rc : 0;
}

static int check_chain(const Mesh__Listener__FilterChain *c, struct mesh_why *why) {
    int rc = 0;
    for (size_t i = 0; c && i < c->n_filters && rc == 0; i++)
        if (c->filters[i]->config_type_case == MESH__LISTENER__FILTER__CONFIG_TYPE_TYPED_CONFIG)
            rc = check_filter(c->filters[i]->typed_config, why);
    return rc;
}

static int check_listener(const Mesh__Listener__Listener *l, struct mesh_why *why) {
    int rc = 0;
    if (l->api_listener) {
        if (!mesh_any_is(l->api_listener->api_listener, &mesh__http__http_connection_manager__descriptor))
            return wrong(why, "api_listener: not an HttpConnectionManager");
        rc = check_filter(l->api_listener->api_listener, why);
    }
    for (size_t i = 0; i < l->n_filter_chains && rc == 0; i++)
        rc = check_chain(l->filter_chains[i], why);
    return rc ? rc : check_chain(l->default_filter_chain, why);
}

/* ---- clusters ---------------------------------------------------------------------------------------------
 */
static bool over(const Mesh__Pb__UInt32Value *v, uint32_t max) {
    return v && v->value > max;
}

static int check_detection(const Mesh__Cluster__OutlierDetection *o, struct mesh_why *why) {
    if (o &&
        (over(o->max_ejection_percent, PERCENT_MAX) || over(o->enforcing_consecutive_5xx, PERCENT_MAX) ||
         over(o->enforcing_success_rate, PERCENT_MAX) || over(o->failure_percentage_threshold, PERCENT_MAX) ||
         over(o->enforcing_failure_percentage, PERCENT_MAX)))
        return wrong(why, "outlier_detection: a percentage over 100");
    return 0;
}

static int check_policy(const Mesh__Cluster__Cluster *c, struct mesh_why *why) {
    if (c->lb_config_case == MESH__CLUSTER__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG &&
        c->ring_hash_lb_config) {
        const Mesh__Cluster__Cluster__RingHashLbConfig *r = c->ring_hash_lb_config;
        if ((r->minimum_ring_size && r->minimum_ring_size->value > RING_MAX) ||
            (r->maximum_ring_size && r->maximum_ring_size->value > RING_MAX))
            return wrong(why, "ring_hash_lb_config: a ring size over 8388608");
    }
    if (c->lb_config_case == MESH__CLUSTER__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG &&
        c->least_request_lb_config && c->least_request_lb_config->choice_count &&
        c->least_request_lb_config->choice_count->value < CHOICES_MIN)
        return wrong(why, "least_request_lb_config.choice_count: below 2");
    return 0;
}

static int check_eds(const Mesh__Cluster__Cluster *c, struct mesh_why *why) {
    const Mesh__Cluster__Cluster__EdsClusterConfig *e = c->eds_cluster_config;
    if (!e || !is_ads(e->eds_config))
        return wrong(why, "eds_cluster_config.eds_config: neither ads nor self");
    if (strncmp(c->name, "xdstp:", 6) == 0 && (!e->service_name || !*e->service_name)) /* A47 */
        return wrong(why, "eds_cluster_config.service_name: must be set for an xdstp name");
    return 0;
}

static int check_logical_dns(const Mesh__Cluster__Cluster *c, struct mesh_why *why) {
    const Mesh__Endpoint__ClusterLoadAssignment *a = c->load_assignment;
    return a && a->n_endpoints == 1 && a->endpoints[0]->n_lb_endpoints == 1
               ? 0
               : wrong(why, "LOGICAL_DNS: must have one locality with one endpoint");
}

static int check_aggregate(const Mesh__Pb__Any *any, struct mesh_why *why) {
    int rc = 0;
    if (!mesh_any_is(any, &mesh__cluster__aggregate_config__descriptor))
        return 0;
    Mesh__Cluster__AggregateConfig *a = mesh_any_open(any, &mesh__cluster__aggregate_config__descriptor, &rc);
    if (!a)
        return rc;
    rc = a->n_clusters ? 0 : wrong(why, "aggregate: no clusters");
    protobuf_c_message_free_unpacked(&a->base, NULL);
    return rc;
}

static int check_cluster(const Mesh__Cluster__Cluster *c, struct mesh_why *why) {
    int rc = check_detection(c->outlier_detection, why);
    rc = rc ? rc : check_policy(c, why);
    if (rc)
        return rc;
    if (c->cluster_discovery_type_case == MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE)
        return check_aggregate(c->cluster_type ? c->cluster_type->typed_config : NULL, why);
    if (c->type == MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__EDS)
        return check_eds(c, why);
    return c->type == MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS ? check_logical_dns(c, why) : 0;
}

static int check_secret(const Mesh__Tls__Secret *s, struct mesh_why *why) {
    return s->type_case == MESH__TLS__SECRET__TYPE__NOT_SET ? wrong(why, "a secret without content") : 0;
}

int mesh_valid_message(enum mesh_ads_type type, const ProtobufCMessage *m, struct mesh_why *why) {
    switch (type) {
    case MESH_ADS_LISTENER:
        return check_listener((const Mesh__Listener__Listener *)m, why);
    case MESH_ADS_ROUTE:
        return check_config((const Mesh__Route__RouteConfiguration *)m, why);
    case MESH_ADS_CLUSTER:
        return check_cluster((const Mesh__Cluster__Cluster *)m, why);
    case MESH_ADS_SECRET:
        return check_secret((const Mesh__Tls__Secret *)m, why);
    default:
        return 0;
    }
}

/* ---- assignments ------------------------------------------------------------------------------------------
 */
struct sums {
    uint64_t localities[PRIORITY_MAX + 1],
        endpoints; /* weights: of a priority's localities, of a locality's endpoints */
    struct mesh_why *why;
};

static int on_locality(void *arg, const struct mesh_scan_locality *l) {
    struct sums *s = arg;
    if (l->priority > PRIORITY_MAX)
        return wrong(s->why, "a priority over 128");
    s->endpoints = 0;
    s->localities[l->priority] += l->weight;
    return s->localities[l->priority] > UINT32_MAX
               ? wrong(s->why, "the weights of a priority's localities are over 4294967295 together")
               : 0;
}

static int on_endpoint(void *arg, const struct mesh_scan_endpoint *e) {
    struct sums *s = arg;
    if (e->has_weight && !e->weight)
        return wrong(s->why, "an endpoint of weight 0");
    s->endpoints += e->has_weight ? e->weight : 1;
    return s->endpoints > UINT32_MAX
               ? wrong(s->why, "the weights of a locality's endpoints are over 4294967295 together")
               : 0;
}

int mesh_valid_assignment(const char *name, struct mesh_bytes value, struct mesh_why *why) {
    static const struct mesh_scan_assignment_sink sink = {.locality = on_locality, .endpoint = on_endpoint};
    struct sums sums = {.why = why};
    int rc = mesh_scan_assignment(value.p, value.n, &sink, &sums);
    return rc && !*why->text ? mesh_why(why, rc, "%s", mesh_err_text(rc)) : rc;
}
