/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/unit/lb/cluster.h"

static void fail(struct cluster *c, uint32_t i, int times) {
    while (times--)
        mesh_lb_report(&c->view, i, MESH_LB_REFUSED, c->request.now, 0);
}
static bool out(const struct cluster *c, uint32_t i) {
    return mesh_lb_ejected(&c->stats[i], c->request.now);
}

Test(outlier, failures_in_a_row_eject) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    c->policy.consecutive = 5;
    fail(c, 1, 4);
    cr_expect_not(out(c, 1));
    fail(c, 1, 1);
    cr_expect(out(c, 1));
    cr_expect_eq(c->live->ejected, 1);
    cr_expect_eq(c->stats[1].failures, 5);
    cr_expect_eq(c->stats[1].ejected_until, c->request.now + 30 * MESH_SEC);
    cluster_free(c);
}

Test(outlier, success_ends_the_row) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    fail(c, 1, 1);
    mesh_lb_report(&c->view, 1, MESH_LB_CONNECTED, c->request.now, MESH_MS);
    fail(c, 1, 1);
    cr_expect_not(out(c, 1));
    cluster_free(c);
}

Test(outlier, late_refusals_of_our_certificate_eject_though_each_connected_first) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    for (int i = 0; i < 2; i++) {
        mesh_lb_report(&c->view, 1, MESH_LB_CONNECTED, c->request.now, MESH_MS);
        mesh_lb_report(&c->view, 1, MESH_LB_UNAUTHENTIC, c->request.now, 0);
    }
    cr_expect(out(c, 1));
    cluster_free(c);
}

Test(outlier, resets_of_established_connections_do_not_eject) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    for (int i = 0; i < 10; i++)
        mesh_lb_report(&c->view, 1, MESH_LB_RESET_LATER, c->request.now, 0);
    cr_expect_not(out(c, 1));
    cr_expect_eq(c->stats[1].failures, 10);
    cluster_free(c);
}

Test(outlier, zero_consecutive_switches_it_off) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    c->policy.consecutive = 0;
    fail(c, 1, 100);
    cr_expect_not(out(c, 1));
    cluster_free(c);
}

Test(outlier, ejection_time_grows_by_its_base_to_its_cap) { /* 30 s * n up to 300 s */
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    cr_expect_eq(mesh_lb_ejection_time(&c->policy, 1), 30 * MESH_SEC);
    cr_expect_eq(mesh_lb_ejection_time(&c->policy, 2), 60 * MESH_SEC);
    cr_expect_eq(mesh_lb_ejection_time(&c->policy, 10), 300 * MESH_SEC);
    cr_expect_eq(mesh_lb_ejection_time(&c->policy, 4000000000u), 300 * MESH_SEC);
    c->policy.max_ejection_ms = 10000; /* below the base: the base is the cap */
    cr_expect_eq(mesh_lb_ejection_time(&c->policy, 5), 30 * MESH_SEC);
    cluster_free(c);
}

Test(outlier, ejected_again_at_once_stays_out_longer) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    fail(c, 1, 2);
    c->request.now += 30 * MESH_SEC;
    cr_expect_not(out(c, 1));
    fail(c, 1, 2);
    cr_expect_eq(c->stats[1].ejected_until, c->request.now + 60 * MESH_SEC);
    cluster_free(c);
}

Test(outlier,
     multiplier_falls_by_one_for_each_healthy_interval) { /* 2 ejections, then 10 s and more of health */
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    fail(c, 1, 2);
    c->request.now += 30 * MESH_SEC;
    fail(c, 1, 2);
    c->request.now += 60 * MESH_SEC + 11 * MESH_SEC; /* 2 - 1 + 1 = 2 */
    fail(c, 1, 2);
    cr_expect_eq(c->stats[1].ejected_until, c->request.now + 60 * MESH_SEC);
    c->request.now += 60 * MESH_SEC + 3600 * MESH_SEC; /* all forgotten */
    fail(c, 1, 2);
    cr_expect_eq(c->stats[1].ejected_until, c->request.now + 30 * MESH_SEC);
    cluster_free(c);
}

Test(outlier, jitter_lengthens_within_its_bound) {
    bool varied = false;
    uint64_t last = 0;
    for (int i = 0; i < 20; i++) {
        struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
        c->policy.max_ejection_jitter_ms = 1000;
        c->request.now += (uint64_t)i * 12345;
        fail(c, 1, 2);
        uint64_t length = c->stats[1].ejected_until - c->request.now;
        cr_expect(length >= 30 * MESH_SEC && length < 31 * MESH_SEC);
        varied = varied || (i && length != last);
        last = length;
        cluster_free(c);
    }
    cr_expect(varied);
}

