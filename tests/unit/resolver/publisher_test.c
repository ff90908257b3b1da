/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "lb/lb.h"
#include "resolver/demand.h"
#include "resolver/publish.h"
#include "resolver/publisher.h"
#include "shim/base/clock.h"
#include "tests/unit/resolver/fixture.h"
#include "tests/unit/resolver/scripted.h"

static const char bootstrap[] =
    "{\"xds_servers\": [{\"server_uri\": \"127.0.0.1:1\", \"channel_creds\": [{\"type\": "
    "\"insecure\"}]}], \"node\": {\"id\": \"test\"}}";
#define T(x) "- '@type': type.googleapis.com/envoy.config." x "\n"
#define EDS(name)                                                                                            \
    T("cluster.v3.Cluster") "  name: " name "\n  type: EDS\n  eds_cluster_config: {eds_config: {ads: {}}}\n"
#define CLA(name, addr)                                                                                      \
    T("endpoint.v3.ClusterLoadAssignment")                                                                   \
    "  cluster_name: " name "\n  endpoints: [{locality: {zone: z}, lb_endpoints: [{endpoint: {address: "     \
    "{socket_address: {address: " addr ", port_value: 8080}}}}]}]\n"

static struct fixture f;
static struct mesh_publisher *p;
static uint64_t now;

static void open_view(void) {
    fixture_init(&f, NULL);
    f.cfg.file = NULL;
    f.cfg.bootstrap_text = bootstrap;
    f.cfg.domains = "mesh";
    now = mesh_now();
}

static int begin(void) {
    static const struct mesh_fd_hooks hooks;
    struct mesh_publisher_config cfg = {.view = f.view, .transport = &scripted, .hooks = &hooks};
    return mesh_publisher_new(&cfg, now, &p);
}

static void start(void) {
    open_view();
    scripted_set("resources:\n" EDS("a.mesh") CLA("a.mesh", "10.0.0.1") EDS("b.mesh:80")
                     CLA("b.mesh:80", "10.0.0.2"));
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why.text);
    cr_assert_eq(begin(), 0);
}

static void stop(void) {
    mesh_publisher_free(p);
    p = NULL;
    fixture_done(&f);
}

TestSuite(publisher, .init = start, .fini = stop);

static void turn(void) {
    struct pollfd fds[MESH_PUBLISHER_FDS];
    uint64_t deadline = UINT64_MAX;
    cr_assert_eq(mesh_publisher_turn(p, now), 0);
    mesh_publisher_fill(p, fds, MESH_PUBLISHER_FDS, now, &deadline);
}

static void turns(int n) {
    for (int i = 0; i < n; i++) {
        now += 10 * MESH_MS;
        turn();
    }
}

static int look(const char *name, uint16_t port) {
    struct mesh_answer a;
    return mesh_view_name_at(f.view, name, port, &a);
}

/* The last byte of the only endpoint's address. */
static int endpoint(const char *name, uint16_t port) {
    struct mesh_route r;
    struct mesh_cluster_view cv;
    uint64_t seq;
    if (fixture_connect(f.view, name, port, 0, &r) != 0 || mesh_view_cluster(f.view, &r, &cv, &seq) != 0)
        return -1;
    return cv.n == 1 ? cv.endpoints[0].addr[3] : -2;
}

Test(publisher, demanded_name_becomes_known_and_others_stay_unknown) {
    turns(3);
    cr_assert_eq(look("a.mesh", 0), MESH_E_AGAIN, "nobody asked");
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    uint32_t seen = mesh_view_answers(f.view);
    turns(20);
    cr_assert_neq(mesh_view_answers(f.view), seen, "who waits is woken");
    cr_assert_eq(endpoint("a.mesh", 1234), 1);
    cr_assert_eq(look("b.mesh", 80), MESH_E_AGAIN);
    cr_assert_eq(look("example.com", 0), MESH_E_NOTFOUND);
}

Test(publisher, name_with_its_port_and_name_that_does_not_exist) {
    cr_assert_eq(mesh_view_ask(f.view, "b.mesh", 80), 0);
    cr_assert_eq(mesh_view_ask(f.view, "none.mesh", 80), 0);
    cr_assert_eq(mesh_view_ask(f.view, "example.com", 80), 0);
    turns(20);
    cr_assert_eq(endpoint("b.mesh", 80), 2);
    cr_assert_eq(look("none.mesh", 80), MESH_E_AGAIN, "a state-of-the-world server is only silent");
    turns(1600);
    cr_assert_eq(look("none.mesh", 80), MESH_E_DENIED, "for 15 s");
    cr_assert_eq(mesh_view_asked(f.view, "example.com", 80), MESH_E_DENIED, "not of the mesh's domains");
}

