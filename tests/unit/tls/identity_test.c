/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include "tests/unit/tls/pki.h"
#include "tls/internal.h"

#define WEB "spiffe://shop/ns/prod/sa/web"

static struct pki_cert root, leaf;
static char *cert, *key, *ca;
static struct mesh_identity *id;
static struct mesh_why why;

static void setup(void) {
    cr_assert_eq(mesh_tls_start(), 0);
    cr_assert_eq(mesh_tls_start(), 0); /* twice is once */
    root = pki_root("root");
    leaf = pki_make(&root, "web", (struct pki_spec){.san = "URI:" WEB});
    cert = pki_chain_pem(&leaf);
    key = pki_key_pem(&leaf);
    ca = pki_cert_pem(&root);
}

static void teardown(void) {
    mesh_identity_unref(id);
    free(cert);
    free(key);
    free(ca);
    pki_free(&leaf);
    pki_free(&root);
    cr_assert_eq(ERR_peek_error(), 0);
}

TestSuite(identity, .init = setup, .fini = teardown);

static int make(const char *c, const char *k, const char *a, long wall) {
    struct mesh_pem pem = {c, k, a, strlen(c), strlen(k), strlen(a)};
    memset(&why, 0, sizeof why);
    return mesh_identity_new(&pem, time(NULL) + wall, &id, &why);
}

static void expect_refused(const char *c, const char *k, const char *a, int err, const char *sentence) {
    cr_assert_eq(make(c, k, a, 0), err, "%s", why.text);
    cr_assert(strstr(why.text, sentence), "\"%s\" lacks \"%s\"", why.text, sentence);
    cr_assert_null(id);
}

Test(identity, a_good_triple_is_read) {
    cr_assert_eq(make(cert, key, ca, 0), 0, "%s", why.text);
    cr_assert_str_eq(mesh_identity_spiffe(id), WEB);
    cr_assert_str_eq(mesh_identity_trust_domain(id), "shop");
    int64_t now = time(NULL);
    cr_assert(llabs(mesh_identity_not_after(id) - now - 3600) < 5);
    cr_assert(llabs(mesh_identity_not_before(id) - now + 3600) < 5);
}

Test(identity, a_certificate_without_spiffe_id_is_allowed) {
    struct pki_cert dns = pki_make(&root, "web", (struct pki_spec){.san = "DNS:web,URI:https://x/"});
    char *c = pki_chain_pem(&dns), *k = pki_key_pem(&dns);
    cr_assert_eq(make(c, k, ca, 0), 0, "%s", why.text);
    cr_assert_str_eq(mesh_identity_spiffe(id), "");
    cr_assert_str_eq(mesh_identity_trust_domain(id), "");
    free(c);
    free(k);
    pki_free(&dns);
}

Test(identity, several_spiffe_ids_are_refused) {
    struct pki_cert two = pki_make(&root, "web", (struct pki_spec){.san = "URI:" WEB ",URI:spiffe://shop/b"});
    char *c = pki_chain_pem(&two), *k = pki_key_pem(&two);
    expect_refused(c, k, ca, MESH_E_INVALID, "exactly one");
    free(c);
    free(k);
    pki_free(&two);
}

Test(identity, names_that_cannot_be_read_are_not_no_names) {
    struct pki_spec spec = {.san = "URI:" WEB, .san_again = "URI:spiffe://shop/b"};
    struct pki_cert two = pki_make(&root, "web", spec);
    char *c = pki_chain_pem(&two), *k = pki_key_pem(&two);
    expect_refused(c, k, ca, MESH_E_INVALID, "cannot be read");
    free(c);
    free(k);
    pki_free(&two);
}

Test(identity, a_key_of_somebody_else_is_refused) {
    char *other = pki_key_pem(&root);
    expect_refused(cert, other, ca, MESH_E_INVALID, "key does not belong");
    free(other);
    struct pki_cert rsa = pki_make(&root, "x", (struct pki_spec){.key = "RSA"});
    other = pki_key_pem(&rsa);
    expect_refused(cert, other, ca, MESH_E_INVALID, "key does not belong");
    free(other);
    pki_free(&rsa);
}

Test(identity, times_are_judged_by_the_callers_clock) {
    cr_assert_eq(make(cert, key, ca, 7200), MESH_E_INVALID);
    cr_assert(strstr(why.text, "expired"), "%s", why.text);
    cr_assert_eq(make(cert, key, ca, -7200), MESH_E_INVALID);
    cr_assert(strstr(why.text, "not valid for another"), "%s", why.text);
}

Test(identity, what_does_not_parse_is_named) {
    expect_refused("", key, ca, MESH_E_SYNTAX, "certificate holds no certificate");
    expect_refused("hello\n", key, ca, MESH_E_SYNTAX, "certificate holds no certificate");
    expect_refused(cert, "", ca, MESH_E_SYNTAX, "key");
    expect_refused(cert, cert, ca, MESH_E_SYNTAX, "key");
    expect_refused(cert, key, "", MESH_E_SYNTAX, "trust bundle holds no certificate");
    expect_refused(cert, key, key, MESH_E_SYNTAX, "trust bundle holds no certificate");
}

