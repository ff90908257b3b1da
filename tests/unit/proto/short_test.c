/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/cluster.pb-c.h"
#include "tests/unit/proto/reading.h"

/* The short form and the long one that it stands for print alike. */
static char *printed(const char *text) {
    struct mesh_read_opts opts = {.file = "f"};
    struct mesh_resources *r = NULL;
    struct mesh_why why = {""};
    char *all = calloc(1, 1 << 16);
    cr_assert_eq(mesh_resources_read(text, strlen(text), &opts, &r, &why), 0, "%s: %s", text, why.text);
    for (size_t i = 0; i < r->n; i++) {
        char *one;
        cr_assert_eq(mesh_proto_print(r->items[i].msg, true, 2, &one), 0);
        strcat(strcat(strcat(strcat(all, r->items[i].type->short_name), "\n"), one), "\n");
        free(one);
    }
    mesh_resources_free(r);
    return all;
}

static void stands_for(const char *brief, const char *full) {
    char *a = printed(brief), *b = printed(full);
    cr_expect_str_eq(a, b, "%s\n%s", a, b);
    free(a);
    free(b);
}

static void fails(const char *text, const char *says) {
    struct mesh_read_opts opts = {.file = "f"};
    struct mesh_resources *r = (void *)1;
    struct mesh_why why = {""};
    cr_expect_eq(mesh_resources_read(text, strlen(text), &opts, &r, &why), MESH_E_INVALID, "%s: %s", text,
                 why.text);
    cr_expect_eq(r, (void *)1);
    cr_expect_str_eq(why.text, says, "%s", why.text);
}

static void service_fails(const char *body, const char *says) {
    char text[512];
    snprintf(text, sizeof(text), "services:\n  a.mesh:80: {%s}\n", body);
    fails(text, says);
}

#define ENDPOINT(a, p) "{endpoint: {address: {socket_address: {address: '" a "', port_value: " p "}}}}"
#define TLS                                                                                                  \
    "'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, "            \
    "common_tls_context: "

Test(short, service_becomes_a_static_cluster) {
    stands_for("services: {reviews.shop.mesh:9080: {endpoints: [10.0.0.7:8080, '[2001:db8::1]:81', 10.0.0.9, "
               "'2001:db8::2']}}",
               "CDS: [{name: 'reviews.shop.mesh:9080', type: STATIC, load_assignment: {cluster_name: "
               "'reviews.shop.mesh:9080', "
               "endpoints: [{lb_endpoints: [" ENDPOINT("10.0.0.7", "8080") ", " ENDPOINT(
                   "2001:db8::1", "81") ", " ENDPOINT("10.0.0.9", "9080") ", " ENDPOINT("2001:db8::2",
                                                                                        "9080") "]}]}}]");
}

Test(short, host_names_make_it_strict_dns) {
    stands_for(
        "services: {a: {endpoints: ['db-1.example.com:5432', 10.0.0.7:1]}}",
        "CDS: [{name: a, type: STRICT_DNS, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: "
        "[" ENDPOINT("db-1.example.com", "5432") ", " ENDPOINT("10.0.0.7", "1") "]}]}}]");
}

Test(short, name_is_lower_case_without_trailing_dot) {
    stands_for("services: {'Reviews.Shop.mesh.:9080': {endpoints: []}}",
               "CDS: [{name: 'reviews.shop.mesh:9080', type: STATIC, load_assignment: {cluster_name: "
               "'reviews.shop.mesh:9080', "
               "endpoints: [{}]}}]");
}

Test(short, peers_become_typed_san_matchers) {
    stands_for("services: {a: {endpoints: [], peers: [spiffe://shop/ns/prod/sa/reviews, "
               "'spiffe://s.x/*/sa/w-b_*', 'spiffe://s']}}",
               "CDS: [{name: a, type: STATIC, transport_socket: {name: envoy.transport_sockets.tls, "
               "typed_config: {" TLS "{validation_context: {match_typed_subject_alt_names: ["
               "{san_type: URI, matcher: {exact: spiffe://shop/ns/prod/sa/reviews}}, "
               "{san_type: URI, matcher: {safe_regex: {regex: 'spiffe://s\\.x/[^/]+/sa/w-b_.*'}}}, "
               "{san_type: URI, matcher: {exact: spiffe://s}}]}}}}, "
               "load_assignment: {cluster_name: a, endpoints: [{}]}}]");
}

Test(short, tls_says_plain_or_mutual) {
    const char *plain =
        "CDS: [{name: a, type: STATIC, transport_socket: {name: envoy.transport_sockets.raw_buffer, "
        "typed_config: "
        "{'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}, "
        "load_assignment: {cluster_name: a, endpoints: [{}]}}]";
    stands_for("services: {a: {endpoints: [], tls: off}}", plain);
    stands_for("services: {a: {endpoints: [], tls: false}}", plain);
    stands_for("services: {a: {endpoints: [], tls: mutual}}",
               "CDS: [{name: a, type: STATIC, transport_socket: {name: envoy.transport_sockets.tls, "
               "typed_config: {" TLS "{}}}, "
               "load_assignment: {cluster_name: a, endpoints: [{}]}}]");
    stands_for("services: {a: {endpoints: [], tls: }}",
               "CDS: [{name: a, type: STATIC, load_assignment: {cluster_name: a, endpoints: [{}]}}]");
}

