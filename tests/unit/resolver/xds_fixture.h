/* SPDX-License-Identifier: Apache-2.0
 *
 * An xDS client over channels that a test holds in its hands: servers with a set of resources, which answer when they are
 * told to.
 */
#ifndef MESH_TESTS_RESOLVER_XDS_FIXTURE_H
#define MESH_TESTS_RESOLVER_XDS_FIXTURE_H

#include "resolver/xds.h"
#include "tests/unit/resolver/xds_wire.h"

enum { PEERS = 3, SET_MAX = 512, ASKED_MAX = 512 };

struct thing { /* a resource of a server's set */
    enum mesh_ads_type type;
    char *name;
    uint8_t *value;
    size_t n;
};
struct asked { /* what a server was last asked for, of one type */
    bool any, whole;
    char *names[ASKED_MAX];
    size_t n;
    char nonce[16], version[16], error[512];
};
struct peer { /* serverN:1 is peers[N] */
    struct mesh_channel *ch; /* this very struct; NULL: no channel is open */
    struct mesh_channel_config cfg;
    bool is_up;
    struct thing set[SET_MAX];
    size_t nset;
    struct asked asked[MESH_ADS_TYPES];
    int version, nonce, restarts, sends;
    char dropped[64][16]; /* clusters that were in the set */
    size_t ndropped;
};

static struct peer peers[PEERS];
static struct mesh_xds_server servers[PEERS];
static struct mesh_bootstrap bootstrap;
static struct mesh_xds *xds;
static uint64_t now = 1000 * MESH_SEC;
static void (*entered)(bool inside); /* the client's code begins or ends */
#define INSIDE(call)                                                                                                   \
    do {                                                                                                               \
        if (entered)                                                                                                   \
            entered(true);                                                                                             \
        call;                                                                                                          \
        if (entered)                                                                                                   \
            entered(false);                                                                                            \
    } while (0)

/* ---- the transport ----------------------------------------------------------------------------------------
 */
static int peer_open(const struct mesh_channel_config *cfg, struct mesh_channel **ret) {
    struct peer *p = &peers[cfg->server->uri[6] - '0'];
    cr_assert_null(p->ch, "a second channel to one server");
    p->cfg = *cfg;
    *ret = p->ch = (struct mesh_channel *)(void *)p;
    return 0;
}
static void peer_close(struct mesh_channel *ch) {
    struct peer *p = (struct peer *)(void *)ch;
    p->ch = NULL;
    p->is_up = false;
}
static void peer_path(struct mesh_channel *ch, const char *path) {
    ((struct peer *)(void *)ch)->cfg.path = path;
}
static void forget_asked(struct asked *a) {
    for (size_t i = 0; i < a->n; i++)
        free(a->names[i]);
    a->n = 0;
}
static bool is_delta(const struct peer *p) {
    return strcmp(p->cfg.path, MESH_ADS_PATH_DELTA) == 0;
}
static void ask(struct asked *a, const char *name) {
    if (a->n < ASKED_MAX)
        a->names[a->n++] = strdup(name);
}
static void unask(struct asked *a, const char *name) {
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->names[i], name) == 0) {
            free(a->names[i]);
            a->names[i] = a->names[--a->n];
            return;
        }
}
static int peer_take_delta(struct peer *p, const uint8_t *bytes, size_t n) {
    ProtobufCMessage *m = NULL;
    if (mesh_proto_unpack(&mesh__discovery__delta_discovery_request__descriptor, bytes, n, &m))
        return MESH_E_NOMEM;
    const Mesh__Discovery__DeltaDiscoveryRequest *r = (void *)m;
    for (int t = 0; t < MESH_ADS_TYPES; t++) {
        struct asked *a = &p->asked[t];
        if (strcmp(r->type_url, mesh_ads_type_url((enum mesh_ads_type)t)) != 0)
            continue;
        a->any = true;
        snprintf(a->error, sizeof(a->error), "%s", r->error_detail ? r->error_detail->message : "");
        for (size_t i = 0; i < r->n_resource_names_subscribe; i++) {
            if (strcmp(r->resource_names_subscribe[i], "*") == 0)
                a->whole = true;
            else
                ask(a, r->resource_names_subscribe[i]);
        }
        for (size_t i = 0; i < r->n_resource_names_unsubscribe; i++)
            unask(a, r->resource_names_unsubscribe[i]);
    }
    protobuf_c_message_free_unpacked(m, NULL);
    return 0;
}
static int peer_take(struct mesh_channel *ch, const uint8_t *bytes, size_t n) {
    struct peer *p = (struct peer *)(void *)ch;
    ProtobufCMessage *m = NULL;
    if (!p->is_up)
        return MESH_E_AGAIN;
    p->sends++;
    if (is_delta(p))
        return peer_take_delta(p, bytes, n);
    if (mesh_proto_unpack(&mesh__discovery__discovery_request__descriptor, bytes, n, &m))
        return MESH_E_NOMEM;
    const Mesh__Discovery__DiscoveryRequest *r = (void *)m;
    for (int i = 0; i < MESH_ADS_TYPES; i++) {
        struct asked *a = &p->asked[i];
        if (strcmp(r->type_url, mesh_ads_type_url((enum mesh_ads_type)i)) != 0)
            continue;
        forget_asked(a);
        a->any = true;
        a->whole = !r->n_resource_names;
        for (size_t k = 0; k < r->n_resource_names && k < ASKED_MAX; k++)
            ask(a, r->resource_names[k]);
        snprintf(a->nonce, sizeof(a->nonce), "%s", r->response_nonce);
        snprintf(a->version, sizeof(a->version), "%s", r->version_info);
        snprintf(a->error, sizeof(a->error), "%s", r->error_detail ? r->error_detail->message : "");
    }
    protobuf_c_message_free_unpacked(m, NULL);
    return 0;
}
static int peer_send(struct mesh_channel *ch, const uint8_t *bytes, size_t n) {
    if (entered)
        entered(false);
    int rc = peer_take(ch, bytes, n);
    if (entered)
        entered(true);
    return rc;
}
static void peer_restart(struct mesh_channel *ch, const char *why) {
    ((struct peer *)(void *)ch)->restarts++;
}
static uint32_t peer_fill(struct mesh_channel *ch, struct pollfd *ret, uint32_t max, uint64_t *io_deadline) {
    return 0;
}
static void peer_drive(struct mesh_channel *ch, uint64_t at) {
}
static void peer_describe(const struct mesh_channel *ch, struct mesh_channel_info *ret) {
    ret->state = ((const struct peer *)(const void *)ch)->is_up ? MESH_CHANNEL_UP : MESH_CHANNEL_BACKOFF;
}
static const struct mesh_xds_transport transport = {peer_open,    peer_close, peer_path,  peer_send,
                                                    peer_restart, peer_fill,  peer_drive, peer_describe};

