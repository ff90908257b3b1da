/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/bootstrap.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "proto/core.pb-c.h"
#include "proto/proto.h"

#define SERVER "{'server_uri': 'xds.example:18000', 'channel_creds': [{'type': 'insecure'}]}"

/* JSON with ' for ". */
static char *json(const char *text) {
    static char out[4096];
    snprintf(out, sizeof out, "%s", text);
    for (char *p = out; *p; p++)
        if (*p == '\'')
            *p = '"';
    return out;
}

static struct mesh_bootstrap *reads(const char *text) {
    struct mesh_bootstrap *b = NULL;
    struct mesh_why why = {""};
    const char *t = json(text);
    cr_assert_eq(mesh_bootstrap_parse(t, strlen(t), "f", &b, &why), 0, "%s: %s", t, why.text);
    return b;
}

static void fails(const char *text, int err, const char *says) {
    struct mesh_bootstrap *b = (void *)1;
    struct mesh_why why = {""};
    const char *t = json(text);
    int got = mesh_bootstrap_parse(t, strlen(t), "f", &b, &why);
    cr_expect_eq(got, err, "%s: %s, %s", t, mesh_err_text(got), why.text);
    cr_expect_eq(b, (void *)1, "the result was touched");
    cr_expect(strstr(why.text, says), "%s: %s", t, why.text);
}

static void server_fails(const char *members, int err, const char *says) {
    char text[1024];
    snprintf(text, sizeof text, "{'xds_servers': [{%s}]}", members);
    fails(text, err, says);
}

static void top_fails(const char *members, const char *says) {
    char text[1024];
    snprintf(text, sizeof text, "{'xds_servers': [" SERVER "], %s}", members);
    fails(text, MESH_E_INVALID, says);
}

static struct mesh_bootstrap *with_uri(const char *uri) {
    char text[512];
    snprintf(text, sizeof text,
             "{'xds_servers': [{'server_uri': '%s', 'channel_creds': [{'type': 'insecure'}]}]}", uri);
    return reads(text);
}

