/* SPDX-License-Identifier: Apache-2.0
 *
 * Zone-aware routing, turned into locality weights. Envoy's rule, in parts of 10,000, for priority 0:
 *   caller%(L), healthy%(L)  of our own service's members, of the cluster's healthy endpoints
 *   healthy%(own) >= caller%(own), or forced: everything stays in our own zone
 *   otherwise local = healthy%(own) * 10000 / caller%(own) stays, and the rest goes to the others in
 * proportion to what they have over, max(0, healthy%(L) - caller%(L)).
 * Locality weights are later multiplied with availability (lb/locality.c): what is written here is divided by
 * it.
 */
#include <stdlib.h>
#include "lb/ops.h"

enum { WHOLE = 10000, FINE = 100 /* steps in one part of 10,000 */ };

struct zone {
    uint32_t hosts, healthy;
    uint32_t callers_part, healthy_part; /* of 10,000 */
    double share;
};

static uint32_t over(const struct zone *z) {
    return z->healthy_part > z->callers_part ? z->healthy_part - z->callers_part : 0;
}

/* Healthy endpoints in all zones of priority 0; *ret_zones: zones that have any endpoint. */
static uint32_t count(const struct mesh_endpoint *e, uint32_t n, struct zone *zones, uint32_t *ret_zones) {
    uint32_t healthy = 0, seen = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (e[i].priority)
            continue;
        struct zone *z = &zones[e[i].locality];
        seen += !z->hosts++;
        if (mesh_lb_class_of(&e[i], 3) != LB_HEALTHY)
            continue;
        z->healthy++;
        healthy++;
    }
    *ret_zones = seen;
    return healthy;
}

static void measure(struct zone *zones, uint32_t n, uint32_t healthy, const struct mesh_lb_zones *c) {
    for (uint32_t i = 0; i < n; i++) {
        if (!zones[i].healthy)
            continue;
        zones[i].healthy_part = (uint32_t)((uint64_t)WHOLE * zones[i].healthy / healthy);
        if (i < c->n)
            zones[i].callers_part = (uint32_t)((uint64_t)WHOLE * c->callers[i] / c->total);
    }
}

static void share_out(struct zone *zones, uint32_t n, const struct mesh_lb_zones *c) {
    struct zone *own = c->own < n && zones[c->own].healthy ? &zones[c->own] : NULL;
    uint32_t left = 0;
    if (own && (c->force_direct || own->healthy_part >= own->callers_part)) {
        own->share = WHOLE;
        return;
    }
    double local = own ? (double)own->healthy_part * WHOLE / own->callers_part : 0;
    for (uint32_t i = 0; i < n; i++)
        if (&zones[i] != own)
            left += over(&zones[i]);
    for (uint32_t i = 0; left && i < n; i++)
        if (&zones[i] != own)
            zones[i].share = (WHOLE - local) * over(&zones[i]) / left;
    if (own)
        own->share = local;
}

static uint32_t weight_of(const struct zone *z, uint32_t overprovisioning) {
    if (!z->healthy || z->share <= 0)
        return 0;
    double available = overprovisioning / 100.0 * z->healthy / z->hosts;
    double weight = z->share * FINE / (available < 1 ? available : 1) + 0.5;
    return weight < UINT32_MAX ? (uint32_t)weight : UINT32_MAX;
}

static bool applies(const struct mesh_lb_zones *c, uint32_t zones, uint32_t healthy) {
    if (zones < 2 || !c->total || !c->mine || healthy < c->min_cluster_size)
        return false;
    return c->localities >= 2 || c->force_direct;
}

int mesh_lb_zone_weights(struct mesh_endpoint *e, uint32_t n, struct mesh_policy *p,
                         const struct mesh_lb_zones *c) {
    uint32_t highest = 0, filled = 0;
    for (uint32_t i = 0; i < n; i++)
        if (e[i].locality > highest)
            highest = e[i].locality;
    struct zone *zones = calloc(highest + 1, sizeof *zones);
    if (!zones)
        return MESH_E_NOMEM;
    uint32_t healthy = count(e, n, zones, &filled);
    bool on = applies(c, filled, healthy);
    if (on) {
        measure(zones, highest + 1, healthy, c);
        share_out(zones, highest + 1, c);
        for (uint32_t i = 0; i < n; i++)
            e[i].locality_weight = e[i].priority ? 0 : weight_of(&zones[e[i].locality], p->overprovisioning);
        p->locality_weighted = 1;
    }
    free(zones);
    return on;
}
