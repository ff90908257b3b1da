/* SPDX-License-Identifier: Apache-2.0
 *
 * Which endpoint. Pure functions over the view's types: no I/O, no clock (time is an argument), no lock, no
 * allocation on the pick path, any thread of any process at once. The arrays are mapped memory that a publisher may
 * recycle while we read: every index is checked, a torn read can give a wrong pick but never a fault; the caller
 * validates the view's sequence afterwards and picks again. One policy a file behind `struct lb_ops` (lb/ops.h).
 * Formulas and constants: Envoy's (see each policy's file).
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
    uint64_t now;                    /* mesh_now() */
    uint64_t random;
    uint64_t hash;                   /* consistent hashing; used when has_hash */
    bool has_hash;
    bool want_why;                   /* fill ret_why (meshctl pick --explain) */
    uint8_t families;                /* bit 0: IPv4 reachable, bit 1: IPv6 */
    uint8_t attempt;                 /* 0 for the first pick of a dial */
    uint8_t ntried;
    uint32_t tried[MESH_LB_TRIED_MAX]; /* stat indices already tried by this dial: avoided while another is left */
};

/* Picks. Order: families -> health -> priority (overprovisioning, panic) -> ejection (never all) -> locality ->
 * policy. An ejected or tried endpoint is picked only when nothing else is left; with `attempt` > 0 and only tried
 * ones left: MESH_E_NOENDPOINT. Errors: MESH_E_NOENDPOINT, MESH_E_FAMILY (endpoints exist, none reachable),
 * MESH_E_OVERLOAD (breaker or drop). *ret_index is untouched on error. */
int mesh_lb_pick(const struct mesh_cluster_view *c, const struct mesh_lb_request *r, uint32_t *ret_index,
                 struct mesh_why *ret_why) MESH_MUST_CHECK;

enum mesh_lb_outcome {
    MESH_LB_CONNECTED,     /* TCP up and peer authenticated (or plaintext cluster: TCP up) */
    MESH_LB_REFUSED,       /* connect failed: refused, unreachable, reset in the handshake */
    MESH_LB_TIMEOUT,
    MESH_LB_UNAUTHENTIC,   /* certificate, name or alert */
    MESH_LB_RESET_LATER,   /* an established connection was reset or broke the protocol */
};
/* What became of a dial to endpoint `stat`. Updates failure runs, ejection (growing, capped, never more than the
 * policy's share and never the last healthy one), latency. `n` endpoints of the cluster are looked at only when
 * an ejection is decided. */
void mesh_lb_report(const struct mesh_cluster_view *c, uint32_t stat, enum mesh_lb_outcome outcome, uint64_t now,
                    uint64_t took_ns);

/* Is it ejected now? Threads: any, signal-safe. */
bool mesh_lb_ejected(const struct mesh_stat *s, uint64_t now);

/* Names as users write them: "round_robin", ...; MESH_E_NOTFOUND if unknown. */
int mesh_lb_policy_parse(const char *name, uint8_t *ret_policy) MESH_MUST_CHECK;
const char *mesh_lb_policy_name(uint8_t policy);
/* Defaults for a cluster that says nothing (see resolver/types.h). */
void mesh_lb_policy_defaults(struct mesh_policy *p);

/* Consistent-hash tables are built by the publisher: size in bytes for a cluster (0: this policy needs none), and
 * the build into caller's memory. */
size_t mesh_lb_table_size(const struct mesh_cluster_view *c);
int mesh_lb_table_build(const struct mesh_cluster_view *c, void *ret_table, size_t cap, uint32_t *ret_len) MESH_MUST_CHECK;

/* XXH64, seed given: the hash of Envoy's hash policies. */
uint64_t mesh_lb_xxh64(const void *p, size_t n, uint64_t seed);

#endif
