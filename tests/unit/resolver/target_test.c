/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/resolver/fixture.h"
#include "tls/tls.h"

#define TLS "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
#define CLUSTER(name, context)                                                                               \
    "- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\n"                                       \
    "  name: " name "\n"                                                                                     \
    "  connect_timeout: 2s\n"                                                                                \
    "  load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: "                 \
    "{socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}\n"                                          \
    "  transport_socket: {name: envoy.transport_sockets.tls, typed_config: {'@type': " TLS                   \
    "UpstreamTlsContext, " context "}}\n"

static int target(const struct fixture *f, const char *name, struct mesh_target **ret) {
    struct mesh_route r;
    int rc = fixture_connect(f->view, name, 80, 0, &r);
    return rc ? rc : mesh_view_target(f->view, &r, 0, ret);
}

static const char contexts[] = "resources:\n" CLUSTER(
    "full.mesh",
    "sni: outer, common_tls_context: {alpn_protocols: [istio-peer-exchange, istio, h2], tls_params: "
    "{tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3}, "
    "tls_certificates: [{certificate_chain: {inline_string: CHAIN}, private_key: {inline_string: KEY}}], "
    "validation_context: {trusted_ca: {inline_string: ROOTS}, match_subject_alt_names: [{exact: "
    "superseded}], match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: 'spiffe://shop/'}}, "
    "{san_type: DNS, matcher: {exact: Db, ignore_case: true}}]}}")
    CLUSTER("sds.mesh",
            "common_tls_context: {tls_certificate_sds_secret_configs: [{name: mine}], "
            "combined_validation_context: {default_validation_context: {match_subject_alt_names: [{exact: "
            "'spiffe://shop/ns/a/sa/b'}]}, validation_context_sds_secret_config: {name: roots}}}")
        CLUSTER("ours.mesh", "common_tls_context: {tls_certificate_sds_secret_configs: [{name: "
                             "default}], validation_context_sds_secret_config: {name: ROOTCA}}")
            CLUSTER("lost.mesh", "common_tls_context: {tls_certificate_sds_secret_configs: [{name: "
                                 "nobody}]}") "- '@type': " TLS "Secret\n  name: mine\n  tls_certificate: "
                                              "{certificate_chain: {inline_string: MINE}, private_key: "
                                              "{inline_string: SECRET}}\n"
                                              "- '@type': " TLS
                                              "Secret\n  name: roots\n  validation_context: {trusted_ca: "
                                              "{inline_string: THEIRS}}\n";

Test(target, context_is_read_in_full) {
    struct fixture f;
    struct mesh_target *t;
    fixture_start(&f, contexts);
    cr_assert_eq(target(&f, "full.mesh", &t), 0);
    cr_assert_eq(t->connect_timeout_ms, 2000);
    cr_assert_eq(t->attempts, 10);
    cr_assert_str_eq(t->sni, "outer");
    cr_assert_eq(t->alpn_len, 9);
    cr_assert_eq(memcmp(t->alpn, "\5istio\2h2", 9), 0);
    cr_assert_eq(t->min_version, 0x0303);
    cr_assert_eq(t->max_version, 0x0304);
    cr_assert_str_eq(t->cert, "CHAIN");
    cr_assert_str_eq(t->key, "KEY");
    cr_assert_str_eq(t->ca, "ROOTS");
    cr_assert_eq(t->npeers, 2);
    cr_assert_eq(t->peers[0].kind, MESH_MATCH_PREFIX);
    cr_assert_eq(t->peers[0].san_type, MESH_SAN_URI);
    cr_assert_str_eq(t->peers[0].text, "spiffe://shop/");
    cr_assert_eq(t->peers[1].san_type, MESH_SAN_DNS);
    cr_assert(t->peers[1].ignore_case);
    cr_assert(!t->any_peer_san);
    free(t);
    fixture_done(&f);
}

Test(target, secrets_of_the_file_are_merged_into_the_context) {
    struct fixture f;
    struct mesh_target *t;
    fixture_start(&f, contexts);
    cr_assert_eq(target(&f, "sds.mesh", &t), 0);
    cr_assert_str_eq(t->cert, "MINE");
    cr_assert_str_eq(t->key, "SECRET");
    cr_assert_str_eq(t->ca, "THEIRS");
    cr_assert_eq(t->npeers, 1);
    cr_assert_str_eq(t->peers[0].text, "spiffe://shop/ns/a/sa/b");
    free(t);
    fixture_done(&f);
}

Test(target, default_and_rootca_stand_for_our_identity) {
    struct fixture f;
    struct mesh_target *t;
    fixture_start(&f, contexts);
    cr_assert_eq(target(&f, "ours.mesh", &t), 0);
    cr_assert(!t->cert && !t->key && !t->ca && !t->peers && !t->plain);
    free(t);
    fixture_done(&f);
}

Test(target, secret_that_nothing_defines_refuses_the_cluster) {
    struct fixture f;
    struct mesh_target *t;
    fixture_start(&f, contexts);
    cr_assert_eq(target(&f, "lost.mesh", &t), MESH_E_IDENTITY);
    fixture_done(&f);
}

