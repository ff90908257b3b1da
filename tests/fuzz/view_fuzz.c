/* SPDX-License-Identifier: Apache-2.0
 *
 * Hostile bytes in the mapped view. The input is a list of changes to a small good view: 3 bytes of place (in
 * the records, or with the top bit set anywhere in the file), one byte of value. Every question is then
 * asked, names are demanded and the demands read, and the source is published over it. Nothing may fault,
 * hang or read outside the mapping.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "resolver/blend.h"
#include "resolver/demand.h"
#include "resolver/publish.h"
#include "resolver/publisher.h"
#include "resolver/report.h"
#include "resolver/view.h"
#include "shim/base/clock.h"

enum { CHANGES_MAX = 64, RECORDS = 64 << 10 };

static const char source[] =
    "services:\n"
    "  a.mesh: {endpoints: ['10.0.0.1:80', '10.0.0.2:80'], addresses: [10.96.0.1], peers: "
    "['spiffe://shop/a']}\n"
    "  b.mesh:80: {endpoints: ['[fd00::1]:80'], policy: ring_hash, tls: off}\n"
    "resources:\n"
    "- '@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration\n"
    "  name: routes\n"
    "  virtual_hosts:\n"
    "  - {name: w, domains: ['*.wild.mesh', 'pre.*'], routes: [{match: {prefix: /}, route: "
    "{weighted_clusters: {clusters: [{name: a.mesh, weight: 1}, {name: 'b.mesh:80', weight: 2}]}}}]}\n"
    "- '@type': type.googleapis.com/envoy.config.listener.v3.Listener\n"
    "  name: in\n"
    "  address: {socket_address: {address: 0.0.0.0, port_value: 8080}}\n"
    "  filter_chains: [{filter_chain_match: {server_names: [a.mesh, '*.mesh'], prefix_ranges: "
    "[{address_prefix: 10.0.0.0, prefix_len: 8}]}, transport_socket: {name: tls, typed_config: {'@type': "
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: "
    "{validation_context: {match_subject_alt_names: [{prefix: 'spiffe://'}]}}}}, filters: [{name: rbac, "
    "typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: "
    "x, "
    "rules: {policies: {p: {permissions: [{not_rule: {destination_port: 81}}, {requested_server_name: "
    "{suffix: "
    "mesh}}], principals: [{and_ids: {ids: [{authenticated: {principal_name: {safe_regex: {regex: "
    "'.*/ns/.*'}}}}, "
    "{direct_remote_ip: {address_prefix: 0.0.0.0, prefix_len: 0}}]}}]}}}}}]}]\n"
    "- '@type': type.googleapis.com/envoy.config.listener.v3.Listener\n"
    "  name: ranges\n"
    "  traffic_direction: OUTBOUND\n"
    "  address: {socket_address: {address: 0.0.0.0, port_value: 8080}}\n"
    "  filter_chains: [{filter_chain_match: {prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}, "
    "filters: "
    "[{name: tcp, typed_config: {'@type': "
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: "
    "a.mesh}}]}]\n";

static struct mesh_view *view;
static uint8_t *good; /* the bytes of the view as it was built */
static size_t size;

static void ignore_name(void *arg, const char *name) {
}
static void ignore_fault(void *arg, const char *resource, const char *why) {
}
static void ignore_info(void *arg, const struct mesh_conn_info *info) {
}
static void ignore_cluster(void *arg, const struct mesh_route *r) {
}
static void ignore_process(void *arg, int pid, uint64_t tree, uint64_t since, const char *identity) {
}

static void ignore_resource(void *arg, const char *type_url, const char *name, const char *json) {
}

/* A control plane that cannot be reached: the report tells of its server. */
static int no_channel(const struct mesh_channel_config *cfg, struct mesh_channel **ret) {
    return MESH_E_NOMEM;
}

static void put_report(void) {
    static const struct mesh_xds_transport away = {.open = no_channel};
    struct mesh_xds_config cfg = {.bootstrap = view->bootstrap, .transport = &away};
    struct mesh_report_writer *w;
    struct mesh_xds *x;
    struct mesh_pub *pub;
    if (mesh_xds_new(&cfg, &x) < 0 || mesh_xds_want(x, "a.mesh", 80, 1) < 0 || mesh_report_open(&w) < 0 ||
        mesh_pub_open(view, mesh_now(), &pub) < 0 || mesh_report_write(w, pub, x, false, mesh_now()) < 0)
        exit(1);
    mesh_report_close(w);
    mesh_pub_close(pub);
    mesh_xds_free(x);
}

static void start(void) {
    char path[] = "/tmp/meshfuzz.XXXXXX";
    struct mesh_view_config cfg = {.file = path,
                                   .bootstrap_text =
                                       "{\"xds_servers\": [{\"server_uri\": \"h:1\", \"channel_creds\": "
                                       "[{\"type\": \"insecure\"}]}], \"node\": {\"id\": \"n\"}}",
                                   .domains = "mesh",
                                   .uid = geteuid()};
    struct mesh_why why;
    bool is_private;
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, source, sizeof source - 1) != (ssize_t)sizeof source - 1)
        exit(1);
    close(fd);
    if (mesh_view_open(&cfg, &view, &is_private, &why) < 0 || why.text[0]) {
        fprintf(stderr, "view_fuzz: %s\n", why.text);
        exit(1);
    }
    unlink(path);
    put_report();
    if (mesh_view_ask(view, "none.mesh", 80) < 0 || mesh_view_ask(view, "other.mesh", 0) < 0)
        exit(1);
    size = atomic_load(&mesh_view_head(view)->size);
    good = malloc(size);
    memcpy(good, view->base, size);
}

