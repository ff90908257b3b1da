/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/core.pb-c.h"
#include "resolver/xds_inner.h"
#include "shim/base/clock.h"

#define IDLE_MAX (120 * MESH_SEC) /* what nothing needs is kept for that long */
#define SWEEP_EVERY (15 * MESH_SEC)
#define COMING (1 * MESH_SEC)  /* longest wait for the rest of what is on its way */
#define UNSAID (100 * MESH_MS) /* and for a listener that nobody has said anything of */
enum { XDS_NAME_MAX = 1024 };

/* ---- life -------------------------------------------------------------------------------------------------
 */
/* Istio sends its table of names to nodes whose metadata says DNS_CAPTURE "true". */
static bool wants_names(const struct mesh_bootstrap *b) {
    ProtobufCMessage *m = NULL;
    bool wants = false;
    if (!b->node_len || mesh_proto_unpack(&mesh__core__node__descriptor, b->node, b->node_len, &m))
        return false;
    const Mesh__Pb__Struct *s = ((const Mesh__Core__Node *)m)->metadata;
    for (size_t i = 0; s && i < s->n_fields; i++)
        wants = wants || (strcmp(s->fields[i]->key, "DNS_CAPTURE") == 0 && s->fields[i]->value &&
                          s->fields[i]->value->kind_case == MESH__PB__VALUE__KIND_STRING_VALUE &&
                          strcmp(s->fields[i]->value->string_value, "true") == 0);
    protobuf_c_message_free_unpacked(m, NULL);
    return wants;
}

static int open_all(struct mesh_xds *x) {
    int rc = mesh_xds_realms_open(x);
    if (rc)
        return rc;
    x->cache.is_whole[MESH_ADS_LISTENER] = x->cache.is_whole[MESH_ADS_CLUSTER] =
        x->cfg.bootstrap->is_wildcard;
    if (wants_names(x->cfg.bootstrap)) {
        struct mesh_entry *e = mesh_cache_get(&x->cache, MESH_ADS_NAMES, "");
        if (!e)
            return MESH_E_NOMEM;
        e->roots = 1;
    }
    x->cache.is_stale = true;
    return mesh_xds_whole_open(x);
}

int mesh_xds_new(const struct mesh_xds_config *cfg, struct mesh_xds **ret) {
    struct mesh_xds *x = calloc(1, sizeof(*x));
    if (!x)
        return MESH_E_NOMEM;
    x->cfg = *cfg;
    x->cache.held_until = UINT64_MAX;
    int rc = open_all(x);
    if (rc)
        mesh_xds_free(x);
    else
        *ret = x;
    return rc;
}

static void want_free(struct mesh_dict *d, struct xds_want *w) {
    mesh_dict_remove(d, &w->item);
    for (uint32_t i = 0; i < w->n; i++)
        w->entries[i]->roots--;
    free(w);
}

void mesh_xds_free(struct mesh_xds *x) {
    if (!x)
        return;
    mesh_xds_links_free(x);
    while (x->wants.first)
        want_free(&x->wants, (struct xds_want *)x->wants.first);
    while (x->inbound.first)
        want_free(&x->inbound, (struct xds_want *)x->inbound.first);
    mesh_dict_done(&x->wants);
    mesh_dict_done(&x->inbound);
    mesh_xds_known_done(x);
    mesh_cache_done(&x->cache);
    free(x->changed);
    free(x->resources.items);
    free(x);
}

/* ---- driving ----------------------------------------------------------------------------------------------
 */
static void drive_links(struct mesh_xds *x) {
    for (struct xds_link *l = x->links; l; l = l->next)
        if (l->ch && l->users)
            x->cfg.transport->drive(l->ch, x->now);
}

/* Requests go out after what came has been published: a long list of names takes longer to write than one
 * change to show. */
static void flush(struct mesh_xds *x) {
    for (struct xds_link *l = x->links; l; l = l->next)
        mesh_ads_flush(l->ads, x->now);
}

