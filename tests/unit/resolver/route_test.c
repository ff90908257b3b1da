/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/resolver/fixture.h"

#define TYPE(t) "- '@type': type.googleapis.com/envoy.config." t "\n"
#define CLUSTER(name, addr)                                                                                  \
    TYPE("cluster.v3.Cluster")                                                                               \
    "  name: '" name "'\n"                                                                                   \
    "  load_assignment: {cluster_name: '" name                                                               \
    "', endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: " addr                   \
    ", port_value: 80}}}}]}]}\n"
#define TCP(cluster)                                                                                         \
    "  filter_chains: [{filters: [{name: envoy.filters.network.tcp_proxy, typed_config: {'@type': "          \
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, " cluster   \
    "}}]}]\n"
#define VHOST(domain, cluster)                                                                               \
    "  - {name: '" domain "', domains: ['" domain                                                            \
    "'], routes: [{match: {prefix: /}, route: {cluster: '" cluster "'}}]}\n"
#define ROUTES(name) TYPE("route.v3.RouteConfiguration") "  name: " name "\n  virtual_hosts:\n"

/* Every name has a cluster of its own name; each rule above takes some of them away. */
static const char precedence[] = "resources:\n" CLUSTER("a.mesh", "10.0.0.1") CLUSTER(
    "b.mesh", "10.0.0.1") CLUSTER("c.mesh", "10.0.0.1") CLUSTER("outbound|81||d.mesh",
                                                                "10.0.0.1") CLUSTER("e.mesh:82", "10.0.0.1")
    CLUSTER("listener", "10.0.0.2") CLUSTER("domain", "10.0.0.3") CLUSTER("suffix", "10.0.0.4") CLUSTER(
        "address", "10.0.0.5") TYPE("listener.v3.Listener") "  name: 'a.mesh:80'\n" TCP("cluster: listener")
        TYPE("listener.v3.Listener") "  name: here\n"
                                     "  address: {socket_address: {address: 10.9.9.9, port_value: 80}}\n" TCP(
                                         "cluster: address") ROUTES("routes") VHOST("a.mesh", "domain")
                                         VHOST("b.mesh:80", "domain") VHOST("*.mesh", "suffix")
                                             VHOST("10.8.8.8", "domain");

static void leads_to(const struct fixture *f, const char *name, uint16_t port, const char *cluster) {
    struct mesh_route r;
    cr_assert_eq(fixture_connect(f->view, name, port, 0, &r), 0, "%s:%u", name, port);
    cr_assert_str_eq(r.cluster, cluster, "%s:%u leads to %s", name, port, r.cluster);
}

Test(route, rules_win_in_the_order_that_is_documented) {
    struct fixture f;
    struct mesh_route r;
    fixture_start(&f, precedence);
    leads_to(&f, "a.mesh", 80, "listener");
    leads_to(&f, "a.mesh", 81, "domain");
    leads_to(&f, "b.mesh", 80, "domain");
    leads_to(&f, "b.mesh", 81, "suffix");
    leads_to(&f, "c.mesh", 80, "suffix");
    leads_to(&f, "d.mesh", 81, "suffix");
    leads_to(&f, "unlisted.mesh", 1, "suffix");
    cr_assert_eq(fixture_route(f.view, "10.9.9.9", 80, &r), 0);
    cr_assert_str_eq(r.cluster, "address");
    cr_assert_str_eq(r.name, "10.9.9.9:80");
    cr_assert_eq(fixture_route(f.view, "10.9.9.9", 81, &r), MESH_E_NOTFOUND);
    cr_assert_eq(fixture_route(f.view, "10.8.8.8", 7, &r), 0);
    cr_assert_str_eq(r.cluster, "domain");
    fixture_done(&f);
}

Test(route, clusters_are_names_without_anything_else) {
    struct fixture f;
    struct mesh_route r;
    fixture_start(&f, "resources:\n" CLUSTER("plain.mesh", "10.0.0.1") CLUSTER("port.mesh:82", "10.0.0.1")
                          CLUSTER("outbound|83||istio.mesh", "10.0.0.1")
                              CLUSTER("outbound|83|v1|subset.mesh", "10.0.0.1"));
    leads_to(&f, "plain.mesh", 1234, "plain.mesh");
    leads_to(&f, "port.mesh", 82, "port.mesh:82");
    cr_assert_eq(fixture_connect(f.view, "port.mesh", 83, 0, &r), MESH_E_NOROUTE);
    leads_to(&f, "istio.mesh", 83, "outbound|83||istio.mesh");
    cr_assert_eq(fixture_connect(f.view, "subset.mesh", 83, 0, &r), MESH_E_NOTFOUND);
    fixture_done(&f);
}

