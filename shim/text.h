/* SPDX-License-Identifier: Apache-2.0
 *
 * Bounded text for fixed-size fields. Threads: any, signal-safe.
 */
#ifndef MESH_SHIM_TEXT_H
#define MESH_SHIM_TEXT_H

#include <stddef.h>
#include <sys/socket.h>

/* Copies as much as fits, always terminated. */
void mesh_text_copy(char *ret, size_t cap, const char *s);
/* `ip:port` or `[ip6]:port`; v4-mapped addresses as IPv4. */
void mesh_text_addr(char *ret, size_t cap, const struct sockaddr *sa);

#endif
