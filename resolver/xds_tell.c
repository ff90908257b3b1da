/* SPDX-License-Identifier: Apache-2.0
 *
 * What the client tells: the published set, what changed of it, and who said it.
 */
#include <stdlib.h>
#include <string.h>
#include "resolver/xds_inner.h"
#include "shim/base/clock.h"

#define ANSWER_MAX (15 * MESH_SEC) /* what has not come by then does not exist */

/* ---- changes ----------------------------------------------------------------------------------------------
 */
static bool realm_answered(const struct mesh_xds *x, const struct xds_realm *r, bool *io_any) {
    struct mesh_ads_info info = mesh_ads_describe(r->links[r->active]->ads);
    bool whole = r == x->realms && x->cache.is_whole[MESH_ADS_LISTENER];
    *io_any = *io_any || info.is_subscribed;
    if (whole)
        return x->cache.is_told[MESH_ADS_LISTENER] && x->cache.is_told[MESH_ADS_CLUSTER];
    return !info.is_subscribed || info.is_answered;
}

static bool servers_answered(const struct mesh_xds *x) {
    bool any = false, all = true;
    for (uint32_t i = 0; i < x->nrealms; i++)
        all = realm_answered(x, &x->realms[i], &any) && all;
    return any && all;
}

static bool is_waiting(const struct mesh_xds *x) {
    if (x->cfg.bootstrap->is_wildcard)
        return x->cache.pending;
    for (const struct mesh_dict_item *w = x->wants.first; w; w = w->next)
        if (mesh_xds_want_state(x, (const struct xds_want *)w) == MESH_XDS_WAITING)
            return true;
    return false;
}

/* Once, and with what was asked for: what stood in for the servers until then may go. */
static bool is_answered(struct mesh_xds *x) {
    if (x->was_answered)
        return true;
    if (!servers_answered(x))
        return false;
    x->answered_at = x->answered_at ? x->answered_at : x->now;
    return x->now - x->answered_at >= ANSWER_MAX || (!x->cache.is_stale && !is_waiting(x));
}

static bool note(struct mesh_xds *x, uint32_t *n, const char *name) {
    if (*n == x->changed_room) {
        uint32_t room = x->changed_room ? x->changed_room * 2 : 16;
        const char **p = realloc(x->changed, room * sizeof(*p));
        if (!p)
            return false;
        x->changed = p;
        x->changed_room = room;
    }
    x->changed[(*n)++] = name;
    return true;
}

/* False: there is no memory for the list, all of it may have changed. */
static bool list_changed(struct mesh_xds *x, uint32_t *ret_n) {
    *ret_n = 0;
    for (const struct mesh_entry *e = x->cache.dirty; e; e = e->next_dirty)
        for (const struct mesh_entry *u = e->users; u; u = u->users)
            if (!note(x, ret_n, u->text))
                return false;
    return true;
}

bool mesh_xds_changed(struct mesh_xds *x, uint64_t now, struct mesh_xds_change *ret, bool *ret_settled) {
    struct mesh_xds_change change = {.answered = is_answered(x)};
    change.all = !x->is_taken ? x->cache.shape || change.answered
                              : x->shape != x->cache.shape || x->was_answered != change.answered;
    if (!change.all)
        change.all = !list_changed(x, &change.nclusters);
    if (change.all)
        change.nclusters = 0;
    change.clusters = x->changed;
    if (!change.all && !change.nclusters)
        return false;
    *ret = change;
    *ret_settled =
        !(x->cfg.bootstrap->is_wildcard ? x->cache.pending : x->cache.changing) && !x->cache.is_stale;
    return true;
}

void mesh_xds_taken(struct mesh_xds *x) {
    x->is_taken = true;
    x->shape = x->cache.shape;
    x->was_answered = is_answered(x);
    mesh_cache_clean(&x->cache);
}

/* ---- resources --------------------------------------------------------------------------------------------
 */
static const struct mesh_form *endpoints_of(const struct mesh_xds *x, const struct mesh_entry *e) {
    for (uint32_t i = 0; i < e->out->ndeps; i++)
        if (e->out->deps[i].type == MESH_ADS_ENDPOINT) {
            const struct mesh_entry *to = mesh_cache_find(&x->cache, MESH_ADS_ENDPOINT, e->out->deps[i].name);
            return to ? to->out : NULL;
        }
    return NULL;
}