Test(route, by_name_and_by_address_agree) {
    struct fixture f;
    struct mesh_route r;
    fixture_start(&f, precedence);
    cr_assert_eq(mesh_view_route_name(f.view, "a.mesh", 80, 0, &r), 0);
    cr_assert_str_eq(r.cluster, "listener");
    cr_assert_str_eq(r.name, "a.mesh:80");
    cr_assert_eq(mesh_view_route_name(f.view, "A.mesh.", 0, 0, &r), 0);
    cr_assert_eq(mesh_view_route_name(f.view, "nobody.example", 0, 0, &r), MESH_E_NOTFOUND);
    fixture_done(&f);
}

Test(route, v4_mapped_address_counts_as_ipv4) {
    struct fixture f;
    struct mesh_route r;
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    fixture_start(&f, precedence);
    cr_assert_eq(inet_pton(AF_INET6, "::ffff:10.9.9.9", &sa.sin6_addr), 1);
    cr_assert_eq(mesh_view_route(f.view, (struct sockaddr *)&sa, sizeof sa, 0, &r), 0);
    cr_assert_str_eq(r.cluster, "address");
    fixture_done(&f);
}

Test(route, other_address_families_go_to_libc) {
    struct fixture f;
    struct mesh_route r;
    struct sockaddr sa = {.sa_family = AF_UNIX};
    fixture_start(&f, precedence);
    cr_assert_eq(mesh_view_route(f.view, &sa, sizeof sa, 0, &r), MESH_E_NOTFOUND);
    struct sockaddr_in in = fixture_addr("10.9.9.9", 80);
    cr_assert_eq(mesh_view_route(f.view, (struct sockaddr *)&in, 4, 0, &r), MESH_E_NOTFOUND);
    fixture_done(&f);
}

static const char weighted[] = "resources:\n" CLUSTER("one", "10.0.0.1") CLUSTER("two", "10.0.0.2")
    TYPE("listener.v3.Listener") "  name: split.mesh\n" TCP(
        "max_connect_attempts: 7, weighted_clusters: {clusters: [{name: one, weight: 30}, {name: two, "
        "weight: 70}]}");

Test(route, weights_split_as_they_say) {
    struct fixture f;
    struct mesh_route r;
    int two = 0;
    fixture_start(&f, weighted);
    for (uint64_t i = 0; i < 1000; i++) {
        cr_assert_eq(fixture_connect(f.view, "split.mesh", 80, i, &r), 0);
        two += strcmp(r.cluster, "two") == 0;
    }
    cr_assert_eq(two, 700);
    cr_assert_eq(r.attempts, 7);
    fixture_done(&f);
}

Test(route, cluster_that_is_not_there_has_no_endpoint) {
    struct fixture f;
    struct mesh_route r;
    struct mesh_why why;
    struct sockaddr_in sa;
    fixture_start(&f,
                  "resources:\n" TYPE("listener.v3.Listener") "  name: lost.mesh\n" TCP("cluster: nowhere"));
    cr_assert_eq(fixture_connect(f.view, "lost.mesh", 80, 0, &r), MESH_E_NOENDPOINT);
    sa = fixture_addr(fixture_v4(f.view, "lost.mesh"), 80);
    cr_assert_eq(mesh_view_route_why(f.view, (struct sockaddr *)&sa, sizeof sa, &why), MESH_E_NOENDPOINT);
    cr_assert(strlen(why.text) > 0);
    fixture_done(&f);
}

Test(route, virtual_address_that_nobody_has_has_no_route) {
    struct fixture f;
    struct mesh_route r;
    fixture_start(&f, precedence);
    cr_assert_eq(fixture_route(f.view, "241.200.200.200", 80, &r), MESH_E_NOROUTE);
    cr_assert_eq(fixture_route(f.view, "10.200.200.200", 80, &r), MESH_E_NOTFOUND);
    fixture_done(&f);
}

