/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/authz.h"
#include "tests/unit/resolver/fixture.h"

#define NETWORK "type.googleapis.com/envoy.extensions.filters.network."
#define HTTP "type.googleapis.com/envoy.extensions.filters.http."
#define WEB "spiffe://shop/ns/shop/sa/web"

static const char head[] = "resources:\n"
                           "- '@type': type.googleapis.com/envoy.config.listener.v3.Listener\n"
                           "  name: virtualInbound\n"
                           "  traffic_direction: INBOUND\n"
                           "  use_original_dst: true\n"
                           "  address: {socket_address: {address: 0.0.0.0, port_value: 15006}}\n"
                           "  filter_chains:\n";
static const char network[] =
    "  - {filters: [{name: guard, typed_config: {'@type': " NETWORK "rbac.v3.RBAC, stat_prefix: x, %s}}, "
    "{name: tcp, typed_config: {'@type': " NETWORK "tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: c}}]}\n";
static const char http[] = "  - {filters: [{name: hcm, typed_config: {'@type': " NETWORK
                           "http_connection_manager.v3.HttpConnectionManager, stat_prefix: x, route_config: "
                           "{name: r, virtual_hosts: "
                           "[{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: "
                           "c}}]}]}, http_filters: [{name: "
                           "guard, typed_config: {'@type': " HTTP
                           "rbac.v3.RBAC, %s}}, {name: envoy.filters.http.router, typed_config: "
                           "{'@type': " HTTP "router.v3.Router}}]}}]}\n";

static void start(struct fixture *f, const char *form, const char *config) {
    char text[8192];
    int n = snprintf(text, sizeof text, "%s", head);
    snprintf(text + n, sizeof text - (size_t)n, form, config);
    fixture_start(f, text);
}

/* Who calls: from 10.0.0.7 to 10.1.0.1, port 8080. */
static int judge(const struct fixture *f, const char *peer, const char *sni, struct mesh_verdict *ret) {
    struct sockaddr_in local = fixture_addr("10.1.0.1", 8080), from = fixture_addr("10.0.0.7", 40000);
    struct mesh_facts facts = {.kind = peer ? MESH_FACTS_TLS : MESH_FACTS_PLAIN, .has_cert = peer != NULL};
    struct mesh_caller who = {(struct sockaddr *)&local, (struct sockaddr *)&from, sizeof local, sizeof from,
                              &facts};
    if (peer && strlen(peer) >= sizeof facts.peer)
        facts.cut_peer = 1;
    else
        snprintf(facts.peer, sizeof facts.peer, "%s", peer ? peer : "");
    snprintf(facts.sni, sizeof facts.sni, "%s", sni ? sni : "");
    return mesh_view_authorize(f->view, &who, ret, NULL);
}

static enum mesh_verdict_kind verdict(const char *form, const char *config, const char *peer,
                                      const char *sni) {
    struct fixture f;
    struct mesh_verdict v;
    start(&f, form, config);
    int rc = judge(&f, peer, sni, &v);
    cr_assert_eq(rc, 0, "%s: %d", config, rc);
    fixture_done(&f);
    return (enum mesh_verdict_kind)v.kind;
}

#define RULES(action, permission, principal)                                                                 \
    "rules: {action: " action ", policies: {p: {permissions: [" permission "], principals: [" principal "]}" \
    "}}"
#define NAMED(matcher) "{authenticated: {principal_name: {" matcher "}}}"
#define ANY "{any: true}"

