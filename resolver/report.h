/* SPDX-License-Identifier: Apache-2.0
 *
 * What a publisher says of itself in the view: servers, their state and last errors, each resource's version and the reason
 * of its last NACK. Written when it changed, at most once a turn's look around. Threads: publisher only.
 */
#ifndef MESH_RESOLVER_REPORT_H
#define MESH_RESOLVER_REPORT_H

#include "resolver/publish.h"
#include "resolver/xds.h"

struct mesh_report_writer;
int mesh_report_open(struct mesh_report_writer **ret) MESH_MUST_CHECK;
void mesh_report_close(struct mesh_report_writer *w);
/* MESH_E_AGAIN: the lease is lost. MESH_E_NOMEM and others: not written this time. */
int mesh_report_write(struct mesh_report_writer *w, struct mesh_pub *pub, const struct mesh_xds *x, bool is_agent,
                      uint64_t now) MESH_MUST_CHECK;

#endif