Test(route, exclude_wins_over_view_and_capture) {
    struct fixture f;
    struct mesh_route r;
    struct mesh_cidr_list *exclude, *capture;
    fixture_init(&f, precedence);
    cr_assert_eq(mesh_cidr_parse("10.9.9.9:80,10.7.0.0/24,c.mesh:99", true, &exclude, NULL), 0);
    cr_assert_eq(mesh_cidr_parse("10.7.0.0/16", false, &capture, NULL), 0);
    f.cfg.exclude = exclude;
    f.cfg.capture = capture;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(fixture_route(f.view, "10.9.9.9", 80, &r), MESH_E_NOTFOUND);
    cr_assert_eq(fixture_route(f.view, "10.7.0.1", 80, &r), MESH_E_NOTFOUND);
    cr_assert_eq(fixture_route(f.view, "10.7.1.1", 80, &r), 0);
    cr_assert(r.original_dst && !r.plain);
    cr_assert_str_eq(r.name, "10.7.1.1:80");
    cr_assert_eq(fixture_connect(f.view, "c.mesh", 99, 0, &r), MESH_E_NOROUTE);
    cr_assert_eq(fixture_connect(f.view, "c.mesh", 98, 0, &r), 0);
    free(exclude);
    free(capture);
    fixture_done(&f);
}

static const char clear_text[] = "services:\n  clear.mesh: {endpoints: ['10.0.0.1:80'], tls: off}\n  "
                                 "said.mesh: {endpoints: ['10.0.0.1:80']}\n";

Test(route, plaintext_is_only_what_says_so) {
    struct fixture f;
    struct mesh_route r;
    fixture_start(&f, clear_text);
    cr_assert_eq(fixture_connect(f.view, "clear.mesh", 80, 0, &r), 0);
    cr_assert(r.plain);
    cr_assert_eq(fixture_connect(f.view, "said.mesh", 80, 0, &r), 0);
    cr_assert_not(r.plain);
    fixture_done(&f);
}

Test(route, tls_view_reads_silence_as_plaintext) {
    struct fixture f;
    struct mesh_route r;
    fixture_init(&f, clear_text);
    f.cfg.tls = MESH_TLS_VIEW;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(fixture_connect(f.view, "said.mesh", 80, 0, &r), 0);
    cr_assert(r.plain);
    fixture_done(&f);
}

Test(route, tls_required_refuses_plaintext) {
    struct fixture f;
    struct mesh_route r;
    fixture_init(&f, clear_text);
    f.cfg.tls = MESH_TLS_REQUIRED;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(fixture_connect(f.view, "clear.mesh", 80, 0, &r), MESH_E_IDENTITY);
    cr_assert_eq(fixture_connect(f.view, "said.mesh", 80, 0, &r), 0);
    fixture_done(&f);
}

static const char guarded[] = "resources:\n" CLUSTER("back", "10.0.0.1") TYPE(
    "listener.v3.Listener") "  name: guarded.mesh\n"
                            "  filter_chains: [{filters: [{name: envoy.filters.network.ext_authz}, {name: "
                            "envoy.filters.network.tcp_proxy, typed_config: {'@type': "
                            "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, "
                            "stat_prefix: x, cluster: back}}]}]\n" TYPE(
                                "listener.v3.Listener") "  name: observed.mesh\n"
                                                        "  filter_chains: [{filters: [{name: istio.stats}, "
                                                        "{name: envoy.filters.network.tcp_proxy, "
                                                        "typed_config: {'@type': "
                                                        "type.googleapis.com/"
                                                        "envoy.extensions.filters.network.tcp_proxy.v3."
                                                        "TcpProxy, stat_prefix: x, cluster: back}}]}]\n" TYPE(
                                                            "cluster.v3.Cluster") "  name: dns.mesh\n  type: "
                                                                                  "STRICT_DNS\n"
                                                                                  "  load_assignment: "
                                                                                  "{cluster_name: dns.mesh, "
                                                                                  "endpoints: "
                                                                                  "[{lb_endpoints: "
                                                                                  "[{endpoint: {address: "
                                                                                  "{socket_address: "
                                                                                  "{address: db.example, "
                                                                                  "port_value: 80}}}}]}]}\n";

static void remember(void *arg, const char *resource, const char *why) {
    if (strstr(why, "ext_authz"))
        *(int *)arg |= 1;
}

Test(route, what_an_unsupported_filter_guards_is_refused_and_named) {
    struct fixture f;
    struct mesh_route r;
    int seen = 0;
    fixture_start(&f, guarded);
    cr_assert_eq(fixture_connect(f.view, "guarded.mesh", 80, 0, &r), MESH_E_UNSUPPORTED);
    cr_assert_eq(fixture_connect(f.view, "observed.mesh", 80, 0, &r), 0);
    cr_assert_eq(fixture_connect(f.view, "dns.mesh", 80, 0, &r), MESH_E_AGAIN,
                 "nobody has looked db.example up yet");
    cr_assert_eq(mesh_view_each_fault(f.view, remember, &seen), 1);
    cr_assert_eq(seen, 1);
    fixture_done(&f);
}

