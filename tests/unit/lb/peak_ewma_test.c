/* SPDX-License-Identifier: Apache-2.0
 *
 * Bounds are 5 standard deviations of the binomial.
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

static uint32_t share_of_second(uint32_t us0, uint32_t active0, uint32_t us1, uint32_t active1) {
    struct cluster *c = cluster_new(2, MESH_LB_PEAK_EWMA);
    c->stats[0].latency_us = us0;
    c->stats[0].inflight = active0;
    c->stats[1].latency_us = us1;
    c->stats[1].inflight = active1;
    uint32_t *count = cluster_count(c, 10000), n = count[1];
    free(count);
    cluster_free(c);
    return n;
}
#define EXPECT_LOSES(n) cr_expect((n) > 2284 && (n) < 2716, "%u: 1/4 of 10,000, sd 43", (n))
#define EXPECT_WINS(n) cr_expect((n) > 7284 && (n) < 7716, "%u: 3/4 of 10,000, sd 43", (n))

Test(peak_ewma, faster_wins) {
    EXPECT_WINS(share_of_second(2000, 0, 1000, 0));
}
Test(peak_ewma, load_multiplies_latency) { /* 1 ms * 4 against 3 ms * 1 */
    EXPECT_WINS(share_of_second(1000, 3, 3000, 0));
    EXPECT_LOSES(share_of_second(1000, 3, 5000, 0));
}
Test(peak_ewma, never_measured_counts_as_ten_ms) {
    EXPECT_WINS(share_of_second(11000, 0, 0, 0));
    EXPECT_LOSES(share_of_second(9000, 0, 0, 0));
}
Test(peak_ewma, busy_and_never_measured_is_shunned) {
    EXPECT_LOSES(share_of_second(900000000, 0, 0, 1));
}
Test(peak_ewma, equal_cost_keeps_the_first_drawn) { /* 1/2, sd 50 */
    uint32_t n = share_of_second(1000, 1, 1000, 1);
    cr_expect(n > 4750 && n < 5250, "%u", n);
}