Test(short, policies_have_their_enum_or_extension) {
    static const char *const names[][2] = {{"round_robin", "ROUND_ROBIN"},
                                           {"least_request", "LEAST_REQUEST"},
                                           {"ring_hash", "RING_HASH"},
                                           {"random", "RANDOM"},
                                           {"maglev", "MAGLEV"}};
    for (size_t i = 0; i < 5; i++) {
        char brief[128], full[256];
        snprintf(brief, sizeof(brief), "services: {a: {endpoints: [], policy: %s}}", names[i][0]);
        snprintf(full, sizeof(full),
                 "CDS: [{name: a, type: STATIC, lb_policy: %s, load_assignment: {cluster_name: a, endpoints: "
                 "[{}]}}]",
                 names[i][1]);
        stands_for(brief, full);
    }
    static const char *const extensions[][2] = {{"pick_first", "pick_first.v3.PickFirst"},
                                                {"peak_ewma", "peak_ewma.v3alpha.PeakEwma"}};
    for (size_t i = 0; i < 2; i++) {
        char brief[128], full[512];
        snprintf(brief, sizeof(brief), "services: {a: {endpoints: [], policy: %s}}", extensions[i][0]);
        snprintf(full, sizeof(full),
                 "CDS: [{name: a, type: STATIC, lb_policy: LOAD_BALANCING_POLICY_CONFIG, load_assignment: "
                 "{cluster_name: a, endpoints: [{}]}, "
                 "load_balancing_policy: {policies: [{typed_extension_config: {name: "
                 "envoy.load_balancing_policies.%s, typed_config: {'@type': "
                 "type.googleapis.com/envoy.extensions.load_balancing_policies.%s}}}]}}]",
                 extensions[i][0], extensions[i][1]);
        stands_for(brief, full);
    }
}

#define LISTENER(a, port)                                                                                    \
    "{name: '" a "_" port "', traffic_direction: OUTBOUND, address: {socket_address: {address: '" a          \
    "', port_value: " port "}}, "                                                                            \
    "filter_chains: [{filters: [{name: envoy.filters.network.tcp_proxy, typed_config: {'@type': "            \
    "type.googleapis.com/"                                                                                   \
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: NAME, cluster: NAME}}]}]}"

Test(short, addresses_become_listeners) {
    char full[2048] =
        "CDS: [{name: NAME, type: STATIC, load_assignment: {cluster_name: NAME, endpoints: [{}]}}]\n"
        "LDS: [" LISTENER("10.96.3.7", "80") ", " LISTENER("2001:db8::9", "80") "]\n";
    for (char *p; (p = strstr(full, "NAME"));)
        memcpy(p, "a:80", 4);
    stands_for("services: {'a:80': {endpoints: [], addresses: [10.96.3.7, '2001:db8::9']}}", full);
    char any[1024] = "CDS: [{name: a, type: STATIC, load_assignment: {cluster_name: a, endpoints: "
                     "[{}]}}]\nLDS: [" LISTENER("10.96.3.7", "0") "]\n";
    for (char *p; (p = strstr(any, "NAME"));)
        memcpy(p, "a   ", 4);
    stands_for("services: {a: {endpoints: [], addresses: [10.96.3.7]}}", any);
}

Test(short, resources_know_where_they_were_said) {
    const char *text =
        "services:\n  a.mesh:80:\n    endpoints: []\n    addresses: [10.0.0.1]\n  b.mesh: {endpoints: []}\n";
    struct mesh_read_opts opts = {.file = "f"};
    struct mesh_resources *r;
    cr_assert_eq(mesh_resources_read(text, strlen(text), &opts, &r, NULL), 0);
    cr_assert_eq(r->n, 3);
    cr_expect_str_eq(r->items[0].path, "services.a.mesh:80");
    cr_expect(r->items[0].line == 2 && r->items[0].column == 3);
    cr_expect_str_eq(r->items[1].path, "services.a.mesh:80.addresses[0]");
    cr_expect(r->items[1].line == 4 && r->items[1].column == 17);
    cr_expect_str_eq(r->items[2].path, "services.b.mesh");
    cr_expect_eq(r->items[2].line, 5);
    mesh_resources_free(r);
}

