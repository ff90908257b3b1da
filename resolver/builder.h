/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a build: what its parts (resolver/build*.c) share. Errors come in two kinds. Soft ones belong to
 * a resource: mesh_fault keeps the reason and the build goes on. Hard ones (MESH_E_NOMEM, _LIMIT, _IO,
 * _INTERNAL) end it.
 */
#ifndef MESH_RESOLVER_BUILDER_H
#define MESH_RESOLVER_BUILDER_H

#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/endpoint.pb-c.h"
#include "proto/listener.pb-c.h"
#include "proto/route.pb-c.h"
#include "proto/tls.pb-c.h"
#include "resolver/build.h"

/* ---- memory of one build
 * ------------------------------------------------------------------------------------ */
struct arena_block;
struct mesh_arena {
    struct arena_block *blocks;
    size_t left;
    uint8_t *at;
};
void *mesh_arena_get(struct mesh_arena *a, size_t n); /* zeroed; NULL: out of memory */
char *mesh_arena_text(struct mesh_arena *a, const char *text, size_t n);
void mesh_arena_done(struct mesh_arena *a);

struct mesh_blob { /* a record while it grows: spans are offsets in it. Heap, free(p) */
    uint8_t *p;
    uint32_t len, room;
    bool broken; /* out of memory at some point */
};
/* Appends n bytes at a multiple of `align`; returns where they are. */
struct view_span mesh_blob_add(struct mesh_blob *b, const void *p, size_t n, uint32_t align);
static inline struct view_span mesh_blob_text(struct mesh_blob *b, const char *text) {
    return mesh_blob_add(b, text ? text : "", text ? strlen(text) : 0, 1);
}

/* ---- the build
 * ------------------------------------------------------------------------------------------------ */
struct build_name { /* a name, or a pattern, and where it leads */
    char *text;
    uint32_t len;
    uint32_t nentries, room;
    uint8_t rank; /* of who lists it */
    struct build_entry *entries;
    uint8_t own4[4], own6[16];
    bool has_own4, has_own6;
    uint32_t ref;            /* its record, once put */
    struct build_name *next; /* in the table's chain */
};
struct build_route;
struct build_entry {
    uint16_t port, level;
    const struct build_route *route;
};
struct build_route { /* put once, used by many names */
    uint32_t ref;
    uint8_t kind;
    const struct view_target *targets;
    uint32_t n;
};
struct build_addr {
    uint8_t family;
    uint8_t range; /* bits of a range + 1; 0: one address */
    uint8_t addr[16];
    uint16_t port, level;
    bool headless;
    const struct build_route *route; /* NULL: the name's own entries */
    struct build_name *name;         /* NULL: none */
    struct build_addr *next;
};
struct build_match { /* what a route asks of its endpoints' metadata (envoy.lb), by key; memory of the arena
                      */
    uint32_t n;
    struct {
        const char *key;
        const Mesh__Pb__Value *value;
    } items[16];
};
struct build_lb { /* how a cluster balances: what readers need, and what the build does before */
    struct mesh_policy policy;
    uint32_t subset_size; /* random_subsetting; 0: all */
    bool hash_by_host;    /* use_hostname_for_hashing */
    bool zone_aware, zone_direct;
    uint32_t zone_min;                                     /* min_cluster_size */
    const Mesh__Cluster__Cluster__LbSubsetConfig *subsets; /* NULL: no selection by metadata */
    ProtobufCMessage *owned;                               /* what `subsets` points into, or NULL */
};
struct build_index { /* resources of one type by name */
    const struct mesh_resource **slots;
    uint32_t mask;
};
struct build_ports { /* ports that listeners lead to a route configuration; none: any */
    uint32_t n;
    uint16_t ports[64];
    const char *guard; /* what guards it and is not supported; NULL: nothing */
    bool is_api;       /* some api_listener uses it */
};
struct build_raw {
    const char *name;
    const uint8_t *p;
    size_t n;
};
struct build {
    struct mesh_pub *pub;
    const struct mesh_resources *resources;
    const struct mesh_build_in *in;
    uint8_t rank; /* of the resource at hand */
    struct mesh_arena arena;
    struct build_index clusters, assignments, routes, secrets;
    struct build_ports *ports; /* one a resource, for route configurations */
    const char **why;          /* one a resource: what is wrong with it */
    struct build_name **names; /* hash table */
    uint32_t names_mask, nnames;
    struct build_addr *addrs, **addrs_end;
    struct mesh_blob chains, inbound;      /* struct view_chain's, and the record that they point into */
    struct mesh_endpoint *endpoints;       /* of the cluster at hand */
    const Mesh__Core__Metadata **metadata; /* of each */
    uint32_t endpoints_room;
    struct mesh_blob keys;
    const Mesh__Endpoint__ClusterLoadAssignment
        *own;                     /* members of the cluster that we are one of (build_zone.c) */
    ProtobufCMessage *own_opened; /* the same, when it came by wire */
    bool own_known;
    struct build_raw *raws; /* assignments that came by wire, each once: a table by their bytes' address */
    uint32_t raws_mask;
};