/* ---- the client -------------------------------------------------------------------------------------------
 */
static inline void drive(void) {
    uint64_t deadline = UINT64_MAX;
    INSIDE(mesh_xds_drive(xds, now));
    INSIDE(mesh_xds_fill(xds, NULL, 0, &deadline));
}
static inline void passes(uint64_t time) {
    now += time;
    drive();
}
static inline void up(struct peer *p) {
    cr_assert(p->ch);
    p->is_up = true;
    for (int i = 0; i < MESH_ADS_TYPES; i++) {
        forget_asked(&p->asked[i]);
        p->asked[i].any = p->asked[i].whole = false;
    }
    INSIDE(p->cfg.events->up(p->cfg.arg));
    drive();
}
static inline void down(struct peer *p, bool answered) {
    p->is_up = false;
    INSIDE(p->cfg.events->down(p->cfg.arg, 14, answered, "gone"));
    drive();
}
static inline void start_with(uint32_t nservers) {
    static char uris[PEERS][16];
    for (int i = 0; i < PEERS; i++) {
        snprintf(uris[i], sizeof(uris[i]), "server%d:1", i);
        servers[i].uri = uris[i];
    }
    bootstrap.servers = servers;
    bootstrap.nservers = nservers;
    if (!bootstrap.client_template)
        bootstrap.client_template = "%s";
    struct mesh_xds_config cfg = {.bootstrap = &bootstrap, .transport = &transport};
    cr_assert_eq(mesh_xds_new(&cfg, &xds), 0);
    drive();
}
static inline void finish(void) {
    mesh_xds_free(xds);
    xds = NULL;
    for (int i = 0; i < PEERS; i++) {
        for (size_t k = 0; k < peers[i].nset; k++) {
            free(peers[i].set[k].name);
            free(peers[i].set[k].value);
        }
        for (int k = 0; k < MESH_ADS_TYPES; k++)
            forget_asked(&peers[i].asked[k]);
    }
}
static inline void want(const char *name, uint16_t port) {
    cr_assert_eq(mesh_xds_want(xds, name, port, now), 0);
    drive();
}

/* ---- a server's set ---------------------------------------------------------------------------------------
 */
