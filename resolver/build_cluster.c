/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include "lb/lb.h"
#include "resolver/build_cluster.h"
#include "resolver/health.h"

enum { AGGREGATE_DEPTH = 16 /* gRFC A37 */ };

/* ---- transports -------------------------------------------------------------------------------------------
 */
static bool match_metadata(const Mesh__Pb__Struct *match, const Mesh__Pb__Struct *metadata) {
    for (size_t i = 0; match && i < match->n_fields; i++)
        if (!mesh_metadata_same(match->fields[i]->value,
                                mesh_metadata_field(metadata, match->fields[i]->key)))
            return false;
    return true;
}

uint8_t mesh_cluster_transport(const struct cluster *x, const Mesh__Core__Metadata *m) {
    const Mesh__Pb__Struct *own = mesh_metadata_of(m, "envoy.transport_socket_match");
    for (uint32_t i = 0; i < x->c->n_transport_socket_matches; i++)
        if (match_metadata(x->c->transport_socket_matches[i]->match, own))
            return (uint8_t)(x->first_transport + i + 1);
    return (uint8_t)x->first_transport;
}

static int read_transports(struct cluster *x, struct mesh_blob *blob) {
    if (x->ntransports + x->c->n_transport_socket_matches >= TRANSPORTS_MAX)
        return mesh_cluster_refuse(x, MESH_E_LIMIT, "too many transport_socket_matches", NULL);
    x->first_transport = x->ntransports;
    int rc = mesh_build_transport(x->b, x->c->transport_socket, blob, &x->transports[x->ntransports++]);
    for (size_t i = 0; i < x->c->n_transport_socket_matches && rc == 0; i++)
        rc = mesh_build_transport(x->b, x->c->transport_socket_matches[i]->transport_socket, blob,
                                  &x->transports[x->ntransports++]);
    return rc;
}

/* ---- which endpoints --------------------------------------------------------------------------------------
 */
static void use_assignment(struct cluster *x, const char *name) {
    const struct mesh_build_in *in = x->b->in;
    const struct mesh_resource *r = mesh_build_find(&x->b->assignments, name);
    if (in->assignment && mesh_build_rank(x->b, x->r) != RANK_FILE &&
        in->assignment(in->arg, x->r->name, &x->raw, &x->raw_len)) {
        x->eds = name;
        mesh_build_keep(x->b, name, x->raw, x->raw_len);
        return;
    }
    if (!r)
        return;
    if (r->refused)
        mesh_cluster_refuse(x, MESH_E_UNSUPPORTED, "its endpoints are refused", r->refused);
    x->cla = (const Mesh__Endpoint__ClusterLoadAssignment *)r->msg;
    x->cla_resource = r;
}

