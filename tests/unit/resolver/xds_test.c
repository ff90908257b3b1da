/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/resolver/xds_fixture.h"

#define P (&peers[0])
TestSuite(xds, .fini = finish);

static void start(void) {
    start_with(1);
}

/* web:80 -> route r -> cluster c -> endpoints e, all published. */
static void has_web(struct peer *p) {
    has_listener(p, "web:80", "r");
    has_route(p, "r", "c");
    has_cluster(p, "c", "e");
    has_endpoint(p, "e", "10.0.0.1");
}
static void start_with_web(void) {
    start();
    has_web(P);
    want("web", 80);
    up(P);
    push_all(P);
    cr_assert_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
    cr_assert_str_eq(changes(), "all");
}

/* ---- by name ----------------------------------------------------------------------------------------------
 */
Test(xds, nothing_is_connected_before_something_is_wanted) {
    start();
    cr_expect_null(P->ch);
    want("web", 80);
    cr_expect_not_null(P->ch);
}

Test(xds, name_is_asked_for_as_everything_that_it_may_be) {
    start();
    want("web", 80);
    up(P);
    cr_expect(is_asked(P, MESH_ADS_LISTENER, "web:80") && is_asked(P, MESH_ADS_LISTENER, "web"));
    cr_expect(is_asked(P, MESH_ADS_CLUSTER, "web:80") && is_asked(P, MESH_ADS_CLUSTER, "web") &&
              is_asked(P, MESH_ADS_CLUSTER, "outbound|80||web"));
    cr_expect_eq(P->asked[MESH_ADS_LISTENER].n + P->asked[MESH_ADS_CLUSTER].n, 5);
}

Test(xds, name_is_published_when_all_that_it_leads_to_is_here) {
    start();
    has_web(P);
    want("web", 80);
    up(P);
    static const enum mesh_ads_type order[] = {MESH_ADS_LISTENER, MESH_ADS_ROUTE, MESH_ADS_CLUSTER};
    for (int i = 0; i < 3; i++) {
        push(P, order[i]);
        cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_WAITING, "%d", i);
        shows("");
    }
    push(P, MESH_ADS_ENDPOINT);
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
    shows("LDS web:80; RDS r; CDS c");
    cr_expect_str_eq(address_of("c"), "10.0.0.1");
    cr_expect_str_eq(changes(), "all");
    cr_expect_str_eq(changes(), "nothing");
}

Test(xds, name_that_nothing_answers_to_is_denied_after_15_s) {
    start();
    want("web", 80);
    passes(60 * MESH_SEC); /* not connected: nothing is known */
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_WAITING);
    up(P);
    passes(14 * MESH_SEC);
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_WAITING);
    passes(1 * MESH_SEC);
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_DENIED);
    has_web(P);
    push_all(P);
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
}

Test(xds, cluster_of_that_name_is_enough) {
    start();
    has_cluster(P, "outbound|80||db", "e");
    has_endpoint(P, "e", "10.0.0.1");
    want("db", 80);
    up(P);
    push_all(P);
    cr_expect_eq(mesh_xds_state(xds, "db", 80), MESH_XDS_KNOWN);
    shows("CDS outbound|80||db");
}

Test(xds, cluster_waits_for_the_listener_that_comes_before_it) {
    start();
    has_cluster(P, "web:80", "e");
    has_endpoint(P, "e", "10.0.0.1");
    want("web", 80);
    up(P);
    push(P, MESH_ADS_CLUSTER);
    push(P, MESH_ADS_ENDPOINT);
    cr_assert_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
    cr_expect_eq(mesh_xds_patience(xds, "web", 80), 100 * MESH_MS); /* there may be none */
    has_web(P);
    push(P, MESH_ADS_LISTENER);
    cr_expect_eq(mesh_xds_patience(xds, "web", 80), 1 * MESH_SEC); /* there is one */
    push_all(P);
    cr_expect_eq(mesh_xds_patience(xds, "web", 80), 0);
}

