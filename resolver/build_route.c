/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include "proto/http.pb-c.h"
#include "proto/tcp.pb-c.h"
#include "resolver/builder.h"

enum { WEIGHTS_MAX = 1024 };

/* ---- records ----------------------------------------------------------------------------------------------
 */
static int put_route(struct build *b, const struct mesh_route_in *in, const struct build_route **ret) {
    struct build_route *r = mesh_arena_get(&b->arena, sizeof *r);
    if (!r)
        return MESH_E_NOMEM;
    r->kind = in->kind;
    r->targets = in->targets;
    r->n = in->n;
    int rc = mesh_pub_route_put(b->pub, in, &r->ref);
    if (rc == 0)
        *ret = r;
    return rc;
}

int mesh_build_refusal(struct build *b, const char *text, int error, const char *why,
                       const struct build_route **ret) {
    struct mesh_route_in in = {.text = text, .kind = ROUTE_REFUSE, .error = error, .why = why};
    return put_route(b, &in, ret);
}

/* Istio's names for what is no service: leave it alone, or refuse it. */
static int special(struct build *b, const char *text, const char *cluster, const struct build_route **ret) {
    struct mesh_route_in in = {.text = text, .kind = ROUTE_PASS};
    if (strcmp(cluster, "BlackHoleCluster") == 0)
        return mesh_build_refusal(b, text, MESH_E_NOROUTE, "the route leads to BlackHoleCluster", ret);
    if (strcmp(cluster, "PassthroughCluster") == 0 || strcmp(cluster, "InboundPassthroughCluster") == 0)
        return put_route(b, &in, ret);
    return MESH_E_NOTFOUND;
}

int mesh_build_weighted(struct build *b, const struct build_weights *w, const struct build_route **ret) {
    struct view_target *targets = mesh_arena_get(&b->arena, w->n * sizeof *targets);
    struct mesh_route_in in = {.text = w->text,
                               .kind = ROUTE_CLUSTERS,
                               .hash = w->hash,
                               .attempts = w->attempts,
                               .max_age_ms = w->max_age_ms,
                               .max_age_jitter = w->max_age_jitter,
                               .targets = targets};
    const char *only = "";
    uint64_t total = 0;
    if (!targets)
        return MESH_E_NOMEM;
    for (uint32_t i = 0; i < w->n; i++) {
        if (!w->items[i].weight)
            continue;
        only = w->items[i].cluster;
        total += w->items[i].weight;
        int rc = mesh_build_cluster_id(b, w->items[i].cluster, w->items[i].match, &targets[in.n].cluster);
        if (rc < 0)
            return rc;
        targets[in.n++].weight = w->items[i].weight;
    }
    if (total == 0 || total > UINT32_MAX)
        return mesh_build_refusal(b, w->text, MESH_E_INVALID,
                                  "the weights of the clusters sum up to 0 or to more than 2^32-1", ret);
    if (in.n == 1) {
        int rc = special(b, w->text, only, ret);
        if (rc != MESH_E_NOTFOUND)
            return rc;
    }
    return put_route(b, &in, ret);
}

int mesh_build_route(struct build *b, const char *text, const char *cluster, const struct build_route **ret) {
    struct build_weight one = {cluster, 1, NULL};
    struct build_weights w = {.text = text, .items = &one, .n = 1};
    return mesh_build_weighted(b, &w, ret);
}

/* What a weighted cluster asks goes before what its route asks. */
int mesh_build_match(struct build *b, const Mesh__Core__Metadata *first, const Mesh__Core__Metadata *second,
                     const struct build_match **ret) {
    struct build_match *m = first || second ? mesh_arena_get(&b->arena, sizeof *m) : NULL;
    int rc = (first || second) && !m ? MESH_E_NOMEM : 0;
    if (m)
        rc = mesh_match_add(m, first);
    if (m && rc == 0)
        rc = mesh_match_add(m, second);
    *ret = m;
    return rc;
}

/* ---- which route of a virtual host ------------------------------------------------------------------------
 */
