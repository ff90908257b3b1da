/* SPDX-License-Identifier: Apache-2.0
 *
 * Bounds are 5 standard deviations of the binomial.
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

/* n endpoints, a third each in localities 0, 1, 2 of weights 1, 2, 0 */
static struct cluster *zones(uint32_t n, uint8_t policy) {
    struct cluster *c = cluster_new(n, policy);
    c->policy.locality_weighted = 1;
    for (uint32_t i = 0; i < n; i++) {
        c->endpoints[i].locality = (uint16_t)(i % 3);
        c->endpoints[i].locality_weight = i % 3 == 2 ? 0 : 1 + i % 3;
    }
    return c;
}

static void shares(struct cluster *c, uint32_t times, uint32_t *ret) {
    cr_assert_eq(cluster_publish(c), 0);
    uint32_t *count = cluster_count(c, times);
    memset(ret, 0, 3 * sizeof *ret);
    for (uint32_t i = 0; i < c->view.n; i++)
        ret[c->endpoints[i].locality] += count[i];
    free(count);
}

Test(locality, weights_decide_in_small_and_large_clusters_under_each_policy) { /* 1/3 of 30,000, sd 82 */
    const uint8_t policies[] = {MESH_LB_ROUND_ROBIN, MESH_LB_LEAST_REQUEST, MESH_LB_RANDOM,
                                MESH_LB_PEAK_EWMA};
    for (size_t k = 0; k < sizeof policies; k++) {
        for (uint32_t n = 9; n < 1000; n += 891) {
            uint32_t at[3];
            struct cluster *c = zones(n, policies[k]);
            shares(c, 30000, at);
            cr_expect(at[0] > 9590 && at[0] < 10410, "policy %u, n %u: %u", policies[k], n, at[0]);
            cr_expect_eq(at[2], 0, "a locality without weight gets none: %u", at[2]);
            cluster_free(c);
        }
    }
}

Test(locality, unhealthy_ones_lower_their_locality_by_overprovisioning) {
    /* half of locality 1 is unhealthy: 2 * 1.4 * 0.5 = 1.4 against 1: locality 0 gets 1/2.4 of 30,000 =
     * 12,500, sd 85 */
    for (uint32_t n = 30; n < 1000; n += 870) {
        uint32_t at[3];
        struct cluster *c = zones(n, MESH_LB_RANDOM);
        for (uint32_t i = 1; i < n; i += 6)
            c->endpoints[i].health = MESH_HEALTH_UNHEALTHY;
        shares(c, 30000, at);
        cr_expect(at[0] > 12073 && at[0] < 12927, "n %u: %u", n, at[0]);
        cluster_free(c);
    }
}

Test(locality,
     weights_of_endpoints_divide_a_localitys_share) { /* locality 0: endpoints 0 and 3 as 1:3 of a third */
    struct cluster *c = zones(6, MESH_LB_RANDOM);
    c->endpoints[3].weight = 3;
    uint32_t *count = cluster_count(c, 30000);
    cr_expect(count[0] > 2260 && count[0] < 2740, "%u: 2,500, sd 48", count[0]);
    cr_expect(count[3] > 7129 && count[3] < 7871, "%u: 7,500, sd 75", count[3]);
    cr_expect(count[1] > 9590 && count[1] < 10410, "%u", count[1]);
    free(count);
    cluster_free(c);
}

Test(locality, no_weights_at_all_is_plain) {
    for (uint32_t n = 9; n < 1000; n += 891) {
        uint32_t at[3];
        struct cluster *c = zones(n, MESH_LB_RANDOM);
        for (uint32_t i = 0; i < n; i++)
            c->endpoints[i].locality_weight = 0;
        shares(c, 30000, at);
        for (int k = 0; k < 3; k++)
            cr_expect(at[k] > 9590 && at[k] < 10410, "%u", at[k]);
        cluster_free(c);
    }
}

Test(locality, round_robin_within_a_locality_is_even) {
    struct cluster *c = zones(9, MESH_LB_ROUND_ROBIN);
    uint32_t *count = cluster_count(c, 9000); /* localities 0: 3,000 over 3, 1: 6,000 over 3 */
    for (uint32_t i = 0; i < 9; i++) {
        uint32_t expected = i % 3 == 2 ? 0 : 1000 * (1 + i % 3);
        cr_expect(count[i] + 3 >= expected && count[i] <= expected + 3, "%u: %u", i, count[i]);
    }
    free(count);
    cluster_free(c);
}

Test(locality,
     least_request_balances_inside_whatever_the_load_outside) { /* locality 1 is busy, and still gets 2/3 */
    struct cluster *c = zones(9, MESH_LB_LEAST_REQUEST);
    uint32_t at[3];
    for (uint32_t i = 1; i < 9; i += 3)
        c->stats[i].inflight = 50;
    c->stats[0].inflight = 1;
    uint32_t *count = cluster_count(c, 30000);
    cr_expect(count[0] > 944 && count[0] < 1278, "%u: both draws, 1/9 of 10,000, sd 33", count[0]);
    free(count);
    shares(c, 30000, at);
    cr_expect(at[1] > 19590 && at[1] < 20410, "%u", at[1]);
    cluster_free(c);
}

Test(locality,
     least_request_weighs_endpoints_inside_a_locality) { /* locality 1: endpoints 1, 4 as 1:3 of 2/3, sd 83 */
    struct cluster *c = zones(6, MESH_LB_LEAST_REQUEST);
    c->endpoints[4].weight = 3;
    uint32_t *count = cluster_count(c, 30000);
    cr_expect(count[4] > 14566 && count[4] < 15434, "%u: 15,000", count[4]);
    cr_expect(count[1] > 4677 && count[1] < 5323, "%u: 5,000, sd 65", count[1]);
    free(count);
    cluster_free(c);
}
