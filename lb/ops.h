/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside lb/: how a pick is put together. A pick narrows the cluster to one *pool* (the members of one
 * priority in one state of health, lb/priority.c), then a policy draws from it through `struct lb_ops`.
 *
 * Pools lie ready in the table that the publisher built beside the endpoints (lb/table.h), so the usual pick
 * looks at one or two of them and no more. What is live can disturb it: ejections, endpoints that this dial
 * tried, slow start. Then a cluster of at most LB_FEW endpoints is gathered afresh on the caller's stack
 * (lb/few.c): its pool holds only members that may be picked now, with the weights of now, so every policy is
 * exact. In a larger one a drawn member may turn out to be ejected or tried; the driver draws again, up to
 * LB_DRAWS times, and after that scans (lb/pick.c).
 *
 * All of it reads memory that may be torn: counts and indices are bounded where they are used, loops by
 * constants or by the view's n. Threads: any; nothing here allocates or locks.
 */
#ifndef MESH_LB_OPS_H
#define MESH_LB_OPS_H

#include "lb/lb.h"

enum {
    LB_FEW = 32,         /* endpoints that a disturbed pick gathers: some 200 ns */
    LB_PRIORITIES = 128, /* xDS allows 0..128; higher ones count as the last */
    LB_DRAWS = 16,       /* with half the pool ejected, one pick in 65,536 comes to the scan */
};

enum lb_class { LB_HEALTHY, LB_DEGRADED, LB_UNHEALTHY, LB_ABSENT /* family out of reach */ };
enum lb_set { LB_SET_HEALTHY, LB_SET_DEGRADED, LB_SET_ALL /* panic */, LB_SETS };

struct lb_member {
    uint32_t endpoint; /* index in the cluster */
    uint32_t stat;     /* index in the view's counters */
};

struct lb_locality { /* a run of members that share one, in a pool weighed by locality */
    uint32_t first, n;
    uint32_t hosts;  /* endpoints in reach, whatever their health */
    uint32_t weight; /* locality_weight */
    uint32_t id;
    uint32_t equal; /* its members weigh the same */
};

struct lb_pool {
    const struct lb_member *members;
    const uint64_t *cum; /* running sums of the members' weights, NULL: all weigh the same */
    const struct lb_locality *localities;
    uint32_t nlocalities; /* 0: not weighed by locality */
    uint32_t n;           /* >= 1 */
    uint32_t priority;
    enum lb_set set;
    uint64_t base;   /* the running sum before the first member */
    uint64_t stride; /* coprime to the total weight; 0: not worked out yet */
};

struct lb_ask { /* one pick */
    const struct mesh_cluster_view *c;
    const struct mesh_lb_request *r;
    struct mesh_policy policy; /* a copy: read once */
    uint64_t rng;
    bool any_ejected;
    bool barred; /* panic, and the policy wants nobody then */
    bool wheel;  /* the policy hashes, */
    bool hashed; /* and the request has a hash */
};

struct lb_ops {
    const char *name; /* as users write it */
    /* Draws a member; `draw` counts the draws of this pick from 0. Returns 0 or MESH_E_NOENDPOINT (nothing to
     * draw from; the driver scans). The member is in the pool, or for consistent hashing in the cluster. */
    int (*pick)(struct lb_ask *a, const struct lb_pool *p, unsigned draw, struct lb_member *ret);
};

extern const struct lb_ops mesh_lb_round_robin, mesh_lb_random, mesh_lb_least_request, mesh_lb_ring_hash,
    mesh_lb_maglev, mesh_lb_pick_first, mesh_lb_peak_ewma;

/* The ops of a policy; round robin's for a number that is none. */
const struct lb_ops *mesh_lb_ops_of(uint8_t policy);

/* ---- draws
 * -------------------------------------------------------------------------------------------------- */
