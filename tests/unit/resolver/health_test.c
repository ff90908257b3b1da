/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks against listeners of this process on loopback. Their time is the test's, in steps.
 */
#include "resolver/health.h"
#include <errno.h>
#include "resolver/build.h"
#include "shim/base/clock.h"
#include "tests/unit/resolver/fixture.h"

struct peer {
    int fd, conn;
    uint16_t port;
    const char *answer; /* NULL: none is given */
};

static struct peer listening(const char *answer) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    struct peer p = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .answer = answer};
    cr_assert_eq(bind(p.fd, (struct sockaddr *)&sa, len), 0);
    cr_assert_eq(listen(p.fd, 64), 0);
    cr_assert_eq(getsockname(p.fd, (struct sockaddr *)&sa, &len), 0);
    p.port = ntohs(sa.sin_port);
    return p;
}

/* Takes who came, and answers once something is asked. Whom it does not answer it keeps, in silence. */
static void serve(struct peer *p, char *ret_asked, size_t cap) {
    if (p->conn <= 0)
        p->conn = accept4(p->fd, NULL, NULL, SOCK_NONBLOCK);
    if (p->conn <= 0 || !p->answer)
        return;
    ssize_t n = recv(p->conn, ret_asked, cap - 1, 0);
    if (n < 0)
        return;
    ret_asked[n] = 0;
    if (n > 0)
        cr_assert_eq(send(p->conn, p->answer, strlen(p->answer), 0), (ssize_t)strlen(p->answer));
    close(p->conn);
    p->conn = 0;
}

#define COMMON "timeout: 1s, interval: 5s, unhealthy_threshold: 2, healthy_threshold: 2, "
static struct mesh_resources *read_view(const char *check, uint16_t port, const char *more) {
    char text[2048];
    struct mesh_resources *all;
    struct mesh_why why;
    snprintf(
        text, sizeof text,
        "resources: [{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c, type: STATIC, "
        "transport_socket: {name: envoy.transport_sockets.raw_buffer}, health_checks: [{%s}], "
        "load_assignment: "
        "{cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "
        "127.0.0.1, "
        "port_value: %u}}%s}}]}]}}]",
        check, port, more);
    cr_assert_eq(mesh_resources_read(text, strlen(text), NULL, &all, &why), 0, "%s", why.text);
    return all;
}

static struct mesh_endpoint endpoint_at(uint16_t port) {
    return (struct mesh_endpoint){.addr = {127, 0, 0, 1}, .family = 4, .port = port};
}

static int load(struct mesh_checks *h, const struct mesh_resources *all, uint64_t now) {
    struct mesh_build_in in = {.resources = all};
    return mesh_health_load(h, &in, MESH_TLS_MUTUAL, now);
}

/* Drives until the check that is due has come to its end. */
static bool check_once(struct mesh_checks *h, struct peer *p, uint64_t now, char *ret_asked, size_t cap) {
    bool changed = mesh_health_drive(h, now);
    for (int i = 0; i < 1000; i++) {
        struct pollfd fds[4];
        uint64_t due = UINT64_MAX;
        if (p)
            serve(p, ret_asked, cap);
        if (!mesh_health_fill(h, fds, 4, &due))
            return changed;
        (void)poll(fds, 1, 10);
        changed |= mesh_health_drive(h, p && !p->answer && i > 2 ? due : now);
    }
    cr_assert_fail("the check does not end");
    return changed;
}

static enum mesh_health_verdict outcome(const char *check, const char *answer, const char *more,
                                        char *ret_asked) {
    struct peer p = listening(answer);
    struct mesh_resources *all = read_view(check, p.port, more);
    struct mesh_checks *h;
    struct mesh_endpoint e = endpoint_at(p.port);
    cr_assert_eq(mesh_health_new(NULL, NULL, NULL, &h), 0);
    cr_assert_eq(load(h, all, 0), 0);
    mesh_resources_free(all); /* nothing of it is kept */
    if (mesh_health_of(h, "c", &e) != MESH_VERDICT_NONE)
        cr_assert_eq(mesh_health_of(h, "c", &e), MESH_VERDICT_BAD,
                     "nobody has passed before the first check");
    check_once(h, &p, 1, ret_asked, 1024);
    enum mesh_health_verdict v = mesh_health_of(h, "c", &e);
    mesh_health_free(h);
    close(p.fd);
    return v;
}

