/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "proto/http.pb-c.h"
#include "proto/tcp.pb-c.h"
#include "resolver/builder.h"
#include "shim/base/mem.h"

#define HCM &mesh__http__http_connection_manager__descriptor
#define TCP &mesh__tcp__tcp_proxy__descriptor

/* ---- which listeners --------------------------------------------------------------------------------------
 */
/* The routes of a manager: inline, or by name. NULL: none in the view. */
static const Mesh__Route__RouteConfiguration *routes_of(const struct build *b,
                                                        const Mesh__Http__HttpConnectionManager *m) {
    if (m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG)
        return m->route_config;
    const struct mesh_resource *r =
        m->route_specifier_case == MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS &&
                m->rds->route_config_name
            ? mesh_build_find(&b->routes, m->rds->route_config_name)
            : NULL;
    return r && !r->refused ? (const Mesh__Route__RouteConfiguration *)r->msg : NULL;
}

/* gRPC's server listeners forward nothing (gRFC A36). */
static bool serves_here(const struct build *b, const Mesh__Pb__Any *config) {
    int rc;
    Mesh__Http__HttpConnectionManager *m = config ? mesh_any_open(config, HCM, &rc) : NULL;
    const Mesh__Route__RouteConfiguration *c = m ? routes_of(b, m) : NULL;
    bool yes = false;
    for (size_t i = 0; c && i < c->n_virtual_hosts && !yes; i++)
        for (size_t j = 0; j < c->virtual_hosts[i]->n_routes && !yes; j++)
            yes = c->virtual_hosts[i]->routes[j]->action_case ==
                  MESH__ROUTE__ROUTE__ACTION_NON_FORWARDING_ACTION;
    if (m)
        protobuf_c_message_free_unpacked(&m->base, NULL);
    return yes;
}

static bool is_served_chain(const struct build *b, const Mesh__Listener__FilterChain *c) {
    const Mesh__Core__TransportSocket *t = c->transport_socket;
    return (t && mesh_any_is(t->typed_config, &mesh__tls__downstream_tls_context__descriptor)) ||
           serves_here(b, mesh_build_filter_of(c, HCM));
}

bool mesh_build_is_inbound(const struct build *b, const Mesh__Listener__Listener *l) {
    if (l->api_listener && l->api_listener->api_listener)
        return false;
    if (l->traffic_direction != MESH__CORE__TRAFFIC_DIRECTION__UNSPECIFIED)
        return l->traffic_direction == MESH__CORE__TRAFFIC_DIRECTION__INBOUND;
    for (size_t i = 0; i < l->n_filter_chains; i++)
        if (is_served_chain(b, l->filter_chains[i]))
            return true;
    return l->default_filter_chain && is_served_chain(b, l->default_filter_chain);
}

/* ---- one chain --------------------------------------------------------------------------------------------
 */
struct inbound {
    struct build *b;
    const struct mesh_resource *r;
    const Mesh__Listener__Listener *l;
    struct view_span ats;
    struct view_chain c; /* the chain at hand */
    struct build_authz *authz;
};

static void refuse_chain(struct inbound *x, int error, const char *why) {
    if (x->c.error)
        return;
    x->c.error = error;
    x->c.why = mesh_blob_text(&x->b->inbound, why);
}

static int read_ranges(struct inbound *x, size_t n, Mesh__Core__CidrRange *const *list,
                       struct view_span *ret) {
    struct mesh_blob ranges = {0};
    for (size_t i = 0; i < n; i++) {
        struct view_range r = {0};
        uint32_t bits = list[i]->prefix_len ? list[i]->prefix_len->value : 0;
        if (!mesh_parse_address(list[i]->address_prefix, &r.family, r.addr)) {
            refuse_chain(x, MESH_E_INVALID, "an address range that is none");
            continue;
        }
        if (r.family == 4 && strchr(list[i]->address_prefix, ':'))
            bits = bits > 96 ? bits - 96 : 0;
        r.bits = (uint8_t)(bits > (r.family == 4 ? 32 : 128) ? (r.family == 4 ? 32 : 128) : bits);
        mesh_blob_add(&ranges, &r, sizeof r, 1);
    }
    *ret = mesh_blob_add(&x->b->inbound, ranges.p, ranges.len, 1);
    bool broken = ranges.broken;
    free(ranges.p);
    return broken ? MESH_E_NOMEM : 0;
}