Test(outlier, share_limits_how_many_are_out) { /* 10 percent of 20: two */
    struct cluster *c = cluster_new(20, MESH_LB_ROUND_ROBIN);
    c->policy.max_ejection_percent = 10;
    for (uint32_t i = 0; i < 20; i++)
        fail(c, i, 2);
    cr_expect_eq(c->live->ejected, 2);
    cr_expect(out(c, 0) && out(c, 1) && !out(c, 2));
    cluster_free(c);
}

Test(outlier, always_eject_one_overrides_the_share_once) { /* 10 percent of 5 is none */
    struct cluster *c = cluster_new(5, MESH_LB_ROUND_ROBIN);
    c->policy.max_ejection_percent = 10;
    fail(c, 0, 2);
    cr_expect_not(out(c, 0));
    c->policy.always_eject_one = 1;
    fail(c, 0, 2);
    fail(c, 1, 2);
    cr_expect(out(c, 0) && !out(c, 1));
    cluster_free(c);
}

Test(outlier, last_healthy_one_is_never_ejected) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    c->endpoints[2].health = MESH_HEALTH_UNHEALTHY;
    fail(c, 0, 2);
    fail(c, 1, 20);
    fail(c, 2, 20);
    cr_expect(out(c, 0) && !out(c, 1) && !out(c, 2));
    cr_expect_eq(c->live->ejected, 1);
    cluster_free(c);
}

Test(outlier, endpoint_that_left_the_cluster_is_not_ejected) {
    struct cluster *c = cluster_new(4, MESH_LB_ROUND_ROBIN);
    c->view.n = 3;
    fail(c, 3, 2);
    cr_expect_not(out(c, 3));
    mesh_lb_report(&c->view, 4000, MESH_LB_REFUSED, c->request.now, 0); /* no such counter: nothing */
    cluster_free(c);
}

struct reporter {
    struct cluster *c;
    uint32_t at;
};

static void *report_many(void *arg) {
    struct reporter *r = arg;
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t stat = (r->at + i) % r->c->view.n;
        mesh_lb_report(&r->c->view, stat, i % 3 ? MESH_LB_REFUSED : MESH_LB_CONNECTED, r->c->request.now + i,
                       MESH_MS);
    }
    return NULL;
}

Test(outlier, sixty_four_reporters_in_two_processes_lose_no_count_and_never_eject_all) {
    struct cluster *c = cluster_new(4, MESH_LB_ROUND_ROBIN);
    pthread_t t[32];
    struct reporter r[32];
    pid_t child = fork();
    for (uint32_t i = 0; i < 32; i++) {
        r[i] = (struct reporter){c, i};
        cr_assert_eq(pthread_create(&t[i], NULL, report_many, &r[i]), 0);
    }
    for (int i = 0; i < 32; i++)
        pthread_join(t[i], NULL);
    if (!child)
        _exit(0);
    waitpid(child, NULL, 0);
    uint64_t connects = 0, failures = 0, left = 0;
    uint64_t end = c->request.now + 2000;
    for (uint32_t i = 0; i < 4; i++) {
        connects += c->stats[i].connects;
        failures += c->stats[i].failures;
        left += !mesh_lb_ejected(&c->stats[i], end);
    }
    cr_expect_eq(connects, 64 * 667);
    cr_expect_eq(failures, 64 * 1333);
    cr_expect_geq(left, 1);
    cr_expect_eq(c->live->ejected, 4 - left, "counted %u", c->live->ejected);
    cluster_free(c);
}

Test(outlier, lost_count_is_found_again_when_an_ejected_one_fails) {
    struct cluster *c = cluster_new(3, MESH_LB_ROUND_ROBIN);
    fail(c, 1, 2);
    c->live->ejected = 0;
    fail(c, 1, 2);
    cr_expect_eq(c->live->ejected, 1);
    cluster_free(c);
}

Test(outlier, consecutive_failures_eject_in_their_enforced_share) { /* half of 2,000, sd 22 */
    struct cluster *c = cluster_new(2, MESH_LB_ROUND_ROBIN);
    int out = 0;
    c->policy.consecutive = 1;
    c->policy.consecutive_enforcing = 50;
    for (int i = 0; i < 2000; i++) {
        uint64_t now = (uint64_t)(i + 1) * 10000 * MESH_SEC;
        mesh_lb_report(&c->view, 0, MESH_LB_REFUSED, now, 0);
        out += mesh_lb_ejected(&c->stats[0], now + 1);
    }
    cr_assert(out > 900 && out < 1100, "%d", out);
    cluster_free(c);
}