Test(health, tcp_connect_alone_is_good, .timeout = 60) {
    char asked[1024] = "";
    cr_assert_eq(outcome(COMMON "tcp_health_check: {}", "", "", asked), MESH_VERDICT_GOOD);
}

Test(health, tcp_bytes_are_sent_and_looked_for_in_order, .timeout = 60) {
    static const char check[] =
        COMMON "tcp_health_check: {send: {text: '50494e47'}, receive: [{text: '504f'}, {text: '4e47'}]}";
    char asked[1024] = "";
    cr_assert_eq(outcome(check, "+PONG", "", asked), MESH_VERDICT_GOOD);
    cr_assert_str_eq(asked, "PING");
    cr_assert_eq(outcome(check, "NG, then PO", "", asked), MESH_VERDICT_BAD);
}

Test(health, http_status_decides, .timeout = 60) {
    static const char check[] = COMMON "http_health_check: {path: /healthz}";
    char asked[1024] = "";
    cr_assert_eq(outcome(check, "HTTP/1.1 200 OK\r\n\r\n", "", asked), MESH_VERDICT_GOOD);
    cr_assert(strstr(asked, "GET /healthz HTTP/1.1\r\n") == asked, "%s", asked);
    cr_assert(strstr(asked, "\r\nHost: c\r\n\r\n"));
    cr_assert_eq(outcome(check, "HTTP/1.1 503 No\r\n\r\n", "", asked), MESH_VERDICT_BAD);
    cr_assert_eq(outcome(check, "SSH-2.0-OpenSSH_9\r\n", "", asked), MESH_VERDICT_BAD);
    cr_assert_eq(outcome(COMMON
                         "http_health_check: {path: /, host: h, expected_statuses: [{start: 500, end: 504}]}",
                         "HTTP/1.0 503 No\r\n\r\n", "", asked),
                 MESH_VERDICT_GOOD);
    cr_assert(strstr(asked, "Host: h\r\n"));
}

Test(health, endpoints_own_settings_win, .timeout = 60) {
    static const char check[] = COMMON "http_health_check: {path: /}";
    char asked[1024] = "";
    cr_assert_eq(outcome(check, "HTTP/1.1 200 OK\r\n\r\n", ", health_check_config: {hostname: own}", asked),
                 MESH_VERDICT_GOOD);
    cr_assert(strstr(asked, "Host: own\r\n"));
    cr_assert_eq(outcome(check, "", ", health_check_config: {disable_active_health_check: true}", asked),
                 MESH_VERDICT_NONE);
    cr_assert_eq(outcome(check, "", ", health_check_config: {port_value: 1}", asked), MESH_VERDICT_BAD);
}

Test(health, silence_is_a_timeout, .timeout = 60) {
    char asked[1024] = "";
    cr_assert_eq(outcome(COMMON "http_health_check: {path: /}", NULL, "", asked), MESH_VERDICT_BAD);
}

Test(health, state_outlives_a_load_of_the_same_and_not_of_other_settings, .timeout = 60) {
    struct peer p = listening("");
    struct mesh_resources *all = read_view(COMMON "tcp_health_check: {}", p.port, ""),
                          *other = read_view(COMMON "alt_port: 1, tcp_health_check: {}", p.port, "");
    struct mesh_checks *h;
    struct mesh_endpoint e = endpoint_at(p.port);
    char asked[64];
    cr_assert_eq(mesh_health_new(NULL, NULL, NULL, &h), 0);
    cr_assert_eq(load(h, all, 0), 0);
    cr_assert(check_once(h, &p, 1, asked, sizeof asked));
    cr_assert_eq(load(h, all, 2), 0);
    cr_assert_eq(mesh_health_of(h, "c", &e), MESH_VERDICT_GOOD);
    uint64_t due = UINT64_MAX;
    mesh_health_fill(h, NULL, 0, &due);
    cr_assert_eq(due, 1 + 5 * MESH_SEC);
    cr_assert_eq(load(h, other, 3), 0);
    cr_assert_eq(mesh_health_of(h, "c", &e), MESH_VERDICT_BAD);
    mesh_health_free(h);
    mesh_resources_free(all);
    mesh_resources_free(other);
    close(p.fd);
}