static int read_texts(struct inbound *x, size_t n, char *const *list, bool are_names, struct view_span *ret) {
    struct mesh_blob texts = {0};
    for (size_t i = 0; i < n; i++) {
        char name[MESH_NAME_MAX + 1];
        const char *text = list[i];
        size_t len = are_names ? mesh_name_normal(list[i], name) : strlen(list[i]);
        if (are_names)
            text = name;
        if (!len || len > MESH_NAME_MAX) {
            refuse_chain(x, MESH_E_INVALID, "a server name or application protocol that is none");
            continue;
        }
        uint16_t size = (uint16_t)len;
        mesh_blob_add(&texts, &size, sizeof size, 1);
        mesh_blob_add(&texts, text, len, 1);
    }
    *ret = mesh_blob_add(&x->b->inbound, texts.p, texts.len, 1);
    bool broken = texts.broken;
    free(texts.p);
    return broken ? MESH_E_NOMEM : 0;
}

static int read_ports(struct inbound *x, size_t n, const uint32_t *list, struct view_span *ret) {
    struct mesh_blob ports = {0};
    for (size_t i = 0; i < n; i++) {
        uint16_t port = (uint16_t)list[i];
        mesh_blob_add(&ports, &port, sizeof port, 2);
    }
    *ret = mesh_blob_add(&x->b->inbound, ports.p, ports.len, 2);
    bool broken = ports.broken;
    free(ports.p);
    return broken ? MESH_E_NOMEM : 0;
}

static int read_match(struct inbound *x, const Mesh__Listener__FilterChainMatch *m) {
    const char *transport = m->transport_protocol ? m->transport_protocol : "";
    x->c.port = m->destination_port ? (uint16_t)m->destination_port->value : 0;
    x->c.transport = !*transport ? 0 : strcmp(transport, "tls") == 0 ? 1 : 2;
    if (x->c.transport == 2 && strcmp(transport, "raw_buffer") != 0)
        refuse_chain(x, MESH_E_UNSUPPORTED, "a transport protocol that is not known");
    x->c.source_type = (uint8_t)m->source_type;
    if (m->suffix_len || (m->address_suffix && *m->address_suffix))
        refuse_chain(x, MESH_E_UNSUPPORTED, "address suffixes are not supported");
    int rc = read_ranges(x, m->n_prefix_ranges, m->prefix_ranges, &x->c.ranges);
    if (rc == 0)
        rc = read_ranges(x, m->n_direct_source_prefix_ranges, m->direct_source_prefix_ranges, &x->c.directs);
    if (rc == 0)
        rc = read_ranges(x, m->n_source_prefix_ranges, m->source_prefix_ranges, &x->c.sources);
    if (rc == 0)
        rc = read_texts(x, m->n_server_names, m->server_names, true, &x->c.servers);
    if (rc == 0)
        rc = read_texts(x, m->n_application_protocols, m->application_protocols, false, &x->c.protocols);
    return rc == 0 ? read_ports(x, m->n_source_ports, m->source_ports, &x->c.source_ports) : rc;
}

static int read_transport(struct inbound *x, const Mesh__Core__TransportSocket *t) {
    if (!t || mesh_any_is(t->typed_config, &mesh__tls__raw_buffer__descriptor) ||
        (!t->typed_config && t->name && strcmp(t->name, "envoy.transport_sockets.raw_buffer") == 0))
        return 0;
    x->c.has_tls = 1;
    int rc = mesh_build_server(x->b, t, &x->b->inbound, &x->c.tls);
    if (x->c.tls.error && !x->c.error) {
        x->c.error = x->c.tls.error;
        x->c.why = x->c.tls.why;
    }
    return rc;
}

