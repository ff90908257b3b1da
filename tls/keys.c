/* SPDX-License-Identifier: Apache-2.0
 *
 * From secrets to record keys. HMAC is written out over the one-shot digest because all inputs are a few
 * dozen bytes and the library's KDF objects cost more than the hashing.
 */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>
#include "tls/internal.h"

enum { BLOCK_MAX = 128, MESSAGE_MAX = 160, LABEL_MAX = 32 };

static bool hmac(size_t hash_len, const uint8_t *key, size_t key_len, const uint8_t *msg, size_t n,
                 uint8_t *ret_mac) {
    const EVP_MD *md = mesh_tls_hash_get(hash_len);
    size_t block = hash_len == 48 ? 128 : 64;
    uint8_t buf[BLOCK_MAX + MESSAGE_MAX], inner[EVP_MAX_MD_SIZE];
    if (key_len > block || n > MESSAGE_MAX)
        return false;
    memset(buf, 0x36, block);
    for (size_t i = 0; i < key_len; i++)
        buf[i] ^= key[i];
    memcpy(buf + block, msg, n);
    bool ok = EVP_Digest(buf, block + n, inner, NULL, md, NULL) == 1;
    for (size_t i = 0; i < block; i++)
        buf[i] ^= 0x36 ^ 0x5c;
    memcpy(buf + block, inner, hash_len);
    ok = ok && EVP_Digest(buf, block + hash_len, inner, NULL, md, NULL) == 1;
    if (ok)
        memcpy(ret_mac, inner, hash_len);
    OPENSSL_cleanse(buf, sizeof buf);
    OPENSSL_cleanse(inner, sizeof inner);
    return ok;
}

size_t mesh_tls_cipher_key_len(enum mesh_cipher cipher) {
    return cipher == MESH_AES128_GCM ? 16 : 32;
}

int mesh_tls_hkdf_label(size_t hash_len, const uint8_t *secret, const char *label, uint8_t *ret_out,
                        size_t n) {
    uint8_t info[4 + 6 + LABEL_MAX + 1], mac[MESH_TLS_HASH_MAX];
    size_t len = strlen(label), at = 0;
    if (len > LABEL_MAX || n > hash_len || hash_len > sizeof mac)
        return MESH_E_INTERNAL;
    info[at++] = 0;
    info[at++] = (uint8_t)n;
    info[at++] = (uint8_t)(6 + len);
    memcpy(info + at, "tls13 ", 6);
    memcpy(info + at + 6, label, len);
    at += 6 + len;
    info[at++] = 0; /* empty context */
    info[at++] = 1; /* first and only block of HKDF-Expand */
    if (!hmac(hash_len, secret, hash_len, info, at, mac)) {
        ERR_clear_error();
        return MESH_E_NOMEM;
    }
    memcpy(ret_out, mac, n);
    OPENSSL_cleanse(mac, sizeof mac);
    return 0;
}

int mesh_tls_record_init13(struct mesh_record *r, enum mesh_cipher cipher, size_t hash_len,
                           const uint8_t *secret) {
    struct mesh_record fresh = {.version = 0x0304, .cipher = (uint8_t)cipher, .hash_len = (uint8_t)hash_len};
    memcpy(fresh.secret, secret, hash_len);
    int err = mesh_tls_hkdf_label(hash_len, secret, "key", fresh.key, mesh_tls_cipher_key_len(cipher));
    if (!err)
        err = mesh_tls_hkdf_label(hash_len, secret, "iv", fresh.iv, sizeof fresh.iv);
    if (!err)
        *r = fresh;
    OPENSSL_cleanse(&fresh, sizeof fresh);
    return err;
}

int mesh_record_next_key(struct mesh_record *r) {
    uint8_t secret[MESH_TLS_HASH_MAX];
    struct mesh_record next;
    if (r->version != 0x0304)
        return MESH_E_UNSUPPORTED;
    if (r->hash_len != 32 && r->hash_len != 48)
        return MESH_E_INTERNAL;
    int err = mesh_tls_hkdf_label(r->hash_len, r->secret, "traffic upd", secret, r->hash_len);
    if (!err)
        err = mesh_tls_record_init13(&next, r->cipher, r->hash_len, secret);
    if (!err) {
        next.generation = r->generation + 1;
        *r = next;
        OPENSSL_cleanse(&next, sizeof next);
    }
    OPENSSL_cleanse(secret, sizeof secret);
    return err;
}

/* RFC 5246 5: P_hash(secret, seed), seed already holding the label. */
static bool p_hash(size_t hash_len, const uint8_t secret[48], const uint8_t *seed, size_t seed_len,
                   uint8_t *out, size_t n) {
    uint8_t a[MESH_TLS_HASH_MAX + MESSAGE_MAX], mac[MESH_TLS_HASH_MAX];
    bool ok = hash_len + seed_len <= MESSAGE_MAX && hmac(hash_len, secret, 48, seed, seed_len, a);
    while (ok && n) {
        size_t take = n < hash_len ? n : hash_len;
        memcpy(a + hash_len, seed, seed_len);
        ok = hmac(hash_len, secret, 48, a, hash_len + seed_len, mac);
        if (!ok)
            break;
        memcpy(out, mac, take);
        out += take;
        n -= take;
        ok = hmac(hash_len, secret, 48, a, hash_len, a);
    }
    OPENSSL_cleanse(a, sizeof a);
    OPENSSL_cleanse(mac, sizeof mac);
    return ok;
}

int mesh_tls_record_init12(struct mesh_record *ret_client, struct mesh_record *ret_server,
                           enum mesh_cipher cipher, size_t hash_len, const uint8_t master[48],
                           const uint8_t client_random[32], const uint8_t server_random[32]) {
    static const char label[13] = "key expansion";
    uint8_t seed[sizeof label + 64], block[2 * (32 + 12)];
    size_t key = mesh_tls_cipher_key_len(cipher);
    size_t iv = cipher == MESH_CHACHA20_POLY1305 ? 12 : 4; /* GCM: the salt; RFC 7905: the whole nonce */
    memcpy(seed, label, sizeof label);
    memcpy(seed + sizeof label, server_random, 32);
    memcpy(seed + sizeof label + 32, client_random, 32);
    if (!p_hash(hash_len, master, seed, sizeof seed, block, 2 * (key + iv))) {
        ERR_clear_error();
        return MESH_E_NOMEM;
    }
    struct mesh_record r = {
        .version = 0x0303, .cipher = (uint8_t)cipher, .hash_len = (uint8_t)hash_len, .seq = 1, .sealed = 1};
    *ret_client = *ret_server = r;
    memcpy(ret_client->key, block, key);
    memcpy(ret_server->key, block + key, key);
    memcpy(ret_client->iv, block + 2 * key, iv);
    memcpy(ret_server->iv, block + 2 * key + iv, iv);
    OPENSSL_cleanse(block, sizeof block);
    return 0;
}
