/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shim/base/clock.h"
#include "shim/base/trace.h"
#include "shim/env.h"

static struct mesh_env env;
static char told[8][400];
static int ntold;

static void tell(void *arg, const char *name, const char *value, const char *what) {
    cr_assert_eq(arg, &env);
    if (ntold < 8)
        snprintf(told[ntold], sizeof told[0], "%s=%s: %s", name, value, what);
    ntold++;
}

static void read_from(const struct mesh_env_source *src) {
    mesh_env_done(&env);
    ntold = 0;
    memset(told, 0, sizeof told);
    cr_assert_eq(mesh_env_parse(src, &env, tell, &env), 0);
}

#define READ(...)                                                                                            \
    do {                                                                                                     \
        static char *const vars[] = {__VA_ARGS__, NULL};                                                     \
        read_from(&(struct mesh_env_source){.envp = vars, .uid = 1000});                                     \
    } while (0)

#define EXPECT_TOLD(i, text) cr_expect(strstr(told[i], text), "%s", told[i])

static void fini(void) {
    mesh_env_done(&env);
}

TestSuite(env, .fini = fini);

Test(env, empty_environment_has_the_defaults) {
    READ("HOME=/root", "NOT_MESH_VIEW=x");
    cr_assert_not(env.any || env.off || env.peers_none);
    cr_assert_eq(env.tls, MESH_TLS_MUTUAL);
    cr_assert_eq(env.detect_ns, 300 * MESH_MS);
    cr_assert_eq(env.patience_ns, 100 * MESH_MS);
    cr_assert_eq(env.resolve_timeout_ns, 5 * MESH_SEC);
    cr_assert_eq(env.view_max_age_ns, 0);
    cr_assert_str_eq(env.run_dir, "/tmp/meshshim-1000");
    cr_assert_eq(mesh_env_inbound_mode(&env, 80), MESH_INBOUND_OFF);
    cr_assert_eq(ntold, 0);
}

Test(env, files_and_texts_are_copied) {
    char view[] = "MESH_VIEW=/a/view.yaml";
    char *vars[] = {view,
                    "GRPC_XDS_BOOTSTRAP=/b",
                    "GRPC_XDS_BOOTSTRAP_CONFIG={}",
                    "MESH_VIEW_SEED=/s",
                    "MESH_CERT=/c",
                    "MESH_KEY=/k",
                    "MESH_CA=/r",
                    NULL};
    read_from(&(struct mesh_env_source){.envp = vars});
    memset(view, 'x', sizeof view - 1);
    cr_assert_str_eq(env.view, "/a/view.yaml");
    cr_assert_str_eq(env.bootstrap, "/b");
    cr_assert_str_eq(env.bootstrap_config, "{}");
    cr_assert_str_eq(env.view_seed, "/s");
    cr_assert_str_eq(env.cert, "/c");
    cr_assert_str_eq(env.key, "/k");
    cr_assert_str_eq(env.ca, "/r");
    cr_assert_not(env.bad_identity);
    cr_assert_eq(ntold, 0);
}

Test(env, relative_files_are_taken_from_the_directory) {
    static char *const vars[] = {"MESH_VIEW=view.yaml", "MESH_CERT=/c", "MESH_KEY=k/k.pem", "MESH_CA=/r",
                                 NULL};
    read_from(&(struct mesh_env_source){.envp = vars, .cwd = "/srv/app"});
    cr_assert_str_eq(env.view, "/srv/app/view.yaml");
    cr_assert_str_eq(env.key, "/srv/app/k/k.pem");
    cr_assert_str_eq(env.cert, "/c");
}

Test(env, each_source_of_mesh_connections_counts) {
    READ("MESH_VIEW=/v");
    cr_expect(env.any);
    READ("GRPC_XDS_BOOTSTRAP=/v");
    cr_expect(env.any);
    READ("GRPC_XDS_BOOTSTRAP_CONFIG={}");
    cr_expect(env.any);
    READ("MESH_DOMAINS=mesh");
    cr_expect(env.any);
    READ("MESH_CAPTURE=10.0.0.0/8");
    cr_expect(env.any);
    READ("MESH_INBOUND=permissive");
    cr_expect(env.any);
    READ("MESH_INBOUND=off");
    cr_expect_not(env.any);
    READ("MESH_INBOUND=80=off,*=off");
    cr_expect_not(env.any);
    READ("MESH_EXCLUDE=10.0.0.0/8", "MESH_CERT=/a", "MESH_TRACE=info", "MESH_PEERS=none");
    cr_expect_not(env.any);
}

