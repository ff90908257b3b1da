/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster at hand, as the two files that build it share it: build_cluster.c (what it is), build_endpoints.c (who is in
 * it). Threads: publisher only.
 */
#ifndef MESH_RESOLVER_BUILD_CLUSTER_H
#define MESH_RESOLVER_BUILD_CLUSTER_H

#include "resolver/blend.h"
#include "resolver/builder.h"
#include "resolver/hosts.h"

enum { TRANSPORTS_MAX = 64, LOCALITIES_MAX = 512, PRIORITY_MAX = 127 };

struct locality { /* equal ones share an index */
    uint32_t priority;
    uint64_t name; /* hash */
};
struct cluster {
    struct build *b;
    const struct mesh_resource *r;
    const Mesh__Cluster__Cluster *c;
    const Mesh__Endpoint__ClusterLoadAssignment *cla;
    const struct mesh_resource *cla_resource;
    const char *eds;     /* with raw: the assignment's name */
    const uint8_t *raw;  /* the assignment as it came by wire, instead of cla; NULL: it did not */
    size_t raw_len;
    struct view_tls transports[TRANSPORTS_MAX];
    uint32_t ntransports, n;
    uint32_t first_transport, first_priority, first; /* of the member at hand, when it is an aggregate */
    struct locality localities[LOCALITIES_MAX];
    uint32_t nlocalities;
    uint64_t *seen; /* addresses of this cluster, hashed */
    uint32_t seen_mask;
    struct build_lb lb; /* of the member at hand, when it is an aggregate */
    const struct build_match *match; /* the subset to put, NULL with is_subset: the one of routes that ask nothing */
    bool is_subset;
    ProtobufCMessage **kept; /* metadata of endpoints that came by wire, where a subset is selected by it */
    uint32_t nkept;
    bool is_pending; /* some host name of it was not answered for yet */
    int error;
    struct mesh_why why;
};

/* Notes why it is refused; the first reason stays. 0. */
int mesh_cluster_refuse(struct cluster *x, int err, const char *what, const char *subject);
/* Reads its endpoints, behind those that are there, into x->b->endpoints. */
int mesh_cluster_endpoints(struct cluster *x) MESH_MUST_CHECK;
/* What an assignment that came by wire says of the policy. */
int mesh_cluster_scan_policy(struct cluster *x, struct mesh_policy *ret) MESH_MUST_CHECK;

/* The transport socket for an endpoint's metadata. */
uint8_t mesh_cluster_transport(const struct cluster *x, const Mesh__Core__Metadata *m);
/* The hash by which localities are told apart. */
uint64_t mesh_locality_name(const Mesh__Core__Locality *l);
/* Zone-aware routing (resolver/build_zone.c): weighs the localities of priority 0 by where our own service runs, the members
 * of cluster_manager's local_cluster_name, and node.locality for ourselves; without both nothing is done. */
int mesh_build_zones(struct cluster *x, struct mesh_endpoint *endpoints, uint32_t n) MESH_MUST_CHECK;

#endif
