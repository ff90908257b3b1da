/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

static const uint8_t policies[] = {MESH_LB_ROUND_ROBIN, MESH_LB_LEAST_REQUEST, MESH_LB_RING_HASH,
                                   MESH_LB_RANDOM,      MESH_LB_MAGLEV,        MESH_LB_PICK_FIRST,
                                   MESH_LB_PEAK_EWMA};

Test(pick, no_endpoints_is_noendpoint) {
    struct cluster *c = cluster_new(0, MESH_LB_ROUND_ROBIN);
    cr_expect_eq(cluster_pick(c), MESH_E_NOENDPOINT);
    cluster_free(c);
}

Test(pick, error_leaves_the_index_alone) {
    struct cluster *c = cluster_new(0, MESH_LB_ROUND_ROBIN);
    uint32_t at = 77;
    cr_expect_eq(mesh_lb_pick(&c->view, &c->request, &at, NULL), MESH_E_NOENDPOINT);
    cr_expect_eq(at, 77);
    cluster_free(c);
}

Test(pick, unhealthy_draining_and_timed_out_are_left_out) {
    struct cluster *c = cluster_new(10, MESH_LB_RANDOM);
    c->endpoints[1].health = MESH_HEALTH_UNHEALTHY;
    c->endpoints[2].health = MESH_HEALTH_DRAINING;
    c->endpoints[3].health = MESH_HEALTH_TIMEOUT;
    c->endpoints[4].health = MESH_HEALTH_UNKNOWN;
    uint32_t *count = cluster_count(c, 10000); /* 7 of 10 healthy: no panic */
    cr_expect_eq(count[1] + count[2] + count[3], 0);
    cr_expect_gt(count[0], 1000);
    cr_expect_gt(count[4], 1000);
    free(count);
    cluster_free(c);
}

Test(pick, nobody_healthy_is_noendpoint) {
    struct cluster *c = cluster_new(2, MESH_LB_RANDOM);
    c->endpoints[0].health = MESH_HEALTH_UNHEALTHY;
    c->endpoints[1].health = MESH_HEALTH_DRAINING;
    cr_expect_eq(cluster_pick(c), MESH_E_NOENDPOINT);
    cluster_free(c);
}

Test(pick, too_few_healthy_is_panic_and_uses_all) { /* 1 of 4 is below 50 percent */
    struct cluster *c = cluster_new(4, MESH_LB_RANDOM);
    for (int i = 1; i < 4; i++)
        c->endpoints[i].health = MESH_HEALTH_UNHEALTHY;
    uint32_t *count = cluster_count(c, 4000);
    for (int i = 0; i < 4; i++)
        cr_expect_gt(count[i], 800);
    free(count);
    c->policy.panic_percent = 0;
    count = cluster_count(c, 100);
    cr_expect_eq(count[0], 100);
    free(count);
    cluster_free(c);
}

Test(pick, degraded_takes_only_what_healthy_cannot) { /* 7 of 10 healthy: 98 percent; degraded 3 -> 2 */
    struct cluster *c = cluster_new(10, MESH_LB_RANDOM);
    for (int i = 7; i < 10; i++)
        c->endpoints[i].health = MESH_HEALTH_DEGRADED;
    uint32_t *count = cluster_count(c, 100000);
    uint32_t degraded = count[7] + count[8] + count[9];
    cr_expect(degraded > 1780 && degraded < 2220, "%u: 2,000, sd 44", degraded);
    free(count);
    cluster_free(c);
}

Test(pick, lower_priority_waits_for_the_higher_to_fail) {
    struct cluster *c = cluster_new(8, MESH_LB_ROUND_ROBIN);
    for (int i = 4; i < 8; i++)
        c->endpoints[i].priority = 1;
    uint32_t *count = cluster_count(c, 400);
    for (int i = 4; i < 8; i++)
        cr_expect_eq(count[i], 0);
    free(count);
    for (int i = 0; i < 4; i++)
        c->endpoints[i].health = MESH_HEALTH_UNHEALTHY;
    count = cluster_count(c, 400);
    for (int i = 0; i < 4; i++)
        cr_expect_eq(count[i], 0);
    for (int i = 4; i < 8; i++)
        cr_expect_eq(count[i], 100);
    free(count);
    cluster_free(c);
}

