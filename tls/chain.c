/* SPDX-License-Identifier: Apache-2.0
 *
 * Chain verification, and the memory of chains that passed: peers show the same few chains again and again,
 * and a verification costs two signature checks and as many key decodings. What is remembered is when the
 * chain's validity begins and ends; the time is judged anew each time.
 *
 * The table has one lock word that is only ever tried: who does not get it verifies as if nothing were
 * remembered. So a child of fork whose parent's other thread held it at that moment merely remembers nothing.
 */
#include <openssl/err.h>
#include <stdatomic.h>
#include <string.h>
#include "tls/internal.h"

enum { SLOTS = 128 };

struct chain_slot {
    uint8_t key[MESH_TLS_DIGEST];  /* roots, side and every certificate shown */
    int64_t not_before, not_after; /* of all certificates between leaf and root; 0, 0: free */
};

static struct chain_slot slots[SLOTS];
static atomic_flag busy = ATOMIC_FLAG_INIT;

static struct chain_slot *slot_of(const uint8_t key[MESH_TLS_DIGEST]) {
    return &slots[key[0] % SLOTS];
}

static bool recall(const uint8_t key[MESH_TLS_DIGEST], struct chain_slot *ret_slot) {
    bool hit = false;
    if (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
        return false;
    const struct chain_slot *slot = slot_of(key);
    if (slot->not_after && memcmp(slot->key, key, MESH_TLS_DIGEST) == 0) {
        *ret_slot = *slot;
        hit = true;
    }
    atomic_flag_clear_explicit(&busy, memory_order_release);
    return hit;
}

static void remember(const struct chain_slot *fresh) {
    if (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
        return;
    *slot_of(fresh->key) = *fresh;
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

static int key_make(X509_STORE_CTX *ctx, const struct mesh_identity *id, bool peer_is_server,
                    uint8_t ret_key[MESH_TLS_DIGEST]) {
    uint8_t text[MESH_TLS_DIGEST * (MESH_TLS_CHAIN_MAX + 2) + 1];
    const STACK_OF(X509) *shown = X509_STORE_CTX_get0_untrusted(ctx);
    size_t n = 0;
    memcpy(text, id->bundle, MESH_TLS_DIGEST);
    n += MESH_TLS_DIGEST;
    text[n++] = peer_is_server;
    if (mesh_tls_cert_digest(X509_STORE_CTX_get0_cert(ctx), text + n) != 0)
        return MESH_E_NOMEM;
    n += MESH_TLS_DIGEST;
    for (int i = 0; i < sk_X509_num(shown); i++, n += MESH_TLS_DIGEST)
        if (mesh_tls_cert_digest(sk_X509_value(shown, i), text + n) != 0)
            return MESH_E_NOMEM;
    return EVP_Digest(text, n, ret_key, NULL, mesh_tls_hash_get(MESH_TLS_DIGEST), NULL) == 1 ? 0
                                                                                             : MESH_E_NOMEM;
}

static void validity_of(const STACK_OF(X509) * chain, struct chain_slot *ret) {
    ret->not_before = INT64_MIN;
    ret->not_after = INT64_MAX;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        int64_t from = mesh_tls_time_seconds(X509_get0_notBefore(sk_X509_value(chain, i)));
        int64_t to = mesh_tls_time_seconds(X509_get0_notAfter(sk_X509_value(chain, i)));
        if (from > ret->not_before)
            ret->not_before = from;
        if (to < ret->not_after)
            ret->not_after = to;
    }
}

static int verify_fresh(X509_STORE_CTX *ctx, int64_t wall, struct mesh_why *why) {
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), (time_t)wall);
    if (X509_verify_cert(ctx) == 1)
        return 0;
    int err = X509_STORE_CTX_get_error(ctx);
    if (err == X509_V_OK) /* never answer a failure with "ok" */
        X509_STORE_CTX_set_error(ctx, err = X509_V_ERR_UNSPECIFIED);
    return mesh_why(why, MESH_E_PEER, "%s (certificate %d of its chain)", X509_verify_cert_error_string(err),
                    X509_STORE_CTX_get_error_depth(ctx));
}

int mesh_tls_chain_verify(X509_STORE_CTX *ctx, const struct mesh_identity *id, bool peer_is_server,
                          int64_t wall, int64_t *ret_not_after, struct mesh_why *why) {
    struct chain_slot slot;
    uint8_t key[MESH_TLS_DIGEST];
    if (sk_X509_num(X509_STORE_CTX_get0_untrusted(ctx)) > MESH_TLS_CHAIN_MAX) {
        X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_CHAIN_TOO_LONG);
        return mesh_why(why, MESH_E_PEER, "shows more than %d certificates", MESH_TLS_CHAIN_MAX);
    }
    bool keyed = key_make(ctx, id, peer_is_server, key) == 0;
    if (keyed && recall(key, &slot) && wall >= slot.not_before && wall <= slot.not_after) {
        *ret_not_after = slot.not_after;
        X509_STORE_CTX_set_error(ctx, X509_V_OK);
        return 0;
    }
    int err = verify_fresh(ctx, wall, why);
    if (err)
        return err;
    validity_of(X509_STORE_CTX_get0_chain(ctx), &slot);
    *ret_not_after = slot.not_after;
    if (keyed) {
        memcpy(slot.key, key, sizeof key);
        remember(&slot);
    }
    return 0;
}
