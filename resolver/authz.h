/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may call: RBAC (envoy.config.rbac.v3, gRFC A41) of an inbound filter chain as flat records, and the
 * judgement of one connection by them. A record is self-contained: spans and text offsets count from its
 * head, nodes stand in preorder. Nothing in it is trusted: a bad offset, a node that reaches out of its
 * parent, too many of them, too deep, are MESH_E_INTERNAL.
 *
 * Conditions have three values: what only a request can answer (a header, a path) is MAYBE, and so is what we
 * cannot know of a connection. Where the outcome hangs on a MAYBE the connection is refused and the condition
 * named: a filter that decides by request cannot be kept at connection level, and is never passed over.
 */
#ifndef MESH_RESOLVER_AUTHZ_H
#define MESH_RESOLVER_AUTHZ_H

#include "resolver/layout.h"

enum authz_op {
    AUTHZ_ANY = 1,
    AUTHZ_AND,
    AUTHZ_OR,
    AUTHZ_NOT,
    AUTHZ_LOCAL_IP,      /* destination_ip */
    AUTHZ_LOCAL_PORT,    /* off: lowest, len: highest */
    AUTHZ_PEER_IP,       /* direct_remote_ip, source_ip; remote_ip where no header may say it */
    AUTHZ_AUTHENTICATED, /* any certificate */
    AUTHZ_PRINCIPAL,
    AUTHZ_SERVER_NAME,
    AUTHZ_REQUEST, /* the text says what of the request */
};
struct authz_node {
    uint8_t op;
    uint8_t kind;        /* enum mesh_match_kind; of an address: the family */
    uint8_t ignore_case; /* of an address: bits */
    uint8_t spare;
    uint32_t nodes;    /* this one and all below it */
    uint32_t off, len; /* text, or the address's bytes */
};
struct authz_policy {
    struct view_span name;
    uint32_t node; /* AND of what is asked for and who asks */
};
enum { AUTHZ_ALLOW, AUTHZ_DENY, AUTHZ_LOG }; /* envoy.config.rbac.v3.RBAC.Action */
struct authz_filter {
    uint8_t action;
    uint8_t shadow; /* dry run: decides nothing */
    uint8_t spare[2];
    uint32_t first, n; /* policies */
};
struct authz_head {
    struct view_span filters, policies, nodes;
};

enum {
    AUTHZ_NODES_MAX = 1 << 16,
    AUTHZ_POLICIES_MAX = 4096,
    AUTHZ_FILTERS_MAX = 64,
    AUTHZ_DEPTH_MAX = 40,      /* a message nests 32 deep */
    AUTHZ_REGEX_MAX = 1024,    /* evaluated by one judgement */
    AUTHZ_STEPS_MAX = 1 << 18, /* conditions asked by one judgement */
};

/* Judges by all filters of a record, in their order. 0 and *io_verdict filled in (its first refusal stays),
 * or MESH_E_INTERNAL: the record is damaged, nobody may pass. `caller` has both addresses. Threads: any. */
int mesh_authz_judge(const void *rec, uint32_t len, const struct mesh_caller *caller,
                     struct mesh_verdict *io_verdict) MESH_MUST_CHECK;

/* ---- shared with the choice of a chain (resolver/inbound.c)
 * ----------------------------------------------------- */
struct mesh_where { /* an address as conditions see it: v4-mapped is IPv4 */
    uint8_t family; /* 0: not known */
    uint8_t addr[16];
    uint16_t port;
};
bool mesh_where_of(const struct sockaddr *sa, socklen_t len, struct mesh_where *ret);
bool mesh_bits_match(const uint8_t *a, const uint8_t *b, uint8_t bits);

#endif