Test(pick, ejection_counts_against_a_priority) { /* 2 of 4 out: 50 * 1.4 = 70 percent stay, 30 spill */
    struct cluster *c = cluster_new(8, MESH_LB_RANDOM);
    for (int i = 4; i < 8; i++)
        c->endpoints[i].priority = 1;
    cluster_eject(c, 0, c->request.now + MESH_SEC);
    cluster_eject(c, 1, c->request.now + MESH_SEC);
    uint32_t *count = cluster_count(c, 100000);
    uint32_t first = count[2] + count[3];
    cr_expect_eq(count[0] + count[1], 0);
    cr_expect(first > 69275 && first < 70725, "%u: 70,000, sd 145", first);
    free(count);
    cluster_free(c);
}

Test(pick, unreachable_families_are_no_candidates) {
    struct cluster *c = cluster_new(4, MESH_LB_ROUND_ROBIN);
    c->endpoints[0].family = c->endpoints[1].family = 6;
    c->request.families = 1;
    uint32_t *count = cluster_count(c, 100);
    cr_expect_eq(count[2], 50);
    cr_expect_eq(count[3], 50);
    free(count);
    c->request.families = 2;
    count = cluster_count(c, 100);
    cr_expect_eq(count[0], 50);
    cr_expect_eq(count[1], 50);
    free(count);
    cluster_free(c);
}

Test(pick, no_endpoint_of_a_reachable_family_is_family) {
    struct cluster *c = cluster_new(2, MESH_LB_ROUND_ROBIN);
    c->request.families = 2;
    cr_expect_eq(cluster_pick(c), MESH_E_FAMILY);
    cluster_free(c);
}

Test(pick, tried_ones_are_avoided_while_another_is_left) {
    for (size_t k = 0; k < sizeof policies; k++) {
        struct cluster *c = cluster_new(4, policies[k]);
        c->request.attempt = c->request.ntried = 3;
        c->request.tried[0] = 0;
        c->request.tried[1] = 1;
        c->request.tried[2] = 3;
        for (int i = 0; i < 100; i++)
            cr_expect_eq(cluster_pick(c), 2);
        cluster_free(c);
    }
}

Test(pick, only_tried_ones_left_is_noendpoint_on_a_retry) {
    struct cluster *c = cluster_new(2, MESH_LB_ROUND_ROBIN);
    c->request.attempt = c->request.ntried = 2;
    c->request.tried[1] = 1;
    cr_expect_eq(cluster_pick(c), MESH_E_NOENDPOINT);
    c->request.attempt = 0;
    cr_expect_geq(cluster_pick(c), 0);
    cluster_free(c);
}

Test(pick, tried_in_the_first_priority_goes_to_the_second) {
    struct cluster *c = cluster_new(2, MESH_LB_ROUND_ROBIN);
    c->endpoints[1].priority = 1;
    c->request.attempt = c->request.ntried = 1;
    cr_expect_eq(cluster_pick(c), 1);
    cluster_free(c);
}

Test(pick, ejected_ones_are_used_when_nothing_else_is_left) {
    struct cluster *c = cluster_new(2, MESH_LB_LEAST_REQUEST);
    cluster_eject(c, 0, c->request.now + MESH_SEC);
    cluster_eject(c, 1, c->request.now + MESH_SEC);
    cr_expect_geq(cluster_pick(c), 0);
    c->request.attempt = c->request.ntried = 1; /* endpoint 0 tried: the other ejected one */
    cr_expect_eq(cluster_pick(c), 1);
    cluster_free(c);
}

Test(pick, ejection_that_ended_counts_no_more) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    cluster_eject(c, 1, c->request.now + MESH_SEC);
    cr_expect_eq(c->live->ejected, 1);
    c->request.now += MESH_SEC;
    uint32_t *count = cluster_count(c, 3);
    cr_expect_eq(count[1], 1);
    cr_expect_eq(c->live->ejected, 0, "counted anew by the first pick after its end");
    free(count);
    cluster_free(c);
}

