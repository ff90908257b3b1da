/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/resolver/fixture.h"
#include "tls/tls.h"

#define TLS "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
#define CHAIN(match, socket)                                                                                 \
    "  - {filter_chain_match: {" match                                                                       \
    "}, filters: [{name: envoy.filters.network.tcp_proxy, typed_config: {'@type': "                          \
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: "  \
    "c}}]" socket "}\n"
#define DOWN(context)                                                                                        \
    ", transport_socket: {name: tls, typed_config: {'@type': " TLS "DownstreamTlsContext, " context "}}"
static const char inbound[] =
    "resources:\n"
    "- '@type': type.googleapis.com/envoy.config.listener.v3.Listener\n"
    "  name: virtualInbound\n"
    "  traffic_direction: INBOUND\n"
    "  use_original_dst: true\n"
    "  address: {socket_address: {address: 0.0.0.0, port_value: 15006}}\n"
    "  filter_chains:\n" CHAIN(
        "destination_port: 8080, transport_protocol: tls",
        DOWN("require_client_certificate: true, common_tls_context: {validation_context: "
             "{match_subject_alt_names: [{prefix: 'spiffe://shop/'}]}}"))
        CHAIN("destination_port: 9090, transport_protocol: tls", DOWN("require_client_certificate: true"))
            CHAIN("destination_port: 9090, transport_protocol: raw_buffer", "") CHAIN(
                "destination_port: 7070, prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]",
                DOWN("require_client_certificate: true"))
                CHAIN("destination_port: 7070, prefix_ranges: [{address_prefix: 10.1.0.0, prefix_len: 16}]",
                      "") CHAIN("destination_port: 6060, server_names: [a.mesh]",
                                DOWN("common_tls_context: {tls_certificates: [{certificate_chain: "
                                     "{inline_string: A}, private_key: {inline_string: A}}]}"))
                    CHAIN("destination_port: 6060, server_names: ['*.mesh']",
                          DOWN("common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: "
                               "ANY}, private_key: {inline_string: ANY}}]}")) "  - {filter_chain_match: "
                                                                              "{destination_port: 5050}, "
                                                                              "filters: [{name: "
                                                                              "envoy.filters.network.rbac}"
                                                                              "]" DOWN(
                                                                                  "require_client_"
                                                                                  "certificate: true") "}"
                                                                                                       "\n";

static struct mesh_facts tls_facts(const char *sni, const char *alpn) {
    struct mesh_facts f = {.kind = MESH_FACTS_TLS};
    snprintf(f.sni, sizeof f.sni, "%s", sni);
    if (alpn) {
        f.alpn_len = (uint8_t)(strlen(alpn) + 1);
        f.alpn[0] = (uint8_t)strlen(alpn);
        memcpy(f.alpn + 1, alpn, strlen(alpn));
    }
    return f;
}

/* `peer` NULL: not known. */
static int ask(const struct fixture *f, const char *addr, uint16_t port, const char *peer,
               const struct mesh_facts *facts, struct mesh_inbound **ret) {
    struct sockaddr_in local = fixture_addr(addr, port), from = fixture_addr(peer ? peer : "0.0.0.0", 40000);
    struct mesh_caller who = {.local = (struct sockaddr *)&local,
                              .local_len = sizeof local,
                              .peer = peer ? (struct sockaddr *)&from : NULL,
                              .peer_len = sizeof from,
                              .facts = facts};
    return mesh_view_inbound(f->view, &who, ret, NULL);
}

static void mode_is(const struct fixture *f, const char *addr, uint16_t port, enum mesh_inbound_mode mode) {
    struct mesh_inbound *in;
    cr_assert_eq(ask(f, addr, port, NULL, NULL, &in), 0, "%s:%u", addr, port);
    cr_assert_eq(in->mode, mode, "%s:%u is %d", addr, port, in->mode);
    free(in);
}

