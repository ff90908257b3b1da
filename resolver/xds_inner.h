/* SPDX-License-Identifier: Apache-2.0
 *
 * What resolver/xds*.c share. Threads: one at a time per object.
 */
#ifndef MESH_RESOLVER_XDS_INNER_H
#define MESH_RESOLVER_XDS_INNER_H

#include "resolver/cache.h"

struct xds_link { /* a server in use, whichever authorities use it (A47: one channel for equal servers) */
    struct mesh_xds *x;
    const struct mesh_xds_server *server;
    const char *authority; /* of the first realm that used it */
    struct mesh_channel *ch;
    struct mesh_ads *ads;
    uint32_t users;        /* realms; 0: closed at the end of the drive */
    bool is_failed;        /* no stream of it has answered since it failed (A71) */
    struct xds_link *next;
};

struct xds_realm { /* an authority; the first one is that of names without any */
    const char *name;
    const struct mesh_xds_server *servers;
    uint32_t nservers;
    struct xds_link **links; /* of the servers up to the active one */
    uint32_t active;         /* the server whose answers count; those before it are tried on */
};

enum { CANDIDATES_MAX = 6, WANTS_MAX = 65536 };
struct xds_want {
    struct mesh_dict_item item;
    struct mesh_entry *entries[CANDIDATES_MAX]; /* what the name may be */
    uint32_t n;
    char text[]; /* NAME:PORT, or what an inbound listener is asked for by */
};

struct mesh_xds {
    struct mesh_xds_config cfg;
    struct mesh_cache cache;
    struct xds_realm *realms;
    uint32_t nrealms;
    struct xds_link *links;
    struct mesh_dict wants, inbound;
    uint64_t now, sweep_at;
    bool is_short; /* of memory, at the last closure: not again at once */
    /* what is published */
    bool is_taken, was_answered;
    uint64_t answered_at; /* the servers were there; 0: not yet */
    uint64_t shape;
    const char **changed;   /* memory of mesh_xds_changed */
    uint32_t changed_room;
    struct mesh_resources resources; /* memory of mesh_xds_resources */
    size_t resources_room;
    /* names that the published set knows (wildcard): resolver/xds_known.c */
    struct mesh_dict known;
    uint64_t known_shape;
    bool is_known_built;
};

/* ---- links (resolver/xds_links.c) ------------------------------------------------------------------------------------ */
int mesh_xds_realms_open(struct mesh_xds *x) MESH_MUST_CHECK;
int mesh_xds_whole_open(struct mesh_xds *x) MESH_MUST_CHECK; /* subscribes to the whole types */
void mesh_xds_links_free(struct mesh_xds *x);
struct xds_realm *mesh_xds_realm_of(struct mesh_xds *x, const char *name); /* NULL: an authority that is not in the bootstrap */
/* Subscribes on each server in use of the name's authority. MESH_E_NOMEM, _LIMIT; MESH_E_NOTFOUND: no such authority. */
int mesh_xds_subscribe(struct mesh_xds *x, struct mesh_entry *e) MESH_MUST_CHECK;
void mesh_xds_unsubscribe(struct mesh_xds *x, struct mesh_entry *e);
/* Goes to the next server where the active one failed and something is missing (A71). */
int mesh_xds_fall_back(struct mesh_xds *x) MESH_MUST_CHECK;
void mesh_xds_links_reap(struct mesh_xds *x);

enum mesh_xds_state mesh_xds_want_state(const struct mesh_xds *x, const struct xds_want *w);
bool mesh_xds_known(struct mesh_xds *x, const char *name, uint16_t port);
void mesh_xds_known_done(struct mesh_xds *x);

#endif
