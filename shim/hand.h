/* SPDX-License-Identifier: Apache-2.0
 *
 * From a bare TCP socket to an open mesh connection: the dial (choose, connect, authenticate, retry) and the accepted side,
 * driven in small steps that never wait. Whoever holds the descriptor drives: a read, a write, a wait call, or the helper
 * (shim/pend.h). One process drives a handshake; before its first byte anybody may begin it (DESIGN D9).
 * The state of the connection is in the slab (shim/slab.h), what is in progress is private to the process and guarded by
 * the connection's rx lock.
 */
#ifndef MESH_SHIM_HAND_H
#define MESH_SHIM_HAND_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "resolver/resolver.h"
#include "shim/conn.h"

enum {
    MESH_HANDSHAKE_SECONDS = 10, /* a peer that began, or was to begin, a handshake and is silent */
    MESH_SILENT_SECONDS = 60,    /* a caller of a strict port that says nothing at all, from accept on */
};

/* Takes the dial of `route` up on a descriptor whose slot is new (shim/fresh.h, state DIAL): the first endpoint is chosen
 * and its connection begun. `flags`: F_GETFL's answer. 0: going on; -errno: refused. */
int mesh_dial_begin(struct mesh_conn *c, uint32_t slot, int fd, int flags, const struct mesh_route *route,
                    const struct sockaddr *to, socklen_t len);
/* Makes an accepted descriptor's slot wait for its handshake. */
void mesh_hand_accepted(struct mesh_conn *c, enum mesh_inbound_mode mode, uint16_t port);
/* Is it accepted, and no byte of its handshake consumed? Then any process may begin it. */
static inline bool mesh_hand_untouched(const struct mesh_conn *c) {
    return atomic_load(&c->state) == MESH_CONN_HAND && !c->begun;
}
/* Has a handshake begun, and not ended? Then one process alone can go on with it. */
static inline bool mesh_hand_under_way(const struct mesh_conn *c) {
    uint32_t state = atomic_load(&c->state);
    return state == MESH_CONN_DIAL || (state == MESH_CONN_HAND && c->begun);
}
/* Is that this process? */
static inline bool mesh_hand_ours(const struct mesh_conn *c, uint32_t slot) {
    return mesh_hand_under_way(c) && mesh_look(mesh_local_at(slot)->hand) &&
           atomic_load(&c->driver) == mesh_proc_self() + 1;
}

/* Drives as far as it goes without waiting. 0: the connection is out of our hands (OPEN, RAW or DEAD); else the poll events
 * that it waits for. Takes the rx lock. */
short mesh_hand_drive(struct mesh_conn *c, uint32_t slot, int fd);
/* When must it be driven although nothing is ready (mesh_now; UINT64_MAX: never)? Unlocked look. */
uint64_t mesh_hand_deadline(uint32_t slot);
/* Events it waited for at its last drive. Unlocked look. */
short mesh_hand_wants(uint32_t slot);

/* From the record layer, rx lock held: a sealed handshake record came, data came, a fatal alert came. */
void mesh_hand_ticket(uint32_t slot, const uint8_t *wire, size_t n);
void mesh_hand_data_came(uint32_t slot);
void mesh_hand_peer_alert(struct mesh_conn *c, uint8_t alert);
/* Frees what this process has of a handshake. rx lock held, or nobody else knows the slot. */
void mesh_hand_drop(uint32_t slot);
/* fork: those that are not being driven right now belong to whoever touches them first. */
void mesh_hand_before_fork(uint32_t slot);
void mesh_hand_after_fork(uint32_t slot); /* child: a copy that was being stepped is torn and forgotten */

/* The end of a connection that nobody holds any more: ledger, trace. */
void mesh_hand_closed(struct mesh_conn *c, uint32_t slot, int fd);

#endif
