/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "resolver/cache.h"
#include "resolver/view.h"
#include "shim/base/mem.h"

/* ---- forms ------------------------------------------------------------------------------------------------
 */
static void form_free(struct mesh_cache *c, struct mesh_form *f) {
    if (f->msg)
        protobuf_c_message_free_unpacked(f->msg, NULL);
    if (f->bytes) {
        mesh_zero(f->bytes, f->n); /* of a secret it is a key */
        c->bytes -= f->n;
    }
    free(f->bytes);
    free(f->refused);
    mesh_deps_free(f->deps, f->ndeps);
    free(f);
}

void mesh_form_unref(struct mesh_cache *c, struct mesh_form *f) {
    if (f && --f->refs == 0)
        form_free(c, f);
}

void mesh_entry_show(struct mesh_cache *c, struct mesh_entry *e, struct mesh_form *f) {
    struct mesh_form *old = e->out;
    if (f == old)
        return;
    if (f)
        f->refs++;
    e->out = f;
    mesh_form_unref(c, old);
    if (e->type != MESH_ADS_ENDPOINT || e->is_dirty)
        return;
    e->next_dirty = c->dirty;
    c->dirty = e;
    e->is_dirty = true;
}

static const ProtobufCMessageDescriptor *descriptor(enum mesh_ads_type type) {
    return mesh_proto_type(mesh_ads_type_url(type));
}

/* A message of the type that says nothing but its name, to hang a refusal on. */
static ProtobufCMessage *named_message(enum mesh_ads_type type, const char *name) {
    size_t n = strlen(name), len = 0;
    uint8_t *wire = malloc(n + 8);
    ProtobufCMessage *m = NULL;
    if (!wire)
        return NULL;
    wire[len++] = 1 << 3 | MESH_WIRE_BYTES;
    for (size_t left = n;; left >>= 7) {
        wire[len++] = (uint8_t)(left > 0x7f ? left | 0x80 : left);
        if (left <= 0x7f)
            break;
    }
    memcpy(wire + len, name, n);
    int rc = mesh_proto_unpack(descriptor(type), wire, type == MESH_ADS_NAMES ? 0 : len + n, &m);
    free(wire);
    return rc ? NULL : m;
}

static int refuse(struct mesh_form *f, const struct mesh_entry *e, const char *what) {
    static const char *const kinds[MESH_ADS_TYPES] = {"CDS", "EDS", "LDS", "RDS", "SDS", "NDS"};
    struct mesh_why why;
    mesh_why(&why, 0, "%s %.100s: %s", kinds[e->type], e->text, what);
    f->refused = strdup(why.text);
    return f->refused ? 0 : MESH_E_NOMEM;
}

static int form_refused(struct mesh_cache *c, const struct mesh_entry *e, const char *what,
                        struct mesh_form **ret) {
    struct mesh_form *f = calloc(1, sizeof(*f));
    if (!f)
        return MESH_E_NOMEM;
    f->refs = 1;
    f->serial = ++c->serial;
    f->since = c->clock;
    f->msg = e->type == MESH_ADS_ENDPOINT ? NULL : named_message(e->type, e->text);
    int rc = f->msg || e->type == MESH_ADS_ENDPOINT ? refuse(f, e, what) : MESH_E_NOMEM;
    if (rc)
        form_free(c, f);
    else
        *ret = f;
    return rc;
}

/* Unsupported is not wrong: the form is kept, and what depends on it refused. */
static int check(struct mesh_form *f, const struct mesh_entry *e, struct mesh_why *why) {
    struct mesh_why guard = {""};
    int rc = mesh_proto_check(f->msg, "", &guard);
    if (rc == MESH_E_UNSUPPORTED)
        return refuse(f, e, guard.text);
    return rc ? mesh_why(why, rc, "%s", guard.text) : 0;
}

static int parse(struct mesh_form *f, const struct mesh_entry *e, struct mesh_bytes value,
                 struct mesh_why *why) {
    if (e->type == MESH_ADS_ENDPOINT)
        return mesh_valid_assignment(e->text, value, why);
    int rc = mesh_proto_unpack(descriptor(e->type), value.p, value.n, &f->msg);
    if (rc)
        return mesh_why(why, rc, "%s", mesh_err_text(rc));
    rc = check(f, e, why);
    rc = rc ? rc : mesh_valid_message(e->type, f->msg, why);
    return rc || f->refused ? rc : mesh_deps_of(e->type, f->msg, &f->deps, &f->ndeps);
}

static int form_new(struct mesh_cache *c, const struct mesh_entry *e, struct mesh_bytes value, uint64_t hash,
                    struct mesh_why *why, struct mesh_form **ret) {
    if (value.n > MESH_CACHE_BYTES - c->bytes)
        return mesh_why(why, MESH_E_LIMIT, "all resources together are over %d MiB", MESH_CACHE_BYTES >> 20);
    struct mesh_form *f = calloc(1, sizeof(*f));
    uint8_t *bytes = malloc(value.n ? value.n : 1);
    if (!f || !bytes) {
        free(f);
        free(bytes);
        return MESH_E_NOMEM;
    }
    if (value.n)
        memcpy(bytes, value.p, value.n);
    *f = (struct mesh_form){
        .refs = 1, .serial = ++c->serial, .since = c->clock, .hash = hash, .bytes = bytes, .n = value.n};
    c->bytes += value.n;
    int rc = parse(f, e, value, why);
    if (rc)
        form_free(c, f);
    else
        *ret = f;
    return rc;
}

/* ---- entries ----------------------------------------------------------------------------------------------
 */
