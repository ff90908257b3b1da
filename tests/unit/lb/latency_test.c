/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

Test(latency, slower_sample_replaces_the_average) {
    cr_expect_eq(mesh_lb_latency_after(100, 900, 1), 900);
}

Test(latency,
     faster_sample_pulls_by_elapsed_time) { /* after 10 s: 1000/e + 100 (1 - 1/e) = 367.9 + 63.2 = 431.1 */
    cr_expect_eq(mesh_lb_latency_after(1000, 100, 10 * MESH_SEC), 431);
    cr_expect_eq(mesh_lb_latency_after(1000, 100, 0), 1000);
    cr_expect_eq(mesh_lb_latency_after(1000, 100, 1000 * MESH_SEC), 100);
}

Test(latency, first_report_is_taken_as_it_is) {
    struct cluster *c = cluster_new(1, MESH_LB_ROUND_ROBIN);
    mesh_lb_report(&c->view, 0, MESH_LB_CONNECTED, c->request.now, 1500 * 1000);
    cr_expect_eq(c->stats[0].latency_us, 1500);
    cr_expect_eq(c->stats[0].connects, 1);
    cluster_free(c);
}

Test(latency, failures_do_not_change_it) {
    struct cluster *c = cluster_new(1, MESH_LB_ROUND_ROBIN);
    mesh_lb_report(&c->view, 0, MESH_LB_CONNECTED, c->request.now, 1500 * 1000);
    mesh_lb_report(&c->view, 0, MESH_LB_TIMEOUT, c->request.now, 5 * MESH_SEC);
    cr_expect_eq(c->stats[0].latency_us, 1500);
    cluster_free(c);
}

Test(latency, reports_decay_by_the_time_between_them) { /* 10 s apart: as above, 431 */
    struct cluster *c = cluster_new(1, MESH_LB_ROUND_ROBIN);
    mesh_lb_report(&c->view, 0, MESH_LB_CONNECTED, c->request.now, 1000 * 1000);
    mesh_lb_report(&c->view, 0, MESH_LB_CONNECTED, c->request.now + 10 * MESH_SEC, 100 * 1000);
    cr_expect_eq(c->stats[0].latency_us, 431);
    cluster_free(c);
}
