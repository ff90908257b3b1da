/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/cluster.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COPY_TRIES = 100,
    DRAWS = 10000, /* weights that sum to more than this are shown reduced */
};

void mesh_ctl_address(const struct mesh_endpoint *e, char *ret_text, size_t cap) {
    char ip[INET6_ADDRSTRLEN] = "?";
    bool six = e->family == 6;
    inet_ntop(six ? AF_INET6 : AF_INET, e->addr, ip, sizeof ip);
    snprintf(ret_text, cap, six ? "[%s]:%u" : "%s:%u", ip, e->port);
}

static const char *health_name(uint8_t health) {
    static const char *const names[] = {"unknown", "healthy", "unhealthy", "draining", "timeout", "degraded"};
    return health < sizeof names / sizeof names[0] ? names[health] : "unknown";
}

static void copy_stat(const struct mesh_stat *from, struct mesh_ctl_endpoint *to) {
    to->inflight = atomic_load(&from->inflight);
    to->failures_in_row = atomic_load(&from->failures_in_row);
    to->latency_us = atomic_load(&from->latency_us);
    to->connects = atomic_load(&from->connects);
    to->failures = atomic_load(&from->failures);
    to->ejections = atomic_load(&from->ejections);
    to->ejected_until = atomic_load(&from->ejected_until);
}

static void copy_limits(const struct mesh_cluster_view *c, struct mesh_ctl_cluster *ret) {
    ret->inflight = atomic_load(&c->limits->inflight);
    ret->pending = atomic_load(&c->limits->pending);
    ret->retries = atomic_load(&c->limits->retries);
    ret->overflow = atomic_load(&c->limits->overflow);
    ret->max_connections = c->policy->max_connections;
    ret->max_pending = c->policy->max_pending;
    ret->max_retries = c->policy->max_retries;
    ret->max_host_connections = c->policy->max_host_connections;
}

static int copy_once(const struct mesh_view *v, const struct mesh_route *r, struct mesh_ctl_cluster *ret) {
    struct mesh_cluster_view c;
    uint64_t seq;
    int err = mesh_view_cluster(v, r, &c, &seq);
    if (err < 0)
        return err;
    ret->n = c.n;
    ret->policy = c.policy->policy;
    copy_limits(&c, ret);
    ret->endpoints = calloc(c.n + 1u, sizeof *ret->endpoints);
    if (!ret->endpoints)
        return MESH_E_NOMEM;
    for (uint32_t i = 0; i < c.n; i++) {
        struct mesh_ctl_endpoint *to = &ret->endpoints[i];
        mesh_ctl_address(&c.endpoints[i], to->address, sizeof to->address);
        to->health = health_name(c.endpoints[i].health);
        to->weight = c.endpoints[i].weight;
        to->priority = c.endpoints[i].priority;
        if (c.endpoints[i].stat < c.nstats)
            copy_stat(&c.stats[c.endpoints[i].stat], to);
    }
    return mesh_view_still(v, seq) ? 0 : MESH_E_AGAIN;
}

int mesh_ctl_cluster_copy(const struct mesh_view *v, const struct mesh_route *r,
                          struct mesh_ctl_cluster *ret) {
    int err = MESH_E_AGAIN;
    memset(ret, 0, sizeof *ret);
    memcpy(ret->name, r->cluster, sizeof ret->name);
    for (int i = 0; i < COPY_TRIES && err == MESH_E_AGAIN; i++) {
        mesh_ctl_cluster_done(ret);
        err = copy_once(v, r, ret);
    }
    if (err < 0)
        mesh_ctl_cluster_done(ret);
    return err;
}

void mesh_ctl_cluster_done(struct mesh_ctl_cluster *c) {
    free(c->endpoints);
    c->endpoints = NULL;
    c->n = 0;
}

static struct mesh_ctl_split *find(struct mesh_ctl_split *list, int n, const char *cluster) {
    for (int i = 0; i < n; i++)
        if (strcmp(list[i].route.cluster, cluster) == 0)
            return &list[i];
    return NULL;
}

/* The draw is random modulo the sum of weights, cluster after cluster: consecutive numbers show each cluster
 * as often as it weighs, until the first one comes again. */
int mesh_ctl_splits(const struct mesh_view *v, const char *name, uint16_t port,
                    struct mesh_ctl_split ret[MESH_CTL_SPLITS_MAX]) {
    struct mesh_route r;
    int n = 0;
    const struct mesh_ctl_split *last = NULL;
    for (uint64_t draw = 0; draw < DRAWS; draw++) {
        int err = mesh_view_route_name(v, name, port, draw, &r);
        if (err < 0)
            return err;
        struct mesh_ctl_split *s = find(ret, n, r.cluster);
        if (s && s == ret && last != ret)
            break;
        if (!s && n == MESH_CTL_SPLITS_MAX)
            break;
        if (!s) {
            s = &ret[n++];
            s->route = r;
            s->weight = 0;
        }
        s->weight++;
        last = s;
    }
    if (n == 1)
        ret[0].weight = 1;
    return n;
}