struct row {
    const char *permission, *principal, *peer, *sni;
    bool matches;
};
static const struct row rows[] = {
    {ANY, ANY, NULL, NULL, true},
    {ANY, NAMED("exact: '" WEB "'"), WEB, NULL, true},
    {ANY, NAMED("exact: '" WEB "'"), "spiffe://shop/ns/shop/sa/we", NULL, false},
    {ANY, NAMED("exact: '" WEB "'"), NULL, NULL, false},
    {ANY, NAMED("prefix: 'spiffe://shop/'"), WEB, NULL, true},
    {ANY, NAMED("prefix: 'spiffe://shop/'"), "spiffe://shopping/ns", NULL, false},
    {ANY, NAMED("suffix: '/sa/web'"), WEB, NULL, true},
    {ANY, NAMED("suffix: '/sa/WEB', ignore_case: true"), WEB, NULL, true},
    {ANY, NAMED("suffix: '/sa/WEB'"), WEB, NULL, false},
    {ANY, NAMED("contains: '/ns/shop/'"), WEB, NULL, true},
    {ANY, NAMED("contains: '/ns/other/'"), WEB, NULL, false},
    {ANY, NAMED("safe_regex: {regex: '.*/ns/shop/.*'}"), WEB, NULL, true},
    {ANY, NAMED("safe_regex: {regex: '/ns/shop/'}"), WEB, NULL, false},
    {ANY, NAMED("safe_regex: {regex: '.+'}"), NULL, NULL, false},
    {ANY, "{authenticated: {}}", WEB, NULL, true},
    {ANY, "{authenticated: {}}", NULL, NULL, false},
    {ANY, "{direct_remote_ip: {address_prefix: 10.0.0.0, prefix_len: 24}}", NULL, NULL, true},
    {ANY, "{direct_remote_ip: {address_prefix: 10.0.1.0, prefix_len: 24}}", NULL, NULL, false},
    {ANY, "{remote_ip: {address_prefix: 10.0.0.7, prefix_len: 32}}", NULL, NULL, true},
    {ANY, "{source_ip: {address_prefix: 10.0.0.6, prefix_len: 31}}", NULL, NULL, true},
    {ANY, "{source_ip: {address_prefix: '::', prefix_len: 0}}", NULL, NULL, false},
    {ANY, "{and_ids: {ids: [" ANY ", " NAMED("exact: '" WEB "'") "]}}", WEB, NULL, true},
    {ANY, "{and_ids: {ids: [" ANY ", " NAMED("exact: 'x'") "]}}", WEB, NULL, false},
    {ANY, "{or_ids: {ids: [" NAMED("exact: 'x'") ", " ANY "]}}", WEB, NULL, true},
    {ANY, "{or_ids: {ids: [" NAMED("exact: 'x'") "]}}", WEB, NULL, false},
    {ANY, "{not_id: " NAMED("exact: 'x'") "}", WEB, NULL, true},
    {ANY, "{not_id: {not_id: {not_id: " ANY "}}}", WEB, NULL, false},
    {"{destination_port: 8080}", ANY, NULL, NULL, true},
    {"{destination_port: 8081}", ANY, NULL, NULL, false},
    {"{destination_port_range: {start: 8000, end: 8081}}", ANY, NULL, NULL, true},
    {"{destination_port_range: {start: 8000, end: 8080}}", ANY, NULL, NULL, false},
    {"{destination_ip: {address_prefix: 10.1.0.0, prefix_len: 16}}", ANY, NULL, NULL, true},
    {"{destination_ip: {address_prefix: 10.2.0.0, prefix_len: 16}}", ANY, NULL, NULL, false},
    {"{requested_server_name: {suffix: '.mesh'}}", ANY, WEB, "a.mesh", true},
    {"{requested_server_name: {suffix: '.mesh'}}", ANY, WEB, NULL, false},
    {"{not_rule: {destination_port: 8080}}", ANY, NULL, NULL, false},
    {"{and_rules: {rules: [{destination_port: 8080}, {destination_port: 8081}]}}", ANY, NULL, NULL, false},
    {"{or_rules: {rules: [{destination_port: 8081}, {destination_port: 8080}]}}", ANY, NULL, NULL, true},
    {"{destination_port: 8081}, {destination_port: 8080}", ANY, NULL, NULL, true},
};

static void rules_of(char *to, size_t cap, const char *action, const struct row *r) {
    snprintf(to, cap, "rules: {action: %s, policies: {p: {permissions: [%s], principals: [%s]}}}", action,
             r->permission, r->principal);
}

Test(authz, each_condition_allows_and_denies_what_it_matches) {
    char config[1024];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rules_of(config, sizeof config, "ALLOW", &rows[i]);
        cr_expect_eq(verdict(network, config, rows[i].peer, rows[i].sni),
                     rows[i].matches ? MESH_PASS : MESH_DENY, "%s", config);
        rules_of(config, sizeof config, "DENY", &rows[i]);
        cr_expect_eq(verdict(network, config, rows[i].peer, rows[i].sni),
                     rows[i].matches ? MESH_DENY : MESH_PASS, "%s", config);
        rules_of(config, sizeof config, "LOG", &rows[i]);
        cr_expect_eq(verdict(network, config, rows[i].peer, rows[i].sni), MESH_PASS, "%s", config);
    }
}

