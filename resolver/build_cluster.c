/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include "lb/lb.h"
#include "resolver/builder.h"
#include "resolver/health.h"

enum { TRANSPORTS_MAX = 64, LOCALITIES_MAX = 512, PRIORITY_MAX = 127 };

struct locality { /* equal ones share an index */
    uint32_t priority;
    const Mesh__Core__Locality *name;
};
struct cluster { /* the one at hand */
    struct build *b;
    const struct mesh_resource *r;
    const Mesh__Cluster__Cluster *c;
    const Mesh__Endpoint__ClusterLoadAssignment *cla;
    const struct mesh_resource *cla_resource;
    struct view_tls transports[TRANSPORTS_MAX];
    uint32_t ntransports, n;
    struct locality localities[LOCALITIES_MAX];
    uint32_t nlocalities;
    uint64_t *seen; /* addresses of this cluster, hashed */
    uint32_t seen_mask;
    struct build_lb lb;
    const struct build_match
        *match; /* the subset to put, NULL with is_subset: the one of routes that ask nothing */
    bool is_subset;
    int error;
    struct mesh_why why;
};

static int refuse(struct cluster *x, int err, const char *what, const char *subject) {
    if (!x->error)
        x->error = mesh_why(&x->why, err, "cluster %s: %s%s%s", x->r->name, what, subject ? ": " : "",
                            subject ? subject : "");
    return 0;
}

/* ---- transports -------------------------------------------------------------------------------------------
 */
static bool match_metadata(const Mesh__Pb__Struct *match, const Mesh__Pb__Struct *metadata) {
    for (size_t i = 0; match && i < match->n_fields; i++)
        if (!mesh_metadata_same(match->fields[i]->value,
                                mesh_metadata_field(metadata, match->fields[i]->key)))
            return false;
    return true;
}

static uint8_t transport_of(const struct cluster *x, const Mesh__Core__Metadata *m) {
    const Mesh__Pb__Struct *own = mesh_metadata_of(m, "envoy.transport_socket_match");
    for (uint32_t i = 0; i + 1 < x->ntransports; i++)
        if (match_metadata(x->c->transport_socket_matches[i]->match, own))
            return (uint8_t)(i + 1);
    return 0;
}

static int read_transports(struct cluster *x, struct mesh_blob *blob) {
    if (x->c->n_transport_socket_matches >= TRANSPORTS_MAX)
        return refuse(x, MESH_E_LIMIT, "too many transport_socket_matches", NULL);
    int rc = mesh_build_transport(x->b, x->c->transport_socket, blob, &x->transports[0]);
    x->ntransports = 1;
    for (size_t i = 0; i < x->c->n_transport_socket_matches && rc == 0; i++)
        rc = mesh_build_transport(x->b, x->c->transport_socket_matches[i]->transport_socket, blob,
                                  &x->transports[x->ntransports++]);
    return rc;
}

/* ---- endpoints --------------------------------------------------------------------------------------------
 */
static uint32_t locality_of(struct cluster *x, const Mesh__Endpoint__LocalityLbEndpoints *l) {
    for (uint32_t i = 0; i < x->nlocalities; i++)
        if (x->localities[i].priority == l->priority &&
            mesh_same_locality(x->localities[i].name, l->locality))
            return i;
    if (x->nlocalities < LOCALITIES_MAX)
        x->localities[x->nlocalities++] = (struct locality){l->priority, l->locality};
    return x->nlocalities - 1;
}

/* The first of two equal addresses stays: control planes do send doubles. */
static bool is_double(struct cluster *x, const struct mesh_endpoint *e) {
    uint64_t h = mesh_hash_addr(e->family, e->addr, e->port) | 1;
    uint32_t i = (uint32_t)(h >> 8) & x->seen_mask;
    for (; x->seen[i]; i = (i + 1) & x->seen_mask)
        if (x->seen[i] == h)
            return true;
    x->seen[i] = h;
    return false;
}

