/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include "shim/base/clock.h"
#include "tests/unit/resolver/fixture.h"

enum { CLUSTERS = 40, EACH = 12, RELOADS = 60 };

Test(source, bad_first_file_attaches_an_empty_view) {
    struct fixture f;
    struct mesh_answer a;
    struct mesh_view_info info;
    fixture_init(&f, "services:\n  a.mesh: {endpoints: [oops\n");
    f.cfg.domains = "mesh";
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert(strstr(f.why.text, "view.yaml:"), "%s", f.why.text);
    cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), MESH_E_AGAIN);
    cr_assert_eq(mesh_view_name(f.view, "example.com", &a), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_view_describe(f.view, &info), 0);
    cr_assert(strstr(info.error, "view.yaml:"));
    fixture_done(&f);
}

Test(source, missing_file_attaches_an_empty_view) {
    struct fixture f;
    struct mesh_answer a;
    fixture_init(&f, NULL);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert(strstr(f.why.text, f.file));
    fixture_write(&f, "services:\n  a.mesh: {endpoints: ['10.0.0.1:80']}\n");
    cr_assert_eq(mesh_view_refresh(f.view, mesh_now() + 2 * MESH_SEC, &f.why), 1);
    cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), 0);
    fixture_done(&f);
}

Test(source, bad_file_keeps_the_old_view_and_is_said_once) {
    struct fixture f;
    struct mesh_answer a;
    struct mesh_view_info info;
    uint64_t now = mesh_now();
    fixture_start(&f, "services:\n  a.mesh: {endpoints: ['10.0.0.1:80']}\n");
    fixture_write(&f, "services: [\n");
    cr_assert(mesh_view_refresh(f.view, now += 2 * MESH_SEC, &f.why) < 0);
    cr_assert(strstr(f.why.text, "view.yaml:"), "%s", f.why.text);
    cr_assert_eq(mesh_view_refresh(f.view, now += 2 * MESH_SEC, &f.why), 0);
    cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), 0);
    mesh_view_close(f.view);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), 0);
    fixture_write(&f, "services:\n  b.mesh: {endpoints: ['10.0.0.1:80']}\n");
    cr_assert_eq(mesh_view_refresh(f.view, now += 2 * MESH_SEC, &f.why), 1);
    cr_assert_eq(mesh_view_name(f.view, "b.mesh", &a), 0);
    cr_assert_eq(mesh_view_describe(f.view, &info), 0);
    cr_assert_str_eq(info.error, "");
    fixture_done(&f);
}

Test(source, looks_at_the_file_once_a_second) {
    struct fixture f;
    struct mesh_answer a;
    uint64_t now = mesh_now() + 10 * MESH_SEC;
    fixture_start(&f, "services:\n  a.mesh: {endpoints: ['10.0.0.1:80']}\n");
    cr_assert_eq(mesh_view_refresh(f.view, now, &f.why), 0);
    fixture_write(&f, "services:\n  b.mesh: {endpoints: ['10.0.0.1:80']}\n");
    cr_assert_eq(mesh_view_refresh(f.view, now + MESH_SEC / 2, &f.why), 0);
    cr_assert_eq(mesh_view_name(f.view, "b.mesh", &a), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_view_refresh(f.view, now + MESH_SEC, &f.why), 1);
    cr_assert_eq(mesh_view_name(f.view, "b.mesh", &a), 0);
    fixture_done(&f);
}

Test(source, one_bad_resource_leaves_the_others_alone) {
    struct fixture f;
    struct mesh_route r;
    fixture_start(&f, "resources:\n"
                      "- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: bad.mesh\n  "
                      "upstream_config: {name: x}\n"
                      "- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: good.mesh\n");
    cr_assert_eq(fixture_connect(f.view, "bad.mesh", 80, 0, &r), MESH_E_UNSUPPORTED);
    cr_assert_eq(fixture_connect(f.view, "good.mesh", 80, 0, &r), 0);
    fixture_done(&f);
}

/* ---- reloads under readers: each version writes its number into every endpoint's port
 * --------------------------- */
static void write_version(const struct fixture *f, int version) {
    static char text[256 << 10];
    int n = snprintf(text, sizeof text, "services:\n");
    for (int c = 0; c < CLUSTERS; c++) {
        n += snprintf(text + n, sizeof text - (size_t)n, "  s%d.mesh: {endpoints: [", c);
        for (int e = 0; e < EACH + version % 5; e++)
            n += snprintf(text + n, sizeof text - (size_t)n, "%s'10.%d.%d.1:%d'", e ? "," : "", c, e,
                          1000 + version);
        n += snprintf(text + n, sizeof text - (size_t)n, "]}\n");
    }
    fixture_write(f, text);
}

