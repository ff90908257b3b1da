/* SPDX-License-Identifier: Apache-2.0
 *
 * Publishing. One process at a time holds the lease of a view and changes it in transactions: put what is new
 * or changed, then commit, which swings the root. Until then nothing is visible; a transaction that fails or
 * whose process dies leaves the view as it was. A whole load starts with mesh_pub_fresh; without it a
 * transaction changes what is in force, at a cost that follows the change and not the view. Threads: one at a
 * time per object.
 */
#ifndef MESH_RESOLVER_PUBLISH_H
#define MESH_RESOLVER_PUBLISH_H

#include "resolver/pages.h"
#include "resolver/space.h"

struct mesh_checks; /* resolver/health.h */

struct mesh_counters { /* where each counter is, by its key: a hash table in the heap */
    uint64_t *keys;
    uint32_t *refs;
    uint32_t *passes; /* the put that saw it last */
    uint32_t mask, used;
    uint32_t *unused; /* counters of slabs that nobody has */
    uint32_t nunused, room;
    uint32_t kind; /* KIND_STATS or KIND_LIVES */
};

struct mesh_reserved { /* addresses that may not become virtual ones: the view, or a route of this host, names
                          them */
    uint8_t family, bits;
    uint8_t addr[16];
};
enum { PUB_RESERVED_MAX = 1024 };

struct mesh_pub {
    struct mesh_view *v;
    struct mesh_space space;
    uint64_t lease;     /* our word in it */
    uint64_t root_word; /* the root that our changes start from */
    struct view_root root;
    struct mesh_wpages names, addrs, assigns, cluster_names, clusters, resources;
    struct mesh_counters stats, lives;
    struct view_pages old_cluster_names; /* a fresh load asks it for the ids that were in use */
    uint64_t *ids;                       /* bitmap of cluster ids in use */
    uint32_t nids;                       /* bits of it */
    uint32_t pass, first_pass;
    uint64_t now;
    struct mesh_reserved *reserved;
    uint32_t nreserved;
    uint32_t *kept; /* where each resource stands, by its hash: made when one is first replaced */
    uint32_t kept_mask;
    uint64_t *taken; /* virtual addresses in use: hashes, open addressing */
    uint32_t taken_mask, ntaken;
    bool taken_known, is_fresh;
    const struct mesh_checks *health; /* what active checks say; NULL: nobody checks. The publisher's, set before a build */
    uint32_t *changed; /* counters of clusters whose endpoints the transaction changes */
    uint32_t nchanged, changed_room;
};

/* Takes the lease and finds the free space. MESH_E_AGAIN: somebody else holds it. MESH_E_NOMEM. */
int mesh_pub_open(struct mesh_view *v, uint64_t now, struct mesh_pub **ret_pub) MESH_MUST_CHECK;
void mesh_pub_close(struct mesh_pub *pub); /* gives the lease back; what was not committed is forgotten */
/* The next transaction of the same publisher. MESH_E_AGAIN: the lease is lost. */
int mesh_pub_begin(struct mesh_pub *pub, uint64_t now) MESH_MUST_CHECK;
/* Starts from an empty view; virtual addresses, cluster ids and counters are kept for the names that come
 * again. */
int mesh_pub_fresh(struct mesh_pub *pub) MESH_MUST_CHECK;
/* The same for what is no publication of resources: version, stamp and time stay as they are. */
int mesh_pub_commit_aside(struct mesh_pub *pub) MESH_MUST_CHECK;
/* Gives up what the transaction did; the next one may begin. */
int mesh_pub_undo(struct mesh_pub *pub) MESH_MUST_CHECK;
/* MESH_E_AGAIN: another publisher took over; nothing was published. */
int mesh_pub_commit(struct mesh_pub *pub, uint64_t stamp, int64_t wall) MESH_MUST_CHECK;

struct mesh_cluster_in {
    const char *name;
    const char *of; /* a subset of this cluster's endpoints, that was put before; NULL: a cluster */
    struct mesh_policy policy;
    uint32_t flags; /* CLUSTER_ORIGINAL_DST, CLUSTER_PLAIN, CLUSTER_SOME_PLAIN */
    int error;      /* not 0: refused */
    const char *why;
    void *config; /* a struct view_config with what follows it, header not filled in; NULL: keep what is there
                   */
    size_t config_len;
    const struct mesh_endpoint
        *endpoints; /* stat and since are filled in; hash_key is an offset into keys + 1 */
    uint32_t n;
    const char *keys; /* uint16_t length, bytes, each at an even offset */
    size_t keys_len;
};
/* The id by which routes name a cluster; one that is not there (yet) gets one too. */
int mesh_pub_cluster_id(struct mesh_pub *pub, const char *name, uint32_t *ret_id) MESH_MUST_CHECK;
int mesh_pub_cluster_put(struct mesh_pub *pub, const struct mesh_cluster_in *in) MESH_MUST_CHECK;
int mesh_pub_cluster_remove(struct mesh_pub *pub, const char *name) MESH_MUST_CHECK; /* MESH_E_NOTFOUND */

