/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

static double part(struct cluster *c, uint64_t age_ms) {
    c->endpoints[0].since = c->request.now - age_ms * MESH_MS;
    return mesh_lb_slow_start(&c->endpoints[0], &c->policy, c->request.now);
}

Test(slow_start, factor_is_the_age_in_the_window_from_a_tenth_on) {
    struct cluster *c = cluster_new(1, MESH_LB_ROUND_ROBIN);
    c->policy.slow_start_ms = 10000;
    cr_expect_float_eq(part(c, 0), 0.1, 1e-9);
    cr_expect_float_eq(part(c, 500), 0.1, 1e-9);
    cr_expect_float_eq(part(c, 2500), 0.25, 1e-9);
    cr_expect_float_eq(part(c, 10000), 1, 1e-9);
    cr_expect_float_eq(part(c, 500000), 1, 1e-9);
    cluster_free(c);
}

Test(slow_start, aggression_bends_the_curve) { /* 0.25^(1/2) = 0.5; 0.25^(1/0.5) = 0.0625 -> the least, 0.1 */
    struct cluster *c = cluster_new(1, MESH_LB_ROUND_ROBIN);
    c->policy.slow_start_ms = 10000;
    c->policy.slow_start_aggression = 2;
    cr_expect_float_eq(part(c, 2500), 0.5, 1e-9);
    c->policy.slow_start_aggression = 0.5f;
    cr_expect_float_eq(part(c, 2500), 0.1, 1e-9);
    c->policy.slow_start_least_percent = 1;
    cr_expect_float_eq(part(c, 2500), 0.0625, 1e-9);
    cluster_free(c);
}

Test(slow_start, newcomer_gets_its_part_of_the_turns) { /* 0.5 against 1 and 1: 2,000 of 10,000 */
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    c->policy.slow_start_ms = 10000;
    c->endpoints[0].since = c->request.now - 5000 * MESH_MS;
    uint32_t *count = cluster_count(c, 10000);
    cr_expect(count[0] >= 1995 && count[0] <= 2005, "%u", count[0]);
    free(count);
    cluster_free(c);
}

Test(slow_start, all_new_is_all_equal) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    c->policy.slow_start_ms = 10000;
    for (int i = 0; i < 3; i++)
        c->endpoints[i].since = c->request.now;
    uint32_t *count = cluster_count(c, 300);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(count[i], 100);
    free(count);
    cluster_free(c);
}
