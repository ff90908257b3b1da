/* SPDX-License-Identifier: Apache-2.0
 *
 * Large clusters, whose pools come from the table. Bounds are 5 standard deviations of the binomial.
 */
#include <criterion/criterion.h>
#include "lb/table.h"
#include "tests/unit/lb/cluster.h"

static struct cluster *large(uint32_t n, uint8_t policy) {
    struct cluster *c = cluster_new(n, policy);
    cr_assert_eq(cluster_publish(c), 0);
    return c;
}

Test(table, empty_cluster_needs_none) {
    struct cluster *c = cluster_new(0, MESH_LB_ROUND_ROBIN);
    cr_expect_eq(mesh_lb_table_size(&c->view), 0);
    cr_expect_eq(cluster_publish(c), 0);
    cr_expect_null(c->view.table);
    cluster_free(c);
}

Test(table, small_cluster_picks_alike_with_and_without_it) {
    struct cluster *c = cluster_new(6, MESH_LB_ROUND_ROBIN);
    for (uint32_t i = 0; i < 6; i++) {
        c->endpoints[i].weight = 1 + i;
        c->endpoints[i].priority = i > 3;
    }
    c->endpoints[1].health = MESH_HEALTH_UNHEALTHY;
    uint32_t *gathered = cluster_count(c, 800); /* weights 1, 3, 4 */
    cr_assert_eq(cluster_publish(c), 0);
    uint32_t *ready = cluster_count(c, 800);
    for (int i = 0; i < 6; i++)
        cr_expect_eq(gathered[i], ready[i]);
    cr_expect_eq(ready[3], 400);
    free(gathered);
    free(ready);
    cluster_free(c);
}

Test(table, too_little_room_is_limit) {
    struct cluster *c = cluster_new(LB_FEW + 1, MESH_LB_ROUND_ROBIN);
    size_t size = mesh_lb_table_size(&c->view);
    uint32_t len = 7;
    void *room = malloc(size);
    cr_expect_eq(mesh_lb_table_build(&c->view, room, size - 1, &len), MESH_E_LIMIT);
    cr_expect_eq(len, 7);
    free(room);
    cluster_free(c);
}

Test(table, round_robin_takes_turns_over_all) {
    struct cluster *c = large(1000, MESH_LB_ROUND_ROBIN);
    uint32_t *count = cluster_count(c, 3000);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(count[i], 3);
    free(count);
    cluster_free(c);
}

Test(table, weighted_round_robin_is_exact_over_the_sum) { /* weights 1..4: W = 2,500 */
    struct cluster *c = cluster_new(1000, MESH_LB_ROUND_ROBIN);
    for (uint32_t i = 0; i < 1000; i++)
        c->endpoints[i].weight = 1 + i % 4;
    cr_assert_eq(cluster_publish(c), 0);
    c->live->rr = 12345;
    uint32_t *count = cluster_count(c, 2500);
    for (uint32_t i = 0; i < 1000; i++)
        cr_assert_eq(count[i], 1 + i % 4);
    free(count);
    cluster_free(c);
}

Test(table, least_request_avoids_the_busy_half) { /* both draws busy: 1/4 of 10,000, sd 43 */
    struct cluster *c = large(1000, MESH_LB_LEAST_REQUEST);
    uint32_t busy = 0;
    for (int i = 0; i < 500; i++)
        c->stats[i].inflight = 5;
    uint32_t *count = cluster_count(c, 10000);
    for (int i = 0; i < 500; i++)
        busy += count[i];
    cr_expect(busy > 2284 && busy < 2716, "%u", busy);
    free(count);
    cluster_free(c);
}

Test(table, dynamic_weights_shift_traffic) { /* weights 1 and 3, the heavy ones with 2 in flight: 1 : 3/3 */
    struct cluster *c = cluster_new(1000, MESH_LB_LEAST_REQUEST);
    uint32_t heavy = 0;
    for (uint32_t i = 500; i < 1000; i++) {
        c->endpoints[i].weight = 3;
        c->stats[i].inflight = 2;
    }
    cr_assert_eq(cluster_publish(c), 0);
    uint32_t *count = cluster_count(c, 20000);
    for (int i = 500; i < 1000; i++)
        heavy += count[i];
    /* resampling eight draws: between the exact 50 percent and the plain 75; computed by hand for 8: 52.4 */
    cr_expect(heavy > 10000 && heavy < 11000, "%u", heavy);
    free(count);
    cluster_free(c);
}

Test(table, unhealthy_and_other_families_are_in_no_pool) {
    struct cluster *c = cluster_new(1000, MESH_LB_RANDOM);
    for (uint32_t i = 0; i < 1000; i++) {
        if (i % 10 == 3)
            c->endpoints[i].health = MESH_HEALTH_TIMEOUT;
        if (i % 2)
            c->endpoints[i].family = 6;
    }
    cr_assert_eq(cluster_publish(c), 0);
    for (uint8_t families = 1; families <= 3; families++) {
        c->request.families = families;
        for (int i = 0; i < 5000; i++) {
            int at = cluster_pick(c);
            cr_assert_neq(at % 10, 3);
            cr_assert(families == 3 || at % 2 == (families == 2));
        }
    }
    cluster_free(c);
}