/* 64 fresh random bits (splitmix64 over the request's). */
static inline uint64_t lb_random(struct lb_ask *a) {
    uint64_t z = (a->rng += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
/* Maps 64 random bits to 0..n-1. */
static inline uint64_t lb_scale(uint64_t random, uint64_t n) {
    return (uint64_t)(((unsigned __int128)random * n) >> 64);
}
/* The member at a point 0..total-1 of the summed weights. */
uint32_t mesh_lb_pool_at(const struct lb_pool *p, uint64_t point);
static inline uint64_t lb_pool_total(const struct lb_pool *p) {
    return p->cum ? p->cum[p->n - 1] - p->base : p->n;
}
/* A member by weight, at random. */
static inline uint32_t lb_pool_draw(struct lb_ask *a, const struct lb_pool *p) {
    uint64_t total = lb_pool_total(p);
    return p->cum ? mesh_lb_pool_at(p, lb_scale(lb_random(a), total))
                  : (uint32_t)lb_scale(lb_random(a), p->n);
}
/* A step coprime to `total`, near the golden section of it: multiples of it visit every point once in `total`
 * steps, and any few successive ones are far apart. */
uint64_t mesh_lb_stride(uint64_t total);

/* The point 0..99 that decides among priorities: Envoy's, from the hash when there is one, so that a key
 * stays. */
static inline uint32_t lb_percent(struct lb_ask *a) {
    return a->hashed ? (uint32_t)(a->r->hash % 100) : (uint32_t)lb_scale(lb_random(a), 100);
}

/* ---- who may be picked
 * ---------------------------------------------------------------------------------------- */
static inline uint8_t lb_priority(const struct mesh_endpoint *e) {
    return e->priority < LB_PRIORITIES ? e->priority : LB_PRIORITIES - 1;
}
static inline bool lb_in_set(uint8_t class, enum lb_set set) {
    if (set == LB_SET_ALL)
        return class != LB_ABSENT;
    return class == (set == LB_SET_HEALTHY ? LB_HEALTHY : LB_DEGRADED);
}
enum lb_class mesh_lb_class_of(const struct mesh_endpoint *e, uint8_t families);
static inline struct mesh_stat *lb_stat(const struct mesh_cluster_view *c, uint32_t stat) {
    return stat < c->nstats ? &c->stats[stat] : NULL;
}
static inline uint32_t lb_inflight(const struct lb_ask *a, uint32_t stat) {
    struct mesh_stat *s = lb_stat(a->c, stat);
    return s ? atomic_load_explicit(&s->inflight, memory_order_relaxed) : UINT32_MAX;
}
static inline bool lb_tried(const struct lb_ask *a, uint32_t stat) {
    uint32_t n = a->r->ntried < MESH_LB_TRIED_MAX ? a->r->ntried : MESH_LB_TRIED_MAX;
    for (uint32_t i = 0; i < n; i++)
        if (a->r->tried[i] == stat)
            return true;
    return false;
}
static inline bool lb_out(const struct lb_ask *a, uint32_t stat) {
    struct mesh_stat *s = lb_stat(a->c, stat);
    return !s || (a->any_ejected && mesh_lb_ejected(s, a->r->now));
}
/* Has it as many connections as one host may have? Envoy refuses there; here others are tried first. */
static inline bool lb_full(const struct lb_ask *a, uint32_t stat) {
    return a->policy.max_host_connections != UINT32_MAX &&
           lb_inflight(a, stat) >= a->policy.max_host_connections;
}
static inline bool lb_usable(const struct lb_ask *a, const struct lb_member *m) {
    return m->endpoint < a->c->n && !lb_out(a, m->stat) && !lb_tried(a, m->stat) && !lb_full(a, m->stat);
}

/* ---- priorities (lb/priority.c)
 * --------------------------------------------------------------------------------- */
struct lb_level {
    uint32_t hosts, healthy, degraded; /* reachable ones; an ejected one is neither healthy nor degraded */
};
struct lb_loads {
    uint8_t healthy[LB_PRIORITIES], degraded[LB_PRIORITIES]; /* percent of the traffic; all together 100 */
    bool panic[LB_PRIORITIES];
};
/* Envoy's distribution of traffic over priorities. False: nobody is healthy or degraded. */
bool mesh_lb_loads(const struct lb_level *levels, uint32_t n, uint32_t overprovisioning,
                   uint32_t panic_percent, struct lb_loads *ret);
/* The (priority, set) at a point 0..99 of these loads; LB_SETS: in panic, and the policy wants nobody then.
 * False: nobody is healthy or degraded. */
bool mesh_lb_level_choose(const struct lb_level *levels, uint32_t n, const struct mesh_policy *p,
                          uint32_t percent, uint32_t *ret_priority, enum lb_set *ret_set);

/* ---- pools
 * ------------------------------------------------------------------------------------------------------ */
struct lb_few { /* room for a gathered pool */
    struct lb_member members[LB_FEW];
    uint64_t cum[LB_FEW];
    uint8_t class[LB_FEW], priority[LB_FEW];
    union {
        struct lb_level levels[LB_PRIORITIES];
        struct lb_locality localities[LB_FEW]; /* after the priority is chosen */
    };
};
/* Gathers the pool of a cluster of at most LB_FEW endpoints. MESH_E_NOENDPOINT: none that may be picked now.
 */
int mesh_lb_few_pool(struct lb_ask *a, struct lb_few *room, struct lb_pool *ret_pool) MESH_MUST_CHECK;

/* ---- slow start (lb/slow_start.c)
 * ------------------------------------------------------------------------------- */
/* The part of its weight that an endpoint has by now, 0..1: max(least, (age / window)^(1 / aggression)). */
double mesh_lb_slow_start(const struct mesh_endpoint *e, const struct mesh_policy *p, uint64_t now);
/* An endpoint's weight now: its own without slow start, else in 1/1024 of it, at least 1. */
uint64_t mesh_lb_weight(const struct mesh_endpoint *e, const struct mesh_policy *p, uint64_t now);

/* ---- localities (lb/locality.c)
 * ---------------------------------------------------------------------------------- */
/* Turns running sums of plain weights into those of locality shares. `members` and `cum` lie in the order of
 * `l`'s runs; those of localities without a share are dropped from all three. Returns how many members are
 * left; 0, and nothing changed: no locality has a weight. */
uint32_t mesh_lb_localities_apply(struct lb_locality *l, uint32_t *io_n, uint32_t overprovisioning,
                                  struct lb_member *members, uint64_t *cum);
/* The pool of one locality, drawn by weight; p->nlocalities > 0. */
struct lb_pool mesh_lb_locality_draw(struct lb_ask *a, const struct lb_pool *p);

/* ---- ejection (lb/outlier.c)
 * ------------------------------------------------------------------------------------ */
/* Ejects an endpoint if the policy's share and the health of the others allow. */
void mesh_lb_eject(const struct mesh_cluster_view *c, const struct mesh_policy *p, uint32_t stat,
                   uint64_t now);
/* Chance of an enforcing_ percentage. */
bool mesh_lb_enforced(uint32_t percent, uint32_t stat, uint64_t now);
/* Length of an ejection, its multiplier given (1 the first time), without jitter. ns. */
uint64_t mesh_lb_ejection_time(const struct mesh_policy *p, uint32_t multiplier);

/* ---- success rate and failure percentage (lb/success_rate.c)
 * ------------------------------------------------------ */
/* Counts one report in its interval; the first report of an interval judges the one before. */
void mesh_lb_window_count(const struct mesh_cluster_view *c, const struct mesh_policy *p, uint32_t stat,
                          bool good, uint64_t now);
/* Is a success rate below mean - stdev * factor / 1000 of all, their number, sum and sum of squares given
 * (percent)? */
bool mesh_lb_success_below(double rate, uint32_t n, double sum, double squares, uint32_t factor);

/* Peak EWMA of a latency (lb/latency.c): a sample above the average replaces it, one below pulls it down by
 * 1 - exp(-elapsed / 10 s). us. */
uint32_t mesh_lb_latency_after(uint32_t average, uint32_t sample, uint64_t elapsed_ns);

#endif
