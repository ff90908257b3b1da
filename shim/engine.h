/* SPDX-License-Identifier: Apache-2.0
 *
 * What this process runs on: the view, our identity, the verdicts that the environment gives. Brought in at the first mesh
 * verdict or at listen() on a protected port, never before (DESIGN promise 5, D12).
 */
#ifndef MESH_SHIM_ENGINE_H
#define MESH_SHIM_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "resolver/resolver.h"
#include "shim/env.h"
#include "tls/tls.h"

/* The process's view, attached on first use; NULL: there is none (then nothing is mesh by name). Refreshes it when its
 * file changed (at most one look a second). Threads: any. */
struct mesh_view *mesh_engine_view(void);

/* The same if it is attached already; never attaches. */
struct mesh_view *mesh_engine_view_if_any(void);

/* Crypto is loaded and the identity read. 0 or MESH_E_IDENTITY/NOMEM with why; called before a handshake begins. */
int mesh_engine_crypto(struct mesh_why *why);
/* The identity in force, with a reference, re-read when its files changed; NULL and why when there is none. */
struct mesh_identity *mesh_engine_identity(struct mesh_why *why);

/* Looks at the identity's files and publishes what they hold to the tree (shim/rotation.h). */
void mesh_engine_identity_publish(void);

/* Is connect() to this address mesh? 0 and *ret; MESH_E_NOTFOUND: libc's; else the error to refuse with. */
int mesh_engine_route(const struct sockaddr *to, socklen_t len, struct mesh_route *ret);
/* A virtual address leads nowhere on that port (MESH_E_NOROUTE): asks the control plane for the port of its name, and waits
 * for the answer at most MESH_RESOLVE_TIMEOUT; one second when the program's socket is not to wait (`patient` false). */
int mesh_engine_route_ask(const struct sockaddr *to, socklen_t len, bool patient, struct mesh_route *ret);
/* How is a local port protected, by the environment? VIEW: shim/admit.h knows. */
enum mesh_inbound_mode mesh_engine_inbound(uint16_t port);

/* errno of an error, as INTERFACE.md's table says. */
int mesh_errno(int err);

/* Are we in a child that shares the parent's memory (vfork, CLONE_VM)? Then our tables are the parent's: hands off. */
bool mesh_engine_foreign(void);
/* Notices a fork that nobody told us of; one load when there was none. */
void mesh_engine_look_around(void);

/* The process tree's key in the ledger. */
uint64_t mesh_engine_tree(void);
void mesh_engine_after_fork(void);

#endif
