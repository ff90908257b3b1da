/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "resolver/xds_inner.h"
#include "shim/base/clock.h"
#include "shim/base/trace.h"

enum { CODE_NOT_FOUND = 5, CODE_PERMISSION_DENIED = 7 };

struct xds_realm *mesh_xds_realm_of(struct mesh_xds *x, const char *name) {
    const struct mesh_xds_authority *a = NULL;
    if (mesh_bootstrap_authority(x->cfg.bootstrap, name, &a))
        return NULL;
    return a ? &x->realms[1 + (a - x->cfg.bootstrap->authorities)] : &x->realms[0];
}

/* Do this link's answers count for the name? */
static bool counts(const struct xds_link *l, const char *name) {
    const struct xds_realm *r = mesh_xds_realm_of(l->x, name);
    return r && r->links[r->active] == l;
}

static struct mesh_entry *entry_of(const struct xds_link *l, enum mesh_ads_type type, const char *name) {
    return counts(l, name) ? mesh_cache_find(&l->x->cache, type, name) : NULL;
}

/* ---- what the protocol tells ------------------------------------------------------------------------------
 */
static int on_send(void *arg, const uint8_t *p, size_t n) {
    struct xds_link *l = arg;
    return l->x->cfg.transport->send(l->ch, p, n);
}

static void on_restart(void *arg, const char *why) {
    struct xds_link *l = arg;
    l->x->cfg.transport->restart(l->ch, why);
}

static int on_offer(void *arg, enum mesh_ads_type type, const char *name, struct mesh_bytes value,
                    struct mesh_bytes version, struct mesh_why *why) {
    struct xds_link *l = arg;
    struct mesh_cache *c = &l->x->cache;
    if (!counts(l, name))
        return 0;
    struct mesh_entry *e = c->is_whole[type] ? mesh_cache_get(c, type, name) : mesh_cache_find(c, type, name);
    struct mesh_offer offer = {value, version, mesh_wall(), l->server->fails_on_data_errors};
    if (!e)
        return c->is_whole[type] ? MESH_E_NOMEM : 0;
    return mesh_cache_offer(c, e, &offer, why);
}

/* Make before break: but for a listener, which nothing leads to, it stays while something that is out names
 * it. */
static void gone(struct xds_link *l, struct mesh_entry *e, enum mesh_xds_status status) {
    bool fails = l->server->fails_on_data_errors;
    mesh_cache_gone(&l->x->cache, e, status, l->server->keeps_deleted && !fails,
                    e->type != MESH_ADS_LISTENER && !fails);
}

static void on_removed(void *arg, enum mesh_ads_type type, const char *name) {
    struct mesh_entry *e = entry_of(arg, type, name);
    if (e)
        gone(arg, e, MESH_XDS_DOES_NOT_EXIST);
}

static void on_failed(void *arg, enum mesh_ads_type type, const char *name, int code,
                      struct mesh_bytes message) {
    struct xds_link *l = arg;
    struct mesh_entry *e = entry_of(l, type, name);
    struct mesh_why why;
    if (!e)
        return;
    mesh_why(&why, 0, "status %d: %.*s", code, (int)(message.n < 150 ? message.n : 150),
             message.n ? (const char *)message.p : "");
    mesh_cache_failed(&l->x->cache, e, MESH_XDS_RECEIVED_ERROR, why.text);
    bool is_data = code == CODE_NOT_FOUND || code == CODE_PERMISSION_DENIED;
    if (is_data && (!e->now || l->server->fails_on_data_errors))
        gone(l, e, MESH_XDS_RECEIVED_ERROR);
}

static void on_missing(void *arg, enum mesh_ads_type type, const char *name) {
    struct xds_link *l = arg;
    struct mesh_entry *e = entry_of(l, type, name);
    if (!e || e->now)
        return;
    if (l->server->timer_is_transient)
        mesh_cache_failed(&l->x->cache, e, MESH_XDS_TIMEOUT, "the server did not answer in time");
    else
        mesh_cache_gone(&l->x->cache, e, MESH_XDS_DOES_NOT_EXIST, false, true);
}

static bool on_cached(void *arg, enum mesh_ads_type type, const char *name) {
    const struct xds_link *l = arg;
    const struct mesh_entry *e = mesh_cache_find(&l->x->cache, type, name);
    return e && e->now;
}

static void on_answered(void *arg, enum mesh_ads_type type, const char *error) {
    struct xds_link *l = arg;
    struct mesh_cache *c = &l->x->cache;
    const struct xds_realm *r = &l->x->realms[0]; /* the whole types are its */
    if (c->is_whole[type] && !c->is_told[type] && r->links[r->active] == l)
        c->is_told[type] = c->is_stale = true;
    if (!error || !mesh_trace_on(MESH_TRACE_ERROR))
        return;
    struct mesh_line line;
    mesh_line_begin(&line, MESH_TRACE_ERROR, "view");
    mesh_line_str(&line, "server", l->server->uri);
    mesh_line_str(&line, "type", mesh_ads_type_url(type));
    mesh_line_str(&line, "nack", error);
    mesh_line_end(&line);
}