Test(identity, a_damaged_certificate_in_a_list_is_refused) {
    char *both = NULL;
    cr_assert_gt(asprintf(&both, "%s%s", ca, cert), 0);
    char *at = strstr(both + strlen(ca), "\n") + 30;
    *at = *at == 'A' ? 'B' : 'A';
    memset(at, '!', 3);
    expect_refused(cert, key, both, MESH_E_SYNTAX, "trust bundle: certificate 2");
    free(both);
}

Test(identity, every_cut_of_the_files_is_survived, .timeout = 60) {
    for (size_t n = 0; n < strlen(cert) - 1; n += 7) {
        struct mesh_pem pem = {cert, key, ca, n, strlen(key), strlen(ca)};
        cr_assert_lt(mesh_identity_new(&pem, time(NULL), &id, &why), 0, "certificate %zu", n);
    }
    for (size_t n = 0; n < strlen(key) - 1; n += 3) {
        struct mesh_pem pem = {cert, key, ca, strlen(cert), n, strlen(ca)};
        cr_assert_lt(mesh_identity_new(&pem, time(NULL), &id, &why), 0, "key %zu", n);
    }
    for (size_t n = 0; n < strlen(ca) - 1; n += 7) {
        struct mesh_pem pem = {cert, key, ca, strlen(cert), strlen(key), n};
        cr_assert_lt(mesh_identity_new(&pem, time(NULL), &id, &why), 0, "bundle %zu", n);
    }
    cr_assert_null(id);
}

Test(identity, an_encrypted_key_is_refused_without_asking) {
    pki_stock_algorithms();
    BIO *bio = BIO_new(BIO_s_mem());
    PKI_CHECK(PEM_write_bio_PKCS8PrivateKey(bio, leaf.key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL) == 1);
    char *text = pki_text(bio);
    expect_refused(cert, text, ca, MESH_E_SYNTAX, "key");
    free(text);
}

Test(identity, a_weak_key_is_refused) {
    struct pki_cert weak = pki_make(&root, "web", (struct pki_spec){.san = "URI:" WEB, .key = "RSA1024"});
    char *c = pki_chain_pem(&weak), *k = pki_key_pem(&weak);
    expect_refused(c, k, ca, MESH_E_INVALID, "too small");
    free(c);
    free(k);
    pki_free(&weak);
}

Test(identity, more_certificates_than_fit_are_refused) {
    char *many = malloc(11 * strlen(cert) + 1);
    *many = 0;
    for (int i = 0; i < 11; i++)
        strcat(many, cert);
    expect_refused(many, key, ca, MESH_E_INVALID, "more than 10");
    free(many);
    static char large[(1 << 20) + 2];
    memset(large, '\n', sizeof large - 1);
    expect_refused(large, key, ca, MESH_E_INVALID, "larger than 1 MiB");
    expect_refused(cert, large, ca, MESH_E_INVALID, "larger than 1 MiB");
    expect_refused(cert, key, large, MESH_E_INVALID, "larger than 1 MiB");
}

Test(identity, the_digest_follows_leaf_and_bundle) {
    uint8_t first[32];
    struct mesh_identity *a, *b;
    struct pki_cert second = pki_root("second");
    char *ca2 = pki_cert_pem(&second);
    cr_assert_eq(make(cert, key, ca, 0), 0);
    a = id;
    memcpy(first, mesh_identity_digest(a), 32);
    cr_assert_eq(make(cert, key, ca, 0), 0);
    cr_assert_arr_eq(mesh_identity_digest(id), first, 32);
    cr_assert_eq(mesh_identity_with_ca(id, ca2, strlen(ca2), &b, &why), 0, "%s", why.text);
    cr_assert(memcmp(mesh_identity_digest(b), first, 32) != 0);
    cr_assert_str_eq(mesh_identity_spiffe(b), WEB);
    mesh_identity_unref(a);
    mesh_identity_unref(b);
    cr_assert_eq(mesh_identity_with_ca(id, "x", 1, &b, &why), MESH_E_SYNTAX);
    struct mesh_identity *again = mesh_identity_ref(id);
    mesh_identity_unref(again);
    cr_assert_arr_eq(mesh_identity_digest(id), first, 32);
    mesh_identity_unref(NULL);
    free(ca2);
    pki_free(&second);
}

Test(identity, certificate_times_are_seconds_since_1970) {
    static const struct {
        const char *text;
        int64_t seconds;
    } cases[] = {{"19700101000000Z", 0},           {"20000229235959Z", 951868799},
                 {"20240301000000Z", 1709251200},  {"20381231235959Z", 2177452799},
                 {"20991231235959Z", 4102444799},  {"21000301000000Z", 4107542400},
                 {"99991231235959Z", 253402300799}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ASN1_TIME *t = ASN1_TIME_new();
        cr_assert_eq(ASN1_TIME_set_string_X509(t, cases[i].text) || ASN1_TIME_set_string(t, cases[i].text),
                     1);
        cr_assert_eq(mesh_tls_time_seconds(t), cases[i].seconds, "%s: %lld", cases[i].text,
                     (long long)mesh_tls_time_seconds(t));
        ASN1_TIME_free(t);
    }
    cr_assert_eq(mesh_tls_time_seconds(NULL), INT64_MIN);
    ERR_clear_error();
}
