/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may come in: what the view's inbound listeners say of an accepted connection. Its facts (server name, protocols, who
 * the peer is) are noted beside it, so that a changed policy is asked about connections that live on.
 */
#ifndef MESH_SHIM_ADMIT_H
#define MESH_SHIM_ADMIT_H

#include "shim/conn.h"
#include "shim/engine.h"

/* A connection on a port whose mode is `view`, before its first bytes: OFF and *ret_asks false is one that the view says
 * nothing of. A chain that cannot be kept to, or none that takes it, is STRICT: refused when its bytes come. */
enum mesh_inbound_mode mesh_admit_begin(const struct mesh_caller *who, bool *ret_asks);
/* The same of one that is accepted. *ret_waits: it is not known yet what the view says of it. */
enum mesh_inbound_mode mesh_admit_mode(const struct mesh_conn *c, int fd, bool *ret_waits);
/* Does the view say anything of inbound connections? Then a ClientHello is read whole before we choose. */
bool mesh_admit_asks(void);
/* Notes what the first bytes say. */
void mesh_admit_hello(struct mesh_conn *c, const uint8_t *p, size_t n, bool is_tls);
/* Notes who the peer is, after the handshake. */
void mesh_admit_peer(struct mesh_conn *c, const struct mesh_peer *peer);
/* The view's word on the connection with its facts. MESH_E_NOTFOUND: none. *ret is freed with free(). */
int mesh_admit_inbound(const struct mesh_conn *c, int fd, struct mesh_inbound **ret, struct mesh_why *why);
/* Our side of the handshake, by the view's inbound listener (`in`, NULL: it says nothing), else by the environment.
 * MESH_E_IDENTITY, MESH_E_NOMEM. */
int mesh_admit_tls(const struct mesh_inbound *in, struct mesh_handshake **ret, struct mesh_why *why);
/* May it be served? 0, or MESH_E_DENIED (traced). `lenient`: where no chain takes it, the environment has said that it may. */
int mesh_admit(struct mesh_conn *c, int fd, bool lenient);
/* The view has moved since it was admitted: asks again when its policies have. False: it was refused, and is dead now. */
bool mesh_admit_again(struct mesh_conn *c, uint32_t slot, int fd);

static inline bool mesh_admit_still(struct mesh_conn *c, uint32_t slot, int fd) {
    if (mesh_likely(!c->judged))
        return true;
    struct mesh_view *v = mesh_engine_view(); /* sees a file that was replaced */
    return !v || mesh_view_stamp(v) == atomic_load_explicit(&c->judged_at, memory_order_relaxed) ||
           mesh_admit_again(c, slot, fd);
}

#endif