Test(publisher, changes_arrive_and_a_removed_cluster_leaves) {
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    turns(20);
    cr_assert_eq(endpoint("a.mesh", 80), 1);
    scripted_set("resources:\n" EDS("a.mesh") CLA("a.mesh", "10.0.0.7"));
    turns(30);
    cr_assert_eq(endpoint("a.mesh", 80), 7);
    scripted_set("resources:\n" EDS("other.mesh"));
    turns(30);
    cr_assert_eq(look("a.mesh", 0), MESH_E_DENIED);
}

Test(publisher, silence_about_a_bare_name_is_no_denial) {
    scripted_silent = true;
    cr_assert_eq(mesh_view_ask(f.view, "b.mesh", 0), 0);
    turns(50);
    cr_assert_eq(look("b.mesh", 0), MESH_E_AGAIN);
    turns(80);
    cr_assert_eq(look("b.mesh", 0), 0, "an address to connect to");
}

Test(publisher, only_one_process_publishes) {
    struct mesh_publisher *other = p;
    cr_assert_eq(begin(), MESH_E_AGAIN);
    p = other;
    cr_assert_not(mesh_publisher_missing(f.view, now));
    pid_t child = fork();
    if (child == 0)
        _exit(mesh_publisher_missing(f.view, now) || begin() != MESH_E_AGAIN);
    int status;
    waitpid(child, &status, 0);
    cr_assert_eq(status, 0);
}

Test(publisher, silent_one_is_replaced_and_stops_when_it_wakes) {
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    turns(20);
    struct mesh_publisher *stopped = p;
    now += 2 * MESH_SEC;
    cr_assert(mesh_publisher_missing(f.view, now));
    scripted_away = true; /* the new one hears nothing for now */
    cr_assert_eq(begin(), 0);
    turns(20);
    cr_assert_eq(endpoint("a.mesh", 80), 1, "no gap");
    cr_assert_eq(mesh_publisher_turn(stopped, now), MESH_E_AGAIN);
    mesh_publisher_free(stopped);
    turns(20);
    scripted_away = false;
    scripted_set("resources:\n" EDS("a.mesh") CLA("a.mesh", "10.0.0.9"));
    turns(30);
    cr_assert_eq(endpoint("a.mesh", 80), 9);
}

