/* SPDX-License-Identifier: Apache-2.0
 *
 * Which endpoint. Pure functions over the view's types: no I/O, no clock (time is an argument), no lock, no
 * allocation on the pick path, any thread of any process at once. The arrays are mapped memory that a
 * publisher may recycle while we read: every index is checked, a torn read can give a wrong pick but never a
 * fault; the caller validates the view's sequence afterwards and picks again. One policy a file behind
 * `struct lb_ops` (lb/ops.h). Formulas and constants: Envoy's (see each policy's file).
 */
#ifndef MESH_LB_LB_H
#define MESH_LB_LB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "resolver/types.h"
#include "shim/base/err.h"

enum { MESH_LB_TRIED_MAX = 32 };

struct mesh_lb_request {
    uint64_t now; /* mesh_now() */
    uint64_t random;
    uint64_t hash; /* consistent hashing; used when has_hash */
    bool has_hash;
    bool want_why;    /* fill ret_why on success too (meshctl pick --explain); on error it is filled if not NULL */
    uint8_t families; /* bit 0: IPv4 reachable, bit 1: IPv6 */
    uint8_t attempt;  /* 0 for the first pick of a dial */
    uint8_t ntried;
    uint32_t
        tried[MESH_LB_TRIED_MAX]; /* stat indices already tried by this dial: avoided while another is left */
};

/* Picks. Order: families -> health -> priority (overprovisioning, panic) -> ejection (never all) -> locality
 * -> policy. An ejected or tried endpoint is picked only when nothing else is left; with `attempt` > 0 and
 * only tried ones left: MESH_E_NOENDPOINT. Nobody healthy or degraded at all is MESH_E_NOENDPOINT too, not
 * panic. Errors: MESH_E_NOENDPOINT, MESH_E_FAMILY (endpoints exist, none reachable), MESH_E_OVERLOAD (breaker
 * or drop). *ret_index is untouched on error. Breakers compare live->inflight, pending and retries, bounded
 * load live->inflight: whoever raises the endpoint's counters raises the cluster's. Cost: some 20 ns with a
 * table, at most 200 ns gathered (lb/ops.h); O(n) when the draws found nobody, and for pick_first. Threads:
 * any, signal-safe. */
int mesh_lb_pick(const struct mesh_cluster_view *c, const struct mesh_lb_request *r, uint32_t *ret_index,
                 struct mesh_why *ret_why) MESH_MUST_CHECK;

/* A *subset* is a cluster view of some of a cluster's endpoints, with turns and counts of ejected ones of its own;
 * breakers and ejection are the whole cluster's, so reports go to the view of the whole (lb_subset_config). */
enum mesh_lb_outcome {
    MESH_LB_CONNECTED, /* TCP up and peer authenticated (or plaintext cluster: TCP up) */
    MESH_LB_REFUSED,   /* connect failed: refused, unreachable, reset in the handshake */
    MESH_LB_TIMEOUT,
    MESH_LB_UNAUTHENTIC, /* certificate, name or alert */
    MESH_LB_RESET_LATER, /* an established connection was reset or broke the protocol */
};
/* What became of a dial to endpoint `stat`. Updates failure runs, ejection (growing, capped, never more than
 * the policy's share and never the last healthy one), latency. `n` endpoints of the cluster are looked at
 * only when an ejection is decided. */
void mesh_lb_report(const struct mesh_cluster_view *c, uint32_t stat, enum mesh_lb_outcome outcome,
                    uint64_t now, uint64_t took_ns);

/* Counts the ejected endpoints anew (live->ejected and by priority); O(n). Picks do it when an ejection ends.
 * The publisher has the next pick do it after a cluster's endpoints changed, so that one that came back while
 * still ejected is seen. Threads: any. */
void mesh_lb_recount(const struct mesh_cluster_view *c, uint64_t now);
void mesh_lb_recount_later(struct mesh_cluster_stat *live);

/* Is it ejected now? Threads: any, signal-safe. */
bool mesh_lb_ejected(const struct mesh_stat *s, uint64_t now);

/* Names as users write them: "round_robin", ...; MESH_E_NOTFOUND if unknown. */
int mesh_lb_policy_parse(const char *name, uint8_t *ret_policy) MESH_MUST_CHECK;
const char *mesh_lb_policy_name(uint8_t policy);
/* Defaults for a cluster that says nothing (see resolver/types.h): Envoy's, but that two failures in a row
 * eject, any share of the endpoints may be out, and breakers are off. What a cluster says replaces single
 * fields; one with an outlier_detection of its own begins from Envoy's 5 failures and 10 percent, one with
 * thresholds from 1024. */
void mesh_lb_policy_defaults(struct mesh_policy *p);

/* The table of a cluster (lb/table.h), built by the publisher for every cluster whatever its policy, after
 * policy and endpoints are final: size in bytes (0: it needs none; SIZE_MAX: too large or out of memory), and
 * the build into the caller's memory, aligned to 8. *ret_len is what goes into mesh_cluster_view.table_len. A
 * cluster published without its table is still served: small ones in full, large ones by a scan at random,
 * hashing ones without affinity. c->stats and c->live are not looked at. Errors: MESH_E_LIMIT (cap),
 * MESH_E_NOMEM. Threads: publisher. */
size_t mesh_lb_table_size(const struct mesh_cluster_view *c);
int mesh_lb_table_build(const struct mesh_cluster_view *c, void *ret_table, size_t cap,
                        uint32_t *ret_len) MESH_MUST_CHECK;

/* random_subsetting (gRFC A68): keeps the `keep` endpoints whose "ip:port" hashes lowest with XXH64 under
 * `seed`, in the order of the view, at the front of the array; returns how many. For the publisher, before
 * the table; the same seed on a later list moves few. MESH_E_NOMEM, then nothing changed. */
int mesh_lb_subset(struct mesh_endpoint *endpoints, uint32_t n, uint32_t keep, uint64_t seed,
                   uint32_t *ret_n) MESH_MUST_CHECK;

/* Zone-aware routing (zone_aware_lb_config), for the publisher, before the table: where our own service runs
 * decides the locality weights of the cluster's priority 0, and locality_weighted is set. Returns 1; 0 and
 * nothing changed when Envoy would not route by zone either (fewer than two zones, too small, nobody of ours
 * here); MESH_E_NOMEM. Exclusive with locality weights of the view's own. */
struct mesh_lb_zones {
    uint32_t own; /* our locality as this cluster numbers its localities; UINT32_MAX: it has none there */
    uint32_t n;
    const uint32_t *callers;   /* n: healthy members of our own service by this cluster's numbers */
    uint32_t total;            /* all of them, also where this cluster has no locality */
    uint32_t mine;             /* those in our own locality */
    uint32_t localities;       /* in how many they are */
    uint32_t min_cluster_size; /* default 6 */
    bool force_direct;         /* force_locality_direct_routing */
};
int mesh_lb_zone_weights(struct mesh_endpoint *endpoints, uint32_t n, struct mesh_policy *policy,
                         const struct mesh_lb_zones *zones) MESH_MUST_CHECK;

/* XXH64, seed given: the hash of Envoy's hash policies. */
uint64_t mesh_lb_xxh64(const void *p, size_t n, uint64_t seed);

#endif
