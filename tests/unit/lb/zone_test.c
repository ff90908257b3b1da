/* SPDX-License-Identifier: Apache-2.0
 *
 * Bounds are 5 standard deviations of the binomial, 100,000 picks: 500 sqrt(p (1 - p)) / sqrt(0.1).
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

enum { PICKS = 100000 };

/* 20 endpoints: 5, 10, 5 in zones 0, 1, 2; callers as given, ours are in zone 0 */
static struct cluster *zoned(const uint32_t *callers, struct mesh_lb_zones *ret_zones) {
    struct cluster *c = cluster_new(20, MESH_LB_RANDOM);
    for (uint32_t i = 0; i < 20; i++)
        c->endpoints[i].locality = i < 5 ? 0 : i < 15 ? 1 : 2;
    *ret_zones = (struct mesh_lb_zones){.own = 0,
                                        .n = 3,
                                        .callers = callers,
                                        .mine = callers[0],
                                        .localities = 3,
                                        .total = callers[0] + callers[1] + callers[2],
                                        .min_cluster_size = 6};
    return c;
}

static void expect(struct cluster *c, double a, double b, double d) {
    uint32_t *count = cluster_count(c, PICKS);
    double share[3] = {0}, expected[3] = {a, b, d};
    for (uint32_t i = 0; i < 20; i++)
        share[c->endpoints[i].locality] += count[i] / (double)PICKS;
    for (int i = 0; i < 3; i++)
        cr_expect_float_eq(share[i], expected[i], 0.0081, "zone %d: %f", i, share[i]);
    free(count);
    cluster_free(c);
}

Test(zone, residual_is_shared_by_what_others_have_over) {
    /* the example in Envoy's source: callers 40/40/20, hosts 25/50/25: 62.5 % stay; 37.5 % as 10:5 */
    struct mesh_lb_zones z;
    struct cluster *c = zoned((uint32_t[]){4, 4, 2}, &z);
    cr_assert_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &z), 1);
    expect(c, 0.625, 0.25, 0.125);
}

Test(zone, zone_with_capacity_enough_keeps_everything) { /* callers 20/40/40 against 25 % */
    struct mesh_lb_zones z;
    struct cluster *c = zoned((uint32_t[]){2, 4, 4}, &z);
    cr_assert_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &z), 1);
    expect(c, 1, 0, 0);
}

Test(zone, forced_keeps_everything_whatever_the_capacity) {
    struct mesh_lb_zones z;
    struct cluster *c = zoned((uint32_t[]){8, 1, 1}, &z);
    z.force_direct = true;
    cr_assert_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &z), 1);
    expect(c, 1, 0, 0);
}

Test(zone, unhealthy_ones_count_once) { /* zone 1 loses 5 of 10: healthy 5/5/5 = 33.33 % each; 4/4/2: 83.3 %
                                           stay; 0:13.3 */
    struct mesh_lb_zones z;
    struct cluster *c = zoned((uint32_t[]){4, 4, 2}, &z);
    for (int i = 5; i < 10; i++)
        c->endpoints[i].health = MESH_HEALTH_UNHEALTHY;
    cr_assert_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &z), 1);
    expect(c, 0.8333, 0, 0.1667);
}

Test(zone,
     availability_is_not_counted_twice) { /* callers 80/10/10; zone 1 has 2 of 10: healthy 5/2/5 of 12 */
    /* parts 4166/1666/4166: local 4166/8000 = 52.07 %; over: 666 and 3166: 47.93 % as 8.33 and 39.60 */
    struct mesh_lb_zones z;
    struct cluster *c = zoned((uint32_t[]){8, 1, 1}, &z);
    c->policy.panic_percent = 0;
    for (int i = 5; i < 13; i++)
        c->endpoints[i].health = MESH_HEALTH_UNHEALTHY;
    cr_assert_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &z), 1);
    expect(c, 0.5207, 0.0833, 0.3960);
}

Test(zone, no_endpoint_in_our_zone_spreads_over_the_others) { /* callers 60/20/20, hosts 0/66.66/33.33:
                                                                 over 46.66, 13.33 */
    struct mesh_lb_zones z;
    struct cluster *c = zoned((uint32_t[]){6, 2, 2}, &z);
    for (int i = 0; i < 5; i++)
        c->endpoints[i].health = MESH_HEALTH_UNHEALTHY;
    cr_assert_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &z), 1);
    expect(c, 0, 0.7778, 0.2222);
}

Test(zone, what_envoy_does_not_route_by_zone_is_left_alone) {
    struct mesh_lb_zones z;
    struct cluster *c = zoned((uint32_t[]){4, 4, 2}, &z);
    struct mesh_lb_zones small = z, alone = z, none_here = z;
    small.min_cluster_size = 21;
    alone.localities = 1;
    none_here.mine = 0;
    cr_expect_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &small), 0);
    cr_expect_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &alone), 0);
    cr_expect_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &none_here), 0);
    for (int i = 0; i < 20; i++)
        c->endpoints[i].locality = 0;
    cr_expect_eq(mesh_lb_zone_weights(c->endpoints, 20, &c->policy, &z), 0);
    cr_expect_eq(c->policy.locality_weighted, 0);
    cluster_free(c);
}
