/* SPDX-License-Identifier: Apache-2.0
 *
 * A chain that was verified once must not pass where a fresh verification would refuse it.
 */
#include "tests/unit/tls/pair.h"

#define WEB "spiffe://shop/web"
#define REVIEWS "spiffe://shop/reviews"

static struct pki_cert root;
static struct mesh_identity *web, *reviews;

static void setup(void) {
    cr_assert_eq(mesh_tls_start(), 0);
    root = pki_root("root");
    web = pki_workload(&root, WEB);
    reviews = pki_workload(&root, REVIEWS);
}

static void teardown(void) {
    mesh_identity_unref(web);
    mesh_identity_unref(reviews);
    pki_free(&root);
}

TestSuite(chain, .init = setup, .fini = teardown);

static int client_result(struct mesh_identity *client, struct mesh_identity *server, long wall,
                         const char *sentence) {
    struct mesh_handshake_config c = client_config(client), s = server_config(server);
    c.wall += wall;
    c.any_peer_san = s.any_peer_san = true;
    struct pair *p = pair_run(&c, &s);
    int err = p->client.err;
    if (err)
        cr_assert(strstr(p->client.why.text, sentence), "%s", p->client.why.text);
    pair_free(p);
    return err;
}

Test(chain, a_remembered_chain_is_judged_by_todays_time) {
    cr_assert_eq(client_result(web, reviews, 0, ""), 0);
    cr_assert_eq(client_result(web, reviews, 0, ""), 0);
    cr_assert_eq(client_result(web, reviews, 3700, "expired"), MESH_E_PEER);
    cr_assert_eq(client_result(web, reviews, -3700, "not yet valid"), MESH_E_PEER);
    cr_assert_eq(client_result(web, reviews, 0, ""), 0);
}

Test(chain, an_intermediate_that_ends_first_ends_the_chain) {
    struct pki_cert middle = pki_make(&root, "m", (struct pki_spec){.ca = true, .from = -60, .to = 600});
    struct pki_cert leaf = pki_make(&middle, "x", (struct pki_spec){.san = "URI:" REVIEWS});
    struct mesh_identity *id = pki_identity(&leaf, &root);
    cr_assert_eq(client_result(web, id, 0, ""), 0);
    cr_assert_eq(client_result(web, id, 599, ""), 0);
    cr_assert_eq(client_result(web, id, 700, "expired"), MESH_E_PEER);
    mesh_identity_unref(id);
    pki_free(&leaf);
    pki_free(&middle);
}

Test(chain, other_roots_do_not_know_it) {
    struct pki_cert other = pki_root("other");
    char *ca = pki_cert_pem(&other);
    struct mesh_identity *elsewhere;
    struct mesh_why why;
    cr_assert_eq(mesh_identity_with_ca(web, ca, strlen(ca), &elsewhere, &why), 0, "%s", why.text);
    cr_assert_eq(client_result(web, reviews, 0, ""), 0);
    cr_assert_eq(client_result(elsewhere, reviews, 0, "local issuer"), MESH_E_PEER);
    mesh_identity_unref(elsewhere);
    free(ca);
    pki_free(&other);
}

Test(chain, a_certificate_remembered_as_a_clients_is_no_servers) {
    struct pki_cert client_only =
        pki_make(&root, "x", (struct pki_spec){.san = "DNS:x", .eku = "clientAuth"});
    struct mesh_identity *id = pki_identity(&client_only, &root);
    struct mesh_handshake_config c = client_config(id), s = server_config(reviews);
    c.any_peer_san = s.any_peer_san = true;
    struct pair *p = pair_run(&c, &s);
    pair_exchange(p);
    pair_free(p);
    cr_assert_eq(client_result(web, id, 0, "purpose"), MESH_E_PEER);
    mesh_identity_unref(id);
    pki_free(&client_only);
}

Test(chain, many_chains_only_push_each_other_out) {
    for (int i = 0; i < 300; i++) {
        struct mesh_identity *id = pki_workload(&root, REVIEWS);
        cr_assert_eq(client_result(web, id, 0, ""), 0);
        cr_assert_eq(client_result(web, id, 3700, "expired"), MESH_E_PEER);
        mesh_identity_unref(id);
    }
}

Test(chain, intermediates_in_the_bundle_are_anchors) {
    struct pki_cert middle = pki_make(&root, "m", (struct pki_spec){.ca = true});
    struct pki_cert leaf = pki_make(&middle, "x", (struct pki_spec){.san = "URI:" REVIEWS});
    char *ca = pki_cert_pem(&middle);
    struct mesh_identity *id = pki_identity(&leaf, &root), *pinned;
    struct mesh_why why;
    cr_assert_eq(mesh_identity_with_ca(web, ca, strlen(ca), &pinned, &why), 0);
    cr_assert_eq(client_result(pinned, id, 0, ""), 0);
    cr_assert_eq(client_result(pinned, reviews, 0, "local issuer"), MESH_E_PEER);
    mesh_identity_unref(pinned);
    mesh_identity_unref(id);
    free(ca);
    pki_free(&leaf);
    pki_free(&middle);
}

Test(chain, name_constraints_hold) {
    struct pki_cert middle = pki_make(
        &root, "m", (struct pki_spec){.ca = true, .name_constraints = "critical,permitted;URI:shop"});
    struct pki_cert good = pki_make(&middle, "x", (struct pki_spec){.san = "URI:" REVIEWS});
    struct pki_cert bad = pki_make(&middle, "x", (struct pki_spec){.san = "URI:spiffe://bank/vault"});
    struct mesh_identity *good_id = pki_identity(&good, &root), *bad_id = pki_identity(&bad, &root);
    cr_assert_eq(client_result(web, good_id, 0, ""), 0);
    cr_assert_eq(client_result(web, bad_id, 0, "permitted subtree"), MESH_E_PEER);
    mesh_identity_unref(good_id);
    mesh_identity_unref(bad_id);
    pki_free(&good);
    pki_free(&bad);
    pki_free(&middle);
}
