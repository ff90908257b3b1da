/* SPDX-License-Identifier: Apache-2.0
 *
 * Names that programs ask for and the view does not list: a bounded table in the mapped view. Whoever looks a name up
 * posts it and waits for an answer; the publisher takes what is posted, and answers. Anybody may have written anything
 * into the table: texts are copied out, bounded and judged before they are used.
 */
#ifndef MESH_RESOLVER_DEMAND_H
#define MESH_RESOLVER_DEMAND_H

#include "resolver/view.h"

#define DEMAND_DENIED_FOR (30 * MESH_SEC) /* how long a denial is remembered */

/* ---- for those who ask (any thread, any process; lock-free) ---------------------------------------------------------
 * What is known of a name (normal form) that the view does not list: MESH_E_DENIED, MESH_E_AGAIN (nothing yet), or 0:
 * the control plane is silent about the bare name, a port will decide. */
int mesh_demand_look(const struct mesh_view *v, const char *name, size_t len, uint16_t port) MESH_MUST_CHECK;
/* The name was looked up just now; one load when somebody said so within this second. */
void mesh_demand_use(const struct mesh_view *v, uint64_t hash);

/* A listener of this process is demanded as a name of this prefix and its address, as gRPC writes it: 0.0.0.0:8080, [::]:8080. */
#define DEMAND_INBOUND "inbound/"

/* ---- for the publisher ---------------------------------------------------------------------------------------------- */
struct mesh_demand {
    uint32_t slot;
    enum demand_state state;
    uint64_t asked, hash;
    uint16_t port;
    size_t len;
    char name[MESH_NAME_MAX + 1];
};
/* Copies a slot out. False: free, being written, or not a name. */
bool mesh_demand_read(const struct mesh_view *v, uint32_t slot, struct mesh_demand *ret);
/* Says what became of it, if it still is that one. Does not wake: mesh_demand_wake does, once for many. */
void mesh_demand_answer(struct mesh_view *v, const struct mesh_demand *d, enum demand_state state, uint64_t now);
void mesh_demand_wake(struct mesh_view *v);
/* When the name was last asked for or looked up, mesh_now(). */
uint64_t mesh_demand_used(const struct mesh_view *v, const struct mesh_demand *d);
/* Gives the slot back. */
void mesh_demand_free(struct mesh_view *v, const struct mesh_demand *d);

#endif