Test(publisher, killed_one_leaves_everything_in_place) {
    mesh_publisher_free(p);
    pid_t child = fork();
    if (child == 0) {
        if (begin() != 0 || mesh_view_ask(f.view, "a.mesh", 0) != 0)
            _exit(1);
        turns(20);
        raise(SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    cr_assert(WIFSIGNALED(status));
    cr_assert_eq(endpoint("a.mesh", 80), 1);
    now += MESH_SEC;
    cr_assert(mesh_publisher_missing(f.view, now), "its process is gone, that is enough");
    scripted_set("resources:\n" EDS("a.mesh") CLA("a.mesh", "10.0.0.3"));
    cr_assert_eq(begin(), 0);
    cr_assert_eq(endpoint("a.mesh", 80), 1);
    turns(30);
    cr_assert_eq(endpoint("a.mesh", 80), 3);
}

Test(publisher, agent_comes_first) {
    pid_t child = fork();
    if (child == 0) {
        mesh_publisher_claim(f.view, true);
        pause();
    }
    for (int i = 0; i < 1000 && mesh_publisher_turn(p, now) == 0; i++)
        usleep(10000);
    cr_assert_eq(mesh_publisher_turn(p, now), MESH_E_AGAIN);
    mesh_publisher_free(p);
    cr_assert_eq(begin(), MESH_E_AGAIN);
    cr_assert_not(mesh_publisher_missing(f.view, now), "it is not ours to step in");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    cr_assert(mesh_publisher_missing(f.view, now));
    cr_assert_eq(begin(), 0);
}

Test(publisher, file_wins_and_is_followed) {
    stop(); /* with a view of its own */
    open_view();
    f.cfg.file = f.file;
    fixture_write(
        &f, "services:\n  a.mesh: {endpoints: ['10.9.0.1:80']}\n  c.mesh: {endpoints: ['10.9.0.2:80']}\n");
    scripted_set("resources:\n" EDS("a.mesh") CLA("a.mesh", "10.0.0.1") EDS("b.mesh")
                     CLA("b.mesh", "10.0.0.2"));
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(endpoint("c.mesh", 80), 2, "at once, before any control plane");
    cr_assert_eq(begin(), 0);
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    cr_assert_eq(mesh_view_ask(f.view, "b.mesh", 0), 0);
    turns(20);
    struct mesh_route r;
    cr_assert_eq(fixture_connect(f.view, "a.mesh", 80, 0, &r), 0);
    struct mesh_cluster_view cv;
    uint64_t seq;
    cr_assert_eq(mesh_view_cluster(f.view, &r, &cv, &seq), 0);
    cr_assert_eq(cv.endpoints[0].addr[1], 9, "the file's");
    cr_assert_eq(endpoint("b.mesh", 80), 2);
    fixture_write(&f, "services:\n  d.mesh: {endpoints: ['10.9.0.4:80']}\n");
    turns(150);
    cr_assert_eq(endpoint("d.mesh", 80), 4);
    cr_assert_eq(endpoint("a.mesh", 80), 1, "the control plane's, now that the file says nothing");
    cr_assert_eq(look("c.mesh", 0), MESH_E_AGAIN);
}

Test(publisher, seed_serves_until_the_control_plane_has_answered) {
    stop(); /* with a view of its own */
    open_view();
    fixture_write(
        &f, "services:\n  a.mesh: {endpoints: ['10.9.0.1:80']}\n  s.mesh: {endpoints: ['10.9.0.2:80']}\n");
    f.cfg.seed = f.file;
    scripted_set("resources:\n" EDS("a.mesh") CLA("a.mesh", "10.0.0.5"));
    scripted_away = true;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(endpoint("a.mesh", 80), 1);
    cr_assert_eq(begin(), 0);
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    turns(50);
    cr_assert_eq(endpoint("a.mesh", 80), 1);
    cr_assert_eq(endpoint("s.mesh", 80), 2);
    scripted_away = false;
    turns(50);
    cr_assert_eq(endpoint("a.mesh", 80), 5);
    cr_assert_eq(look("s.mesh", 0), MESH_E_AGAIN, "the seed has ended");
}

Test(publisher, control_plane_that_goes_away_changes_nothing) {
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    turns(20);
    scripted_away = true;
    turns(3000);
    cr_assert_eq(endpoint("a.mesh", 80), 1);
    cr_assert_eq(look("a.mesh", 0), 0);
}

Test(publisher, view_that_is_too_old_is_not_used_until_it_is_confirmed) {
    struct mesh_answer a;
    bool is_private;
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    turns(150);
    cr_assert(mesh_publisher_fresh(f.view, 60));
    atomic_store(&mesh_view_head(f.view)->confirmed, mesh_wall() - 100);
    struct mesh_view *old = f.view;
    f.cfg.max_age = 50 * MESH_SEC;
    cr_assert_eq(mesh_view_open(&f.cfg, &f.view, &is_private, &f.why), 0);
    cr_assert_neq(look("a.mesh", 0), 0, "too old");
    cr_assert_eq(mesh_view_name(old, "a.mesh", &a), 0, "who was there before goes on");
    turns(150);
    cr_assert_eq(look("a.mesh", 0), 0, "confirmed");
    mesh_publisher_free(p);
    p = NULL;
    mesh_view_close(old);
}

Test(publisher, report_tells_of_servers_and_resources) {
    struct mesh_report *r;
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    turns(150);
    cr_assert_eq(mesh_view_report(f.view, now, &r), 0);
    cr_assert_eq(r->pid, getpid());
    cr_assert_eq(r->nservers, 1);
    cr_assert_str_eq(r->servers[0].uri, "127.0.0.1:1");
    cr_assert_eq(r->servers[0].state, MESH_CHANNEL_UP);
    cr_assert_gt(r->servers[0].acks, 0);
    cr_assert_gt(r->confirmed, 0);
    cr_assert_eq(r->demanded, 1);
    uint32_t acked = 0;
    for (uint32_t i = 0; i < r->nresources; i++)
        acked += r->resources[i].status == MESH_XDS_ACKED && strcmp(r->resources[i].name, "a.mesh") == 0;
    cr_assert_eq(acked, 2, "cluster and endpoints");
    free(r);
}

Test(publisher, idle_names_are_let_go) {
    struct mesh_demand d;
    uint32_t n = 0;
    cr_assert_eq(mesh_view_ask(f.view, "a.mesh", 0), 0);
    turns(20);
    cr_assert_eq(look("a.mesh", 0), 0);
    now += 700 * MESH_SEC;
    for (int i = 0; i < 20; i++) {
        now += MESH_SEC / 2;
        turn();
    }
    for (uint32_t i = 0; i < VIEW_DEMANDS; i++)
        n += mesh_demand_read(f.view, i, &d);
    cr_assert_eq(n, 0);
}

/* ---- health checks ----
 * 127.0.0.1:port of a listener here, which answers what it is told; 127.0.0.2:port, where it listens as well.
 */
static int checked[2];
static const char *said[2];

static uint16_t listen_twice(void) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    for (int i = 0; i < 2; i++) {
        sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)i);
        checked[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        cr_assert_eq(bind(checked[i], (struct sockaddr *)&sa, len), 0);
        cr_assert_eq(listen(checked[i], 64), 0);
        cr_assert_eq(getsockname(checked[i], (struct sockaddr *)&sa, &len), 0);
    }
    return ntohs(sa.sin_port);
}