static uint32_t hash_key(struct cluster *x, const Mesh__Endpoint__LbEndpoint *lb) {
    const Mesh__Pb__Value *v = mesh_metadata_field(mesh_metadata_of(lb->metadata, "envoy.lb"), "hash_key");
    const char *text = v && v->kind_case == MESH__PB__VALUE__KIND_STRING_VALUE ? v->string_value
                       : x->lb.hash_by_host                                    ? lb->endpoint->hostname
                                                                               : NULL;
    size_t n = text ? strlen(text) : 0;
    if (!n || n > UINT16_MAX)
        return 0;
    uint16_t len = (uint16_t)n;
    struct view_span at = mesh_blob_add(&x->b->keys, &len, sizeof len, 2);
    mesh_blob_add(&x->b->keys, text, n, 1);
    return at.off + 1;
}

static int add_endpoint(struct cluster *x, const Mesh__Endpoint__LocalityLbEndpoints *l,
                        const Mesh__Endpoint__LbEndpoint *lb, uint16_t locality) {
    struct mesh_endpoint *e = &x->b->endpoints[x->n];
    const Mesh__Core__Address *a =
        lb->host_identifier_case == MESH__ENDPOINT__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT && lb->endpoint
            ? lb->endpoint->address
            : NULL;
    const Mesh__Core__SocketAddress *s =
        a && a->address_case == MESH__CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS ? a->socket_address : NULL;
    memset(e, 0, sizeof *e);
    if (!s || s->protocol != 0 || s->port_value > UINT16_MAX ||
        !mesh_parse_address(s->address, &e->family, e->addr))
        return mesh_fault(x->b, x->cla_resource,
                          "%s: an endpoint without an IP address and TCP port is left out%s%s", x->r->name,
                          s && s->address ? ": " : "", s && s->address ? s->address : "");
    e->port = (uint16_t)s->port_value;
    e->transport = transport_of(x, lb->metadata);
    if (x->transports[e->transport].error)
        return mesh_fault(x->b, x->r, "endpoints are left out whose transport socket is not supported");
    if (is_double(x, e))
        return 0;
    e->health = lb->health_status >= 0 && (int)lb->health_status <= MESH_HEALTH_DEGRADED
                    ? (uint8_t)lb->health_status
                    : MESH_HEALTH_UNHEALTHY;
    if (e->health != MESH_HEALTH_DRAINING &&
        mesh_health_of(x->b->pub->health, x->r->name, e) == MESH_VERDICT_BAD)
        e->health = MESH_HEALTH_UNHEALTHY;
    e->priority = (uint8_t)(l->priority > PRIORITY_MAX ? PRIORITY_MAX : l->priority);
    e->locality = locality;
    e->weight =
        lb->load_balancing_weight && lb->load_balancing_weight->value ? lb->load_balancing_weight->value : 1;
    e->locality_weight = l->load_balancing_weight ? l->load_balancing_weight->value : 0;
    e->hash_key = hash_key(x, lb);
    x->b->metadata[x->n] = lb->metadata;
    x->n++;
    return mesh_build_reserve(x->b, e->family, e->addr);
}

/* What Envoy refuses of a load assignment's numbers. */
static void check_numbers(struct cluster *x, size_t i) {
    const Mesh__Endpoint__LocalityLbEndpoints *l = x->cla->endpoints[i];
    uint64_t sum = 0;
    char path[128];
    snprintf(path, sizeof path, "load_assignment.endpoints[%zu]", i);
    if (l->priority > PRIORITY_MAX + 1)
        refuse(x, MESH_E_INVALID, path, "priority must be 0 to 128");
    for (size_t j = 0; j < l->n_lb_endpoints; j++) {
        const Mesh__Pb__UInt32Value *w = l->lb_endpoints[j]->load_balancing_weight;
        sum += w ? w->value : 1;
        if (w && !w->value)
            refuse(x, MESH_E_INVALID, path, "load_balancing_weight of an endpoint must be at least 1");
    }
    if (sum > UINT32_MAX)
        refuse(x, MESH_E_INVALID, path, "the endpoints' weights sum up to more than 2^32-1");
}

static size_t count_endpoints(const Mesh__Endpoint__ClusterLoadAssignment *cla) {
    size_t n = 0;
    for (size_t i = 0; i < cla->n_endpoints; i++)
        n += cla->endpoints[i]->n_lb_endpoints;
    return n;
}

