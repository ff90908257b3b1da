/* SPDX-License-Identifier: Apache-2.0
 *
 * AES-GCM for short records, past EVP. EVP spends more on a short record than AES does: it looks up named
 * parameters for IV and tag each time. The library's own GCM over its AES-NI routines seals 64 bytes in half
 * the time; from some 3 KiB on EVP's path, which interleaves AES and GHASH, is the faster one, and record.c
 * takes that.
 */
#include "tls/internal.h"

#if defined(__x86_64__)
#include <openssl/aes.h>
#include <openssl/modes.h>
#include <stdlib.h>

/* Exported by the static library's assembly, declared in no public header; the same since OpenSSL 1.0.1. */
int aesni_set_encrypt_key(const unsigned char *key, int bits, AES_KEY *ret_key);
void aesni_encrypt(const unsigned char *in, unsigned char *out, const void *key);
void aesni_ctr32_encrypt_blocks(const unsigned char *in, unsigned char *out, size_t blocks, const void *key,
                                const unsigned char ivec[16]);

struct mesh_tls_gcm {
    AES_KEY key;
    GCM128_CONTEXT *gcm;
};

struct mesh_tls_gcm *mesh_tls_gcm_new(const uint8_t *key, size_t key_len) {
    struct mesh_tls_gcm *g;
    if (!__builtin_cpu_supports("aes") || !(g = calloc(1, sizeof *g)))
        return NULL;
    aesni_set_encrypt_key(key, (int)key_len * 8, &g->key);
    g->gcm = CRYPTO_gcm128_new(&g->key, (block128_f)aesni_encrypt);
    if (g->gcm)
        return g;
    mesh_tls_gcm_free(g);
    return NULL;
}

void mesh_tls_gcm_free(struct mesh_tls_gcm *g) {
    if (!g)
        return;
    CRYPTO_gcm128_release(g->gcm);
    OPENSSL_cleanse(&g->key, sizeof g->key);
    free(g);
}

void mesh_tls_gcm_begin(struct mesh_tls_gcm *g, const uint8_t nonce[12], const uint8_t *aad, size_t aad_len) {
    CRYPTO_gcm128_setiv(g->gcm, nonce, 12);
    (void)CRYPTO_gcm128_aad(g->gcm, aad, aad_len); /* fails only above 2^61 bytes, or out of order */
}

bool mesh_tls_gcm_encrypt(struct mesh_tls_gcm *g, const uint8_t *in, size_t n, uint8_t *out) {
    return CRYPTO_gcm128_encrypt_ctr32(g->gcm, in, out, n, (ctr128_f)aesni_ctr32_encrypt_blocks) == 0;
}

void mesh_tls_gcm_tag(struct mesh_tls_gcm *g, uint8_t ret_tag[16]) {
    CRYPTO_gcm128_tag(g->gcm, ret_tag, 16);
}

bool mesh_tls_gcm_decrypt(struct mesh_tls_gcm *g, const uint8_t *in, size_t n, const uint8_t tag[16],
                          uint8_t *out) {
    return CRYPTO_gcm128_decrypt_ctr32(g->gcm, in, out, n, (ctr128_f)aesni_ctr32_encrypt_blocks) == 0 &&
           CRYPTO_gcm128_finish(g->gcm, tag, 16) == 0;
}

#else /* elsewhere EVP does all records */

struct mesh_tls_gcm *mesh_tls_gcm_new(const uint8_t *key, size_t key_len) {
    (void)key, (void)key_len;
    return NULL;
}
void mesh_tls_gcm_free(struct mesh_tls_gcm *g) {
    (void)g;
}
void mesh_tls_gcm_begin(struct mesh_tls_gcm *g, const uint8_t nonce[12], const uint8_t *aad, size_t aad_len) {
    (void)g, (void)nonce, (void)aad, (void)aad_len;
}
bool mesh_tls_gcm_encrypt(struct mesh_tls_gcm *g, const uint8_t *in, size_t n, uint8_t *out) {
    (void)g, (void)in, (void)n, (void)out;
    return false;
}
void mesh_tls_gcm_tag(struct mesh_tls_gcm *g, uint8_t ret_tag[16]) {
    (void)g, (void)ret_tag;
}
bool mesh_tls_gcm_decrypt(struct mesh_tls_gcm *g, const uint8_t *in, size_t n, const uint8_t tag[16],
                          uint8_t *out) {
    (void)g, (void)in, (void)n, (void)tag, (void)out;
    return false;
}

#endif
