/* SPDX-License-Identifier: Apache-2.0
 *
 * What the view costs: a full load per endpoint, a change of one cluster, attaching, a look-up among 1,000,
 * 10,000 and 100,000 names, a route and a cluster. Prints one line a figure; no goal is judged here.
 *     view_bench RUN_DIR
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "lb/lb.h"
#include "resolver/publish.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"

enum { CLUSTERS = 10000, ENDPOINTS = 10, CHANGES = 2000, LOOKUPS = 1000000, ATTACHES = 200 };

/* Time of this thread on a processor: the machine may be busy with other things. */
static uint64_t spent(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * MESH_SEC + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, int rc) {
    fprintf(stderr, "view_bench: %s: %s\n", what, mesh_err_text(rc));
    exit(1);
}

static struct mesh_view *attach(const char *run_dir, const char *domains) {
    struct mesh_view_config cfg = {.run_dir = run_dir, .domains = domains, .uid = geteuid()};
    struct mesh_view *v;
    struct mesh_why why;
    bool is_private;
    int rc = mesh_view_open(&cfg, &v, &is_private, &why);
    if (rc < 0)
        fail(why.text, rc);
    return v;
}

static void make_endpoints(struct mesh_endpoint *e, uint32_t cluster, uint32_t first) {
    memset(e, 0, ENDPOINTS * sizeof *e);
    for (uint32_t i = 0; i < ENDPOINTS; i++) {
        uint32_t addr = htonl(0x0a000000 + cluster * ENDPOINTS + i + first);
        memcpy(e[i].addr, &addr, 4);
        e[i].family = 4;
        e[i].port = 8080;
        e[i].weight = 1;
    }
}

static void put_cluster(struct mesh_pub *pub, uint32_t i, uint32_t first) {
    struct mesh_endpoint e[ENDPOINTS];
    struct view_config config = {.connect_timeout_ms = 1000};
    char name[64];
    snprintf(name, sizeof name, "service-%u.shop.mesh", i);
    struct mesh_cluster_in in = {
        .name = name, .config = &config, .config_len = sizeof config, .endpoints = e, .n = ENDPOINTS};
    make_endpoints(e, i, first);
    mesh_lb_policy_defaults(&in.policy);
    int rc = mesh_pub_cluster_put(pub, &in);
    if (rc < 0)
        fail("cluster", rc);
}

static void put_name(struct mesh_pub *pub, uint32_t i, uint32_t clusters) {
    char cluster[64], name[64];
    uint32_t id, ref;
    snprintf(cluster, sizeof cluster, "service-%u.shop.mesh", i % clusters);
    snprintf(name, sizeof name, "service-%u.shop.mesh", i);
    int rc = mesh_pub_cluster_id(pub, cluster, &id);
    struct view_target t = {id, 1};
    struct mesh_route_in route = {.text = "default", .targets = &t, .n = 1};
    struct view_entry entry = {.level = LEVEL_CLUSTER};
    if (rc == 0)
        rc = mesh_pub_route_put(pub, &route, &entry.route);
    struct mesh_name_in in = {.text = name,
                              .len = (uint32_t)strlen(name),
                              .entries = &entry,
                              .n = 1,
                              .clusters = &id,
                              .nclusters = 1};
    if (rc == 0)
        rc = mesh_pub_name_put(pub, &in, &ref);
    if (rc < 0)
        fail("name", rc);
}

static void load(struct mesh_view *v, uint32_t clusters, uint32_t names, const char *what) {
    struct mesh_pub *pub;
    uint64_t start = spent();
    int rc = mesh_pub_open(v, mesh_now(), &pub);
    if (rc == 0)
        rc = mesh_pub_fresh(pub);
    if (rc < 0)
        fail("publisher", rc);
    uint64_t opened = spent();
    for (uint32_t i = 0; i < clusters; i++)
        put_cluster(pub, i, 0);
    uint64_t put = spent();
    for (uint32_t i = 0; i < names; i++)
        put_name(pub, i, clusters);
    uint64_t named = spent();
    rc = mesh_pub_commit(pub, 1, mesh_wall());
    uint64_t end = spent();
    if (rc < 0)
        fail("commit", rc);
    mesh_pub_close(pub);
    printf("%-28s %8.1f ns an endpoint, %6.1f ns a name, open %.2f ms, commit %.2f ms, whole %.2f ms\n", what,
           (double)(put - opened) / (clusters * ENDPOINTS), (double)(named - put) / names,
           (double)(opened - start) / 1e6, (double)(end - named) / 1e6, (double)(end - start) / 1e6);
}

