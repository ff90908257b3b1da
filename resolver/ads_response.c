/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "resolver/ads_inner.h"
#include "resolver/view.h"
#include "shim/base/clock.h"

#define BRAKE_FIRST MESH_SEC
#define BRAKE_MAX (60 * MESH_SEC)
enum { NAMES_MAX = 1 << 20 }; /* of one type, where the server chooses: it cannot take the host's memory */
enum { BROKEN_MAX = 2 };      /* messages in a row that do not scan before the stream is given up */

/* What follows the last '/' of a type URL counts. */
static bool same_type(struct mesh_bytes url, const char *known) {
    const char *name = strrchr(known, '/') + 1;
    size_t n = strlen(name);
    return url.n >= n && memcmp(url.p + url.n - n, name, n) == 0 &&
           (url.n == n || url.p[url.n - n - 1] == '/');
}

static struct ads_type *type_of(struct mesh_ads *a, struct mesh_bytes url) {
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        if (same_type(url, mesh_ads_type_url((enum mesh_ads_type)i)))
            return &a->types[i];
    return NULL;
}

static char *text_of(struct mesh_bytes b) {
    return strndup(b.n ? (const char *)b.p : "", b.n);
}

/* ---- responses --------------------------------------------------------------------------------------------
 */
struct response {
    struct mesh_ads *a;
    enum mesh_ads_type type;
    struct ads_type *t;
    struct mesh_scan_response head;
    uint64_t now;
    uint32_t at; /* number of the resource at hand */
    char error[ERROR_MAX];
    size_t len;
};

static int complain(struct response *r, struct mesh_bytes name, const char *why) {
    char where[32];
    snprintf(where, sizeof(where), "resources[%u]", r->at - 1);
    int n = snprintf(r->error + r->len, sizeof(r->error) - r->len, "%s%.*s: %s", r->len ? "; " : "",
                     name.n ? (int)(name.n < 512 ? name.n : 512) : (int)strlen(where),
                     name.n ? (const char *)name.p : where, why);
    r->len += (size_t)n;
    if (r->len >= sizeof(r->error))
        r->len = sizeof(r->error) - 1;
    for (size_t i = 0; i < r->len && !mesh_text_sound((const uint8_t *)r->error, r->len); i++)
        if (r->error[i] & 0x80) /* a character was cut: a server would not take the request */
            r->error[i] = '?';
    return 0;
}

/* The name is field 1 of each of them; a NameTable has none. */
static int name_inside(const struct response *r, const struct mesh_scan_resource *in,
                       struct mesh_bytes *ret) {
    struct mesh_scan s = mesh_scan_of(in->value);
    struct mesh_field f;
    int rc;
    *ret = (struct mesh_bytes){NULL, 0};
    if (r->type == MESH_ADS_NAMES)
        return 0;
    while ((rc = mesh_scan_next(&s, &f)) > 0)
        if (f.number == 1 && f.wire == MESH_WIRE_BYTES)
            *ret = f.bytes;
    return rc;
}

static bool same_bytes(struct mesh_bytes a, struct mesh_bytes b) {
    return a.n == b.n && (!a.n || memcmp(a.p, b.p, a.n) == 0);
}

static void set_ttl(struct response *r, struct ads_name *n, const struct mesh_scan_resource *in) {
    n->expires = in->has_ttl ? r->now + in->ttl : 0;
    mesh_ads_pull(r->a, n->expires);
}

/* Resent without content: only its time to live is told anew. */
static int heartbeat(struct response *r, const struct mesh_scan_resource *in) {
    struct ads_name *n = mesh_dict_find(&r->t->names, (const char *)in->name.p, in->name.n);
    struct mesh_bytes has = {(const uint8_t *)(n ? n->version : NULL),
                             n && n->version ? strlen(n->version) : 0};
    if (!n || !n->is_present || !same_bytes(has, in->version))
        return complain(r, in->name, "no content");
    n->round = r->t->round;
    set_ttl(r, n, in);
    return 0;
}

static struct ads_name *wanted(struct response *r, struct mesh_bytes name) {
    struct ads_name *n = mesh_dict_find(&r->t->names, (const char *)name.p, name.n);
    if (n && (n->is_wanted || r->t->is_wildcard))
        return n;
    return !n && r->t->is_wildcard ? mesh_ads_add(r->t, (const char *)name.p, name.n) : NULL;
}

static int keep_name(struct response *r, struct ads_name *n, const struct mesh_scan_resource *in) {
    char *version = in->is_wrapped ? text_of(in->version) : NULL;
    if (in->is_wrapped && !version)
        return MESH_E_NOMEM;
    free(n->version);
    n->version = version;
    n->is_present = true;
    set_ttl(r, n, in);
    return 0;
}