/* ---- its filters ------------------------------------------------------------------------------------------
 */
static int guard(struct inbound *x, const char *kind, const char *name, const char *what) {
    const char *text;
    int rc = mesh_build_say(x->b, kind, name, what, &text);
    if (rc < 0)
        return rc;
    refuse_chain(x, MESH_E_UNSUPPORTED, text);
    return mesh_fault(x->b, x->r, "listener %s: %s", x->r->name, text);
}

static int read_filter(struct inbound *x, const char *kind, const char *name, const Mesh__Pb__Any *config,
                       bool is_optional) {
    if (config && mesh_build_authz_is(config)) {
        int rc = mesh_build_authz_add(x->authz, config);
        const char *fault = mesh_build_authz_fault(x->authz), *needs = mesh_build_authz_needs(x->authz);
        if (rc == 0 && !fault && needs)
            rc = mesh_fault(x->b, x->r, "listener %s: %s: a connection whose outcome hangs on it is refused",
                            x->r->name, needs);
        return rc == 0 && fault ? guard(x, kind, name, fault) : rc;
    }
    const char *what = mesh_filter_fault(name ? name : "", config, is_optional);
    return what ? guard(x, kind, name, what) : 0;
}

/* A route that answers by itself, or that changes its filters, decides by request who is served. */
static const char *routes_fault(const Mesh__Route__RouteConfiguration *c) {
    const char *what =
        mesh_build_per_filter_fault(c->n_typed_per_filter_config, (void *const *)c->typed_per_filter_config);
    for (size_t i = 0; i < c->n_virtual_hosts && !what; i++) {
        const Mesh__Route__VirtualHost *h = c->virtual_hosts[i];
        what = mesh_build_per_filter_fault(h->n_typed_per_filter_config,
                                           (void *const *)h->typed_per_filter_config);
        for (size_t j = 0; j < h->n_routes && !what; j++) {
            const Mesh__Route__Route *r = h->routes[j];
            if (r->action_case != MESH__ROUTE__ROUTE__ACTION_ROUTE &&
                r->action_case != MESH__ROUTE__ROUTE__ACTION_NON_FORWARDING_ACTION)
                what = "one of its routes answers requests itself";
            else
                what = mesh_build_per_filter_fault(r->n_typed_per_filter_config,
                                                   (void *const *)r->typed_per_filter_config);
        }
    }
    return what;
}