Test(authz, empty_rules_deny_all_and_no_rules_nobody) {
    cr_expect_eq(verdict(network, "rules: {}", WEB, NULL), MESH_DENY);
    cr_expect_eq(verdict(network, "rules: {action: DENY}", WEB, NULL), MESH_PASS);
    cr_expect_eq(verdict(network, "shadow_rules: {}", WEB, NULL), MESH_PASS);
    cr_expect_eq(verdict(http, "rules: {}", WEB, NULL), MESH_DENY);
}

Test(authz, dry_run_is_told_and_decides_nothing) {
    struct fixture f;
    struct mesh_verdict v;
    start(&f, network,
          "shadow_rules: {action: DENY, policies: {dry: {permissions: [" ANY "], principals: [" ANY "]}}}");
    cr_assert_eq(judge(&f, WEB, NULL, &v), 0);
    cr_expect_eq(v.kind, MESH_PASS);
    cr_expect_eq(v.shadow, MESH_DENY);
    cr_expect_str_eq(v.shadow_policy, "dry");
    fixture_done(&f);
}

Test(authz, policy_that_decides_is_named) {
    struct fixture f;
    struct mesh_verdict v;
    start(&f, network, RULES("DENY", ANY, NAMED("exact: '" WEB "'")));
    cr_assert_eq(judge(&f, WEB, NULL, &v), 0);
    cr_expect_eq(v.kind, MESH_DENY);
    cr_expect_str_eq(v.policy, "p");
    cr_assert_eq(judge(&f, "spiffe://shop/x", NULL, &v), 0);
    cr_expect_eq(v.kind, MESH_PASS);
    fixture_done(&f);
}

/* ---- what only a request can answer ---- */
#define HEADER "{header: {name: x-user, string_match: {exact: test}}}"

Test(authz, request_decides_only_where_the_outcome_hangs_on_it) {
    cr_expect_eq(verdict(http, RULES("ALLOW", HEADER, ANY), WEB, NULL), MESH_NEEDS_REQUEST);
    cr_expect_eq(verdict(http, RULES("DENY", HEADER, ANY), WEB, NULL), MESH_NEEDS_REQUEST);
    cr_expect_eq(verdict(http, RULES("ALLOW", HEADER, NAMED("exact: x")), WEB, NULL), MESH_DENY);
    cr_expect_eq(verdict(http, RULES("DENY", HEADER, NAMED("exact: x")), WEB, NULL), MESH_PASS);
    cr_expect_eq(verdict(http, RULES("ALLOW", HEADER ", " ANY, ANY), WEB, NULL), MESH_PASS);
    cr_expect_eq(verdict(http, RULES("ALLOW", "{not_rule: " HEADER "}", ANY), WEB, NULL), MESH_NEEDS_REQUEST);
    cr_expect_eq(verdict(http, RULES("ALLOW", "{url_path: {path: {prefix: /a}}}", ANY), WEB, NULL),
                 MESH_NEEDS_REQUEST);
    cr_expect_eq(verdict(http, RULES("ALLOW", ANY, "{remote_ip: {address_prefix: 10.0.0.0, prefix_len: 8}}"),
                         WEB, NULL),
                 MESH_NEEDS_REQUEST);
    cr_expect_eq(verdict(http,
                         RULES("ALLOW", ANY, "{direct_remote_ip: {address_prefix: 10.0.0.0, prefix_len: 8}}"),
                         WEB, NULL),
                 MESH_PASS);
    cr_expect_eq(
        verdict(network,
                RULES("DENY", "{metadata: {filter: f, path: [{key: k}], value: {present_match: true}}}", ANY),
                WEB, NULL),
        MESH_NEEDS_REQUEST);
}

Test(authz, what_the_request_must_say_is_named) {
    struct fixture f;
    struct mesh_verdict v;
    start(&f, http, RULES("ALLOW", HEADER, ANY));
    cr_assert_eq(judge(&f, WEB, NULL, &v), 0);
    cr_expect_str_eq(v.needs, "header x-user");
    cr_expect_str_eq(v.policy, "p");
    fixture_done(&f);
}

Test(authz, name_that_is_not_known_whole_is_neither_let_in_nor_overlooked) {
    char longer[300];
    snprintf(longer, sizeof longer, "spiffe://shop/%0280d", 1);
    cr_expect_eq(verdict(network, RULES("DENY", ANY, NAMED("suffix: '/sa/web'")), longer, NULL),
                 MESH_NEEDS_REQUEST);
    cr_expect_eq(verdict(network, RULES("DENY", ANY, NAMED("exact: dns.name")), "", NULL),
                 MESH_NEEDS_REQUEST);
}

