/* SPDX-License-Identifier: Apache-2.0
 *
 * What lb's zone weights are made of: our own service's members by locality, in the numbers of the cluster at
 * hand.
 */
#include <stdlib.h>
#include "lb/lb.h"
#include "resolver/blend.h"
#include "resolver/build_cluster.h"

/* Finds b->own, NULL: not said. */
static int find_own(struct build *b) {
    const char *name = b->resources->local_cluster;
    const struct mesh_resource *r = name ? mesh_build_find(&b->clusters, name) : NULL;
    const Mesh__Cluster__Cluster *c = r && !r->refused ? (const Mesh__Cluster__Cluster *)r->msg : NULL;
    const uint8_t *p;
    size_t n;
    b->own_known = true;
    b->own = c ? c->load_assignment : NULL;
    if (b->own)
        return 0;
    if (c && b->in->assignment && mesh_build_rank(b, r) != RANK_FILE &&
        b->in->assignment(b->in->arg, name, &p, &n)) {
        int rc =
            mesh_proto_unpack(&mesh__endpoint__cluster_load_assignment__descriptor, p, n, &b->own_opened);
        b->own = (const Mesh__Endpoint__ClusterLoadAssignment *)b->own_opened;
        return rc == MESH_E_NOMEM ? rc : 0;
    }
    if (c && c->eds_cluster_config && c->eds_cluster_config->service_name &&
        *c->eds_cluster_config->service_name)
        name = c->eds_cluster_config->service_name;
    const struct mesh_resource *eds = name ? mesh_build_find(&b->assignments, name) : NULL;
    b->own = eds && !eds->refused ? (const Mesh__Endpoint__ClusterLoadAssignment *)eds->msg : NULL;
    return 0;
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

static uint32_t number_of(const struct cluster *x, uint64_t name) {
    for (uint32_t i = 0; i < x->nlocalities; i++)
        if (x->localities[i].priority == 0 && x->localities[i].name == name)
            return i;
    return UINT32_MAX;
}

static int weigh(struct cluster *x, struct mesh_endpoint *endpoints, uint32_t n,
                 const Mesh__Endpoint__ClusterLoadAssignment *own, uint64_t here) {
    uint32_t *callers = calloc(x->nlocalities + 1u, sizeof *callers);
    if (!callers)
        return MESH_E_NOMEM;
    struct mesh_lb_zones z = {.own = number_of(x, here),
                              .n = x->nlocalities,
                              .callers = callers,
                              .min_cluster_size = x->lb.zone_min,
                              .force_direct = x->lb.zone_direct};
    for (size_t k = 0; k < own->n_endpoints; k++) {
        const Mesh__Endpoint__LocalityLbEndpoints *l = own->endpoints[k];
        uint64_t name = mesh_locality_name(l->locality);
        uint32_t members = l->priority ? 0 : healthy(l), at = number_of(x, name);
        z.total += members;
        z.localities += members > 0;
        z.mine += name == here ? members : 0;
        if (at != UINT32_MAX)
            callers[at] += members;
    }
    int rc = mesh_lb_zone_weights(endpoints, n, &x->lb.policy, &z);
    free(callers);
    return rc < 0 ? rc : 0;
}

int mesh_build_zones(struct cluster *x, struct mesh_endpoint *endpoints, uint32_t n) {
    const Mesh__Core__Node *node = (const Mesh__Core__Node *)x->b->resources->node;
    if (!x->lb.zone_aware || x->lb.policy.locality_weighted || hashes(&x->lb.policy) || !node ||
        !node->locality)
        return 0;
    int rc = x->b->own_known ? 0 : find_own(x->b);
    return rc == 0 && x->b->own ? weigh(x, endpoints, n, x->b->own, mesh_locality_name(node->locality)) : rc;
}