uint32_t mesh_build_number(const struct build *b, const struct mesh_resource *r); /* its place in resources */
static inline uint8_t mesh_build_rank(const struct build *b, const struct mesh_resource *r) {
    return b->in->ranks ? b->in->ranks[mesh_build_number(b, r)] : 0;
}
/* From here on it is what is being built. */
static inline void mesh_build_at(struct build *b, size_t i) {
    b->rank = mesh_build_rank(b, &b->resources->items[i]);
}
const struct mesh_resource *mesh_build_find(const struct build_index *i, const char *name);
/* Keeps an assignment that came by wire beside the flat form. */
void mesh_build_keep(struct build *b, const char *name, const uint8_t *p, size_t n);
/* Notes what is wrong with a resource: the first fault stays. NOMEM is the only error. */
int mesh_fault(struct build *b, const struct mesh_resource *r, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The message inside an Any when it is of type `d`; NULL (and *ret_rc) when it is not or cannot be read.
 * Freed with protobuf_c_message_free_unpacked. */
void *mesh_any_open(const Mesh__Pb__Any *any, const ProtobufCMessageDescriptor *d, int *ret_rc);
bool mesh_any_is(const Mesh__Pb__Any *any, const ProtobufCMessageDescriptor *d);
const char *mesh_any_type(const Mesh__Pb__Any *any); /* short name for people */
uint32_t mesh_duration_ms(const Mesh__Pb__Duration *d, uint32_t otherwise);

/* ---- names (resolver/build_names.c)
 * ---------------------------------------------------------------------------- */
struct build_name *mesh_build_name(struct build *b, const char *text, size_t len); /* NULL: out of memory */
int mesh_build_entry(struct build *b, struct build_name *n, uint16_t port, enum view_level level,
                     const struct build_route *route) MESH_MUST_CHECK;
int mesh_build_addr(struct build *b, const struct build_addr *a) MESH_MUST_CHECK;
/* When it is in a virtual range. `range`: its bits + 1, 0: one address. */
int mesh_build_reserve(struct build *b, int family, const uint8_t *addr, uint8_t range) MESH_MUST_CHECK;
/* A name, `*.SUFFIX` or address that a route configuration, or a chain's server name, leads by. */
int mesh_build_domain(struct build *b, const char *domain, uint16_t port,
                      const struct build_route *route) MESH_MUST_CHECK;
int mesh_build_names_put(struct build *b) MESH_MUST_CHECK;
/* NAME, NAME:PORT or outbound|PORT||NAME in lower case; false: not a host name. */
bool mesh_host_name(const char *text, char ret_name[MESH_NAME_MAX + 1], uint16_t *ret_port);
bool mesh_service_name(const char *cluster, char ret_name[MESH_NAME_MAX + 1]); /* subsets too */
bool mesh_parse_address(const char *text, uint8_t *ret_family,
                        uint8_t ret_addr[16]); /* v4-mapped becomes IPv4 */

/* ---- parts
 * ----------------------------------------------------------------------------------------------------- */
int mesh_build_clusters(struct build *b) MESH_MUST_CHECK;
/* The id by which a route names a cluster: where its lb_subset_config selects, that of the subset, which is
 * put on demand. `match` may be NULL. After mesh_build_clusters. */
/* Does it select by metadata? A cluster whose settings are refused does not: what leads to it is refused. */
bool mesh_cluster_selects(const Mesh__Cluster__Cluster *c);
int mesh_build_cluster_id(struct build *b, const char *name, const struct build_match *match,
                          uint32_t *ret_id) MESH_MUST_CHECK;

/* ---- selection by metadata (resolver/build_subset.c)
 * ------------------------------------------------------------- */
const Mesh__Pb__Struct *mesh_metadata_of(const Mesh__Core__Metadata *m, const char *filter); /* NULL: none */
const Mesh__Pb__Value *mesh_metadata_field(const Mesh__Pb__Struct *s, const char *key);      /* NULL: none */
bool mesh_metadata_same(const Mesh__Pb__Value *a, const Mesh__Pb__Value *b);
/* Adds what metadata's envoy.lb says; a key that is there already stays. MESH_E_LIMIT. */
int mesh_match_add(struct build_match *m, const Mesh__Core__Metadata *metadata) MESH_MUST_CHECK;
/* NAME, or NAME{key=value,...}: how a subset is called. */
void mesh_subset_name(const char *cluster, const struct build_match *m, char *ret_text, size_t cap);
/* Leaves those that the configuration selects for a match (NULL: a route that asks nothing) at the front of
 * `endpoints`, weights of localities scaled where it says so; metadata[i] is endpoint i's. Returns how many.
 */
int mesh_subset_select(const Mesh__Cluster__Cluster__LbSubsetConfig *c, const struct build_match *match,
                       const Mesh__Core__Metadata *const *metadata, struct mesh_endpoint *endpoints,
                       uint32_t n, uint32_t *ret_n) MESH_MUST_CHECK;
/* Settings that contradict each other or that mean nothing are MESH_E_INVALID, why begins with the field's
 * path. Freed with mesh_build_policy_done, also after an error. */
int mesh_build_policy(const Mesh__Cluster__Cluster *c, const Mesh__Endpoint__ClusterLoadAssignment *cla,
                      struct build_lb *ret, struct mesh_why *why) MESH_MUST_CHECK;
void mesh_build_policy_done(struct build_lb *lb);

struct build_reading { /* of a cluster's settings; the first fault stays */
    struct mesh_why *why;
    int rc;
    char at[200]; /* path of the message at hand, "" or with a dot behind it */
};
int mesh_build_bad(struct build_reading *x, const char *field, const char *what);
uint32_t mesh_build_u32(struct build_reading *x, const Mesh__Pb__UInt32Value *v, const char *field,
                        uint32_t otherwise, uint32_t least, uint32_t most);
uint32_t mesh_build_u64(struct build_reading *x, const Mesh__Pb__UInt64Value *v, const char *field,
                        uint32_t otherwise, uint32_t least, uint32_t most);
double mesh_build_percent(struct build_reading *x, const Mesh__Core__Percent *v, const char *field,
                          double otherwise);
uint32_t mesh_build_ms(struct build_reading *x, const Mesh__Pb__Duration *v, const char *field,
                       uint32_t otherwise, uint32_t least);
/* Is what lb_subset_config says sound? */
int mesh_subset_check(struct build_reading *x, const Mesh__Cluster__Cluster__LbSubsetConfig *c);
/* Health, ejection, breakers, drops (resolver/build_limits.c). */
void mesh_build_limits(struct build_reading *x, const Mesh__Cluster__Cluster *c,
                       const Mesh__Endpoint__ClusterLoadAssignment *cla, struct mesh_policy *p);
/* One transport socket. Soft errors are in ret->error. NULL socket: what MESH_TLS says. */
int mesh_build_transport(struct build *b, const Mesh__Core__TransportSocket *socket, struct mesh_blob *blob,
                         struct view_tls *ret) MESH_MUST_CHECK;
int mesh_build_server(struct build *b, const Mesh__Core__TransportSocket *socket, struct mesh_blob *blob,
                      struct view_tls *ret) MESH_MUST_CHECK;
int mesh_build_routes(struct build *b) MESH_MUST_CHECK;
int mesh_build_listeners(struct build *b) MESH_MUST_CHECK;
int mesh_build_ports(struct build *b) MESH_MUST_CHECK; /* which listeners use which route configuration */

/* A route to one cluster, to weighted ones, or a refusal. */
int mesh_build_route(struct build *b, const char *text, const char *cluster,
                     const struct build_route **ret) MESH_MUST_CHECK;
struct build_weight {
    const char *cluster;
    uint32_t weight;
    const struct build_match *match; /* NULL: nothing asked */
};
struct build_weights {
    const char *text;
    uint8_t hash;
    uint16_t attempts;
    uint32_t max_age_ms;
    uint8_t max_age_jitter;
    const struct build_weight *items;
    uint32_t n;
};
int mesh_build_weighted(struct build *b, const struct build_weights *in,
                        const struct build_route **ret) MESH_MUST_CHECK;
int mesh_build_refusal(struct build *b, const char *text, int error, const char *why,
                       const struct build_route **ret) MESH_MUST_CHECK;
/* What metadata_match asks, `first` before `second`; NULL: neither asks. MESH_E_LIMIT: too many keys. */
int mesh_build_match(struct build *b, const Mesh__Core__Metadata *first, const Mesh__Core__Metadata *second,
                     const struct build_match **ret) MESH_MUST_CHECK;
/* The route of the virtual host that a name leads to; NULL *ret: no virtual host of it matches. */
int mesh_build_vhost_route(struct build *b, const Mesh__Route__RouteConfiguration *config, const char *guard,
                           const char *name, uint16_t port, const struct build_route **ret) MESH_MUST_CHECK;
/* The domains of a route configuration, on the ports that lead to it. `r` is where it stands. */
int mesh_build_config(struct build *b, const struct mesh_resource *r,
                      const Mesh__Route__RouteConfiguration *config,
                      const struct build_ports *ports) MESH_MUST_CHECK;
struct build_where { /* one address that a listener has */
    uint8_t family;
    uint8_t addr[16];
    uint16_t port;
    bool is_any;   /* 0.0.0.0 or :: */
    uint8_t range; /* of the destination: bits + 1; 0: one address */
};
bool mesh_build_where(const Mesh__Core__Address *a,
                      struct build_where *ret); /* false: no IP address and TCP port */
/* The typed configuration of a chain's filter of that type, NULL: it has none. */
const Mesh__Pb__Any *mesh_build_filter_of(const Mesh__Listener__FilterChain *c,
                                          const ProtobufCMessageDescriptor *type);
/* Is it a listener that connections to this host come in on (resolver/build_inbound.c)? */
bool mesh_build_is_inbound(const struct build *b, const Mesh__Listener__Listener *l);
int mesh_build_inbound(struct build *b, const struct mesh_resource *r) MESH_MUST_CHECK;
/* "KIND NAME: WHAT" into the arena. MESH_E_NOMEM. */
int mesh_build_say(struct build *b, const char *kind, const char *name, const char *what,
                   const char **ret) MESH_MUST_CHECK;
/* Filters of its own that a virtual host, a route or a configuration has: what of them is not supported;
 * NULL: nothing. */
const char *mesh_build_per_filter_fault(size_t n, void *const *entries);
/* What of an HTTP connection manager's filters is not supported; NULL: nothing. Text of the arena. */
int mesh_build_guard(struct build *b, const Mesh__Pb__Any *hcm, const char **ret_guard) MESH_MUST_CHECK;

/* Who may call (resolver/build_authz.c): the RBAC filters of one chain, in their order, compiled into one
 * record of resolver/authz.h. */
struct build_authz;
bool mesh_build_authz_is(const Mesh__Pb__Any *config); /* a network or HTTP RBAC filter */
int mesh_build_authz_new(struct build_authz **ret) MESH_MUST_CHECK;
int mesh_build_authz_add(struct build_authz *a, const Mesh__Pb__Any *config) MESH_MUST_CHECK;
/* Why the chain must be refused: something that we cannot evaluate and that may let somebody in. NULL:
 * nothing. */
const char *mesh_build_authz_fault(const struct build_authz *a);
/* "policy POLICY decides by CONDITION": one that a connection cannot answer; NULL: none. Lives as long as
 * `a`. */
const char *mesh_build_authz_needs(const struct build_authz *a);
/* Appends the record; *ret stays as it is when no filter asks anything. */
int mesh_build_authz_put(struct build_authz *a, struct mesh_blob *to, struct view_span *ret) MESH_MUST_CHECK;
void mesh_build_authz_free(struct build_authz *a);

/* Filters (resolver/build_filter.c). NULL: may be passed over; else what to say of it. */
const char *mesh_filter_fault(const char *name, const Mesh__Pb__Any *config, bool is_optional);

#endif
