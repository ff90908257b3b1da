/* SPDX-License-Identifier: Apache-2.0
 *
 * What the mesh looks like: one mapped view for all processes of a user that share a set of sources (DESIGN D3-D5),
 * and the questions that the shim asks of it. Look-ups copy what they find into the caller's memory: no pointer
 * into the view survives a call, except in struct mesh_cluster_view, which the caller validates afterwards.
 * Readers take no lock, make no system call (but for mesh_view_refresh, at most one stat a second) and never wait
 * for a publisher. The mapped file may be damaged or hostile: every offset and length is bounded, a bad one is
 * MESH_E_INTERNAL, never a fault.
 */
#ifndef MESH_RESOLVER_RESOLVER_H
#define MESH_RESOLVER_RESOLVER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "resolver/types.h"
#include "shim/base/cidr.h"
#include "shim/base/err.h"

struct mesh_view; /* this process's attachment; inherited over fork */

enum mesh_tls_default { MESH_TLS_MUTUAL, MESH_TLS_VIEW, MESH_TLS_REQUIRED }; /* MESH_TLS */

struct mesh_view_config { /* from the environment table; all strings are copied */
    const char *file;         /* MESH_VIEW, NULL: none */
    const char *bootstrap, *bootstrap_text; /* GRPC_XDS_BOOTSTRAP, GRPC_XDS_BOOTSTRAP_CONFIG; NULL: none */
    const char *seed;         /* MESH_VIEW_SEED, NULL: none */
    uint64_t max_age;         /* MESH_VIEW_MAX_AGE in ns, 0: none */
    const char *run_dir;      /* MESH_RUN_DIR resolved by the caller, NULL: private mapping */
    const char *domains;      /* MESH_DOMAINS, NULL: none */
    enum mesh_tls_default tls;
    const char *hash_key;     /* MESH_HASH_KEY, NULL */
    const struct mesh_cidr_list *exclude; /* MESH_EXCLUDE, addresses and names; may be NULL */
    const struct mesh_cidr_list *capture; /* MESH_CAPTURE; may be NULL */
    const struct mesh_cidr_list *virtual_ranges; /* MESH_VIRTUAL; NULL: 241.0.0.0/8 and a ULA /48 */
    uid_t uid;
};

/* Attaches: maps (creating it when needed) the view of these sources, RUN_DIR/DIGEST.view, and builds it from the
 * file when there is none or the file changed. A bad file with an older good view on disk keeps the old view.
 * A run directory that is not 0700 and ours is refused (MESH_E_INVALID, why). A directory that cannot be used at
 * all (read-only, full, none): a private MAP_SHARED mapping that children inherit, and `*ret_private` is set.
 * A file that cannot be read or parsed and no older view: the view is attached and empty, names of MESH_DOMAINS
 * refuse; `why` holds FILE:LINE:COLUMN: what. Keeps no descriptor open. Threads: one at a time. */
int mesh_view_open(const struct mesh_view_config *cfg, struct mesh_view **ret_view, bool *ret_private,
                   struct mesh_why *why) MESH_MUST_CHECK;
/* MESH_RUN_DIR itself: opens it (O_DIRECTORY, CLOEXEC), making it (one level) when it is missing. The descriptor is the
 * caller's. MESH_E_INVALID: somebody else could change what is in it (why says how). Otherwise -errno. Threads: any. */
int mesh_run_dir_open(const char *path, uid_t uid, struct mesh_why *why) MESH_MUST_CHECK;
void mesh_view_close(struct mesh_view *v); /* unmaps (meshctl and tests; a program under the shim never does) */

/* Has the file been replaced? At most one stat a second over all processes on the view; when it changed, one of them
 * rebuilds on the calling thread (a lease in the view keeps others out). Returns 1 when this call published, 0 when
 * there was nothing to do, negative when the new file is bad (why with line and column; the old view stays; said once
 * per change). Threads: any. */
int mesh_view_refresh(struct mesh_view *v, uint64_t now, struct mesh_why *why) MESH_MUST_CHECK;