static void find_endpoints(struct cluster *x) {
    const Mesh__Cluster__Cluster *c = x->c;
    const char *eds =
        c->eds_cluster_config && c->eds_cluster_config->service_name && *c->eds_cluster_config->service_name
            ? c->eds_cluster_config->service_name
            : x->r->name;
    x->raw = NULL;
    x->cla = c->load_assignment;
    x->cla_resource = x->r;
    if (c->cluster_discovery_type_case == MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE) {
        mesh_cluster_refuse(x, MESH_E_UNSUPPORTED, "custom cluster type is not supported",
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
    case MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__STATIC:
        break;
    default:
        mesh_cluster_refuse(x, MESH_E_UNSUPPORTED, "discovery type is not known", NULL);
    }
}

static void check_filters(struct cluster *x) {
    for (size_t i = 0; i < x->c->n_filters; i++) {
        const Mesh__Cluster__Filter *f = x->c->filters[i];
        const char *what = mesh_filter_fault(f->name ? f->name : "", f->typed_config, false);
        if (what) {
            struct mesh_why w;
            mesh_why(&w, 0, "filter %s: %s", f->name, what);
            mesh_cluster_refuse(x, MESH_E_UNSUPPORTED, w.text, NULL);
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

/* Leaves the endpoints that a route, or this host, is to use. */
static int select_endpoints(struct cluster *x) {
    struct mesh_policy *p = &x->lb.policy;
    uint64_t seed = mesh_view_head(x->b->pub->v)->seed;
    uint32_t n = x->n - x->first;
    struct mesh_endpoint *e = x->b->endpoints + x->first;
    int rc = 0;
    if (x->is_subset && x->lb.subsets) {
        rc = mesh_subset_select(x->lb.subsets, x->match, x->b->metadata + x->first, e, n, &n);
        p->locality_weighted = p->locality_weighted && x->lb.subsets->locality_weight_aware;
    }
    if (rc == 0 && x->lb.subset_size)
        rc = mesh_lb_subset(e, n, x->lb.subset_size, seed, &n);
    x->n = x->first + n;
    return rc == 0 ? mesh_build_zones(x, e, n) : rc;
}

/* Checks are the standing publisher's to make (resolver/publisher.c). */
static int check_health(struct cluster *x) {
    struct mesh_probe_spec spec;
    struct mesh_why why;
    int rc = mesh_probe_read(x->c, x->b->pub->v->tls, &spec, &why);
    if (rc == MESH_E_INVALID)
        return mesh_cluster_refuse(x, rc, why.text, NULL);
    if (rc == MESH_E_UNSUPPORTED)
        return mesh_fault(x->b, x->r, "cluster %s: %s; its health is what connections show", x->r->name,
                          why.text);
    if (rc == 0)
        x->b->pub->root.flags |= ROOT_STANDS;
    return 0;
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
    in->flags |= plain_flags(x) | drain_flags(x->c);
    if (x->is_pending && !x->n)
        in->flags |= CLUSTER_PENDING;
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

/* The cluster at hand, or the member of the aggregate at hand. */
static int read_one(struct cluster *x, struct mesh_policy *ret_policy, struct mesh_blob *blob) {
    struct mesh_why why = {""};
    x->first = x->n;
    if (x->r->refused)
        mesh_cluster_refuse(x, MESH_E_UNSUPPORTED, x->r->refused, NULL);
    find_endpoints(x);
    check_filters(x);
    int rc = check_health(x);
    if (rc == 0)
        rc = read_transports(x, blob);
    if (rc < 0)
        return rc;
    const struct view_tls *socket = &x->transports[x->first_transport];
    if (!x->error && socket->error && x->c->n_transport_socket_matches == 0) {
        char text[sizeof why.text];
        mesh_view_text(blob->p, blob->len, &socket->why, text, sizeof text);
        mesh_cluster_refuse(x, socket->error, text, NULL);
    }
    mesh_build_policy_done(&x->lb);
    rc = mesh_build_policy(x->c, x->cla, &x->lb, &why);
    if (rc == 0 && x->raw)
        rc = mesh_cluster_scan_policy(x, &x->lb.policy);
    if (rc == MESH_E_NOMEM)
        return rc;
    if (rc < 0)
        mesh_cluster_refuse(x, rc, why.text, NULL);
    rc = x->error ? 0 : mesh_cluster_endpoints(x);
    if (rc == 0 && !x->error)
        rc = select_endpoints(x);
    *ret_policy = x->lb.policy;
    return rc;
}

/* ---- aggregates -------------------------------------------------------------------------------------------
 */
static Mesh__Cluster__AggregateConfig *aggregate_of(const Mesh__Cluster__Cluster *c, int *ret_rc) {
    bool custom =
        c->cluster_discovery_type_case == MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE &&
        c->cluster_type;
    *ret_rc = 0;
    return custom ? mesh_any_open(c->cluster_type->typed_config, &mesh__cluster__aggregate_config__descriptor,
                                  ret_rc)
                  : NULL;
}

static uint32_t next_priority(const struct cluster *x) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < x->n; i++)
        if (x->b->endpoints[i].priority >= next)
            next = x->b->endpoints[i].priority + 1u;
    return next < PRIORITY_MAX ? next : PRIORITY_MAX;
}

/* The members' priorities one after the other, each with its own transport sockets; the first good one's
 * policy (envoy.extensions.clusters.aggregate.v3). A member that cannot be used is left out, and the next one
 * serves. */
static int read_members(struct cluster *x, const Mesh__Cluster__AggregateConfig *a,
                        struct mesh_policy *ret_policy, struct mesh_blob *blob, unsigned depth,
                        uint32_t *io_good) {
    const struct mesh_resource *whole = x->r;
    const Mesh__Cluster__Cluster *c = x->c;
    int rc = 0;
    for (size_t i = 0; i < a->n_clusters && rc == 0; i++) {
        struct mesh_policy policy;
        const struct mesh_resource *r = mesh_build_find(&x->b->clusters, a->clusters[i]);
        if (!r || depth == AGGREGATE_DEPTH)
            continue;
        x->r = r;
        x->c = (const Mesh__Cluster__Cluster *)r->msg;
        x->first_priority = next_priority(x);
        Mesh__Cluster__AggregateConfig *inner = aggregate_of(x->c, &rc);
        if (inner) {
            rc = read_members(x, inner, ret_policy, blob, depth + 1, io_good);
            protobuf_c_message_free_unpacked(&inner->base, NULL);
        } else {
            uint32_t before = x->n, transports = x->ntransports;
            rc = rc == MESH_E_NOMEM ? rc : read_one(x, &policy, blob);
            if (rc == 0 && x->error) {
                x->n = before;
                x->ntransports = transports;
            } else if (rc == 0 && (*io_good)++ == 0) {
                *ret_policy = policy;
            }
        }
        if (x->error && rc == 0)
            rc = mesh_fault(x->b, whole, "member %s is left out: %s", r->name, x->why.text);
        x->error = 0;
        x->why.text[0] = 0;
    }
    x->r = whole;
    x->c = c;
    return rc;
}

static int read_all(struct cluster *x, struct mesh_cluster_in *in, struct mesh_blob *blob) {
    struct view_config head = {.spare = 0};
    uint32_t good = 0;
    int rc;
    mesh_blob_add(blob, &head, sizeof head, 8);
    Mesh__Cluster__AggregateConfig *a = x->r->refused ? NULL : aggregate_of(x->c, &rc);
    if (!a)
        return read_one(x, &in->policy, blob);
    rc = read_members(x, a, &in->policy, blob, 0, &good);
    protobuf_c_message_free_unpacked(&a->base, NULL);
    if (rc == 0 && !good)
        mesh_cluster_refuse(x, MESH_E_UNSUPPORTED, "an aggregate without a member that can be used", NULL);
    return rc;
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
    for (uint32_t i = 0; i < x->nkept; i++)
        protobuf_c_message_free_unpacked(x->kept[i], NULL);
    free(x->kept);
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

bool mesh_cluster_selects(const Mesh__Cluster__Cluster *c) {
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
    if (!r || r->refused || !mesh_cluster_selects((const Mesh__Cluster__Cluster *)r->msg))
        return mesh_pub_cluster_id(b->pub, name, ret_id);
    mesh_subset_name(name, match, text, sizeof text);
    int rc = mesh_pub_cluster_id(b->pub, text, ret_id);
    if (rc < 0 || mesh_wpages_get(&b->pub->clusters, *ret_id))
        return rc; /* another route asks the same */
    return build_cluster(b, r, text, match);
}
