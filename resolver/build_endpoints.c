/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdlib.h>
#include "proto/scan.h"
#include <stdio.h>
#include "resolver/build_cluster.h"
#include "resolver/health.h"

enum { ADDRESS_MAX = 256, MILLION = 1000000 };

struct text { /* not NUL-terminated */
    const char *p;
    size_t n;
};
struct endpoint_in { /* as either form says it */
    struct text address, key;
    uint32_t port;
    int health;
    uint32_t weight, priority, locality_weight;
    uint16_t locality;
    uint8_t transport;
    bool no_weight; /* load_balancing_weight says 0 */
    const Mesh__Core__Metadata *metadata;
    bool is_ip; /* family and addr are set */
    uint8_t family, addr[16];
};

int mesh_cluster_refuse(struct cluster *x, int err, const char *what, const char *subject) {
    if (!x->error)
        x->error = mesh_why(&x->why, err, "cluster %s: %s%s%s", x->r->name, what, subject ? ": " : "",
                            subject ? subject : "");
    return 0;
}

/* ---- one endpoint -----------------------------------------------------------------------------------------
 */
static uint32_t locality_of(struct cluster *x, uint32_t priority, uint64_t name) {
    priority += x->first_priority;
    for (uint32_t i = 0; i < x->nlocalities; i++)
        if (x->localities[i].priority == priority && x->localities[i].name == name)
            return i;
    if (x->nlocalities < LOCALITIES_MAX)
        x->localities[x->nlocalities++] = (struct locality){priority, name};
    return x->nlocalities - 1;
}

