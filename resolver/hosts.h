/* SPDX-License-Identifier: Apache-2.0
 *
 * Host names of STRICT_DNS and LOGICAL_DNS clusters: who is asked for, the last good answers, when to ask again
 * (dns_refresh_rate, or the records' TTL with respect_dns_ttl). A failure keeps the last answer. envoy.config.cluster.v3.
 * Threads: publisher only.
 */
#ifndef MESH_RESOLVER_HOSTS_H
#define MESH_RESOLVER_HOSTS_H

#include "proto/cluster.pb-c.h"
#include "proto/proto.h"
#include "resolver/channel.h"
#include "resolver/view.h"

struct mesh_hosts;

/* `dns` outlives it. MESH_E_NOMEM. */
int mesh_hosts_new(struct mesh_dns *dns, struct mesh_hosts **ret) MESH_MUST_CHECK;
void mesh_hosts_free(struct mesh_hosts *h);
/* These resources are what will be built: names that are new in them are asked for at once, those that are gone are
 * forgotten. MESH_E_NOMEM. */
int mesh_hosts_want(struct mesh_hosts *h, const struct mesh_resources *resources, uint64_t now) MESH_MUST_CHECK;
/* Names that nobody has answered for yet start from the addresses that the view in force has for their clusters: what an earlier
 * publisher was told serves until the first answer. Once, after the first mesh_hosts_want. */
void mesh_hosts_inherit(struct mesh_hosts *h, const struct mesh_view *v, const struct mesh_resources *resources);
/* Asks again what is due; pulls *io_deadline in to the next time. */
void mesh_hosts_drive(struct mesh_hosts *h, uint64_t now, uint64_t *io_deadline);
/* Did an answer change since the last call of mesh_hosts_taken? */
bool mesh_hosts_changed(const struct mesh_hosts *h);
void mesh_hosts_taken(struct mesh_hosts *h);
/* Is some name without any answer, and asked for less than `patience` ns ago? */
bool mesh_hosts_waiting(const struct mesh_hosts *h, uint64_t now, uint64_t patience);
/* The last good answer, NULL when there is none; *ret_pending: nobody has answered at all yet. */
const struct mesh_dns_answer *mesh_hosts_get(const struct mesh_hosts *h, const char *host, bool *ret_pending);

/* Which addresses a cluster takes of an answer: bit 0 IPv4, bit 1 IPv6. AUTO takes both: a dial looks at what its
 * descriptor reaches (DESIGN D13). */
unsigned mesh_hosts_families(const Mesh__Cluster__Cluster *c);
bool mesh_hosts_by_dns(const Mesh__Cluster__Cluster *c); /* is its discovery type one of the two? */

#endif
