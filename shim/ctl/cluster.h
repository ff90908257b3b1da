/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of what the view says, for commands that print: the view may change at any moment.
 */
#ifndef MESH_CTL_CLUSTER_H
#define MESH_CTL_CLUSTER_H

#include "resolver/resolver.h"

struct mesh_ctl_endpoint {
    char address[64];      /* ip:port, [ip6]:port */
    const char *health;    /* as Envoy writes it, lower case */
    uint32_t weight;
    uint32_t priority;
    uint32_t inflight, failures_in_row, latency_us;
    uint32_t ejections;    /* multiplier of the last ejection's length, falls by healthy interval */
    uint64_t connects, failures, ejected_until;
};

struct mesh_ctl_cluster {
    char name[MESH_NAME_MAX + 1];
    uint8_t policy;        /* enum mesh_lb_policy */
    uint32_t inflight, pending, retries, overflow;
    uint32_t max_connections, max_pending, max_retries, max_host_connections; /* UINT32_MAX: none */
    uint32_t n;
    struct mesh_ctl_endpoint *endpoints; /* heap */
};

/* MESH_E_NOTFOUND: gone; MESH_E_AGAIN: changed at every try; MESH_E_NOMEM. Filled to be freed with _done. */
int mesh_ctl_cluster_copy(const struct mesh_view *v, const struct mesh_route *r, struct mesh_ctl_cluster *ret) MESH_MUST_CHECK;
void mesh_ctl_cluster_done(struct mesh_ctl_cluster *c);

/* The clusters among which connections to a name are divided, with their weights. */
enum { MESH_CTL_SPLITS_MAX = 32 };
struct mesh_ctl_split {
    struct mesh_route route;
    uint32_t weight;
};
/* Returns how many; an error of mesh_view_route_name when the name leads nowhere. */
int mesh_ctl_splits(const struct mesh_view *v, const char *name, uint16_t port,
                    struct mesh_ctl_split ret[MESH_CTL_SPLITS_MAX]) MESH_MUST_CHECK;

/* Writes ip:port of an endpoint. */
void mesh_ctl_address(const struct mesh_endpoint *e, char *ret_text, size_t cap);

#endif
