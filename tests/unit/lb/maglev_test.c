/* SPDX-License-Identifier: Apache-2.0
 *
 * Expected tables are those of Envoy's maglev_lb_test.cc, test names in brackets.
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

static struct cluster *maglev(uint32_t n, uint32_t size) {
    struct cluster *c = cluster_new(n, MESH_LB_MAGLEV);
    cluster_name_ports(c, 90);
    c->policy.table_size = size;
    return c;
}

static void expect(struct cluster *c, const int *hosts, uint32_t size) {
    cr_assert_eq(cluster_publish(c), 0);
    for (uint32_t i = 0; i < 3 * size; i++)
        cr_expect_eq(cluster_pick_hash(c, i), hosts[i % size], "%u: %d", i, cluster_pick_hash(c, i));
    cluster_free(c);
}

Test(maglev, table_of_seven_is_envoys) { /* [Basic] */
    expect(maglev(6, 7), (int[]){2, 4, 0, 1, 5, 0, 3}, 7);
}

Test(maglev, order_of_the_view_does_not_matter) { /* [BasicStability] */
    struct cluster *c = maglev(6, 7);
    for (int i = 0; i < 3; i++) {
        struct mesh_endpoint e = c->endpoints[i];
        c->endpoints[i] = c->endpoints[5 - i];
        c->endpoints[5 - i] = e;
    }
    expect(c, (int[]){3, 1, 5, 4, 0, 5, 2}, 7); /* the same hosts under their new indices */
}

Test(maglev, weighted_table_is_envoys) { /* [Weighted] */
    struct cluster *c = maglev(2, 17);
    c->endpoints[1].weight = 2;
    expect(c, (int[]){1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1}, 17);
}

Test(maglev, weights_of_localities_make_envoys_table) { /* [LocalityWeightedDifferentLocalityWeights] */
    struct cluster *c = maglev(3, 17);
    uint32_t weight[] = {8, 2, 0};
    c->policy.locality_weighted = 1;
    for (uint32_t i = 0; i < 3; i++) {
        c->endpoints[i].weight = i + 1;
        c->endpoints[i].locality = (uint16_t)i;
        c->endpoints[i].locality_weight = weight[i];
    }
    expect(c, (int[]){1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0}, 17);
}

Test(maglev, lopsided_weights_give_each_light_host_one_slot) { /* [LocalityWeightedLopsided] */
    struct cluster *c = maglev(1024, 65537);
    uint32_t count[1024] = {0};
    c->policy.locality_weighted = 1;
    cluster_name_ports(c, 0);
    for (uint32_t i = 0; i < 1024; i++) {
        c->endpoints[i].locality = i > 0;
        c->endpoints[i].locality_weight = i ? 1 : 127;
    }
    cr_assert_eq(cluster_publish(c), 0);
    for (uint32_t i = 0; i < 65537; i++)
        count[cluster_pick_hash(c, i)]++;
    for (uint32_t i = 1; i < 1024; i++)
        cr_expect_eq(count[i], 1);
    cr_expect_eq(count[0], 65537 - 1023);
    cluster_free(c);
}

Test(maglev, redraws_hash_as_envoys_retries) { /* [BasicWithRetryHostPredicate]: 10 -> 1, then 0, then 5 */
    struct cluster *c = maglev(6, 7);
    cr_assert_eq(cluster_publish(c), 0);
    cr_expect_eq(cluster_pick_hash(c, 10), 1);
    c->request.attempt = c->request.ntried = 1;
    c->request.tried[0] = 1;
    cr_expect_eq(cluster_pick_hash(c, 10), 0);
    c->request.attempt = c->request.ntried = 2;
    c->request.tried[1] = 0;
    cr_expect_eq(cluster_pick_hash(c, 10), 5);
    cluster_free(c);
}

Test(maglev, size_that_is_no_prime_is_the_default) {
    struct cluster *c = maglev(6, 8);
    cr_assert_eq(cluster_publish(c), 0);
    cr_expect_gt(c->view.table_len, 65537u * 4);
    cluster_free(c);
}

static void counts_of(struct cluster *c, int *owner) {
    cr_assert_eq(cluster_publish(c), 0);
    for (uint32_t i = 0; i < 65537; i++)
        owner[i] = cluster_pick_hash(c, i);
}

Test(
    maglev,
    thousand_hosts_share_within_one_percent_and_a_leaver_moves_few) { /* 65537/1000 = 65.5: 66/65.5 = 1.007 */
    static int before[65537], after[65537];
    uint32_t count[1000] = {0}, moved = 0;
    struct cluster *c = maglev(1000, 65537);
    counts_of(c, before);
    for (uint32_t i = 0; i < 65537; i++)
        count[before[i]]++;
    for (int i = 0; i < 1000; i++)
        cr_expect(count[i] == 65 || count[i] == 66, "%d: %u", i, count[i]);
    c->view.n = 999; /* the last one leaves */
    counts_of(c, after);
    for (uint32_t i = 0; i < 65537; i++)
        moved += before[i] != 999 && before[i] != after[i];
    cr_expect_lt(moved, 65537 * 2 / 100, "%u slots of others moved", moved);
    cluster_free(c);
}
