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

enum { DISPATCH_MAX = 16, LIST_MAX = 64 };

static struct {
    OSSL_FUNC_provider_query_operation_fn *query;
    void *provider;
    OSSL_DISPATCH dispatch[DISPATCH_MAX];
    OSSL_ALGORITHM decoders[LIST_MAX], kinds[LIST_MAX];
} own;

/* Is the first of an algorithm's names, `A:B:C`, one of the list? */
static bool is_named(const OSSL_ALGORITHM *a, const char *const *list) {
    size_t n = strcspn(a->algorithm_names, ":");
    for (; *list; list++)
        if (strlen(*list) == n && strncmp(a->algorithm_names, *list, n) == 0)
            return true;
    return false;
}

static bool decoder_stays(const OSSL_ALGORITHM *a) {
    static const char *const keys[] = {"RSA", "RSA-PSS", "EC", "ED25519", "DER", NULL};
    const char *what = a->property_definition;
    return is_named(a, keys) && !strstr(what, "input=msblob") && !strstr(what, "input=pvk");
}

static bool kind_stays(const OSSL_ALGORITHM *a) {
    static const char *const kinds[] = {"RSA",      "RSA-PSS", "EC",   "ED25519", "X25519",
                                        "TLS1-PRF", "HKDF",    "HMAC", NULL};
    return is_named(a, kinds);
}

static void pick(int operation, bool (*stays)(const OSSL_ALGORITHM *), OSSL_ALGORITHM into[LIST_MAX]) {
    int no_cache = 0;
    const OSSL_ALGORITHM *from = own.query(own.provider, operation, &no_cache);
    size_t n = 0;
    for (; from && from->algorithm_names && n < LIST_MAX - 1; from++)
        if (stays(from))
            into[n++] = *from;
    into[n] = (OSSL_ALGORITHM){NULL, NULL, NULL, NULL};
}

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache) {
    *no_cache = 0;
    return operation == OSSL_OP_DECODER   ? own.decoders
           : operation == OSSL_OP_KEYMGMT ? own.kinds
                                          : own.query(provider, operation, no_cache);
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
    own.provider = *ret_provider;
    pick(OSSL_OP_DECODER, decoder_stays, own.decoders);
    pick(OSSL_OP_KEYMGMT, kind_stays, own.kinds);
    *ret_out = own.dispatch;
    return 1;
}

bool mesh_tls_provider_load(void) {
    static OSSL_PROVIDER *loaded;
    if (!loaded && OSSL_PROVIDER_add_builtin(NULL, "mesh", provider_init) == 1)
        loaded = OSSL_PROVIDER_load(NULL, "mesh");
    return loaded != NULL;
}