static int read_http(struct inbound *x, const Mesh__Pb__Any *config) {
    int rc;
    Mesh__Http__HttpConnectionManager *m = mesh_any_open(config, HCM, &rc);
    if (!m)
        return rc == MESH_E_NOMEM ? rc : guard(x, "filter", "http_connection_manager", "cannot be read");
    rc = 0;
    for (size_t i = 0; i < m->n_http_filters && rc == 0; i++)
        if (!m->http_filters[i]->disabled)
            rc = read_filter(x, "HTTP filter", m->http_filters[i]->name, m->http_filters[i]->typed_config,
                             m->http_filters[i]->is_optional);
    const Mesh__Route__RouteConfiguration *routes = routes_of(x->b, m);
    const char *what = routes ? routes_fault(routes) : "its route configuration is not in the view";
    if (rc == 0 && what &&
        m->route_specifier_case != MESH__HTTP__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER__NOT_SET)
        rc = guard(x, "filter", "http_connection_manager", what);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

static int read_tcp(struct inbound *x, const Mesh__Pb__Any *config) {
    int rc;
    Mesh__Tcp__TcpProxy *t = mesh_any_open(config, TCP, &rc);
    if (!t)
        return rc == MESH_E_NOMEM ? rc : guard(x, "filter", "tcp_proxy", "cannot be read");
    if (t->cluster_specifier_case == MESH__TCP__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER &&
        strcmp(t->cluster, "BlackHoleCluster") == 0)
        refuse_chain(x, MESH_E_NOROUTE, "the chain leads to BlackHoleCluster");
    protobuf_c_message_free_unpacked(&t->base, NULL);
    return 0;
}

static int read_filters(struct inbound *x, const Mesh__Listener__FilterChain *f) {
    int rc = 0;
    for (size_t i = 0; i < f->n_filters && rc == 0; i++) {
        const Mesh__Listener__Filter *one = f->filters[i];
        const Mesh__Pb__Any *config =
            one->config_type_case == MESH__LISTENER__FILTER__CONFIG_TYPE_TYPED_CONFIG ? one->typed_config
                                                                                      : NULL;
        if (mesh_any_is(config, TCP))
            rc = read_tcp(x, config);
        else if (mesh_any_is(config, HCM))
            rc = read_http(x, config);
        else
            rc = read_filter(x, "filter", one->name, config, false);
    }
    return rc;
}

static int read_chain(struct inbound *x, const Mesh__Listener__FilterChain *f, bool fallback) {
    x->c = (struct view_chain){.fallback = fallback, .ats = x->ats};
    x->c.name = mesh_blob_text(&x->b->inbound, f->name);
    int rc = f->filter_chain_match ? read_match(x, f->filter_chain_match) : 0;
    if (rc == 0)
        rc = read_transport(x, f->transport_socket);
    if (x->r->refused)
        refuse_chain(x, MESH_E_UNSUPPORTED, x->r->refused);
    if (rc == 0)
        rc = mesh_build_authz_new(&x->authz);
    if (rc < 0)
        return rc;
    rc = read_filters(x, f);
    if (rc == 0)
        rc = mesh_build_authz_put(x->authz, &x->b->inbound, &x->c.authz);
    mesh_build_authz_free(x->authz);
    mesh_blob_add(&x->b->chains, &x->c, sizeof x->c, 4);
    return rc;
}

/* ---- one listener -----------------------------------------------------------------------------------------
 */
static void add_at(struct mesh_blob *ats, const Mesh__Core__Address *a) {
    struct build_where w;
    struct view_at at = {.port = 0};
    if (!mesh_build_where(a, &w))
        return;
    at.port = w.port;
    at.addr.family = w.family;
    at.addr.bits = w.is_any ? 0 : w.family == 4 ? 32 : 128;
    memcpy(at.addr.addr, w.addr, 16);
    mesh_blob_add(ats, &at, sizeof at, 2);
}

/* One that others hand connections to: on whatever address and port they were meant for. */
static bool is_redirected(const Mesh__Listener__Listener *l) {
    bool yes = l->use_original_dst && l->use_original_dst->value;
    for (size_t i = 0; i < l->n_listener_filters && !yes; i++) {
        const Mesh__Listener__ListenerFilter *f = l->listener_filters[i];
        const char *type = f->config_type_case == MESH__LISTENER__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG
                               ? mesh_any_type(f->typed_config)
                               : "";
        yes = (f->name && strcmp(f->name, "envoy.filters.listener.original_dst") == 0) ||
              strcmp(type, "envoy.extensions.filters.listener.original_dst.v3.OriginalDst") == 0;
    }
    return yes;
}

int mesh_build_inbound(struct build *b, const struct mesh_resource *r) {
    const Mesh__Listener__Listener *l = (const Mesh__Listener__Listener *)r->msg;
    struct inbound x = {.b = b, .r = r, .l = l};
    struct mesh_blob ats = {0};
    static const struct view_at redirected;
    if (is_redirected(l)) {
        mesh_blob_add(&ats, &redirected, sizeof redirected, 2);
    } else {
        add_at(&ats, l->address);
        for (size_t i = 0; i < l->n_additional_addresses; i++)
            add_at(&ats, l->additional_addresses[i]->address);
    }
    x.ats = mesh_blob_add(&b->inbound, ats.p, ats.len, 2);
    int rc = ats.broken ? MESH_E_NOMEM : 0;
    free(ats.p);
    for (size_t i = 0; i < l->n_filter_chains && rc == 0; i++)
        rc = read_chain(&x, l->filter_chains[i], false);
    return rc == 0 && l->default_filter_chain ? read_chain(&x, l->default_filter_chain, true) : rc;
}