static int make_room(struct cluster *x, size_t n) {
    uint32_t slots = 16;
    while (slots < n * 2 && slots < 1u << 30)
        slots *= 2;
    x->seen = calloc(slots, sizeof *x->seen);
    x->seen_mask = slots - 1;
    if (n > x->b->endpoints_room) {
        struct mesh_endpoint *p = realloc(x->b->endpoints, n * sizeof *p);
        if (p)
            x->b->endpoints = p;
        const Mesh__Core__Metadata **m = realloc(x->b->metadata, n * sizeof *m);
        if (m)
            x->b->metadata = m;
        if (!p || !m)
            return MESH_E_NOMEM;
        x->b->endpoints_room = (uint32_t)n;
    }
    return x->seen ? 0 : MESH_E_NOMEM;
}

static int read_endpoints(struct cluster *x) {
    size_t n = x->cla ? count_endpoints(x->cla) : 0;
    if (n > (1u << 24))
        return MESH_E_LIMIT;
    for (size_t i = 0; x->cla && i < x->cla->n_endpoints; i++)
        check_numbers(x, i);
    int rc = x->error ? 0 : make_room(x, n + 1);
    for (size_t i = 0; n && !x->error && i < x->cla->n_endpoints && rc == 0; i++) {
        const Mesh__Endpoint__LocalityLbEndpoints *l = x->cla->endpoints[i];
        uint16_t locality = (uint16_t)locality_of(x, l);
        for (size_t j = 0; j < l->n_lb_endpoints && rc == 0; j++)
            rc = add_endpoint(x, l, l->lb_endpoints[j], locality);
    }
    if (rc == 0 && n && !x->n && !x->error && x->transports[0].error == 0)
        refuse(x, MESH_E_UNSUPPORTED, "none of its endpoints can be used",
               x->b->why[mesh_build_number(x->b, x->cla_resource)]);
    return rc;
}

static int weigh_zones(struct cluster *x) {
    const Mesh__Core__Locality *names[LOCALITIES_MAX];
    for (uint32_t i = 0; i < x->nlocalities; i++)
        names[i] = x->localities[i].priority ? NULL : x->localities[i].name;
    return mesh_build_zones(x->b, &x->lb, x->b->endpoints, x->n, names, x->nlocalities);
}

/* Leaves the endpoints that a route, or this host, is to use. */
static int select_endpoints(struct cluster *x) {
    struct mesh_policy *p = &x->lb.policy;
    int rc = 0;
    if (x->is_subset) {
        rc = mesh_subset_select(x->lb.subsets, x->match, x->b->metadata, x->b->endpoints, x->n, &x->n);
        p->locality_weighted = p->locality_weighted && x->lb.subsets->locality_weight_aware;
    }
    if (rc == 0 && x->lb.subset_size)
        rc = mesh_lb_subset(x->b->endpoints, x->n, x->lb.subset_size, mesh_view_head(x->b->pub->v)->seed,
                            &x->n);
    return rc == 0 ? weigh_zones(x) : rc;
}

/* ---- which endpoints --------------------------------------------------------------------------------------
 */
static void use_assignment(struct cluster *x, const char *name) {
    const struct mesh_resource *r = mesh_build_find(&x->b->assignments, name);
    if (!r)
        return;
    if (r->refused)
        refuse(x, MESH_E_UNSUPPORTED, "its endpoints are refused", r->refused);
    x->cla = (const Mesh__Endpoint__ClusterLoadAssignment *)r->msg;
    x->cla_resource = r;
}

/* Host names in a STATIC or DNS cluster would have to be looked up. */
static bool all_numeric(const Mesh__Endpoint__ClusterLoadAssignment *cla) {
    uint8_t family, addr[16];
    for (size_t i = 0; cla && i < cla->n_endpoints; i++)
        for (size_t j = 0; j < cla->endpoints[i]->n_lb_endpoints; j++) {
            const Mesh__Endpoint__LbEndpoint *lb = cla->endpoints[i]->lb_endpoints[j];
            const Mesh__Core__Address *a = lb->endpoint ? lb->endpoint->address : NULL;
            if (a && a->address_case == MESH__CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS && a->socket_address &&
                !mesh_parse_address(a->socket_address->address, &family, addr))
                return false;
        }
    return true;
}

