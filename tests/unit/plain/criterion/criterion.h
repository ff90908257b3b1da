/* SPDX-License-Identifier: Apache-2.0
 *
 * Criterion's macros without Criterion, for the sanitizers: Criterion does not start under ThreadSanitizer
 * (its arena and TSan's shadow want the same addresses), and its workers end before LeakSanitizer has looked.
 * Here every test is a fork of one plain program and ends by exit, so that a sanitizer's report fails the
 * very test. In front of the include path in these builds, so that the same test files are compiled. Each
 * test is one file: this header holds main as well.
 */
#ifndef MESH_UNIT_PLAIN_H
#define MESH_UNIT_PLAIN_H

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLAIN_MOST = 512, PLAIN_TIMEOUT = 60, PLAIN_SLOW = 4, PLAIN_SKIPPED = 77 };

struct plain_test {
    const char *suite, *name;
    void (*run)(void), (*init)(void), (*fini)(void);
    unsigned timeout; /* seconds; 0: PLAIN_TIMEOUT */
};
static struct plain_test plain_tests[PLAIN_MOST], plain_suites[PLAIN_MOST];
static unsigned plain_ntests, plain_nsuites;
static int plain_failed;

static inline void plain_add(struct plain_test *list, unsigned *n, struct plain_test t) {
    if (*n == PLAIN_MOST)
        abort();
    list[(*n)++] = t;
}

#define PLAIN_REGISTER(list, n, id, ...)                                                                     \
    __attribute__((constructor)) static void plain_register_##id(void) {                                     \
        plain_add(list, &n, (struct plain_test){__VA_ARGS__});                                               \
    }
