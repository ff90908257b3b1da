/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shim/base/trace.h"

static char dir[] = "/tmp/trace_test.XXXXXX", file[64], head[32];
static char sunk[8][1100];
static int nsunk;

static void sink(const char *line, size_t len) {
    if (nsunk < 8)
        snprintf(sunk[nsunk], sizeof sunk[0], "%.*s", (int)len, line);
    nsunk++;
}

static void setup(void) {
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/t", dir);
    snprintf(head, sizeof head, "meshshim[%d] ", getpid());
    mesh_trace_sink = sink;
    nsunk = 0;
}

static void teardown(void) {
    unlink(file);
    rmdir(dir);
}

TestSuite(trace, .init = setup, .fini = teardown);

static void to_file(const char *level) {
    char spec[100];
    snprintf(spec, sizeof spec, "%s:%s", level, file);
    cr_assert_eq(mesh_trace_set(spec), 0);
}

static const char *written(void) {
    static char text[4096];
    FILE *f = fopen(file, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    return text;
}

static void expect_line(const char *want) {
    char line[2048];
    snprintf(line, sizeof line, "%s%s\n", head, want);
    cr_assert_str_eq(written(), line);
}

Test(trace, line_is_logfmt_in_one_piece) {
    struct mesh_line l;
    to_file("info");
    mesh_line_begin(&l, MESH_TRACE_INFO, "connected");
    mesh_line_int(&l, "fd", 7);
    mesh_line_int(&l, "least", INT64_MIN);
    mesh_line_str(&l, "name", "reviews.shop.mesh:9080");
    mesh_line_str(&l, "absent", NULL);
    mesh_line_str(&l, "empty", "");
    mesh_line_str(&l, "text", "two \"words\" \\ \x1b[31m\n\xc3\xa9");
    mesh_line_ms(&l, "ms", 1449999);
    mesh_line_ms(&l, "up", 1450000);
    mesh_line_end(&l);
    expect_line("info connected fd=7 least=-9223372036854775808 name=reviews.shop.mesh:9080 empty=\"\" "
                "text=\"two \\\"words\\\" \\\\ \\x1b[31m\\n\\xc3\\xa9\" ms=1.4 up=1.5");
}

Test(trace, addresses_are_as_people_write_them) {
    struct mesh_line l;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(8080)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)}, mapped = in6;
    inet_pton(AF_INET, "10.0.0.8", &in.sin_addr);
    inet_pton(AF_INET6, "2001:db8::7", &in6.sin6_addr);
    inet_pton(AF_INET6, "::ffff:1.2.3.4", &mapped.sin6_addr);
    to_file("info");
    mesh_line_begin(&l, MESH_TRACE_INFO, "dial");
    mesh_line_addr(&l, "a", (struct sockaddr *)&in, sizeof in);
    mesh_line_addr(&l, "b", (struct sockaddr *)&in6, sizeof in6);
    mesh_line_addr(&l, "c", (struct sockaddr *)&mapped, sizeof mapped);
    mesh_line_addr(&l, "short", (struct sockaddr *)&in, 4);
    mesh_line_addr(&l, "none", NULL, 0);
    mesh_line_end(&l);
    expect_line("info dial a=10.0.0.8:8080 b=[2001:db8::7]:443 c=1.2.3.4:443");
}

Test(trace, overlong_value_is_cut_and_closed) {
    struct mesh_line l;
    char text[3000];
    memset(text, ' ', sizeof text - 1);
    text[sizeof text - 1] = 0;
    to_file("info");
    mesh_line_begin(&l, MESH_TRACE_INFO, "x");
    mesh_line_str(&l, "long", text);
    mesh_line_str(&l, "late", "y");
    mesh_line_int(&l, "fd", 12345);
    mesh_line_end(&l);
    const char *got = written();
    size_t n = strlen(got);
    cr_assert(n > 900 && n <= sizeof l.text, "%zu", n);
    cr_assert_str_eq(got + n - 3, " \"\n");
    cr_assert_null(strstr(got, "late"));
}

