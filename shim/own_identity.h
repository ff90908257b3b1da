/* SPDX-License-Identifier: Apache-2.0
 *
 * Identities that the view brings for one cluster or one inbound listener: chain and key of its own, or our own chain and key
 * with another trust bundle. Made once and kept (at most 16 a process), because making one costs as much as a handshake
 * and resumption needs the same one again.
 */
#ifndef MESH_SHIM_OWN_IDENTITY_H
#define MESH_SHIM_OWN_IDENTITY_H

#include "tls/tls.h"

/* The identity for these PEM texts, with a reference for the caller; what is NULL is ours (MESH_CERT, MESH_KEY, MESH_CA).
 * NULL with why when there is none. Threads: any. */
struct mesh_identity *mesh_own_identity(const struct mesh_pem *pem, struct mesh_why *why);

#endif
