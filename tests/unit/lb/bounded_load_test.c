/* SPDX-License-Identifier: Apache-2.0
 *
 * The order of probes is what std::mt19937(hash) and Envoy's shuffle give, computed apart: for six hosts and
 * hash 1 ORDER below. (MT19937's own check, 4123659995 as the 10,000th output of seed 5489, held for that
 * computation.)
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

static struct cluster *bounded(uint16_t factor) {
    struct cluster *c = cluster_new(6, MESH_LB_MAGLEV);
    cluster_name_ports(c, 90);
    c->policy.table_size = 7;
    c->policy.hash_balance = factor;
    cr_assert_eq(cluster_publish(c), 0);
    return c;
}

Test(bounded_load,
     host_within_its_bound_is_kept) { /* total 11 + 1 = 12, * 150 % = 18.99 -> 18; / 6 = 3 slots */
    struct cluster *c = bounded(150);
    c->live->inflight = 11;
    c->stats[4].inflight = 3;
    cr_expect_eq(cluster_pick_hash(c, 1), 4);
    c->stats[4].inflight = 4;
    cr_expect_neq(cluster_pick_hash(c, 1), 4);
    cluster_free(c);
}

Test(bounded_load, idle_cluster_lets_each_hold_one) { /* (0 + 1) * 100 % -> 1; ceil(1/6) = 1 slot */
    struct cluster *c = bounded(100);
    c->stats[4].inflight = 1;
    cr_expect_eq(cluster_pick_hash(c, 1), 4);
    c->stats[4].inflight = 2;
    cr_expect_neq(cluster_pick_hash(c, 1), 4);
    cluster_free(c);
}

Test(bounded_load, probes_follow_envoys_order) {
    static const int ORDER[] = {2, 5, 4, 1, 0, 3};
    struct cluster *c = bounded(100);
    c->stats[4].inflight = 2;
    for (int i = 0; i < 6; i++) {
        if (ORDER[i] == 4)
            continue;
        cr_expect_eq(cluster_pick_hash(c, 1), ORDER[i], "%d: %d", i, cluster_pick_hash(c, 1));
        c->stats[ORDER[i]].inflight = 2;
    }
    cluster_free(c);
}

Test(bounded_load, all_over_takes_the_least_overloaded) {
    struct cluster *c = bounded(100);
    for (int i = 0; i < 6; i++)
        c->stats[i].inflight = i == 3 ? 5 : 9;
    cr_expect_eq(cluster_pick_hash(c, 1), 3);
    cluster_free(c);
}

Test(bounded_load, off_never_looks_at_load) {
    struct cluster *c = bounded(0);
    c->stats[4].inflight = 1000;
    cr_expect_eq(cluster_pick_hash(c, 1), 4);
    cluster_free(c);
}

Test(bounded_load, first_within_its_bound_is_taken_not_the_idlest) {
    struct cluster *c = bounded(100);
    c->stats[4].inflight = 2;
    c->stats[2].inflight = 1; /* first in order, at its bound; the others are idle */
    cr_expect_eq(cluster_pick_hash(c, 1), 2);
    cluster_free(c);
}

Test(bounded_load,
     total_is_rounded_up) { /* 12 * 101 % = 12.12 -> 13; 13 / 6 -> 3 slots, where 12 would give 2 */
    struct cluster *c = bounded(101);
    c->live->inflight = 11;
    c->stats[4].inflight = 3;
    cr_expect_eq(cluster_pick_hash(c, 1), 4);
    cluster_free(c);
}