/* ---- names ------------------------------------------------------------------------------------------------ */
enum { MESH_NAME_MAX = 255, MESH_ANSWER_ADDRS = 192 };
struct mesh_answer {
    char canon[MESH_NAME_MAX + 1]; /* the name as the view lists it */
    uint8_t has4, has6;            /* virtual addresses, or a service's own `addresses` */
    uint8_t v4[4], v6[16];
    uint8_t pattern;               /* found through a wildcard: an expansion of a search list does not count by it */
    uint16_t naddrs;               /* headless (ORIGINAL_DST): endpoints' own addresses instead; */
    struct { uint8_t family; uint8_t addr[16]; } addrs[MESH_ANSWER_ADDRS]; /* the first ones in view order */
};
/* One name as written (a trailing dot is ignored, ASCII case too). 0: a mesh name; MESH_E_NOTFOUND: not of the mesh, ask
 * libc; MESH_E_DENIED: in MESH_DOMAINS and not listed (static file: the view is complete; control plane: it said so);
 * MESH_E_AGAIN: not known yet. Search lists are the caller's. IPv4 is offered only when the name has endpoints that an
 * IPv4 socket reaches (D13). Excluded names are NOTFOUND. Threads: any, lock-free, no system call. */
int mesh_view_name(const struct mesh_view *v, const char *name, struct mesh_answer *ret) MESH_MUST_CHECK;
/* The same when the port is known that will be dialled (0: not): it matters to a name that the view does not list. */
int mesh_view_name_at(const struct mesh_view *v, const char *name, uint16_t port, struct mesh_answer *ret) MESH_MUST_CHECK;
/* Is there a control plane, or a DNS server, from which something may become known later? */
bool mesh_view_learns(const struct mesh_view *v);
/* Does it hold what is there only until the control plane has answered (a seed, an earlier publisher's)? Names are then
 * asked for though they are listed. */
bool mesh_view_is_provisional(const struct mesh_view *v);
/* Is the name in a domain of MESH_DOMAINS that was written with `?`: does one that is not answered go to libc? */
bool mesh_view_falls_through(const struct mesh_view *v, const char *name);

/* ---- demand (resolver/demand.c) ----------------------------------------------------------------------------
 * A name that is MESH_E_AGAIN is asked for through the view: post it, then look again after each answer.
 * mesh_view_ask: cheap when it is posted already. 0; MESH_E_NOTFOUND: there is no control plane to ask; MESH_E_LIMIT: the
 * table is full; MESH_E_INVALID: no name. mesh_view_wait: until an answer came after `seen`, at most ns. Threads: any. */
int mesh_view_ask(struct mesh_view *v, const char *name, uint16_t port) MESH_MUST_CHECK;
/* What came of asking: MESH_E_AGAIN nothing yet, MESH_E_DENIED: the control plane has no such name and port. */
int mesh_view_asked(const struct mesh_view *v, const char *name, uint16_t port) MESH_MUST_CHECK;
void mesh_view_call(const struct mesh_view *v); /* wakes the publisher, wherever it is */
/* A socket of this process listens there, and MESH_INBOUND says `view`: what the control plane has to say of it is asked for.
 * Known: what the view says of a local address, nothing included, is what there is to say. Until then callers wait. Cannot:
 * the control plane is asked by name, and the bootstrap has no server_listener_resource_name_template to ask by. */
void mesh_view_inbound_ask(struct mesh_view *v, const struct sockaddr *at);
bool mesh_view_inbound_known(const struct mesh_view *v, const struct sockaddr *local);
bool mesh_view_inbound_cannot(const struct mesh_view *v);
uint32_t mesh_view_answers(const struct mesh_view *v);
void mesh_view_wait(const struct mesh_view *v, uint32_t seen, uint64_t ns);
/* The name whose address this is (getnameinfo, gethostbyaddr). MESH_E_NOTFOUND if none of ours. */
int mesh_view_name_of(const struct mesh_view *v, int family, const void *addr, char *ret_name, size_t cap) MESH_MUST_CHECK;
/* Is the address inside MESH_VIRTUAL (whether or not in use)? Such an address never reaches the kernel. */
bool mesh_view_is_virtual(const struct mesh_view *v, int family, const void *addr);
/* Calls fn for each name listed; a name may be missed or doubled when the view changes meanwhile. */
int mesh_view_each_name(const struct mesh_view *v, void (*fn)(void *arg, const char *name), void *arg);

