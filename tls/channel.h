/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS to a control plane (gRFC A65): an ordinary client, by SSL over memory BIOs. Not the mesh's own TLS: the server is known
 * by its host name and the roots of a file or of the system, ALPN must be h2, TLS 1.2 at least. Bytes in, bytes out.
 * The calling thread's error queue is left empty. Threads: one at a time per object.
 */
#ifndef MESH_TLS_CHANNEL_H
#define MESH_TLS_CHANNEL_H

#include <stddef.h>
#include <stdint.h>
#include "shim/base/err.h"

/* ---- what it is done with: read when it is needed, again after `refresh` ns or after a failure; what was good stays in
 * use while the files are not. Paths are borrowed; cert and key both or none; ca NULL: the system's roots. */
struct mesh_tls_channel_files {
    const char *cert, *key, *ca;
    uint64_t refresh;
};
struct mesh_tls_creds;
int mesh_tls_creds_new(const struct mesh_tls_channel_files *files, struct mesh_tls_creds **ret) MESH_MUST_CHECK;
void mesh_tls_creds_free(struct mesh_tls_creds *c);  /* NULL is fine */
void mesh_tls_creds_doubt(struct mesh_tls_creds *c); /* a handshake has failed: the files are read again for the next */

/* ---- one connection ----------------------------------------------------------------------------------------- */
struct mesh_tls_channel;
/* `host` is what the certificate must name, a DNS name or a numeric address, and the SNI if it is a name. MESH_E_IO,
 * MESH_E_SYNTAX, MESH_E_INVALID: the files are not good and never were (why); MESH_E_NOMEM. */
int mesh_tls_channel_new(struct mesh_tls_creds *c, const char *host, uint64_t now, struct mesh_tls_channel **ret,
                         struct mesh_why *why) MESH_MUST_CHECK;
void mesh_tls_channel_free(struct mesh_tls_channel *ch); /* NULL is fine */
/* Bytes from the peer. MESH_E_NOMEM. */
int mesh_tls_channel_feed(struct mesh_tls_channel *ch, const void *p, size_t n) MESH_MUST_CHECK;
/* Goes on with the handshake: 0 done, MESH_E_AGAIN; MESH_E_PEER (certificate or name), MESH_E_ALERT (what the peer
 * refused), MESH_E_PROTOCOL (no h2, not TLS); why says it. There may be something to be sent even after an error. */
int mesh_tls_channel_shake(struct mesh_tls_channel *ch, struct mesh_why *why) MESH_MUST_CHECK;
/* After the handshake. Bytes read, MESH_E_AGAIN, MESH_E_CLOSED (close_notify), or an error as above. */
int mesh_tls_channel_read(struct mesh_tls_channel *ch, void *ret_p, size_t cap, struct mesh_why *why) MESH_MUST_CHECK;
/* Seals all n <= 16384 bytes. */
int mesh_tls_channel_write(struct mesh_tls_channel *ch, const void *p, size_t n) MESH_MUST_CHECK;
/* The next bytes for the peer, valid until the next call; 0: none. mesh_tls_channel_sent says how many of them went. */
size_t mesh_tls_channel_out(struct mesh_tls_channel *ch, const uint8_t **ret_p);
void mesh_tls_channel_sent(struct mesh_tls_channel *ch, size_t n);

#endif