static const char *refusal(const struct mesh_xds *x, const struct mesh_entry *e) {
    const struct mesh_form *eds = e->type == MESH_ADS_CLUSTER ? endpoints_of(x, e) : NULL;
    if (e->fault)
        return e->fault;
    return e->out->refused ? e->out->refused : eds ? eds->refused : NULL;
}

static void put(struct mesh_xds *x, const struct mesh_entry *e) {
    static const char *const paths[MESH_ADS_TYPES] = {"CDS", "EDS", "LDS", "RDS", "SDS", "NDS"};
    struct mesh_resource *r = &x->resources.items[x->resources.n++];
    *r = (struct mesh_resource){
        .type = e->out->msg->descriptor,
        .msg = e->out->msg,
        .name = e->text,
        .path = (char *)(uintptr_t)paths[e->type],
        .refused = (char *)(uintptr_t)refusal(x, e),
    };
}

static bool make_room(struct mesh_xds *x) {
    size_t n = 1;
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        n += x->cache.types[i].n;
    if (n <= x->resources_room)
        return true;
    struct mesh_resource *p = realloc(x->resources.items, n * sizeof(*p));
    if (!p)
        return false;
    x->resources.items = p;
    x->resources_room = n;
    return true;
}

const struct mesh_resources *mesh_xds_resources(struct mesh_xds *x) {
    static const enum mesh_ads_type order[] = {MESH_ADS_LISTENER, MESH_ADS_ROUTE, MESH_ADS_CLUSTER,
                                               MESH_ADS_SECRET, MESH_ADS_NAMES};
    x->resources.n = 0;
    if (!make_room(x))
        return NULL;
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
        for (struct mesh_entry *e = mesh_cache_first(&x->cache, order[i]); e; e = mesh_cache_next(e))
            if (mesh_closure_shows(&x->cache, e))
                put(x, e);
    return &x->resources;
}

bool mesh_xds_assignment(const struct mesh_xds *x, const char *cluster, const uint8_t **ret_p,
                         size_t *ret_n) {
    const struct mesh_entry *e = mesh_cache_find(&x->cache, MESH_ADS_CLUSTER, cluster);
    const struct mesh_form *f = e && mesh_closure_shows(&x->cache, e) ? endpoints_of(x, e) : NULL;
    if (!f || !f->bytes)
        return false;
    *ret_p = f->bytes;
    *ret_n = f->n;
    return true;
}

const ProtobufCMessage *mesh_xds_cluster(const struct mesh_xds *x, const char *name) {
    const struct mesh_entry *e = mesh_cache_find(&x->cache, MESH_ADS_CLUSTER, name);
    return e && mesh_closure_shows(&x->cache, e) && !refusal(x, e) ? e->out->msg : NULL;
}

/* ---- for people -------------------------------------------------------------------------------------------
 */
static bool is_active(const struct mesh_xds *x, const struct xds_link *l) {
    for (uint32_t i = 0; i < x->nrealms; i++)
        if (x->realms[i].links[x->realms[i].active] == l)
            return true;
    return false;
}

void mesh_xds_each_server(const struct mesh_xds *x,
                          void (*fn)(void *arg, const struct mesh_xds_server_info *s), void *arg) {
    for (const struct xds_link *l = x->links; l; l = l->next) {
        struct mesh_ads_info ads = mesh_ads_describe(l->ads);
        struct mesh_xds_server_info info = {.uri = l->server->uri,
                                            .authority = l->authority,
                                            .is_active = is_active(x, l),
                                            .acks = ads.acks,
                                            .nacks = ads.nacks};
        if (!l->users)
            continue;
        if (l->ch)
            x->cfg.transport->describe(l->ch, &info.channel);
        fn(arg, &info);
    }
}

void mesh_xds_each_resource(const struct mesh_xds *x,
                            void (*fn)(void *arg, const struct mesh_xds_resource_info *r), void *arg) {
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        for (const struct mesh_entry *e = mesh_cache_first(&x->cache, i); e; e = mesh_cache_next(e)) {
            const struct mesh_form *f = e->now ? e->now : e->out;
            fn(arg, &(struct mesh_xds_resource_info){
                        .type_url = mesh_ads_type_url(e->type),
                        .name = e->text,
                        .version = f && f->bytes && e->version ? e->version : "",
                        .status = e->status,
                        .updated_wall = e->updated,
                        .bytes = f ? f->bytes : NULL,
                        .n = f ? f->n : 0,
                        .error = e->error,
                        .error_version = e->error_version,
                    });
        }
}
