/* SPDX-License-Identifier: Apache-2.0
 *
 * Bounds are 5 standard deviations of the binomial: sqrt(n p (1 - p)).
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

Test(least_request, draws_with_replacement_reach_the_busiest_by_n_squared) { /* both draws hit it: 1/16 of
                                                                                100,000 = 6,250, sd 76.5 */
    struct cluster *c = cluster_new(4, MESH_LB_LEAST_REQUEST);
    c->stats[3].inflight = 9;
    uint32_t *count = cluster_count(c, 100000);
    cr_expect(count[3] > 5867 && count[3] < 6633, "%u", count[3]);
    free(count);
    cluster_free(c);
}

Test(least_request, three_choices_reach_the_busiest_by_n_cubed) { /* 1/64 of 100,000 = 1,562, sd 39.2 */
    struct cluster *c = cluster_new(4, MESH_LB_LEAST_REQUEST);
    c->policy.choice_count = 3;
    c->stats[3].inflight = 9;
    uint32_t *count = cluster_count(c, 100000);
    cr_expect(count[3] > 1366 && count[3] < 1759, "%u", count[3]);
    free(count);
    cluster_free(c);
}

Test(least_request, idle_equal_ones_are_uniform) { /* a tie keeps the first drawn: 25,000 each, sd 137 */
    struct cluster *c = cluster_new(4, MESH_LB_LEAST_REQUEST);
    uint32_t *count = cluster_count(c, 100000);
    for (int i = 0; i < 4; i++)
        cr_expect(count[i] > 24315 && count[i] < 25685, "%d: %u", i, count[i]);
    free(count);
    cluster_free(c);
}

Test(least_request,
     full_scan_takes_the_least_and_breaks_ties_evenly) { /* 2 tied of 5: 5,000 of 10,000, sd 50 */
    struct cluster *c = cluster_new(5, MESH_LB_LEAST_REQUEST);
    c->policy.full_scan = 1;
    uint32_t busy[] = {3, 1, 2, 1, 9};
    for (int i = 0; i < 5; i++)
        c->stats[i].inflight = busy[i];
    uint32_t *count = cluster_count(c, 10000);
    cr_expect_eq(count[0] + count[2] + count[4], 0);
    cr_expect(count[1] > 4750 && count[1] < 5250, "%u", count[1]);
    free(count);
    cluster_free(c);
}

Test(least_request,
     unequal_weights_follow_the_dynamic_weight) { /* 4/(3+1) = 1 against 1/(0+1) = 1: half; sd 158 */
    struct cluster *c = cluster_new(2, MESH_LB_LEAST_REQUEST);
    c->endpoints[0].weight = 4;
    c->stats[0].inflight = 3;
    uint32_t *count = cluster_count(c, 100000);
    cr_expect(count[0] > 49210 && count[0] < 50790, "%u", count[0]);
    free(count);
    cluster_free(c);
}

Test(least_request, bias_two_squares_the_load) { /* 9/(2+1)^2 = 1 against 1 */
    struct cluster *c = cluster_new(2, MESH_LB_LEAST_REQUEST);
    c->policy.active_request_bias = 2;
    c->endpoints[0].weight = 9;
    c->stats[0].inflight = 2;
    uint32_t *count = cluster_count(c, 100000);
    cr_expect(count[0] > 49210 && count[0] < 50790, "%u", count[0]);
    free(count);
    cluster_free(c);
}

Test(least_request, bias_zero_is_plain_weight) { /* 3/4 of 100,000, sd 137 */
    struct cluster *c = cluster_new(2, MESH_LB_LEAST_REQUEST);
    c->policy.active_request_bias = 0;
    c->endpoints[0].weight = 3;
    c->stats[0].inflight = 100;
    uint32_t *count = cluster_count(c, 100000);
    cr_expect(count[0] > 74315 && count[0] < 75685, "%u", count[0]);
    free(count);
    cluster_free(c);
}
