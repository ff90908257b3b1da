/* SPDX-License-Identifier: Apache-2.0
 *
 * The xDS client between channels and the build: subscriptions, versions, nonces, ACK and NACK (state of the world and
 * Delta over one code path, resolver/ads.c), the cache of resources (resolver/cache.c), and the closure of what is wanted
 * (gRFC A74: LDS -> RDS -> CDS, aggregates -> EDS, SDS), for each authority a list of servers with fallback (A71). It gives the
 * build one consistent set of resources at a time: make before break, errors of one cluster stay inside it.
 * facts: xds_protocol (Envoy docs), A27, A46, A47, A53, A57, A71, A74, A88.
 *
 * What is a NACK: what does not parse, duplicate names, what no control plane may say (resolver/valid.c: as strict as Envoy);
 * the last good form stays. What parses but asks for something unsupported (proto/guard.def) is accepted and comes with
 * `refused`; what only the build can judge is the build's. A cluster comes with `refused` as well when its endpoints were never
 * good, or its aggregate leads back to itself or is nested more than 16 deep.
 * What is deleted: a listener at once; other things when nothing published leads to them any more (at once with
 * fail_on_data_errors, not at all with ignore_resource_deletion). A newer form that leads to something which does not exist
 * waits 15 s for it while the older one is whole: answers come in any order.
 * By wildcard LDS and CDS are asked for with an empty list (Delta: "*"), as Envoy does. NDS (type
 * istio.networking.nds.v1.NameTable, resource name "") is asked for where the node's metadata says DNS_CAPTURE "true".
 *
 * Does no I/O itself: channels are made through `open`, so tests put scripted ones in their place. Time is an argument.
 * Threads: one at a time per object (the publisher's).
 */
#ifndef MESH_RESOLVER_XDS_H
#define MESH_RESOLVER_XDS_H

#include "proto/proto.h"
#include "resolver/bootstrap.h"
#include "resolver/channel.h"

struct mesh_xds;

struct mesh_xds_config {
    const struct mesh_bootstrap *bootstrap; /* outlives the client */
    /* mesh_channel_new for real; a test's own otherwise. The rest of the channel's calls go through ops as well. */
    const struct mesh_xds_transport *transport;
    const struct mesh_fd_hooks *hooks;
    struct mesh_dns *dns;
};
struct mesh_xds_transport {
    int (*open)(const struct mesh_channel_config *cfg, struct mesh_channel **ret);
    void (*close)(struct mesh_channel *ch);
    void (*path)(struct mesh_channel *ch, const char *path);
    int (*send)(struct mesh_channel *ch, const uint8_t *p, size_t n);
    void (*restart)(struct mesh_channel *ch, const char *why);
    uint32_t (*fill)(struct mesh_channel *ch, struct pollfd *ret, uint32_t max, uint64_t *io_deadline);
    void (*drive)(struct mesh_channel *ch, uint64_t now);
    void (*describe)(const struct mesh_channel *ch, struct mesh_channel_info *ret);
};
extern const struct mesh_xds_transport mesh_xds_channels; /* the real one */

int mesh_xds_new(const struct mesh_xds_config *cfg, struct mesh_xds **ret) MESH_MUST_CHECK;
void mesh_xds_free(struct mesh_xds *x);
/* As mesh_channel_fill. Requests are sent from here: drive, publish what it brought, then fill and poll. */
uint32_t mesh_xds_fill(struct mesh_xds *x, struct pollfd *ret, uint32_t max, uint64_t *io_deadline);
void mesh_xds_drive(struct mesh_xds *x, uint64_t now); /* channels, timers, TTLs, the closure */

/* ---- what is wanted --------------------------------------------------------------------------------------------------
 * By name (gRPC's dialect), a name NAME[:PORT] wants, each through the bootstrap's template where it is a listener: LDS
 * NAME:PORT and NAME, CDS NAME:PORT, NAME and outbound|PORT||NAME (Istio's TCP services, facts/xds.md 6.4). By wildcard
 * (bootstrap->is_wildcard) everything is subscribed to at the start and a want only asks after the state. Inbound listeners
 * (server_template) are wanted by address. */