static void find_endpoints(struct cluster *x) {
    const Mesh__Cluster__Cluster *c = x->c;
    const char *eds =
        c->eds_cluster_config && c->eds_cluster_config->service_name && *c->eds_cluster_config->service_name
            ? c->eds_cluster_config->service_name
            : x->r->name;
    x->cla = c->load_assignment;
    x->cla_resource = x->r;
    if (c->cluster_discovery_type_case == MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE) {
        refuse(x, MESH_E_UNSUPPORTED, "custom cluster type is not supported",
               c->cluster_type ? c->cluster_type->name : NULL);
        return;
    }
    switch (c->type) {
    case MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__EDS:
        x->cla = NULL;
        use_assignment(x, eds);
        break;
    case MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST:
        if (!x->cla)
            use_assignment(x, x->r->name);
        break;
    case MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__STRICT_DNS:
    case MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS:
        if (!all_numeric(x->cla))
            refuse(x, MESH_E_UNSUPPORTED,
                   "endpoints by host name (STRICT_DNS, LOGICAL_DNS) are not supported yet", NULL);
        break;
    case MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__STATIC:
        break;
    default:
        refuse(x, MESH_E_UNSUPPORTED, "discovery type is not known", NULL);
    }
}

/* Settings of checks are judged in any case; whether they are made is another matter, and is told. */
static int check_health(struct cluster *x) {
    struct mesh_probe_spec spec;
    struct mesh_why why;
    int rc = mesh_probe_read(x->c, x->b->pub->v->tls, &spec, &why);
    if (rc == MESH_E_INVALID)
        return refuse(x, rc, why.text, NULL);
    if (rc == MESH_E_UNSUPPORTED)
        return mesh_fault(x->b, x->r, "cluster %s: %s; its health is what connections show", x->r->name,
                          why.text);
    if (rc == 0 && !x->b->pub->health)
        return mesh_fault(
            x->b, x->r,
            "cluster %s: health_checks: nobody makes them for a view from a file; its health is "
            "what connections show",
            x->r->name);
    return 0;
}

static void check_filters(struct cluster *x) {
    for (size_t i = 0; i < x->c->n_filters; i++) {
        const Mesh__Cluster__Filter *f = x->c->filters[i];
        const char *what = mesh_filter_fault(f->name ? f->name : "", f->typed_config, false);
        if (what) {
            struct mesh_why w;
            mesh_why(&w, 0, "filter %s: %s", f->name, what);
            refuse(x, MESH_E_UNSUPPORTED, w.text, NULL);
        }
    }
}

/* ---- putting it together ----------------------------------------------------------------------------------
 */
static uint32_t plain_flags(const struct cluster *x) {
    uint32_t plain = 0;
    for (uint32_t i = 0; i < x->n; i++)
        plain += x->transports[x->b->endpoints[i].transport].plain;
    if (!x->n)
        return x->transports[0].plain ? CLUSTER_PLAIN | CLUSTER_SOME_PLAIN : 0;
    return (plain == x->n ? CLUSTER_PLAIN : 0) | (plain ? CLUSTER_SOME_PLAIN : 0);
}

static uint32_t drain_flags(const Mesh__Cluster__Cluster *c) {
    bool change = c->common_lb_config && c->common_lb_config->close_connections_on_host_set_change;
    return (c->close_connections_on_host_health_failure ? CLUSTER_DRAIN_UNHEALTHY : 0) |
           (change ? CLUSTER_DRAIN_REMOVED : 0);
}

