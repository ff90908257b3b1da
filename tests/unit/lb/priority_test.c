/* SPDX-License-Identifier: Apache-2.0
 *
 * Envoy's priority loads. The cases marked [doc] are the tables of its documentation, "Priority levels" and
 * "Degraded endpoints" (overprovisioning 1.4).
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

static struct lb_loads loads_of(const struct lb_level *l, uint32_t n, uint32_t panic) {
    struct lb_loads r;
    cr_assert(mesh_lb_loads(l, n, 140, panic, &r));
    return r;
}

Test(priority, healthy_72_of_100_takes_all) { /* [doc] 72 * 1.4 = 100.8 */
    struct lb_level l[] = {{100, 72, 0}, {100, 100, 0}};
    struct lb_loads r = loads_of(l, 2, 50);
    cr_expect_eq(r.healthy[0], 100);
    cr_expect_eq(r.healthy[1], 0);
}

Test(priority, healthy_71_of_100_spills_one_percent) { /* [doc] 71 * 1.4 = 99.4 -> 99 */
    struct lb_level l[] = {{100, 71, 0}, {100, 100, 0}};
    struct lb_loads r = loads_of(l, 2, 50);
    cr_expect_eq(r.healthy[0], 99);
    cr_expect_eq(r.healthy[1], 1);
}

Test(priority, three_levels_25_25_25_take_35_35_30) { /* [doc] 25 * 1.4 = 35 each, total 105 -> 100 */
    struct lb_level l[] = {{100, 25, 0}, {100, 25, 0}, {100, 25, 0}};
    struct lb_loads r = loads_of(l, 3, 50);
    cr_expect_eq(r.healthy[0], 35);
    cr_expect_eq(r.healthy[1], 35);
    cr_expect_eq(r.healthy[2], 30);
    cr_expect(!r.panic[0] && !r.panic[1] && !r.panic[2], "no panic while the total is 100");
}

Test(priority,
     total_below_100_is_normalised) { /* [doc] 20 and 20 of 100: 28 + 28 = 56 -> 50 each; both panic */
    struct lb_level l[] = {{100, 20, 0}, {100, 20, 0}};
    struct lb_loads r = loads_of(l, 2, 0);
    cr_expect_eq(r.healthy[0], 50);
    cr_expect_eq(r.healthy[1], 50);
    r = loads_of(l, 2, 50);
    cr_expect(r.panic[0] && r.panic[1]);
}

Test(priority, remainder_of_rounding_goes_to_the_first_available) { /* 14 each: 14*100/42 = 33; 1 is left */
    struct lb_level l[] = {{10, 0, 0}, {10, 1, 0}, {10, 1, 0}, {10, 1, 0}};
    struct lb_loads r = loads_of(l, 4, 0);
    cr_expect_eq(r.healthy[0], 0);
    cr_expect_eq(r.healthy[1], 34);
    cr_expect_eq(r.healthy[2], 33);
    cr_expect_eq(r.healthy[3], 33);
}

Test(priority, degraded_take_what_healthy_leave) { /* 50*1.4 = 70 healthy, 50*1.4 = 70 degraded, total 100 */
    struct lb_level l[] = {{100, 50, 50}};
    struct lb_loads r = loads_of(l, 1, 50);
    cr_expect_eq(r.healthy[0], 70);
    cr_expect_eq(r.degraded[0], 30);
}

Test(priority, healthy_of_every_level_go_before_degraded_of_the_first) { /* 35 + 35 + degraded 70 -> 30 */
    struct lb_level l[] = {{100, 25, 50}, {100, 25, 0}};
    struct lb_loads r = loads_of(l, 2, 50);
    cr_expect_eq(r.healthy[0], 35);
    cr_expect_eq(r.healthy[1], 35);
    cr_expect_eq(r.degraded[0], 30);
    cr_expect_eq(r.degraded[1], 0);
}

Test(priority, only_degraded_left_takes_all) {
    struct lb_level l[] = {{4, 0, 1}};
    struct lb_loads r = loads_of(l, 1, 0);
    cr_expect_eq(r.healthy[0], 0);
    cr_expect_eq(r.degraded[0], 100);
}