/* Needs nothing but the connection. */
static bool is_connection_level(const Mesh__Route__RouteMatch *m) {
    if (!m)
        return true;
    bool any_path = m->path_specifier_case == MESH__ROUTE__ROUTE_MATCH__PATH_SPECIFIER__NOT_SET ||
                    (m->path_specifier_case == MESH__ROUTE__ROUTE_MATCH__PATH_SPECIFIER_PREFIX &&
                     (!*m->prefix || strcmp(m->prefix, "/") == 0));
    return any_path && !m->n_headers && !m->n_query_parameters && !m->grpc && !m->runtime_fraction &&
           !m->tls_context && !m->n_dynamic_metadata && !m->n_filter_state && !m->n_cookies;
}

static uint8_t hash_of(const Mesh__Route__RouteAction *a) {
    for (size_t i = 0; i < a->n_hash_policy; i++) {
        const Mesh__Route__RouteAction__HashPolicy *h = a->hash_policy[i];
        if (h->policy_specifier_case ==
                MESH__ROUTE__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_CONNECTION_PROPERTIES &&
            h->connection_properties && h->connection_properties->source_ip)
            return HASH_SOURCE_IP;
    }
    return HASH_NONE;
}

static int too_many_keys(struct build *b, const char *text, const struct build_route **ret) {
    return mesh_build_refusal(b, text, MESH_E_LIMIT, "metadata_match has too many keys", ret);
}

static int weighted_route(struct build *b, const char *text, const Mesh__Route__RouteAction *a,
                          const struct build_route **ret) {
    const Mesh__Route__WeightedCluster *w = a->weighted_clusters;
    struct build_weights in = {.text = text, .hash = hash_of(a)};
    if (!w || w->n_clusters == 0 || w->n_clusters > WEIGHTS_MAX)
        return mesh_build_refusal(b, text, MESH_E_LIMIT, "no weighted clusters, or too many", ret);
    struct build_weight *items = mesh_arena_get(&b->arena, w->n_clusters * sizeof *items);
    if (!items)
        return MESH_E_NOMEM;
    in.items = items;
    for (size_t i = 0; i < w->n_clusters; i++) {
        const Mesh__Route__WeightedCluster__ClusterWeight *c = w->clusters[i];
        if (!c->name || !*c->name)
            return mesh_build_refusal(b, text, MESH_E_UNSUPPORTED,
                                      "the cluster is named by a header of the request", ret);
        items[in.n] = (struct build_weight){c->name, c->weight ? c->weight->value : 0, NULL};
        int rc = mesh_build_match(b, c->metadata_match, a->metadata_match, &items[in.n++].match);
        if (rc < 0)
            return rc == MESH_E_LIMIT ? too_many_keys(b, text, ret) : rc;
    }
    return mesh_build_weighted(b, &in, ret);
}

static int action_route(struct build *b, const char *text, const Mesh__Route__Route *r,
                        const struct build_route **ret) {
    if (r->action_case != MESH__ROUTE__ROUTE__ACTION_ROUTE || !r->route)
        return mesh_build_refusal(b, text, MESH_E_UNSUPPORTED,
                                  "the route answers requests itself (redirect, direct response)", ret);
    const Mesh__Route__RouteAction *a = r->route;
    switch (a->cluster_specifier_case) {
    case MESH__ROUTE__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER: {
        struct build_weight one = {a->cluster, 1, NULL};
        int rc = mesh_build_match(b, a->metadata_match, NULL, &one.match);
        if (rc < 0)
            return rc == MESH_E_LIMIT ? too_many_keys(b, text, ret) : rc;
        struct build_weights w = {.text = text, .hash = hash_of(a), .items = &one, .n = 1};
        return mesh_build_weighted(b, &w, ret);
    }
    case MESH__ROUTE__ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS:
        return weighted_route(b, text, a, ret);
    default:
        return mesh_build_refusal(b, text, MESH_E_UNSUPPORTED, "the cluster is named by the request", ret);
    }
}

/* Filters configured for this place only stand before it as well; an entry that is disabled does not guard.
 */
const char *mesh_build_per_filter_fault(size_t n, void *const *entries) {
    for (size_t i = 0; i < n; i++) {
        const Mesh__Route__VirtualHost__TypedPerFilterConfigEntry *e = entries[i];
        const char *what = e->key ? mesh_filter_fault(e->key, e->value, false) : NULL;
        if (what)
            return what;
    }
    return NULL;
}

