/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <string.h>
#include "tests/unit/tls/vectors.h"
#include "tls/internal.h"

static void setup(void) {
    cr_assert_eq(mesh_tls_start(), 0);
}

TestSuite(keys, .init = setup);

Test(keys, rfc8448_client_secret_gives_its_key_and_iv) {
    struct mesh_record r;
    cr_assert_eq(mesh_tls_record_init13(&r, MESH_AES128_GCM, 32, rfc8448_client_secret), 0);
    cr_assert_arr_eq(r.key, rfc8448_client_key, 16);
    cr_assert_arr_eq(r.iv, rfc8448_client_iv, 12);
    cr_assert_eq(r.seq, 0);
}

Test(keys, rfc8448_server_secret_gives_its_key_and_iv) {
    struct mesh_record r;
    cr_assert_eq(mesh_tls_record_init13(&r, MESH_AES128_GCM, 32, rfc8448_server_secret), 0);
    cr_assert_arr_eq(r.key, rfc8448_server_key, 16);
    cr_assert_arr_eq(r.iv, rfc8448_server_iv, 12);
}

/* Against the library's own KDF, for both hashes. */
static void expect_like_library(const char *digest, size_t hash_len, const char *label, size_t n) {
    uint8_t secret[48], ours[48], theirs[48];
    memset(secret, 0x5a, sizeof secret);
    uint8_t info[64] = {0, (uint8_t)n, (uint8_t)(6 + strlen(label))};
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, strlen(label));
    size_t info_len = 9 + strlen(label) + 1;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("mode", (char[]){"EXPAND_ONLY"}, 0),
                           OSSL_PARAM_construct_utf8_string("digest", (char *)(uintptr_t)digest, 0),
                           OSSL_PARAM_construct_octet_string("key", secret, hash_len),
                           OSSL_PARAM_construct_octet_string("info", info, info_len), OSSL_PARAM_END};
    cr_assert_eq(EVP_KDF_derive(ctx, theirs, n, params), 1);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    cr_assert_eq(mesh_tls_hkdf_label(hash_len, secret, label, ours, n), 0);
    cr_assert_arr_eq(ours, theirs, n);
}

Test(keys, labels_agree_with_the_library_for_both_hashes) {
    expect_like_library("SHA256", 32, "key", 16);
    expect_like_library("SHA256", 32, "traffic upd", 32);
    expect_like_library("SHA384", 48, "key", 32);
    expect_like_library("SHA384", 48, "iv", 12);
    expect_like_library("SHA384", 48, "traffic upd", 48);
}

Test(keys, more_than_one_hash_of_output_is_refused) {
    uint8_t secret[48] = {0}, out[64];
    cr_assert_eq(mesh_tls_hkdf_label(32, secret, "key", out, 33), MESH_E_INTERNAL);
}

/* RFC 5246's PRF, against the library's, both hashes, all three suites' block sizes. */
static void expect_key_block(enum mesh_cipher cipher, const char *digest, size_t hash_len, size_t iv) {
    uint8_t master[48], cr[32], sr[32], block[88];
    memset(master, 1, sizeof master);
    memset(cr, 2, sizeof cr);
    memset(sr, 3, sizeof sr);
    uint8_t seed[77];
    memcpy(seed, "key expansion", 13);
    memcpy(seed + 13, sr, 32);
    memcpy(seed + 45, cr, 32);
    size_t key = mesh_tls_cipher_key_len(cipher);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", (char *)(uintptr_t)digest, 0),
                           OSSL_PARAM_construct_octet_string("secret", master, sizeof master),
                           OSSL_PARAM_construct_octet_string("seed", seed, sizeof seed), OSSL_PARAM_END};
    cr_assert_eq(EVP_KDF_derive(ctx, block, 2 * (key + iv), params), 1);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    struct mesh_record c, s;
    cr_assert_eq(mesh_tls_record_init12(&c, &s, cipher, hash_len, master, cr, sr), 0);
    cr_assert_arr_eq(c.key, block, key);
    cr_assert_arr_eq(s.key, block + key, key);
    cr_assert_arr_eq(c.iv, block + 2 * key, iv);
    cr_assert_arr_eq(s.iv, block + 2 * key + iv, iv);
    cr_assert_eq(c.seq, 1); /* the Finished message was record 0 */
}

Test(keys, tls12_key_blocks_agree_with_the_library) {
    expect_key_block(MESH_AES128_GCM, "SHA256", 32, 4);
    expect_key_block(MESH_AES256_GCM, "SHA384", 48, 4);
    expect_key_block(MESH_CHACHA20_POLY1305, "SHA256", 32, 12);
}

Test(keys, key_update_moves_to_the_next_secret_and_starts_over) {
    struct mesh_record r;
    uint8_t next[32], key[16];
    cr_assert_eq(mesh_tls_record_init13(&r, MESH_AES128_GCM, 32, rfc8448_client_secret), 0);
    r.seq = 77;
    r.sealed = 1234;
    cr_assert_eq(mesh_tls_hkdf_label(32, rfc8448_client_secret, "traffic upd", next, 32), 0);
    cr_assert_eq(mesh_tls_hkdf_label(32, next, "key", key, 16), 0);
    cr_assert_eq(mesh_record_next_key(&r), 0);
    cr_assert_arr_eq(r.secret, next, 32);
    cr_assert_arr_eq(r.key, key, 16);
    cr_assert(r.seq == 0 && r.sealed == 0 && r.generation == 1);
}

Test(keys, key_update_of_tls12_is_unsupported) {
    struct mesh_record r = {.version = 0x0303, .cipher = MESH_AES128_GCM, .hash_len = 32};
    cr_assert_eq(mesh_record_next_key(&r), MESH_E_UNSUPPORTED);
}