struct mesh_entry *mesh_cache_find(const struct mesh_cache *c, enum mesh_ads_type type, const char *name) {
    return mesh_dict_find(&c->types[type], name, strlen(name));
}

struct mesh_entry *mesh_cache_get(struct mesh_cache *c, enum mesh_ads_type type, const char *name) {
    struct mesh_entry *e = mesh_cache_find(c, type, name);
    size_t n = strlen(name) + 1;
    if (e)
        return e;
    e = calloc(1, sizeof(*e) + n);
    if (!e)
        return NULL;
    memcpy(e->text, name, n);
    e->type = type;
    e->status = MESH_XDS_REQUESTED;
    if (mesh_dict_add(&c->types[type], &e->item, e->text) == 0)
        return e;
    free(e);
    return NULL;
}

static void clean(struct mesh_cache *c, struct mesh_entry *e) {
    struct mesh_entry **at = &c->dirty;
    while (e->is_dirty && *at != e)
        at = &(*at)->next_dirty;
    if (e->is_dirty)
        *at = e->next_dirty;
    e->is_dirty = false;
}

void mesh_cache_clean(struct mesh_cache *c) {
    for (struct mesh_entry *e = c->dirty; e; e = e->next_dirty)
        e->is_dirty = false;
    c->dirty = NULL;
}

void mesh_cache_drop(struct mesh_cache *c, struct mesh_entry *e) {
    clean(c, e);
    mesh_dict_remove(&c->types[e->type], &e->item);
    mesh_form_unref(c, e->now);
    mesh_form_unref(c, e->out);
    c->is_stale = true; /* it may have been linked as a user */
    free(e->version);
    free(e->error);
    free(e->error_version);
    free(e);
}

void mesh_cache_done(struct mesh_cache *c) {
    for (int i = 0; i < MESH_ADS_TYPES; i++) {
        while (c->types[i].first)
            mesh_cache_drop(c, mesh_cache_first(c, i));
        mesh_dict_done(&c->types[i]);
    }
}

/* New endpoints of a cluster that is out go out at once; anything else may change what is complete. */
static void set_now(struct mesh_cache *c, struct mesh_entry *e, struct mesh_form *f) {
    struct mesh_form *old = e->now;
    e->now = f;
    if (e->type == MESH_ADS_ENDPOINT && f && e->out && e->users && !f->refused == !e->out->refused) {
        mesh_entry_show(c, e, f);
    } else {
        c->is_stale = true;
    }
    mesh_form_unref(c, old);
}

static void forget_error(struct mesh_entry *e) {
    free(e->error);
    free(e->error_version);
    e->error = e->error_version = NULL;
}

static void take(struct mesh_entry *e, char *version, int64_t wall) {
    free(e->version);
    e->version = version;
    e->updated = wall;
    e->status = MESH_XDS_ACKED;
    e->is_gone = false;
    e->is_definite = true;
    forget_error(e);
}

static bool same_bytes(const struct mesh_form *f, const struct mesh_offer *in, uint64_t hash) {
    return f && f->bytes && f->hash == hash && f->n == in->value.n &&
           (!f->n || memcmp(f->bytes, in->value.p, f->n) == 0);
}

/* Why it was rejected is told; the form in force stays, unless there was none, or the server wants it to go.
 */
static int reject(struct mesh_cache *c, struct mesh_entry *e, const struct mesh_offer *in, const char *what) {
    struct mesh_form *f = NULL;
    char *error = strdup(what),
         *version = strndup(in->version.n ? (const char *)in->version.p : "", in->version.n);
    bool replaces = !e->now || !e->now->bytes || in->fails_on_data_errors;
    int rc = error && version ? 0 : MESH_E_NOMEM;
    if (rc == 0 && replaces)
        rc = form_refused(c, e, what, &f);
    if (rc) {
        free(error);
        free(version);
        return rc;
    }
    forget_error(e);
    e->error = error;
    e->error_version = version;
    e->status = MESH_XDS_NACKED;
    e->updated = in->wall;
    e->is_definite = true;
    if (replaces)
        set_now(c, e, f);
    return 0;
}

int mesh_cache_offer(struct mesh_cache *c, struct mesh_entry *e, const struct mesh_offer *in,
                     struct mesh_why *why) {
    struct mesh_form *f = NULL;
    uint64_t hash = mesh_hash_bytes(in->value.p, in->value.n, 0);
    char *version = strndup(in->version.n ? (const char *)in->version.p : "", in->version.n);
    bool is_same = same_bytes(e->now, in, hash);
    int rc = version ? 0 : MESH_E_NOMEM;
    if (rc == 0 && !is_same)
        rc = form_new(c, e, in->value, hash, why, &f);
    if (rc) {
        free(version);
        if (rc == MESH_E_NOMEM)
            return rc;
        int kept = reject(c, e, in, *why->text ? why->text : mesh_err_text(rc));
        return kept ? kept : rc;
    }
    take(e, version, in->wall);
    if (!is_same)
        set_now(c, e, f);
    return 0;
}

void mesh_cache_gone(struct mesh_cache *c, struct mesh_entry *e, enum mesh_xds_status status, bool keeps,
                     bool holds) {
    e->status = status;
    e->is_definite = true;
    if (keeps && e->now)
        return;
    e->is_gone = true;
    if (!holds)
        mesh_entry_show(c, e, NULL);
    mesh_form_unref(c, e->now);
    e->now = NULL;
    c->is_stale = true;
}

void mesh_cache_failed(struct mesh_cache *c, struct mesh_entry *e, enum mesh_xds_status status,
                       const char *error) {
    forget_error(e);
    e->error = strdup(error); /* without memory the status alone tells it */
    e->status = status;
    e->is_definite = true;
    c->is_stale = true;
}