Test(target, no_san_matcher_lets_anybody_pass_in_view_mode_only) {
    struct fixture f;
    struct mesh_target *t;
    static const char text[] = "resources:\n" CLUSTER(
        "any.mesh", "common_tls_context: {validation_context: {trusted_ca: {inline_string: R}}}");
    fixture_start(&f, text);
    cr_assert_eq(target(&f, "any.mesh", &t), 0);
    cr_assert(!t->any_peer_san);
    free(t);
    fixture_done(&f);
    fixture_init(&f, text);
    f.cfg.tls = MESH_TLS_VIEW;
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(target(&f, "any.mesh", &t), 0);
    cr_assert(t->any_peer_san);
    free(t);
    fixture_done(&f);
}

Test(target, files_are_read_when_they_are_asked_for) {
    struct fixture f;
    struct mesh_target *t;
    char text[1024], path[96];
    fixture_init(&f, NULL);
    snprintf(path, sizeof path, "%s/ca.pem", f.dir);
    snprintf(text, sizeof text,
             "resources:\n" CLUSTER(
                 "file.mesh", "common_tls_context: {validation_context: {trusted_ca: {filename: '%s'}}}"),
             path);
    fixture_write(&f, text);
    cr_assert_eq(fixture_open(&f), 0);
    cr_assert_eq(target(&f, "file.mesh", &t), MESH_E_IDENTITY);
    FILE *out = fopen(path, "w");
    fputs("PEM", out);
    fclose(out);
    cr_assert_eq(target(&f, "file.mesh", &t), 0);
    cr_assert_str_eq(t->ca, "PEM");
    free(t);
    unlink(path);
    fixture_done(&f);
}

/* ---- certificate provider instances ---- */
#define INSTANCE(own, roots)                                                                                 \
    "common_tls_context: {tls_certificate_provider_instance: {instance_name: " own                           \
    "}, combined_validation_context: {default_validation_context: {match_subject_alt_names: [{exact: "       \
    "'spiffe://shop/a'}]}, "                                                                                 \
    "validation_context_certificate_provider_instance: {instance_name: " roots "}}}"
static const char instances[] = "resources:\n" CLUSTER("files.mesh", INSTANCE("mine", "mine"))
    CLUSTER("deprecated.mesh",
            "common_tls_context: {tls_certificate_certificate_provider_instance: {instance_name: mine}, "
            "validation_context_certificate_provider_instance: {instance_name: mine}}")
        CLUSTER("ours.mesh", INSTANCE("default", "ROOTCA"))
            CLUSTER("nobody.mesh", INSTANCE("nobody", "default"))
                CLUSTER("roots.mesh", INSTANCE("roots", "default"))
                    CLUSTER("plugin.mesh", INSTANCE("plugin", "default"));

static void write_to(const struct fixture *f, const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *out = fopen(path, "w");
    cr_assert(out && fputs(text, out) >= 0);
    fclose(out);
}

static void with_bootstrap(struct fixture *f, char *text, size_t cap) {
    fixture_init(f, instances);
    snprintf(
        text, cap,
        "{\"xds_servers\": [{\"server_uri\": \"127.0.0.1:1\", \"channel_creds\": [{\"type\": "
        "\"insecure\"}]}], "
        "\"node\": {\"id\": \"n\"}, \"certificate_providers\": {"
        "\"mine\": {\"plugin_name\": \"file_watcher\", \"config\": {\"certificate_file\": \"%s/c\", "
        "\"private_key_file\": \"%s/k\", \"ca_certificate_file\": \"%s/r\"}}, "
        "\"roots\": {\"plugin_name\": \"file_watcher\", \"config\": {\"ca_certificate_file\": \"%s/r\"}}, "
        "\"plugin\": {\"plugin_name\": \"other\", \"config\": {}}}}",
        f->dir, f->dir, f->dir, f->dir);
    write_to(f, "c", "CERT");
    write_to(f, "k", "KEY");
    write_to(f, "r", "ROOTS");
    f->cfg.bootstrap_text = text;
    cr_assert_eq(fixture_open(f), 0, "%s", f->why.text);
}

static void instances_done(struct fixture *f) {
    static const char *const names[] = {"c", "k", "r"};
    char path[128];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
        unlink(path);
    }
    fixture_done(f);
}

Test(target, provider_instances_are_the_bootstrap_s_files) {
    static const char *const names[] = {"files.mesh", "deprecated.mesh"};
    struct fixture f;
    struct mesh_target *t;
    char text[2048];
    with_bootstrap(&f, text, sizeof text);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(target(&f, names[i], &t), 0, "%s", names[i]);
        cr_assert_str_eq(t->cert, "CERT");
        cr_assert_str_eq(t->key, "KEY");
        cr_assert_str_eq(t->ca, "ROOTS");
        free(t);
    }
    cr_assert_eq(target(&f, "ours.mesh", &t), 0, "default and ROOTCA are the environment's");
    cr_assert_null(t->cert);
    cr_assert_null(t->ca);
    free(t);
    instances_done(&f);
}

Test(target, provider_instance_without_what_is_asked_of_it_is_refused) {
    struct fixture f;
    struct mesh_target *t;
    char text[2048];
    with_bootstrap(&f, text, sizeof text);
    cr_assert_eq(target(&f, "nobody.mesh", &t), MESH_E_IDENTITY);
    cr_assert_eq(target(&f, "roots.mesh", &t), MESH_E_IDENTITY);
    cr_assert_eq(target(&f, "plugin.mesh", &t), MESH_E_UNSUPPORTED);
    instances_done(&f);
}
