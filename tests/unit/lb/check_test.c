/* SPDX-License-Identifier: Apache-2.0
 *
 * Expectations are Envoy's documentation of envoy.config.core.v3.HealthCheck and its HealthCheckerImplBase.
 */
#include <criterion/criterion.h>
#include "lb/check.h"
#include "shim/base/clock.h"

static const struct mesh_check_policy plain = {.timeout = 1000,
                                               .interval = 5000,
                                               .no_traffic_interval = 60000,
                                               .unhealthy_threshold = 3,
                                               .healthy_threshold = 2};

static struct mesh_check made(const struct mesh_check_policy *p, bool healthy) {
    struct mesh_check c;
    mesh_check_init(&c, p, 0, 0);
    mesh_check_result(&c, p, healthy ? MESH_CHECK_GOOD : MESH_CHECK_NETWORK, true, 0, 0);
    return c;
}

static int changes_after(struct mesh_check *c, enum mesh_check_result result) {
    for (int i = 1; i < 10; i++)
        if (mesh_check_result(c, &plain, result, true, 0, 0))
            return i;
    return 0;
}

Test(check, first_check_alone_decides) {
    struct mesh_check c;
    mesh_check_init(&c, &plain, 7, 0);
    cr_assert_not(c.healthy);
    cr_assert_eq(c.due, 7, "at once");
    cr_assert(mesh_check_result(&c, &plain, MESH_CHECK_GOOD, true, 7, 0));
    cr_assert(c.healthy);
}

Test(check, thresholds_count_results_in_a_row) {
    struct mesh_check c = made(&plain, true);
    cr_assert_eq(changes_after(&c, MESH_CHECK_NETWORK), 3);
    cr_assert_eq(changes_after(&c, MESH_CHECK_GOOD), 2);
    mesh_check_result(&c, &plain, MESH_CHECK_NETWORK, true, 0, 0);
    mesh_check_result(&c, &plain, MESH_CHECK_NETWORK, true, 0, 0);
    mesh_check_result(&c, &plain, MESH_CHECK_GOOD, true, 0, 0);
    cr_assert_eq(changes_after(&c, MESH_CHECK_NETWORK), 3, "one success begins the row anew");
}

Test(check, wrong_answer_is_unhealthy_at_once) {
    struct mesh_check c = made(&plain, true);
    cr_assert_eq(changes_after(&c, MESH_CHECK_WRONG), 1);
}

Test(check, first_failure_stays_unhealthy_and_then_the_threshold_counts) {
    struct mesh_check c = made(&plain, false);
    cr_assert_not(c.healthy);
    cr_assert_eq(changes_after(&c, MESH_CHECK_GOOD), 2);
}

static uint64_t next(struct mesh_check *c, const struct mesh_check_policy *p, enum mesh_check_result r,
                     bool traffic) {
    mesh_check_result(c, p, r, traffic, 0, 0);
    return c->due / MESH_MS;
}

Test(check, intervals_follow_state_edge_and_traffic) {
    struct mesh_check_policy p = plain;
    struct mesh_check c = made(&p, true);
    cr_assert_eq(next(&c, &p, MESH_CHECK_GOOD, true), 5000);
    cr_assert_eq(next(&c, &p, MESH_CHECK_GOOD, false), 60000);
    cr_assert_eq(next(&c, &p, MESH_CHECK_WRONG, true), 5000, "nothing else is said");
    p.unhealthy_interval = 700;
    cr_assert_eq(next(&c, &p, MESH_CHECK_NETWORK, true), 700);
    p.healthy_edge_interval = 300;
    next(&c, &p, MESH_CHECK_GOOD, true);
    cr_assert_eq(next(&c, &p, MESH_CHECK_GOOD, true), 300, "the second success changes it");
    cr_assert_eq(next(&c, &p, MESH_CHECK_WRONG, true), 700, "the edge's default is the unhealthy interval");
    p.unhealthy_edge_interval = 200;
    next(&c, &p, MESH_CHECK_GOOD, true);
    next(&c, &p, MESH_CHECK_GOOD, true);
    cr_assert_eq(next(&c, &p, MESH_CHECK_WRONG, true), 200);
    p.no_traffic_healthy_interval = 90000;
    cr_assert_eq(next(&c, &p, MESH_CHECK_WRONG, false), 60000);
    next(&c, &p, MESH_CHECK_GOOD, true);
    next(&c, &p, MESH_CHECK_GOOD, true);
    cr_assert_eq(next(&c, &p, MESH_CHECK_GOOD, false), 90000);
}

Test(check, jitter_lies_within_its_bounds) { /* 5000 + 20 % + 300 ms at most */
    struct mesh_check_policy p = plain;
    uint64_t least = UINT64_MAX, most = 0;
    p.interval_jitter_percent = 20;
    p.interval_jitter = 300;
    p.initial_jitter = 1000;
    struct mesh_check c = made(&p, true);
    for (uint64_t i = 0, random = 1; i < 10000; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        mesh_check_result(&c, &p, MESH_CHECK_GOOD, true, 0, random);
        least = c.due < least ? c.due : least;
        most = c.due > most ? c.due : most;
        struct mesh_check first;
        mesh_check_init(&first, &p, 0, random);
        cr_assert_leq(first.due, 1000 * MESH_MS);
    }
    cr_assert(least >= 5000 * MESH_MS && least < 5100 * MESH_MS);
    cr_assert(most <= 6300 * MESH_MS && most > 6200 * MESH_MS);
}