static int vhost_route(struct build *b, const Mesh__Route__RouteConfiguration *config,
                       const Mesh__Route__VirtualHost *h, const char *guard, const struct build_route **ret) {
    const char *text = config->name && *config->name ? config->name : h->name ? h->name : "";
    const char *what = guard ? guard
                             : mesh_build_per_filter_fault(h->n_typed_per_filter_config,
                                                           (void *const *)h->typed_per_filter_config);
    if (what)
        return mesh_build_refusal(b, text, MESH_E_UNSUPPORTED, what, ret);
    for (size_t i = 0; i < h->n_routes; i++) {
        const Mesh__Route__Route *r = h->routes[i];
        if (!is_connection_level(r->match))
            continue;
        what = mesh_build_per_filter_fault(r->n_typed_per_filter_config,
                                           (void *const *)r->typed_per_filter_config);
        if (what)
            return mesh_build_refusal(b, text, MESH_E_UNSUPPORTED, what, ret);
        return action_route(b, r->name && *r->name ? r->name : text, r, ret);
    }
    return mesh_build_refusal(b, text, MESH_E_UNSUPPORTED,
                              "each of the virtual host's routes needs the request", ret);
}

/* ---- virtual hosts by domain ------------------------------------------------------------------------------
 */
/* A domain in normal form: the name, and the port that may follow it. */
static size_t split_domain(const char *domain, char ret_name[MESH_NAME_MAX + 1], uint16_t *ret_port) {
    char text[MESH_NAME_MAX + 8];
    const char *colon = strrchr(domain, ':');
    size_t n = strlen(domain);
    unsigned port = 0;
    int used = 0;
    *ret_port = 0;
    if (colon && (strchr(domain, ':') == colon || colon[-1] == ']') &&
        sscanf(colon + 1, "%5u%n", &port, &used) == 1 && !colon[1 + used] && port && port <= UINT16_MAX) {
        *ret_port = (uint16_t)port;
        n = (size_t)(colon - domain);
    }
    if (n >= sizeof text)
        return 0;
    memcpy(text, domain, n);
    text[n] = 0;
    return mesh_name_normal(text, ret_name);
}

static uint32_t fit_domain(const char *domain, size_t n, const char *name, size_t len) {
    if (n == 1 && domain[0] == '*')
        return 1;
    if (domain[0] == '*')
        return len >= n && memcmp(name + len - (n - 1), domain + 1, n - 1) == 0 ? 2000 + (uint32_t)n : 0;
    if (domain[n - 1] == '*')
        return len >= n && memcmp(name, domain, n - 1) == 0 ? 1000 + (uint32_t)n : 0;
    return n == len && memcmp(domain, name, n) == 0 ? 3000 : 0;
}

int mesh_build_vhost_route(struct build *b, const Mesh__Route__RouteConfiguration *config, const char *guard,
                           const char *name, uint16_t port, const struct build_route **ret) {
    const Mesh__Route__VirtualHost *best = NULL;
    uint32_t best_fit = 0;
    size_t len = strlen(name);
    for (size_t i = 0; i < config->n_virtual_hosts; i++)
        for (size_t j = 0; j < config->virtual_hosts[i]->n_domains; j++) {
            char domain[MESH_NAME_MAX + 1];
            uint16_t only;
            size_t n = split_domain(config->virtual_hosts[i]->domains[j], domain, &only);
            uint32_t fit = n && (!only || only == port) ? fit_domain(domain, n, name, len) : 0;
            fit = fit ? fit * 2 + (only != 0) : 0;
            if (fit <= best_fit)
                continue;
            best_fit = fit;
            best = config->virtual_hosts[i];
        }
    *ret = NULL;
    if (!guard)
        guard = mesh_build_per_filter_fault(config->n_typed_per_filter_config,
                                            (void *const *)config->typed_per_filter_config);
    return best ? vhost_route(b, config, best, guard, ret) : 0;
}

/* ---- route configurations as such
 * --------------------------------------------------------------------------- */
static enum view_level level_of(const char *domain, size_t n) {
    if (n == 1 && domain[0] == '*')
        return LEVEL_STAR;
    return domain[0] == '*' ? LEVEL_SUFFIX : domain[n - 1] == '*' ? LEVEL_PREFIX : LEVEL_DOMAIN;
}