Test(table, family_that_nobody_has_is_family) {
    struct cluster *c = large(100, MESH_LB_RANDOM);
    c->request.families = 2;
    cr_expect_eq(cluster_pick(c), MESH_E_FAMILY);
    cluster_free(c);
}

Test(table, ejections_shift_load_between_priorities) { /* 100 of 200 out of P0: 50 * 1.4 = 70 percent stay */
    struct cluster *c = cluster_new(400, MESH_LB_RANDOM);
    for (int i = 200; i < 400; i++)
        c->endpoints[i].priority = 1;
    cr_assert_eq(cluster_publish(c), 0);
    for (int i = 0; i < 100; i++)
        c->stats[i].ejected_until = c->request.now + MESH_SEC;
    mesh_lb_recount(&c->view, c->request.now);
    uint32_t *count = cluster_count(c, 20000), first = 0, out = 0;
    for (int i = 0; i < 100; i++)
        out += count[i];
    for (int i = 100; i < 200; i++)
        first += count[i];
    cr_expect_eq(out, 0);
    cr_expect(first > 13676 && first < 14324, "%u: 14,000, sd 65", first);
    free(count);
    cluster_free(c);
}

Test(table, panic_uses_all_of_a_large_cluster) { /* 10 percent healthy */
    struct cluster *c = cluster_new(200, MESH_LB_ROUND_ROBIN);
    for (int i = 20; i < 200; i++)
        c->endpoints[i].health = MESH_HEALTH_UNHEALTHY;
    cr_assert_eq(cluster_publish(c), 0);
    uint32_t *count = cluster_count(c, 400);
    for (int i = 0; i < 200; i++)
        cr_expect_eq(count[i], 2);
    free(count);
    cluster_free(c);
}

Test(table, one_left_of_many_is_found) {
    struct cluster *c = large(1000, MESH_LB_LEAST_REQUEST);
    for (int i = 0; i < 1000; i++)
        if (i != 617)
            c->stats[i].ejected_until = c->request.now + MESH_SEC;
    mesh_lb_recount(&c->view, c->request.now);
    for (int i = 0; i < 50; i++)
        cr_expect_eq(cluster_pick(c), 617);
    cluster_free(c);
}

Test(table, table_of_another_cluster_or_version_is_not_used) {
    struct cluster *c = large(1000, MESH_LB_ROUND_ROBIN);
    struct lb_table t;
    cr_expect(mesh_lb_table_read(&c->view, &t));
    c->view.n = 999;
    cr_expect_not(mesh_lb_table_read(&c->view, &t));
    c->view.n = 1000;
    ((struct lb_table *)c->table)->version++;
    cr_expect_not(mesh_lb_table_read(&c->view, &t));
    cr_expect_geq(cluster_pick(c), 0, "a scan picks");
    cluster_free(c);
}

Test(table, slow_start_holds_newcomers_back) { /* half are new, at a tenth: 0.5 * 0.1 / (0.5 + 0.05) = 9.1
                                                  percent, sd 40 */
    struct cluster *c = cluster_new(1000, MESH_LB_RANDOM);
    c->policy.slow_start_ms = 10000;
    for (int i = 0; i < 500; i++)
        c->endpoints[i].since = c->request.now;
    cr_assert_eq(cluster_publish(c), 0);
    uint32_t *count = cluster_count(c, 20000), young = 0;
    for (int i = 0; i < 500; i++)
        young += count[i];
    cr_expect(young > 1615 && young < 2022, "%u: 1,818", young);
    free(count);
    cluster_free(c);
}

Test(table,
     set_of_equal_weights_is_equal_whatever_others_weigh) { /* P2C: both draws busy, 1/4 of 10,000, sd 43 */
    struct cluster *c = cluster_new(1000, MESH_LB_LEAST_REQUEST);
    uint32_t busy = 0;
    c->endpoints[999].weight = 7;
    c->endpoints[999].priority = 1;
    for (int i = 0; i < 500; i++)
        c->stats[i].inflight = 5;
    cr_assert_eq(cluster_publish(c), 0);
    uint32_t *count = cluster_count(c, 10000);
    for (int i = 0; i < 500; i++)
        busy += count[i];
    cr_expect(busy > 2284 && busy < 2716, "%u", busy);
    free(count);
    cluster_free(c);
}

Test(
    table,
    small_cluster_is_exact_when_disturbed) { /* ready pools would give an ejected one's turns out at random */
    struct cluster *c = cluster_new(4, MESH_LB_ROUND_ROBIN);
    cr_assert_eq(cluster_publish(c), 0);
    cluster_eject(c, 2, c->request.now + MESH_SEC);
    uint32_t *count = cluster_count(c, 300);
    for (int i = 0; i < 4; i++)
        cr_expect_eq(count[i], i == 2 ? 0 : 100, "%d: %u", i, count[i]);
    free(count);
    cluster_free(c);
}

Test(table, small_cluster_starts_slowly_too) { /* 0.5 against 1 and 1: 2,000 of 10,000 */
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    c->policy.slow_start_ms = 10000;
    c->endpoints[0].since = c->request.now - 5000 * MESH_MS;
    cr_assert_eq(cluster_publish(c), 0);
    uint32_t *count = cluster_count(c, 10000);
    cr_expect(count[0] >= 1995 && count[0] <= 2005, "%u", count[0]);
    free(count);
    cluster_free(c);
}