Test(inbound, mode_follows_the_chains_of_the_port) {
    struct fixture f;
    struct mesh_inbound *in;
    struct mesh_facts plain = {.kind = MESH_FACTS_PLAIN};
    fixture_start(&f, inbound);
    mode_is(&f, "127.0.0.1", 8080, MESH_INBOUND_STRICT);
    mode_is(&f, "127.0.0.1", 9090, MESH_INBOUND_PERMISSIVE);
    mode_is(&f, "10.2.0.1", 7070, MESH_INBOUND_STRICT);
    mode_is(&f, "10.1.0.1", 7070, MESH_INBOUND_OFF);
    cr_assert_eq(ask(&f, "11.0.0.1", 7070, NULL, NULL, &in), MESH_E_REFUSED);
    cr_assert_eq(ask(&f, "127.0.0.1", 1, NULL, NULL, &in), MESH_E_NOTFOUND);
    cr_assert_eq(ask(&f, "127.0.0.1", 8080, NULL, &plain, &in), MESH_E_REFUSED);
    cr_assert_eq(ask(&f, "127.0.0.1", 8080, NULL, NULL, &in), 0);
    cr_assert_eq(in->ncallers, 1);
    cr_assert_str_eq(in->callers[0].text, "spiffe://shop/");
    cr_assert(!in->no_client_cert);
    cr_assert(!in->judged);
    free(in);
    fixture_done(&f);
}

Test(inbound, chain_with_an_unknown_filter_is_refused_when_it_is_the_one) {
    struct fixture f;
    struct mesh_inbound *in;
    struct mesh_facts tls = tls_facts("", "istio");
    fixture_start(&f, inbound);
    cr_assert_eq(ask(&f, "127.0.0.1", 5050, NULL, NULL, &in), 0);
    cr_assert(in->judged);
    cr_assert_eq(in->mode, MESH_INBOUND_STRICT);
    free(in);
    cr_assert_eq(ask(&f, "127.0.0.1", 5050, "127.0.0.1", &tls, &in), MESH_E_UNSUPPORTED);
    fixture_done(&f);
}

Test(inbound, server_name_chooses_the_certificate) {
    struct fixture f;
    struct mesh_inbound *in;
    struct mesh_facts a = tls_facts("a.mesh", NULL), b = tls_facts("b.mesh", NULL),
                      other = tls_facts("other", NULL), cut = {.kind = MESH_FACTS_TLS, .cut_sni = 1};
    fixture_start(&f, inbound);
    cr_assert_eq(ask(&f, "127.0.0.1", 6060, NULL, &a, &in), 0);
    cr_assert_str_eq(in->cert, "A");
    free(in);
    cr_assert_eq(ask(&f, "127.0.0.1", 6060, NULL, &b, &in), 0);
    cr_assert_str_eq(in->cert, "ANY");
    free(in);
    cr_assert_eq(ask(&f, "127.0.0.1", 6060, NULL, &other, &in), MESH_E_REFUSED);
    cr_assert_eq(ask(&f, "127.0.0.1", 6060, NULL, &cut, &in), 0);
    free(in);
    fixture_done(&f);
}

/* ---- who calls ---- */
#define NAMED(name, match)                                                                                   \
    CHAIN(match,                                                                                             \
          DOWN("require_client_certificate: true, common_tls_context: {tls_certificates: "                   \
               "[{certificate_chain: {inline_string: " name "}, private_key: {inline_string: " name "}}]}"))
#define LISTENER(name, more)                                                                                 \
    "- '@type': type.googleapis.com/envoy.config.listener.v3.Listener\n"                                     \
    "  name: " name "\n  traffic_direction: INBOUND\n" more "  filter_chains:\n"