static int put(struct cluster *x, struct mesh_cluster_in *in, struct mesh_blob *blob) {
    struct view_span at = mesh_blob_add(blob, x->transports, x->ntransports * sizeof x->transports[0], 4);
    if (blob->broken || x->b->keys.broken)
        return MESH_E_NOMEM;
    struct view_config *head = (struct view_config *)(void *)blob->p;
    head->transports = at;
    head->connect_timeout_ms = mesh_duration_ms(x->c->connect_timeout, 0);
    if (x->c->cluster_discovery_type_case == MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE &&
        x->c->type == MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST)
        in->flags |= CLUSTER_ORIGINAL_DST;
    in->policy = x->lb.policy;
    in->flags |= plain_flags(x) | drain_flags(x->c);
    in->error = x->error;
    in->why = x->why.text;
    in->config = blob->p;
    in->config_len = blob->len;
    in->endpoints = x->b->endpoints;
    in->n = x->n;
    in->keys = (const char *)x->b->keys.p;
    in->keys_len = x->b->keys.len;
    int rc = x->error ? mesh_fault(x->b, x->r, "%s", x->why.text) : 0;
    return rc ? rc : mesh_pub_cluster_put(x->b->pub, in);
}

static int read_all(struct cluster *x, struct mesh_cluster_in *in, struct mesh_blob *blob) {
    struct view_config head = {.spare = 0};
    struct mesh_why why = {""};
    mesh_blob_add(blob, &head, sizeof head, 8);
    if (x->r->refused)
        refuse(x, MESH_E_UNSUPPORTED, x->r->refused, NULL);
    find_endpoints(x);
    check_filters(x);
    int rc = check_health(x);
    if (rc == 0)
        rc = read_transports(x, blob);
    if (rc < 0)
        return rc;
    if (x->transports[0].error && x->c->n_transport_socket_matches == 0) {
        char text[sizeof why.text];
        mesh_view_text(blob->p, blob->len, &x->transports[0].why, text, sizeof text);
        refuse(x, x->transports[0].error, text, NULL);
    }
    rc = mesh_build_policy(x->c, x->cla, &x->lb, &why);
    if (rc == MESH_E_NOMEM)
        return rc;
    if (rc < 0)
        refuse(x, rc, why.text, NULL);
    rc = x->error ? 0 : read_endpoints(x);
    return rc < 0 || x->error ? rc : select_endpoints(x);
}

/* `subset`: how the subset is called that is to be put, with what is asked of it. */
static int build_cluster(struct build *b, const struct mesh_resource *r, const char *subset,
                         const struct build_match *match) {
    struct mesh_blob blob = {0};
    struct mesh_cluster_in in = {.name = subset ? subset : r->name, .of = subset ? r->name : NULL};
    struct cluster *x = calloc(1, sizeof *x);
    if (!x)
        return MESH_E_NOMEM;
    x->b = b;
    x->r = r;
    x->c = (const Mesh__Cluster__Cluster *)r->msg;
    x->is_subset = subset != NULL;
    x->match = match;
    b->keys.len = 0;
    int rc = read_all(x, &in, &blob);
    if (rc == 0)
        rc = put(x, &in, &blob);
    mesh_build_policy_done(&x->lb);
    free(x->seen);
    free(x);
    free(blob.p);
    return rc;
}

int mesh_build_clusters(struct build *b) {
    int rc = 0;
    for (size_t i = 0; i < b->resources->n && rc == 0; i++)
        if (b->resources->items[i].type == &mesh__cluster__cluster__descriptor)
            rc = build_cluster(b, &b->resources->items[i], NULL, NULL);
    return rc;
}

/* Does it select by metadata? A cluster whose settings are refused does not: what leads to it is refused. */
static bool selects(const Mesh__Cluster__Cluster *c) {
    struct build_lb lb;
    struct mesh_why why;
    bool yes = mesh_build_policy(c, NULL, &lb, &why) == 0 && lb.subsets;
    mesh_build_policy_done(&lb);
    return yes;
}

int mesh_build_cluster_id(struct build *b, const char *name, const struct build_match *match,
                          uint32_t *ret_id) {
    char text[1024];
    const struct mesh_resource *r = mesh_build_find(&b->clusters, name);
    if (!r || r->refused || !selects((const Mesh__Cluster__Cluster *)r->msg))
        return mesh_pub_cluster_id(b->pub, name, ret_id);
    mesh_subset_name(name, match, text, sizeof text);
    int rc = mesh_pub_cluster_id(b->pub, text, ret_id);
    if (rc < 0 || mesh_wpages_get(&b->pub->clusters, *ret_id))
        return rc; /* another route asks the same */
    return build_cluster(b, r, text, match);
}
