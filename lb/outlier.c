/* SPDX-License-Identifier: Apache-2.0
 *
 * Ejection. There is no timer and no lock: an endpoint is out while ejected_until lies ahead, and whoever
 * ejects marks first, then counts, and takes the mark back when the count says that it was too many. Two that
 * eject at once see each other's marks, so at worst both take theirs back; one killed in between leaves a
 * mark that runs out.
 *
 * Length = min(base * multiplier, max(base, max)) + jitter. The multiplier grows by one with each ejection
 * and falls by one with each interval in which the endpoint was not out (Envoy's detector does the same at
 * its timer).
 *
 * Share: a further ejection is allowed while (ejected + 1) / n <= max_ejection_percent, and the first one
 * always with always_eject_one. Beyond Envoy: the last healthy (or degraded) endpoint is never ejected.
 */
#include "lb/ops.h"
#include "shim/base/clock.h"

enum { RECOUNTS = 4, LIVE_PRIORITIES = 5 };

struct tally {
    uint32_t ejected; /* healthy or degraded by the view, and out */
    uint32_t left;    /* healthy or degraded, and not out */
    bool known;       /* the endpoint asked for is one of them */
    uint64_t first_end;
    uint32_t healthy[LIVE_PRIORITIES], degraded[LIVE_PRIORITIES];
};

bool mesh_lb_ejected(const struct mesh_stat *s, uint64_t now) {
    return atomic_load_explicit(&s->ejected_until, memory_order_relaxed) > now;
}

uint64_t mesh_lb_ejection_time(const struct mesh_policy *p, uint32_t multiplier) {
    uint64_t most = p->max_ejection_ms > p->base_ejection_ms ? p->max_ejection_ms : p->base_ejection_ms;
    uint64_t ms = (uint64_t)p->base_ejection_ms * multiplier;
    return (ms < most ? ms : most) * MESH_MS;
}

static void count_one(struct tally *t, const struct mesh_endpoint *e, enum lb_class class, uint64_t until,
                      uint64_t now) {
    if (until <= now) {
        t->left++;
        return;
    }
    t->ejected++;
    if (until < t->first_end)
        t->first_end = until;
    if (e->priority >= LIVE_PRIORITIES)
        return;
    if (class == LB_HEALTHY)
        t->healthy[e->priority]++;
    else
        t->degraded[e->priority]++;
}

static struct tally count_all(const struct mesh_cluster_view *c, uint32_t stat, uint64_t now) {
    struct tally t = {.first_end = UINT64_MAX};
    for (uint32_t i = 0; i < c->n; i++) {
        const struct mesh_endpoint *e = &c->endpoints[i];
        struct mesh_stat *s = lb_stat(c, e->stat);
        enum lb_class class = mesh_lb_class_of(e, 3);
        if (!s || class > LB_DEGRADED)
            continue;
        if (e->stat == stat)
            t.known = true;
        count_one(&t, e, class, atomic_load(&s->ejected_until), now);
    }
    return t;
}

static uint16_t cut(uint32_t n) {
    return n < UINT16_MAX ? (uint16_t)n : UINT16_MAX;
}

static void store(struct mesh_cluster_stat *live, const struct tally *t) {
    for (uint32_t p = 0; p < LIVE_PRIORITIES; p++) {
        atomic_store_explicit(&live->out_healthy[p], cut(t->healthy[p]), memory_order_relaxed);
        atomic_store_explicit(&live->out_degraded[p], cut(t->degraded[p]), memory_order_relaxed);
    }
    atomic_store(&live->recount_at, t->first_end);
    atomic_store(&live->ejected, t->ejected);
}

void mesh_lb_recount(const struct mesh_cluster_view *c, uint64_t now) {
    for (int i = 0; i < RECOUNTS; i++) {
        uint32_t marks = atomic_load(&c->limits->marks);
        struct tally t = count_all(c, UINT32_MAX, now);
        store(c->live, &t);
        if (c->live != c->limits)
            atomic_store(&c->live->marks, marks);
        if (atomic_load(&c->limits->marks) == marks)
            return;
    }
    mesh_lb_recount_later(c->live); /* others are at it */
}

void mesh_lb_recount_later(struct mesh_cluster_stat *live) {
    atomic_store(&live->recount_at, 0);
    atomic_store(&live->ejected, 1);
}

/* How often it was ejected, less one for each interval since. */
static uint32_t still_remembered(const struct mesh_stat *s, const struct mesh_policy *p, uint64_t until,
                                 uint64_t now) {
    uint32_t times = atomic_load(&s->ejections);
    uint64_t interval = p->interval_ms ? p->interval_ms * MESH_MS : MESH_MS;
    uint64_t healthy = (now - until) / interval;
    return healthy < times ? times - (uint32_t)healthy : 0;
}

bool mesh_lb_enforced(uint32_t percent, uint32_t stat, uint64_t now) {
    struct lb_ask a = {.rng = now ^ ((uint64_t)stat << 40)};
    return lb_scale(lb_random(&a), 100) < percent;
}

static uint64_t jitter(const struct mesh_policy *p, uint32_t stat, uint64_t now) {
    if (!p->max_ejection_jitter_ms)
        return 0;
    struct lb_ask a = {.rng = now ^ ((uint64_t)stat << 32)};
    return lb_scale(lb_random(&a), p->max_ejection_jitter_ms * MESH_MS);
}

static bool allowed(const struct tally *t, const struct mesh_policy *p, uint32_t n) {
    if (!t->known || !t->left)
        return false;
    if (t->ejected == 1 && p->always_eject_one)
        return true;
    return (uint64_t)t->ejected * 100 <= (uint64_t)p->max_ejection_percent * n;
}

void mesh_lb_eject(const struct mesh_cluster_view *c, const struct mesh_policy *p, uint32_t stat,
                   uint64_t now) {
    struct mesh_stat *s = lb_stat(c, stat);
    if (!s)
        return;
    uint64_t before = atomic_load(&s->ejected_until);
    if (before > now) {
        if (!atomic_load(&c->live->ejected))
            mesh_lb_recount(c, now); /* picked all the same: the count was lost */
        return;
    }
    uint32_t times = still_remembered(s, p, before, now) + 1;
    uint64_t until = now + mesh_lb_ejection_time(p, times) + jitter(p, stat, now);
    if (!atomic_compare_exchange_strong(&s->ejected_until, &before, until))
        return;
    atomic_fetch_add(&c->live->marks, 1);
    struct tally t = count_all(c, stat, now);
    if (allowed(&t, p, c->n)) {
        atomic_store(&s->ejections, times);
    } else {
        atomic_compare_exchange_strong(&s->ejected_until, &until, before);
        atomic_fetch_add(&c->live->marks, 1);
    }
    mesh_lb_recount(c, now);
}