uint32_t mesh_xds_fill(struct mesh_xds *x, struct pollfd *ret, uint32_t max, uint64_t *io_deadline) {
    uint32_t n = 0;
    flush(x);
    for (struct xds_link *l = x->links; l; l = l->next) {
        uint64_t at = mesh_ads_deadline(l->ads);
        if (l->ch && l->users)
            n += x->cfg.transport->fill(l->ch, ret + n, max - n, io_deadline);
        *io_deadline = at < *io_deadline ? at : *io_deadline;
    }
    if (x->sweep_at && x->sweep_at < *io_deadline)
        *io_deadline = x->sweep_at;
    if (x->cache.held_until < *io_deadline)
        *io_deadline = x->cache.held_until;
    if (x->cache.is_stale && !x->is_short) /* a want that came after the drive */
        *io_deadline = x->now;
    return n;
}

static int subscribe(struct mesh_xds *x, struct mesh_entry *e) {
    e->idle_since = 0;
    if (e->is_subscribed || x->cache.is_whole[e->type] || e->status == MESH_XDS_RECEIVED_ERROR)
        return 0;
    int rc = mesh_xds_subscribe(x, e);
    if (rc == MESH_E_NOMEM || rc == 0)
        return rc;
    mesh_cache_failed(&x->cache, e, MESH_XDS_RECEIVED_ERROR,
                      rc == MESH_E_NOTFOUND ? "its authority is not in the bootstrap" : mesh_err_text(rc));
    if (rc == MESH_E_NOTFOUND)
        mesh_cache_gone(&x->cache, e, MESH_XDS_RECEIVED_ERROR, false, false);
    return 0;
}

/* What nothing needs is let go of in time; of a whole type only what does not exist. */
static void idle(struct mesh_xds *x, struct mesh_entry *e) {
    if (x->cache.is_whole[e->type] && e->now)
        return;
    if (!e->idle_since)
        e->idle_since = x->now ? x->now : 1;
    if (x->now - e->idle_since < IDLE_MAX) {
        if (!x->sweep_at)
            x->sweep_at = x->now + SWEEP_EVERY;
        return;
    }
    if (e->is_subscribed)
        mesh_xds_unsubscribe(x, e);
    mesh_cache_drop(&x->cache, e);
}

static int sweep(struct mesh_xds *x) {
    int rc = 0;
    x->sweep_at = 0;
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        for (struct mesh_entry *e = mesh_cache_first(&x->cache, i), *next; e && rc == 0; e = next) {
            next = mesh_cache_next(e);
            if (mesh_closure_needs(&x->cache, e) || mesh_closure_shows(&x->cache, e) || e->roots)
                rc = subscribe(x, e);
            else
                idle(x, e);
        }
    return rc;
}

/* A subscription that cannot be had changes what is complete: once more, then. */
static void close_over(struct mesh_xds *x) {
    enum { ROUNDS = 3 };
    if (x->cache.held_until <= x->now)
        x->cache.is_stale = true;
    bool due = x->cache.is_stale || (x->sweep_at && x->now >= x->sweep_at);
    for (int i = 0; i < ROUNDS && due; i++) {
        int rc = x->cache.is_stale ? mesh_closure_run(&x->cache) : 0;
        rc = rc ? rc : sweep(x);
        x->is_short = rc != 0;
        if (rc) { /* memory: later */
            x->cache.is_stale = true;
            x->sweep_at = x->now + MESH_SEC;
            return;
        }
        due = x->cache.is_stale;
    }
}

void mesh_xds_drive(struct mesh_xds *x, uint64_t now) {
    x->now = x->cache.clock = now;
    drive_links(x);
    mesh_xds_links_reap(x);
    for (struct xds_link *l = x->links; l; l = l->next)
        mesh_ads_tick(l->ads, now);
    close_over(x);
    if (mesh_xds_fall_back(x))
        x->sweep_at = now + MESH_SEC;
}