/* Whom it has no answer for waits in the backlog. */
static void answer_checks(void) {
    static int conn[2];
    char asked[1024];
    for (int i = 0; i < 2; i++) {
        if (conn[i] <= 0 && said[i])
            conn[i] = accept4(checked[i], NULL, NULL, SOCK_NONBLOCK);
        ssize_t n = conn[i] > 0 ? recv(conn[i], asked, sizeof asked, 0) : -1;
        if (n < 0)
            continue;
        if (n > 0)
            cr_assert_eq(send(conn[i], said[i], strlen(said[i]), MSG_NOSIGNAL), (ssize_t)strlen(said[i]));
        close(conn[i]);
        conn[i] = 0;
    }
}

/* The health of the endpoint that ends in `last`, or -1. */
static int health_of(const char *name, uint8_t last) {
    struct mesh_route r;
    struct mesh_cluster_view cv;
    uint64_t seq;
    if (fixture_connect(f.view, name, 80, 0, &r) != 0 || mesh_view_cluster(f.view, &r, &cv, &seq) != 0)
        return -1;
    for (uint32_t i = 0; i < cv.n; i++)
        if (cv.endpoints[i].addr[3] == last)
            return cv.endpoints[i].health;
    return -1;
}

static void turns_until(uint8_t last, int health) {
    for (int i = 0; i < 5000 && health_of("h.mesh", last) != health; i++) {
        answer_checks();
        turns(1);
    }
    cr_assert_eq(health_of("h.mesh", last), health);
}

#define CHECKED(ends)                                                                                        \
    "resources:\n" T(                                                                                        \
        "cluster.v3.Cluster") "  name: h.mesh\n  type: EDS\n  eds_cluster_config: {eds_config: "             \
                              "{ads: {}}}\n  transport_socket: {name: "                                      \
                              "envoy.transport_sockets.raw_buffer}\n  health_checks: [{timeout: "            \
                              "1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, "             \
                              "http_health_check: {path: /}}]\n" T(                                          \
                                  "endpoint.v3.ClusterLoadAssignment") "  cluster_name: h.mesh\n  "          \
                                                                       "endpoints: [{lb_endpoints: [" ends   \
                                                                       "]}]\n"
#define END(addr) "{endpoint: {address: {socket_address: {address: " addr ", port_value: %u}}}}"

Test(publisher, checked_endpoints_that_came_by_wire_leave_and_come_back, .timeout = 120) {
    static const char good[] = "HTTP/1.1 200 OK\r\n\r\n", bad[] = "HTTP/1.1 503 No\r\n\r\n";
    char text[2048];
    unsigned port = listen_twice();
    said[0] = said[1] = good;
    snprintf(text, sizeof text, CHECKED(END("127.0.0.1")), port);
    scripted_set(text);
    cr_assert_eq(mesh_view_ask(f.view, "h.mesh", 0), 0);
    for (int i = 0; i < 5000 && health_of("h.mesh", 1) < 0; i++) {
        answer_checks();
        turns(1);
    }
    cr_assert_eq(health_of("h.mesh", 1), MESH_HEALTH_UNKNOWN, "a new cluster waits for its first checks");
    said[0] = bad;
    turns_until(1, MESH_HEALTH_UNHEALTHY);
    said[0] = good;
    turns_until(1, MESH_HEALTH_UNKNOWN);
    said[1] = NULL;
    snprintf(text, sizeof text, CHECKED(END("127.0.0.1") ", " END("127.0.0.2")), port, port);
    scripted_set(text);
    turns_until(2, MESH_HEALTH_UNHEALTHY); /* it joined, and has not passed */
    cr_assert_eq(health_of("h.mesh", 1), MESH_HEALTH_UNKNOWN);
    said[1] = good;
    turns_until(2, MESH_HEALTH_UNKNOWN);
    close(checked[0]);
    close(checked[1]);
}