Test(bootstrap, whole_file_is_taken) {
    struct mesh_bootstrap *b = reads(
        "{'xds_servers': [{'server_uri': 'dns:///a.example:15012', 'channel_creds': [{'type': "
        "'google_default'}, "
        "{'type': 'tls', 'config': {'ca_certificate_file': '/ca', 'certificate_file': '/cert', "
        "'private_key_file': '/key', 'refresh_interval': '1.5s'}}, {'type': 'insecure'}], "
        "'call_creds': [{'type': 'other'}, {'type': 'jwt_token_file', 'config': {'jwt_token_file': "
        "'/token'}}], "
        "'server_features': ['xds_v3', 'delta', 7, 'ignore_resource_deletion', 'trusted_xds_server']}, "
        "{'server_uri': 'unix:///run/xds.sock', 'channel_creds': [{'type': 'insecure'}], "
        "'server_features': ['fail_on_data_errors', 'resource_timer_is_transient_error']}], "
        "'node': {'id': 'n', 'cluster': 'c', 'locality': {'region': 'r', 'zone': 'z', 'sub_zone': 's'}}, "
        "'authorities': {'': {}, 'a': {'xds_servers': [" SERVER "], "
        "'client_listener_resource_name_template': 'xdstp://a/x/%s'}}, "
        "'certificate_providers': {'default': {'plugin_name': 'file_watcher', 'config': {'certificate_file': "
        "'/c', 'private_key_file': '/k', 'ca_certificate_file': '/r'}}, 'odd': {'plugin_name': 'x'}}, "
        "'client_default_listener_resource_name_template': 'l/%s', "
        "'server_listener_resource_name_template': 's/%s', 'not_known': [1]}");
    cr_assert_eq(b->nservers, 2u);
    const struct mesh_xds_server *s = b->servers;
    cr_expect_str_eq(s[0].uri, "dns:///a.example:15012");
    cr_expect_str_eq(s[0].host, "a.example");
    cr_expect_eq(s[0].port, 15012);
    cr_expect(s[0].is_tls && !s[0].is_unix && s[0].is_delta && s[0].keeps_deleted && s[0].is_trusted);
    cr_expect(!s[0].fails_on_data_errors && !s[0].timer_is_transient);
    cr_expect_str_eq(s[0].tls.ca, "/ca");
    cr_expect_str_eq(s[0].tls.cert, "/cert");
    cr_expect_str_eq(s[0].tls.key, "/key");
    cr_expect_eq(s[0].tls.refresh, UINT64_C(1500000000));
    cr_expect_str_eq(s[0].token_file, "/token");
    cr_expect(s[1].is_unix && !s[1].is_tls && s[1].fails_on_data_errors && s[1].timer_is_transient);
    cr_expect_str_eq(s[1].host, "/run/xds.sock");
    cr_expect_null(s[1].token_file);
    cr_assert_eq(b->nauthorities, 2u);
    cr_expect_str_eq(b->authorities[0].name, "");
    cr_expect_str_eq(b->authorities[0].client_template, "xdstp:///envoy.config.listener.v3.Listener/%s");
    cr_expect_eq(b->authorities[0].servers, b->servers);
    cr_expect_eq(b->authorities[0].nservers, 2u);
    cr_expect_str_eq(b->authorities[1].client_template, "xdstp://a/x/%s");
    cr_expect_eq(b->authorities[1].nservers, 1u);
    cr_assert_eq(b->nproviders, 2u);
    cr_expect_str_eq(b->providers[0].instance, "default");
    cr_expect(b->providers[0].is_supported && !b->providers[1].is_supported);
    cr_expect_str_eq(b->providers[0].files.ca, "/r");
    cr_expect_eq(b->providers[0].files.refresh, UINT64_C(600000000000));
    cr_expect_str_eq(b->client_template, "l/%s");
    cr_expect_str_eq(b->server_template, "s/%s");
    cr_expect_str_eq(b->node_id, "n");
    cr_expect_str_eq(b->node_cluster, "c");
    cr_expect_str_eq(b->region, "r");
    cr_expect_str_eq(b->zone, "z");
    cr_expect_str_eq(b->sub_zone, "s");
    cr_expect(!b->is_wildcard);
    mesh_bootstrap_free(b);
}

Test(bootstrap, little_said_has_defaults) {
    struct mesh_bootstrap *b = reads("{'xds_servers': [" SERVER "]}");
    cr_expect_str_eq(b->client_template, "%s");
    cr_expect_null(b->server_template);
    cr_expect_str_eq(b->node_id, "");
    cr_expect_str_eq(b->region, "");
    cr_expect(b->node_len > 0);
    cr_expect_eq(b->servers[0].tls.refresh, UINT64_C(0), "no TLS, no files to read again");
    cr_expect_null(b->servers[0].tls.ca);
    mesh_bootstrap_free(b);
    b = reads("{'xds_servers': [{'server_uri': 'a:1', 'channel_creds': [{'type': 'tls'}]}]}");
    cr_expect_eq(b->servers[0].tls.refresh, UINT64_C(600000000000));
    mesh_bootstrap_free(b);
}

static Mesh__Core__Node *node_of(const struct mesh_bootstrap *b) {
    ProtobufCMessage *m;
    cr_assert_eq(mesh_proto_unpack(&mesh__core__node__descriptor, b->node, b->node_len, &m), 0);
    return (Mesh__Core__Node *)m;
}