static inline struct thing *find(struct peer *p, enum mesh_ads_type type, const char *name) {
    for (size_t i = 0; i < p->nset; i++)
        if (p->set[i].type == type && strcmp(p->set[i].name, name) == 0)
            return &p->set[i];
    return NULL;
}
static inline void drop(struct peer *p, enum mesh_ads_type type, const char *name) {
    struct thing *t = find(p, type, name);
    if (!t)
        return;
    if (type == MESH_ADS_CLUSTER && p->ndropped < 64)
        snprintf(p->dropped[p->ndropped++ % 64], 16, "%s", t->name);
    free(t->name);
    free(t->value);
    *t = p->set[--p->nset];
}
static inline void has_bytes(struct peer *p, enum mesh_ads_type type, const char *name, const void *bytes, size_t n) {
    drop(p, type, name);
    struct thing *t = &p->set[p->nset++];
    *t = (struct thing){type, strdup(name), malloc(n ? n : 1), n};
    memcpy(t->value, bytes, n);
}
static inline void has(struct peer *p, enum mesh_ads_type type, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static inline void has(struct peer *p, enum mesh_ads_type type, const char *name, const char *fmt, ...) {
    char text[8192];
    size_t n;
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    uint8_t *bytes = wire_of(mesh_proto_type(mesh_ads_type_url(type)), text, &n);
    has_bytes(p, type, name, bytes, n);
    free(bytes);
}
static inline bool is_asked(const struct peer *p, enum mesh_ads_type type, const char *name) {
    const struct asked *a = &p->asked[type];
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->names[i], name) == 0)
            return true;
    return a->any && a->whole && (type == MESH_ADS_LISTENER || type == MESH_ADS_CLUSTER || type == MESH_ADS_NAMES);
}

/* A response with what is asked for of a type, as the set has it. `only`: nothing but this name (not for LDS, CDS). */
static inline uint8_t *answer_of(struct peer *p, enum mesh_ads_type type, const char *only, size_t *ret_n) {
    Mesh__Discovery__DiscoveryResponse m = MESH__DISCOVERY__DISCOVERY_RESPONSE__INIT;
    Mesh__Pb__Any any[SET_MAX], *list[SET_MAX];
    char version[16], nonce[16];
    for (size_t i = 0; i < p->nset; i++) {
        if (p->set[i].type != type || !is_asked(p, type, p->set[i].name) || (only && strcmp(only, p->set[i].name) != 0))
            continue;
        Mesh__Pb__Any *a = list[m.n_resources] = &any[m.n_resources];
        mesh__pb__any__init(a);
        a->type_url = (char *)(uintptr_t)mesh_ads_type_url(type);
        a->value = (ProtobufCBinaryData){p->set[i].n, p->set[i].value};
        m.n_resources++;
    }
    snprintf(version, sizeof(version), "%d", ++p->version);
    snprintf(nonce, sizeof(nonce), "%d", ++p->nonce);
    m.version_info = version;
    m.nonce = nonce;
    m.type_url = (char *)(uintptr_t)mesh_ads_type_url(type);
    m.resources = list;
    *ret_n = protobuf_c_message_get_packed_size(&m.base);
    uint8_t *bytes = malloc(*ret_n);
    protobuf_c_message_pack(&m.base, bytes);
    return bytes;
}
/* The same in Delta: what is asked for and not there is said to be removed. */
static inline uint8_t *delta_of(struct peer *p, enum mesh_ads_type type, const char *only, size_t *ret_n) {
    Mesh__Discovery__DeltaDiscoveryResponse m = MESH__DISCOVERY__DELTA_DISCOVERY_RESPONSE__INIT;
    static Mesh__Discovery__Resource wraps[SET_MAX], *list[SET_MAX];
    static Mesh__Pb__Any any[SET_MAX];
    static char *removed[ASKED_MAX + SET_MAX];
    char nonce[16];
    for (size_t i = 0; i < p->nset; i++) {
        const struct thing *t = &p->set[i];
        if (t->type != type || !is_asked(p, type, t->name) || (only && strcmp(only, t->name) != 0))
            continue;
        size_t k = m.n_resources++;
        mesh__pb__any__init(&any[k]);
        any[k].type_url = (char *)(uintptr_t)mesh_ads_type_url(type);
        any[k].value = (ProtobufCBinaryData){t->n, t->value};
        mesh__discovery__resource__init(&wraps[k]);
        wraps[k].name = t->name;
        wraps[k].version = "1";
        wraps[k].resource = &any[k];
        list[k] = &wraps[k];
    }
    const struct asked *a = &p->asked[type];
    for (size_t i = 0; i < a->n && !only; i++)
        if (!find(p, type, a->names[i]))
            removed[m.n_removed_resources++] = a->names[i];
    for (size_t i = 0; i < p->ndropped && a->whole && !only; i++)
        if (type == MESH_ADS_CLUSTER && !find(p, type, p->dropped[i]))
            removed[m.n_removed_resources++] = p->dropped[i];
    snprintf(nonce, sizeof(nonce), "%d", ++p->nonce);
    m.nonce = nonce;
    m.type_url = (char *)(uintptr_t)mesh_ads_type_url(type);
    m.resources = list;
    m.removed_resources = removed;
    *ret_n = protobuf_c_message_get_packed_size(&m.base);
    uint8_t *bytes = malloc(*ret_n ? *ret_n : 1);
    protobuf_c_message_pack(&m.base, bytes);
    return bytes;
}
static inline void push_only(struct peer *p, enum mesh_ads_type type, const char *only) {
    size_t n;
    if (!p->is_up || !p->asked[type].any)
        return;
    uint8_t *bytes = is_delta(p) ? delta_of(p, type, only, &n) : answer_of(p, type, only, &n);
    INSIDE(p->cfg.events->message(p->cfg.arg, bytes, n));
    free(bytes);
    drive();
}
static inline void push(struct peer *p, enum mesh_ads_type type) {
    push_only(p, type, NULL);
}
static inline void push_all(struct peer *p) {
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < MESH_ADS_TYPES; i++)
            push(p, (enum mesh_ads_type)i);
}

