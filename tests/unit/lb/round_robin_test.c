/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <pthread.h>
#include "tests/unit/lb/cluster.h"

Test(round_robin, equal_weights_take_turns) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    int order[] = {1, 2, 0, 1, 2, 0};
    for (int i = 0; i < 6; i++)
        cr_expect_eq(cluster_pick(c), order[i]);
    cluster_free(c);
}

Test(round_robin, fresh_counter_starts_at_random) {
    int first[5] = {0};
    for (int i = 0; i < 200; i++) {
        struct cluster *c = cluster_new(5, MESH_LB_ROUND_ROBIN);
        c->live->rr = 0;
        c->rng = (uint64_t)i * 977;
        int a = cluster_pick(c), b = cluster_pick(c);
        first[a]++;
        cr_expect_eq(b, (a + 1) % 5, "and goes on from there");
        cluster_free(c);
    }
    for (int i = 0; i < 5; i++)
        cr_expect_gt(first[i], 20);
}

Test(round_robin, weights_are_exact_in_any_window_of_their_sum) {
    struct cluster *c = cluster_new(4, MESH_LB_ROUND_ROBIN);
    uint32_t weight[] = {1, 2, 5, 12}; /* 20 */
    for (int i = 0; i < 4; i++)
        c->endpoints[i].weight = weight[i];
    for (uint32_t start = 1; start < 40; start += 7) {
        c->live->rr = start;
        uint32_t *count = cluster_count(c, 20);
        for (int i = 0; i < 4; i++)
            cr_expect_eq(count[i], weight[i], "start %u endpoint %d: %u", start, i, count[i]);
        free(count);
    }
    cluster_free(c);
}

Test(round_robin,
     light_one_beside_a_heavy_one_is_not_starved) { /* W = 1,001: its turn comes within any 1,001 */
    struct cluster *c = cluster_new(2, MESH_LB_ROUND_ROBIN);
    c->endpoints[1].weight = 1000;
    int gap = 0, seen = 0;
    for (int i = 0; i < 5005; i++) {
        gap++;
        if (cluster_pick(c) != 0)
            continue;
        cr_expect_leq(gap, 1001);
        gap = 0;
        seen++;
    }
    cr_expect_eq(seen, 5);
    cluster_free(c);
}

Test(round_robin, heavy_one_is_spread_not_bunched) { /* weight 5 of 10: never 4 in a row, EDF would give 2 */
    struct cluster *c = cluster_new(6, MESH_LB_ROUND_ROBIN);
    c->endpoints[0].weight = 5;
    int run = 0;
    for (int i = 0; i < 1000; i++) {
        run = cluster_pick(c) == 0 ? run + 1 : 0;
        cr_assert_lt(run, 4);
    }
    cluster_free(c);
}

Test(round_robin, stride_is_coprime_and_visits_every_point) {
    for (uint64_t total = 1; total < 400; total++) {
        uint64_t stride = mesh_lb_stride(total);
        char seen[400] = {0};
        for (uint64_t k = 0; k < total; k++)
            seen[k * stride % total]++;
        for (uint64_t k = 0; k < total; k++)
            cr_assert_eq(seen[k], 1, "total %zu", (size_t)total);
    }
    cr_expect_gt(mesh_lb_stride(UINT64_C(1) << 40), 0);
}

Test(round_robin, ejected_ones_turns_fall_to_the_others_in_turn) {
    struct cluster *c = cluster_new(4, MESH_LB_ROUND_ROBIN);
    cluster_eject(c, 2, c->request.now + MESH_SEC);
    uint32_t *count = cluster_count(c, 300);
    cr_expect_eq(count[0], 100);
    cr_expect_eq(count[1], 100);
    cr_expect_eq(count[2], 0);
    cr_expect_eq(count[3], 100);
    free(count);
    cluster_free(c);
}

static void *pick_many(void *arg) {
    struct cluster *shared = arg, mine = *shared;
    uint32_t *count = cluster_count(&mine, 1000);
    return count;
}

Test(round_robin, threads_share_one_turn) {
    struct cluster *c = cluster_new(8, MESH_LB_ROUND_ROBIN);
    pthread_t t[8];
    uint32_t total[8] = {0};
    for (int i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, pick_many, c);
    for (int i = 0; i < 8; i++) {
        void *count;
        pthread_join(t[i], &count);
        for (int k = 0; k < 8; k++)
            total[k] += ((uint32_t *)count)[k];
        free(count);
    }
    for (int k = 0; k < 8; k++)
        cr_expect_eq(total[k], 1000);
    cluster_free(c);
}