Test(xds, name_that_is_no_longer_wanted_is_let_go_of_after_minutes) {
    start_with_web();
    mesh_xds_unwant(xds, "web", 80, now);
    drive();
    shows("");
    cr_expect(is_asked(P, MESH_ADS_ENDPOINT, "e"));
    passes(60 * MESH_SEC);
    want("web", 80); /* it was still there */
    shows("LDS web:80; RDS r; CDS c");
    mesh_xds_unwant(xds, "web", 80, now);
    drive();
    passes(121 * MESH_SEC);
    passes(121 * MESH_SEC);
    cr_expect_not(is_asked(P, MESH_ADS_ENDPOINT, "e"));
    cr_expect_not(is_asked(P, MESH_ADS_ROUTE, "r"));
}

Test(xds, inbound_listener_is_asked_for_by_the_server_template) {
    bootstrap.server_template = "inbound/%s";
    start();
    cr_assert_eq(mesh_xds_want_inbound(xds, "10.0.0.9:80", now), 0);
    drive();
    up(P);
    cr_expect(is_asked(P, MESH_ADS_LISTENER, "inbound/10.0.0.9:80"));
    has(P, MESH_ADS_LISTENER, "inbound/10.0.0.9:80", "{name: 'inbound/10.0.0.9:80'}");
    push(P, MESH_ADS_LISTENER);
    shows("LDS inbound/10.0.0.9:80");
}

/* ---- changes ----------------------------------------------------------------------------------------------
 */
Test(xds, endpoints_alone_are_told_by_cluster) {
    start_with_web();
    has_endpoint(P, "e", "10.0.0.2");
    push(P, MESH_ADS_ENDPOINT);
    cr_expect_str_eq(address_of("c"), "10.0.0.2");
    cr_expect_str_eq(changes(), "c");
    push(P, MESH_ADS_ENDPOINT); /* the same bytes */
    cr_expect_str_eq(changes(), "nothing");
}

Test(xds, equal_resources_under_a_new_version_are_no_change) {
    start_with_web();
    push_all(P);
    cr_expect_str_eq(changes(), "nothing");
}

Test(xds, route_to_a_new_cluster_waits_for_it) {
    start_with_web();
    has_route(P, "r", "d");
    has_cluster(P, "d", "f");
    has_endpoint(P, "f", "10.0.0.9");
    push(P, MESH_ADS_ROUTE);
    shows("LDS web:80; RDS r; CDS c");
    cr_expect_str_eq(changes(), "nothing");
    push(P, MESH_ADS_CLUSTER);
    shows("LDS web:80; RDS r; CDS c");
    push(P, MESH_ADS_ENDPOINT);
    shows("LDS web:80; RDS r; CDS d");
    cr_expect_str_eq(changes(), "all");
}

Test(xds, route_to_a_cluster_that_does_not_exist_is_published_after_15_s) {
    start_with_web();
    has_route(P, "r", "d");
    push(P, MESH_ADS_ROUTE);
    passes(15 * MESH_SEC);
    shows("LDS web:80; RDS r");
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
}

Test(xds, cluster_that_is_removed_stays_while_a_route_names_it) {
    start_with_web();
    drop(P, MESH_ADS_CLUSTER, "c");
    push(P, MESH_ADS_CLUSTER);
    shows("LDS web:80; RDS r; CDS c");
    cr_expect_str_eq(address_of("c"), "10.0.0.1");
    has_cluster(P, "d", "e");
    has_route(P, "r", "d");
    push_all(P);
    shows("LDS web:80; RDS r; CDS d");
}

Test(xds, cluster_that_is_removed_goes_at_once_where_data_errors_fail) {
    servers[0].fails_on_data_errors = true;
    start_with_web();
    drop(P, MESH_ADS_CLUSTER, "c");
    push(P, MESH_ADS_CLUSTER);
    shows("LDS web:80; RDS r");
}

Test(xds, listener_that_is_removed_goes_unless_deletions_are_ignored) {
    start_with_web();
    drop(P, MESH_ADS_LISTENER, "web:80");
    push(P, MESH_ADS_LISTENER);
    shows("");
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_WAITING); /* the other candidates' time runs */
}

Test(xds, listener_that_is_removed_stays_where_deletions_are_ignored) {
    servers[0].keeps_deleted = true;
    start_with_web();
    drop(P, MESH_ADS_LISTENER, "web:80");
    push(P, MESH_ADS_LISTENER);
    shows("LDS web:80; RDS r; CDS c");
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
}