/* ---- usual resources --------------------------------------------------------------------------------------
 */
static inline void has_listener(struct peer *p, const char *name, const char *route) {
    has(p, MESH_ADS_LISTENER, name,
        "{name: '%s', api_listener: {api_listener: {'@type': "
        "x/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, rds: {config_source: "
        "{ads: {}}, route_config_name: '%s'}}}}",
        name, route);
}
static inline void has_route(struct peer *p, const char *name, const char *cluster) {
    has(p, MESH_ADS_ROUTE, name,
        "{name: '%s', virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: ''}, route: {cluster: "
        "'%s'}}]}]}",
        name, cluster);
}
static inline void has_cluster(struct peer *p, const char *name, const char *service) {
    has(p, MESH_ADS_CLUSTER, name,
        "{name: '%s', type: EDS, eds_cluster_config: {eds_config: {ads: {}}, service_name: '%s'}}", name, service);
}
static inline void has_aggregate(struct peer *p, const char *name, const char *members) {
    has(p, MESH_ADS_CLUSTER, name,
        "{name: '%s', cluster_type: {name: a, typed_config: {'@type': "
        "x/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [%s]}}}",
        name, members);
}
static inline void has_endpoint(struct peer *p, const char *name, const char *address) {
    has(p, MESH_ADS_ENDPOINT, name,
        "{cluster_name: '%s', endpoints: [{locality: {region: r}, lb_endpoints: [{endpoint: {address: "
        "{socket_address: {address: '%s', port_value: 80}}}}]}]}",
        name, address);
}

/* ---- what the client shows --------------------------------------------------------------------------------
 * "LDS a; RDS b; CDS c!why;" */
static inline const char *shown(void) {
    static char text[65536];
    size_t len = 0;
    const struct mesh_resources *r;
    INSIDE(r = mesh_xds_resources(xds));
    text[0] = '\0';
    for (size_t i = 0; i < r->n && len < sizeof(text) - 512; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %s%s%s", i ? "; " : "", r->items[i].path,
                                r->items[i].name, r->items[i].refused ? "!" : "",
                                r->items[i].refused ? r->items[i].refused : "");
    return text;
}
static inline void shows(const char *what) {
    cr_expect_str_eq(shown(), what, "%s\ninstead of\n%s", shown(), what);
}
/* The first address of a cluster's endpoints; "" when it has none. */
static inline int first_address(void *arg, const struct mesh_scan_endpoint *e) {
    snprintf(arg, 64, "%.*s", (int)e->address.n, (const char *)e->address.p);
    return MESH_E_LIMIT;
}
static inline const char *address_of(const char *cluster) {
    static char text[64];
    const uint8_t *p;
    size_t n;
    text[0] = '\0';
    if (mesh_xds_assignment(xds, cluster, &p, &n)) {
        int rc = mesh_scan_assignment(p, n, &(struct mesh_scan_assignment_sink){.endpoint = first_address}, text);
        (void)rc;
    }
    return text;
}

/* "all", "a,b" or "nothing", and takes it. */
static inline const char *changes(void) {
    static char text[1024];
    struct mesh_xds_change c;
    bool settled;
    if (!mesh_xds_changed(xds, now, &c, &settled))
        return "nothing";
    size_t len = (size_t)snprintf(text, sizeof(text), "%s", c.all ? "all" : "");
    for (uint32_t i = 0; i < c.nclusters; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? "," : "", c.clusters[i]);
    mesh_xds_taken(xds);
    return text;
}

#endif