/* ---- what is wanted ---------------------------------------------------------------------------------------
 */
static int add_candidate(struct mesh_xds *x, struct xds_want *w, enum mesh_ads_type type, const char *name) {
    struct mesh_entry *e = mesh_cache_get(&x->cache, type, name);
    if (!e)
        return MESH_E_NOMEM;
    for (uint32_t i = 0; i < w->n; i++)
        if (w->entries[i] == e)
            return 0;
    w->entries[w->n++] = e;
    e->roots++;
    return 0;
}

static int add_listener(struct mesh_xds *x, struct xds_want *w, const char *tmpl, const char *target) {
    char name[XDS_NAME_MAX];
    int rc = mesh_bootstrap_expand(tmpl, target, name, sizeof(name));
    return rc ? rc : add_candidate(x, w, MESH_ADS_LISTENER, name);
}

/* First a listener, then a cluster, the one with the port first (facts/xds.md 6.3, 6.4). */
static int add_candidates(struct mesh_xds *x, struct xds_want *w, const char *name, uint16_t port) {
    const char *tmpl = x->cfg.bootstrap->client_template;
    char text[XDS_NAME_MAX];
    int rc = 0;
    if (port) {
        snprintf(text, sizeof(text), "%s:%u", name, port);
        rc = add_listener(x, w, tmpl, text);
        rc = rc ? rc : add_candidate(x, w, MESH_ADS_CLUSTER, text);
        snprintf(text, sizeof(text), "outbound|%u||%s", port, name);
        rc = rc ? rc : add_candidate(x, w, MESH_ADS_CLUSTER, text);
    }
    rc = rc ? rc : add_listener(x, w, tmpl, name);
    return rc ? rc : add_candidate(x, w, MESH_ADS_CLUSTER, name);
}

static int want_new(struct mesh_dict *d, const char *text, struct xds_want **ret) {
    size_t n = strlen(text) + 1;
    if (d->n >= WANTS_MAX)
        return MESH_E_LIMIT;
    struct xds_want *w = calloc(1, sizeof(*w) + n);
    if (!w)
        return MESH_E_NOMEM;
    memcpy(w->text, text, n);
    if (mesh_dict_add(d, &w->item, w->text)) {
        free(w);
        return MESH_E_NOMEM;
    }
    *ret = w;
    return 0;
}

static bool want_text(const char *name, uint16_t port, char *ret, size_t cap) {
    int n = snprintf(ret, cap, "%s:%u", name, port);
    return n > 0 && (size_t)n + 16 < cap; /* outbound|...|| fits as well */
}

int mesh_xds_want(struct mesh_xds *x, const char *name, uint16_t port, uint64_t now) {
    char text[XDS_NAME_MAX - 32];
    struct xds_want *w;
    if (!want_text(name, port, text, sizeof(text)))
        return MESH_E_LIMIT;
    if (mesh_dict_find(&x->wants, text, strlen(text)))
        return 0;
    int rc = want_new(&x->wants, text, &w);
    if (rc)
        return rc;
    x->now = now;
    rc = x->cfg.bootstrap->is_wildcard ? 0 : add_candidates(x, w, name, port);
    if (rc)
        want_free(&x->wants, w);
    x->cache.is_stale = true;
    return rc;
}

void mesh_xds_unwant(struct mesh_xds *x, const char *name, uint16_t port, uint64_t now) {
    char text[XDS_NAME_MAX - 32];
    struct xds_want *w =
        want_text(name, port, text, sizeof(text)) ? mesh_dict_find(&x->wants, text, strlen(text)) : NULL;
    if (!w)
        return;
    x->now = now;
    want_free(&x->wants, w);
    x->cache.is_stale = true;
}