#define Test(s, n, ...)                                                                                      \
    static void plain_run_##s##_##n(void);                                                                   \
    PLAIN_REGISTER(plain_tests, plain_ntests, s##_##n, .suite = #s, .name = #n, .run = plain_run_##s##_##n,  \
                   ##__VA_ARGS__)                                                                            \
    static void plain_run_##s##_##n(void)
#define TestSuite(s, ...) PLAIN_REGISTER(plain_suites, plain_nsuites, s, .suite = #s, ##__VA_ARGS__)

/* ---- assertions: one that fails ends the test, or the process that the test made ---- */
static inline void plain_check(bool good, bool fatal, const char *file, int line, const char *text) {
    if (good)
        return;
    fprintf(stderr, "%s:%d: %s\n", file, line, text);
    __atomic_store_n(&plain_failed, 1, __ATOMIC_RELAXED);
    if (fatal)
        _exit(1);
}
static inline void plain_skip(const char *why) {
    printf("skipped: %s\n", why);
    fflush(stdout);
    _exit(PLAIN_SKIPPED);
}

#define PLAIN_FIRST(a, ...) (a)
#define PLAIN_CHECK(fatal, good, text) plain_check((good), fatal, __FILE__, __LINE__, text)
#define PLAIN_2(fatal, a, op, b) PLAIN_CHECK(fatal, (a)op(b), #a " " #op " " #b)
#define PLAIN_STR(fatal, a, b, same) PLAIN_CHECK(fatal, (strcmp(a, b) == 0) == same, #a " against " #b)

#define cr_assert(...) PLAIN_CHECK(true, PLAIN_FIRST(__VA_ARGS__, 0), #__VA_ARGS__)
#define cr_expect(...) PLAIN_CHECK(false, PLAIN_FIRST(__VA_ARGS__, 0), #__VA_ARGS__)
#define cr_assert_fail(...) PLAIN_CHECK(true, false, #__VA_ARGS__)
#define cr_assert_not(...) PLAIN_CHECK(true, !PLAIN_FIRST(__VA_ARGS__, 0), "not " #__VA_ARGS__)
#define cr_expect_not(...) PLAIN_CHECK(false, !PLAIN_FIRST(__VA_ARGS__, 0), "not " #__VA_ARGS__)
#define cr_assert_null(a, ...) PLAIN_2(true, a, ==, NULL)
#define cr_expect_null(a, ...) PLAIN_2(false, a, ==, NULL)
#define cr_assert_not_null(a, ...) PLAIN_2(true, a, !=, NULL)
#define cr_expect_not_null(a, ...) PLAIN_2(false, a, !=, NULL)
#define cr_assert_eq(a, b, ...) PLAIN_2(true, a, ==, b)
#define cr_expect_eq(a, b, ...) PLAIN_2(false, a, ==, b)
#define cr_assert_neq(a, b, ...) PLAIN_2(true, a, !=, b)
#define cr_expect_neq(a, b, ...) PLAIN_2(false, a, !=, b)
#define cr_assert_lt(a, b, ...) PLAIN_2(true, a, <, b)
#define cr_expect_lt(a, b, ...) PLAIN_2(false, a, <, b)
#define cr_assert_leq(a, b, ...) PLAIN_2(true, a, <=, b)
#define cr_expect_leq(a, b, ...) PLAIN_2(false, a, <=, b)
#define cr_assert_gt(a, b, ...) PLAIN_2(true, a, >, b)
#define cr_expect_gt(a, b, ...) PLAIN_2(false, a, >, b)
#define cr_assert_geq(a, b, ...) PLAIN_2(true, a, >=, b)
#define cr_expect_geq(a, b, ...) PLAIN_2(false, a, >=, b)
#define cr_assert_str_eq(a, b, ...) PLAIN_STR(true, a, b, true)
#define cr_expect_str_eq(a, b, ...) PLAIN_STR(false, a, b, true)
#define cr_assert_str_neq(a, b, ...) PLAIN_STR(true, a, b, false)
#define cr_expect_float_eq(a, b, epsilon, ...)                                                               \
    PLAIN_CHECK(false, fabs((a) - (b)) <= (epsilon), #a " about " #b)
#define cr_assert_arr_eq(a, b, n, ...) PLAIN_CHECK(true, memcmp(a, b, n) == 0, #a " as bytes " #b)
#define cr_skip(...) plain_skip(PLAIN_FIRST(__VA_ARGS__, 0))
#define cr_skip_test(...) plain_skip(PLAIN_FIRST(__VA_ARGS__, 0))

/* ---- the runner ---- */
static inline void plain_body(const struct plain_test *t) {
    struct plain_test suite = {0};
    for (unsigned i = 0; i < plain_nsuites; i++)
        if (strcmp(plain_suites[i].suite, t->suite) == 0)
            suite = plain_suites[i];
    alarm((t->timeout ? t->timeout : PLAIN_TIMEOUT) * PLAIN_SLOW);
    if (suite.init)
        suite.init();
    if (t->init)
        t->init();
    t->run();
    if (t->fini)
        t->fini();
    if (suite.fini)
        suite.fini();
}

/* The exit status of a test in a process of its own, in which a sanitizer's report is one as well. */
static inline int plain_one(const struct plain_test *t) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        plain_body(t);
        exit(__atomic_load_n(&plain_failed, __ATOMIC_RELAXED));
    }
    int status = 1;
    while (waitpid(pid, &status, 0) < 0)
        ;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    const char *only = getenv("ONLY_CASE");
    unsigned failed = 0, skipped = 0, tested = 0;
    for (unsigned i = 0; i < plain_ntests; i++) {
        if (only && !strstr(plain_tests[i].name, only))
            continue;
        int status = plain_one(&plain_tests[i]);
        tested++;
        skipped += status == PLAIN_SKIPPED;
        if (status == 0 || status == PLAIN_SKIPPED)
            continue;
        failed++;
        printf("FAILED %s/%s: status %d\n", plain_tests[i].suite, plain_tests[i].name, status);
    }
    printf("Tested: %u | Failing: %u | Skipped: %u\n", tested, failed, skipped);
    fflush(NULL);
    _exit(failed != 0); /* what is held at the end was held by no test */
}

#endif