/* ---- routes ----------------------------------------------------------------------------------------------- */
enum mesh_drain { MESH_DRAIN_UNHEALTHY = 1, MESH_DRAIN_REMOVED = 2 };
struct mesh_route {
    char name[MESH_NAME_MAX + 8];    /* NAME:PORT, or ADDR:PORT for captures and address listeners */
    char route[64];                  /* route or listener name, "default" */
    char cluster[MESH_NAME_MAX + 1];
    uint32_t cluster_id;             /* index in the view, with */
    uint32_t cluster_generation;     /* ... checked at each use: MESH_E_NOTFOUND when it is gone */
    uint32_t whole_id, whole_generation; /* the cluster that this is a subset of, or the same: lb's reports go there */
    bool original_dst;               /* dial the very address (captures, headless); no pick */
    bool plain;                      /* raw_buffer for every endpoint: tls=none */
    uint16_t attempts;               /* its tcp_proxy's max_connect_attempts, 0: not said */
    uint32_t max_age_ms;             /* its max_downstream_connection_duration, 0: none */
    uint8_t max_age_jitter;          /* percent of it that may come on top */
    uint8_t drain;                   /* enum mesh_drain: when the cluster wants its connections ended */
    uint8_t has_hash;
    uint64_t hash;                   /* for consistent hashing policies */
};
/* Where does a connect to this address lead? 0: a mesh connection, *ret says which; MESH_E_NOTFOUND: libc;
 * MESH_E_NOROUTE: virtual address, nothing on that port; MESH_E_IDENTITY: MESH_TLS=required and plaintext;
 * other errors: refuse. v4-mapped IPv6 counts as IPv4. `random` draws among weighted clusters. */
int mesh_view_route(const struct mesh_view *v, const struct sockaddr *dst, socklen_t len, uint64_t random,
                    struct mesh_route *ret) MESH_MUST_CHECK;
/* Why it is refused: the sentence of the view (a resource that was left out, a filter that cannot be kept). */
int mesh_view_route_why(const struct mesh_view *v, const struct sockaddr *dst, socklen_t len, struct mesh_why *ret_why) MESH_MUST_CHECK;
/* The same by name (meshctl). port 0: none given. */
int mesh_view_route_name(const struct mesh_view *v, const char *name, uint16_t port, uint64_t random,
                         struct mesh_route *ret) MESH_MUST_CHECK;

/* The i-th of the clusters that the route leads to, and why it is refused (meshctl check). MESH_E_LIMIT: it has no i-th. */
int mesh_view_route_target(const struct mesh_view *v, const char *name, uint16_t port, uint32_t i, struct mesh_route *ret,
                           struct mesh_why *ret_why) MESH_MUST_CHECK;
/* The ports that a listed name has routes for (0: any port), at most max; returns how many, or MESH_E_NOTFOUND. */
int mesh_view_name_ports(const struct mesh_view *v, const char *name, uint16_t *ret, uint32_t max) MESH_MUST_CHECK;

/* How a cluster is dialled: one heap block, freed with free(). */
struct mesh_match;
struct mesh_target {
    uint32_t connect_timeout_ms;  /* of one attempt; default 5000 */
    uint32_t attempts;            /* most endpoints tried by one dial; default 10, at least 1 */
    bool plain;                   /* raw_buffer */
    bool any_peer_san;            /* chain only (view said validation_context without SAN matchers and the mode is `view`) */
    bool no_alpn;
    const char *sni;              /* NULL: none */
    const uint8_t *alpn;          /* wire form, NULL: none said */
    uint32_t alpn_len;
    const struct mesh_match *peers; /* NULL when the view names none: MESH_PEERS applies */
    uint32_t npeers;
    const char *ca;               /* PEM of a trust bundle of its own, NULL: ours */
    uint32_t ca_len;
    const char *cert, *key;       /* PEM of an identity of its own, NULL: ours */
    uint32_t cert_len, key_len;
    uint16_t min_version, max_version; /* 0: default */
};
int mesh_view_target(const struct mesh_view *v, const struct mesh_route *r, uint8_t transport,
                     struct mesh_target **ret_target) MESH_MUST_CHECK;

/* The cluster's endpoints and live counters for lb. Use, then ask mesh_view_still: false means what was read may be
 * torn; start again. */
int mesh_view_cluster(const struct mesh_view *v, const struct mesh_route *r, struct mesh_cluster_view *ret,
                      uint64_t *ret_seq) MESH_MUST_CHECK;
bool mesh_view_still(const struct mesh_view *v, uint64_t seq);