Test(route, generation_tells_that_a_cluster_is_gone) {
    struct fixture f;
    struct mesh_route r;
    struct mesh_cluster_view cv;
    struct mesh_target *t;
    uint64_t seq;
    fixture_start(&f, "services:\n  a.mesh: {endpoints: ['10.0.0.1:80']}\n");
    cr_assert_eq(fixture_connect(f.view, "a.mesh", 80, 0, &r), 0);
    cr_assert_eq(mesh_view_cluster(f.view, &r, &cv, &seq), 0);
    cr_assert_eq(cv.n, 1);
    cr_assert(mesh_view_still(f.view, seq));
    fixture_write(&f, "services:\n  b.mesh: {endpoints: ['10.0.0.1:80']}\n");
    cr_assert_eq(mesh_view_refresh(f.view, UINT64_MAX / 2, &f.why), 1);
    cr_assert_eq(mesh_view_cluster(f.view, &r, &cv, &seq), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_view_target(f.view, &r, 0, &t), MESH_E_NOTFOUND);
    fixture_done(&f);
}

static const char match[] = "resources:\n" TYPE(
    "cluster.v3.Cluster") "  name: mixed.mesh\n"
                          "  transport_socket_matches:\n"
                          "  - {name: tls, match: {tlsMode: istio}, transport_socket: {name: "
                          "envoy.transport_sockets.tls, typed_config: {'@type': "
                          "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, "
                          "sni: inner}}}\n"
                          "  - {name: clear, match: {}, transport_socket: {name: "
                          "envoy.transport_sockets.raw_buffer, typed_config: {'@type': "
                          "type.googleapis.com/"
                          "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}\n"
                          "  load_assignment: {cluster_name: mixed.mesh, endpoints: [{lb_endpoints: [\n"
                          "    {endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}, "
                          "metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}}}},\n"
                          "    {endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}, "
                          "load_balancing_weight: 3, health_status: DRAINING}]}]}\n";

Test(route, transport_socket_matches_choose_by_endpoint) {
    struct fixture f;
    struct mesh_route r;
    struct mesh_cluster_view cv;
    struct mesh_target *t;
    uint64_t seq;
    fixture_start(&f, match);
    cr_assert_eq(fixture_connect(f.view, "mixed.mesh", 80, 0, &r), 0);
    cr_assert_not(r.plain);
    cr_assert_eq(mesh_view_cluster(f.view, &r, &cv, &seq), 0);
    cr_assert_eq(cv.endpoints[0].transport, 1);
    cr_assert_eq(cv.endpoints[1].transport, 2);
    cr_assert_eq(cv.endpoints[1].weight, 3);
    cr_assert_eq(cv.endpoints[1].health, MESH_HEALTH_DRAINING);
    cr_assert_eq(mesh_view_target(f.view, &r, 1, &t), 0);
    cr_assert(!t->plain);
    cr_assert_str_eq(t->sni, "inner");
    free(t);
    cr_assert_eq(mesh_view_target(f.view, &r, 2, &t), 0);
    cr_assert(t->plain);
    free(t);
    cr_assert_eq(mesh_view_target(f.view, &r, 3, &t), MESH_E_INTERNAL);
    fixture_done(&f);
}

/* ---- address ranges, server names, what is no name of ours ---- */
#define ON(name, address, port, match, cluster)                                                              \
    TYPE("listener.v3.Listener")                                                                             \
    "  name: " name "\n  traffic_direction: OUTBOUND\n  address: {socket_address: {address: " address        \
    ", port_value: " port "}}\n"                                                                             \
    "  filter_chains: [{filter_chain_match: {" match "}, filters: [{name: tcp, typed_config: {'@type': "     \
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: "  \
    "'" cluster "'}}]}]\n"
static const char ranges[] = "resources:\n" CLUSTER("wide", "10.0.0.1") CLUSTER("narrow", "10.0.0.2")
    CLUSTER("six", "10.0.0.3") CLUSTER("exact", "10.0.0.4") CLUSTER("inner", "10.0.0.5")
        ON("wide", "0.0.0.0", "9000", "prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]", "wide")
            ON("narrow", "0.0.0.0", "9000",
               "prefix_ranges: [{address_prefix: 10.20.255.255, prefix_len: 12}]", "narrow")
                ON("exact", "0.0.0.0", "9000", "prefix_ranges: [{address_prefix: 10.20.0.1, prefix_len: 32}]",
                   "exact") ON("six", "'::'", "9000",
                               "prefix_ranges: [{address_prefix: '2001:db8::', prefix_len: 33}]", "six")
                    ON("tls", "0.0.0.0", "443",
                       "transport_protocol: tls, server_names: [inner.example, '*.wild.example']", "inner");