Test(pick, full_breaker_is_overload) {
    struct cluster *c = cluster_new(2, MESH_LB_ROUND_ROBIN);
    c->policy.max_connections = 5;
    c->live->inflight = 4;
    cr_expect_geq(cluster_pick(c), 0);
    c->live->inflight = 5;
    cr_expect_eq(cluster_pick(c), MESH_E_OVERLOAD);
    cr_expect_eq(c->live->overflow, 1);
    cluster_free(c);
}

Test(pick, pending_and_retry_breakers_are_overload) {
    struct cluster *c = cluster_new(2, MESH_LB_ROUND_ROBIN);
    c->policy.max_retries = 3;
    c->live->retries = 3;
    cr_expect_geq(cluster_pick(c), 0, "a first attempt is no retry");
    c->request.attempt = 1;
    cr_expect_eq(cluster_pick(c), MESH_E_OVERLOAD);
    c->request.attempt = 0;
    c->policy.max_pending = 0;
    cr_expect_eq(cluster_pick(c), MESH_E_OVERLOAD);
    cluster_free(c);
}

Test(pick, drop_overload_drops_its_share_of_first_attempts) { /* 25 percent of 100,000, sd 137 */
    struct cluster *c = cluster_new(2, MESH_LB_ROUND_ROBIN);
    c->policy.drop_per_million = 250000;
    uint32_t *count = cluster_count(c, 100000), kept = count[0] + count[1];
    cr_expect(kept > 74315 && kept < 75685, "%u", kept);
    free(count);
    c->request.attempt = 1;
    count = cluster_count(c, 100);
    cr_expect_eq(count[0] + count[1], 100);
    free(count);
    cluster_free(c);
}

Test(pick, why_is_told_on_request) {
    struct cluster *c = cluster_new(2, MESH_LB_ROUND_ROBIN);
    struct mesh_why why = {""};
    uint32_t at;
    cr_expect_eq(mesh_lb_pick(&c->view, &c->request, &at, &why), 0);
    cr_expect_eq(why.text[0], 0);
    c->request.want_why = true;
    cr_expect_eq(mesh_lb_pick(&c->view, &c->request, &at, &why), 0);
    cr_expect_neq(why.text[0], 0);
    cluster_free(c);
}

/* Is there one that any order of preference puts first: healthy, in reach, not ejected, not tried? */
static bool good(const struct cluster *c, uint32_t i) {
    const struct mesh_endpoint *e = &c->endpoints[i];
    if (mesh_lb_class_of(e, c->request.families) > LB_DEGRADED)
        return false;
    if (mesh_lb_ejected(&c->stats[i], c->request.now))
        return false;
    for (uint32_t k = 0; k < c->request.ntried; k++)
        if (c->request.tried[k] == i)
            return false;
    return true;
}

static void disturb(struct cluster *c) {
    c->policy.table_size = 251;
    c->policy.locality_weighted = rand() % 2;
    c->policy.slow_start_ms = rand() % 2 ? 10000 : 0;
    c->policy.hash_balance = rand() % 2 ? 120 : 0;
    c->policy.shuffle = rand() % 2;
    c->request.has_hash = rand() % 2;
    c->request.hash = (uint64_t)rand() << 32 | (uint32_t)rand();
    for (uint32_t i = 0; i < c->view.n; i++) {
        struct mesh_endpoint *e = &c->endpoints[i];
        e->health = rand() % 3 ? MESH_HEALTH_HEALTHY : (uint8_t)(rand() % 6);
        e->priority = (uint8_t)(rand() % 3);
        e->family = rand() % 4 ? 4 : 6;
        e->locality = (uint16_t)(rand() % 4);
        e->locality_weight = e->locality;
        e->since = rand() % 2 ? c->request.now : 0;
        c->stats[i].inflight = (uint32_t)rand() % 5;
        e->weight = rand() % 2 ? 1 : 1 + (uint32_t)rand() % 100;
        c->stats[i].ejected_until = rand() % 3 ? 0 : c->request.now + 1;
    }
    c->request.families = (uint8_t)(1 + rand() % 3);
    c->request.attempt = c->request.ntried = (uint8_t)(rand() % 4);
    for (uint32_t i = 0; i < c->request.ntried; i++)
        c->request.tried[i] = (uint32_t)rand() % c->view.n;
    cr_assert_eq(cluster_publish(c), 0);
    mesh_lb_recount(&c->view, c->request.now);
}

