/* SPDX-License-Identifier: Apache-2.0
 *
 * Bringing the library up, once.
 */
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include "shim/base/sys.h"
#include "tls/internal.h"

static struct {
    EVP_CIPHER *cipher[MESH_CHACHA20_POLY1305 + 1];
    EVP_CIPHER *cbc;
    EVP_MD *sha256, *sha384;
    atomic_bool ready;
} lib;

const EVP_CIPHER *mesh_tls_cipher_get(enum mesh_cipher cipher) {
    return cipher >= MESH_AES128_GCM && cipher <= MESH_CHACHA20_POLY1305 ? lib.cipher[cipher] : NULL;
}

const EVP_MD *mesh_tls_hash_get(size_t hash_len) {
    return hash_len == 48 ? lib.sha384 : lib.sha256;
}

const EVP_CIPHER *mesh_tls_cbc_get(void) {
    return lib.cbc;
}

static bool fetch_algorithms(void) {
    lib.cbc = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    lib.cipher[MESH_AES128_GCM] = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    lib.cipher[MESH_AES256_GCM] = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    lib.cipher[MESH_CHACHA20_POLY1305] = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    lib.sha256 = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    lib.sha384 = EVP_MD_fetch(NULL, "SHA2-384", NULL);
    return lib.cipher[MESH_AES128_GCM] && lib.cipher[MESH_AES256_GCM] && lib.cipher[MESH_CHACHA20_POLY1305] &&
           lib.cbc && lib.sha256 && lib.sha384;
}

/* Certificate times go through gmtime_r, whose first call reads the time zone's file: it must not be the
 * first handshake of a process that has since changed its root or installed a filter (DESIGN D12). */
static void warm_time_zone(void) {
    struct tm tm;
    time_t zero = 0;
    (void)gmtime_r(&zero, &tm);
}

/* OpenSSL makes all algorithms of a kind at the first fetch of one, once, and leaves out what it has no
 * memory for. */
static bool fetch_kinds(void) {
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KEYMGMT *key = EVP_KEYMGMT_fetch(NULL, "EC", NULL);
    EVP_KEYEXCH *exchange = EVP_KEYEXCH_fetch(NULL, "ECDH", NULL);
    EVP_SIGNATURE *signature = EVP_SIGNATURE_fetch(NULL, "ECDSA", NULL);
    OSSL_DECODER *decoder = OSSL_DECODER_fetch(NULL, "EC", NULL);
    bool ok = mac && kdf && key && exchange && signature && decoder;
    EVP_MAC_free(mac);
    EVP_KDF_free(kdf);
    EVP_KEYMGMT_free(key);
    EVP_KEYEXCH_free(exchange);
    EVP_SIGNATURE_free(signature);
    OSSL_DECODER_free(decoder);
    return ok;
}

static bool come_up(void) {
    unsigned char byte; /* the generator's first use makes it */
    /* The first call decides for the life of the process: no openssl.cnf, no atexit handler. */
    bool ok = OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT |
                                   OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS,
                               NULL) == 1 &&
              mesh_tls_provider_load() && fetch_algorithms() && fetch_kinds() && RAND_bytes(&byte, 1) == 1;
    ERR_clear_error();
    return ok;
}

/* Until somebody has better memory for it: what children of fork share. */
static void tickets_inherited(void) {
    void *p;
    if (mesh_sys_mmap(NULL, mesh_tickets_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0,
                      &p) == 0 &&
        mesh_tickets_format(p) == 0)
        mesh_tickets_use(p);
}

int mesh_tls_start(void) {
    if (atomic_load_explicit(&lib.ready, memory_order_acquire))
        return 0;
    int err = mesh_tls_memory_begin();
    if (err)
        return err;
    bool ok = come_up();
    mesh_tls_memory_end();
    if (!ok)
        return MESH_E_NOMEM;
    warm_time_zone();
    tickets_inherited();
    atomic_store_explicit(&lib.ready, true, memory_order_release);
    return 0;
}