static void range_is(const struct fixture *f, const char *addr, uint16_t port, const char *cluster) {
    struct mesh_route r;
    int rc = fixture_route(f->view, addr, port, &r);
    cr_expect_eq(rc, cluster ? 0 : MESH_E_NOTFOUND, "%s:%u: %d", addr, port, rc);
    if (cluster && rc == 0)
        cr_expect_str_eq(r.cluster, cluster, "%s:%u leads to %s", addr, port, r.cluster);
}

Test(route, narrowest_range_of_the_port_decides) {
    struct fixture f;
    fixture_start(&f, ranges);
    range_is(&f, "10.200.3.4", 9000, "wide");
    range_is(&f, "10.20.3.4", 9000, "narrow");
    range_is(&f, "10.31.255.255", 9000, "narrow");
    range_is(&f, "10.32.0.0", 9000, "wide");
    range_is(&f, "10.20.0.1", 9000, "exact");
    range_is(&f, "10.20.3.4", 9001, NULL);
    range_is(&f, "11.0.0.1", 9000, NULL);
    fixture_done(&f);
}

static int route6(const struct fixture *f, const char *addr, struct mesh_route *ret) {
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(9000)};
    inet_pton(AF_INET6, addr, &sa.sin6_addr);
    return mesh_view_route(f->view, (struct sockaddr *)&sa, sizeof sa, 0, ret);
}

Test(route, range_of_ipv6_ends_inside_a_byte) {
    struct fixture f;
    struct mesh_route r;
    fixture_start(&f, ranges);
    cr_assert_eq(route6(&f, "2001:db8:7fff::1", &r), 0);
    cr_assert_str_eq(r.cluster, "six");
    cr_assert_eq(route6(&f, "2001:db8:8000::1", &r), MESH_E_NOTFOUND);
    fixture_done(&f);
}

Test(route, server_name_that_was_looked_up_chooses_the_chain) {
    struct fixture f;
    struct mesh_answer a;
    fixture_start(&f, ranges);
    leads_to(&f, "inner.example", 443, "inner");
    leads_to(&f, "a.wild.example", 443, "inner");
    cr_assert_eq(mesh_view_name(f.view, "a.wild.example", &a), 0);
    cr_assert(a.pattern);
    cr_assert_eq(mesh_view_name(f.view, "inner.example", &a), 0);
    cr_assert(!a.pattern);
    cr_assert_eq(mesh_view_name(f.view, "other.example", &a), MESH_E_NOTFOUND);
    fixture_done(&f);
}

Test(route, name_that_only_leaves_the_mesh_is_libc_s) {
    static const char leaving[] = "resources:\n" CLUSTER("back", "10.0.0.1") ROUTES("routes")
        VHOST("out.example", "PassthroughCluster") VHOST("in.example", "back");
    struct fixture f;
    struct mesh_answer a;
    fixture_start(&f, leaving);
    cr_assert_eq(mesh_view_name(f.view, "out.example", &a), MESH_E_NOTFOUND);
    cr_assert_eq(mesh_view_name(f.view, "in.example", &a), 0);
    fixture_done(&f);
}

#define STRUCT(inner)                                                                                        \
    "  filter_chains: [{filters: [{name: istio.stats, typed_config: {'@type': "                              \
    "type.googleapis.com/udpa.type.v1.TypedStruct, type_url: '" inner "', value: {}}}, {name: tcp, "         \
    "typed_config: {'@type': "                                                                               \
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: "  \
    "back}}]}]\n"

Test(route, guard_in_a_typed_struct_under_a_harmless_name_is_a_guard) {
    static const char wrapped[] = "resources:\n" CLUSTER("back", "10.0.0.1") TYPE(
        "listener.v3.Listener") "  name: 'good.mesh:80'\n" STRUCT("type.googleapis.com/stats.PluginConfig")
        TYPE("listener.v3.Listener") "  name: 'bad.mesh:80'\n" STRUCT(
            "type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz");
    struct fixture f;
    struct mesh_route r;
    fixture_start(&f, wrapped);
    leads_to(&f, "good.mesh", 80, "back");
    cr_assert_eq(fixture_connect(f.view, "bad.mesh", 80, 0, &r), MESH_E_UNSUPPORTED);
    fixture_done(&f);
}
