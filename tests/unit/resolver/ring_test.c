/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/wait.h>
#include "tests/unit/resolver/fixture.h"

struct seen {
    int n;
    char first[64], last[64];
};

static void see(void *arg, const char *line) {
    struct seen *s = arg;
    if (!s->n++)
        snprintf(s->first, sizeof s->first, "%s", line);
    snprintf(s->last, sizeof s->last, "%s", line);
}

static void push(struct fixture *f, int from, int to) {
    char line[32];
    for (int i = from; i < to; i++)
        mesh_why_push(f->view, line, (size_t)snprintf(line, sizeof line, "line %d", i));
}

Test(ring, lines_come_in_order_and_once) {
    struct fixture f;
    struct seen s = {0};
    uint64_t seq = 0;
    fixture_start(&f, "services: {}\n");
    push(&f, 0, 3);
    cr_assert_eq(mesh_why_read(f.view, &seq, see, &s), 3);
    cr_assert_str_eq(s.first, "line 0");
    cr_assert_str_eq(s.last, "line 2");
    cr_assert_eq(mesh_why_read(f.view, &seq, see, &s), 0);
    push(&f, 3, 4);
    cr_assert_eq(mesh_why_read(f.view, &seq, see, &s), 1);
    fixture_done(&f);
}

Test(ring, the_last_256_are_kept) {
    struct fixture f;
    struct seen s = {0};
    uint64_t seq = 0;
    fixture_start(&f, "services: {}\n");
    push(&f, 0, 1000);
    cr_assert_eq(mesh_why_read(f.view, &seq, see, &s), 256);
    cr_assert_str_eq(s.first, "line 744");
    cr_assert_str_eq(s.last, "line 999");
    fixture_done(&f);
}

static void check(void *arg, const char *line) {
    size_t n = strlen(line);
    for (size_t i = 1; i < n; i++)
        cr_assert_eq(line[i], line[0], "torn: %s", line);
    ++*(int *)arg;
}

Test(ring, writers_in_many_processes_tear_no_line, .timeout = 60) {
    struct fixture f;
    uint64_t seq = 0;
    int n = 0;
    fixture_start(&f, "services: {}\n");
    for (int p = 0; p < 4; p++)
        if (fork() == 0) {
            char line[900];
            memset(line, 'a' + p, sizeof line);
            for (int i = 0; i < 20000; i++)
                mesh_why_push(f.view, line, 100 + (size_t)p * 200);
            _exit(0);
        }
    for (int i = 0; i < 200; i++) {
        seq = 0;
        mesh_why_read(f.view, &seq, check, &n);
    }
    while (wait(NULL) > 0)
        ;
    seq = 0;
    n = 0;
    cr_assert(mesh_why_read(f.view, &seq, check, &n) > 250);
    fixture_done(&f);
}

Test(ring, trace_is_taken_once_by_the_process_it_is_for) {
    struct fixture f;
    char spec[64] = "";
    fixture_start(&f, "services: {}\n");
    cr_assert_not(mesh_ledger_take_trace(f.view, 1, getpid(), spec, sizeof spec));
    cr_assert_eq(mesh_ledger_post_trace(f.view, getpid(), "debug:/tmp/x"), 0);
    cr_assert_not(mesh_ledger_take_trace(f.view, 1, getppid(), spec, sizeof spec));
    cr_assert(mesh_ledger_take_trace(f.view, 1, getpid(), spec, sizeof spec));
    cr_assert_str_eq(spec, "debug:/tmp/x");
    cr_assert_not(mesh_ledger_take_trace(f.view, 1, getpid(), spec, sizeof spec));
    cr_assert_eq(mesh_ledger_post_trace(f.view, 0x3fffff, "debug"), MESH_E_NOTFOUND);
    fixture_done(&f);
}