static const char by_caller[] = "resources:\n" LISTENER(
    "virtualInbound", "  use_original_dst: true\n"
                      "  address: {socket_address: {address: 0.0.0.0, port_value: 15006}}\n")
    NAMED("D8",
          "destination_port: 1000, direct_source_prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]")
        NAMED("D16", "destination_port: 1000, direct_source_prefix_ranges: [{address_prefix: 10.1.0.0, "
                     "prefix_len: 16}]")
            NAMED("S8",
                  "destination_port: 2000, source_prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]")
                NAMED("SANY", "destination_port: 2000")
                    NAMED("LOCAL", "destination_port: 3000, source_type: SAME_IP_OR_LOOPBACK") NAMED(
                        "EXTERNAL", "destination_port: 3000, source_type: EXTERNAL")
                        NAMED("PORT", "destination_port: 4000, source_ports: [40000]") NAMED(
                            "H2", "destination_port: 5000, application_protocols: [h2, istio-h2]")
                            NAMED("OTHER", "destination_port: 5000, transport_protocol: tls")
                                NAMED("CATCHALL", "destination_port: 6000") LISTENER(
                                    "very",
                                    "  address: {socket_address: {address: 127.0.0.9, port_value: 6000}}\n"
                                    "  additional_addresses: [{address: {socket_address: {address: "
                                    "127.0.0.8, port_value: 6001}}}]\n") NAMED("VERY", "")
                                    LISTENER(
                                        "all",
                                        "  address: {socket_address: {address: 0.0.0.0, port_value: 6000}}\n")
                                        NAMED("ALL", "");

static void chain_is(const struct fixture *f, const char *addr, uint16_t port, const char *peer,
                     const char *alpn, const char *name) {
    struct mesh_inbound *in;
    struct mesh_facts tls = tls_facts("", alpn);
    int rc = ask(f, addr, port, peer, &tls, &in);
    if (!name) {
        cr_expect_eq(rc, MESH_E_REFUSED, "%s:%u from %s: %d", addr, port, peer, rc);
        return;
    }
    cr_assert_eq(rc, 0, "%s:%u from %s: %d", addr, port, peer, rc);
    cr_expect_str_eq(in->cert, name, "%s:%u from %s: %s", addr, port, peer, in->cert);
    free(in);
}

Test(inbound, caller_s_address_chooses_the_chain) {
    struct fixture f;
    fixture_start(&f, by_caller);
    chain_is(&f, "127.0.0.1", 1000, "10.2.0.1", NULL, "D8");
    chain_is(&f, "127.0.0.1", 1000, "10.1.0.1", NULL, "D16");
    chain_is(&f, "127.0.0.1", 1000, "11.0.0.1", NULL, NULL);
    chain_is(&f, "127.0.0.1", 2000, "10.0.0.1", NULL, "S8");
    chain_is(&f, "127.0.0.1", 2000, "11.0.0.1", NULL, "SANY");
    chain_is(&f, "127.0.0.1", 3000, "127.1.1.1", NULL, "LOCAL");
    chain_is(&f, "10.0.0.5", 3000, "10.0.0.5", NULL, "LOCAL");
    chain_is(&f, "10.0.0.5", 3000, "10.0.0.6", NULL, "EXTERNAL");
    chain_is(&f, "127.0.0.1", 4000, "127.0.0.1", NULL, "PORT");
    fixture_done(&f);
}

Test(inbound, protocols_offered_choose_the_chain) {
    struct fixture f;
    fixture_start(&f, by_caller);
    chain_is(&f, "127.0.0.1", 5000, "127.0.0.1", "istio", "OTHER");
    chain_is(&f, "127.0.0.1", 5000, "127.0.0.1", NULL, "OTHER");
    fixture_done(&f);
}

Test(inbound, listener_on_the_very_address_stands_before_others) {
    struct fixture f;
    struct mesh_inbound *in;
    fixture_start(&f, by_caller);
    chain_is(&f, "127.0.0.9", 6000, "127.0.0.1", NULL, "VERY");
    chain_is(&f, "127.0.0.8", 6001, "127.0.0.1", NULL, "VERY");
    chain_is(&f, "127.0.0.7", 6000, "127.0.0.1", NULL, "ALL");
    cr_expect_eq(ask(&f, "127.0.0.7", 6001, NULL, NULL, &in), MESH_E_NOTFOUND);
    fixture_done(&f);
}
