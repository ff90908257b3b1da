/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "resolver/ads_inner.h"
#include "shim/base/clock.h"

#define MISSING_AFTER (15 * MESH_SEC)           /* A57 */
#define MISSING_AFTER_TRANSIENT (30 * MESH_SEC) /* A88 */

static const char *const type_urls[MESH_ADS_TYPES] = {
    [MESH_ADS_CLUSTER] = "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    [MESH_ADS_ENDPOINT] = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    [MESH_ADS_LISTENER] = "type.googleapis.com/envoy.config.listener.v3.Listener",
    [MESH_ADS_ROUTE] = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    [MESH_ADS_SECRET] = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    [MESH_ADS_NAMES] = "type.googleapis.com/istio.networking.nds.v1.NameTable",
};

const char *mesh_ads_type_url(enum mesh_ads_type type) {
    return type_urls[type];
}

bool mesh_ads_is_full(enum mesh_ads_type type) {
    return type == MESH_ADS_LISTENER || type == MESH_ADS_CLUSTER;
}

/* ---- names ------------------------------------------------------------------------------------------------
 */
struct ads_name *mesh_ads_add(struct ads_type *t, const char *text, size_t len) {
    struct ads_name *n = calloc(1, sizeof(*n) + len + 1);
    if (!n)
        return NULL;
    memcpy(n->text, text, len);
    if (mesh_dict_add(&t->names, &n->item, n->text) == 0)
        return n;
    free(n);
    return NULL;
}

void mesh_ads_drop(struct ads_type *t, struct ads_name *n) {
    mesh_dict_remove(&t->names, &n->item);
    free(n->version);
    free(n);
}

int mesh_ads_subscribe(struct mesh_ads *a, enum mesh_ads_type type, const char *name) {
    struct ads_type *t = &a->types[type];
    size_t len = strlen(name);
    struct ads_name *n = mesh_dict_find(&t->names, name, len);
    if (n && n->is_wanted)
        return 0;
    if (t->bytes + len + NAME_COST > REQUEST_MAX - REQUEST_ROOM)
        return MESH_E_LIMIT;
    n = n ? n : mesh_ads_add(t, name, len);
    if (!n)
        return MESH_E_NOMEM;
    n->is_wanted = true;
    t->bytes += len + NAME_COST;
    t->is_changed = t->is_changed || !n->is_sent;
    return 0;
}

void mesh_ads_unsubscribe(struct mesh_ads *a, enum mesh_ads_type type, const char *name) {
    struct ads_type *t = &a->types[type];
    struct ads_name *n = mesh_dict_find(&t->names, name, strlen(name));
    if (!n || !n->is_wanted)
        return;
    n->is_wanted = false;
    n->deadline = n->expires = 0;
    t->bytes -= strlen(name) + NAME_COST;
    if (n->is_sent && (t->bytes || !mesh_ads_is_full(type) || a->ops->is_delta))
        t->is_changed = true;
    else if (!n->is_sent)
        mesh_ads_drop(t, n);
}

void mesh_ads_subscribe_all(struct mesh_ads *a, enum mesh_ads_type type) {
    a->types[type].is_changed = a->types[type].is_changed || !a->types[type].is_wildcard;
    a->types[type].is_wildcard = true;
}

void mesh_ads_pull(struct mesh_ads *a, uint64_t at) {
    if (at && at < a->deadline)
        a->deadline = at;
}

/* A request that names it is with the transport: its time runs, unless it is here. */
void mesh_ads_sent(struct mesh_ads *a, enum mesh_ads_type type, struct ads_name *n, uint64_t now) {
    n->is_sent = true;
    if (!n->is_wanted || n->is_seen || n->is_present || n->deadline ||
        a->owner->cached(a->arg, type, n->text))
        return;
    n->deadline = now + (a->server->timer_is_transient ? MISSING_AFTER_TRANSIENT : MISSING_AFTER);
    mesh_ads_pull(a, n->deadline);
}

void mesh_ads_gone(struct mesh_ads *a, enum mesh_ads_type type, struct ads_name *n) {
    n->is_present = false;
    n->expires = n->deadline = 0;
    free(n->version);
    n->version = NULL;
    a->owner->removed(a->arg, type, n->text);
    if (!n->is_wanted && !n->is_sent)
        mesh_ads_drop(&a->types[type], n);
}

void mesh_ads_release(struct ads_type *t) {
    t->rejected = 0;
    t->repeats = 0;
    free(t->rejected_why);
    t->rejected_why = NULL;
}

/* ---- the stream -------------------------------------------------------------------------------------------
 */
static void forget_stream(struct mesh_ads *a, struct ads_type *t) {
    for (struct ads_name *n = (struct ads_name *)t->names.first, *next; n; n = next) {
        next = (struct ads_name *)n->item.next;
        n->is_sent = n->is_seen = false;
        n->deadline = 0;
        if (!n->is_wanted && !t->is_wildcard)
            mesh_ads_drop(t, n);
    }
    t->is_requested = t->is_answer_due = false;
    t->is_changed = t->is_wildcard || t->names.n;
    t->answer_at = 0;
    free(t->nonce);
    free(t->error);
    t->nonce = t->error = NULL;
    mesh_ads_release(t);
}