Test(xds, cluster_that_changes_keeps_its_endpoints) {
    start_with_web();
    has(P, MESH_ADS_CLUSTER, "c",
        "{name: c, type: EDS, lb_policy: RANDOM, eds_cluster_config: {eds_config: {ads: {}}, service_name: "
        "e}}");
    push(P, MESH_ADS_CLUSTER);
    cr_expect_str_eq(changes(), "all");
    cr_expect_str_eq(address_of("c"), "10.0.0.1");
    has_cluster(P, "c", "other"); /* endpoints that are not here yet */
    has_endpoint(P, "other", "10.0.0.7");
    push(P, MESH_ADS_CLUSTER);
    cr_expect_str_eq(changes(), "nothing");
    cr_expect_str_eq(address_of("c"), "10.0.0.1");
    push(P, MESH_ADS_ENDPOINT);
    cr_expect_str_eq(changes(), "all");
    cr_expect_str_eq(address_of("c"), "10.0.0.7");
}

Test(xds, endpoints_that_come_late_are_a_change_of_their_cluster) {
    start();
    has_web(P);
    drop(P, MESH_ADS_ENDPOINT, "e");
    want("web", 80);
    up(P);
    push_all(P);
    passes(15 * MESH_SEC);
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
    cr_expect_str_eq(changes(), "all");
    cr_expect_str_eq(address_of("c"), "");
    has_endpoint(P, "e", "10.0.0.1");
    push(P, MESH_ADS_ENDPOINT);
    cr_expect_str_eq(changes(), "c");
    cr_expect_str_eq(address_of("c"), "10.0.0.1");
}

Test(xds, control_plane_that_goes_away_changes_nothing) {
    start_with_web();
    down(P, true);
    passes(3600 * MESH_SEC);
    shows("LDS web:80; RDS r; CDS c");
    up(P);
    passes(3600 * MESH_SEC);
    shows("LDS web:80; RDS r; CDS c");
    cr_expect_str_eq(changes(), "nothing");
}

/* ---- errors -----------------------------------------------------------------------------------------------
 */
static void has_bad_cluster(const char *name) {
    has(P, MESH_ADS_CLUSTER, name, "{name: '%s', type: EDS}", name); /* not by ads */
}

Test(xds, cluster_that_was_never_good_is_refused_and_the_others_are_not) {
    start();
    has_web(P);
    has_listener(P, "bad:80", "r2");
    has_route(P, "r2", "d");
    has_bad_cluster("d");
    want("web", 80);
    want("bad", 80);
    up(P);
    push_all(P);
    shows("LDS web:80; LDS bad:80; RDS r; RDS r2; CDS c; CDS d!CDS d: eds_cluster_config.eds_config: neither "
          "ads nor "
          "self");
    cr_expect_str_eq(P->asked[MESH_ADS_CLUSTER].error,
                     "d: eds_cluster_config.eds_config: neither ads nor self");
    cr_expect_eq(mesh_xds_state(xds, "bad", 80), MESH_XDS_KNOWN);
}

Test(xds, rejected_form_leaves_the_good_one) {
    start_with_web();
    has_bad_cluster("c");
    push(P, MESH_ADS_CLUSTER);
    shows("LDS web:80; RDS r; CDS c");
    cr_expect_str_eq(changes(), "nothing");
}

Test(xds, rejected_form_takes_the_good_one_where_data_errors_fail) {
    servers[0].fails_on_data_errors = true;
    start_with_web();
    has_bad_cluster("c");
    push(P, MESH_ADS_CLUSTER);
    cr_expect_str_eq(changes(), "all");
    cr_expect(strstr(shown(), "CDS c!"));
}

Test(xds, endpoints_that_were_never_good_refuse_their_cluster) {
    start();
    has_web(P);
    has(P, MESH_ADS_ENDPOINT, "e",
        "{cluster_name: e, endpoints: [{lb_endpoints: [{load_balancing_weight: 0}]}]}");
    want("web", 80);
    up(P);
    push_all(P);
    shows("LDS web:80; RDS r; CDS c!EDS e: an endpoint of weight 0");
    has_endpoint(P, "e", "10.0.0.1");
    push(P, MESH_ADS_ENDPOINT);
    cr_expect_str_eq(changes(), "all");
    shows("LDS web:80; RDS r; CDS c");
}

