/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "resolver/cache.h"
#include "resolver/view.h"
#include "shim/base/clock.h"

enum {
    AGGREGATE_DEPTH = 16,
    CLOSURE_DEPTH = 24
}; /* A37; and with listener and route before, endpoints behind */

static const char loop_text[] = "an aggregate cluster leads back to itself";
static const char depth_text[] = "aggregate clusters are nested more than 16 deep";

#define HELD_MAX (15 * MESH_SEC) /* as long as a name may be missing */

struct closure {
    struct mesh_cache *c;
    struct mesh_entry *path[CLOSURE_DEPTH];
    uint32_t depth;
    int rc;
};

/* Nothing need be waited for: it is here, or it is known that it will not be. */
static bool is_settled(const struct mesh_cache *c, const struct mesh_entry *e) {
    return e->out || e->fault ||
           (!e->now && (e->is_definite || (c->is_whole[e->type] && c->is_told[e->type])));
}

/* The loop is everything from the first time that the path came by. */
static void mark_loop(struct closure *x, const struct mesh_entry *e) {
    for (uint32_t i = x->depth; i-- > 0;) {
        x->path[i]->fault = loop_text;
        if (x->path[i] == e)
            break;
    }
}

static void ripen(struct closure *x, struct mesh_entry *e);

/* One level more for an aggregate. */
static void count_levels(struct mesh_entry *from, const struct mesh_entry *to) {
    if (to->height >= from->height)
        from->height = to->height + 1;
    if (from->height > AGGREGATE_DEPTH)
        from->fault = depth_text;
}

/* True: what is there is whole, all the way. */
static bool follow(struct closure *x, struct mesh_entry *from, const struct mesh_dep *d, bool is_now) {
    struct mesh_entry *to = mesh_cache_get(x->c, d->type, d->name);
    if (!to) {
        x->rc = MESH_E_NOMEM;
        return false;
    }
    if (to->is_open) {
        mark_loop(x, to);
        return true;
    }
    if (x->depth == CLOSURE_DEPTH) {
        from->fault = depth_text;
        return true;
    }
    ripen(x, to);
    if (is_now && d->type == MESH_ADS_CLUSTER && from->type == MESH_ADS_CLUSTER)
        count_levels(from, to);
    return to->out && !to->is_broken;
}

static bool follow_all(struct closure *x, struct mesh_entry *e, const struct mesh_form *f) {
    bool whole = true;
    for (uint32_t i = 0; f && i < f->ndeps && !x->rc; i++)
        whole = follow(x, e, &f->deps[i], f == e->now) && whole;
    return whole;
}

static bool is_complete(const struct mesh_cache *c, const struct mesh_entry *e) {
    for (uint32_t i = 0; i < e->now->ndeps; i++) {
        const struct mesh_entry *to = mesh_cache_find(c, e->now->deps[i].type, e->now->deps[i].name);
        if (!to || !is_settled(c, to))
            return false;
    }
    return true;
}

/* A server's answers come in any order: that a form leads to something which does not exist may be over in a
 * moment. What is whole is not given up for it, for as long as an answer may take. */
static bool is_held(struct mesh_cache *c, const struct mesh_entry *e, bool now_whole, bool out_whole) {
    uint64_t until = e->now->since + HELD_MAX;
    if (!e->out || now_whole || !out_whole || e->fault || c->clock >= until)
        return false;
    c->held_until = until < c->held_until ? until : c->held_until;
    return true;
}

/* What it leads to first, then itself. The form that is out is followed as well: what it needs stays. */
static void ripen(struct closure *x, struct mesh_entry *e) {
    if (e->pass == x->c->pass)
        return;
    e->pass = x->c->pass;
    e->fault = NULL;
    e->height = 1;
    e->is_open = true;
    x->path[x->depth++] = e;
    bool now_whole = follow_all(x, e, e->now);
    bool out_whole = e->out == e->now ? now_whole : follow_all(x, e, e->out);
    x->depth--;
    e->is_open = false;
    if (x->rc)
        return;
    if (e->now && e->now != e->out && (e->fault || is_complete(x->c, e)) &&
        !is_held(x->c, e, now_whole, out_whole))
        mesh_entry_show(x->c, e, e->now);
    e->is_broken = e->out == e->now ? !now_whole : !out_whole;
    if (!is_settled(x->c, e) || (e->now && e->now != e->out))
        x->c->pending++;
    x->c->changing += e->now && e->out && e->now != e->out;
}

/* ---- what is published ------------------------------------------------------------------------------------
 */
static void show(struct mesh_cache *c, struct mesh_entry *e, uint32_t depth) {
    if (!e || !e->out || e->shown == c->pass || depth == CLOSURE_DEPTH)
        return;
    e->shown = c->pass;
    e->users = NULL;
    if (e->type != MESH_ADS_ENDPOINT) {
        uint64_t of[3] = {e->item.hash + (uint64_t)e->type, e->out->serial, (uint64_t)(uintptr_t)e->fault};
        c->shape += mesh_hash_bytes(of, sizeof(of), 0);
    } else if (e->out->refused) {
        c->shape += e->item.hash;
    }
    for (uint32_t i = 0; i < e->out->ndeps; i++)
        show(c, mesh_cache_find(c, e->out->deps[i].type, e->out->deps[i].name), depth + 1);
}

/* Which clusters an assignment serves. */
static void link_users(struct mesh_cache *c) {
    for (struct mesh_entry *e = mesh_cache_first(c, MESH_ADS_CLUSTER); e; e = mesh_cache_next(e)) {
        e->users = NULL;
        for (uint32_t i = 0; e->shown == c->pass && e->out && i < e->out->ndeps; i++) {
            const struct mesh_dep *d = &e->out->deps[i];
            struct mesh_entry *to =
                d->type == MESH_ADS_ENDPOINT ? mesh_cache_find(c, d->type, d->name) : NULL;
            if (!to)
                continue;
            e->users = to->users;
            to->users = e;
        }
    }
}

/* What does not exist any more, and nothing that is out leads to. */
static void drop_gone(struct mesh_cache *c) {
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        for (struct mesh_entry *e = mesh_cache_first(c, i); e; e = mesh_cache_next(e))
            if (e->shown != c->pass) {
                if (e->type == MESH_ADS_ENDPOINT)
                    e->users = NULL;
                if (!e->now)
                    mesh_entry_show(c, e, NULL);
            }
}

static bool is_root(const struct mesh_cache *c, const struct mesh_entry *e) {
    return !e->is_gone && (e->roots || (c->is_whole[e->type] && (e->now || e->out)));
}

static void each_root(struct closure *x, bool shows) {
    for (int i = 0; i < MESH_ADS_TYPES && !x->rc; i++)
        for (struct mesh_entry *e = mesh_cache_first(x->c, i); e && !x->rc; e = mesh_cache_next(e)) {
            if (shows && is_root(x->c, e))
                show(x->c, e, 0);
            else if (!shows && (is_root(x->c, e) || e->roots))
                ripen(x, e);
        }
}

int mesh_closure_run(struct mesh_cache *c) {
    struct closure x = {.c = c};
    c->pass++;
    c->pending = c->changing = 0;
    c->held_until = UINT64_MAX;
    each_root(&x, false);
    if (x.rc)
        return x.rc;
    c->shape = 0;
    each_root(&x, true);
    link_users(c);
    drop_gone(c);
    c->is_stale = false;
    return 0;
}
