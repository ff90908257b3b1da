/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/drain.h"

#include <sys/socket.h>

#include "lb/lb.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/conn.h"
#include "shim/engine.h"
#include "shim/pend.h"

enum { BATCH = 64, TORN = 16 };
static const uint64_t EVERY = 100 * MESH_MS;
enum reason { STAYS, TOO_OLD, UNHEALTHY, REMOVED };

_Atomic uint8_t mesh_drain_armed;
static _Atomic uint64_t looked;

const char *mesh_drain_why(const struct mesh_conn *c) {
    static const char *const why[] = {NULL, "max-age", "endpoint-unhealthy", "endpoint-removed"};
    uint8_t reason = atomic_load(&c->drained);
    return reason < MESH_ARRAY_LEN(why) ? why[reason] : NULL;
}

void mesh_drain_begin(struct mesh_conn *c, const struct mesh_route *route) {
    uint64_t age = route->max_age_ms * MESH_MS;
    if (age && route->max_age_jitter)
        age += (uint64_t)(((unsigned __int128)mesh_random() * (age / 100 * route->max_age_jitter + 1)) >> 64);
    c->expires = age ? mesh_now() + age : 0;
    c->drain = c->stat == UINT32_MAX ? 0 : route->drain;
    if (c->expires || c->drain)
        atomic_store(&mesh_drain_armed, 1);
}

static bool is_down(const struct mesh_cluster_view *cv, const struct mesh_endpoint *e) {
    return e->health == MESH_HEALTH_UNHEALTHY || e->health == MESH_HEALTH_TIMEOUT ||
           (e->stat < cv->nstats && mesh_lb_ejected(&cv->stats[e->stat], mesh_now()));
}

static enum reason judge(const struct mesh_cluster_view *cv, const struct mesh_conn *c) {
    for (uint32_t i = 0; i < cv->n; i++)
        if (cv->endpoints[i].stat == c->stat)
            return c->drain & MESH_DRAIN_UNHEALTHY && is_down(cv, &cv->endpoints[i]) ? UNHEALTHY : STAYS;
    return c->drain & MESH_DRAIN_REMOVED ? REMOVED : STAYS;
}

/* What the view says of its endpoint. A cluster that is gone says nothing. */
static enum reason by_view(const struct mesh_view *v, const struct mesh_conn *c) {
    const struct mesh_route whole = {.cluster_id = c->cluster_id,
                                     .cluster_generation = c->cluster_generation};
    for (int i = 0; i < TORN; i++) {
        struct mesh_cluster_view cv;
        uint64_t seq;
        if (mesh_view_cluster(v, &whole, &cv, &seq))
            return STAYS;
        enum reason r = judge(&cv, c);
        if (mesh_view_still(v, seq))
            return r;
    }
    return STAYS;
}

/* As a peer's close, and in that order: ours goes out behind what is accepted already. */
static void end(struct mesh_conn *c, uint32_t slot, int fd, enum reason why) {
    uint8_t none = STAYS;
    if (!atomic_compare_exchange_strong(&c->drained, &none, (uint8_t)why))
        return;
    if (atomic_load(&c->state) == MESH_CONN_RAW) {
        (void)mesh_sys_shutdown(fd, SHUT_RDWR);
        return;
    }
    (void)mesh_tx_finish(c, slot, fd);
    if (mesh_tx_unsent(c))
        mesh_pend_leave(slot);
    mesh_show(c->rx_shut, 1);
    (void)mesh_sys_shutdown(fd, SHUT_RD);
}

static void look_at(const struct mesh_view *v, uint32_t slot, uint64_t now) {
    struct mesh_conn *c = mesh_conn_at(slot);
    uint32_t state = atomic_load(&c->state);
    if ((state != MESH_CONN_OPEN && state != MESH_CONN_RAW) || c->server || atomic_load(&c->drained))
        return;
    enum reason why = c->expires && now >= c->expires ? TOO_OLD : c->drain && v ? by_view(v, c) : STAYS;
    int fd = atomic_load(&mesh_local_at(slot)->fd);
    if (why != STAYS && mesh_conn_owns(slot, fd))
        end(c, slot, fd, why);
}

void mesh_drain_sweep(void) {
    uint32_t slots[BATCH], n, from = 0;
    uint64_t now = mesh_now(), last = atomic_load(&looked);
    if (now - last < EVERY || !atomic_compare_exchange_strong(&looked, &last, now))
        return;
    const struct mesh_view *v = mesh_engine_view(); /* sees to it that a replaced file is seen */
    while ((n = mesh_local_held(slots, from, BATCH))) {
        for (uint32_t i = 0; i < n; i++)
            look_at(v, slots[i], now);
        from += n;
    }
}
