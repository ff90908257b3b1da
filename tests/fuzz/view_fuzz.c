/* SPDX-License-Identifier: Apache-2.0
 *
 * Hostile bytes in the mapped view. The input is a list of changes to a small good view: 3 bytes of place (in
 * the records, or with the top bit set anywhere in the file), one byte of value. Every question is then
 * asked, and the source is published over it. Nothing may fault, hang or read outside the mapping.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "resolver/view.h"
#include "resolver/publish.h"
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
    "{validation_context: {match_subject_alt_names: [{prefix: 'spiffe://'}]}}}}}]\n";

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

static void start(void) {
    char path[] = "/tmp/meshfuzz.XXXXXX";
    struct mesh_view_config cfg = {.file = path, .domains = "mesh", .uid = geteuid()};
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
        if (mesh_view_inbound(view, (struct sockaddr *)&sa, sizeof sa, "a.mesh", &in) == 0)
            free(in);
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
