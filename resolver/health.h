/* SPDX-License-Identifier: Apache-2.0
 *
 * Active health checks: who is to be checked (from the resources), the I/O of it, and what came of it. When a check is due and
 * what its result means is lb/check.h's. For the publisher's thread, which owns the object, polls what mesh_health_fill names
 * and calls mesh_health_drive; when that says so, it builds the clusters anew with mesh_pub.health set: an endpoint that the
 * control plane calls healthy and that fails its checks, or has not passed one yet, is published as unhealthy. A view from a
 * file whose clusters are checked has a standing publisher as well (ROOT_STANDS).
 *
 * What is checked: TCP (connect alone, or bytes sent and looked for), HTTP/1.1 (status), both in clear. gRPC, HTTP/2 and
 * checks inside the cluster's TLS are not made; a cluster that asks for them says so among the view's faults, and its health
 * is what connections show. Nothing blocks. Time is an argument. Threads: one at a time per object.
 * xDS: envoy.config.core.v3.HealthCheck, envoy.config.endpoint.v3.Endpoint.HealthCheckConfig.
 */
#ifndef MESH_RESOLVER_HEALTH_H
#define MESH_RESOLVER_HEALTH_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include "lb/check.h"
#include "proto/cluster.pb-c.h"
#include "proto/proto.h"
#include "resolver/channel.h"
#include "resolver/build.h"
#include "resolver/resolver.h"

/* ---- one cluster's check (resolver/health_read.c) ---- */
enum mesh_probe { MESH_PROBE_CONNECT, MESH_PROBE_BYTES, MESH_PROBE_HTTP };
enum { MESH_PROBE_TEXT = 1024, MESH_PROBE_PATTERNS = 8, MESH_PROBE_STATUSES = 8 };
struct mesh_probe_spec {
    struct mesh_check_policy policy;
    enum mesh_probe kind;
    uint16_t port;                     /* alt_port, 0: the endpoint's */
    uint8_t send[MESH_PROBE_TEXT];     /* BYTES: what is sent; HTTP: the request up to the Host's value */
    uint16_t send_len;
    char host[256];                    /* HTTP */
    uint8_t want[MESH_PROBE_TEXT];     /* BYTES: patterns, one behind the other, found in this order */
    uint16_t want_len[MESH_PROBE_PATTERNS];
    uint16_t nwant;
    struct { uint16_t from, to; } status[MESH_PROBE_STATUSES]; /* HTTP: good are from..to-1; none given: 200 */
    uint16_t nstatus;
};
/* Reads the first of a cluster's health_checks. 0; MESH_E_NOTFOUND: it has none; MESH_E_UNSUPPORTED: not made; MESH_E_INVALID:
 * the settings mean nothing (why begins with the field's path). `tls`: what a cluster without a transport socket is. */
int mesh_probe_read(const Mesh__Cluster__Cluster *c, enum mesh_tls_default tls, struct mesh_probe_spec *ret, struct mesh_why *why)
    MESH_MUST_CHECK;
/* Has the answer come? 1: good, 0: not yet, MESH_E_PROTOCOL: a wrong one. `p` is all that was
 * received. */
int mesh_probe_judge(const struct mesh_probe_spec *s, const uint8_t *p, size_t n);

/* ---- all of them ---- */
struct mesh_checks;
/* `hooks` may be NULL, else outlives the object. `traffic` says whether somebody has connected to a cluster; NULL: yes. */
int mesh_health_new(const struct mesh_fd_hooks *hooks, bool (*traffic)(void *arg, const char *cluster), void *arg,
                    struct mesh_checks **ret) MESH_MUST_CHECK;
void mesh_health_free(struct mesh_checks *h);
/* What is to be checked from now on: of what will be built, endpoints that came by wire and addresses of host names
 * included. An endpoint that was checked before by the same settings keeps its state, and a check of it that runs goes on; a
 * new one is unhealthy until its first check has passed. MESH_E_NOMEM, and nothing changed. */
int mesh_health_load(struct mesh_checks *h, const struct mesh_build_in *in, enum mesh_tls_default tls,
                     uint64_t now) MESH_MUST_CHECK;
/* Does a cluster that is new wait for the first results, for less than `patience` ns (Envoy warms it)? */
bool mesh_health_waiting(const struct mesh_checks *h, uint64_t now, uint64_t patience);
/* As mesh_channel_fill. */
uint32_t mesh_health_fill(struct mesh_checks *h, struct pollfd *ret, uint32_t max, uint64_t *io_deadline);
/* Does what can be done without waiting. True: some endpoint's health has changed. */
bool mesh_health_drive(struct mesh_checks *h, uint64_t now);
/* UNKNOWN: it is not checked; HEALTHY; UNHEALTHY. `h` may be NULL. */
enum mesh_health_verdict { MESH_VERDICT_NONE, MESH_VERDICT_GOOD, MESH_VERDICT_BAD };
enum mesh_health_verdict mesh_health_of(const struct mesh_checks *h, const char *cluster, const struct mesh_endpoint *e);

#endif
