/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include "tests/unit/lb/cluster.h"

static uint32_t subset(uint32_t n, uint32_t keep, uint64_t seed, uint32_t skip, bool *ret_in) {
    struct cluster *c = cluster_new(n, MESH_LB_ROUND_ROBIN);
    uint32_t got = 99;
    if (skip < n)
        c->endpoints[skip] = c->endpoints[--n];
    cr_assert_eq(mesh_lb_subset(c->endpoints, n, keep, seed, &got), 0);
    for (uint32_t i = 0; i < got; i++)
        ret_in[c->endpoints[i].stat] = true;
    cluster_free(c);
    return got;
}

Test(subset, keeps_all_when_there_are_few) {
    bool in[5] = {false};
    cr_expect_eq(subset(5, 5, 1, 9, in), 5);
    cr_expect(in[0] && in[1] && in[2] && in[3] && in[4]);
}

Test(subset, keeps_the_lowest_hashes) {
    bool in[30] = {false};
    cr_expect_eq(subset(30, 7, 1234, 99, in), 7);
    uint64_t highest_in = 0, lowest_out = UINT64_MAX;
    for (int i = 0; i < 30; i++) {
        char text[32];
        uint64_t hash = mesh_lb_xxh64(text, (size_t)sprintf(text, "10.0.0.%d:80", i), 1234);
        if (in[i] && hash > highest_in)
            highest_in = hash;
        if (!in[i] && hash < lowest_out)
            lowest_out = hash;
    }
    cr_expect_lt(highest_in, lowest_out);
}

Test(subset, one_that_leaves_changes_one_place) {
    bool before[50] = {false}, after[50] = {false};
    uint32_t left = UINT32_MAX, changed = 0;
    subset(50, 10, 7, 99, before);
    for (uint32_t i = 0; i < 49; i++)
        if (before[i])
            left = i;
    subset(50, 10, 7, left, after);
    for (uint32_t i = 0; i < 50; i++)
        changed += before[i] && !after[i];
    cr_expect_eq(changed, 1);
    cr_expect_not(after[left]);
}

Test(subset, seeds_spread_clients_over_servers) { /* 1,000 clients keep 5 of 50: 100 each, sd 9.5 */
    uint32_t clients[50] = {0};
    for (uint64_t seed = 0; seed < 1000; seed++) {
        bool in[50] = {false};
        subset(50, 5, seed, 99, in);
        for (int i = 0; i < 50; i++)
            clients[i] += in[i];
    }
    for (int i = 0; i < 50; i++)
        cr_expect(clients[i] > 52 && clients[i] < 148, "%d: %u", i, clients[i]);
}
