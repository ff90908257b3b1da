/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared by shim/hand.c and shim/dial.c.
 */
#ifndef MESH_SHIM_HAND_PRIVATE_H
#define MESH_SHIM_HAND_PRIVATE_H

#include "shim/engine.h"
#include "shim/hand.h"

enum hand_stage {
    STAGE_CONNECT, /* client: TCP connect under way */
    STAGE_FIRST,   /* server: nothing consumed; permissive looks at the first bytes */
    STAGE_SHAKE,   /* records go back and forth */
    STAGE_TICKET,  /* client, open: the TLS object waits for tickets */
};

struct dial {
    struct mesh_route route;
    struct mesh_target *target;
    struct mesh_endpoint endpoint;
    struct sockaddr_storage to; /* what the kernel was told */
    socklen_t to_len;
    uint64_t attempt_at;        /* mesh_now() of this attempt */
    int last_errno;
    uint8_t attempts;           /* begun so far */
    uint8_t families;           /* bit 0: IPv4, bit 1: IPv6 */
    bool mapped;                /* IPv6 socket: IPv4 endpoints as v4-mapped */
    bool another;               /* some endpoint is left to try */
    uint8_t ntried;
    uint32_t tried[32];         /* counters' indices of endpoints tried */
};

struct mesh_hand {
    struct mesh_handshake *tls;
    struct dial *dial;     /* client */
    uint8_t stage;         /* enum hand_stage */
    uint8_t mode;          /* server: enum mesh_inbound_mode; OFF: the view asks who calls, and for no TLS of ours */
    bool by_view;          /* server: the view chooses how it goes on */
    bool waits;            /* server: what the view says of this caller is not known yet */
    volatile bool busy;    /* in a step: a copy made by fork now is torn */
    short wants;           /* poll events */
    int connected;         /* client, STAGE_CONNECT: 0 up, -errno failed, 1 not known yet */
    uint16_t port;         /* server: local port */
    uint64_t deadline;     /* of this attempt, or of the handshake */
    uint64_t tell_at;      /* client: when the program is told *connected* although the peer is not authenticated */
    uint64_t began;
    uint64_t look_at;      /* server: first bytes that tell nothing yet are looked at again then; 0: no such bytes */
};

/* Deadline and events of l->hand to where they may be looked at without a lock (struct mesh_local). */
void hand_show(uint32_t slot);
/* The TLS client side for the attempt that just connected. */
int dial_tls(struct mesh_conn *c, struct mesh_hand *h, struct mesh_why *why);
/* TCP connect: wants, 0 when up, or -errno of this attempt. */
int dial_connect_step(struct mesh_hand *h, int fd);
/* The attempt failed: tell lb, take the next endpoint. 0: another one is under way; -errno: final. */
int dial_next(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h, int err, int errno_of, const char *why,
              const struct mesh_why *detail);
/* It is up and authenticated (or plaintext): counters and latency. */
void dial_done(struct mesh_conn *c, struct mesh_hand *h);
void dial_free(struct dial *d);

#endif