static int offer(struct response *r, struct mesh_bytes name, const struct mesh_scan_resource *in) {
    struct mesh_why why = {""};
    if (r->t->is_wildcard && r->t->names.n >= NAMES_MAX)
        return complain(r, name, "too many resources");
    struct ads_name *n = wanted(r, name);
    if (!n)
        return r->t->is_wildcard ? MESH_E_NOMEM : 0;
    if (n->round == r->t->round)
        return complain(r, name, "comes twice");
    n->round = r->t->round;
    n->is_seen = true;
    n->deadline = 0;
    struct mesh_bytes version = in->is_wrapped && in->version.n ? in->version : r->head.version;
    int rc = r->a->owner->offer(r->a->arg, r->type, n->text, in->value, version, &why);
    if (rc == 0)
        rc = keep_name(r, n, in);
    if (rc == MESH_E_NOMEM) /* not the server's fault: the stream starts over */
        return rc;
    return rc ? complain(r, name, *why.text ? why.text : mesh_err_text(rc)) : 0;
}

static int on_resource(void *arg, const struct mesh_scan_resource *in) {
    struct response *r = arg;
    struct mesh_bytes name;
    r->at++;
    if (!in->value.p)
        return heartbeat(r, in);
    if (!same_type(in->type_url, mesh_ads_type_url(r->type)))
        return complain(r, in->name, "not of the type of the response");
    if (name_inside(r, in, &name))
        return complain(r, in->name, mesh_err_text(MESH_E_SYNTAX));
    if (!name.n && r->type != MESH_ADS_NAMES)
        return complain(r, in->name, "has no name");
    if (in->name.n && r->type != MESH_ADS_NAMES && !same_bytes(in->name, name))
        return complain(r, in->name, "calls itself otherwise inside");
    if (!mesh_text_sound(name.p, name.n))
        return complain(r, in->name, "its name is no text");
    return offer(r, name, in);
}

static int on_removed(void *arg, struct mesh_bytes name) {
    struct response *r = arg;
    struct ads_name *n = mesh_dict_find(&r->t->names, (const char *)name.p, name.n);
    if (!n || n->round == r->t->round)
        return 0;
    n->is_seen = true;
    mesh_ads_gone(r->a, r->type, n);
    return 0;
}

static int on_error(void *arg, struct mesh_bytes name, int code, struct mesh_bytes message) {
    struct response *r = arg;
    struct ads_name *n = mesh_dict_find(&r->t->names, (const char *)name.p, name.n);
    if (!n || !n->is_wanted)
        return 0;
    n->is_seen = true;
    n->deadline = 0;
    n->round = r->t->round;
    r->a->owner->failed(r->a->arg, r->type, n->text, code, message);
    return 0;
}

/* LDS and CDS say all there is: what was here and is not named any more is gone. */
static void drop_absent(struct response *r) {
    for (struct ads_name *n = (struct ads_name *)r->t->names.first, *next; n; n = next) {
        next = (struct ads_name *)n->item.next;
        if (n->is_present && n->round != r->t->round)
            mesh_ads_gone(r->a, r->type, n);
    }
}

/* ---- the brake --------------------------------------------------------------------------------------------
 * Some servers send what was rejected again at once. The same bytes, but for the nonce, are not looked at
 * again, and the NACK waits longer each time. */
static int hash_resource(void *arg, const struct mesh_scan_resource *in) {
    uint64_t *h = arg;
    *h = mesh_hash_bytes(in->name.p, in->name.n, *h);
    *h = mesh_hash_bytes(in->version.p, in->version.n, *h);
    *h = mesh_hash_bytes(in->value.p, in->value.n, *h + in->is_wrapped);
    return 0;
}

static int hash_removed(void *arg, struct mesh_bytes name) {
    uint64_t *h = arg;
    *h = mesh_hash_bytes(name.p, name.n, *h + 1);
    return 0;
}

static int hash_error(void *arg, struct mesh_bytes name, int code, struct mesh_bytes message) {
    return hash_removed(arg, name) + hash_removed(arg, message);
}

static uint64_t hash_of(const struct response *r, const uint8_t *p, size_t n) {
    static const struct mesh_scan_sink sink = {hash_resource, hash_removed, hash_error};
    uint64_t h = mesh_hash_bytes(r->head.version.p, r->head.version.n, 0);
    int rc = mesh_scan_response_each(p, n, r->a->ops->is_delta, &sink, &h);
    return rc ? 0 : h | 1;
}

