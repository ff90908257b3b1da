/* SPDX-License-Identifier: Apache-2.0
 *
 * The table that a publisher builds beside a cluster's endpoints, so that a pick need not look at all of
 * them. One block, no pointers, host order; every offset is in bytes from its start and a multiple of 8:
 *
 *     header | levels[views * priorities] | sets[views * priorities * 3] | localities[] | cum[] | members[] |
 * hash
 *
 * A *view* is the cluster as a descriptor of some families sees it: IPv4 only, IPv6 only, both. A cluster of
 * one family has one. Levels are the counts of lb/priority.c without ejections. A set (struct lb_set_at) is
 * one pool: the healthy, the degraded, or all endpoints of a priority, sorted by locality. `cum` holds
 * running sums of weights, each set's from 0 on; a set of equal weights has none. `hash` is the ring or
 * Maglev table of each priority (lb/hashing.h). A version is one layout: readers of another do without the
 * table.
 */
#ifndef MESH_LB_TABLE_H
#define MESH_LB_TABLE_H

#include "lb/ops.h"

enum { LB_TABLE_MAGIC = 0x626c6d31, LB_TABLE_VERSION = 1, LB_VIEW_NONE = 255 };

struct lb_table {
    uint32_t magic;
    uint16_t version;
    uint8_t view_of[4]; /* by family mask; LB_VIEW_NONE: no endpoint is in reach */
    uint8_t views;
    uint8_t hash_policy; /* enum mesh_lb_policy whose hash part this is */
    uint32_t n;          /* the cluster's endpoints */
    uint32_t priorities;
    uint32_t localities;
    uint32_t cums, members; /* entries */
    uint32_t levels_at, sets_at, localities_at, cum_at, members_at, hash_at;
    uint32_t len; /* bytes of everything */
};

struct lb_set_at {
    uint32_t first, n;             /* members */
    uint32_t cum;                  /* first running sum, UINT32_MAX: equal weights */
    uint32_t locality, localities; /* 0 localities: not weighed by locality */
    uint32_t spare;
    uint64_t stride;
};

/* The pool of a cluster from its table. MESH_E_NOENDPOINT: no table, not a good one, or nobody in it. */
int mesh_lb_many_pool(struct lb_ask *a, struct lb_pool *ret_pool) MESH_MUST_CHECK;
/* The table's header if it is one of c, copied; false otherwise. */
bool mesh_lb_table_read(const struct mesh_cluster_view *c, struct lb_table *ret);
/* `count` records of `size` bytes at `at`, NULL when they do not lie within the table. */
const void *mesh_lb_table_part(const struct mesh_cluster_view *c, uint32_t at, uint64_t count, size_t size);

#endif