int mesh_xds_want_inbound(struct mesh_xds *x, const char *address_port, uint64_t now) {
    const char *tmpl = x->cfg.bootstrap->server_template;
    struct xds_want *w;
    if (!tmpl || x->cfg.bootstrap->is_wildcard ||
        mesh_dict_find(&x->inbound, address_port, strlen(address_port)))
        return 0;
    int rc = want_new(&x->inbound, address_port, &w);
    if (rc)
        return rc;
    x->now = now;
    rc = add_listener(x, w, tmpl, address_port);
    if (rc)
        want_free(&x->inbound, w);
    x->cache.is_stale = true;
    return rc;
}

/* By wildcard nothing is asked for: what all of it says decides, once it is here. */
static enum mesh_xds_state whole_state(struct mesh_xds *x, const char *name, uint16_t port) {
    const struct mesh_cache *c = &x->cache;
    if (mesh_xds_known(x, name, port))
        return MESH_XDS_KNOWN;
    bool told = c->is_told[MESH_ADS_LISTENER] && c->is_told[MESH_ADS_CLUSTER];
    return told && !c->is_stale && !c->pending ? MESH_XDS_DENIED : MESH_XDS_WAITING;
}

enum mesh_xds_state mesh_xds_want_state(const struct mesh_xds *x, const struct xds_want *w) {
    uint32_t gone = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        if (!w->entries[i]->is_gone && mesh_closure_shows(&x->cache, w->entries[i]))
            return MESH_XDS_KNOWN;
        gone += w->entries[i]->is_gone;
    }
    return gone == w->n ? MESH_XDS_DENIED : MESH_XDS_WAITING;
}

static uint64_t whole_patience(const struct mesh_cache *c) {
    bool told = c->is_told[MESH_ADS_LISTENER] && c->is_told[MESH_ADS_CLUSTER];
    return told && !c->pending ? 0 : COMING;
}

uint64_t mesh_xds_patience(const struct mesh_xds *x, const char *name, uint16_t port) {
    char text[XDS_NAME_MAX - 32];
    if (x->cfg.bootstrap->is_wildcard)
        return whole_patience(&x->cache);
    const struct xds_want *w =
        want_text(name, port, text, sizeof(text)) ? mesh_dict_find(&x->wants, text, strlen(text)) : NULL;
    uint64_t patience = 0;
    for (uint32_t i = 0; w && i < w->n; i++) {
        const struct mesh_entry *e = w->entries[i];
        if (!e->is_gone && mesh_closure_shows(&x->cache, e))
            return patience;
        if (!e->is_gone && e->type == MESH_ADS_LISTENER)
            patience = e->now || patience == COMING ? COMING : UNSAID;
    }
    return patience;
}

enum mesh_xds_state mesh_xds_state(const struct mesh_xds *x, const char *name, uint16_t port) {
    char text[XDS_NAME_MAX - 32];
    if (x->cfg.bootstrap->is_wildcard)
        return whole_state((struct mesh_xds *)(uintptr_t)x, name, port);
    const struct xds_want *w =
        want_text(name, port, text, sizeof(text)) ? mesh_dict_find(&x->wants, text, strlen(text)) : NULL;
    return w ? mesh_xds_want_state(x, w) : MESH_XDS_WAITING;
}

enum mesh_xds_state mesh_xds_inbound_state(const struct mesh_xds *x, const char *address_port) {
    const struct mesh_cache *c = &x->cache;
    const struct xds_want *w = mesh_dict_find(&x->inbound, address_port, strlen(address_port));
    if (x->cfg.bootstrap->is_wildcard)
        return c->is_told[MESH_ADS_LISTENER] && !c->is_stale ? MESH_XDS_KNOWN : MESH_XDS_WAITING;
    if (!x->cfg.bootstrap->server_template) /* nothing could be asked for */
        return MESH_XDS_DENIED;
    return w ? mesh_xds_want_state(x, w) : MESH_XDS_WAITING;
}