enum mesh_xds_state {
    MESH_XDS_WAITING, /* asked for, no answer yet */
    MESH_XDS_KNOWN,   /* the closure of some listener, virtual host, address or cluster of this name is complete */
    MESH_XDS_DENIED   /* all that it could be does not exist: said, or not answered for 15 s */
};
/* Wants a name from now on (again: nothing new). port 0: not known. MESH_E_NOMEM, MESH_E_LIMIT (65,536 names). */
int mesh_xds_want(struct mesh_xds *x, const char *name, uint16_t port, uint64_t now) MESH_MUST_CHECK;
/* No longer; what only it needed is unsubscribed from (not at once, so that a name that comes back is still there). */
void mesh_xds_unwant(struct mesh_xds *x, const char *name, uint16_t port, uint64_t now);
enum mesh_xds_state mesh_xds_state(const struct mesh_xds *x, const char *name, uint16_t port);
/* How long a name that is KNOWN, and not published yet, may wait for what would come before that which shows of it: a
 * listener whose routes are on their way stands before a cluster of the same name. 0: nothing would. */
uint64_t mesh_xds_patience(const struct mesh_xds *, const char *name, uint16_t port);
int mesh_xds_want_inbound(struct mesh_xds *x, const char *address_port, uint64_t now) MESH_MUST_CHECK;
/* WAITING until all that can be said of it has been said. */
enum mesh_xds_state mesh_xds_inbound_state(const struct mesh_xds *x, const char *address_port);

/* ---- what there is --------------------------------------------------------------------------------------------------
 * Changes since the last mesh_xds_taken. */
struct mesh_xds_change {
    bool all;               /* build the whole view: something other than endpoints changed */
    bool answered;          /* every server in use has answered once, with all that was asked for until then: a seed ends */
    uint32_t nclusters;     /* only the endpoints of these clusters changed (names as in CDS); with !all */
    const char *const *clusters;
};
/* False: nothing to publish now. `settled`: nothing more is on its way for what is complete, publish at once; else the
 * caller may wait a moment (100 ms at most) for the rest of a push. Memory is the client's, valid until the next call of it. */
bool mesh_xds_changed(struct mesh_xds *x, uint64_t now, struct mesh_xds_change *ret, bool *ret_settled);
/* The consistent set: every resource of it is whole (closure complete, or its last good form), in build order. A resource
 * that was never good and is refused is here with `refused`, saying nothing but its name. Assignments are not in it. NULL: out
 * of memory. Owned by the client, valid until the next call of drive. */
const struct mesh_resources *mesh_xds_resources(struct mesh_xds *x);
/* Raw bytes of a ClusterLoadAssignment in force (of the cluster's EDS name), for the wire scanner (proto/scan.h). False: none.
 * Valid until the next drive. */
bool mesh_xds_assignment(const struct mesh_xds *x, const char *cluster, const uint8_t **ret_p, size_t *ret_n);
/* The Cluster in the consistent set, NULL: none. Valid until the next drive. */
const ProtobufCMessage *mesh_xds_cluster(const struct mesh_xds *x, const char *name);
void mesh_xds_taken(struct mesh_xds *x); /* what changed() and resources() said is published */

/* ---- for people: meshctl status, csds ------------------------------------------------------------------------------- */
struct mesh_xds_server_info {
    const char *uri, *authority;
    struct mesh_channel_info channel;
    bool is_active; /* the server whose answers count */
    uint32_t acks, nacks;
};
void mesh_xds_each_server(const struct mesh_xds *x, void (*fn)(void *arg, const struct mesh_xds_server_info *s), void *arg);
enum mesh_xds_status { MESH_XDS_REQUESTED = 1, MESH_XDS_DOES_NOT_EXIST, MESH_XDS_ACKED, MESH_XDS_NACKED,
                       MESH_XDS_RECEIVED_ERROR, MESH_XDS_TIMEOUT }; /* ClientResourceStatus's numbers */
struct mesh_xds_resource_info {
    const char *type_url, *name, *version; /* version of what is in force, "" when nothing */
    enum mesh_xds_status status;
    int64_t updated_wall;
    const uint8_t *bytes; /* the Any's value in force, NULL: none */
    size_t n;
    const char *error, *error_version; /* of the last NACK, NULL: none */
};
void mesh_xds_each_resource(const struct mesh_xds *x, void (*fn)(void *arg, const struct mesh_xds_resource_info *r), void *arg);

#endif
