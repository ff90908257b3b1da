/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include "resolver/view.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "tests/unit/resolver/fixture.h"

static const char two[] = "services:\n  a.mesh: {endpoints: ['10.0.0.1:80'], addresses: [10.96.0.1]}\n  "
                          "b.mesh: {endpoints: ['10.0.0.2:80'], policy: maglev}\n";

static void refused(struct fixture *f) {
    cr_assert_eq(fixture_open(f), MESH_E_INVALID);
    cr_assert(strstr(f->why.text, "MESH_RUN_DIR"), "%s", f->why.text);
    cr_assert_null(f->view);
}

Test(file, directory_is_made_private) {
    struct fixture f;
    struct stat st;
    fixture_start(&f, two);
    cr_assert_eq(stat(f.run, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0700);
    cr_assert_eq(stat(f.view->path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    cr_assert_not(f.is_private);
    fixture_done(&f);
}

Test(file, directory_that_others_may_enter_is_refused) {
    struct fixture f;
    fixture_init(&f, two);
    mkdir(f.run, 0700);
    chmod(f.run, 0755);
    refused(&f);
    fixture_done(&f);
}

Test(file, directory_behind_a_symbolic_link_is_refused) {
    struct fixture f;
    fixture_init(&f, two);
    cr_assert_eq(symlink(f.dir, f.run), 0);
    refused(&f);
    unlink(f.run);
    fixture_done(&f);
}

Test(file, directory_of_somebody_else_is_refused) {
    struct fixture f;
    if (geteuid() != 0)
        cr_skip("needs root");
    fixture_init(&f, two);
    mkdir(f.run, 0700);
    cr_assert_eq(chown(f.run, 12345, 0), 0);
    refused(&f);
    fixture_done(&f);
}

Test(file, no_directory_gives_a_private_view_that_children_share) {
    struct fixture f;
    struct mesh_answer a;
    int status;
    fixture_init(&f, two);
    f.cfg.run_dir = "/proc/nowhere/run";
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert(f.is_private);
    cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), 0);
    fixture_write(&f, "services:\n  c.mesh: {endpoints: ['10.0.0.3:80']}\n");
    if (fork() == 0)
        _exit(mesh_view_refresh(f.view, mesh_now() + 2 * MESH_SEC, &f.why) != 1);
    wait(&status);
    cr_assert_eq(status, 0);
    cr_assert_eq(mesh_view_name(f.view, "c.mesh", &a), 0);
    fixture_done(&f);
}

Test(file, full_disk_is_an_error_and_no_signal) {
    struct fixture f;
    struct mesh_answer a;
    char path[160];
    fixture_init(&f, two);
    mkdir(f.run, 0700);
    if (mount("none", f.run, "tmpfs", 0, "size=3m,mode=0700") < 0) {
        fixture_done(&f);
        cr_skip("needs the right to mount");
    }
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_not(f.is_private);
    snprintf(path, sizeof path, "%s/filler", f.run);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    char block[4096] = {1};
    while (write(fd, block, sizeof block) == (ssize_t)sizeof block)
        ;
    close(fd);
    static char text[2 << 20];
    int n = snprintf(text, sizeof text, "services:\n");
    for (int i = 0; i < 8000; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "  n%d.mesh: {endpoints: ['10.0.0.3:80']}\n", i);
    fixture_write(&f, text);
    cr_assert(mesh_view_refresh(f.view, mesh_now() + 2 * MESH_SEC, &f.why) < 0);
    cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), 0);
    unlink(path);
    umount2(f.run, MNT_DETACH);
    fixture_done(&f);
}

Test(file, damaged_head_is_replaced) {
    struct fixture f;
    struct mesh_answer a;
    char path[160];
    for (int what = 0; what < 3; what++) {
        fixture_start(&f, two);
        snprintf(path, sizeof path, "%s", f.view->path);
        mesh_view_close(f.view);
        int fd = open(path, O_RDWR);
        if (what == 0)
            cr_assert_eq(pwrite(fd, "garbage!", 8, 0), 8);
        else if (what == 1)
            cr_assert_eq(ftruncate(fd, 5000), 0);
        else
            cr_assert_eq(fchmod(fd, 0644), 0);
        close(fd);
        cr_assert_eq(fixture_open(&f), 0);
        cr_assert_not(f.is_private);
        cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), 0);
        fixture_done(&f);
    }
}

Test(file, view_file_that_is_a_symbolic_link_is_not_followed) {
    struct fixture f;
    struct mesh_answer a;
    char path[160], target[160];
    fixture_start(&f, two);
    snprintf(path, sizeof path, "%s", f.view->path);
    snprintf(target, sizeof target, "%s/target", f.dir);
    mesh_view_close(f.view);
    cr_assert_eq(rename(path, target), 0);
    cr_assert_eq(symlink(target, path), 0);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_not(f.is_private);
    cr_assert_eq(mesh_view_name(f.view, "a.mesh", &a), 0);
    struct stat st;
    cr_assert_eq(lstat(path, &st), 0);
    cr_assert(S_ISREG(st.st_mode));
    unlink(target);
    fixture_done(&f);
}

