/* SPDX-License-Identifier: Apache-2.0
 *
 * Lists of `CIDR[:PORT]` and `NAME[:PORT]`, as MESH_CAPTURE, MESH_EXCLUDE, MESH_INBOUND_PLAIN and MESH_VIRTUAL
 * take them (INTERFACE.md): a bare address is /32 or /128, IPv6 with a port is `[2001:db8::/32]:443`. No I/O.
 * Immutable after parse. Threads: any.
 */
#ifndef MESH_BASE_CIDR_H
#define MESH_BASE_CIDR_H

#include <stdbool.h>
#include <stdint.h>
#include "shim/base/err.h"

enum { MESH_CIDR_MAX = 128 };

struct mesh_cidr {
    uint8_t family;     /* 4, 6, or 0: a name */
    uint8_t bits;
    uint16_t port;      /* 0: any */
    uint8_t addr[16];   /* host bits are zero */
    char name[256];     /* family 0: lower case, no trailing dot */
};

struct mesh_cidr_list {
    uint32_t n;
    struct mesh_cidr items[]; /* exactly n */
};

/* Parses a comma-separated list into one heap block (free()). `names`: entries may be names. An empty entry, a bad
 * address, prefix or port, or host bits that are not zero: MESH_E_INVALID and `why` names the entry; over
 * MESH_CIDR_MAX: MESH_E_LIMIT. */
int mesh_cidr_parse(const char *text, bool names, struct mesh_cidr_list **ret_list, struct mesh_why *why) MESH_MUST_CHECK;
/* family 4 or 6, address in network order; a v4-mapped IPv6 address counts as IPv4. NULL list: false. */
bool mesh_cidr_has(const struct mesh_cidr_list *l, int family, const void *addr, uint16_t port);
/* name without trailing dot, any case; port 0 matches entries without a port only. */
bool mesh_cidr_has_name(const struct mesh_cidr_list *l, const char *name, uint16_t port);

#endif