Test(env, inbound_modes_go_by_port) {
    READ("MESH_INBOUND=8080=strict, 9090=permissive,15000=view,*=off");
    cr_assert_eq(mesh_env_inbound_mode(&env, 8080), MESH_INBOUND_STRICT);
    cr_assert_eq(mesh_env_inbound_mode(&env, 9090), MESH_INBOUND_PERMISSIVE);
    cr_assert_eq(mesh_env_inbound_mode(&env, 15000), MESH_INBOUND_VIEW);
    cr_assert_eq(mesh_env_inbound_mode(&env, 1), MESH_INBOUND_OFF);
    READ("MESH_INBOUND=*=strict,22=off");
    cr_assert_eq(mesh_env_inbound_mode(&env, 22), MESH_INBOUND_OFF);
    cr_assert_eq(mesh_env_inbound_mode(&env, 23), MESH_INBOUND_STRICT);
    READ("MESH_INBOUND=view");
    cr_assert_eq(mesh_env_inbound_mode(&env, 23), MESH_INBOUND_VIEW);
    cr_assert_eq(ntold, 0);
}

Test(env, wrong_inbound_is_strict_everywhere) {
    static char *const wrong[] = {"MESH_INBOUND=strikt",
                                  "MESH_INBOUND=80=off,strict",
                                  "MESH_INBOUND=80=off,80=strict",
                                  "MESH_INBOUND=0=off",
                                  "MESH_INBOUND=65536=off",
                                  "MESH_INBOUND=80 =off",
                                  "MESH_INBOUND=80=off,",
                                  "MESH_INBOUND=",
                                  "MESH_INBOUND=-1=off"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *vars[] = {wrong[i], NULL};
        read_from(&(struct mesh_env_source){.envp = vars});
        cr_expect(env.bad_inbound && env.any, "%s", wrong[i]);
        cr_expect_eq(mesh_env_inbound_mode(&env, 80), MESH_INBOUND_STRICT, "%s", wrong[i]);
        cr_expect_eq(ntold, 1, "%s", wrong[i]);
        EXPECT_TOLD(0, "MESH_INBOUND=");
        mesh_env_done(&env);
    }
}

Test(env, too_many_inbound_ports_are_wrong) {
    char text[4096] = "MESH_INBOUND=1=off";
    for (int i = 2; i <= MESH_ENV_PORTS_MAX; i++)
        sprintf(text + strlen(text), ",%d=off", i);
    char *vars[] = {text, NULL};
    read_from(&(struct mesh_env_source){.envp = vars});
    cr_assert_eq(env.ninbound, MESH_ENV_PORTS_MAX);
    mesh_env_done(&env);
    strcat(text, ",9999=off");
    read_from(&(struct mesh_env_source){.envp = vars});
    cr_assert(env.bad_inbound);
}

Test(env, peers_and_callers_are_patterns) {
    READ("MESH_PEERS=spiffe://shop/ns/*/sa/web,spiffe://shop/x", "MESH_CALLERS=spiffe://shop/y");
    cr_assert_eq(env.npeers, 2);
    cr_assert_eq(env.ncallers, 1);
    cr_assert(mesh_match_text(&env.peers[0], "spiffe://shop/ns/prod/sa/web", 28));
    cr_assert_not(env.peers_none || env.bad_peers || env.bad_callers);
    mesh_env_done(&env);
    READ("MESH_PEERS=none");
    cr_assert(env.peers_none);
    cr_assert_not(env.bad_peers);
}

Test(env, wrong_peers_accept_nobody) {
    READ("MESH_PEERS=web", "MESH_CALLERS=");
    cr_assert(env.bad_peers && env.peers_none && env.bad_callers);
    cr_assert_eq(ntold, 2);
    EXPECT_TOLD(0, "MESH_PEERS=web");
    EXPECT_TOLD(1, "MESH_CALLERS=: is empty");
}

Test(env, identity_is_whole_or_wrong) {
    READ("MESH_CERT=/c", "MESH_CA=/r");
    cr_assert(env.bad_identity);
    cr_assert_eq(ntold, 1);
    EXPECT_TOLD(0, "MESH_KEY=: ");
    mesh_env_done(&env);
    READ("MESH_CERT=/c", "MESH_KEY=", "MESH_CA=/r");
    cr_assert(env.bad_identity);
    EXPECT_TOLD(0, "MESH_KEY=: is empty");
    cr_assert_eq(ntold, 1);
}

