/* SPDX-License-Identifier: Apache-2.0
 *
 * What lb's zone weights are made of: our own service's members by locality, in the numbers of the cluster at
 * hand.
 */
#include <stdlib.h>
#include "lb/lb.h"
#include "resolver/builder.h"

static bool same_text(const char *a, const char *b) {
    return strcmp(a ? a : "", b ? b : "") == 0;
}

bool mesh_same_locality(const Mesh__Core__Locality *a, const Mesh__Core__Locality *b) {
    return a == b || (a && b && same_text(a->region, b->region) && same_text(a->zone, b->zone) &&
                      same_text(a->sub_zone, b->sub_zone));
}

static const Mesh__Endpoint__ClusterLoadAssignment *own_members(const struct build *b) {
    const char *name = b->resources->local_cluster;
    const struct mesh_resource *r = name ? mesh_build_find(&b->clusters, name) : NULL;
    const Mesh__Cluster__Cluster *c = r && !r->refused ? (const Mesh__Cluster__Cluster *)r->msg : NULL;
    if (c && c->load_assignment)
        return c->load_assignment;
    if (c && c->eds_cluster_config && c->eds_cluster_config->service_name &&
        *c->eds_cluster_config->service_name)
        name = c->eds_cluster_config->service_name;
    const struct mesh_resource *eds = name ? mesh_build_find(&b->assignments, name) : NULL;
    return eds && !eds->refused ? (const Mesh__Endpoint__ClusterLoadAssignment *)eds->msg : NULL;
}

static uint32_t healthy(const Mesh__Endpoint__LocalityLbEndpoints *l) {
    uint32_t n = 0;
    for (size_t i = 0; i < l->n_lb_endpoints; i++) {
        int health = (int)l->lb_endpoints[i]->health_status;
        n += health == MESH_HEALTH_UNKNOWN || health == MESH_HEALTH_HEALTHY;
    }
    return n;
}

static bool hashes(const struct mesh_policy *p) {
    return p->policy == MESH_LB_RING_HASH || p->policy == MESH_LB_MAGLEV;
}

int mesh_build_zones(const struct build *b, struct build_lb *lb, struct mesh_endpoint *endpoints, uint32_t n,
                     const Mesh__Core__Locality *const *names, uint32_t nnames) {
    const Mesh__Core__Node *node = (const Mesh__Core__Node *)b->resources->node;
    const Mesh__Endpoint__ClusterLoadAssignment *own = own_members(b);
    struct mesh_lb_zones z = {
        .own = UINT32_MAX, .n = nnames, .min_cluster_size = lb->zone_min, .force_direct = lb->zone_direct};
    if (!lb->zone_aware || lb->policy.locality_weighted || hashes(&lb->policy) || !own || !node ||
        !node->locality)
        return 0;
    uint32_t *callers = calloc(nnames + 1u, sizeof *callers);
    if (!callers)
        return MESH_E_NOMEM;
    z.callers = callers;
    for (uint32_t i = 0; i < nnames; i++)
        if (names[i] && mesh_same_locality(names[i], node->locality))
            z.own = i;
    for (size_t k = 0; k < own->n_endpoints; k++) {
        const Mesh__Endpoint__LocalityLbEndpoints *l = own->endpoints[k];
        uint32_t here = l->priority ? 0 : healthy(l);
        z.total += here;
        z.localities += here > 0;
        if (mesh_same_locality(l->locality, node->locality))
            z.mine += here;
        for (uint32_t i = 0; i < nnames; i++)
            if (names[i] && mesh_same_locality(names[i], l->locality))
                callers[i] += here;
    }
    int rc = mesh_lb_zone_weights(endpoints, n, &lb->policy, &z);
    free(callers);
    return rc < 0 ? rc : 0;
}
