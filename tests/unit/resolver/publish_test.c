/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/wait.h>
#include "lb/lb.h"
#include "resolver/publish.h"
#include "shim/base/clock.h"
#include "tests/unit/resolver/fixture.h"

static const char one[] =
    "services:\n  a.mesh: {endpoints: ['10.0.0.1:80']}\n  b.mesh: {endpoints: ['10.0.0.2:80']}\n";

static int put_weighted(struct mesh_pub *pub, const char *name, uint16_t port, uint32_t n, uint32_t weight) {
    struct mesh_endpoint e[64];
    struct view_config config = {.connect_timeout_ms = 1};
    struct mesh_cluster_in in = {
        .name = name, .config = &config, .config_len = sizeof config, .endpoints = e, .n = n};
    memset(e, 0, sizeof e);
    for (uint32_t i = 0; i < n; i++)
        e[i] = (struct mesh_endpoint){
            .addr = {10, 0, 1, (uint8_t)i}, .family = 4, .port = port, .weight = weight};
    mesh_lb_policy_defaults(&in.policy);
    return mesh_pub_cluster_put(pub, &in);
}

static int put(struct mesh_pub *pub, const char *name, uint16_t port, uint32_t n) {
    return put_weighted(pub, name, port, n, 1);
}

static uint32_t endpoints_of(const struct mesh_view *v, const char *name, struct mesh_cluster_view *cv) {
    struct mesh_route r;
    uint64_t seq;
    cr_assert_eq(mesh_view_route_name(v, name, 80, 0, &r), 0);
    cr_assert_eq(mesh_view_cluster(v, &r, cv, &seq), 0);
    return cv->n;
}

Test(publish, change_of_one_cluster_leaves_the_others) {
    struct fixture f;
    struct mesh_pub *pub;
    struct mesh_cluster_view cv;
    fixture_start(&f, one);
    uint64_t seen = atomic_load(&mesh_view_head(f.view)->root);
    cr_assert_eq(mesh_pub_open(f.view, mesh_now(), &pub), 0);
    cr_assert_eq(put(pub, "a.mesh", 99, 5), 0);
    cr_assert_eq(endpoints_of(f.view, "a.mesh", &cv), 1, "not before the commit");
    cr_assert_eq(mesh_pub_commit(pub, 1, 0), 0);
    cr_assert_neq(atomic_load(&mesh_view_head(f.view)->root), seen);
    cr_assert_eq(endpoints_of(f.view, "a.mesh", &cv), 5);
    cr_assert_eq(cv.endpoints[4].port, 99);
    cr_assert_eq(endpoints_of(f.view, "b.mesh", &cv), 1);
    mesh_pub_close(pub);
    fixture_done(&f);
}

Test(publish, what_is_not_committed_is_never_seen) {
    struct fixture f;
    struct mesh_pub *pub;
    struct mesh_cluster_view cv;
    fixture_start(&f, one);
    cr_assert_eq(mesh_pub_open(f.view, mesh_now(), &pub), 0);
    cr_assert_eq(mesh_pub_fresh(pub), 0);
    cr_assert_eq(put(pub, "a.mesh", 99, 5), 0);
    mesh_pub_close(pub);
    cr_assert_eq(endpoints_of(f.view, "a.mesh", &cv), 1);
    fixture_done(&f);
}

Test(publish, replaced_records_are_used_again) {
    struct fixture f;
    struct mesh_pub *pub;
    struct mesh_cluster_view cv;
    fixture_start(&f, one);
    cr_assert_eq(mesh_pub_open(f.view, mesh_now(), &pub), 0);
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(mesh_pub_begin(pub, mesh_now()), 0);
        cr_assert_eq(put_weighted(pub, "a.mesh", 7, 64, 1 + (uint32_t)i), 0);
        cr_assert_eq(mesh_pub_commit(pub, 1, 0), 0);
    }
    uint64_t size = atomic_load(&mesh_view_head(f.view)->size);
    for (int i = 0; i < 5000; i++) {
        cr_assert_eq(mesh_pub_begin(pub, mesh_now()), 0);
        cr_assert_eq(put_weighted(pub, "a.mesh", 7, 64, 1 + (uint32_t)i), 0);
        cr_assert_eq(mesh_pub_commit(pub, 1, 0), 0);
        cr_assert_eq(endpoints_of(f.view, "b.mesh", &cv), 1);
    }
    cr_assert_eq(endpoints_of(f.view, "a.mesh", &cv), 64);
    cr_assert_eq(cv.endpoints[63].weight, 5000);
    cr_assert(atomic_load(&mesh_view_head(f.view)->size) <= size, "the file grew to %lu",
              (unsigned long)atomic_load(&mesh_view_head(f.view)->size));
    mesh_pub_close(pub);
    fixture_done(&f);
}

