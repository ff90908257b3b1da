/* SPDX-License-Identifier: Apache-2.0
 *
 * The standing publisher of a view whose sources change by themselves: a control plane (resolver/xds.h), host names of DNS
 * clusters (resolver/hosts.h), the health of endpoints that are checked (resolver/health.h). It holds the lease and beats, takes what is demanded (resolver/demand.h), publishes what came,
 * and answers. One process of all that map the view has it; one that finds its lease gone stops. It does no waiting of its
 * own: the owner (shim/steward.c, meshctl agent) polls what mesh_publisher_fill names and calls mesh_publisher_turn.
 *
 * What a change costs follows the change: endpoints of one cluster go from the wire into the view; anything else is a build
 * of the whole, at most 100 ms after it came when more of a push may follow. A publisher that takes over keeps publishing what
 * its predecessor left until the control plane has answered for it, so readers see no gap (DESIGN D3, D4).
 * Threads: one at a time per object.
 */
#ifndef MESH_RESOLVER_PUBLISHER_H
#define MESH_RESOLVER_PUBLISHER_H

#include <poll.h>
#include "resolver/channel.h"
#include "resolver/resolver.h"

struct mesh_xds_transport;
struct mesh_publisher;

enum { MESH_PUBLISHER_FDS = 128 };
struct mesh_publisher_config {
    struct mesh_view *view;                     /* outlives it */
    const struct mesh_xds_transport *transport; /* NULL: channels to the servers of the bootstrap; tests: their own */
    const struct mesh_fd_hooks *hooks;          /* outlives it */
    bool is_agent;                              /* claimed: others step back for it */
};
/* MESH_E_AGAIN: another process publishes this view, or this one comes after an agent. MESH_E_NOTFOUND: the view has no
 * source that needs a publisher. MESH_E_NOMEM. */
int mesh_publisher_new(const struct mesh_publisher_config *cfg, uint64_t now, struct mesh_publisher **ret) MESH_MUST_CHECK;
void mesh_publisher_free(struct mesh_publisher *p); /* gives the lease back; the view stays as it is */
/* Does what can be done without waiting. MESH_E_AGAIN: the role is another's now; free it. */
int mesh_publisher_turn(struct mesh_publisher *p, uint64_t now) MESH_MUST_CHECK;
uint32_t mesh_publisher_fill(struct mesh_publisher *p, struct pollfd *ret, uint32_t max, uint64_t now, uint64_t *io_deadline);

/* ---- for those who use a view ----------------------------------------------------------------------------------------
 * Does this view need a publisher, and has it none? Cheap while there is one: some loads, and a look at its process when it
 * has been silent for a moment. Threads: any. */
bool mesh_publisher_missing(const struct mesh_view *v, uint64_t now);
/* This process comes before all others from now on, or no longer (meshctl agent). */
void mesh_publisher_claim(struct mesh_view *v, bool first);
/* Was the view confirmed by a control plane less than `seconds` ago? */
bool mesh_publisher_fresh(const struct mesh_view *v, int64_t seconds);

/* ---- for people (resolver/report.c): what the publisher last said of itself; heap, free() ----------------------------- */
struct mesh_report_server {
    const char *uri, *authority, *peer, *error;
    uint8_t state; /* enum mesh_channel_state */
    bool is_active;
    uint32_t acks, nacks;
    uint64_t since; /* mesh_now() */
};
struct mesh_report_resource {
    const char *type_url, *name, *version, *error, *error_version;
    uint32_t status; /* enum mesh_xds_status */
    int64_t updated; /* wall clock, s */
};
struct mesh_report {
    int pid;        /* of the publisher; 0: nobody publishes now, the rest is what the last one said */
    bool is_agent;
    int64_t wall, confirmed;
    uint32_t demanded, denied; /* names asked for through the view */
    uint32_t nservers, nresources;
    struct mesh_report_server *servers;
    struct mesh_report_resource *resources;
};
/* MESH_E_NOTFOUND: no publisher has said anything. MESH_E_NOMEM, MESH_E_AGAIN. */
int mesh_view_report(const struct mesh_view *v, uint64_t now, struct mesh_report **ret) MESH_MUST_CHECK;

#endif