Test(trace, many_fields_never_overrun_the_line) {
    struct mesh_line l;
    to_file("info");
    for (size_t width = 1; width < 40; width++) {
        mesh_line_begin(&l, MESH_TRACE_INFO, "refused");
        for (int i = 0; i < 200; i++) {
            mesh_line_strn(&l, "key", "abc\x01 def0123456789012345678901234567890", width);
            mesh_line_int(&l, "n", i * 1000003L);
        }
        cr_assert_leq(l.len, sizeof l.text - 19);
        mesh_line_end(&l);
        cr_assert_leq(l.len, sizeof l.text - 1);
    }
}

Test(trace, level_off_and_lower_levels_write_nothing) {
    struct mesh_line l;
    to_file("error");
    cr_assert(mesh_trace_on(MESH_TRACE_ERROR));
    cr_assert_not(mesh_trace_on(MESH_TRACE_INFO));
    mesh_line_begin(&l, MESH_TRACE_INFO, "dial");
    mesh_line_end(&l);
    cr_assert_str_eq(written(), "");
    cr_assert_eq(mesh_trace_set(NULL), 0);
    cr_assert_not(mesh_trace_on(MESH_TRACE_ERROR));
    to_file("trace");
    cr_assert_eq(mesh_trace_set("off"), 0);
    cr_assert_not(mesh_trace_on(MESH_TRACE_ERROR));
}

Test(trace, wrong_specs_leave_everything_as_it_was) {
    const char *const wrong[] = {"loud", "off:/tmp/a",   "info:",      "infox:/tmp/a",
                                 "Info", "info:/tmp/%d", "info:/tmp/%"};
    char longest[MESH_TRACE_PATH_MAX + 20];
    memset(longest, 'a', sizeof longest - 1);
    memcpy(longest, "info:/", 6);
    longest[sizeof longest - 1] = 0;
    to_file("info");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_assert_eq(mesh_trace_set(wrong[i]), MESH_E_INVALID, "%s", wrong[i]);
        cr_assert_eq(mesh_trace_check(wrong[i]), MESH_E_INVALID, "%s", wrong[i]);
    }
    cr_assert_eq(mesh_trace_set(longest), MESH_E_INVALID);
    mesh_trace_refused("peer", "name", "a");
    expect_line("error refused why=peer name=a");
}

