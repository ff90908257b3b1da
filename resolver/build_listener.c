/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "proto/http.pb-c.h"
#include "proto/tcp.pb-c.h"
#include "resolver/builder.h"
#include "shim/base/mem.h"

#define HCM &mesh__http__http_connection_manager__descriptor
#define TCP &mesh__tcp__tcp_proxy__descriptor
enum { WEIGHTS_MAX = 1024 };

static const Mesh__Listener__Listener *listener_of(const struct mesh_resource *r) {
    return (const Mesh__Listener__Listener *)r->msg;
}

bool mesh_build_where(const Mesh__Core__Address *a, struct build_where *ret) {
    const Mesh__Core__SocketAddress *s =
        a && a->address_case == MESH__CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS ? a->socket_address : NULL;
    static const uint8_t zero[16];
    if (!s || s->protocol != 0 || s->port_value > UINT16_MAX ||
        !mesh_parse_address(s->address, &ret->family, ret->addr))
        return false;
    ret->port = (uint16_t)s->port_value;
    ret->range = 0;
    ret->is_any = memcmp(ret->addr, zero, 16) == 0;
    return true;
}

/* ---- filters ----------------------------------------------------------------------------------------------
 */
int mesh_build_say(struct build *b, const char *kind, const char *name, const char *what, const char **ret) {
    struct mesh_why why;
    mesh_why(&why, 0, "%s %s: %s", kind, name, what);
    *ret = mesh_arena_text(&b->arena, why.text, strlen(why.text));
    return *ret ? 0 : MESH_E_NOMEM;
}