Test(priority,
     one_level_in_panic_keeps_its_load) { /* 0.14 -> 14, 0.7 -> 70: 84; 14*100/84 = 16, 83; 1 left to P0 */
    struct lb_level l[] = {{10, 1, 0}, {10, 5, 0}};
    struct lb_loads r = loads_of(l, 2, 50);
    cr_expect(r.panic[0]);
    cr_expect(!r.panic[1], "5 of 10 is not below 50 percent");
    cr_expect_eq(r.healthy[0], 17);
    cr_expect_eq(r.healthy[1], 83);
}

Test(priority, all_in_panic_spreads_by_hosts) { /* 30 and 70 of 100 hosts */
    struct lb_level l[] = {{30, 1, 0}, {70, 1, 0}};
    struct lb_loads r = loads_of(l, 2, 50);
    cr_expect_eq(r.healthy[0], 30);
    cr_expect_eq(r.healthy[1], 70);
    struct lb_level thirds[] = {{1, 0, 0}, {0, 0, 0}, {2, 0, 0}, {100, 1, 0}};
    r = loads_of(thirds, 4, 50); /* 100/103 = 0, 0, 200/103 = 1, 10000/103 = 97: 2 left to the first */
    cr_expect_eq(r.healthy[0], 2);
    cr_expect_eq(r.healthy[1], 0);
    cr_expect_eq(r.healthy[2], 1);
    cr_expect_eq(r.healthy[3], 97);
}

Test(priority, nobody_healthy_or_degraded_is_told) {
    struct lb_level l[] = {{3, 0, 0}};
    struct lb_loads r;
    cr_expect_not(mesh_lb_loads(l, 1, 140, 50, &r));
    cr_expect_not(mesh_lb_loads(l, 0, 140, 50, &r));
}

Test(priority, counts_that_contradict_each_other_end) { /* torn memory: healthy ones among no hosts */
    struct lb_level l[] = {{0, 5, 0}, {0, 0, 0}};
    struct lb_loads r;
    cr_expect(mesh_lb_loads(l, 2, 140, 50, &r));
}

Test(priority, loads_always_sum_to_100) {
    srand(7);
    for (int i = 0; i < 20000; i++) {
        struct lb_level l[6];
        uint32_t n = 1 + (uint32_t)rand() % 6, sum = 0;
        for (uint32_t p = 0; p < n; p++) {
            uint32_t hosts = (uint32_t)rand() % 50, healthy = (uint32_t)rand() % (hosts + 1);
            l[p] = (struct lb_level){hosts, healthy, (uint32_t)rand() % (hosts - healthy + 1)};
        }
        struct lb_loads r;
        if (!mesh_lb_loads(l, n, 140, (uint32_t)rand() % 101, &r))
            continue;
        for (uint32_t p = 0; p < n; p++)
            sum += (uint32_t)r.healthy[p] + r.degraded[p];
        cr_assert_eq(sum, 100, "case %d: %u", i, sum);
    }
}

Test(priority, point_of_the_loads_chooses_level_and_set) { /* P0 99 healthy, P1 1 healthy */
    struct lb_level l[] = {{100, 71, 0}, {100, 100, 0}};
    struct mesh_policy policy;
    mesh_lb_policy_defaults(&policy);
    uint32_t p = 9;
    enum lb_set set = LB_SET_ALL;
    cr_assert(mesh_lb_level_choose(l, 2, &policy, 98, &p, &set));
    cr_expect_eq(p, 0);
    cr_expect_eq(set, LB_SET_HEALTHY);
    cr_assert(mesh_lb_level_choose(l, 2, &policy, 99, &p, &set));
    cr_expect_eq(p, 1);
}

Test(priority, level_in_panic_gives_all_its_hosts) {
    struct lb_level l[] = {{10, 1, 0}};
    struct mesh_policy policy;
    mesh_lb_policy_defaults(&policy);
    uint32_t p = 9;
    enum lb_set set = LB_SET_HEALTHY;
    cr_assert(mesh_lb_level_choose(l, 1, &policy, 0, &p, &set));
    cr_expect_eq(set, LB_SET_ALL);
    policy.panic_percent = 0;
    cr_assert(mesh_lb_level_choose(l, 1, &policy, 0, &p, &set));
    cr_expect_eq(set, LB_SET_HEALTHY);
}
