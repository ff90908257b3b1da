/* SPDX-License-Identifier: Apache-2.0
 *
 * The resources that control planes have said, by type and name (the authority is part of the name), and which of them are
 * published. A resource has up to two forms: `now`, the newest that was accepted, and `out`, the one in the published set;
 * they differ while what the newer one leads to is not here yet (make before break, gRFC A74). Forms are immutable and counted.
 *
 * Where the border of a NACK runs: what does not parse, or no control plane may say (resolver/valid.c), is rejected, and the
 * last good form stays. What parses but asks for something that is not supported (proto/guard.def) is accepted, and its form
 * says `refused`: what depends on it is refused in the view.
 * facts: A46, A53, A57, A74, A88. Threads: one at a time per object.
 */
#ifndef MESH_RESOLVER_CACHE_H
#define MESH_RESOLVER_CACHE_H

#include "proto/proto.h"
#include "resolver/ads.h"
#include "resolver/dict.h"
#include "resolver/xds.h"

enum { MESH_CACHE_BYTES = 1 << 30 }; /* raw bytes of all resources: a server cannot take the host's memory */

struct mesh_dep { /* what a form leads to */
    enum mesh_ads_type type;
    char *name;
};
struct mesh_form {
    uint32_t refs;
    uint64_t serial;       /* of the cache: no two forms share one */
    uint64_t hash;
    uint64_t since;        /* the cache's clock when it came */
    ProtobufCMessage *msg; /* NULL: a ClusterLoadAssignment, which stays raw */
    uint8_t *bytes;        /* NULL: nothing good was ever received, the form says only `refused` */
    size_t n;
    char *refused;         /* NULL: nothing is wrong with it */
    struct mesh_dep *deps;
    uint32_t ndeps;
};

struct mesh_entry {
    struct mesh_dict_item item;
    enum mesh_ads_type type;
    struct mesh_form *now, *out;
    enum mesh_xds_status status;
    bool is_gone;          /* it does not exist: said, or not answered in time. `out` stays while something names it */
    bool is_definite;      /* nothing need be waited for, though there is no form */
    bool is_subscribed;
    uint32_t roots;        /* wants that ask for it by name */
    uint64_t idle_since;   /* nothing needs it; 0: something does */
    int64_t updated;       /* wall clock */
    char *version, *error, *error_version;
    /* of the last pass of the closure */
    uint32_t pass, shown;  /* numbers of the passes that needed and that published it */
    uint32_t height;       /* of an aggregate: levels below and with it */
    bool is_open;          /* on the path at hand */
    bool is_broken;        /* something that `out` leads to does not exist */
    const char *fault;     /* why the cluster as a whole is refused; NULL: it is not */
    /* EDS: who uses it. Clusters: the next one that uses the same assignment */
    struct mesh_entry *users;
    bool is_dirty;         /* these endpoints changed since the last mesh_cache_clean */
    struct mesh_entry *next_dirty;
    char text[];
};

struct mesh_cache {
    struct mesh_dict types[MESH_ADS_TYPES];
    bool is_whole[MESH_ADS_TYPES]; /* subscribed to by wildcard */
    bool is_told[MESH_ADS_TYPES];  /* ... and the server has said all there is */
    size_t bytes;
    uint64_t serial;
    bool is_stale;                 /* the closure must be looked at again */
    struct mesh_entry *dirty;
    uint64_t clock;                /* now, as the owner says it */
    /* the closure's */
    uint64_t held_until;           /* a form waits for what does not exist (yet); UINT64_MAX: none */
    uint32_t pass;
    uint32_t pending;              /* needed, and still on its way */
    uint32_t changing;             /* of these, what is published in an older form */
    uint64_t shape;                /* hash of the published set without endpoints */
};

void mesh_cache_done(struct mesh_cache *c);
struct mesh_entry *mesh_cache_find(const struct mesh_cache *c, enum mesh_ads_type type, const char *name); /* NULL: none */
/* Finds or makes. NULL: out of memory. */
struct mesh_entry *mesh_cache_get(struct mesh_cache *c, enum mesh_ads_type type, const char *name);
void mesh_cache_clean(struct mesh_cache *c); /* what changed is published */
void mesh_cache_drop(struct mesh_cache *c, struct mesh_entry *e);
static inline struct mesh_entry *mesh_cache_first(const struct mesh_cache *c, int type) {
    return (struct mesh_entry *)c->types[type].first;
}
static inline struct mesh_entry *mesh_cache_next(const struct mesh_entry *e) {
    return (struct mesh_entry *)e->item.next;
}

struct mesh_offer {
    struct mesh_bytes value, version;
    int64_t wall;
    bool fails_on_data_errors; /* A88: a rejected form takes the good one with it */
};
/* A new form. Negative, with the reason: it is rejected (MESH_E_SYNTAX, _INVALID, _LIMIT) or cannot be kept (_NOMEM, and nothing
 * has changed then); after a rejection the entry holds its last good form, or one that says `refused`. */
int mesh_cache_offer(struct mesh_cache *c, struct mesh_entry *e, const struct mesh_offer *in, struct mesh_why *why) MESH_MUST_CHECK;
/* It does not exist. keeps: as if nothing had been said, but for the status; holds: `out` stays while something names it. */
void mesh_cache_gone(struct mesh_cache *c, struct mesh_entry *e, enum mesh_xds_status status, bool keeps, bool holds);
/* It cannot be had: what there is stays, if anything. `error` is copied. */
void mesh_cache_failed(struct mesh_cache *c, struct mesh_entry *e, enum mesh_xds_status status, const char *error);

void mesh_form_unref(struct mesh_cache *c, struct mesh_form *f);
void mesh_entry_show(struct mesh_cache *c, struct mesh_entry *e, struct mesh_form *f); /* out = f */

/* ---- what a message says (resolver/valid.c, resolver/deps.c) --------------------------------------------------------- */
/* What no control plane may say. MESH_E_INVALID, _SYNTAX, with the reason. */
int mesh_valid_message(enum mesh_ads_type type, const ProtobufCMessage *m, struct mesh_why *why) MESH_MUST_CHECK;
int mesh_valid_assignment(const char *name, struct mesh_bytes value, struct mesh_why *why) MESH_MUST_CHECK;
/* What it leads to, each once. MESH_E_NOMEM, _SYNTAX. */
int mesh_deps_of(enum mesh_ads_type type, const ProtobufCMessage *m, struct mesh_dep **ret_deps, uint32_t *ret_n) MESH_MUST_CHECK;
void mesh_deps_free(struct mesh_dep *deps, uint32_t n);

/* ---- the closure (resolver/closure.c) -------------------------------------------------------------------------------- */
/* Goes through what the roots lead to: makes entries for what is missing, moves `out` on where the newer form is complete,
 * counts what is pending. Entries that this pass needed have its number. MESH_E_NOMEM: what was published stays. */
int mesh_closure_run(struct mesh_cache *c) MESH_MUST_CHECK;
static inline bool mesh_closure_needs(const struct mesh_cache *c, const struct mesh_entry *e) {
    return e->pass == c->pass;
}
static inline bool mesh_closure_shows(const struct mesh_cache *c, const struct mesh_entry *e) {
    return e->shown == c->pass && e->out;
}

#endif