Test(xds, what_is_not_supported_is_accepted_and_refused) {
    start_with_web();
    has(P, MESH_ADS_ROUTE, "r", "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: []}]}");
    push(P, MESH_ADS_ROUTE);
    cr_expect_str_eq(P->asked[MESH_ADS_ROUTE].error, "");
    /* vhds: a field that proto/guard.def refuses */
    static const uint8_t guarded[] = {0x0a, 1, 'r', 0x4a, 0};
    has_bytes(P, MESH_ADS_ROUTE, "r", guarded, sizeof(guarded));
    push(P, MESH_ADS_ROUTE);
    cr_expect_str_eq(P->asked[MESH_ADS_ROUTE].error, "");
    cr_expect(strstr(shown(), "RDS r!RDS r: vhds: virtual hosts that are discovered later"), "%s", shown());
}

/* ---- aggregates -------------------------------------------------------------------------------------------
 */
Test(xds, aggregate_waits_for_its_members) {
    start_with_web();
    has_route(P, "r", "agg");
    has_aggregate(P, "agg", "c, d");
    has_cluster(P, "d", "f");
    push(P, MESH_ADS_ROUTE);
    push(P, MESH_ADS_CLUSTER);
    push(P, MESH_ADS_CLUSTER);
    shows("LDS web:80; RDS r; CDS c");
    has_endpoint(P, "f", "10.0.0.4");
    push(P, MESH_ADS_ENDPOINT);
    shows("LDS web:80; RDS r; CDS c; CDS agg; CDS d");
}

Test(xds, aggregates_that_lead_back_are_refused) {
    start();
    has_listener(P, "web:80", "r");
    has_route(P, "r", "a");
    has_aggregate(P, "a", "b");
    has_aggregate(P, "b", "a, a");
    want("web", 80);
    up(P);
    push_all(P);
    shows("LDS web:80; RDS r; CDS a!an aggregate cluster leads back to itself; CDS b!an aggregate cluster "
          "leads back "
          "to itself");
}

Test(xds, aggregates_nested_more_than_16_deep_are_refused) {
    char name[8], member[8];
    start();
    has_listener(P, "web:80", "r");
    has_route(P, "r", "a0");
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof(name), "a%d", i);
        snprintf(member, sizeof(member), "a%d", i + 1);
        has_aggregate(P, name, member);
    }
    has_cluster(P, "a16", "e");
    has_endpoint(P, "e", "10.0.0.1");
    want("web", 80);
    up(P);
    for (int i = 0; i < 20; i++)
        push_all(P);
    cr_expect(strstr(shown(), "CDS a0!aggregate clusters are nested more than 16 deep; CDS a1;"), "%s",
              shown());
}

/* ---- secrets ----------------------------------------------------------------------------------------------
 */
#define TLS_CLUSTER(source)                                                                                  \
    "{name: c, type: STATIC, transport_socket: {name: tls, typed_config: {'@type': "                         \
    "x/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: "                   \
    "{tls_certificate_sds_secret_configs: [{name: default, sds_config: {" source                             \
    "}}], validation_context_sds_secret_config: "                                                            \
    "{name: ROOTCA, sds_config: {" source "}}}}}}"

Test(xds, secrets_by_ads_belong_to_the_closure) {
    start_with_web();
    has(P, MESH_ADS_CLUSTER, "c", TLS_CLUSTER("ads: {}"));
    push(P, MESH_ADS_CLUSTER);
    cr_expect(is_asked(P, MESH_ADS_SECRET, "default") && is_asked(P, MESH_ADS_SECRET, "ROOTCA"));
    cr_expect_str_eq(changes(), "nothing");
    has(P, MESH_ADS_SECRET, "default", "{name: default, tls_certificate: {}}");
    has(P, MESH_ADS_SECRET, "ROOTCA", "{name: ROOTCA, validation_context: {}}");
    push(P, MESH_ADS_SECRET);
    shows("LDS web:80; RDS r; CDS c; SDS default; SDS ROOTCA");
}