Test(publisher, one_that_takes_over_asks_before_it_says_who_is_healthy, .timeout = 120) {
    static const char good[] = "HTTP/1.1 200 OK\r\n\r\n";
    char text[2048];
    unsigned port = listen_twice();
    said[0] = said[1] = good;
    snprintf(text, sizeof text, CHECKED(END("127.0.0.1")), port);
    scripted_set(text);
    cr_assert_eq(mesh_view_ask(f.view, "h.mesh", 0), 0);
    turns_until(1, MESH_HEALTH_UNKNOWN);
    mesh_publisher_free(p);
    cr_assert_eq(begin(), 0);
    for (int i = 0; i < 60; i++) { /* patience ends after 100 */
        turns(1);
        cr_assert_eq(health_of("h.mesh", 1), MESH_HEALTH_UNKNOWN);
    }
    for (int i = 0; i < 200; i++) {
        answer_checks();
        turns(1);
        cr_assert_eq(health_of("h.mesh", 1), MESH_HEALTH_UNKNOWN);
    }
    close(checked[0]);
    close(checked[1]);
}

/* ---- zones ----
 * As many percent of the weight of h.mesh's localities as the first one has; -1: they do not weigh. */
static int share_of_first(void) {
    struct mesh_route r;
    struct mesh_cluster_view cv;
    uint64_t seq;
    if (fixture_connect(f.view, "h.mesh", 80, 0, &r) != 0 || mesh_view_cluster(f.view, &r, &cv, &seq) != 0 ||
        cv.n != 6 || !cv.policy->locality_weighted)
        return -1;
    double a = cv.endpoints[0].locality_weight, b = cv.endpoints[5].locality_weight;
    return (int)(100 * a / (a + b) + 0.5);
}

#define EP(addr) "{endpoint: {address: {socket_address: {address: " addr ", port_value: 80}}}}"
#define THREE(x) EP("10.0." x ".1") ", " EP("10.0." x ".2") ", " EP("10.0." x ".3")
#define ZONE(name, ends) "{locality: {region: r, zone: " name "}, lb_endpoints: [" ends "]}"
#define ZONES(name, ends)                                                                                    \
    EDS(name)                                                                                                \
    T("endpoint.v3.ClusterLoadAssignment") "  cluster_name: " name "\n  endpoints: [" ends "]\n"

Test(publisher, zones_weigh_by_the_bootstraps_node_and_members_that_came_by_wire, .timeout = 60) {
    stop(); /* with a view of its own */
    open_view();
    f.cfg.bootstrap_text =
        "{\"xds_servers\": [{\"server_uri\": \"127.0.0.1:1\", \"channel_creds\": [{\"type\": "
        "\"insecure\"}]}], \"node\": {\"id\": \"test\", \"cluster\": \"us.mesh\", \"locality\": "
        "{\"region\": \"r\", \"zone\": \"a\"}}}";
    /* as build_zone_test has it: 3 of our 4 in a, which holds half of theirs: two thirds stay */
    scripted_set("resources:\n" ZONES("h.mesh", ZONE("a", THREE("3")) ", " ZONE("b", THREE("4")))
                     ZONES("us.mesh", ZONE("a", THREE("1")) ", " ZONE("b", EP("10.0.2.1"))));
    cr_assert_eq(fixture_open(&f), 0, "%s", f.why.text);
    cr_assert_eq(begin(), 0);
    cr_assert_eq(mesh_view_ask(f.view, "h.mesh", 0), 0);
    cr_assert_eq(mesh_view_ask(f.view, "us.mesh", 0), 0);
    turns(30);
    cr_assert_eq(share_of_first(), 67);
    /* only our own members change */
    scripted_set("resources:\n" ZONES("h.mesh", ZONE("a", THREE("3")) ", " ZONE("b", THREE("4")))
                     ZONES("us.mesh", ZONE("a", THREE("1")) ", " ZONE("b", THREE("2"))));
    turns(30);
    cr_assert_eq(share_of_first(), 100, "half of us, half of them");
}