Test(file, other_configuration_is_another_view) {
    struct fixture f, g;
    fixture_start(&f, two);
    g = f;
    g.cfg.tls = MESH_TLS_VIEW;
    cr_assert_eq(fixture_open(&g), 0);
    cr_assert_str_neq(f.view->path, g.view->path);
    mesh_view_close(g.view);
    fixture_done(&f);
}

/* ---- hostile bytes
 * ---------------------------------------------------------------------------------------------- */
static void ignore_name(void *arg, const char *name) {
}
static void ignore_info(void *arg, const struct mesh_conn_info *info) {
}
static void ignore_cluster(void *arg, const struct mesh_route *r) {
}
static void ignore_process(void *arg, int pid, uint64_t tree, uint64_t since, const char *identity) {
}

static void walk(struct mesh_view *v) {
    struct mesh_answer a;
    struct mesh_route r;
    struct mesh_cluster_view cv;
    struct mesh_target *t;
    struct mesh_inbound *in;
    struct mesh_view_info info;
    uint64_t seq, zero = 0;
    uint32_t slot;
    char name[256], *text;
    static const char *const names[] = {"a.mesh", "b.mesh", "c.mesh"};
    for (int i = 0; i < 3; i++) {
        if (mesh_view_name(v, names[i], &a) == 0 && a.has4)
            (void)!mesh_view_name_of(v, 4, a.v4, name, sizeof name);
        if (mesh_view_route_name(v, names[i], 80, 1, &r) != 0)
            continue;
        if (mesh_view_target(v, &r, 0, &t) == 0)
            free(t);
        if (mesh_view_cluster(v, &r, &cv, &seq) != 0)
            continue;
        for (uint32_t k = 0; k < cv.n; k++) {
            size_t n;
            cr_assert(cv.endpoints[k].port <= 65535);
            if (cv.hash_key(cv.view, cv.endpoints[k].hash_key, &n))
                name[0] = 0;
            if (mesh_ledger_take(v, 7, cv.endpoints[k].stat, MESH_LEDGER_SETTLED, &slot) == 0)
                mesh_ledger_release(v, 7, slot);
        }
    }
    struct sockaddr_in sa = fixture_addr("10.96.0.1", 80);
    (void)!mesh_view_route(v, (struct sockaddr *)&sa, sizeof sa, 0, &r);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(4000)};
    struct mesh_facts facts = {
        .kind = MESH_FACTS_TLS, .has_cert = 1, .sni = "a.mesh", .peer = "spiffe://shop/ns/prod/sa/web"};
    struct mesh_caller who = {.local = (struct sockaddr *)&sa,
                              .peer = (struct sockaddr *)&from,
                              .local_len = sizeof sa,
                              .peer_len = sizeof from,
                              .facts = &facts};
    struct mesh_verdict verdict;
    if (mesh_view_inbound(v, &who, &in, NULL) == 0)
        free(in);
    (void)!mesh_view_authorize(v, &who, &verdict, NULL);
    mesh_view_each_name(v, ignore_name, NULL);
    mesh_view_each_cluster(v, ignore_cluster, NULL);
    mesh_ledger_each(v, ignore_info, NULL);
    mesh_ledger_each_process(v, ignore_process, NULL);
    mesh_why_read(v, &zero, ignore_name, NULL);
    (void)!mesh_view_describe(v, &info);
    if (mesh_view_print(v, NULL, false, &text) == 0)
        free(text);
    mesh_ledger_join(v, 7, getpid(), 1);
    mesh_ledger_settle(v, mesh_now());
}

Test(file, flipped_bytes_are_survived_everywhere, .timeout = 300) {
    struct fixture f;
    fixture_start(&f, two);
    size_t used = mesh_view_limit(f.view), head = mesh_view_head(f.view)->head_size;
    for (int round = 0; round < 1500; round++) {
        uint8_t old[4];
        size_t at[4];
        for (int i = 0; i < 4; i++) {
            /* mostly where the records are, which is the first part of the arena */
            size_t span = round % 4 ? 64 << 10 : used - head - 8;
            at[i] = (round % 16 == 0 ? 64 + mesh_random() % (head - 64) : head + mesh_random() % span);
            old[i] = f.view->base[at[i]];
            f.view->base[at[i]] =
                round & 1 ? (uint8_t)mesh_random() : (uint8_t)(old[i] ^ 1u << (mesh_random() % 8));
        }
        walk(f.view);
        for (int i = 3; i >= 0; i--)
            f.view->base[at[i]] = old[i];
    }
    fixture_done(&f);
}

Test(file, publishing_over_flipped_bytes_is_survived, .timeout = 300) {
    struct fixture f;
    uint64_t now = mesh_now();
    char text[128];
    fixture_start(&f, two);
    for (int round = 0; round < 200; round++) {
        size_t head = mesh_view_head(f.view)->head_size;
        for (int i = 0; i < 8; i++)
            f.view->base[head + mesh_random() % (96 << 10)] = (uint8_t)mesh_random();
        snprintf(text, sizeof text, "services:\n  a.mesh: {endpoints: ['10.0.0.1:%d']}\n", 1 + round);
        fixture_write(&f, text);
        (void)!mesh_view_refresh(f.view, now += 2 * MESH_SEC, &f.why);
        walk(f.view);
    }
    fixture_done(&f);
}