Test(xds, secrets_of_an_agent_are_the_environments) {
    start_with_web();
    has(P, MESH_ADS_CLUSTER, "c", TLS_CLUSTER("api_config_source: {api_type: GRPC, grpc_services: [{}]}"));
    push(P, MESH_ADS_CLUSTER);
    cr_expect_not(P->asked[MESH_ADS_SECRET].any);
    cr_expect_str_eq(changes(), "all");
}

/* ---- everything -------------------------------------------------------------------------------------------
 */
static void read_sample(const char *path) {
    static char text[1 << 20];
    struct mesh_resources *r = NULL;
    struct mesh_why why = {""};
    struct mesh_read_opts opts = {.file = path, .keep_refused = true};
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s (run from the root of the tree)", path);
    size_t n = fread(text, 1, sizeof(text), f);
    fclose(f);
    cr_assert_eq(mesh_resources_read(text, n, &opts, &r, &why), 0, "%s", why.text);
    for (size_t i = 0; i < r->n; i++) {
        size_t len = protobuf_c_message_get_packed_size(r->items[i].msg);
        uint8_t *bytes = malloc(len);
        protobuf_c_message_pack(r->items[i].msg, bytes);
        for (int t = 0; t < MESH_ADS_TYPES; t++)
            if (mesh_proto_type(mesh_ads_type_url((enum mesh_ads_type)t)) == r->items[i].type)
                has_bytes(P, (enum mesh_ads_type)t, r->items[i].name, bytes, len);
        free(bytes);
    }
    mesh_resources_free(r);
}

Test(xds, all_that_istio_sends_a_sidecar_is_accepted_and_published) {
    bootstrap.is_wildcard = true;
    start();
    read_sample("tests/data/istio/sidecar.json");
    cr_expect_eq(mesh_xds_state(xds, "reviews.shop.mesh", 9080), MESH_XDS_WAITING);
    up(P);
    push_all(P);
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        cr_expect_str_eq(P->asked[i].error, "", "%s", P->asked[i].error);
    size_t n = mesh_xds_resources(xds)->n;
    cr_expect_eq(n, 7 + 16 + 3, "%s", shown());
    cr_expect(P->asked[MESH_ADS_CLUSTER].whole && P->asked[MESH_ADS_LISTENER].whole);
    cr_expect_eq(P->asked[MESH_ADS_ENDPOINT].n, 11);
    cr_expect_str_eq(changes(), "all");
    cr_expect_eq(mesh_xds_state(xds, "reviews.shop.mesh", 9080), MESH_XDS_KNOWN);
    cr_expect_eq(mesh_xds_state(xds, "reviews.shop.mesh", 9090), MESH_XDS_KNOWN);
    cr_expect_eq(mesh_xds_state(xds, "nothing.shop.mesh", 9090), MESH_XDS_DENIED);
}

Test(xds, all_that_istio_sends_grpc_is_accepted_and_published) {
    bootstrap.server_template = "xds.istio.io/grpc/lds/inbound/%s";
    start();
    read_sample("tests/data/istio/grpc.json");
    want("reviews.shop.mesh", 9080);
    want("reviews.shop.mesh", 9100);
    cr_assert_eq(mesh_xds_want_inbound(xds, "127.0.0.9:8080", now), 0);
    drive();
    up(P);
    push_all(P);
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        cr_expect_str_eq(P->asked[i].error, "", "%s", P->asked[i].error);
    passes(15 * MESH_SEC); /* one half of a split has no cluster in the sample */
    cr_expect_eq(mesh_xds_state(xds, "reviews.shop.mesh", 9080), MESH_XDS_KNOWN);
    cr_expect(strstr(shown(), "LDS xds.istio.io/grpc/lds/inbound/127.0.0.9:8080"), "%s", shown());
}

Test(xds, wildcard_takes_what_is_removed_away) {
    bootstrap.is_wildcard = true;
    start();
    has_cluster(P, "a", "e");
    has_cluster(P, "b", "e");
    has_endpoint(P, "e", "10.0.0.1");
    up(P);
    push_all(P);
    shows("CDS a; CDS b");
    cr_expect_str_eq(changes(), "all");
    has_endpoint(P, "e", "10.0.0.2");
    push(P, MESH_ADS_ENDPOINT);
    cr_expect(strstr("a,b b,a", changes()));
    drop(P, MESH_ADS_CLUSTER, "a");
    push(P, MESH_ADS_CLUSTER);
    shows("CDS b");
    cr_expect_eq(mesh_xds_state(xds, "a", 0), MESH_XDS_DENIED);
}

