/* SPDX-License-Identifier: Apache-2.0
 *
 * A cluster in plain memory for the balancer's tests: n endpoints 10.0.x.y:80, healthy, weight 1, priority 0,
 * the stat index is the endpoint index. The policy is mesh_lb_policy_defaults'. `rr` starts at 1: the
 * counter's random start is a case of its own.
 */
#ifndef TESTS_LB_CLUSTER_H
#define TESTS_LB_CLUSTER_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "lb/lb.h"
#include "lb/ops.h"
#include "shim/base/clock.h"

struct cluster {
    struct mesh_policy policy;
    struct mesh_endpoint *endpoints;
    struct mesh_stat *stats;
    struct mesh_cluster_stat *live;
    struct mesh_cluster_view view;
    struct mesh_lb_request request;
    uint64_t rng;
    void *table;
};

static inline void *cluster_shared(size_t n) { /* forked children see it */
    return mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static inline struct cluster *cluster_new(uint32_t n, uint8_t policy) {
    struct cluster *c = calloc(1, sizeof *c);
    c->endpoints = calloc(n ? n : 1, sizeof *c->endpoints);
    c->stats = cluster_shared((n ? n : 1) * sizeof *c->stats);
    c->live = cluster_shared(sizeof *c->live);
    mesh_lb_policy_defaults(&c->policy);
    c->policy.policy = policy;
    for (uint32_t i = 0; i < n; i++) {
        struct mesh_endpoint *e = &c->endpoints[i];
        *e = (struct mesh_endpoint){
            .port = 80, .family = 4, .health = MESH_HEALTH_HEALTHY, .weight = 1, .stat = i};
        e->addr[0] = 10;
        e->addr[1] = (uint8_t)(i >> 16);
        e->addr[2] = (uint8_t)(i >> 8);
        e->addr[3] = (uint8_t)i;
    }
    c->live->rr = 1;
    c->view = (struct mesh_cluster_view){.policy = &c->policy,
                                         .endpoints = c->endpoints,
                                         .n = n,
                                         .stats = c->stats,
                                         .nstats = n,
                                         .live = c->live,
                                         .limits = c->live};
    c->request = (struct mesh_lb_request){.now = 1000 * MESH_SEC, .families = 3};
    c->rng = 42;
    return c;
}

static inline void cluster_free(struct cluster *c) {
    munmap(c->stats, (c->view.nstats ? c->view.nstats : 1) * sizeof *c->stats);
    munmap(c->live, sizeof *c->live);
    free(c->endpoints);
    free(c->table);
    free(c);
}

/* Endpoint i becomes 127.0.0.1:(first + i), as the hosts of Envoy's own tests are. */
static inline void cluster_name_ports(struct cluster *c, uint16_t first) {
    for (uint32_t i = 0; i < c->view.n; i++) {
        memcpy(c->endpoints[i].addr, (uint8_t[]){127, 0, 0, 1}, 4);
        c->endpoints[i].port = (uint16_t)(first + i);
    }
}

/* What the publisher does. */
static inline int cluster_publish(struct cluster *c) {
    size_t size = mesh_lb_table_size(&c->view);
    free(c->table);
    c->view.table = c->table = NULL;
    c->view.table_len = 0;
    if (!size)
        return 0;
    c->table = malloc(size);
    uint32_t len = 0;
    int err = mesh_lb_table_build(&c->view, c->table, size, &len);
    if (err)
        return err;
    c->view.table = c->table;
    c->view.table_len = len;
    return 0;
}

static inline uint64_t cluster_random(struct cluster *c) {
    c->rng = c->rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return c->rng ^ c->rng >> 29;
}

/* One pick with fresh random bits: the endpoint's index, or the error. */
static inline int cluster_pick(struct cluster *c) {
    uint32_t at = UINT32_MAX;
    c->request.random = cluster_random(c);
    int err = mesh_lb_pick(&c->view, &c->request, &at, NULL);
    return err ? err : (int)at;
}

/* The pick for a hash. */
static inline int cluster_pick_hash(struct cluster *c, uint64_t hash) {
    c->request.has_hash = true;
    c->request.hash = hash;
    return cluster_pick(c);
}

/* How often each endpoint is picked in `times` picks; free(). An error counts nowhere. */
static inline uint32_t *cluster_count(struct cluster *c, uint32_t times) {
    uint32_t *count = calloc(c->view.n ? c->view.n : 1, sizeof *count);
    for (uint32_t i = 0; i < times; i++) {
        int at = cluster_pick(c);
        if (at >= 0)
            count[at]++;
    }
    return count;
}

static inline void cluster_eject(struct cluster *c, uint32_t i, uint64_t until) {
    c->stats[i].ejected_until = until;
    mesh_lb_recount(&c->view, c->request.now);
}

#endif