Test(short, names_that_collide_are_refused) {
    fails("services:\n  a.mesh:80: {endpoints: []}\n  A.mesh.:80: {endpoints: []}\n",
          "f:3:3: services.A.mesh.:80: there is a Cluster \"a.mesh:80\" in line 2 already");
    fails("services:\n  a:80: {endpoints: [], addresses: [10.0.0.1]}\n  b:80: {endpoints: [], addresses: "
          "[10.0.0.1]}\n",
          "f:3:37: services.b:80.addresses[0]: there is a Listener \"10.0.0.1_80\" in line 2 already");
    fails("services:\n  a: {endpoints: []}\nCDS:\n- name: a\n",
          "f:4:3: CDS[0]: there is a Cluster \"a\" in line 2 already");
    fails("services:\n  a: {endpoints: []}\n  a: {endpoints: []}\n",
          "f:3:3: \"a\" was given in line 2 already");
}

Test(short, bad_names_are_refused) {
    static const char *const bad[] = {"''",  "a b",     "10.0.0.1", "'[::1]:80'", "'::1'",
                                      "a:0", "a:65536", "a:x",      "'a:'",       "a..b",
                                      ".a",  "a:80:90", "'1.2.3'",  "'*.mesh'"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[128], says[256], name[32];
        size_t n = strlen(bad[i]), quoted = bad[i][0] == '\'';
        snprintf(name, sizeof(name), "%.*s", (int)(n - 2 * quoted), bad[i] + quoted);
        snprintf(text, sizeof(text), "services:\n  %s: {endpoints: []}\n", bad[i]);
        snprintf(says, sizeof(says),
                 "f:2:3: services.%s: wants a name, as in reviews.shop.mesh or reviews.shop.mesh:9080", name);
        fails(text, says);
    }
}

Test(short, bad_endpoints_are_refused) {
    static const char *const bad[] = {"10.0.0.7:0",      "10.0.0.7:99999", "'10.0.0.7:'", "10.0.0.300:80",
                                      "'[10.0.0.1]:80'", "'[::1'",         "'[::1]80'",   "'[::g]:80'",
                                      "':80'",           "'a_b:80 '",      "'[]:80'",     "'::1:80:'"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char body[128];
        snprintf(body, sizeof(body), "endpoints: [10.0.0.1:1, %s]", bad[i]);
        service_fails(body,
                      "f:2:39: services.a.mesh:80.endpoints[1]: wants IP:PORT, [IP6]:PORT or HOST:PORT");
    }
    fails("services: {a: {endpoints: [10.0.0.1]}}",
          "f:1:28: services.a.endpoints[0]: wants a port, since the service names none");
    service_fails("endpoints: [5]", "f:2:27: services.a.mesh:80.endpoints[0]: wants a text");
    service_fails("endpoints: 10.0.0.1:80", "f:2:26: services.a.mesh:80.endpoints: wants a list");
    service_fails("peers: []", "f:2:14: services.a.mesh:80: wants endpoints, if only []");
    fails("services: {a: }", "f:1:15: services.a: wants a map with endpoints");
    fails("services: []", "f:1:11: services: wants a map of names");
}

Test(short, misspelt_keys_are_refused) {
    service_fails("endpoints: [], peer: [spiffe://x]", "f:2:30: services.a.mesh:80: has no \"peer\"");
}

Test(short, bad_peers_are_refused) {
    static const char *const bad[] = {
        "shop",           "spiffe://",       "spiffe://Shop/x", "spiffe://*/x",    "spiffe://s*",
        "spiffe://s/",    "spiffe://s/a//b", "spiffe://s/../b", "spiffe://s/a*/b", "spiffe://s/*a",
        "spiffe://s/a b", "spiffe://s:80/a", "spiffe://s/**",   "https://s/a",     "spiffe://s/*/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char body[128];
        snprintf(body, sizeof(body), "endpoints: [], peers: ['%s']", bad[i]);
        service_fails(body, "f:2:38: services.a.mesh:80.peers[0]: wants a pattern of SPIFFE IDs, as in "
                            "spiffe://shop/ns/*/sa/web");
    }
    service_fails("endpoints: [], peers: []", "f:2:37: services.a.mesh:80: peers: names nobody");
    service_fails("endpoints: [], peers: spiffe://s", "f:2:37: services.a.mesh:80.peers: wants a list");
}

Test(short, contradictions_are_refused) {
    service_fails("endpoints: [], peers: [spiffe://s], tls: off",
                  "f:2:56: services.a.mesh:80: tls: off leaves nobody to check against peers");
    service_fails("endpoints: [], tls: maybe", "f:2:35: services.a.mesh:80: tls: wants off or mutual");
    service_fails("endpoints: [], tls: []", "f:2:35: services.a.mesh:80: tls: wants off or mutual");
    service_fails("endpoints: [], policy: fastest",
                  "f:2:38: services.a.mesh:80: policy: there is no \"fastest\"");
    service_fails("endpoints: [], addresses: [10.0.0.1:80]",
                  "f:2:42: services.a.mesh:80.addresses[0]: wants an IP address");
}