Test(xds, table_of_names_comes_where_the_node_captures_dns) {
    size_t n;
    bootstrap.is_wildcard = true;
    bootstrap.node = wire_of(&mesh__core__node__descriptor, "{id: n, metadata: {DNS_CAPTURE: 'true'}}", &n);
    bootstrap.node_len = n;
    start();
    up(P);
    cr_expect(P->asked[MESH_ADS_NAMES].any && P->asked[MESH_ADS_NAMES].whole);
    has(P, MESH_ADS_NAMES, "", "{table: {db.mesh: {ips: [10.9.9.9]}}}");
    push_all(P);
    shows("NDS ");
    cr_expect_eq(mesh_xds_state(xds, "db.mesh", 1), MESH_XDS_KNOWN);
    free(bootstrap.node);
    bootstrap.node = NULL;
}

/* ---- servers ----------------------------------------------------------------------------------------------
 */
Test(xds, next_server_is_asked_when_the_first_fails_and_something_is_missing) {
    start_with(2);
    has_web(&peers[1]);
    want("web", 80);
    cr_expect_null(peers[1].ch);
    down(&peers[0], false);
    cr_expect_not_null(peers[1].ch);
    up(&peers[1]);
    push_all(&peers[1]);
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
    cr_expect_not_null(peers[0].ch); /* tried on */
}

Test(xds, stream_that_ended_after_an_answer_is_no_failure) {
    start_with(2);
    want("web", 80);
    up(&peers[0]);
    push(&peers[0], MESH_ADS_LISTENER);
    down(&peers[0], true);
    cr_expect_null(peers[1].ch);
}

Test(xds, server_that_fails_with_all_here_is_not_replaced) {
    start_with(2);
    has_web(&peers[0]);
    want("web", 80);
    up(&peers[0]);
    push_all(&peers[0]);
    passes(15 * MESH_SEC);
    down(&peers[0], false);
    cr_expect_null(peers[1].ch);
    want("other", 80); /* now something is */
    cr_expect_not_null(peers[1].ch);
}

Test(xds, first_server_that_answers_again_takes_over_and_the_other_is_let_go) {
    start_with(2);
    has_web(&peers[0]);
    has_web(&peers[1]);
    has_endpoint(&peers[1], "e", "10.0.0.2");
    want("web", 80);
    down(&peers[0], false);
    up(&peers[1]);
    push_all(&peers[1]);
    cr_expect_str_eq(address_of("c"), "10.0.0.2");
    up(&peers[0]);
    cr_expect_not_null(peers[1].ch);
    cr_expect_str_eq(peers[0].asked[MESH_ADS_ENDPOINT].version, "");
    push_all(&peers[0]);
    cr_expect_null(peers[1].ch);
    cr_expect_str_eq(address_of("c"), "10.0.0.1");
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
}

static struct mesh_xds_authority authority;
static void has_authority(uint32_t first) {
    authority.name = "other";
    authority.client_template = "xdstp://other/envoy.config.listener.v3.Listener/%s";
    authority.servers = &servers[first];
    authority.nservers = 1;
    bootstrap.authorities = &authority;
    bootstrap.nauthorities = 1;
}
#define XDSTP "xdstp://other/envoy.config.listener.v3.Listener/web:80"

Test(xds, names_of_an_authority_are_asked_of_its_servers) {
    has_authority(1);
    bootstrap.client_template = authority.client_template;
    start();
    has_listener(&peers[1], XDSTP, "r");
    has_route(&peers[0], "r", "c");
    has_cluster(&peers[0], "c", "e");
    has_endpoint(&peers[0], "e", "10.0.0.1");
    want("web", 80);
    up(&peers[0]);
    up(&peers[1]);
    cr_expect(is_asked(&peers[1], MESH_ADS_LISTENER, XDSTP));
    cr_expect_not(is_asked(&peers[0], MESH_ADS_LISTENER, XDSTP));
    push_all(&peers[1]);
    push_all(&peers[0]);
    cr_expect_eq(mesh_xds_state(xds, "web", 80), MESH_XDS_KNOWN);
    shows("LDS " XDSTP "; RDS r; CDS c");
}

