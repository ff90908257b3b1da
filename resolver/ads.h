/* SPDX-License-Identifier: Apache-2.0
 *
 * The xDS protocol on one aggregated stream to one server: what is subscribed to, versions, nonces, ACK and NACK, the timers
 * of what does not come, TTLs, and the brake on a server that repeats what was rejected. State of the world and Delta take one
 * path; the few things that differ are a table (resolver/ads_request.c). Messages in, messages out; time is an argument; what a
 * resource means is the owner's (struct mesh_ads_owner).
 * facts: xds_protocol (Envoy docs), A27, A46, A53, A57, A88. Threads: one at a time per object.
 */
#ifndef MESH_RESOLVER_ADS_H
#define MESH_RESOLVER_ADS_H

#include "proto/scan.h"
#include "resolver/bootstrap.h"

enum mesh_ads_type { /* in the order in which requests go out */
    MESH_ADS_CLUSTER,
    MESH_ADS_ENDPOINT,
    MESH_ADS_LISTENER,
    MESH_ADS_ROUTE,
    MESH_ADS_SECRET,
    MESH_ADS_NAMES, /* istio.networking.nds.v1.NameTable: one resource whose name is "" */
    MESH_ADS_TYPES
};
const char *mesh_ads_type_url(enum mesh_ads_type type);
#define MESH_ADS_PATH_SOTW "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
#define MESH_ADS_PATH_DELTA "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

struct mesh_ads_owner {
    /* Queues a message on the stream. Negative: it is not sent, and the stream will go down. */
    int (*send)(void *arg, const uint8_t *p, size_t n);
    void (*restart)(void *arg, const char *why); /* the server sends what cannot be answered */
    /* One resource that is subscribed to. Negative: it is bad, *why says why, it is NACKed and what was there before is the
     * owner's to keep or drop. MESH_E_NOMEM: not the server's fault, the stream is restarted. */
    int (*offer)(void *arg, enum mesh_ads_type type, const char *name, struct mesh_bytes value, struct mesh_bytes version,
                 struct mesh_why *why);
    void (*removed)(void *arg, enum mesh_ads_type type, const char *name);  /* said, or absent from LDS or CDS, or its TTL is over */
    void (*failed)(void *arg, enum mesh_ads_type type, const char *name, int code, struct mesh_bytes message); /* A88 */
    void (*missing)(void *arg, enum mesh_ads_type type, const char *name);  /* no answer in time (A57, A88) */
    bool (*cached)(void *arg, enum mesh_ads_type type, const char *name);   /* it is there: nobody need wait for it */
    /* After each response, valid or not. `error`: of the NACK, NULL: ACK. */
    void (*answered)(void *arg, enum mesh_ads_type type, const char *error);
};

struct mesh_ads;
/* `server` and `owner` outlive it; `node`: packed bytes of a core.v3.Node, as well. MESH_E_NOMEM. */
int mesh_ads_new(const struct mesh_xds_server *server, struct mesh_bytes node, const struct mesh_ads_owner *owner, void *arg,
                 struct mesh_ads **ret) MESH_MUST_CHECK;
void mesh_ads_free(struct mesh_ads *a);
const char *mesh_ads_path(const struct mesh_ads *a); /* the method to call now */

/* Takes effect with the next flush. Again: nothing new. MESH_E_NOMEM; MESH_E_LIMIT: the names of one type would not fit into a
 * request of 4 MiB. */
int mesh_ads_subscribe(struct mesh_ads *a, enum mesh_ads_type type, const char *name) MESH_MUST_CHECK;
void mesh_ads_unsubscribe(struct mesh_ads *a, enum mesh_ads_type type, const char *name);
/* Everything of a type, for good. In state of the world an empty list, never mixed with names, as Envoy sends it (servers
 * that do not know "*" there are around); "*" in Delta. */
void mesh_ads_subscribe_all(struct mesh_ads *a, enum mesh_ads_type type);

/* The stream's life, as of struct mesh_channel_events. Nothing is sent before the flush. */
void mesh_ads_up(struct mesh_ads *a);
void mesh_ads_message(struct mesh_ads *a, const uint8_t *p, size_t n, uint64_t now);
/* True: the server does not know the Delta method, the path is another one now. */
bool mesh_ads_down(struct mesh_ads *a, int status, bool answered);
/* Versions and what was received no longer hold: another server's answers are in the cache. */
void mesh_ads_forget(struct mesh_ads *a);

/* Sends what is due: at most one request a type, or an ACK and a change of subscriptions in Delta. Call after anything above. */
void mesh_ads_flush(struct mesh_ads *a, uint64_t now);
void mesh_ads_tick(struct mesh_ads *a, uint64_t now); /* timers and TTLs that have run out */
uint64_t mesh_ads_deadline(const struct mesh_ads *a); /* UINT64_MAX: none */

struct mesh_ads_info {
    uint32_t acks, nacks;
    bool is_answered;     /* a response has come, on any stream */
    bool is_subscribed;   /* to something */
};
struct mesh_ads_info mesh_ads_describe(const struct mesh_ads *a);
/* Has a response of this type come (of the active stream or an earlier one)? */
bool mesh_ads_has_answered(const struct mesh_ads *a, enum mesh_ads_type type);

#endif
