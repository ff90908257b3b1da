/* SPDX-License-Identifier: Apache-2.0
 *
 * OpenSSL's default provider with less in it. Each certificate's public key is decoded by asking all decoders
 * and all kinds of keys of all providers what they are for: with kinds that no peer of ours can have, a third
 * of a whole handshake goes there. What is left out no suite, group or signature of ours can use.
 */
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/provider.h>
#include <string.h>
#include "tls/internal.h"

OSSL_provider_init_fn ossl_default_provider_init; /* what libcrypto itself loads as "default" */

enum { DISPATCH_MAX = 16, LIST_MAX = 48, NAMES_MAX = 16 };

static const struct operation {
    int id;
    const char *stays[NAMES_MAX]; /* first names; ends with NULL */
} operations[] = {
    /* CTR and ECB are the random generator's. */
    {OSSL_OP_CIPHER,
     {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305", "AES-256-CBC", "AES-128-CBC", "AES-256-CTR",
      "AES-256-ECB", "NULL"}},
    {OSSL_OP_DIGEST, {"SHA1", "SHA2-224", "SHA2-256", "SHA2-384", "SHA2-512", "MD5", "MD5-SHA1"}},
    {OSSL_OP_MAC, {"HMAC"}},
    {OSSL_OP_KDF, {"HKDF", "TLS13-KDF", "TLS1-PRF"}},
    {OSSL_OP_KEYMGMT, {"RSA", "RSA-PSS", "EC", "ED25519", "X25519", "TLS1-PRF", "HKDF", "HMAC"}},
    {OSSL_OP_KEYEXCH, {"ECDH", "X25519", "TLS1-PRF", "HKDF"}},
    {OSSL_OP_SIGNATURE, {"RSA", "ECDSA", "ED25519", "HMAC"}},
    {OSSL_OP_ASYM_CIPHER, {"RSA"}},
    {OSSL_OP_DECODER, {"RSA", "RSA-PSS", "EC", "ED25519", "DER"}},
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

static struct {
    OSSL_FUNC_provider_query_operation_fn *query;
    OSSL_DISPATCH dispatch[DISPATCH_MAX];
    OSSL_ALGORITHM list[OPERATIONS][LIST_MAX];
} own;

/* The first of an algorithm's names, `A:B:C`, counts. */
static bool stays(const struct operation *op, const OSSL_ALGORITHM *a) {
    size_t n = strcspn(a->algorithm_names, ":");
    for (const char *const *name = op->stays; *name; name++)
        if (strlen(*name) == n && strncasecmp(a->algorithm_names, *name, n) == 0)
            return !strstr(a->property_definition, "input=msblob") &&
                   !strstr(a->property_definition, "input=pvk");
    return false;
}

static void pick(const struct operation *op, const OSSL_ALGORITHM *from, OSSL_ALGORITHM into[LIST_MAX]) {
    size_t n = 0;
    for (; from && from->algorithm_names && n < LIST_MAX - 1; from++)
        if (stays(op, from))
            into[n++] = *from;
    into[n] = (OSSL_ALGORITHM){NULL, NULL, NULL, NULL};
}

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache) {
    *no_cache = 0;
    for (int i = 0; i < OPERATIONS; i++)
        if (operations[i].id == operation)
            return own.list[i];
    return own.query(provider, operation, no_cache);
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **ret_out, void **ret_provider) {
    const OSSL_DISPATCH *out;
    if (!ossl_default_provider_init(handle, in, &out, ret_provider))
        return 0;
    size_t n = 0;
    for (; out->function_id && n < DISPATCH_MAX - 1; out++, n++) {
        own.dispatch[n] = *out;
        if (out->function_id == OSSL_FUNC_PROVIDER_QUERY_OPERATION) {
            own.query = OSSL_FUNC_provider_query_operation(out);
            own.dispatch[n].function = (void (*)(void))query;
        }
    }
    own.dispatch[n] = (OSSL_DISPATCH){0, NULL};
    if (!own.query)
        return 0;
    for (int i = 0, no_cache; i < OPERATIONS; i++)
        pick(&operations[i], own.query(*ret_provider, operations[i].id, &no_cache), own.list[i]);
    *ret_out = own.dispatch;
    return 1;
}

bool mesh_tls_provider_load(void) {
    static OSSL_PROVIDER *loaded;
    if (!loaded && OSSL_PROVIDER_add_builtin(NULL, "mesh", provider_init) == 1)
        loaded = OSSL_PROVIDER_load(NULL, "mesh");
    return loaded != NULL;
}