static uint64_t hash_locality(struct text region, struct text zone, struct text sub_zone) {
    uint64_t h = mesh_hash_bytes(region.p, region.n, 1);
    h = mesh_hash_bytes(zone.p, zone.n, h);
    return mesh_hash_bytes(sub_zone.p, sub_zone.n, h);
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

static uint32_t put_key(struct cluster *x, struct text key) {
    if (!key.n || key.n > UINT16_MAX)
        return 0;
    uint16_t len = (uint16_t)key.n;
    struct view_span at = mesh_blob_add(&x->b->keys, &len, sizeof len, 2);
    mesh_blob_add(&x->b->keys, key.p, key.n, 1);
    return at.off + 1;
}

/* Host names may give more endpoints than the cluster lists: then what was seen goes to a wider table. */
static int widen_seen(struct cluster *x, size_t n) {
    uint32_t slots = 16, old_slots = x->seen ? x->seen_mask + 1 : 0;
    uint64_t *old = x->seen;
    while (slots < n * 2 && slots < 1u << 30)
        slots *= 2;
    if (slots <= old_slots)
        return 0;
    x->seen = calloc(slots, sizeof *x->seen);
    if (!x->seen) {
        x->seen = old;
        return MESH_E_NOMEM;
    }
    x->seen_mask = slots - 1;
    for (uint32_t i = 0; i < old_slots; i++) {
        uint32_t at = (uint32_t)(old[i] >> 8) & x->seen_mask;
        while (old[i] && x->seen[at])
            at = (at + 1) & x->seen_mask;
        if (old[i])
            x->seen[at] = old[i];
    }
    free(old);
    return 0;
}

static int make_room(struct cluster *x, size_t n) {
    if (widen_seen(x, n) < 0)
        return MESH_E_NOMEM;
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
    return 0;
}

static int append(struct cluster *x, const struct mesh_endpoint *e, const Mesh__Core__Metadata *metadata) {
    if (is_double(x, e))
        return 0;
    if (x->n * 2 >= x->seen_mask || x->n == x->b->endpoints_room) {
        int rc = make_room(x, (size_t)x->n * 2 + 16);
        if (rc < 0)
            return rc;
    }
    struct mesh_endpoint *to = &x->b->endpoints[x->n];
    *to = *e;
    if (to->health != MESH_HEALTH_DRAINING &&
        mesh_health_of(x->b->pub->health, x->r->name, to) == MESH_VERDICT_BAD)
        to->health = MESH_HEALTH_UNHEALTHY;
    x->b->metadata[x->n++] = metadata;
    return mesh_build_reserve(x->b, e->family, e->addr, 0);
}

/* An endpoint by host name: one for each address (STRICT_DNS), or one (LOGICAL_DNS). `e` is what they have in
 * common. */
static int append_addresses(struct cluster *x, const struct mesh_endpoint *e, const char *host,
                            const Mesh__Core__Metadata *metadata) {
    bool pending, one = x->c->type == MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS;
    const struct mesh_dns_answer *a = mesh_hosts_get(x->b->in->hosts, host, &pending);
    unsigned families = mesh_hosts_families(x->c);
    int rc = 0;
    x->is_pending |= pending;
    x->b->pub->root.flags |= ROOT_STANDS;
    for (uint32_t i = 0, taken = 0; a && i < a->n && rc == 0 && !(one && taken); i++) {
        struct mesh_endpoint copy = *e;
        copy.family = a->addrs[i].family;
        memcpy(copy.addr, a->addrs[i].addr, 16);
        if (!(families & (copy.family == 4 ? 1 : 2)))
            continue;
        rc = append(x, &copy, metadata);
        taken++;
    }
    return rc;
}

static int leave_out(struct cluster *x, struct text address) {
    return mesh_fault(x->b, x->cla_resource,
                      "%s: an endpoint without an IP address and TCP port is left out%s%.*s", x->r->name,
                      address.n ? ": " : "", (int)(address.n < ADDRESS_MAX ? address.n : ADDRESS_MAX),
                      address.n ? address.p : "");
}

static int add(struct cluster *x, const struct endpoint_in *in) {
    char host[ADDRESS_MAX];
    bool by_name = !in->is_ip && in->address.n && in->address.n < sizeof host && mesh_hosts_by_dns(x->c);
    if (in->port > UINT16_MAX || (!in->is_ip && !by_name))
        return leave_out(x, in->address);
    if (in->no_weight)
        return mesh_cluster_refuse(x, MESH_E_INVALID, "load_assignment.endpoints",
                                   "load_balancing_weight of an endpoint must be at least 1");
    if (x->transports[in->transport].error)
        return mesh_fault(x->b, x->r, "endpoints are left out whose transport socket is not supported");
    struct mesh_endpoint e = {
        .port = (uint16_t)in->port,
        .family = in->family,
        .health = in->health >= 0 && in->health <= MESH_HEALTH_DEGRADED ? (uint8_t)in->health
                                                                        : MESH_HEALTH_UNHEALTHY,
        .priority =
            (uint8_t)(in->priority > PRIORITY_MAX - x->first_priority ? PRIORITY_MAX
                                                                      : x->first_priority + in->priority),
        .transport = in->transport,
        .locality = in->locality,
        .weight = in->weight ? in->weight : 1,
        .locality_weight = in->locality_weight,
        .hash_key = put_key(x, in->key),
    };
    if (!by_name) {
        memcpy(e.addr, in->addr, 16);
        return append(x, &e, in->metadata);
    }
    memcpy(host, in->address.p, in->address.n);
    host[in->address.n] = 0;
    return append_addresses(x, &e, host, in->metadata);
}

/* ---- from messages ----------------------------------------------------------------------------------------
 */
static struct text text_of(const char *p) {
    return (struct text){p ? p : "", p ? strlen(p) : 0};
}

static struct text key_of(const struct cluster *x, const Mesh__Core__Metadata *m, struct text hostname) {
    const Mesh__Pb__Value *v = mesh_metadata_field(mesh_metadata_of(m, "envoy.lb"), "hash_key");
    if (v && v->kind_case == MESH__PB__VALUE__KIND_STRING_VALUE)
        return text_of(v->string_value);
    return x->lb.hash_by_host ? hostname : text_of(NULL);
}

static int add_message(struct cluster *x, const Mesh__Endpoint__LocalityLbEndpoints *l,
                       const Mesh__Endpoint__LbEndpoint *lb, uint16_t locality) {
    const Mesh__Core__Address *a =
        lb->host_identifier_case == MESH__ENDPOINT__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT && lb->endpoint
            ? lb->endpoint->address
            : NULL;
    const Mesh__Core__SocketAddress *s =
        a && a->address_case == MESH__CORE__ADDRESS__ADDRESS_SOCKET_ADDRESS ? a->socket_address : NULL;
    if (!s || s->protocol != 0)
        return leave_out(x, text_of(NULL));
    struct endpoint_in in = {
        .address = text_of(s->address),
        .port = s->port_value,
        .health = lb->health_status,
        .weight = lb->load_balancing_weight ? lb->load_balancing_weight->value : 0,
        .no_weight = lb->load_balancing_weight && !lb->load_balancing_weight->value,
        .metadata = lb->metadata,
        .priority = l->priority,
        .locality_weight = l->load_balancing_weight ? l->load_balancing_weight->value : 0,
        .locality = locality,
        .transport = mesh_cluster_transport(x, lb->metadata),
        .key = key_of(x, lb->metadata, text_of(lb->endpoint->hostname)),
    };
    in.is_ip = mesh_parse_address(s->address, &in.family, in.addr);
    return add(x, &in);
}

static size_t count_endpoints(const Mesh__Endpoint__ClusterLoadAssignment *cla) {
    size_t n = 0;
    for (size_t i = 0; i < cla->n_endpoints; i++)
        n += cla->endpoints[i]->n_lb_endpoints;
    return n;
}

/* What Envoy refuses of an assignment's numbers. */
static void check_numbers(struct cluster *x, size_t i) {
    const Mesh__Endpoint__LocalityLbEndpoints *l = x->cla->endpoints[i];
    uint64_t sum = 0;
    char path[128];
    snprintf(path, sizeof path, "load_assignment.endpoints[%zu]", i);
    if (l->priority > PRIORITY_MAX + 1)
        mesh_cluster_refuse(x, MESH_E_INVALID, path, "priority must be 0 to 128");
    for (size_t j = 0; j < l->n_lb_endpoints; j++) {
        const Mesh__Pb__UInt32Value *w = l->lb_endpoints[j]->load_balancing_weight;
        sum += w ? w->value : 1;
        if (w && !w->value)
            mesh_cluster_refuse(x, MESH_E_INVALID, path,
                                "load_balancing_weight of an endpoint must be at least 1");
    }
    if (sum > UINT32_MAX)
        mesh_cluster_refuse(x, MESH_E_INVALID, path, "the endpoints' weights sum up to more than 2^32-1");
}

uint64_t mesh_locality_name(const Mesh__Core__Locality *l) {
    return hash_locality(text_of(l ? l->region : NULL), text_of(l ? l->zone : NULL),
                         text_of(l ? l->sub_zone : NULL));
}

static int read_messages(struct cluster *x) {
    int rc = 0;
    for (size_t i = 0; i < x->cla->n_endpoints; i++)
        check_numbers(x, i);
    if (x->error)
        return 0;
    for (size_t i = 0; i < x->cla->n_endpoints && rc == 0; i++) {
        const Mesh__Endpoint__LocalityLbEndpoints *l = x->cla->endpoints[i];
        uint16_t locality = (uint16_t)locality_of(x, l->priority, mesh_locality_name(l->locality));
        for (size_t j = 0; j < l->n_lb_endpoints && rc == 0; j++)
            rc = add_message(x, l, l->lb_endpoints[j], locality);
    }
    return rc;
}

/* ---- from the wire ----------------------------------------------------------------------------------------
 */
struct walk {
    struct cluster *x;
    uint32_t count;
    struct mesh_scan_locality locality; /* of the endpoints that come */
    uint16_t index;
    struct mesh_bytes metadata; /* of the last endpoint; most of a cluster say the same */
    Mesh__Core__Metadata *opened;
    uint64_t pass; /* of the drops */
    struct mesh_policy *policy;
};

static struct text text_in(struct mesh_bytes b) {
    return (struct text){(const char *)b.p, b.n};
}

static int count_one(void *arg, const struct mesh_scan_endpoint *e) {
    ((struct walk *)arg)->count++;
    return 0;
}

static int walk_locality(void *arg, const struct mesh_scan_locality *l) {
    struct walk *w = arg;
    w->locality = *l;
    w->index = (uint16_t)locality_of(
        w->x, l->priority, hash_locality(text_in(l->region), text_in(l->zone), text_in(l->sub_zone)));
    return 0;
}

/* The metadata at hand is done with: a subset is selected by it after all have come. */
static int let_go(struct walk *w) {
    struct cluster *x = w->x;
    ProtobufCMessage *m = w->opened ? &w->opened->base : NULL;
    w->opened = NULL;
    if (!m || !x->is_subset) {
        if (m)
            protobuf_c_message_free_unpacked(m, NULL);
        return 0;
    }
    ProtobufCMessage **p =
        x->nkept & (x->nkept - 1) ? x->kept : realloc(x->kept, (x->nkept ? x->nkept * 2 : 1) * sizeof *p);
    if (!p) {
        protobuf_c_message_free_unpacked(m, NULL);
        return MESH_E_NOMEM;
    }
    x->kept = p;
    x->kept[x->nkept++] = m;
    return 0;
}

static int open_metadata(struct walk *w, struct mesh_bytes b) {
    ProtobufCMessage *m = NULL;
    if (b.n == w->metadata.n && (!b.n || memcmp(b.p, w->metadata.p, b.n) == 0))
        return 0;
    int rc = let_go(w);
    if (rc < 0)
        return rc;
    w->metadata = b;
    rc = b.n ? mesh_proto_unpack(&mesh__core__metadata__descriptor, b.p, b.n, &m) : 0;
    w->opened = (Mesh__Core__Metadata *)m;
    return rc == MESH_E_NOMEM ? rc : 0;
}

/* d.d.d.d of plain decimal numbers; anything else is left to inet_pton. */
static bool read_ipv4(struct mesh_bytes b, uint8_t ret_addr[16]) {
    const uint8_t *p = b.p, *end = b.p + b.n;
    for (int i = 0; i < 4; i++) {
        unsigned value = 0, digits = 0;
        for (; p < end && *p >= '0' && *p <= '9' && digits < 3; p++, digits++)
            value = value * 10 + (*p - '0');
        if (!digits || value > 255 || (digits > 1 && p[-(int)digits] == '0') ||
            (i < 3 && (p == end || *p++ != '.')))
            return false;
        ret_addr[i] = (uint8_t)value;
    }
    return p == end;
}

static bool read_address(struct mesh_bytes b, uint8_t *ret_family, uint8_t ret_addr[16]) {
    char text[ADDRESS_MAX];
    *ret_family = 4;
    if (read_ipv4(b, ret_addr))
        return true;
    if (b.n >= sizeof text)
        return false;
    memcpy(text, b.p, b.n);
    text[b.n] = 0;
    return mesh_parse_address(text, ret_family, ret_addr);
}

static int walk_endpoint(void *arg, const struct mesh_scan_endpoint *e) {
    struct walk *w = arg;
    struct cluster *x = w->x;
    int rc = open_metadata(w, e->metadata);
    if (rc < 0)
        return rc;
    if (e->kind != 0)
        return leave_out(x, text_of(NULL));
    struct endpoint_in in = {
        .address = text_in(e->address),
        .port = e->port,
        .health = e->health,
        .weight = e->has_weight ? e->weight : 0,
        .no_weight = e->has_weight && !e->weight,
        .metadata = x->is_subset ? w->opened : NULL,
        .priority = w->locality.priority,
        .locality_weight = w->locality.has_weight ? w->locality.weight : 0,
        .locality = w->index,
        .transport = mesh_cluster_transport(x, w->opened),
        .key = key_of(x, w->opened, text_in(e->hostname)),
    };
    in.is_ip = read_address(e->address, &in.family, in.addr);
    return add(x, &in);
}

static int read_wire(struct cluster *x, uint32_t *ret_n) {
    static const struct mesh_scan_assignment_sink counting = {.endpoint = count_one},
                                                  reading = {.locality = walk_locality,
                                                             .endpoint = walk_endpoint};
    struct walk w = {.x = x};
    int rc = mesh_scan_assignment(x->raw, x->raw_len, &counting, &w);
    *ret_n = w.count;
    if (rc == 0)
        rc = make_room(x, (size_t)x->n + w.count + 1);
    if (rc == 0)
        rc = mesh_scan_assignment(x->raw, x->raw_len, &reading, &w);
    int kept = let_go(&w);
    return rc < 0 ? rc : kept;
}

static int walk_policy(void *arg, bool has_overprovisioning, uint32_t factor, uint64_t stale_after,
                       bool weighted_priority_health) {
    struct walk *w = arg;
    if (has_overprovisioning)
        w->policy->overprovisioning = factor > UINT16_MAX ? UINT16_MAX : (uint16_t)factor;
    return 0;
}

/* Categories apply one after the other: 60 % and 50 % of the rest drop 80 %. */
static int walk_drop(void *arg, const struct mesh_scan_drop *d) {
    struct walk *w = arg;
    uint64_t drop = d->denominator ? (uint64_t)d->numerator * MILLION / d->denominator : 0;
    w->pass = w->pass * (MILLION - (drop > MILLION ? MILLION : drop)) / MILLION;
    return 0;
}

int mesh_cluster_scan_policy(struct cluster *x, struct mesh_policy *ret) {
    static const struct mesh_scan_assignment_sink sink = {.policy = walk_policy, .drop = walk_drop};
    struct walk w = {.x = x, .pass = MILLION, .policy = ret};
    int rc = mesh_scan_assignment(x->raw, x->raw_len, &sink, &w);
    ret->drop_per_million = MILLION - (uint32_t)w.pass;
    return rc == MESH_E_NOMEM ? rc : 0; /* what does not scan is refused with its endpoints */
}

/* ---- all of them ------------------------------------------------------------------------------------------
 */
int mesh_cluster_endpoints(struct cluster *x) {
    size_t n = x->cla && !x->raw ? count_endpoints(x->cla) : 0;
    uint32_t scanned = 0;
    if (n > (1u << 24))
        return MESH_E_LIMIT;
    int rc = make_room(x, x->n + n + 1);
    if (rc == 0 && x->raw)
        rc = read_wire(x, &scanned);
    else if (rc == 0 && x->cla)
        rc = read_messages(x);
    if (rc == MESH_E_SYNTAX)
        return mesh_cluster_refuse(x, MESH_E_SYNTAX, "its endpoints are not well-formed", x->eds);
    if (rc == 0 && (n || scanned) && !x->error && x->n == x->first &&
        x->transports[x->first_transport].error == 0 && !mesh_hosts_by_dns(x->c))
        mesh_cluster_refuse(x, MESH_E_UNSUPPORTED, "none of its endpoints can be used",
                            x->b->why[mesh_build_number(x->b, x->cla_resource)]);
    return rc;
}