static uint64_t brake_delay(uint32_t repeats) {
    uint64_t delay = BRAKE_FIRST;
    for (uint32_t i = 1; i < repeats && delay < BRAKE_MAX; i++)
        delay = delay * 16 / 10;
    return delay < BRAKE_MAX ? delay : BRAKE_MAX;
}

static bool is_repeated(struct response *r, uint64_t hash) {
    struct ads_type *t = r->t;
    if (!t->rejected || hash != t->rejected || !t->rejected_why)
        return false;
    t->repeats++;
    t->answer_at = r->now + brake_delay(t->repeats);
    mesh_ads_pull(r->a, t->answer_at);
    r->len = (size_t)snprintf(r->error, sizeof(r->error), "%s", t->rejected_why);
    return true;
}

/* ---- a message --------------------------------------------------------------------------------------------
 */
static int walk(struct response *r, const uint8_t *p, size_t n) {
    static const struct mesh_scan_sink sink = {on_resource, on_removed, on_error};
    int rc = mesh_scan_response_each(p, n, r->a->ops->is_delta, &sink, r);
    if (rc == 0 && !r->a->ops->is_delta && mesh_ads_is_full(r->type))
        drop_absent(r);
    return rc;
}

/* Keeps what an answer needs. Without the memory for it the stream is of no use. */
static int keep(struct response *r, uint64_t hash) {
    struct ads_type *t = r->t;
    bool is_good = !r->len;
    char *version = is_good && !r->a->ops->is_delta ? text_of(r->head.version) : NULL;
    char *error = is_good ? NULL : strdup(r->error), *why = is_good ? NULL : strdup(r->error);
    if ((is_good && !r->a->ops->is_delta && !version) || (!is_good && (!error || !why))) {
        free(version);
        free(error);
        free(why);
        return MESH_E_NOMEM;
    }
    if (version) {
        free(t->version);
        t->version = version;
    }
    free(t->error);
    t->error = error;
    if (is_good || hash != t->rejected)
        mesh_ads_release(t);
    free(t->rejected_why);
    t->rejected_why = why;
    t->rejected = is_good ? 0 : hash;
    return 0;
}

static int take_nonce(struct ads_type *t, struct mesh_bytes nonce) {
    char *text = text_of(nonce);
    if (!text)
        return MESH_E_NOMEM;
    free(t->nonce);
    t->nonce = text;
    return 0;
}

/* A response is answered before the next one of its type is looked at. */
static int settle(struct mesh_ads *a, enum mesh_ads_type type, uint64_t now) {
    struct ads_type *t = &a->types[type];
    return t->is_answer_due && t->answer_at <= now ? a->ops->send(a, type, now) : 0;
}

static int on_response(struct response *r, const uint8_t *p, size_t n) {
    struct ads_type *t = r->t;
    int rc = settle(r->a, r->type, r->now);
    rc = rc ? rc : take_nonce(t, r->head.nonce);
    if (rc || !t->is_requested) /* kept in case that the type is asked for later */
        return rc;
    uint64_t hash = t->rejected ? hash_of(r, p, n) : 0;
    t->round++;
    t->answer_at = 0;
    if (!is_repeated(r, hash))
        rc = walk(r, p, n);
    if (rc)
        return rc;
    if (r->len && !hash)
        hash = hash_of(r, p, n);
    rc = keep(r, hash);
    if (rc)
        return rc;
    t->is_answer_due = t->is_answered = true;
    r->a->owner->answered(r->a->arg, r->type, t->error);
    return 0;
}

static void broken(struct mesh_ads *a) {
    if (++a->broken >= BROKEN_MAX)
        a->owner->restart(a->arg, "responses that are not well-formed");
}

void mesh_ads_message(struct mesh_ads *a, const uint8_t *p, size_t n, uint64_t now) {
    struct response *r = calloc(1, sizeof(*r));
    int rc = r ? mesh_scan_response(p, n, a->ops->is_delta, &r->head) : MESH_E_NOMEM;
    if (r && rc) {
        broken(a);
    } else if (r) {
        a->broken = 0;
        r->a = a;
        r->now = now;
        r->t = type_of(a, r->head.type_url);
        r->type = r->t ? (enum mesh_ads_type)(r->t - a->types) : MESH_ADS_TYPES;
        rc = r->t ? on_response(r, p, n) : 0;
    }
    if (rc == MESH_E_NOMEM)
        a->owner->restart(a->arg, mesh_err_text(rc));
    free(r);
}
