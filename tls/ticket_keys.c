/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys that follow from who we are: of the store of tickets, and of the tickets that our servers make. They
 * need both the store's random salt and our private key, so that processes of one identity on one run
 * directory, and the next of them after a restart, agree without a word, and nobody else has them: not who
 * reads the file, and not the next identity.
 *
 * In TLS 1.2 who has a ticket's key has the connection's. Those tickets are made with a key of this process
 * tree alone, which ends with it.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>
#include "tls/internal.h"

static int expand(const uint8_t secret[MESH_TLS_DIGEST], struct mesh_identity *id) {
    struct mesh_tls_ticket_key *k = &id->ticket_shared;
    int err = mesh_tls_hkdf_label(MESH_TLS_DIGEST, secret, "mesh store", id->vault, sizeof id->vault);
    if (!err)
        err = mesh_tls_hkdf_label(MESH_TLS_DIGEST, secret, "mesh name", k->name, sizeof k->name);
    if (!err)
        err = mesh_tls_hkdf_label(MESH_TLS_DIGEST, secret, "mesh cipher", k->cipher, sizeof k->cipher);
    if (!err)
        err = mesh_tls_hkdf_label(MESH_TLS_DIGEST, secret, "mesh mac", k->mac, sizeof k->mac);
    return err;
}

int mesh_tls_ticket_keys_make(struct mesh_identity *id) {
    uint8_t text[3 * MESH_TLS_DIGEST], secret[MESH_TLS_DIGEST];
    memcpy(text, mesh_tls_tickets_salt(), MESH_TLS_DIGEST);
    memcpy(text + MESH_TLS_DIGEST, id->key_digest, MESH_TLS_DIGEST);
    memcpy(text + 2 * MESH_TLS_DIGEST, id->digest, MESH_TLS_DIGEST);
    int err = EVP_Digest(text, sizeof text, secret, NULL, mesh_tls_hash_get(MESH_TLS_DIGEST), NULL) == 1 &&
                      RAND_bytes((uint8_t *)&id->ticket_own, sizeof id->ticket_own) == 1
                  ? expand(secret, id)
                  : MESH_E_NOMEM;
    OPENSSL_cleanse(text, sizeof text);
    OPENSSL_cleanse(secret, sizeof secret);
    return err;
}

static const struct mesh_tls_ticket_key *key_named(const struct mesh_identity *id,
                                                   const unsigned char name[16]) {
    return memcmp(name, id->ticket_shared.name, 16) == 0 ? &id->ticket_shared
           : memcmp(name, id->ticket_own.name, 16) == 0  ? &id->ticket_own
                                                         : NULL;
}

int mesh_tls_ticket_crypt(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                          EVP_MAC_CTX *mac, int making) {
    const struct mesh_handshake *hs = SSL_get_app_data(ssl);
    const struct mesh_identity *id = hs->identity;
    bool tls13 = SSL_version(ssl) == TLS1_3_VERSION;
    const struct mesh_tls_ticket_key *k = !making ? key_named(id, name)
                                          : tls13 ? &id->ticket_shared
                                                  : &id->ticket_own;
    if (!k)
        return 0;
    if (making) {
        memcpy(name, k->name, sizeof k->name);
        if (RAND_bytes(iv, 16) != 1)
            return -1;
    }
    OSSL_PARAM hash[] = {OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 6),
                         OSSL_PARAM_END};
    if (EVP_CipherInit_ex2(cipher, mesh_tls_cbc_get(), k->cipher, iv, making, NULL) != 1 ||
        EVP_MAC_init(mac, k->mac, sizeof k->mac, hash) != 1)
        return -1;
    return !making && tls13 ? 2 : 1; /* used once: the client gets another */
}