/* ---- inbound ---------------------------------------------------------------------------------------------- */
enum mesh_inbound_mode { MESH_INBOUND_OFF, MESH_INBOUND_PERMISSIVE, MESH_INBOUND_STRICT, MESH_INBOUND_VIEW };
enum mesh_facts_kind { MESH_FACTS_NONE, MESH_FACTS_PLAIN, MESH_FACTS_TLS };
struct mesh_facts { /* what a connection has told of itself: plain data, kept beside it for later judgements */
    uint8_t kind;           /* enum mesh_facts_kind; NONE: its first bytes are not known yet */
    uint8_t cut_peer, cut_sni, cut_alpn; /* did not fit, or could not be read: not known */
    uint8_t has_cert;       /* the peer showed a certificate that passed */
    uint8_t alpn_len;
    uint16_t spare;
    char peer[256];         /* its SPIFFE ID, "" before the handshake or when it has none */
    char sni[104];          /* lower case, "" when there is none */
    uint8_t alpn[48];       /* what the client offers, in wire form */
};
struct mesh_caller { /* one inbound connection, as far as it is known: what is not known fits every condition */
    const struct sockaddr *local, *peer; /* peer NULL: not known (at listen) */
    socklen_t local_len, peer_len;
    const struct mesh_facts *facts;      /* NULL: as MESH_FACTS_NONE */
};
struct mesh_inbound { /* heap block, free() */
    enum mesh_inbound_mode mode;      /* STRICT: TLS of ours alone; PERMISSIVE: that or other bytes; OFF: no TLS of ours */
    bool judged;                      /* some condition or policy is asked about who calls: see mesh_view_authorize */
    bool no_client_cert, any_peer_san;
    const struct mesh_match *callers; /* NULL: MESH_CALLERS applies */
    uint32_t ncallers;
    const char *cert, *key, *ca;      /* PEM of its own, or NULL */
    uint32_t cert_len, key_len, ca_len;
    uint16_t min_version, max_version;
    const uint8_t *alpn;
    uint32_t alpn_len;
};
/* What the view's inbound listeners say of a connection: Envoy's choice of a listener (address and port, or one that takes
 * redirected connections) and of a filter chain (destination port and range, server names, transport protocol, application
 * protocols, direct source, source type, source range, source port, in that order). Where facts are missing several chains
 * are left, and the answer covers them all. MESH_E_NOTFOUND: the view says nothing of that port; MESH_E_REFUSED: it does,
 * and no chain takes this connection; MESH_E_UNSUPPORTED and others: a chain that cannot be kept to. `why` (may be NULL) has the
 * sentence. Threads: any. */
int mesh_view_inbound(const struct mesh_view *v, const struct mesh_caller *caller, struct mesh_inbound **ret,
                      struct mesh_why *why) MESH_MUST_CHECK;

/* ---- authorisation (envoy.filters.network.rbac, envoy.filters.http.rbac) ---- */
enum mesh_verdict_kind { MESH_PASS, MESH_DENY, MESH_NEEDS_REQUEST };
struct mesh_verdict {
    uint8_t kind;       /* enum mesh_verdict_kind */
    uint8_t shadow;     /* the same of the dry run (shadow_rules) */
    char policy[128];   /* the one that decides; "" when no policy allows it */
    char shadow_policy[128];
    char needs[64];     /* NEEDS_REQUEST: "header x-user"; what we cannot know: "the caller's name" */
};
/* May this caller be served? Judged by the policies of all chains that fit it. 0 and *ret; otherwise as mesh_view_inbound
 * (MESH_E_NOTFOUND: nothing is asked). No protobuf, bounded work. Threads: any. */
int mesh_view_authorize(const struct mesh_view *v, const struct mesh_caller *caller, struct mesh_verdict *ret,
                        struct mesh_why *why) MESH_MUST_CHECK;
/* Moves with every publication: one load. */
uint64_t mesh_view_stamp(const struct mesh_view *v);
/* Moves when what the inbound listeners say does; 0: they say nothing. */
uint64_t mesh_view_policy(const struct mesh_view *v);

/* ---- the ledger: who holds what (DESIGN D7) ---------------------------------------------------------------------
 * A tree is a process tree that shares one slab (random id, never 0). A process joins its tree at start of use and
 * after fork. A slot names the endpoint of one connection before its counter is raised and until after it is lowered.
 * When no process of a tree is alive, others settle its slots (recount). All calls: any thread, no lock held
 * across, at most a few atomic operations; settle makes system calls (kill(pid, 0), /proc when there is one). */