Test(publish, counters_of_endpoints_that_left_are_used_again) {
    struct fixture f;
    struct mesh_pub *pub;
    fixture_start(&f, one);
    uint64_t now = mesh_now();
    cr_assert_eq(mesh_pub_open(f.view, now, &pub), 0);
    uint64_t size = 0;
    for (int i = 0; i < 4000; i++) { /* each a minute after the last, with endpoints that nobody had before */
        cr_assert_eq(mesh_pub_begin(pub, now += 61 * MESH_SEC), 0);
        cr_assert_eq(put(pub, "a.mesh", (uint16_t)(1 + i), 64), 0);
        cr_assert_eq(mesh_pub_commit(pub, 1, 0), 0);
        size = i == 1000 ? atomic_load(&mesh_view_head(f.view)->size) : size;
    }
    cr_assert(atomic_load(&mesh_view_head(f.view)->size) <= 2 * size);
    mesh_pub_close(pub);
    fixture_done(&f);
}

Test(publish, reader_notices_that_its_records_were_used_again) {
    struct fixture f;
    struct mesh_pub *pub;
    struct mesh_cluster_view cv;
    struct mesh_route r;
    uint64_t seq;
    fixture_start(&f, one);
    cr_assert_eq(mesh_view_route_name(f.view, "a.mesh", 80, 0, &r), 0);
    cr_assert_eq(mesh_view_cluster(f.view, &r, &cv, &seq), 0);
    cr_assert(mesh_view_still(f.view, seq));
    cr_assert_eq(mesh_pub_open(f.view, mesh_now(), &pub), 0);
    cr_assert_not(mesh_view_still(f.view, seq));
    mesh_pub_close(pub);
    fixture_done(&f);
}

Test(publish, second_publisher_waits_for_the_lease) {
    struct fixture f;
    struct mesh_pub *pub, *other;
    fixture_start(&f, one);
    uint64_t now = mesh_now();
    cr_assert_eq(mesh_pub_open(f.view, now, &pub), 0);
    cr_assert_eq(mesh_pub_open(f.view, now + MESH_SEC, &other), MESH_E_AGAIN);
    mesh_pub_close(pub);
    cr_assert_eq(mesh_pub_open(f.view, now + MESH_SEC, &other), 0);
    mesh_pub_close(other);
    fixture_done(&f);
}

Test(publish, publisher_that_was_given_up_changes_nothing) {
    struct fixture f;
    struct mesh_pub *old, *pub;
    struct mesh_cluster_view cv;
    fixture_start(&f, one);
    uint64_t now = mesh_now();
    cr_assert_eq(mesh_pub_open(f.view, now, &old), 0);
    cr_assert_eq(put(old, "a.mesh", 1, 3), 0);
    cr_assert_eq(mesh_pub_open(f.view, now + 11 * MESH_SEC, &pub), 0);
    cr_assert_eq(put(pub, "a.mesh", 2, 4), 0);
    cr_assert_eq(put(old, "b.mesh", 1, 50), 0); /* still writing, unaware */
    cr_assert_eq(mesh_pub_commit(pub, 1, 0), 0);
    cr_assert_eq(put(old, "a.mesh", 1, 60), 0);
    cr_assert_eq(mesh_pub_commit(old, 1, 0), MESH_E_AGAIN);
    cr_assert_eq(mesh_pub_begin(old, now + 12 * MESH_SEC), MESH_E_AGAIN);
    cr_assert_eq(endpoints_of(f.view, "a.mesh", &cv), 4);
    cr_assert_eq(cv.endpoints[3].port, 2);
    cr_assert_eq(endpoints_of(f.view, "b.mesh", &cv), 1);
    mesh_pub_close(old);
    mesh_pub_close(pub);
    fixture_done(&f);
}

Test(publish, lease_of_a_dead_publisher_is_free) {
    struct fixture f;
    struct mesh_pub *pub;
    fixture_start(&f, one);
    pid_t pid = fork();
    if (pid == 0)
        _exit(mesh_pub_open(f.view, mesh_now(), &pub) < 0); /* ends without giving the lease back */
    int status;
    waitpid(pid, &status, 0);
    cr_assert_eq(status, 0);
    cr_assert_eq(mesh_pub_open(f.view, mesh_now(), &pub), 0);
    mesh_pub_close(pub);
    fixture_done(&f);
}

Test(publish, removed_cluster_keeps_its_id_for_its_name) {
    struct fixture f;
    struct mesh_pub *pub;
    struct mesh_route r;
    uint32_t id, again;
    fixture_start(&f, one);
    cr_assert_eq(mesh_pub_open(f.view, mesh_now(), &pub), 0);
    cr_assert_eq(mesh_pub_cluster_id(pub, "a.mesh", &id), 0);
    cr_assert_eq(mesh_pub_cluster_remove(pub, "nobody"), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_pub_cluster_remove(pub, "a.mesh"), 0);
    cr_assert_eq(mesh_pub_commit(pub, 1, 0), 0);
    cr_assert_eq(mesh_view_route_name(f.view, "a.mesh", 80, 0, &r), MESH_E_NOENDPOINT);
    cr_assert_eq(mesh_pub_begin(pub, mesh_now()), 0);
    cr_assert_eq(put(pub, "a.mesh", 5, 2), 0);
    cr_assert_eq(mesh_pub_commit(pub, 1, 0), 0);
    cr_assert_eq(mesh_pub_cluster_id(pub, "a.mesh", &again), 0);
    cr_assert_eq(again, id);
    cr_assert_eq(mesh_view_route_name(f.view, "a.mesh", 80, 0, &r), 0);
    mesh_pub_close(pub);
    fixture_done(&f);
}