Test(bootstrap, node_says_who_asks_and_keeps_its_metadata) {
    struct mesh_bootstrap *b = reads("{'xds_servers': [" SERVER "], 'node': {'id': 'n', 'metadata': "
                                     "{'GENERATOR': 'grpc', 'N': 1.5, 'L': [true, null, {'x': 'y'}]}, "
                                     "'user_agent_name': 'somebody', 'client_features': ['f'], 'odd': 1}}");
    Mesh__Core__Node *n = node_of(b);
    cr_expect_str_eq(n->id, "n");
    cr_expect_str_eq(n->user_agent_name, "meshshim");
    cr_expect_eq(n->user_agent_version_type_case,
                 MESH__CORE__NODE__USER_AGENT_VERSION_TYPE_USER_AGENT_VERSION);
    cr_assert_eq(n->n_client_features, 2u);
    cr_expect_str_eq(n->client_features[0], "xds.config.resource-in-sotw");
    cr_expect_str_eq(n->client_features[1], "xds.config.supports-resource-ttl");
    cr_assert_eq(n->metadata->n_fields, 3u);
    cr_expect_str_eq(n->metadata->fields[0]->value->string_value, "grpc");
    cr_expect_eq(n->metadata->fields[1]->value->number_value, 1.5);
    const Mesh__Pb__ListValue *l = n->metadata->fields[2]->value->list_value;
    cr_assert_eq(l->n_values, 3u);
    cr_expect_str_eq(l->values[2]->struct_value->fields[0]->value->string_value, "y");
    protobuf_c_message_free_unpacked(&n->base, NULL);
    mesh_bootstrap_free(b);
}

static bool wildcard(const char *members) {
    char text[512];
    snprintf(text, sizeof text, "{'xds_servers': [" SERVER "], %s}", members);
    struct mesh_bootstrap *b = reads(text);
    bool is = b->is_wildcard;
    mesh_bootstrap_free(b);
    return is;
}

Test(bootstrap, wildcard_is_said_by_the_template_or_an_istio_proxy) {
    cr_expect(wildcard("'client_default_listener_resource_name_template': '*'"));
    cr_expect(wildcard("'node': {'id': 'sidecar~10.0.0.1~a.b~b.svc.cluster.local'}"));
    cr_expect(wildcard("'node': {'id': 'sidecar~10.0.0.1~a.b~b.svc', 'metadata': {'GENERATOR': 'x'}}"));
    cr_expect(!wildcard("'node': {'id': 'sidecar~10.0.0.1~a.b~b.svc', 'metadata': {'GENERATOR': 'grpc'}}"));
    cr_expect(!wildcard("'node': {'id': 'sidecar'}"));
}