Test(env, ranges_fill_their_lists) {
    uint8_t addr[4] = {10, 1, 2, 3};
    READ("MESH_CAPTURE=10.0.0.0/8:443", "MESH_EXCLUDE=db.shop.mesh:5432,10.1.0.0/16",
         "MESH_INBOUND_PLAIN=127.0.0.1", "MESH_VIRTUAL=240.0.0.0/8,fd12::/48");
    cr_assert(mesh_cidr_has(env.capture, 4, addr, 443));
    cr_assert(mesh_cidr_has(env.exclude, 4, addr, 1));
    cr_assert(mesh_cidr_has_name(env.exclude, "db.shop.mesh", 5432));
    cr_assert_eq(env.inbound_plain->n, 1);
    cr_assert_eq(env.virtual_ranges->n, 2);
    cr_assert_eq(ntold, 0);
}

Test(env, wrong_ranges_fail_closed) {
    READ("MESH_CAPTURE=db.shop.mesh", "MESH_EXCLUDE=1.2.3.4/8", "MESH_INBOUND_PLAIN=1.2.3.4,x",
         "MESH_VIRTUAL=240.0.0.0/8:80");
    cr_assert(env.bad_capture && env.bad_exclude && env.any);
    cr_assert_null(env.capture);
    cr_assert_null(env.exclude);
    cr_assert_null(env.inbound_plain); /* nobody */
    cr_assert_null(env.virtual_ranges);
    cr_assert_eq(ntold, 4);
}

Test(env, tls_is_one_of_three) {
    READ("MESH_TLS=view");
    cr_assert_eq(env.tls, MESH_TLS_VIEW);
    READ("MESH_TLS=required");
    cr_assert_eq(env.tls, MESH_TLS_REQUIRED);
    cr_assert_not(env.bad_tls);
    READ("MESH_TLS=off");
    cr_assert(env.bad_tls);
    cr_assert_eq(env.tls, MESH_TLS_REQUIRED);
    READ("MESH_TLS=");
    cr_assert(env.bad_tls);
    cr_assert_eq(env.tls, MESH_TLS_REQUIRED);
}

Test(env, durations_have_units) {
    READ("MESH_PATIENCE=250ms", "MESH_RESOLVE_TIMEOUT=7s", "MESH_VIEW_MAX_AGE=2m", "MESH_DETECT=0s");
    cr_assert_eq(env.patience_ns, 250 * MESH_MS);
    cr_assert_eq(env.resolve_timeout_ns, 7 * MESH_SEC);
    cr_assert_eq(env.view_max_age_ns, 120 * MESH_SEC);
    cr_assert_eq(env.detect_ns, 0);
    cr_assert_eq(ntold, 0);
}

Test(env, wrong_durations_keep_the_default) {
    static char *const wrong[] = {"MESH_PATIENCE=5",
                                  "MESH_PATIENCE=ms",
                                  "MESH_PATIENCE=-5s",
                                  "MESH_PATIENCE=5sec",
                                  "MESH_PATIENCE=1.5s",
                                  "MESH_PATIENCE= 5s",
                                  "MESH_PATIENCE=99999999999999999999s",
                                  "MESH_PATIENCE=5S",
                                  "MESH_VIEW_MAX_AGE=0s"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *vars[] = {wrong[i], NULL};
        read_from(&(struct mesh_env_source){.envp = vars});
        cr_expect_eq(ntold, 1, "%s", wrong[i]);
        cr_expect_eq(env.patience_ns, 100 * MESH_MS, "%s", wrong[i]);
        cr_expect(env.bad_other);
        mesh_env_done(&env);
    }
}

Test(env, domains_are_put_into_their_plainest_form) {
    READ("MESH_DOMAINS=Mesh., svc.cluster.local?");
    cr_assert_str_eq(env.domains, "mesh,svc.cluster.local?");
    cr_assert_eq(ntold, 0);
}

Test(env, wrong_domain_is_told_and_the_others_hold) {
    READ("MESH_DOMAINS=a..b,mesh,*.x,,local?");
    cr_assert_str_eq(env.domains, "mesh,local?");
    cr_assert_eq(ntold, 1);
    READ("MESH_DOMAINS=?");
    cr_assert_null(env.domains);
    cr_assert_eq(ntold, 1);
    cr_assert_not(env.any);
}