static void follow(const char *name) {
    struct mesh_route r;
    struct mesh_target *t;
    struct mesh_cluster_view cv;
    uint64_t seq;
    uint32_t slot;
    if (mesh_view_route_name(view, name, 80, 7, &r) != 0)
        return;
    for (uint8_t i = 0; i < 3; i++)
        if (mesh_view_target(view, &r, i, &t) == 0)
            free(t);
    if (mesh_view_cluster(view, &r, &cv, &seq) != 0)
        return;
    volatile uint8_t sum = 0;
    for (uint32_t i = 0; i < cv.n; i++) {
        size_t n = 0;
        const char *key = cv.hash_key(cv.view, cv.endpoints[i].hash_key, &n);
        sum ^= cv.endpoints[i].addr[0];
        sum ^= key && n ? (uint8_t)key[n - 1] : 0;
        if (mesh_ledger_take(view, 7, cv.endpoints[i].stat, MESH_LEDGER_SETTLED, &slot) == 0)
            mesh_ledger_release(view, 7, slot);
    }
    for (uint32_t i = 0; i < cv.table_len; i++)
        sum ^= ((const uint8_t *)cv.table)[i];
}

static void demand(void) {
    struct mesh_demand d;
    struct mesh_answer a;
    struct mesh_report *report;
    struct mesh_resources *before;
    (void)!mesh_view_name_at(view, "none.mesh", 80, &a);
    (void)!mesh_view_ask(view, "none.mesh", 80);
    (void)!mesh_view_asked(view, "other.mesh", 0);
    for (uint32_t i = 0; i < VIEW_DEMANDS; i++)
        if (mesh_demand_read(view, i, &d)) {
            (void)!mesh_demand_used(view, &d);
            mesh_demand_answer(view, &d, DEMAND_SILENT, mesh_now());
        }
    (void)!mesh_view_name(view, "other.mesh", &a);
    (void)!mesh_publisher_missing(view, mesh_now());
    if (mesh_view_report(view, mesh_now(), &report) == 0)
        free(report);
    if (mesh_blend_before(view, &before) == 0)
        mesh_resources_free(before);
    (void)!mesh_view_each_resource(view, ignore_resource, NULL);
}

static void ask_all(void) {
    static const char *const names[] = {"a.mesh", "b.mesh", "x.wild.mesh", "pre.z", "none.mesh"};
    static const char *const addrs[] = {"10.96.0.1", "10.0.0.1", "241.1.2.3"};
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(8080)};
    struct mesh_answer a;
    struct mesh_route r;
    struct mesh_inbound *in;
    struct mesh_view_info info;
    uint64_t seq = 0;
    char name[256], *text;
    for (int i = 0; i < 5; i++) {
        if (mesh_view_name(view, names[i], &a) == 0)
            (void)!mesh_view_name_of(view, 4, a.v4, name, sizeof name);
        follow(names[i]);
    }
    for (int i = 0; i < 3; i++) {
        inet_pton(AF_INET, addrs[i], &sa.sin_addr);
        (void)!mesh_view_route(view, (struct sockaddr *)&sa, sizeof sa, 1, &r);
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(4000)};
        struct mesh_facts facts = {
            .kind = MESH_FACTS_TLS, .has_cert = 1, .sni = "a.mesh", .peer = "spiffe://shop/ns/prod/sa/web"};
        struct mesh_caller who = {.local = (struct sockaddr *)&sa,
                                  .peer = (struct sockaddr *)&from,
                                  .local_len = sizeof sa,
                                  .peer_len = sizeof from,
                                  .facts = &facts};
        struct mesh_verdict verdict;
        if (mesh_view_inbound(view, &who, &in, NULL) == 0)
            free(in);
        (void)!mesh_view_authorize(view, &who, &verdict, NULL);
    }
    mesh_view_each_name(view, ignore_name, NULL);
    mesh_view_each_cluster(view, ignore_cluster, NULL);
    mesh_view_each_fault(view, ignore_fault, NULL);
    mesh_ledger_each(view, ignore_info, NULL);
    mesh_ledger_each_process(view, ignore_process, NULL);
    mesh_why_read(view, &seq, ignore_name, NULL);
    (void)!mesh_view_describe(view, &info);
    if (mesh_view_print(view, "a.mesh", true, &text) == 0)
        free(text);
    mesh_ledger_join(view, 7, getpid(), 1);
    mesh_ledger_settle(view, mesh_now());
    demand();
}

static void publish(void) {
    struct mesh_pub *pub;
    if (mesh_pub_open(view, mesh_now(), &pub) < 0)
        return;
    if (mesh_pub_cluster_remove(pub, "a.mesh") >= 0)
        (void)!mesh_pub_commit(pub, 1, 0);
    mesh_pub_close(pub);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    if (!view)
        start();
    memcpy(view->base, good, size);
    for (size_t i = 0; i + 4 <= n && i < CHANGES_MAX * 4; i += 4) {
        uint32_t at = (uint32_t)p[i] << 16 | (uint32_t)p[i + 1] << 8 | p[i + 2];
        size_t head = mesh_view_head(view)->head_size;
        size_t place = at & 0x800000 ? (at & 0x7fffff) % size : 0;
        if (!(at & 0x800000))
            place = (head < size ? head : 0) + at % RECORDS;
        view->base[place % size] = p[i + 3];
    }
    ask_all();
    publish();
    ask_all();
    return 0;
}