struct mesh_conn_info { /* what `meshctl status` shows of a slot; filled by the shim */
    int32_t pid, fd;
    uint8_t inbound, cipher, resumed, plain;
    uint16_t version;
    uint16_t spare;
    uint64_t started;         /* mesh_now() */
    char name[128];
    char endpoint[56];        /* ip:port */
    char peer[160];
};
int mesh_ledger_join(struct mesh_view *v, uint64_t tree, int pid, uint64_t now); /* negative: table full, go on without */
void mesh_ledger_leave(struct mesh_view *v, uint64_t tree, int pid);
/* Takes a slot for endpoint `stat` (UINT32_MAX: inbound, no counter), raises its inflight, and what `dial` says of the
 * cluster's pending dials and retries, until they are eased or the slot is released. MESH_E_LIMIT: no slot left (the
 * connection goes on uncounted). */
enum mesh_ledger_dial { MESH_LEDGER_SETTLED, MESH_LEDGER_DIAL = 1, MESH_LEDGER_RETRY = 3 /* a dial too */ };
int mesh_ledger_take(struct mesh_view *v, uint64_t tree, uint32_t stat, enum mesh_ledger_dial dial,
                     uint32_t *ret_slot) MESH_MUST_CHECK;
/* The dial has succeeded: it is neither pending nor a retry any more. */
void mesh_ledger_ease(struct mesh_view *v, uint64_t tree, uint32_t slot);
void mesh_ledger_describe(struct mesh_view *v, uint32_t slot, const struct mesh_conn_info *info);
void mesh_ledger_release(struct mesh_view *v, uint64_t tree, uint32_t slot); /* UINT32_MAX: nothing */
/* Settles dead trees; cheap when there is none. Called by takers now and then (at most once a second per view) and by
 * meshctl. Returns slots given back. */
int mesh_ledger_settle(struct mesh_view *v, uint64_t now);
int mesh_ledger_each(const struct mesh_view *v, void (*fn)(void *arg, const struct mesh_conn_info *info), void *arg);
int mesh_ledger_each_process(const struct mesh_view *v, void (*fn)(void *arg, int pid, uint64_t tree, uint64_t since, const char *identity), void *arg);
void mesh_ledger_identity(struct mesh_view *v, uint64_t tree, int pid, const char *spiffe); /* shown by status */
/* meshctl trace -p: leaves a spec for a process; the process takes it (returns true once, copying it out). */
int mesh_ledger_post_trace(struct mesh_view *v, int pid, const char *spec) MESH_MUST_CHECK;
bool mesh_ledger_take_trace(struct mesh_view *v, uint64_t tree, int pid, char *ret_spec, size_t cap);

/* ---- refusals: the ring behind `meshctl why` (last 256) ------------------------------------------------------- */
void mesh_why_push(struct mesh_view *v, const char *line, size_t len); /* signal-safe */
/* Copies the lines newer than *io_seq, oldest first; returns how many. */
int mesh_why_read(const struct mesh_view *v, uint64_t *io_seq, void (*fn)(void *arg, const char *line), void *arg);

/* ---- for meshctl ------------------------------------------------------------------------------------------------ */
struct mesh_view_info {
    char path[256];          /* of the mapping, "" if private */
    char source[256];        /* file, or the first server of the bootstrap */
    char error[240];         /* of the newest source, "" if it is in force */
    uint64_t version;        /* counts publications */
    int64_t built_wall;      /* seconds */
    bool learns;             /* a control plane is its source */
    int64_t confirmed;       /* seconds: when a control plane last stood behind it; 0: never */
    uint32_t names, clusters, endpoints, listeners;
};
int mesh_view_describe(const struct mesh_view *v, struct mesh_view_info *ret) MESH_MUST_CHECK;
/* Calls fn for each resource that was left out, or partly left out, and why. */
int mesh_view_each_fault(const struct mesh_view *v, void (*fn)(void *arg, const char *resource, const char *why), void *arg);
/* The resources in force as text (canonical proto JSON or YAML, only those a name leads to when `name` is given).
 * Heap, free(). The view keeps them beside the flat form. */
int mesh_view_print(const struct mesh_view *v, const char *name, bool yaml, char **ret_text) MESH_MUST_CHECK;
/* Calls fn with each resource in force as JSON on one line, its Any with "@type". */
int mesh_view_each_resource(const struct mesh_view *v,
                            void (*fn)(void *arg, const char *type_url, const char *name, const char *json), void *arg);
/* Subsets are not told apart: their endpoints are the cluster's. */
int mesh_view_each_cluster(const struct mesh_view *v, void (*fn)(void *arg, const struct mesh_route *cluster), void *arg);

#endif
