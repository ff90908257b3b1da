/* SPDX-License-Identifier: Apache-2.0
 *
 * Bounds are 5 standard deviations of the binomial: sqrt(n p (1 - p)).
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

Test(random, equal_weights_are_uniform) { /* 100,000 picks of 10: 10,000 each, sd 94.9 */
    struct cluster *c = cluster_new(10, MESH_LB_RANDOM);
    uint32_t *count = cluster_count(c, 100000);
    for (int i = 0; i < 10; i++)
        cr_expect(count[i] > 9525 && count[i] < 10475, "%d: %u", i, count[i]);
    free(count);
    cluster_free(c);
}

Test(random, weights_are_followed) { /* 1:3:6 of 100,000, sd 95, 145, 155 */
    struct cluster *c = cluster_new(3, MESH_LB_RANDOM);
    c->endpoints[1].weight = 3;
    c->endpoints[2].weight = 6;
    uint32_t *count = cluster_count(c, 100000);
    cr_expect(count[0] > 9525 && count[0] < 10475, "%u", count[0]);
    cr_expect(count[1] > 29275 && count[1] < 30725, "%u", count[1]);
    cr_expect(count[2] > 59225 && count[2] < 60775, "%u", count[2]);
    free(count);
    cluster_free(c);
}