Test(env, hash_key_trace_and_run_dir_are_checked) {
    READ("MESH_HASH_KEY==a b", "MESH_TRACE=debug:/tmp/%p.log", "MESH_RUN_DIR=/r");
    cr_assert_str_eq(env.hash_key, "=a b");
    cr_assert_str_eq(env.trace, "debug:/tmp/%p.log");
    cr_assert_str_eq(env.run_dir, "/r");
    cr_assert_eq(ntold, 0);
    mesh_env_done(&env);
    READ("MESH_HASH_KEY=ip", "MESH_TRACE=loud", "MESH_RUN_DIR=r", "MESH_OFF=yes");
    cr_assert_null(env.hash_key);
    cr_assert_null(env.trace);
    cr_assert_str_eq(env.run_dir, "/tmp/meshshim-1000");
    cr_assert_not(env.off);
    cr_assert_eq(ntold, 4);
}

Test(env, run_dir_has_its_defaults) {
    static char *const xdg[] = {"XDG_RUNTIME_DIR=/run/user/7", NULL}, *const none[] = {"XDG_RUNTIME_DIR=rel",
                                                                                       NULL};
    read_from(&(struct mesh_env_source){.envp = xdg, .uid = 7});
    cr_assert_str_eq(env.run_dir, "/run/user/7/meshshim");
    mesh_env_done(&env);
    read_from(&(struct mesh_env_source){.envp = none, .uid = 0});
    cr_assert_str_eq(env.run_dir, "/run/meshshim");
    mesh_env_done(&env);
    read_from(&(struct mesh_env_source){.envp = none, .uid = 4294967294u});
    cr_assert_str_eq(env.run_dir, "/tmp/meshshim-4294967294");
}

Test(env, unknown_names_are_told_with_what_was_meant) {
    READ("MESH_VEIW=/v", "MESH_SOMETHING_ELSE=1", "GRPC_XDS_EXPERIMENTAL=1", "MESH_=1");
    cr_assert_eq(ntold, 3);
    EXPECT_TOLD(0, "MESH_VEIW=/v: unknown name; did you mean MESH_VIEW?");
    EXPECT_TOLD(1, "MESH_SOMETHING_ELSE=1: unknown name");
    cr_assert_null(strstr(told[1], "mean"));
    cr_assert_not(env.any);
}

Test(env, flood_of_unknown_names_is_bounded) {
    char names[100][24];
    char *vars[101] = {NULL};
    for (int i = 0; i < 100; i++) {
        snprintf(names[i], sizeof names[i], "MESH_UNKNOWN_%d=1", i);
        vars[i] = names[i];
    }
    read_from(&(struct mesh_env_source){.envp = vars});
    cr_assert_eq(ntold, 16);
}

Test(env, secure_exec_ignores_the_environment) {
    static char *const vars[] = {"MESH_VIEW=/v", "MESH_NONSENSE=1", "XDG_RUNTIME_DIR=/x", NULL};
    read_from(&(struct mesh_env_source){.envp = vars, .secure = true, .uid = 5});
    cr_assert_null(env.view);
    cr_assert_str_eq(env.run_dir, "/tmp/meshshim-5");
    cr_assert_eq(ntold, 0);
}

Test(env, first_of_two_equal_names_holds) {
    READ("MESH_VIEW=/first", "MESH_VIEW=/second");
    cr_assert_str_eq(env.view, "/first");
}

Test(env, skip_lists_whole_names) {
    READ("MESH_SKIP=gdb, strace,my app");
    cr_assert(mesh_env_skips(&env, "gdb") && mesh_env_skips(&env, "strace"));
    cr_assert_not(mesh_env_skips(&env, "gdbserver") || mesh_env_skips(&env, "gd") ||
                  mesh_env_skips(&env, ""));
    mesh_env_done(&env);
    READ("MESH_SKIP=/usr/bin/gdb");
    cr_assert_eq(ntold, 1);
    READ("A=b");
    cr_assert_not(mesh_env_skips(&env, "gdb"));
}

Test(env, rows_name_every_variable_once) {
    size_t n;
    const struct mesh_env_row *rows = mesh_env_rows(&n);
    cr_assert_gt(n, 20);
    for (size_t i = 0; i < n; i++) {
        cr_assert(rows[i].text[0] && rows[i].value[0] && rows[i].def[0]);
        for (size_t j = 0; j < i; j++)
            cr_assert_str_neq(rows[i].name, rows[j].name);
    }
}