Test(bootstrap, targets_name_host_and_port) {
    static const struct {
        const char *uri, *host;
        uint16_t port;
        bool is_unix;
    } cases[] = {
        {"a.b:1", "a.b", 1, false},
        {"a.b", "a.b", 443, false},
        {"localhost:18000", "localhost", 18000, false},
        {"dns:a:2", "a", 2, false},
        {"dns:///a:3", "a", 3, false},
        {"dns://8.8.8.8/a:3", "a", 3, false},
        {"passthrough:///a:4", "a", 4, false},
        {"ipv4:10.0.0.1:5", "10.0.0.1", 5, false},
        {"10.0.0.1:5", "10.0.0.1", 5, false},
        {"ipv6:[::1]:6", "::1", 6, false},
        {"[2001:db8::1]:7", "2001:db8::1", 7, false},
        {"[2001:db8::1]", "2001:db8::1", 443, false},
        {"2001:db8::1", "2001:db8::1", 443, false},
        {"unix:rel/x", "rel/x", 0, true},
        {"unix:/abs/x", "/abs/x", 0, true},
        {"unix:///abs/x", "/abs/x", 0, true},
        {"unix-abstract:name", "@name", 0, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mesh_bootstrap *b = with_uri(cases[i].uri);
        cr_expect_str_eq(b->servers[0].host, cases[i].host, "%s: %s", cases[i].uri, b->servers[0].host);
        cr_expect_eq(b->servers[0].port, cases[i].port, "%s: %u", cases[i].uri, b->servers[0].port);
        cr_expect_eq(b->servers[0].is_unix, cases[i].is_unix);
        mesh_bootstrap_free(b);
    }
}

Test(bootstrap, targets_of_other_kinds_are_refused) {
    static const char *const wrong[] = {"xds:///a",
                                        "https://a",
                                        ":1",
                                        "a:0",
                                        "a:65536",
                                        "a:b",
                                        "a:1x",
                                        "[::1",
                                        "[::1]x",
                                        "unix:",
                                        "dns:///",
                                        "dns://a",
                                        "ipv4:1.1.1.1:1,1.1.1.2:2",
                                        "a/b:1",
                                        "[]:1",
                                        "a:"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char members[256];
        snprintf(members, sizeof members, "'server_uri': '%s', 'channel_creds': [{'type': 'insecure'}]",
                 wrong[i]);
        server_fails(members, MESH_E_INVALID, "f:1:33: xds_servers[0].server_uri: ");
    }
}

#define URI "'server_uri': 'a:1', "
Test(bootstrap, each_wrong_key_of_a_server_is_named) {
    fails("{}", MESH_E_INVALID, "f:1:1: xds_servers: is missing");
    fails("[]", MESH_E_INVALID, "f:1:1: wants a map");
    fails("{", MESH_E_SYNTAX, "f:");
    fails("{'xds_servers': []}", MESH_E_INVALID, "xds_servers: is empty");
    fails("{'xds_servers': {}}", MESH_E_INVALID, "xds_servers: wants a list");
    fails("{'xds_servers': [" SERVER ", 1]}", MESH_E_INVALID, "xds_servers[1]: wants a map");
    server_fails("'channel_creds': []", MESH_E_INVALID, "xds_servers[0].server_uri: is missing");
    server_fails("'server_uri': 1", MESH_E_INVALID, "xds_servers[0].server_uri: wants a text");
    server_fails("'server_uri': ''", MESH_E_INVALID, "xds_servers[0].server_uri: is empty");
    server_fails("'server_uri': 'a:1'", MESH_E_INVALID, "xds_servers[0].channel_creds: is missing");
    server_fails(URI "'channel_creds': {}", MESH_E_INVALID, "xds_servers[0].channel_creds: wants a list");
    server_fails(URI "'channel_creds': []", MESH_E_UNSUPPORTED,
                 "xds_servers[0].channel_creds: none of a type");
    server_fails(URI "'channel_creds': [{'type': 'alts'}]", MESH_E_UNSUPPORTED,
                 "xds_servers[0].channel_creds: ");
    server_fails(URI "'channel_creds': [1]", MESH_E_INVALID, "xds_servers[0].channel_creds[0]: wants a map");
    server_fails(URI "'channel_creds': [{}]", MESH_E_INVALID,
                 "xds_servers[0].channel_creds[0].type: is missing");
    server_fails(URI "'channel_creds': [{'type': 1}]", MESH_E_INVALID, "channel_creds[0].type: wants a text");
#define TLS(c) URI "'channel_creds': [{'type': 'tls', 'config': " c "}]"
    server_fails(TLS("1"), MESH_E_INVALID, "channel_creds[0].config: wants a map");
    server_fails(TLS("{'certificate_file': '/c'}"), MESH_E_INVALID, "config.private_key_file: is missing");
    server_fails(TLS("{'private_key_file': '/k'}"), MESH_E_INVALID, "config.certificate_file: is missing");
    server_fails(TLS("{'certificate_file': '', 'private_key_file': '/k'}"), MESH_E_INVALID,
                 "config.certificate_file: is empty");
    server_fails(TLS("{'ca_certificate_file': 1}"), MESH_E_INVALID,
                 "config.ca_certificate_file: wants a text");
    server_fails(TLS("{'refresh_interval': '5'}"), MESH_E_INVALID,
                 "config.refresh_interval: wants a duration");
    server_fails(TLS("{'refresh_interval': '0s'}"), MESH_E_INVALID, "config.refresh_interval: must be more");
#define CREDS "'channel_creds': [{'type': 'tls'}]"
    server_fails(URI CREDS ", 'call_creds': 1", MESH_E_INVALID, "xds_servers[0].call_creds: wants a list");
    server_fails(URI CREDS ", 'call_creds': [1]", MESH_E_INVALID, "call_creds[0]: wants a map");
    server_fails(URI CREDS ", 'call_creds': [{}]", MESH_E_INVALID, "call_creds[0].type: is missing");
    server_fails(URI CREDS ", 'call_creds': [{'type': 'jwt_token_file'}]", MESH_E_INVALID,
                 "call_creds[0].config.jwt_token_file: is missing");
    server_fails(
        URI "'channel_creds': [{'type': 'insecure'}], 'call_creds': [{'type': 'jwt_token_file', 'config': "
            "{'jwt_token_file': '/t'}}]",
        MESH_E_INVALID, "xds_servers[0].call_creds: a token is not sent");
    server_fails(URI CREDS ", 'server_features': 'delta'", MESH_E_INVALID, "server_features: wants a list");
}

Test(bootstrap, each_other_wrong_key_is_named) {
    top_fails("'node': []", "node: wants a map");
    top_fails("'node': {'id': 1}", "node.id: ");
    top_fails("'node': {'locality': 1}", "node.locality: ");
    top_fails("'node': {'metadata': []}", "node.metadata: ");
    top_fails("'client_default_listener_resource_name_template': 1",
              "client_default_listener_resource_name_template: wants a text");
    top_fails("'server_listener_resource_name_template': 1", "server_listener_resource_name_template: wants");
    top_fails("'authorities': []", "authorities: wants a map");
    top_fails("'authorities': {'a/b': {}}", "authorities[a/b]: is the name of no authority");
    top_fails("'authorities': {'a': 1}", "authorities[a]: wants a map");
    top_fails("'authorities': {'a': {'client_listener_resource_name_template': 'x/%s'}}",
              "authorities[a].client_listener_resource_name_template: must begin with xdstp://a/");
    top_fails("'authorities': {'a': {'xds_servers': []}}", "authorities[a].xds_servers: is empty");
    top_fails("'authorities': {'a': {'xds_servers': [{}]}}", "authorities[a].xds_servers[0].server_uri: ");
    top_fails("'certificate_providers': []", "certificate_providers: wants a map");
    top_fails("'certificate_providers': {'d': {}}", "certificate_providers[d].plugin_name: is missing");
    top_fails("'certificate_providers': {'d': {'plugin_name': 'file_watcher'}}",
              "certificate_providers[d].config: is missing");
    top_fails("'certificate_providers': {'d': {'plugin_name': 'file_watcher', 'config': {}}}",
              "certificate_providers[d].config: names neither");
    top_fails("'certificate_providers': {'d': {'plugin_name': 'file_watcher', 'config': {'certificate_file': "
              "'/c'}}}",
              "certificate_providers[d].config.private_key_file: is missing");
}

Test(bootstrap, file_wins_over_text_and_neither_is_not_found) {
    struct mesh_bootstrap *b = NULL;
    struct mesh_why why = {""};
    char path[] = "/tmp/mesh-bootstrap-XXXXXX";
    int fd = mkstemp(path);
    const char *t = json("{'xds_servers': [" SERVER "], 'node': {'id': 'of-file'}}");
    cr_assert_eq(write(fd, t, strlen(t)), (ssize_t)strlen(t));
    close(fd);
    cr_assert_eq(mesh_bootstrap_load(path, "rubbish", &b, &why), 0, "%s", why.text);
    cr_expect_str_eq(b->node_id, "of-file");
    mesh_bootstrap_free(b);
    unlink(path);
    cr_expect_eq(mesh_bootstrap_load(path, t, &b, &why), MESH_E_IO);
    cr_assert_eq(mesh_bootstrap_load(NULL, t, &b, &why), 0, "%s", why.text);
    mesh_bootstrap_free(b);
    cr_expect_eq(mesh_bootstrap_load(NULL, "{}", &b, &why), MESH_E_INVALID);
    cr_expect(strstr(why.text, "GRPC_XDS_BOOTSTRAP_CONFIG:1:1: xds_servers"), "%s", why.text);
    cr_expect_eq(mesh_bootstrap_load(NULL, NULL, &b, &why), MESH_E_NOTFOUND);
    cr_expect_eq(mesh_bootstrap_load("", "", &b, &why), MESH_E_NOTFOUND);
}

static void digest_of(const char *members, uint8_t ret[16]) {
    char text[512];
    snprintf(text, sizeof text, "{%s}", members);
    struct mesh_bootstrap *b = reads(text);
    memcpy(ret, b->digest, 16);
    mesh_bootstrap_free(b);
}

Test(bootstrap, digest_tells_sources_apart) {
    static const char *const sources[] = {
        "'xds_servers': [" SERVER "]",
        "'xds_servers': [" SERVER ", " SERVER "]",
        "'xds_servers': [{'server_uri': 'xds.example:18000', 'channel_creds': [{'type': 'tls'}]}]",
        "'xds_servers': [{'server_uri': 'xds.example:18000', 'channel_creds': [{'type': 'tls', 'config': "
        "{'ca_certificate_file': '/ca'}}]}]",
        "'xds_servers': [" SERVER "], 'node': {'id': 'n'}",
        "'xds_servers': [" SERVER "], 'client_default_listener_resource_name_template': 'x'",
        "'xds_servers': [" SERVER "], 'server_listener_resource_name_template': 'x'",
        "'xds_servers': [" SERVER "], 'authorities': {'a': {}}",
    };
    enum { N = sizeof sources / sizeof *sources };
    uint8_t digests[N][16], again[16];
    for (int i = 0; i < N; i++) {
        digest_of(sources[i], digests[i]);
        digest_of(sources[i], again);
        cr_expect_eq(memcmp(digests[i], again, 16), 0);
        for (int k = 0; k < i; k++)
            cr_expect_neq(memcmp(digests[i], digests[k], 16), 0, "%d and %d", i, k);
    }
}

Test(bootstrap, resource_leads_to_its_authority) {
    struct mesh_bootstrap *b =
        reads("{'xds_servers': [" SERVER "], 'authorities': {'': {}, 'a.b': {}, 'c d': {}}}");
    const struct mesh_xds_authority *a = (void *)1;
    cr_assert_eq(mesh_bootstrap_authority(b, "reviews.shop.mesh:80", &a), 0);
    cr_expect_null(a);
    cr_assert_eq(mesh_bootstrap_authority(b, "xdstp://a.b/t/x", &a), 0);
    cr_expect_str_eq(a->name, "a.b");
    cr_assert_eq(mesh_bootstrap_authority(b, "xdstp://c%20d/t/x", &a), 0);
    cr_expect_str_eq(a->name, "c d");
    cr_expect_str_eq(a->client_template, "xdstp://c%20d/envoy.config.listener.v3.Listener/%s");
    cr_assert_eq(mesh_bootstrap_authority(b, "xdstp:///t/x", &a), 0);
    cr_expect_str_eq(a->name, "");
    cr_assert_eq(mesh_bootstrap_authority(b, "xdstp:/t/x", &a), 0);
    cr_expect_str_eq(a->name, "");
    static const char *const none[] = {"xdstp://a/t", "xdstp://a.bc/t", "xdstp://c%2/t", "xdstp://a.b%00/t"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        cr_expect_eq(mesh_bootstrap_authority(b, none[i], &a), MESH_E_NOTFOUND, "%s", none[i]);
    mesh_bootstrap_free(b);
}

static void expands(const char *template_, const char *target, const char *to) {
    char name[64] = "";
    cr_expect_eq(mesh_bootstrap_expand(template_, target, name, sizeof name), 0);
    cr_expect_str_eq(name, to, "%s", name);
}

Test(bootstrap, template_is_filled_in) {
    expands("%s", "a.b:80", "a.b:80");
    expands("x", "a", "x");
    expands("%s/%s%", "a", "a/a%");
    expands("l/%s", "[::]:8080", "l/[::]:8080");
    expands("xdstp://a/t/%s", "[::]:80/x y%", "xdstp://a/t/%5B::%5D:80/x%20y%25");
    char name[8];
    cr_expect_eq(mesh_bootstrap_expand("%s", "1234567", name, sizeof name), 0);
    cr_expect_eq(mesh_bootstrap_expand("%s", "12345678", name, sizeof name), MESH_E_LIMIT);
}
