/* SPDX-License-Identifier: Apache-2.0
 *
 * From resources (protobuf) to the view's flat records. A resource that cannot be kept to is left out with
 * its reason, and what leads to it is refused; the others are not disturbed. Heap memory of a build is one
 * arena, freed at its end. Threads: one at a time per object.
 */
#ifndef MESH_RESOLVER_BUILD_H
#define MESH_RESOLVER_BUILD_H

#include "proto/proto.h"
#include "resolver/publish.h"

/* Puts all resources into a transaction that mesh_pub_fresh began. MESH_E_NOMEM, _LIMIT, _IO: the whole must
 * be given up. */
struct mesh_hosts;
struct mesh_build_in {
    const struct mesh_resources *resources;
    const uint8_t *ranks;     /* one a resource, or NULL: a name that one of a lower rank lists is its alone */
    struct mesh_hosts *hosts; /* addresses of endpoints that are host names (resolver/hosts.h), or NULL: none known */
    /* The ClusterLoadAssignment of an EDS cluster of the control plane as it came by wire; NULL: all are in resources.
     * Valid during the build. */
    bool (*assignment)(void *arg, const char *cluster, const uint8_t **ret_p, size_t *ret_n);
    void *arg;
};
int mesh_build(struct mesh_pub *pub, const struct mesh_build_in *in, struct mesh_why *why) MESH_MUST_CHECK;
/* Puts these clusters (all of in->resources; each stands in the view already, none is an aggregate's member or headless)
 * anew, and nothing else: their endpoints changed. */
int mesh_build_again(struct mesh_pub *pub, const struct mesh_build_in *in, struct mesh_why *why) MESH_MUST_CHECK;

/* ---- of this host (resolver/host.c)
 * ----------------------------------------------------------------------------- */
bool mesh_host_address(uint32_t *ret_addr); /* first IPv4 address that is not loopback, network order */
/* Keeps virtual addresses out of what this host has routes to. */
int mesh_host_reserve_routes(struct mesh_pub *pub) MESH_MUST_CHECK;
/* Looks our own address up when some policy hashes it (resolver/source.c). */
void mesh_source_ip(struct mesh_view *v);

#endif