struct mesh_route_in {
    const char *text;
    uint8_t kind, hash;
    uint16_t attempts;
    uint32_t max_age_ms;
    uint8_t max_age_jitter;
    int error;
    const char *why;
    const struct view_target *targets;
    uint32_t n;
};
int mesh_pub_route_put(struct mesh_pub *pub, const struct mesh_route_in *in,
                       uint32_t *ret_ref) MESH_MUST_CHECK;

struct mesh_name_in {
    const char *text; /* normal form */
    uint32_t len;
    uint32_t flags; /* NAME_OWN4, NAME_OWN6 (then v4, v6 are given), NAME_HEADLESS, NAME_PATTERN */
    uint8_t v4[4], v6[16];
    const struct view_entry *entries; /* in the order in which they win */
    uint32_t n;
    const uint32_t *clusters;
    uint32_t nclusters;
};
/* Adds a name that is not there yet, with its virtual addresses. */
int mesh_pub_name_put(struct mesh_pub *pub, const struct mesh_name_in *in, uint32_t *ret_ref) MESH_MUST_CHECK;
/* An address that leads somewhere; the first put of an (address, port) stays. */
int mesh_pub_addr_put(struct mesh_pub *pub, const struct view_addr *in) MESH_MUST_CHECK;
/* Keeps virtual addresses out of a range. */
int mesh_pub_reserve(struct mesh_pub *pub, int family, const void *addr, uint8_t bits) MESH_MUST_CHECK;
struct mesh_resource_in {
    const char *type, *name, *path, *why;
    uint8_t rank; /* enum mesh_rank */
    const void *bytes;
    size_t n;
};
int mesh_pub_resource_put(struct mesh_pub *pub, const struct mesh_resource_in *in) MESH_MUST_CHECK;
/* Puts it in the place of the one of its type and name. MESH_E_NOTFOUND. */
int mesh_pub_resource_replace(struct mesh_pub *pub, const struct mesh_resource_in *in) MESH_MUST_CHECK;
int mesh_pub_report_put(struct mesh_pub *pub, const void *rec, size_t len) MESH_MUST_CHECK;
int mesh_pub_inbound_put(struct mesh_pub *pub, const void *rec, size_t len) MESH_MUST_CHECK;

/* ---- parts (resolver/put.c, resolver/counters.c, resolver/lease.c)
 * --------------------------------------------------------------- */
void mesh_pub_resources_moved(struct mesh_pub *pub); /* what is known of their places is forgotten */
int mesh_counters_open(struct mesh_pub *pub, struct mesh_counters *c, uint32_t kind) MESH_MUST_CHECK;
void mesh_counters_done(struct mesh_counters *c);
int mesh_counters_get(struct mesh_pub *pub, struct mesh_counters *c, uint64_t key, uint32_t live,
                      uint32_t *ret_ref) MESH_MUST_CHECK;
void mesh_counters_retire(struct mesh_pub *pub, uint32_t stat); /* its endpoint has left */
void mesh_counters_retire_unseen(struct mesh_pub *pub, struct mesh_counters *c, uint32_t since_pass);
uint64_t mesh_counter_since(const struct mesh_pub *pub, uint32_t stat);
uint32_t mesh_counter_pass(const struct mesh_counters *c, uint64_t key);

int mesh_lease_take(struct mesh_view *v, uint64_t now, uint64_t *ret_word) MESH_MUST_CHECK; /* MESH_E_AGAIN */
bool mesh_lease_ours(const struct mesh_view *v, uint64_t word);
void mesh_lease_renew(struct mesh_view *v, uint64_t now);
void mesh_lease_drop(struct mesh_view *v, uint64_t word);
/* Does a living process hold it? */
bool mesh_lease_held(const struct mesh_view *v);
/* The holder beats from now on (mesh_lease_renew, several times a second): its silence means that it is gone. */
void mesh_lease_stand(struct mesh_view *v, uint64_t word);
/* Is there a holder that beats? `thorough`: and is its process alive (a system call or two)? */
bool mesh_lease_stands(const struct mesh_view *v, uint64_t now, bool thorough);
/* This process comes before all others, or no longer does (meshctl agent). */
void mesh_lease_claim(struct mesh_view *v, bool first);
bool mesh_lease_yields(const struct mesh_view *v); /* some other living process comes first */
int mesh_lease_pid(const struct mesh_view *v);     /* of the holder, 0: none */

#endif