Test(pick, any_mix_picks_an_eligible_one_while_one_is_left) {
    srand(11);
    for (int round = 0; round < 3000; round++) {
        uint32_t n = round % 50 ? 1 + (uint32_t)rand() % 8 : 100 + (uint32_t)rand() % 100;
        struct cluster *c = cluster_new(n, policies[round % (int)sizeof policies]);
        c->policy.panic_percent = 0; /* else unhealthy ones are eligible too */
        disturb(c);
        bool left = false;
        for (uint32_t i = 0; i < n; i++)
            left = left || good(c, i);
        for (int i = 0; left && i < 20; i++) {
            int at = cluster_pick(c);
            cr_assert(at >= 0 && good(c, (uint32_t)at), "round %d, n %u: picked %d", round, n, at);
        }
        cluster_free(c);
    }
}

Test(pick, ejected_one_goes_before_one_that_was_tried) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    for (uint32_t i = 0; i < 3; i++)
        cluster_eject(c, i, c->request.now + MESH_SEC);
    c->request.ntried = 2; /* attempt 0: tried ones are allowed, last */
    c->request.tried[1] = 2;
    for (int i = 0; i < 20; i++)
        cr_expect_eq(cluster_pick(c), 1);
    cluster_free(c);
}

Test(
    pick,
    retry_budget_replaces_max_retries) { /* 20 percent of 100 in flight: 20 retries; of 5: 1, the minimum 3 */
    struct cluster *c = cluster_new(4, MESH_LB_ROUND_ROBIN);
    c->policy.max_retries = 1;
    c->policy.retry_min = 3;
    c->policy.retry_budget = 2000;
    c->request.attempt = 1;
    c->live->inflight = 100;
    c->live->retries = 19;
    cr_assert_geq(cluster_pick(c), 0);
    c->live->retries = 20;
    cr_assert_eq(cluster_pick(c), MESH_E_OVERLOAD);
    c->live->inflight = 5;
    c->live->retries = 2;
    cr_assert_geq(cluster_pick(c), 0);
    c->live->retries = 3;
    cr_assert_eq(cluster_pick(c), MESH_E_OVERLOAD);
    cluster_free(c);
}

static void fill_hosts(struct cluster *c, uint32_t but, uint32_t inflight) {
    for (uint32_t i = 0; i < c->view.n; i++)
        c->stats[i].inflight = i == but ? inflight - 1 : inflight;
}

Test(pick,
     host_at_its_own_limit_is_stepped_over) { /* in a small cluster and in a large one, whatever the policy */
    static const uint32_t sizes[] = {4, 40};
    for (uint8_t policy = 0; policy <= MESH_LB_PEAK_EWMA; policy++)
        for (int k = 0; k < 2; k++) {
            struct cluster *c = cluster_new(sizes[k], policy);
            struct mesh_why why = {""};
            uint32_t at;
            c->policy.max_host_connections = 7;
            cr_assert_eq(cluster_publish(c), 0);
            fill_hosts(c, 2, 7);
            for (int i = 0; i < 100; i++)
                cr_assert_eq(cluster_pick(c), 2, "policy %u of %u", policy, sizes[k]);
            c->stats[2].inflight = 7;
            cr_assert_eq(mesh_lb_pick(&c->view, &c->request, &at, &why), MESH_E_OVERLOAD);
            cr_assert_str_eq(why.text, "per_host_thresholds.max_connections");
            cr_assert_eq(c->live->overflow, 1);
            cluster_free(c);
        }
}