/* ---- the file ---------------------------------------------------------------------------------------------
 */
static char conf[] = "/tmp/env_test.XXXXXX";

static void write_conf(const char *text) {
    int fd = mkstemp(conf);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

Test(env, environment_wins_over_the_file) {
    static char *const vars[] = {"MESH_VIEW=/env", NULL};
    if (geteuid() != 0)
        cr_skip("the file must be root's");
    write_conf(
        "# defaults\n\n MESH_VIEW = /file \nMESH_TLS=required\r\nMESH_VIEWS=1\nnonsense\nMESH_TLS=view");
    read_from(&(struct mesh_env_source){.envp = vars, .conf = conf});
    cr_expect_str_eq(env.view, "/env");
    cr_expect_eq(env.tls, MESH_TLS_REQUIRED);
    cr_expect_eq(ntold, 2);
    EXPECT_TOLD(0, "MESH_VIEWS=1: unknown name; did you mean MESH_VIEW?");
    EXPECT_TOLD(1, "nonsense: not NAME=value");
    mesh_env_done(&env);
    read_from(&(struct mesh_env_source){.envp = vars, .conf = conf, .secure = true});
    cr_expect_str_eq(env.view, "/file");
    unlink(conf);
}

Test(env, file_that_others_may_write_is_ignored) {
    if (geteuid() != 0)
        cr_skip("the file must be root's");
    write_conf("MESH_VIEW=/file\n");
    cr_assert_eq(chmod(conf, 0664), 0);
    read_from(&(struct mesh_env_source){.conf = conf});
    unlink(conf);
    cr_assert_null(env.view);
    cr_assert_eq(ntold, 1);
    EXPECT_TOLD(0, "writable by others");
}

/* ---- this process -----------------------------------------------------------------------------------------
 */
static char *take_trace(void) {
    static char text[4096];
    FILE *f = fopen(conf, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    unlink(conf);
    return text;
}

Test(start, unconfigured_process_stays_untouched) {
    static char *const vars[] = {"HOME=/", NULL};
    cr_assert_eq(mesh_env_start(vars, false), 0);
    cr_assert_not(mesh_env()->any || mesh_env()->off);
    cr_assert_null(mesh_env()->block);
    cr_assert_not(mesh_trace_on(MESH_TRACE_ERROR));
}

Test(start, wrong_values_are_traced_by_name) {
    char trace[100];
    write_conf("");
    snprintf(trace, sizeof trace, "MESH_TRACE=error:%s", conf);
    char *const vars[] = {"MESH_TLS=maybe", trace, "MESH_VIEW=/v", NULL};
    cr_assert_eq(mesh_env_start(vars, false), 0);
    const char *text = take_trace();
    cr_assert(
        strstr(text, "error config variable=MESH_TLS value=maybe why=\"must be mutual, view or required\"\n"),
        "%s", text);
    cr_assert(mesh_env()->any);
    cr_assert_eq(mesh_env()->tls, MESH_TLS_REQUIRED);
}

Test(start, off_and_skipped_programs_say_nothing) {
    char trace[100], skip[100];
    write_conf("");
    snprintf(trace, sizeof trace, "MESH_TRACE=error:%s", conf);
    snprintf(skip, sizeof skip, "MESH_SKIP=gdb,%s", program_invocation_short_name);
    char *const off[] = {"MESH_OFF=1", "MESH_TLS=maybe", trace, NULL};
    char *const skipped[] = {skip, "MESH_TLS=maybe", trace, NULL};
    cr_assert_eq(mesh_env_start(off, false), 0);
    cr_assert(mesh_env()->off);
    cr_assert_not(mesh_trace_on(MESH_TRACE_ERROR));
    cr_assert_eq(mesh_env_start(skipped, false), 0);
    cr_assert(mesh_env()->off);
    cr_assert_str_eq(take_trace(), "");
}

Test(start, mistyped_trace_is_heard_of_on_stderr) {
    static char *const vars[] = {"MESH_TRACE=infos", NULL};
    int fds[2];
    char text[300] = "";
    cr_assert_eq(pipe(fds), 0);
    dup2(fds[1], 2);
    mesh_trace_remember_stderr();
    cr_assert_eq(mesh_env_start(vars, false), 0);
    cr_assert_gt(read(fds[0], text, sizeof text - 1), 0);
    cr_assert(strstr(text, "config variable=MESH_TRACE value=infos"), "%s", text);
}
