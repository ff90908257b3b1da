/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

/* Endpoint i: `reports` reports, bad[i] of them failures that are never two in a row. */
static void report(struct cluster *c, const uint32_t *bad, uint32_t reports) {
    for (uint32_t i = 0; i < c->view.n; i++)
        for (uint32_t k = 0; k < reports; k++)
            mesh_lb_report(&c->view, i, k < 2 * bad[i] && k % 2 ? MESH_LB_REFUSED : MESH_LB_CONNECTED,
                           c->request.now, MESH_MS);
}

static void next_interval(struct cluster *c) {
    c->request.now += c->policy.interval_ms * MESH_MS;
    mesh_lb_report(&c->view, 0, MESH_LB_CONNECTED, c->request.now, MESH_MS);
}

static bool out(const struct cluster *c, uint32_t i) {
    return mesh_lb_ejected(&c->stats[i], c->request.now);
}

static struct cluster *by_success(void) {
    struct cluster *c = cluster_new(5, MESH_LB_ROUND_ROBIN);
    c->policy.consecutive = 0;
    c->policy.success_enforcing = 100;
    return c;
}

Test(success_rate, threshold_is_mean_less_deviations) {
    /* Envoy's documentation: 4 at 100 and 1 at 50: mean 90, deviation 20; 90 - 1.9 * 20 = 52 */
    double squares = 4 * 10000.0 + 2500;
    cr_expect(mesh_lb_success_below(51.99, 5, 450, squares, 1900));
    cr_expect_not(mesh_lb_success_below(52.01, 5, 450, squares, 1900));
    cr_expect_not(mesh_lb_success_below(95, 5, 450, squares, 0), "above the mean is never below");
    cr_expect_not(mesh_lb_success_below(100, 3, 300, 30000, 1900));
}

Test(success_rate,
     one_far_below_the_others_is_ejected_at_the_end_of_the_interval) { /* 100,100,100,100,50: below 52 */
    struct cluster *c = by_success();
    report(c, (uint32_t[]){0, 0, 0, 0, 50}, 100);
    cr_expect_not(out(c, 4));
    next_interval(c);
    cr_expect(out(c, 4));
    for (uint32_t i = 0; i < 4; i++)
        cr_expect_not(out(c, i));
    cluster_free(c);
}

Test(success_rate, wide_spread_ejects_nobody) { /* 100,90,80,70,60: mean 80, sd 14.1: below 53.1 */
    struct cluster *c = by_success();
    report(c, (uint32_t[]){0, 10, 20, 30, 40}, 100);
    next_interval(c);
    for (uint32_t i = 0; i < 5; i++)
        cr_expect_not(out(c, i));
    cluster_free(c);
}

Test(success_rate, too_few_reports_or_hosts_judge_nobody) {
    struct cluster *c = by_success();
    report(c, (uint32_t[]){0, 0, 0, 0, 49}, 99);
    next_interval(c);
    cr_expect_not(out(c, 4), "99 reports are below the volume of 100");
    c->policy.success_hosts = 6;
    report(c, (uint32_t[]){0, 0, 0, 0, 50}, 100);
    next_interval(c);
    cr_expect_not(out(c, 4), "5 hosts are below the minimum of 6");
    cluster_free(c);
}

Test(success_rate,
     interval_is_judged_by_its_own_reports) { /* bad in one interval, fine in the next two: judged once */
    struct cluster *c = by_success();
    c->policy.base_ejection_ms = c->policy.max_ejection_ms = 1;
    report(c, (uint32_t[]){0, 0, 0, 0, 50}, 100);
    next_interval(c);
    cr_expect(out(c, 4));
    for (int i = 0; i < 3; i++) {
        report(c, (uint32_t[]){0, 0, 0, 0, 0}, 100);
        next_interval(c);
        cr_expect_not(out(c, 4));
    }
    cluster_free(c);
}

Test(success_rate, enforcing_zero_is_off) {
    struct cluster *c = by_success();
    c->policy.success_enforcing = 0;
    report(c, (uint32_t[]){0, 0, 0, 0, 50}, 100);
    next_interval(c);
    cr_expect_not(out(c, 4));
    cr_expect_eq(c->stats[4].window_bad[0] + c->stats[4].window_bad[1], 0);
    cluster_free(c);
}

Test(success_rate, enforcing_ejects_its_share) { /* 30 percent of 400 trials: 120, sd 9.2 */
    int ejected = 0;
    for (uint64_t i = 0; i < 400; i++) {
        struct cluster *c = by_success();
        c->policy.success_enforcing = 30;
        c->request.now += i * 977 * MESH_SEC + i;
        report(c, (uint32_t[]){0, 0, 0, 0, 50}, 100);
        next_interval(c);
        ejected += out(c, 4);
        cluster_free(c);
    }
    cr_expect(ejected > 74 && ejected < 166, "%d", ejected);
}

Test(success_rate,
     failure_percentage_ejects_at_its_threshold) { /* 40 and 39 of 80 failed: 50 and 48.75 percent */
    struct cluster *c = by_success();
    c->policy.success_enforcing = 0;
    c->policy.failure_enforcing = 100;
    c->policy.failure_threshold = 50;
    report(c, (uint32_t[]){0, 0, 0, 39, 40}, 80);
    next_interval(c);
    cr_expect(out(c, 4));
    cr_expect_not(out(c, 3));
    cluster_free(c);
}

Test(success_rate, share_limits_it_as_it_does_the_others) { /* 3 of 5 fail by half; 20 percent of 5 is one */
    struct cluster *c = by_success();
    c->policy.success_enforcing = 0;
    c->policy.failure_enforcing = 100;
    c->policy.failure_threshold = 50;
    c->policy.max_ejection_percent = 20;
    report(c, (uint32_t[]){0, 0, 40, 40, 40}, 80);
    next_interval(c);
    cr_expect_eq(out(c, 2) + out(c, 3) + out(c, 4), 1);
    cluster_free(c);
}

Test(success_rate, equals_are_never_below_themselves) {
    struct cluster *c = by_success();
    report(c, (uint32_t[]){0, 0, 0, 0, 0}, 100);
    next_interval(c);
    cr_expect_eq(c->live->ejected, 0);
    cluster_free(c);
}

Test(success_rate,
     counts_from_before_an_idle_time_are_not_judged) { /* three intervals later: the same side, odd or even */
    struct cluster *c = by_success();
    report(c, (uint32_t[]){0, 0, 0, 0, 50}, 100);
    c->request.now += 2 * c->policy.interval_ms * MESH_MS;
    next_interval(c);
    cr_expect_not(out(c, 4));
    cluster_free(c);
}