/* Reads one cluster; -1: it was torn while its sequence said that it was not. */
static int read_version(const struct mesh_view *v, int c) {
    char name[32];
    struct mesh_route r;
    struct mesh_cluster_view cv;
    uint64_t seq;
    snprintf(name, sizeof name, "s%d.mesh", c);
    for (;;) {
        if (mesh_view_route_name(v, name, 80, 0, &r) != 0)
            return -2;
        int rc = mesh_view_cluster(v, &r, &cv, &seq);
        if (rc < 0)
            return -3;
        uint16_t port = cv.n ? cv.endpoints[0].port : 0;
        bool same = cv.n == (uint32_t)(EACH + (port - 1000) % 5);
        for (uint32_t i = 0; i < cv.n; i++)
            same &=
                cv.endpoints[i].port == port && cv.endpoints[i].addr[1] == c && cv.endpoints[i].addr[2] == i;
        if (mesh_view_still(v, seq))
            return same ? port : -1;
    }
}

struct reader {
    struct mesh_view *v;
    _Atomic int *stop;
    int result;
};

static int read_until(const struct mesh_view *v, _Atomic int *stop) {
    int last[CLUSTERS] = {0};
    for (unsigned i = 0; !atomic_load(stop); i++) {
        int c = (int)(i % CLUSTERS), version = read_version(v, c);
        if (version < last[c])
            return version < 0 ? version : -4;
        last[c] = version;
    }
    return 0;
}

static void *read_thread(void *arg) {
    struct reader *r = arg;
    r->result = read_until(r->v, r->stop);
    return NULL;
}

Test(source, readers_see_whole_versions_while_files_change, .timeout = 120) {
    struct fixture f;
    pthread_t threads[2];
    struct reader readers[2];
    pid_t children[2];
    int status;
    fixture_init(&f, NULL);
    write_version(&f, 0);
    cr_assert_eq(fixture_open(&f), 0);
    _Atomic int stop = 0;
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct fixture g = f;
            if (i && fixture_open(&g) < 0) /* one inherits the mapping, one has its own */
                _exit(9);
            alarm(100);
            _exit(-read_until(g.view, &stop));
        }
    }
    for (int i = 0; i < 2; i++) {
        readers[i] = (struct reader){f.view, &stop, 0};
        pthread_create(&threads[i], NULL, read_thread, &readers[i]);
    }
    uint64_t now = mesh_now();
    for (int version = 1; version <= RELOADS; version++) {
        write_version(&f, version);
        cr_assert(mesh_view_refresh(f.view, now += 2 * MESH_SEC, &f.why) >= 0, "%s", f.why.text);
    }
    cr_assert(mesh_view_refresh(f.view, now += 2 * MESH_SEC, &f.why) >=
              0); /* the second process may have had the lease */
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(readers[i].result, 0, "thread: %d", readers[i].result);
        cr_assert_eq(waitpid(children[i], &status, WNOHANG), 0, "reader process ended: %d", status);
        kill(children[i], SIGKILL);
        waitpid(children[i], &status, 0);
    }
    cr_assert_eq(read_version(f.view, 3), 1000 + RELOADS);
    fixture_done(&f);
}

Test(source, publisher_killed_at_any_moment_leaves_a_readable_view, .timeout = 120) {
    struct fixture f;
    uint64_t now = mesh_now();
    fixture_init(&f, NULL);
    write_version(&f, 0);
    cr_assert_eq(fixture_open(&f), 0);
    for (int i = 1; i <= 60; i++) {
        write_version(&f, i);
        pid_t pid = fork();
        now += 2 * MESH_SEC;
        if (pid == 0) {
            int rc = mesh_view_refresh(f.view, now, &f.why);
            _exit(rc < 0);
        }
        usleep((useconds_t)(i * 83));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        for (int c = 0; c < CLUSTERS; c++)
            cr_assert(read_version(f.view, c) >= 1000, "round %d: %d", i, read_version(f.view, c));
    }
    write_version(&f, 77);
    cr_assert(mesh_view_refresh(f.view, now += 2 * MESH_SEC, &f.why) >= 0);
    cr_assert_eq(read_version(f.view, 0), 1077);
    fixture_done(&f);
}

Test(source, many_processes_starting_at_once_build_once, .timeout = 60) {
    struct fixture f;
    struct mesh_view_info info;
    int status;
    fixture_init(&f, NULL);
    write_version(&f, 0);
    for (int i = 0; i < 20; i++)
        if (fork() == 0) {
            int rc = fixture_open(&f);
            _exit(rc < 0 ? 1 : f.is_private ? 2 : read_version(f.view, i) != 1000 ? 3 : 0);
        }
    while (wait(&status) > 0)
        cr_assert_eq(status, 0);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(mesh_view_describe(f.view, &info), 0);
    cr_assert_eq(info.version, 1);
    fixture_done(&f);
}
