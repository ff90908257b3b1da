/* SPDX-License-Identifier: Apache-2.0
 *
 * What resolver/ads*.c share. Threads: one at a time per object.
 */
#ifndef MESH_RESOLVER_ADS_INNER_H
#define MESH_RESOLVER_ADS_INNER_H

#include "resolver/ads.h"
#include "resolver/dict.h"

enum {
    REQUEST_MAX = 4 << 20,      /* bytes that servers take (gRPC's default) */
    REQUEST_ROOM = 256 << 10,   /* of these for node, error, version and nonce */
    NAME_COST = 8,              /* bytes around a name */
    ERROR_MAX = 4096,           /* bytes of a NACK's message */
};

struct ads_name { /* a name of one type: subscribed to, or received by wildcard */
    struct mesh_dict_item item;
    bool is_wanted;
    bool is_sent;        /* the server knows of the subscription, on this stream */
    bool is_seen;        /* it came on this stream, in whatever form, or an error instead of it */
    bool is_present;     /* its last good form came from this server */
    uint32_t round;      /* the response that named it last */
    uint64_t deadline;   /* does-not-exist timer; 0: does not run */
    uint64_t expires;    /* TTL; 0: none */
    char *version;       /* as the wrapper said it; NULL: none */
    char text[];
};

struct ads_type {
    struct mesh_dict names;
    bool is_wildcard;
    bool is_requested;   /* on this stream */
    bool is_changed;     /* the subscriptions are others than the server's */
    bool is_answer_due;  /* an ACK or NACK for `nonce` */
    bool is_answered;    /* ever */
    uint32_t round;      /* responses so far */
    size_t bytes;        /* that the wanted names take in a request */
    char *version;       /* acknowledged; survives the stream. NULL: none */
    char *nonce;         /* newest of this stream. NULL: none */
    char *error;         /* of the NACK that is due; NULL: ACK */
    /* the brake */
    uint64_t rejected;   /* hash of the last response, when it was rejected; 0: it was not */
    char *rejected_why;
    uint32_t repeats;
    uint64_t answer_at;  /* a NACK is not due before */
};

struct ads_ops;
struct mesh_ads {
    const struct mesh_xds_server *server;
    struct mesh_bytes node;
    const struct mesh_ads_owner *owner;
    void *arg;
    const struct ads_ops *ops;
    struct ads_type types[MESH_ADS_TYPES];
    bool is_up, is_node_sent;
    uint32_t broken;     /* messages in a row that did not scan */
    uint32_t acks, nacks;
    uint64_t deadline;   /* no later than the earliest of all timers */
};

struct ads_ops { /* where the two forms of the protocol differ (resolver/ads_request.c) */
    const char *path;
    bool is_delta;
    /* Sends what is due of one type; negative: the stream is of no use. */
    int (*send)(struct mesh_ads *a, enum mesh_ads_type type, uint64_t now);
};
extern const struct ads_ops mesh_ads_sotw, mesh_ads_delta;

bool mesh_ads_is_full(enum mesh_ads_type type); /* each response says all there is: LDS, CDS */
void mesh_ads_sent(struct mesh_ads *a, enum mesh_ads_type type, struct ads_name *n, uint64_t now);
struct ads_name *mesh_ads_add(struct ads_type *t, const char *text, size_t len); /* NULL: out of memory */
void mesh_ads_gone(struct mesh_ads *a, enum mesh_ads_type type, struct ads_name *n); /* tells it; n may be dropped */
void mesh_ads_pull(struct mesh_ads *a, uint64_t at); /* a timer is due at that time */
void mesh_ads_release(struct ads_type *t); /* the brake */
void mesh_ads_drop(struct ads_type *t, struct ads_name *n);

#endif