/* ---- what cannot be kept ---- */
Test(authz, rules_that_cannot_be_evaluated_refuse_the_chain) {
    static const char *const bad[] = {
        RULES("DENY", ANY, NAMED("safe_regex: {regex: '(?i)x'}")),
        RULES("DENY", ANY, NAMED("safe_regex: {regex: '((a{200}){200}){200}'}")),
        "rules: {action: DENY, policies: {p: {permissions: [" ANY "], principals: []}}}",
        "rules: {action: DENY, policies: {p: {permissions: [], principals: [" ANY "]}}}",
        "rules: {action: DENY, policies: {p: {permissions: [{}], principals: [" ANY "]}}}",
        RULES("DENY", "{and_rules: {}}", ANY),
        RULES("DENY", "{destination_ip: {address_prefix: nowhere, prefix_len: 8}}", ANY),
        "matcher: {}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fixture f;
        struct mesh_verdict v;
        char text[8192];
        int n = snprintf(text, sizeof text, "%s", head);
        snprintf(text + n, sizeof text - (size_t)n, network, bad[i]);
        fixture_init(&f, text);
        (void)!fixture_open(&f);
        cr_expect_eq(judge(&f, WEB, NULL, &v), MESH_E_UNSUPPORTED, "%s", bad[i]);
        fixture_done(&f);
    }
}

Test(authz, rules_of_a_dry_run_that_cannot_be_evaluated_are_left_out) {
    cr_expect_eq(verdict(network,
                         "shadow_rules: {policies: {p: {permissions: [" ANY
                         "], principals: [" NAMED("safe_regex: {regex: '(?i)x'}") "]}}}",
                         WEB, NULL),
                 MESH_PASS);
}

/* ---- a record that nobody may believe ---- */
Test(authz, damaged_record_lets_nobody_in) {
    struct {
        struct authz_head head;
        struct authz_node nodes[4];
        struct authz_policy policy;
        struct authz_filter filter;
    } rec = {.head = {.filters = {offsetof(typeof(rec), filter), sizeof rec.filter},
                      .policies = {offsetof(typeof(rec), policy), sizeof rec.policy},
                      .nodes = {offsetof(typeof(rec), nodes), sizeof rec.nodes}},
             .nodes = {{.op = AUTHZ_AND, .nodes = 4},
                       {.op = AUTHZ_ANY, .nodes = 1},
                       {.op = AUTHZ_NOT, .nodes = 2},
                       {.op = AUTHZ_ANY, .nodes = 1}},
             .filter = {.action = AUTHZ_DENY, .n = 1}};
    struct sockaddr_in sa = fixture_addr("10.0.0.1", 1);
    struct mesh_caller who = {(struct sockaddr *)&sa, (struct sockaddr *)&sa, sizeof sa, sizeof sa, NULL};
    struct mesh_verdict v = {0};
    cr_assert_eq(mesh_authz_judge(&rec, sizeof rec, &who, &v), 0);
    cr_assert_eq(v.kind, MESH_PASS);
    typeof(rec) good = rec;
#define BAD(change)                                                                                          \
    do {                                                                                                     \
        rec = good;                                                                                          \
        change;                                                                                              \
        cr_expect_eq(mesh_authz_judge(&rec, sizeof rec, &who, &v), MESH_E_INTERNAL, #change);                \
    } while (0)
    BAD(rec.nodes[0].nodes = 5);
    BAD(rec.nodes[0].nodes = 0);
    BAD(rec.nodes[2].nodes = UINT32_MAX);
    BAD(rec.nodes[3].op = 99);
    BAD(rec.nodes[1].op = AUTHZ_REQUEST; rec.nodes[1].off = UINT32_MAX; rec.nodes[1].len = 10);
    BAD(rec.nodes[1].op = AUTHZ_LOCAL_IP; rec.nodes[1].kind = 4; rec.nodes[1].len = 4;
        rec.nodes[1].ignore_case = 33);
    BAD(rec.policy.node = 4);
    BAD(rec.filter.n = 2);
    BAD(rec.filter.first = UINT32_MAX);
    BAD(rec.filter.action = 7);
    BAD(rec.head.nodes.off = 4096);
    BAD(rec.head.filters.len = UINT32_MAX);
    cr_expect_eq(mesh_authz_judge(&rec, 8, &who, &v), MESH_E_INTERNAL);
}