Test(trace, percent_p_is_the_process) {
    char spec[100];
    snprintf(spec, sizeof spec, "info:%s/%%p.%%%%", dir);
    snprintf(file, sizeof file, "%s/%d.%%", dir, getpid());
    cr_assert_eq(mesh_trace_set(spec), 0);
    mesh_trace_refused("peer", "name", "a");
    expect_line("error refused why=peer name=a");
    struct stat st;
    cr_assert_eq(stat(file, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
}

Test(trace, relative_file_stays_where_it_was_named) {
    cr_assert_eq(chdir(dir), 0);
    cr_assert_eq(mesh_trace_set("info:t"), 0);
    cr_assert_eq(chdir("/"), 0);
    mesh_trace_refused("peer", "name", "a");
    expect_line("error refused why=peer name=a");
}

Test(trace, same_refusal_is_said_once_a_second_with_its_count) {
    to_file("error");
    for (int i = 0; i < 5; i++)
        mesh_trace_refused("peer", "name", "a");
    mesh_trace_refused("peer", "name", "b");
    mesh_trace_refused("family", "name", "a");
    cr_assert_eq(nsunk, 3);
    usleep(1100000);
    mesh_trace_refused("peer", "name", "a");
    cr_assert_eq(nsunk, 4);
    cr_assert(strstr(sunk[3], "refused why=peer name=a repeat=4"), "%s", sunk[3]);
    cr_assert(strstr(written(), "name=a repeat=4\n"));
    cr_assert_eq(mesh_trace_refusals(), 8);
}

Test(trace, fields_that_vary_do_not_make_another_refusal) {
    for (int i = 0; i < 3; i++) {
        struct mesh_line l;
        mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
        mesh_line_int(&l, "fd", i);
        mesh_line_str(&l, "name", "a");
        mesh_line_str(&l, "why", "timeout");
        mesh_line_ms(&l, "ms", (uint64_t)i * 1000000);
        mesh_line_str(&l, "endpoint", i ? "10.0.0.1:1" : "10.0.0.2:1");
        mesh_line_end(&l);
    }
    cr_assert_eq(nsunk, 1);
}

Test(trace, refusals_reach_the_sink_while_off) {
    cr_assert_eq(mesh_trace_set(""), 0);
    mesh_trace_refused("no identity", "name", "a b");
    cr_assert_eq(nsunk, 1);
    cr_assert(strstr(sunk[0], "error refused why=\"no identity\" name=\"a b\""), "%s", sunk[0]);
}

Test(trace, confined_process_prints_nothing_and_still_counts) {
    to_file("error");
    mesh_trace_confine();
    mesh_trace_refused("peer", "name", "a");
    cr_assert_str_eq(written(), "");
    cr_assert_eq(nsunk, 1);
}

/* Descriptor 2 becomes a pipe's end, which is remembered; returns the other end. */
static int pipe_as_stderr(void) {
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    cr_assert_eq(dup2(fds[1], 2), 2);
    close(fds[1]);
    mesh_trace_remember_stderr();
    cr_assert_eq(mesh_trace_set("error"), 0);
    return fds[0];
}

Test(trace, stderr_of_load_time_gets_the_lines) {
    char text[200] = "";
    int in = pipe_as_stderr();
    mesh_trace_refused("peer", "name", "a");
    cr_assert_gt(read(in, text, sizeof text - 1), 0);
    cr_assert(strstr(text, "error refused why=peer name=a\n"));
}

Test(trace, another_file_on_descriptor_2_gets_nothing) {
    pipe_as_stderr();
    int fd = open(file, O_CREAT | O_RDWR, 0600);
    cr_assert_eq(dup2(fd, 2), 2);
    mesh_trace_refused("peer", "name", "a");
    cr_assert_str_eq(written(), "");
}

Test(trace, reader_gone_kills_nobody) {
    close(pipe_as_stderr());
    mesh_trace_refused("peer", "name", "a");
    sigset_t pending;
    sigpending(&pending);
    cr_assert_not(sigismember(&pending, SIGPIPE));
}

Test(trace, full_pipe_does_not_block, .timeout = 5) {
    int in = pipe_as_stderr();
    char fill[4096] = {0};
    fcntl(2, F_SETFL, O_NONBLOCK);
    while (write(2, fill, sizeof fill) > 0)
        ;
    fcntl(2, F_SETFL, 0);
    mesh_trace_refused("peer", "name", "a");
    close(in);
}

Test(trace, fifo_without_reader_does_not_block, .timeout = 5) {
    cr_assert_eq(mkfifo(file, 0600), 0);
    to_file("error");
    mesh_trace_refused("peer", "name", "a");
}

Test(trace, errno_survives) {
    to_file("error");
    errno = EDOM;
    mesh_trace_refused("peer", "name", "a");
    cr_assert_eq(mesh_trace_set("error:/nonexistent/x"), 0);
    mesh_trace_refused("peer", "name", "b");
    cr_assert_eq(errno, EDOM);
}

static void *switcher(void *stop) {
    char a[100], b[400], longest[201];
    memset(longest, 'a', 200);
    longest[200] = 0;
    snprintf(a, sizeof a, "error:%s", file);
    snprintf(b, sizeof b, "error:%s/%s/b", dir,
             longest); /* does not exist; any beginning of it would be made */
    while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED))
        if (mesh_trace_set(a) < 0 || mesh_trace_set(b) < 0)
            return stop;
    return NULL;
}

Test(trace, switching_meanwhile_tears_no_name) {
    int stop = 0;
    pthread_t t;
    to_file("error");
    pthread_create(&t, NULL, switcher, &stop);
    for (int i = 0; i < 20000; i++) {
        struct mesh_line l;
        mesh_line_begin(&l, MESH_TRACE_ERROR, "x");
        mesh_line_end(&l);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    void *ret;
    pthread_join(t, &ret);
    cr_assert_null(ret);
    unlink(file);
    cr_assert_eq(rmdir(dir), 0, "a torn name made a file");
}
