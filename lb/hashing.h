/* SPDX-License-Identifier: Apache-2.0
 *
 * Consistent hashing: what ring_hash and maglev share. The hash part of a table (lb/table.h) is
 *
 *     struct lb_hash | struct lb_wheel[priorities] | for each priority: hosts[], positions[] (ring), slots[]
 *
 * A wheel is built over the hosts that Envoy would take: a priority's healthy ones, all of them in panic, and
 * its degraded ones when it has no healthy ones. Hosts are of all families: whoever cannot reach one goes on
 * to the next, so a key leads IPv4 and IPv6 sockets to the same place where that is possible. Ejected hosts
 * stay on the wheel and are stepped over: other keys do not move.
 */
#ifndef MESH_LB_HASHING_H
#define MESH_LB_HASHING_H

#include "lb/table.h"

/* Ring entries of one priority at most; Envoy's own bound is 8M, for which weights must differ a
 * thousandfold. */
enum { LB_RING_MAX = 1 << 20, LB_MAGLEV_MAX = 5000011 };

struct lb_hash {
    uint32_t priorities, spare;
};

struct lb_host {
    double weight; /* its part of the priority, all together 1 */
    uint32_t endpoint, stat;
};

struct lb_wheel {
    uint32_t hosts, slots;
    uint32_t hosts_at, positions_at, slots_at; /* from the start of the hash part */
    uint32_t spare;
};

struct lb_wheel_open { /* a wheel found good */
    const struct lb_host *hosts;
    const uint64_t *positions; /* ring: ascending */
    const uint32_t *slots;     /* index of a host */
    uint32_t nhosts, nslots;
};

/* Publisher: bytes of the hash part, 0: the policy does not hash; SIZE_MAX: out of memory or over a limit. */
size_t mesh_lb_hash_size(const struct mesh_cluster_view *c);
int mesh_lb_hash_build(const struct mesh_cluster_view *c, void *part, size_t cap) MESH_MUST_CHECK;

/* "10.0.0.1:80", "[::1]:80"; the length. */
size_t mesh_lb_address_text(const struct mesh_endpoint *e, char *out, size_t cap);

/* Reader. */
bool mesh_lb_wheel_open(const struct lb_ask *a, uint32_t priority, struct lb_wheel_open *ret);
/* The host in a slot, or with bounded load the one that Envoy's probing finds from there. */
int mesh_lb_wheel_host(const struct lb_ask *a, const struct lb_wheel_open *w, uint64_t hash, uint32_t slot,
                       struct lb_member *ret);

/* One policy's wheel: how many slots, and filling them. `keys` are the hosts' hash keys. */
struct lb_key {
    const char *text;
    uint32_t len, host;
};
uint32_t mesh_lb_ring_slots(const struct mesh_policy *p, const struct lb_host *hosts, uint32_t n);
int mesh_lb_ring_fill(const struct mesh_policy *p, const struct lb_host *hosts, const struct lb_key *keys,
                      uint32_t n, uint64_t *positions, uint32_t *slots, uint32_t nslots) MESH_MUST_CHECK;
uint32_t mesh_lb_maglev_slots(const struct mesh_policy *p);
int mesh_lb_maglev_fill(const struct lb_host *hosts, struct lb_key *keys, uint32_t n, uint32_t *slots,
                        uint32_t nslots) MESH_MUST_CHECK;

/* murmurHash2 (64 bit, libstdc++'s std::hash), seed 0xc70f6907. */
uint64_t mesh_lb_murmur2(const void *p, size_t n);

#endif