static void change_one(struct mesh_view *v, uint32_t clusters) {
    struct mesh_pub *pub;
    int rc = mesh_pub_open(v, mesh_now(), &pub);
    if (rc < 0)
        fail("publisher", rc);
    uint64_t start = spent(), worst = 0;
    for (uint32_t i = 0; i < CHANGES; i++) {
        uint64_t from = spent();
        rc = mesh_pub_begin(pub, mesh_now());
        put_cluster(pub, (i * 7919) % clusters, i & 1);
        if (rc == 0)
            rc = mesh_pub_commit(pub, 1, 0);
        if (rc < 0)
            fail("change", rc);
        uint64_t took = spent() - from;
        worst = took > worst ? took : worst;
    }
    printf("%-28s %8.0f ns, worst %.0f ns\n", "change of one cluster", (double)(spent() - start) / CHANGES,
           (double)worst);
    mesh_pub_close(pub);
}

static void look_up(struct mesh_view *v, uint32_t names) {
    static char text[4096][64];
    struct mesh_answer a;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 4096; i++)
        snprintf(text[i], sizeof text[i], "service-%u.shop.mesh", (uint32_t)(mesh_random() % names));
    uint64_t start = spent();
    for (uint32_t i = 0; i < LOOKUPS; i++) {
        if (mesh_view_name(v, text[i % 4096], &a) < 0)
            fail("look-up", MESH_E_NOTFOUND);
        sum += a.v4[3];
    }
    printf("look-up among %6u names   %8.1f ns (%u)\n", names, (double)(spent() - start) / LOOKUPS,
           (unsigned)sum & 1);
}

static void route_one(struct mesh_view *v) {
    struct mesh_answer a;
    struct mesh_route r;
    struct mesh_cluster_view cv;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(80)};
    uint64_t seq;
    if (mesh_view_name(v, "service-5.shop.mesh", &a) < 0)
        fail("name", MESH_E_NOTFOUND);
    memcpy(&sa.sin_addr, a.v4, 4);
    uint64_t start = spent();
    for (uint32_t i = 0; i < LOOKUPS; i++)
        if (mesh_view_route(v, (struct sockaddr *)&sa, sizeof sa, i, &r) < 0 ||
            mesh_view_cluster(v, &r, &cv, &seq) < 0)
            fail("route", MESH_E_NOTFOUND);
    printf("%-28s %8.1f ns\n", "route and cluster", (double)(spent() - start) / LOOKUPS);
}

static void attach_often(const char *run_dir, const char *domains) {
    uint64_t start = spent();
    for (int i = 0; i < ATTACHES; i++)
        mesh_view_close(attach(run_dir, domains));
    printf("%-28s %8.1f us\n", "attach and detach", (double)(spent() - start) / ATTACHES / 1e3);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "view_bench RUN_DIR\n");
        return 2;
    }
    struct mesh_view *v = attach(argv[1], "a");
    load(v, 100, 1000, "load 1,000 endpoints");
    look_up(v, 1000);
    attach_often(argv[1], "a");
    load(v, 1000, 10000, "load 10,000 endpoints");
    look_up(v, 10000);
    for (int i = 0; i < 3; i++)
        load(v, CLUSTERS, 100000, "load 100,000 endpoints");
    look_up(v, 100000);
    route_one(v);
    change_one(v, CLUSTERS);
    attach_often(argv[1], "a");
    mesh_view_close(v);
    return 0;
}
