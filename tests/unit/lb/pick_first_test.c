/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

Test(pick_first, takes_the_first_that_may_be_picked) {
    struct cluster *c = cluster_new(4, MESH_LB_PICK_FIRST);
    cr_expect_eq(cluster_pick(c), 0);
    cluster_eject(c, 0, c->request.now + MESH_SEC);
    cr_expect_eq(cluster_pick(c), 1);
    c->request.attempt = c->request.ntried = 1;
    c->request.tried[0] = 1;
    cr_expect_eq(cluster_pick(c), 2);
    cluster_free(c);
}

Test(pick_first, order_holds_in_a_large_cluster) {
    struct cluster *c = cluster_new(500, MESH_LB_PICK_FIRST);
    cr_assert_eq(cluster_publish(c), 0);
    for (uint32_t i = 0; i < 100; i++)
        c->stats[i].ejected_until = c->request.now + MESH_SEC;
    mesh_lb_recount(&c->view, c->request.now);
    cr_expect_eq(cluster_pick(c), 100);
    cluster_free(c);
}

Test(pick_first, shuffled_one_is_kept_until_it_may_not_be_picked) {
    struct cluster *c = cluster_new(5, MESH_LB_PICK_FIRST);
    c->policy.shuffle = 1;
    int kept = cluster_pick(c);
    for (int i = 0; i < 100; i++)
        cr_expect_eq(cluster_pick(c), kept);
    cluster_eject(c, (uint32_t)kept, c->request.now + MESH_SEC);
    int next = cluster_pick(c);
    cr_expect_neq(next, kept);
    c->request.now += 2 * MESH_SEC;
    for (int i = 0; i < 100; i++)
        cr_expect_eq(cluster_pick(c), next, "the old one is not gone back to");
    cluster_free(c);
}

Test(pick_first, shuffle_draws_by_weight) { /* 3 of 4, over 2,000 clusters: 1,500, sd 19 */
    uint32_t heavy = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        struct cluster *c = cluster_new(2, MESH_LB_PICK_FIRST);
        c->policy.shuffle = 1;
        c->endpoints[1].weight = 3;
        c->rng = i * 7919;
        heavy += cluster_pick(c) == 1;
        cluster_free(c);
    }
    cr_expect(heavy > 1403 && heavy < 1597, "%u", heavy);
}