Test(health, thresholds_turn_an_endpoint_after_refusals, .timeout = 60) {
    struct peer p = listening("");
    struct mesh_resources *all = read_view(COMMON "tcp_health_check: {}", p.port, "");
    struct mesh_checks *h;
    struct mesh_endpoint e = endpoint_at(p.port);
    char asked[64];
    cr_assert_eq(mesh_health_new(NULL, NULL, NULL, &h), 0);
    cr_assert_eq(load(h, all, 0), 0);
    check_once(h, &p, 1, asked, sizeof asked);
    close(p.fd);
    cr_assert_not(check_once(h, NULL, 10 * MESH_SEC, asked, sizeof asked));
    cr_assert_eq(mesh_health_of(h, "c", &e), MESH_VERDICT_GOOD, "one of two");
    cr_assert(check_once(h, NULL, 20 * MESH_SEC, asked, sizeof asked));
    cr_assert_eq(mesh_health_of(h, "c", &e), MESH_VERDICT_BAD);
    mesh_health_free(h);
    mesh_resources_free(all);
}

Test(health, what_is_not_checked_or_means_nothing_is_told, .timeout = 60) {
    static const struct {
        const char *check;
        int rc;
        const char *why;
    } table[] = {
        {"interval: 5s, unhealthy_threshold: 2, healthy_threshold: 2, tcp_health_check: {}", MESH_E_INVALID,
         "health_checks[0].timeout: must be given"},
        {"timeout: 1s, interval: 5s, healthy_threshold: 2, tcp_health_check: {}", MESH_E_INVALID,
         "health_checks[0].unhealthy_threshold: must be given"},
        {"timeout: 1s, interval: 5s, unhealthy_threshold: 2, healthy_threshold: 0, tcp_health_check: {}",
         MESH_E_INVALID, "health_checks[0].healthy_threshold: must be at least 1"},
        {COMMON "tcp_health_check: {send: {text: xyz}}", MESH_E_INVALID,
         "health_checks[0].tcp_health_check.send: must be hexadecimal and at most 1024 bytes"},
        {COMMON "http_health_check: {path: healthz}", MESH_E_INVALID,
         "health_checks[0].http_health_check.path: must begin with / and hold no spaces"},
        {COMMON "http_health_check: {path: /, host: \"a\\r\\nb\"}", MESH_E_INVALID,
         "health_checks[0].http_health_check.host: is no host"},
        {COMMON "http_health_check: {path: /, expected_statuses: [{start: 300, end: 300}]}", MESH_E_INVALID,
         "health_checks[0].http_health_check.expected_statuses: must lie within 100 to 600"},
        {COMMON "grpc_health_check: {}", MESH_E_UNSUPPORTED,
         "health_checks[0]: only TCP and HTTP/1.1 are checked"},
        {COMMON "http_health_check: {path: /, codec_client_type: HTTP2}", MESH_E_UNSUPPORTED,
         "health_checks[0].http_health_check: only HTTP/1.1 is checked"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct mesh_resources *all = read_view(table[i].check, 80, "");
        struct mesh_probe_spec spec;
        struct mesh_why why = {""};
        cr_expect_eq(
            mesh_probe_read((const Mesh__Cluster__Cluster *)all->items[0].msg, MESH_TLS_MUTUAL, &spec, &why),
            table[i].rc, "%s", table[i].check);
        cr_expect_str_eq(why.text, table[i].why);
        mesh_resources_free(all);
    }
}

static void keep(void *arg, const char *resource, const char *why) {
    snprintf(arg, 256, "%s", why);
}

Test(health, view_from_a_file_needs_a_publisher_and_is_used_meanwhile, .timeout = 60) {
    struct fixture f;
    struct mesh_route r;
    char why[256] = "";
    fixture_start(
        &f, "resources: [{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c.mesh, type: "
            "STATIC, transport_socket: {name: envoy.transport_sockets.raw_buffer}, health_checks: [{" COMMON
            "tcp_health_check: {}}]}]");
    cr_assert_eq(mesh_view_each_fault(f.view, keep, why), 0, "%s", why);
    cr_assert(mesh_view_learns(f.view));
    cr_assert_eq(fixture_connect(f.view, "c.mesh", 80, 0, &r), 0);
    fixture_done(&f);
}