static const struct mesh_ads_owner owner = {on_send,   on_restart, on_offer,  on_removed,
                                            on_failed, on_missing, on_cached, on_answered};

/* ---- links ------------------------------------------------------------------------------------------------
 */
static bool same_text(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_server(const struct mesh_xds_server *a, const struct mesh_xds_server *b) {
    return same_text(a->uri, b->uri) && a->is_tls == b->is_tls && same_text(a->tls.cert, b->tls.cert) &&
           same_text(a->tls.key, b->tls.key) && same_text(a->tls.ca, b->tls.ca) &&
           same_text(a->token_file, b->token_file) && a->is_delta == b->is_delta &&
           a->keeps_deleted == b->keeps_deleted && a->fails_on_data_errors == b->fails_on_data_errors &&
           a->timer_is_transient == b->timer_is_transient && a->is_trusted == b->is_trusted;
}

static int link_use(struct mesh_xds *x, const struct xds_realm *r, uint32_t index, struct xds_link **ret) {
    const struct mesh_xds_server *server = &r->servers[index];
    struct mesh_bytes node = {x->cfg.bootstrap->node, x->cfg.bootstrap->node_len};
    struct xds_link *l = x->links;
    while (l && !(l->users && same_server(l->server, server)))
        l = l->next;
    if (!l) {
        l = calloc(1, sizeof(*l));
        if (!l || mesh_ads_new(server, node, &owner, l, &l->ads)) {
            free(l);
            return MESH_E_NOMEM;
        }
        l->x = x;
        l->server = server;
        l->authority = r->name;
        l->next = x->links;
        x->links = l;
    }
    l->users++;
    *ret = l;
    return 0;
}

static void link_free(struct xds_link *l) {
    if (l->ch)
        l->x->cfg.transport->close(l->ch);
    mesh_ads_free(l->ads);
    free(l);
}

void mesh_xds_links_reap(struct mesh_xds *x) {
    for (struct xds_link **at = &x->links; *at;) {
        struct xds_link *l = *at;
        if (l->users) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        link_free(l);
    }
}

/* ---- what the channel tells -------------------------------------------------------------------------------
 */
static void on_up(void *arg) {
    struct xds_link *l = arg;
    mesh_ads_up(l->ads);
}

static void each_of_realm(struct mesh_xds *x, const struct xds_realm *r,
                          void (*fn)(struct xds_link *l, struct mesh_entry *e), struct xds_link *l) {
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        for (struct mesh_entry *e = mesh_cache_first(&x->cache, i); e; e = mesh_cache_next(e))
            if (e->is_subscribed && mesh_xds_realm_of(x, e->text) == r)
                fn(l, e);
}

static void leave(struct xds_link *l, struct mesh_entry *e) {
    mesh_ads_unsubscribe(l->ads, e->type, e->text);
}

/* A server before the active one has answered: it counts again, those behind it are let go. */
static void revert(struct xds_link *l, struct xds_realm *r) {
    uint32_t i = 0;
    while (i < r->active && r->links[i] != l)
        i++;
    for (; r->active > i; r->active--) {
        struct xds_link *low = r->links[r->active];
        if (--low->users)
            each_of_realm(l->x, r, leave, low);
        r->links[r->active] = NULL;
    }
}

/* Is some authority with a server that was not its first choice? */
static bool is_fallen(const struct mesh_xds *x) {
    for (uint32_t i = 0; i < x->nrealms; i++)
        if (x->realms[i].active)
            return true;
    return false;
}

static void on_message(void *arg, const uint8_t *p, size_t n) {
    struct xds_link *l = arg;
    struct mesh_scan_response head;
    bool is_delta = strcmp(mesh_ads_path(l->ads), MESH_ADS_PATH_DELTA) == 0;
    if (!l->users)
        return;
    if ((l->is_failed || is_fallen(l->x)) && mesh_scan_response(p, n, is_delta, &head) == 0) {
        l->is_failed = false;
        for (uint32_t i = 0; i < l->x->nrealms; i++)
            revert(l, &l->x->realms[i]);
    }
    mesh_ads_message(l->ads, p, n, l->x->now);
}

static void on_down(void *arg, int status, bool answered, const char *why) {
    struct xds_link *l = arg;
    if (!answered)
        l->is_failed = true;
    if (!mesh_ads_down(l->ads, status, answered))
        return;
    l->is_failed = false; /* it is there, and speaks the other form */
    l->x->cfg.transport->path(l->ch, mesh_ads_path(l->ads));
}

static int link_open(struct xds_link *l) {
    static const struct mesh_channel_events events = {on_up, on_message, on_down};
    struct mesh_channel_config cfg = {
        .server = l->server,
        .path = mesh_ads_path(l->ads),
        .hooks = l->x->cfg.hooks,
        .dns = l->x->cfg.dns,
        .events = &events,
        .arg = l,
        .eager = true,
    };
    if (l->ch)
        return 0;
    return l->x->cfg.transport->open(&cfg, &l->ch);
}

/* ---- authorities ------------------------------------------------------------------------------------------
 */
static int realm_open(struct mesh_xds *x, struct xds_realm *r) {
    r->links = calloc(r->nservers ? r->nservers : 1, sizeof(struct xds_link *));
    if (!r->links)
        return MESH_E_NOMEM;
    return r->nservers ? link_use(x, r, 0, &r->links[0]) : MESH_E_INVALID;
}

int mesh_xds_realms_open(struct mesh_xds *x) {
    const struct mesh_bootstrap *b = x->cfg.bootstrap;
    x->realms = calloc(b->nauthorities + 1, sizeof(*x->realms));
    if (!x->realms)
        return MESH_E_NOMEM;
    x->nrealms = b->nauthorities + 1;
    x->realms[0] = (struct xds_realm){.name = "", .servers = b->servers, .nservers = b->nservers};
    for (uint32_t i = 0; i < b->nauthorities; i++)
        x->realms[i + 1] = (struct xds_realm){.name = b->authorities[i].name,
                                              .servers = b->authorities[i].servers,
                                              .nservers = b->authorities[i].nservers};
    int rc = 0;
    for (uint32_t i = 0; i < x->nrealms && rc == 0; i++)
        rc = realm_open(x, &x->realms[i]);
    return rc;
}

void mesh_xds_links_free(struct mesh_xds *x) {
    for (struct xds_link *l = x->links; l; l = l->next)
        l->users = 0;
    mesh_xds_links_reap(x);
    for (uint32_t i = 0; i < x->nrealms; i++)
        free(x->realms[i].links);
    free(x->realms);
}

/* The whole types are those of names without an authority. */
static int join_whole(struct mesh_xds *x, const struct xds_realm *r, struct xds_link *l) {
    bool any = false;
    for (int i = 0; i < MESH_ADS_TYPES && r == x->realms; i++)
        if (x->cache.is_whole[i]) {
            mesh_ads_subscribe_all(l->ads, (enum mesh_ads_type)i);
            any = true;
        }
    return any ? link_open(l) : 0;
}

int mesh_xds_subscribe(struct mesh_xds *x, struct mesh_entry *e) {
    struct xds_realm *r = mesh_xds_realm_of(x, e->text);
    int rc = r ? 0 : MESH_E_NOTFOUND;
    for (uint32_t i = 0; r && i <= r->active && rc == 0; i++) {
        rc = mesh_ads_subscribe(r->links[i]->ads, e->type, e->text);
        rc = rc ? rc : link_open(r->links[i]);
    }
    e->is_subscribed = rc == 0;
    return rc;
}

void mesh_xds_unsubscribe(struct mesh_xds *x, struct mesh_entry *e) {
    struct xds_realm *r = mesh_xds_realm_of(x, e->text);
    for (uint32_t i = 0; r && i <= r->active; i++)
        leave(r->links[i], e);
    e->is_subscribed = false;
}

int mesh_xds_whole_open(struct mesh_xds *x) {
    return join_whole(x, x->realms, x->realms[0].links[0]);
}

/* ---- fallback ---------------------------------------------------------------------------------------------
 */
static bool is_missing(struct mesh_xds *x, const struct xds_realm *r) {
    for (int i = 0; i < MESH_ADS_TYPES; i++) {
        if (r == x->realms && x->cache.is_whole[i] && !x->cache.is_told[i])
            return true;
        for (struct mesh_entry *e = mesh_cache_first(&x->cache, i); e; e = mesh_cache_next(e))
            if (e->is_subscribed && !e->now && !e->is_definite && mesh_xds_realm_of(x, e->text) == r)
                return true;
    }
    return false;
}

static int join_all(struct mesh_xds *x, const struct xds_realm *r, struct xds_link *l) {
    int rc = join_whole(x, r, l);
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        for (struct mesh_entry *e = mesh_cache_first(&x->cache, i); e && rc == 0; e = mesh_cache_next(e))
            if (e->is_subscribed && mesh_xds_realm_of(x, e->text) == r)
                rc = mesh_ads_subscribe(l->ads, e->type, e->text);
    return rc ? rc : link_open(l);
}

static int next_server(struct mesh_xds *x, struct xds_realm *r) {
    struct xds_link *l;
    int rc = link_use(x, r, r->active + 1, &l);
    if (rc)
        return rc;
    rc = join_all(x, r, l);
    if (rc) {
        l->users--;
        return rc;
    }
    for (uint32_t i = 0; i <= r->active; i++)
        mesh_ads_forget(r->links[i]->ads);
    r->links[++r->active] = l;
    return 0;
}

int mesh_xds_fall_back(struct mesh_xds *x) {
    int rc = 0;
    for (uint32_t i = 0; i < x->nrealms && rc == 0; i++) {
        struct xds_realm *r = &x->realms[i];
        if (r->active + 1 < r->nservers && r->links[r->active]->is_failed && is_missing(x, r))
            rc = next_server(x, r);
    }
    return rc;
}
