/* SPDX-License-Identifier: Apache-2.0
 *
 * One set of resources out of three, in the order in which they win: the file (MESH_VIEW), the control plane, and what
 * served before (the seed, or the view that an earlier publisher left). Of two of one type and name the first stays; ranks
 * say where each comes from, so that a name which an earlier one lists is its alone. Messages are borrowed. Threads:
 * publisher only.
 */
#ifndef MESH_RESOLVER_BLEND_H
#define MESH_RESOLVER_BLEND_H

#include "proto/proto.h"
#include "resolver/bootstrap.h"
#include "resolver/view.h"

enum mesh_rank { RANK_FILE, RANK_CONTROL, RANK_BEFORE };
struct mesh_blend {
    struct mesh_resources set;
    uint8_t *ranks;                /* one a resource */
    struct mesh_resources *own[2]; /* freed with it */
    ProtobufCMessage *node;        /* the bootstrap's, as well */
};
/* Each may be NULL. `boot`: who and where we are for a control plane; a file that says it (an Envoy bootstrap) comes first. The
 * cluster that we are one of is the file's local_cluster_name, else what the node is called there, when it is a cluster of the
 * set. MESH_E_NOMEM. */
int mesh_blend_make(struct mesh_blend *ret, const struct mesh_resources *file, const struct mesh_resources *control,
                    const struct mesh_resources *before, const struct mesh_bootstrap *boot) MESH_MUST_CHECK;
void mesh_blend_done(struct mesh_blend *b);

/* The resources in force that are not the file's. MESH_E_NOMEM; MESH_E_INTERNAL: the view is damaged. */
int mesh_blend_before(const struct mesh_view *v, struct mesh_resources **ret) MESH_MUST_CHECK;

#endif