int mesh_build_guard(struct build *b, const Mesh__Pb__Any *config, const char **ret_guard) {
    int rc;
    *ret_guard = NULL;
    Mesh__Http__HttpConnectionManager *m = mesh_any_open(config, HCM, &rc);
    if (!m)
        return rc == MESH_E_NOMEM
                   ? rc
                   : mesh_build_say(b, "filter", "http_connection_manager", "cannot be read", ret_guard);
    rc = 0;
    for (size_t i = 0; i < m->n_http_filters && !*ret_guard && rc == 0; i++) {
        const Mesh__Http__HttpFilter *f = m->http_filters[i];
        const char *what =
            f->disabled ? NULL : mesh_filter_fault(f->name ? f->name : "", f->typed_config, f->is_optional);
        if (what)
            rc = mesh_build_say(b, "HTTP filter", f->name, what, ret_guard);
    }
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

/* What stands before the chain's last filter, or in it, and is not supported. */
static int chain_guard(struct build *b, const Mesh__Listener__FilterChain *c, const char **ret_guard) {
    int rc = 0;
    *ret_guard = NULL;
    for (size_t i = 0; i < c->n_filters && !*ret_guard && rc == 0; i++) {
        const Mesh__Listener__Filter *f = c->filters[i];
        const Mesh__Pb__Any *config =
            f->config_type_case == MESH__LISTENER__FILTER__CONFIG_TYPE_TYPED_CONFIG ? f->typed_config : NULL;
        if (mesh_any_is(config, TCP))
            continue;
        if (mesh_any_is(config, HCM)) {
            rc = mesh_build_guard(b, config, ret_guard);
            continue;
        }
        const char *what = mesh_filter_fault(f->name ? f->name : "", config, false);
        if (what)
            rc = mesh_build_say(b, "filter", f->name, what, ret_guard);
    }
    return rc;
}

const Mesh__Pb__Any *mesh_build_filter_of(const Mesh__Listener__FilterChain *c,
                                          const ProtobufCMessageDescriptor *type) {
    for (size_t i = 0; i < c->n_filters; i++) {
        const Mesh__Listener__Filter *f = c->filters[i];
        if (f->config_type_case == MESH__LISTENER__FILTER__CONFIG_TYPE_TYPED_CONFIG &&
            mesh_any_is(f->typed_config, type))
            return f->typed_config;
    }
    return NULL;
}

/* ---- tcp_proxy --------------------------------------------------------------------------------------------
 */
static int tcp_targets(struct build *b, const Mesh__Tcp__TcpProxy *t, struct build_weights *w) {
    bool many = t->cluster_specifier_case == MESH__TCP__TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS &&
                t->weighted_clusters;
    size_t n = many ? t->weighted_clusters->n_clusters : 1;
    if (n > WEIGHTS_MAX)
        n = WEIGHTS_MAX;
    struct build_weight *items = mesh_arena_get(&b->arena, (n + 1) * sizeof *items);
    if (!items)
        return MESH_E_NOMEM;
    w->items = items;
    if (!many)
        items[w->n++] =
            (struct build_weight){mesh_arena_text(&b->arena, t->cluster, strlen(t->cluster)), 1, NULL};
    for (size_t i = 0; many && i < n; i++) {
        const Mesh__Tcp__TcpProxy__WeightedCluster__ClusterWeight *c = t->weighted_clusters->clusters[i];
        items[w->n++] =
            (struct build_weight){mesh_arena_text(&b->arena, c->name, strlen(c->name)), c->weight, NULL};
    }
    int rc = 0;
    for (uint32_t i = 0; i < w->n && rc == 0; i++) {
        const Mesh__Core__Metadata *own = many ? t->weighted_clusters->clusters[i]->metadata_match : NULL;
        rc = items[i].cluster ? mesh_build_match(b, own, t->metadata_match, &items[i].match) : MESH_E_NOMEM;
    }
    return rc;
}

/* The service that all clusters of a route belong to: subsets and versions of one are one. */
static const char *service_of(struct build *b, const struct build_weights *w) {
    char name[MESH_NAME_MAX + 1], other[MESH_NAME_MAX + 1];
    for (uint32_t i = 0; i < w->n; i++) {
        if (!mesh_service_name(w->items[i].cluster, i ? other : name) || (i && strcmp(name, other) != 0))
            return NULL;
    }
    return w->n ? mesh_arena_text(&b->arena, name, strlen(name)) : NULL;
}

/* `ret_service`: the name that the route's clusters are called by, NULL: none. */
/* What a tcp_proxy must not say; NULL: nothing. */
static const char *tcp_fault(const Mesh__Tcp__TcpProxy *t) {
    const Mesh__Core__Percent *jitter = t->max_downstream_connection_duration_jitter_percentage;
    if (t->max_downstream_connection_duration && !mesh_duration_ms(t->max_downstream_connection_duration, 0))
        return "max_downstream_connection_duration: must be at least 1ms";
    if (jitter && !(jitter->value >= 0 && jitter->value <= 100))
        return "max_downstream_connection_duration_jitter_percentage: must be 0 to 100";
    if (t->max_connect_attempts && !t->max_connect_attempts->value)
        return "max_connect_attempts: must be at least 1";
    return NULL;
}

static int tcp_route(struct build *b, const char *text, const Mesh__Pb__Any *config,
                     const struct build_route **ret, const char **ret_service) {
    struct build_weights w = {.text = text};
    int rc;
    Mesh__Tcp__TcpProxy *t = mesh_any_open(config, TCP, &rc);
    *ret_service = NULL;
    if (!t)
        return rc == MESH_E_NOMEM
                   ? rc
                   : mesh_build_refusal(b, text, MESH_E_UNSUPPORTED, "the tcp_proxy cannot be read", ret);
    for (size_t i = 0; i < t->n_hash_policy; i++)
        if (t->hash_policy[i]->policy_specifier_case == MESH__CORE__HASH_POLICY__POLICY_SPECIFIER_SOURCE_IP)
            w.hash = HASH_SOURCE_IP;
    w.max_age_ms = mesh_duration_ms(t->max_downstream_connection_duration, 0);
    if (t->max_downstream_connection_duration_jitter_percentage)
        w.max_age_jitter = (uint8_t)t->max_downstream_connection_duration_jitter_percentage->value;
    if (t->max_connect_attempts)
        w.attempts =
            (uint16_t)(t->max_connect_attempts->value > 1000 ? 1000 : t->max_connect_attempts->value);
    if (t->cluster_specifier_case == MESH__TCP__TCP_PROXY__CLUSTER_SPECIFIER__NOT_SET)
        rc = mesh_build_refusal(b, text, MESH_E_INVALID, "the tcp_proxy names no cluster", ret);
    else if (tcp_fault(t))
        rc = mesh_build_refusal(b, text, MESH_E_INVALID, tcp_fault(t), ret);
    else if ((rc = tcp_targets(b, t, &w)) == 0)
        rc = mesh_build_weighted(b, &w, ret);
    else if (rc == MESH_E_LIMIT)
        rc = mesh_build_refusal(b, text, rc, "metadata_match has too many keys", ret);
    if (rc == 0)
        *ret_service = service_of(b, &w);
    protobuf_c_message_free_unpacked(&t->base, NULL);
    return rc;
}

/* ---- where outbound chains lead
 * ----------------------------------------------------------------------------- */
struct outbound { /* one listener */
    struct build *b;
    const struct mesh_resource *r;
    const Mesh__Listener__Listener *l;
    struct build_name *name; /* that it is called by, NULL: none */
    uint16_t name_port;
};

/* The address of an OUTBOUND listener is the service's own when the listener leads to clusters that are
 * called by one name: looked up, the name answers it, and its other ports are the name's. Other listeners are
 * that port alone. */
static int own_address(struct outbound *o, const struct build_where *w, const char *service,
                       struct build_name **ret) {
    bool loopback = w->family == 4 ? w->addr[0] == 127
                                   : w->addr[15] == 1 && !(w->addr[0] | w->addr[1] | w->addr[2] | w->addr[3]);
    *ret = NULL;
    if (!service || loopback || o->l->traffic_direction != MESH__CORE__TRAFFIC_DIRECTION__OUTBOUND)
        return 0;
    struct build_name *n = mesh_build_name(o->b, service, strlen(service));
    if (!n)
        return MESH_E_NOMEM;
    if (n->nentries && n->rank < o->b->rank) /* a file's names are its alone */
        return 0;
    if (w->family == 4 && !n->has_own4)
        memcpy(n->own4, w->addr, 4);
    else if (w->family == 6 && !n->has_own6)
        memcpy(n->own6, w->addr, 16);
    n->has_own4 |= w->family == 4;
    n->has_own6 |= w->family == 6;
    struct build_addr a = {.family = w->family, .name = n};
    memcpy(a.addr, w->addr, 16);
    *ret = n;
    return mesh_build_addr(o->b, &a);
}

static int lead_address(struct outbound *o, const struct build_where *w, const struct build_route *route,
                        const char *service) {
    struct build_addr a = {
        .family = w->family, .range = w->range, .port = w->port, .level = LEVEL_ADDRESS, .route = route};
    if (w->is_any)
        return 0;
    memcpy(a.addr, w->addr, 16);
    int rc = own_address(o, w, route->kind == ROUTE_CLUSTERS ? service : NULL, &a.name);
    if (rc == 0 && a.name && w->port) /* by its name the service is what it is by its address */
        rc = mesh_build_entry(o->b, a.name, w->port, LEVEL_ADDRESS, route);
    /* Port 0 is the short form's "any port": the name's own entries say the same. */
    return rc == 0 && (w->port || !a.name) ? mesh_build_addr(o->b, &a) : rc;
}

static int lead_name(struct outbound *o, const struct build_route *route) {
    if (!o->name || route->kind == ROUTE_PASS)
        return 0;
    return mesh_build_entry(o->b, o->name, o->name_port, LEVEL_LISTENER, route);
}

/* A prefix of all bits is an address; v4-mapped ones count theirs from 96. */
static void narrow_to(struct build_where *w, uint32_t bits, bool is_six) {
    uint32_t all = w->family == 4 ? 32 : 128;
    if (is_six && w->family == 4)
        bits = bits > 96 ? bits - 96 : 0;
    if (bits >= all)
        return;
    w->range = (uint8_t)(bits + 1);
    mesh_mask_addr(w->addr, (uint8_t)bits);
}

/* Each address that leads into a chain: those of its prefix ranges, else the listener's. */
static int each_where(struct outbound *o, const Mesh__Listener__FilterChain *c,
                      const struct build_route *route, const char *service) {
    const Mesh__Listener__FilterChainMatch *m = c->filter_chain_match;
    struct build_where base, w;
    int rc = 0;
    bool has_base = mesh_build_where(o->l->address, &base);
    if (has_base && m && m->destination_port)
        base.port = (uint16_t)m->destination_port->value;
    for (size_t i = 0; m && i < m->n_prefix_ranges && rc == 0; i++) {
        const Mesh__Core__CidrRange *p = m->prefix_ranges[i];
        w = (struct build_where){.port = has_base ? base.port : 0};
        if (!mesh_parse_address(p->address_prefix, &w.family, w.addr)) {
            rc = mesh_fault(o->b, o->r, "a prefix range that is none is left out");
            continue;
        }
        narrow_to(&w, p->prefix_len ? p->prefix_len->value : 0, strchr(p->address_prefix, ':') != NULL);
        rc = lead_address(o, &w, route, w.range ? NULL : service);
    }
    if (!has_base || (m && m->n_prefix_ranges) || rc < 0)
        return rc;
    rc = lead_address(o, &base, route, service);
    for (size_t i = 0; i < o->l->n_additional_addresses && rc == 0; i++)
        if (mesh_build_where(o->l->additional_addresses[i]->address, &w))
            rc = lead_address(o, &w, route, service);
    return rc;
}

static int http_config(struct outbound *o, const Mesh__Pb__Any *config, const char *guard, bool is_api) {
    const Mesh__Route__RouteConfiguration *routes = NULL;
    const struct build_route *route = NULL;
    struct build_ports ports = {.guard = guard};
    struct build_where w;
    int rc;
    Mesh__Http__HttpConnectionManager *m = mesh_any_open(config, HCM, &rc);
    if (!m)
        return rc == MESH_E_NOMEM ? rc : 0;
    rc = 0;
    if (m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG)
        routes = m->route_config;
    const char *rds = m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS
                          ? m->rds->route_config_name
                          : NULL;
    const struct mesh_resource *found = rds ? mesh_build_find(&o->b->routes, rds) : NULL;
    if (found && found->refused)
        guard = found->refused;
    if (!is_api && mesh_build_where(o->l->address, &w) && w.port)
        ports.ports[ports.n++] = w.port;
    if (routes && !is_api)
        rc = mesh_build_config(o->b, o->r, routes, &ports);
    if (found)
        routes = (const Mesh__Route__RouteConfiguration *)found->msg;
    if (rc == 0 && o->name && routes)
        rc = mesh_build_vhost_route(o->b, routes, guard, o->name->text, o->name_port, &route);
    bool is_found = route != NULL;
    if (rc == 0 && o->name && !route && is_api)
        rc = mesh_build_refusal(o->b, o->r->name, MESH_E_NOROUTE,
                                routes ? "no virtual host of the listener's routes has its name"
                                       : "the listener's route configuration is not in the view",
                                &route);
    /* Istio's gRPC dialect has no TCP routes: an empty configuration leaves the name to its cluster. */
    if (rc == 0 && route && !is_found && routes && !routes->n_virtual_hosts)
        rc = mesh_build_entry(o->b, o->name, o->name_port, LEVEL_STAR, route);
    else if (rc == 0 && route)
        rc = lead_name(o, route);
    if (rc == 0 && is_api && is_found && mesh_build_where(o->l->address, &w) && w.port)
        rc = lead_address(o, &w, route, NULL);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

/* Conditions that only the bytes of a connection, or its source, can answer. */
static bool is_conditional(const Mesh__Listener__FilterChainMatch *m, bool http) {
    if (!m)
        return false;
    bool tls = m->transport_protocol && strcmp(m->transport_protocol, "tls") == 0;
    return m->n_source_prefix_ranges || m->n_source_ports || m->n_direct_source_prefix_ranges ||
           m->source_type || (tls && !m->n_server_names) || (m->n_application_protocols && !http);
}

/* A program that speaks TLS of its own asks for the name that it looked up: the name decides, as a domain
 * would. */
static int lead_server_names(struct outbound *o, const Mesh__Listener__FilterChainMatch *m,
                             const struct build_route *route) {
    struct build_where w = {.port = 0};
    int rc = 0;
    (void)mesh_build_where(o->l->address, &w);
    if (m->destination_port)
        w.port = (uint16_t)m->destination_port->value;
    for (size_t i = 0; i < m->n_server_names && rc == 0; i++) {
        char name[MESH_NAME_MAX + 1];
        if (mesh_name_normal(m->server_names[i], name))
            rc = mesh_build_domain(o->b, name, w.port, route);
    }
    return rc;
}

static int outbound_chain(struct outbound *o, const Mesh__Listener__FilterChain *c) {
    const Mesh__Pb__Any *http = mesh_build_filter_of(c, HCM), *tcp = mesh_build_filter_of(c, TCP);
    const struct build_route *route;
    const char *guard, *service = NULL;
    if (is_conditional(c->filter_chain_match, http != NULL))
        return 0;
    int rc = chain_guard(o->b, c, &guard);
    if (rc == 0 && guard)
        rc = mesh_fault(o->b, o->r, "listener %s: %s", o->r->name, guard);
    if (rc < 0)
        return rc;
    if (http)
        return http_config(o, http, guard, false);
    if (!tcp && !guard)
        return 0;
    rc = guard ? mesh_build_refusal(o->b, o->r->name, MESH_E_UNSUPPORTED, guard, &route)
               : tcp_route(o->b, o->r->name, tcp, &route, &service);
    if (rc == 0 && c->filter_chain_match && c->filter_chain_match->n_server_names)
        return lead_server_names(o, c->filter_chain_match, route);
    if (rc == 0)
        rc = lead_name(o, route);
    return rc == 0 ? each_where(o, c, route, service) : rc;
}

static int refused_listener(struct outbound *o) {
    const struct build_route *route;
    struct build_where w;
    int rc = mesh_build_refusal(o->b, o->r->name, MESH_E_UNSUPPORTED, o->r->refused, &route);
    if (rc == 0)
        rc = lead_name(o, route);
    return rc == 0 && mesh_build_where(o->l->address, &w) ? lead_address(o, &w, route, NULL) : rc;
}

static int build_outbound(struct build *b, const struct mesh_resource *r) {
    struct outbound o = {.b = b, .r = r, .l = listener_of(r)};
    char name[MESH_NAME_MAX + 1];
    const char *guard;
    int rc = 0;
    /* One that takes redirected connections is called by nobody. */
    bool redirected = o.l->use_original_dst && o.l->use_original_dst->value;
    if (!redirected && !strchr(r->name, '|') && mesh_host_name(r->name, name, &o.name_port) &&
        !(o.name = mesh_build_name(b, name, strlen(name))))
        return MESH_E_NOMEM;
    if (r->refused)
        return refused_listener(&o);
    if (o.l->api_listener && o.l->api_listener->api_listener) {
        rc = mesh_build_guard(b, o.l->api_listener->api_listener, &guard);
        if (rc == 0 && guard)
            rc = mesh_fault(b, r, "listener %s: %s", r->name, guard);
        return rc ? rc : http_config(&o, o.l->api_listener->api_listener, guard, true);
    }
    for (size_t i = 0; i < o.l->n_filter_chains && rc == 0; i++)
        rc = outbound_chain(&o, o.l->filter_chains[i]);
    return rc == 0 && o.l->default_filter_chain ? outbound_chain(&o, o.l->default_filter_chain) : rc;
}

int mesh_build_listeners(struct build *b) {
    int rc = 0;
    for (size_t i = 0; i < b->resources->n && rc == 0; i++) {
        const struct mesh_resource *r = &b->resources->items[i];
        if (r->type != &mesh__listener__listener__descriptor)
            continue;
        b->pub->root.listeners_n++;
        mesh_build_at(b, i);
        rc = mesh_build_is_inbound(b, listener_of(r)) ? mesh_build_inbound(b, r) : build_outbound(b, r);
    }
    return rc;
}

/* ---- which route configurations listeners use
 * ----------------------------------------------------------------- */
static int note_ports(struct build *b, const Mesh__Listener__Listener *l, const Mesh__Pb__Any *config,
                      bool is_api) {
    struct build_where w;
    int rc;
    Mesh__Http__HttpConnectionManager *m = mesh_any_open(config, HCM, &rc);
    if (!m)
        return rc == MESH_E_NOMEM ? rc : 0;
    const char *rds = m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS
                          ? m->rds->route_config_name
                          : NULL;
    const struct mesh_resource *found = rds ? mesh_build_find(&b->routes, rds) : NULL;
    protobuf_c_message_free_unpacked(&m->base, NULL);
    if (!found)
        return 0;
    struct build_ports *p = &b->ports[mesh_build_number(b, found)];
    p->is_api |= is_api;
    if (!is_api && mesh_build_where(l->address, &w) && w.port && p->n < MESH_ARRAY_LEN(p->ports))
        p->ports[p->n++] = w.port;
    return p->guard ? 0 : mesh_build_guard(b, config, &p->guard);
}

int mesh_build_ports(struct build *b) {
    int rc = 0;
    for (size_t i = 0; i < b->resources->n && rc == 0; i++) {
        const Mesh__Listener__Listener *l = listener_of(&b->resources->items[i]);
        if (b->resources->items[i].type != &mesh__listener__listener__descriptor ||
            mesh_build_is_inbound(b, l))
            continue;
        if (l->api_listener && l->api_listener->api_listener)
            rc = note_ports(b, l, l->api_listener->api_listener, true);
        for (size_t j = 0; !l->api_listener && j < l->n_filter_chains && rc == 0; j++)
            if (mesh_build_filter_of(l->filter_chains[j], HCM))
                rc = note_ports(b, l, mesh_build_filter_of(l->filter_chains[j], HCM), false);
    }
    return rc;
}