void mesh_ads_up(struct mesh_ads *a) {
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        forget_stream(a, &a->types[i]);
    a->is_node_sent = false;
    a->broken = 0;
    a->is_up = true;
}

bool mesh_ads_down(struct mesh_ads *a, int status, bool answered) {
    enum { UNIMPLEMENTED = 12 };
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        forget_stream(a, &a->types[i]);
    a->is_up = false;
    if (status != UNIMPLEMENTED || answered || !a->ops->is_delta)
        return false;
    a->ops = &mesh_ads_sotw;
    mesh_ads_forget(a);
    return true;
}

void mesh_ads_forget(struct mesh_ads *a) {
    for (int i = 0; i < MESH_ADS_TYPES; i++) {
        struct ads_type *t = &a->types[i];
        free(t->version);
        t->version = NULL;
        for (struct ads_name *n = (struct ads_name *)t->names.first, *next; n; n = next) {
            next = (struct ads_name *)n->item.next;
            n->is_present = false;
            n->expires = 0;
            if (!n->is_wanted && !n->is_sent)
                mesh_ads_drop(t, n);
        }
    }
}

void mesh_ads_flush(struct mesh_ads *a, uint64_t now) {
    for (int i = 0; i < MESH_ADS_TYPES && a->is_up; i++) {
        const struct ads_type *t = &a->types[i];
        if (!t->is_changed && !(t->is_answer_due && t->answer_at <= now))
            continue;
        int rc = a->ops->send(a, (enum mesh_ads_type)i, now);
        if (rc == MESH_E_NOMEM)
            a->owner->restart(a->arg, mesh_err_text(rc));
        if (rc)
            return;
    }
}

static void tick_name(struct mesh_ads *a, enum mesh_ads_type type, struct ads_name *n, uint64_t now) {
    if (n->deadline && n->deadline <= now) {
        n->deadline = 0;
        a->owner->missing(a->arg, type, n->text);
    }
    mesh_ads_pull(a, n->deadline);
    if (n->expires && n->expires <= now)
        mesh_ads_gone(a, type, n);
    else
        mesh_ads_pull(a, n->expires);
}

void mesh_ads_tick(struct mesh_ads *a, uint64_t now) {
    if (now < a->deadline)
        return;
    a->deadline = UINT64_MAX;
    for (int i = 0; i < MESH_ADS_TYPES; i++) {
        for (struct ads_name *n = (struct ads_name *)a->types[i].names.first, *next; n; n = next) {
            next = (struct ads_name *)n->item.next;
            tick_name(a, (enum mesh_ads_type)i, n, now);
        }
        if (a->types[i].answer_at > now)
            mesh_ads_pull(a, a->types[i].answer_at);
    }
}

uint64_t mesh_ads_deadline(const struct mesh_ads *a) {
    return a->deadline;
}

/* ---- life -------------------------------------------------------------------------------------------------
 */
int mesh_ads_new(const struct mesh_xds_server *server, struct mesh_bytes node,
                 const struct mesh_ads_owner *owner, void *arg, struct mesh_ads **ret) {
    struct mesh_ads *a = calloc(1, sizeof(*a));
    if (!a)
        return MESH_E_NOMEM;
    a->server = server;
    a->node = node;
    a->owner = owner;
    a->arg = arg;
    a->ops = server->is_delta ? &mesh_ads_delta : &mesh_ads_sotw;
    a->deadline = UINT64_MAX;
    *ret = a;
    return 0;
}

void mesh_ads_free(struct mesh_ads *a) {
    for (int i = 0; a && i < MESH_ADS_TYPES; i++) {
        struct ads_type *t = &a->types[i];
        while (t->names.first)
            mesh_ads_drop(t, (struct ads_name *)t->names.first);
        mesh_dict_done(&t->names);
        mesh_ads_release(t);
        free(t->version);
        free(t->nonce);
        free(t->error);
    }
    free(a);
}

const char *mesh_ads_path(const struct mesh_ads *a) {
    return a->ops->path;
}

struct mesh_ads_info mesh_ads_describe(const struct mesh_ads *a) {
    struct mesh_ads_info info = {.acks = a->acks, .nacks = a->nacks};
    for (int i = 0; i < MESH_ADS_TYPES; i++) {
        info.is_answered = info.is_answered || a->types[i].is_answered;
        info.is_subscribed = info.is_subscribed || a->types[i].is_wildcard || a->types[i].bytes;
    }
    return info;
}

bool mesh_ads_has_answered(const struct mesh_ads *a, enum mesh_ads_type type) {
    return a->types[type].is_answered;
}