int mesh_build_domain(struct build *b, const char *domain, uint16_t port, const struct build_route *route) {
    struct build_addr a = {.port = port, .level = LEVEL_DOMAIN, .route = route};
    size_t n = strlen(domain);
    char bare[MESH_NAME_MAX + 1];
    snprintf(bare, sizeof bare, "%s", domain);
    if (n > 2 && bare[0] == '[' && bare[n - 1] == ']') {
        memmove(bare, bare + 1, n - 2);
        bare[n - 2] = 0;
    }
    if (mesh_parse_address(bare, &a.family, a.addr))
        return mesh_build_addr(b, &a);
    if (level_of(domain, n) == LEVEL_STAR && route->kind != ROUTE_CLUSTERS)
        return 0; /* what is left over leaves the mesh, or goes nowhere: no name becomes one of ours by that
                   */
    struct build_name *name = mesh_build_name(b, domain, n);
    return name ? mesh_build_entry(b, name, port, level_of(domain, n), route) : MESH_E_NOMEM;
}

/* Routes that stand before the one that is followed, and that only a request could choose. */
static int note_skipped(struct build *b, const struct mesh_resource *r, const Mesh__Route__VirtualHost *h) {
    size_t n = 0;
    while (n < h->n_routes && !is_connection_level(h->routes[n]->match))
        n++;
    return n == 0 ? 0
                  : mesh_fault(b, r,
                               "virtual host %s: %zu of its %zu routes need the request and are not followed",
                               h->name ? h->name : "", n, h->n_routes);
}

static int note_all_skipped(struct build *b, const struct mesh_resource *r,
                            const Mesh__Route__RouteConfiguration *config) {
    int rc = 0;
    for (size_t i = 0; i < config->n_virtual_hosts && rc == 0; i++)
        rc = note_skipped(b, r, config->virtual_hosts[i]);
    return rc;
}

static int add_vhost(struct build *b, const struct mesh_resource *r,
                     const Mesh__Route__RouteConfiguration *config, const Mesh__Route__VirtualHost *h,
                     const struct build_ports *ports) {
    const struct build_route *route;
    int rc = vhost_route(b, config, h, ports->guard, &route);
    if (rc == 0)
        rc = note_skipped(b, r, h);
    for (size_t i = 0; i < h->n_domains && rc == 0; i++) {
        char domain[MESH_NAME_MAX + 1];
        uint16_t port;
        if (!split_domain(h->domains[i], domain, &port))
            continue;
        if (!ports->n || port) {
            bool reached = !ports->n;
            for (uint32_t j = 0; j < ports->n; j++)
                reached |= ports->ports[j] == port;
            rc = reached ? mesh_build_domain(b, domain, port, route) : 0;
            continue;
        }
        for (uint32_t j = 0; j < ports->n && rc == 0; j++)
            rc = mesh_build_domain(b, domain, ports->ports[j], route);
    }
    return rc;
}

int mesh_build_config(struct build *b, const struct mesh_resource *r,
                      const Mesh__Route__RouteConfiguration *config, const struct build_ports *ports) {
    struct build_ports own = *ports;
    int rc = 0;
    if (r->refused)
        own.guard = r->refused;
    if (!own.guard)
        own.guard = mesh_build_per_filter_fault(config->n_typed_per_filter_config,
                                                (void *const *)config->typed_per_filter_config);
    if (own.guard)
        rc = mesh_fault(b, r, "route configuration %s: %s", config->name ? config->name : "", own.guard);
    for (size_t i = 0; i < config->n_virtual_hosts && rc == 0; i++)
        rc = add_vhost(b, r, config, config->virtual_hosts[i], &own);
    return rc;
}

int mesh_build_routes(struct build *b) {
    int rc = 0;
    for (size_t i = 0; i < b->resources->n && rc == 0; i++) {
        const struct mesh_resource *r = &b->resources->items[i];
        /* Of those that only api_listeners use, the listeners' names lead in (gRFC A27). */
        mesh_build_at(b, i);
        if (r->type == &mesh__route__route_configuration__descriptor && b->ports[i].is_api && !b->ports[i].n)
            rc = note_all_skipped(b, r, (const Mesh__Route__RouteConfiguration *)r->msg);
        else if (r->type == &mesh__route__route_configuration__descriptor)
            rc = mesh_build_config(b, r, (const Mesh__Route__RouteConfiguration *)r->msg, &b->ports[i]);
    }
    return rc;
}
