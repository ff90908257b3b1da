/* SPDX-License-Identifier: Apache-2.0
 *
 * Between channel.c and channel_creds.c: the context that the files make.
 */
#ifndef MESH_TLS_CHANNEL_CREDS_H
#define MESH_TLS_CHANNEL_CREDS_H

#include <openssl/ssl.h>
#include "tls/channel.h"

/* The context in force, from the files when it is time; borrowed until the next call. */
int mesh_tls_creds_get(struct mesh_tls_creds *c, uint64_t now, SSL_CTX **ret_ctx, struct mesh_why *why) MESH_MUST_CHECK;

#endif