Test(xds, equal_servers_of_two_authorities_share_a_channel) {
    has_authority(0);
    bootstrap.client_template = authority.client_template;
    start();
    want("web", 80);
    up(&peers[0]); /* the fixture refuses a second one */
    cr_expect(is_asked(&peers[0], MESH_ADS_LISTENER, XDSTP));
}

Test(xds, authority_that_is_not_in_the_bootstrap_is_denied) {
    bootstrap.client_template = "xdstp://nobody/envoy.config.listener.v3.Listener/%s";
    start();
    want("web", 0);
    cr_expect_eq(mesh_xds_state(xds, "web", 0), MESH_XDS_WAITING);
    up(P);
    passes(15 * MESH_SEC);
    cr_expect_eq(mesh_xds_state(xds, "web", 0), MESH_XDS_DENIED);
}

/* ---- for people -------------------------------------------------------------------------------------------
 */
static void on_server(void *arg, const struct mesh_xds_server_info *s) {
    say(arg, "%s%s acks %u nacks %u\n", s->uri, s->is_active ? " active" : "", s->acks, s->nacks);
}
static void on_one(void *arg, const struct mesh_xds_resource_info *r) {
    if (strcmp(r->name, "web") != 0 && strcmp(r->name, "web:80") != 0 &&
        strcmp(r->name, "outbound|80||web") != 0)
        say(arg, "%s %s v=%s %d%s%s%s%s\n", wire_kind(r->type_url), r->name, r->version, r->status,
            r->bytes ? " here" : "", r->error ? " " : "", r->error ? r->error : "",
            r->error_version ? r->error_version : "");
}

Test(xds, servers_and_resources_are_told) {
    struct wire_log l = {.len = 0};
    start_with_web();
    mesh_xds_each_server(xds, on_server, &l);
    cr_expect(strstr(l.text, "server0:1 active acks"), "%s", l.text);
    l.len = 0;
    P->version = 98;
    has_bad_cluster("c");
    push(P, MESH_ADS_CLUSTER);
    mesh_xds_each_resource(xds, on_one, &l);
    cr_expect(strstr(l.text, "CDS c v="), "%s", l.text);
    cr_expect(strstr(l.text, " 4 here eds_cluster_config.eds_config: neither ads nor self99"), "%s", l.text);
    cr_expect(strstr(l.text, "EDS e v="), "%s", l.text);
}

Test(xds, servers_have_answered_when_what_was_asked_for_is_here) {
    struct mesh_xds_change c;
    bool settled;
    start();
    has_web(P);
    want("web", 80);
    up(P);
    push(P, MESH_ADS_CLUSTER);
    cr_expect_not(mesh_xds_changed(xds, now, &c, &settled));
    push_all(P);
    cr_expect(mesh_xds_changed(xds, now, &c, &settled) && c.answered);
}

Test(xds, servers_have_answered_15_s_after_they_came_at_the_latest) {
    struct mesh_xds_change c;
    bool settled;
    start();
    want("web", 80);
    up(P);
    push(P, MESH_ADS_CLUSTER);
    cr_expect_not(mesh_xds_changed(xds, now, &c, &settled));
    passes(14 * MESH_SEC);
    want("other", 80);
    cr_expect_not(mesh_xds_changed(xds, now, &c, &settled));
    passes(1 * MESH_SEC);
    cr_expect(mesh_xds_changed(xds, now, &c, &settled) && c.answered);
}

Test(xds, answer_of_every_server_is_told) {
    struct mesh_xds_change c;
    bool settled;
    bootstrap.is_wildcard = true;
    start();
    up(P);
    cr_expect_not(mesh_xds_changed(xds, now, &c, &settled));
    push(P, MESH_ADS_CLUSTER);
    cr_expect_not(mesh_xds_changed(xds, now, &c, &settled));
    push(P, MESH_ADS_LISTENER);
    cr_expect(mesh_xds_changed(xds, now, &c, &settled) && c.answered && c.all && settled);
}
