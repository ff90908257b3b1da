/* SPDX-License-Identifier: Apache-2.0
 *
 * The pick: limits first, then a pool, then the policy's draws, and a scan of everything when those find
 * nobody.
 */
#include <stdio.h>
#include "lb/table.h"
#include "shim/base/mem.h"

enum lb_class mesh_lb_class_of(const struct mesh_endpoint *e, uint8_t families) {
    if (!(families & (e->family == 6 ? 2 : 1)))
        return LB_ABSENT;
    switch (e->health) {
    case MESH_HEALTH_UNKNOWN:
    case MESH_HEALTH_HEALTHY:
        return LB_HEALTHY;
    case MESH_HEALTH_DEGRADED:
        return LB_DEGRADED;
    default:
        return LB_UNHEALTHY;
    }
}

static uint32_t now_of(const _Atomic uint32_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* retry_budget, Envoy's: so much of the connections in flight, dials included, but no fewer than its minimum.
 */
static const char *retry_refusal(const struct mesh_policy *p, const struct mesh_cluster_stat *live) {
    uint32_t retries = now_of(&live->retries);
    if (p->retry_min == UINT32_MAX)
        return retries >= p->max_retries ? "max_retries" : NULL;
    uint64_t most = (uint64_t)now_of(&live->inflight) * p->retry_budget / 10000;
    return retries >= (most > p->retry_min ? most : p->retry_min) ? "retry_budget" : NULL;
}

/* Breakers and drop_overload; a dial is dropped once at most, at its first attempt. */
static const char *refusal(struct lb_ask *a) {
    struct mesh_cluster_stat *live = a->c->limits;
    const struct mesh_policy *p = &a->policy;
    if (now_of(&live->inflight) >= p->max_connections)
        return "max_connections";
    if (now_of(&live->pending) >= p->max_pending)
        return "max_pending_requests";
    if (a->r->attempt)
        return retry_refusal(p, live);
    if (p->drop_per_million && lb_scale(a->r->random, 1000000) < p->drop_per_million)
        return "drop_overload";
    return NULL;
}

struct remains { /* what a scan of the whole cluster found */
    bool any;    /* endpoints in reach */
    bool full;   /* some that may be used have as many connections as a host may have */
    uint32_t rank, ties;
    uint32_t endpoint;
};

/* Best first: healthy by priority, degraded by priority, then the same of ejected ones, then of those tried
 * already. UINT32_MAX: never. */
static uint32_t rank_of(const struct lb_ask *a, const struct mesh_endpoint *e, enum lb_class class) {
    if (class > LB_DEGRADED || !lb_stat(a->c, e->stat))
        return UINT32_MAX;
    bool tried = lb_tried(a, e->stat);
    if (tried && a->r->attempt)
        return UINT32_MAX;
    return (uint32_t)tried << 10 | (uint32_t)lb_out(a, e->stat) << 9 | (uint32_t)(class == LB_DEGRADED) << 8 |
           e->priority;
}

static struct remains scan(struct lb_ask *a) {
    struct remains best = {.rank = UINT32_MAX};
    for (uint32_t i = 0; i < a->c->n; i++) {
        const struct mesh_endpoint *e = &a->c->endpoints[i];
        enum lb_class class = mesh_lb_class_of(e, a->r->families);
        if (class == LB_ABSENT)
            continue;
        best.any = true;
        uint32_t rank = rank_of(a, e, class);
        if (rank > best.rank || rank == UINT32_MAX)
            continue;
        if (lb_full(a, e->stat)) {
            best.full = true;
            continue;
        }
        best.ties = rank < best.rank ? 1 : best.ties + 1;
        best.rank = rank;
        if (best.ties == 1 || lb_scale(lb_random(a), best.ties) == 0)
            best.endpoint = i;
    }
    return best;
}

/* Pools hold members in reach; a wheel holds those of all families. */
static bool in_reach(const struct lb_ask *a, const struct lb_member *m) {
    return !a->wheel || mesh_lb_class_of(&a->c->endpoints[m->endpoint], a->r->families) != LB_ABSENT;
}

/* In a large cluster, whose weights know nothing of slow start: is a newcomer passed over this time? */
static bool too_young(struct lb_ask *a, const struct lb_member *m) {
    if (!a->policy.slow_start_ms || a->c->n <= LB_FEW || a->wheel)
        return false;
    double part = mesh_lb_slow_start(&a->c->endpoints[m->endpoint], &a->policy, a->r->now);
    return part < 1 && (double)(lb_random(a) >> 11) * 0x1p-53 >= part;
}

static int draw(struct lb_ask *a, const struct lb_pool *p, struct lb_member *ret) {
    const struct lb_ops *ops = mesh_lb_ops_of(a->policy.policy);
    int err = MESH_E_NOENDPOINT;
    for (unsigned i = 0; i < LB_DRAWS; i++) {
        struct lb_member m;
        if (ops->pick(a, p, i, &m) < 0)
            return err;
        if (!lb_usable(a, &m) || !in_reach(a, &m))
            continue;
        *ret = m; /* one that is too young is better than none */
        err = 0;
        if (!too_young(a, &m))
            break;
    }
    return err;
}

/* Would the ready pools do injustice: are some out, tried, or not yet of full weight? */
static bool disturbed(const struct lb_ask *a) {
    return a->any_ejected || a->r->ntried || a->policy.slow_start_ms ||
           a->policy.max_host_connections != UINT32_MAX;
}

static void explain(const struct lb_ask *a, const struct lb_pool *p, struct mesh_why *why) {
    static const char *const sets[] = {"", ", degraded ones", ", all of them: panic"};
    char hash[32] = "";
    if (a->hashed)
        snprintf(hash, sizeof hash, ", hash %016llx", (unsigned long long)a->r->hash);
    mesh_why(why, 0, "%s over %u of %u endpoints, priority %u%s%s%s", mesh_lb_policy_name(a->policy.policy),
             p->n, a->c->n, p->priority, p->set < LB_SETS ? sets[p->set] : "",
             a->any_ejected ? ", without the ejected" : "", hash);
}

static int pick_from_pool(struct lb_ask *a, struct lb_member *ret, struct mesh_why *why) {
    struct lb_few room;
    struct lb_pool pool;
    bool few = a->c->n <= LB_FEW;
    int err = few && disturbed(a) ? MESH_E_NOENDPOINT : mesh_lb_many_pool(a, &pool);
    if (err && few)
        err = mesh_lb_few_pool(a, &room, &pool);
    if (!err)
        err = draw(a, &pool, ret);
    if (!err && why)
        explain(a, &pool, why);
    return err;
}

static int trip(const struct lb_ask *a, struct mesh_why *why, const char *limit) {
    atomic_fetch_add_explicit(&a->c->limits->overflow, 1, memory_order_relaxed);
    return mesh_why(why, MESH_E_OVERLOAD, "%s", limit);
}

static int pick_from_remains(struct lb_ask *a, uint32_t *ret_index, struct mesh_why *ret_why) {
    struct remains best = scan(a);
    if (!best.any && a->c->n)
        return mesh_why(ret_why, MESH_E_FAMILY, "none of %u endpoints is of a reachable family", a->c->n);
    if (best.rank == UINT32_MAX && best.full)
        return trip(a, ret_why, "per_host_thresholds.max_connections");
    if (best.rank == UINT32_MAX)
        return mesh_why(ret_why, MESH_E_NOENDPOINT, "none of %u endpoints may be used", a->c->n);
    *ret_index = best.endpoint;
    struct mesh_why *why = a->r->want_why ? ret_why : NULL;
    return mesh_why(why, 0, "the rest: priority %u%s%s%s", best.rank & 255,
                    best.rank & 256 ? ", degraded" : "", best.rank & 512 ? ", ejected" : "",
                    best.rank & 1024 ? ", tried before" : "");
}

/* Is anybody ejected? The counts are made anew when an ejection has ended, and those of a subset when its
 * cluster's marks have moved. */
static bool ejections_known(const struct mesh_cluster_view *c, uint64_t now) {
    if (!now_of(&c->limits->ejected))
        return false;
    bool subset = c->live != c->limits;
    if (now >= atomic_load_explicit(&c->live->recount_at, memory_order_relaxed) ||
        (subset && now_of(&c->live->marks) != now_of(&c->limits->marks)))
        mesh_lb_recount(c, now);
    return !subset || now_of(&c->live->ejected);
}

int mesh_lb_pick(const struct mesh_cluster_view *c, const struct mesh_lb_request *r, uint32_t *ret_index,
                 struct mesh_why *ret_why) {
    struct mesh_why *why = r->want_why ? ret_why : NULL;
    struct lb_ask a = {.c = c, .r = r, .policy = *c->policy, .rng = r->random};
    a.wheel = a.policy.policy == MESH_LB_RING_HASH || a.policy.policy == MESH_LB_MAGLEV;
    a.hashed = a.wheel && r->has_hash;
    if (a.hashed)
        a.rng = r->hash; /* what is left to chance stays the same for a key */
    struct lb_member m;
    const char *limit = refusal(&a);
    if (limit)
        return trip(&a, ret_why, limit);
    a.any_ejected = ejections_known(c, r->now);
    int err = pick_from_pool(&a, &m, why);
    if (err < 0 && a.barred)
        return mesh_why(ret_why, MESH_E_NOENDPOINT, "panic, and fail_traffic_on_panic");
    if (err < 0)
        return pick_from_remains(&a, ret_index, ret_why);
    *ret_index = m.endpoint;
    return 0;
}
