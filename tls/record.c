/* SPDX-License-Identifier: Apache-2.0
 *
 * One record, sealed or opened. A context is keyed once and then takes only a nonce a record: nothing is
 * allocated on the way of a record but the first of its kind.
 */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include "shim/base/mem.h"
#include "tls/internal.h"

enum {
    TAG = 16,
    EXPLICIT = 8,
    TLS13 = 0x0304,
    TLS12 = 0x0303,
    CHANGE_CIPHER_SPEC = 20,
    SEALS = 1,
    OPENS = 2,        /* mesh_aead.keyed: what the context is keyed for */
    SHORT_MAX = 3072, /* bytes up to which gcm.c is faster than EVP */
};

/* RFC 8446 5.5 lets AES-GCM protect 2^24.5 full records, which are 2^34.5 blocks, under one key; RFC 9325 4.4
 * asks the same of TLS 1.2. Counted in blocks, so that small records do not spend a key a thousand times too
 * early. ChaCha20 ends with the sequence number. */
static const uint64_t gcm_blocks_max = UINT64_C(24296003999);

static bool has_explicit_nonce(const struct mesh_record *r) {
    return r->version == TLS12 && r->cipher != MESH_CHACHA20_POLY1305;
}

size_t mesh_record_overhead(const struct mesh_record *r) {
    if (r->version == TLS13)
        return MESH_REC_HEADER + 1 + TAG;
    return MESH_REC_HEADER + TAG + (has_explicit_nonce(r) ? EXPLICIT : 0);
}

/* What mesh_aead.ctx points to. Each way is keyed when the first record of its kind comes. */
struct context {
    struct mesh_tls_gcm *short_gcm;
    EVP_CIPHER_CTX *evp;
    bool no_short; /* not this cipher, or not this machine */
    bool evp_keyed;
};

static void context_clear(struct context *c) {
    mesh_tls_gcm_free(c->short_gcm);
    c->short_gcm = NULL;
    c->no_short = c->evp_keyed = false;
}

void mesh_aead_done(struct mesh_aead *a) {
    struct context *c = a->ctx;
    if (c) {
        context_clear(c);
        EVP_CIPHER_CTX_free(c->evp); /* zeroes the key schedule */
        free(c);
    }
    memset(a, 0, sizeof *a);
}

static int evp_key(struct context *c, const struct mesh_record *r, uint8_t use) {
    if (!c->evp && !(c->evp = EVP_CIPHER_CTX_new()))
        return MESH_E_NOMEM;
    c->evp_keyed =
        EVP_CipherInit_ex(c->evp, mesh_tls_cipher_get(r->cipher), NULL, r->key, NULL, use == SEALS) == 1;
    if (c->evp_keyed)
        return 0;
    ERR_clear_error();
    return MESH_E_NOMEM;
}

/* Forgets the old keys when the context is for another tag, key generation or direction. */
static struct context *context_for(struct mesh_aead *a, const struct mesh_record *r, uint64_t tag,
                                   uint8_t use) {
    if (mesh_likely(a->keyed == use && a->tag == tag && a->generation == r->generation))
        return a->ctx;
    if (!a->ctx && !(a->ctx = calloc(1, sizeof(struct context))))
        return NULL;
    context_clear(a->ctx);
    a->tag = tag;
    a->generation = r->generation;
    a->keyed = use;
    return a->ctx;
}

/* Makes one of the two ways ready for n bytes of text; `ret_gcm` is NULL when it is EVP's. */
static int aead_ready(struct mesh_aead *a, const struct mesh_record *r, uint64_t tag, uint8_t use, size_t n,
                      struct mesh_tls_gcm **ret_gcm) {
    if (mesh_tls_cipher_get(r->cipher) == NULL)
        return MESH_E_INTERNAL;
    struct context *c = context_for(a, r, tag, use);
    if (!c)
        return MESH_E_NOMEM;
    if (n <= SHORT_MAX && !c->no_short && !c->short_gcm) {
        c->no_short = r->cipher == MESH_CHACHA20_POLY1305;
        if (!c->no_short)
            c->short_gcm = mesh_tls_gcm_new(r->key, mesh_tls_cipher_key_len(r->cipher));
        c->no_short = !c->short_gcm;
    }
    *ret_gcm = n <= SHORT_MAX ? c->short_gcm : NULL;
    return *ret_gcm || c->evp_keyed ? 0 : evp_key(c, r, use);
}

static void store64(uint8_t *p, uint64_t v) {
    v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof v);
}

static void store16(uint8_t *p, size_t v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* RFC 8446 5.3 and RFC 7905: the sequence number over the IV; RFC 5288: the salt and what the record carries.
 */
static void nonce_make(const struct mesh_record *r, uint64_t seq, const uint8_t *explicit_nonce,
                       uint8_t ret_nonce[12]) {
    memcpy(ret_nonce, r->iv, 12);
    if (explicit_nonce) {
        memcpy(ret_nonce + 4, explicit_nonce, EXPLICIT);
        return;
    }
    uint8_t bytes[8];
    store64(bytes, seq);
    for (int i = 0; i < 8; i++)
        ret_nonce[4 + i] ^= bytes[i];
}

/* What is authenticated beside the text: the header in 1.3; sequence, type, version and text length in 1.2.
 */
static size_t aad_make(const struct mesh_record *r, uint64_t seq, const uint8_t header[5], size_t n,
                       uint8_t ret_aad[13]) {
    if (r->version == TLS13) {
        memcpy(ret_aad, header, 5);
        return 5;
    }
    store64(ret_aad, seq);
    memcpy(ret_aad + 8, header, 3);
    store16(ret_aad + 11, n);
    return 13;
}

/* One piece of plaintext, by either way. */
static bool encrypt(EVP_CIPHER_CTX *evp, struct mesh_tls_gcm *gcm, const void *in, size_t n, uint8_t *out) {
    int len;
    return gcm ? mesh_tls_gcm_encrypt(gcm, in, n, out) : EVP_EncryptUpdate(evp, out, &len, in, (int)n) == 1;
}

static bool encrypt_iov(EVP_CIPHER_CTX *evp, struct mesh_tls_gcm *gcm, const struct iovec *iov, int cnt,
                        size_t skip, size_t n, uint8_t *out) {
    for (int i = 0; n && i < cnt; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        size_t take = iov[i].iov_len - skip;
        if (take > n)
            take = n;
        if (!encrypt(evp, gcm, (const uint8_t *)iov[i].iov_base + skip, take, out))
            return false;
        out += take;
        n -= take;
        skip = 0;
    }
    return n == 0;
}

static bool seal_begin(EVP_CIPHER_CTX *evp, struct mesh_tls_gcm *gcm, const uint8_t nonce[12],
                       const uint8_t *aad, size_t aad_len) {
    int len;
    if (gcm)
        mesh_tls_gcm_begin(gcm, nonce, aad, aad_len);
    return gcm || (EVP_EncryptInit_ex(evp, NULL, NULL, NULL, nonce) == 1 &&
                   EVP_EncryptUpdate(evp, NULL, &len, aad, (int)aad_len) == 1);
}

static bool seal_end(EVP_CIPHER_CTX *evp, struct mesh_tls_gcm *gcm, uint8_t ret_tag[TAG]) {
    int len;
    if (gcm)
        mesh_tls_gcm_tag(gcm, ret_tag);
    return gcm || (EVP_EncryptFinal_ex(evp, ret_tag, &len) == 1 &&
                   EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, TAG, ret_tag) == 1);
}

static int seal_ready(struct mesh_record *r, struct mesh_aead *a, uint64_t tag, uint8_t type, size_t n,
                      size_t cap, struct mesh_tls_gcm **ret_gcm) {
    uint64_t blocks = n / 16 + 2; /* the text, rounded up, and the tag's mask */
    if (n > MESH_REC_PLAIN_MAX || cap < n + mesh_record_overhead(r))
        return MESH_E_LIMIT;
    if (r->seq == UINT64_MAX)
        return MESH_E_KEYLIMIT;
    /* The KeyUpdate and the alert that answer the limit still go out under the old key. */
    if (r->cipher != MESH_CHACHA20_POLY1305 && r->sealed + blocks > gcm_blocks_max && type == MESH_REC_DATA)
        return MESH_E_KEYLIMIT;
    int err = aead_ready(a, r, tag, SEALS, n, ret_gcm);
    if (err)
        return err;
    /* Used up before the first byte exists: whatever happens now, no second record gets this number. */
    r->sealed += blocks;
    __atomic_store_n(&r->seq, r->seq + 1, __ATOMIC_SEQ_CST);
    return 0;
}

int mesh_record_sealv(struct mesh_record *r, struct mesh_aead *a, uint64_t tag, uint8_t type,
                      const struct iovec *iov, int cnt, size_t skip, size_t n, void *out, size_t cap) {
    uint64_t seq = r->seq;
    struct mesh_tls_gcm *gcm;
    int err = seal_ready(r, a, tag, type, n, cap, &gcm);
    if (err)
        return err;
    EVP_CIPHER_CTX *evp = ((struct context *)a->ctx)->evp;
    uint8_t *wire = out, *text = wire + MESH_REC_HEADER, nonce[12], aad[13];
    bool tls13 = r->version == TLS13;
    size_t total = n + mesh_record_overhead(r);
    wire[0] = tls13 ? MESH_REC_DATA : type;
    wire[1] = 3;
    wire[2] = 3;
    store16(wire + 3, total - MESH_REC_HEADER);
    if (has_explicit_nonce(r)) {
        /* The library's own Finished carried a random nonce: meeting it by counting has a chance of 2^-39. */
        store64(text, seq);
        nonce_make(r, seq, text, nonce);
        text += EXPLICIT;
    } else {
        nonce_make(r, seq, NULL, nonce);
    }
    size_t aad_len = aad_make(r, seq, wire, n, aad);
    bool ok = seal_begin(evp, gcm, nonce, aad, aad_len) && encrypt_iov(evp, gcm, iov, cnt, skip, n, text);
    text += n;
    if (ok && tls13)
        ok = encrypt(evp, gcm, &type, 1, text++);
    if (ok && seal_end(evp, gcm, text))
        return (int)total;
    a->keyed = 0;
    ERR_clear_error();
    return MESH_E_INTERNAL;
}

int mesh_record_seal(struct mesh_record *r, struct mesh_aead *a, uint64_t tag, uint8_t type, const void *in,
                     size_t n, void *out, size_t cap) {
    const struct iovec iov = {(void *)(uintptr_t)in, n};
    return mesh_record_sealv(r, a, tag, type, &iov, 1, 0, n, out, cap);
}

int mesh_record_body_len(const struct mesh_record *r, const uint8_t header[5]) {
    size_t len = (size_t)header[3] << 8 | header[4];
    size_t least = mesh_record_overhead(r) - MESH_REC_HEADER;
    if (header[1] != 3 || len < least || len > MESH_REC_WIRE_MAX - MESH_REC_HEADER)
        return MESH_E_PROTOCOL;
    if (r->version == TLS13 ? header[0] != MESH_REC_DATA
                            : header[0] <= CHANGE_CIPHER_SPEC || header[0] > MESH_REC_DATA || header[2] != 3)
        return MESH_E_PROTOCOL;
    return (int)len;
}

static bool evp_open(EVP_CIPHER_CTX *evp, const uint8_t nonce[12], const uint8_t *aad, size_t aad_len,
                     const uint8_t *in, size_t n, uint8_t tag[TAG], uint8_t *out) {
    int len;
    return EVP_DecryptInit_ex(evp, NULL, NULL, NULL, nonce) == 1 &&
           EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_TAG, TAG, tag) == 1 &&
           EVP_DecryptUpdate(evp, NULL, &len, aad, (int)aad_len) == 1 &&
           (n == 0 || EVP_DecryptUpdate(evp, out, &len, in, (int)n) == 1) &&
           EVP_DecryptFinal_ex(evp, tag, &len) == 1;
}

/* Decrypts n bytes and checks the tag behind them. */
static int aead_open(struct mesh_aead *a, struct mesh_tls_gcm *gcm, const uint8_t nonce[12],
                     const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t n, uint8_t *out) {
    uint8_t tag[TAG];
    bool ok;
    memcpy(tag, in + n, TAG);
    if (gcm) {
        mesh_tls_gcm_begin(gcm, nonce, aad, aad_len);
        ok = mesh_tls_gcm_decrypt(gcm, in, n, tag, out);
    } else {
        ok = evp_open(((struct context *)a->ctx)->evp, nonce, aad, aad_len, in, n, tag, out);
    }
    if (ok)
        return 0;
    OPENSSL_cleanse(out, n); /* nobody sees text that was not authenticated */
    a->keyed = 0;
    ERR_clear_error();
    return MESH_E_RECORD;
}

/* RFC 8446 5.4: the last byte that is not zero is the type. Returns the length before it. */
static int padding_strip(const uint8_t *text, size_t n, uint8_t *ret_type) {
    if (n > MESH_REC_PLAIN_MAX + 1)
        return MESH_E_PROTOCOL;
    while (n && text[n - 1] == 0)
        n--;
    if (n == 0)
        return MESH_E_PROTOCOL;
    *ret_type = text[n - 1];
    return (int)(n - 1);
}

static int type_check(uint8_t type, int n) {
    if (type != MESH_REC_DATA && type != MESH_REC_HANDSHAKE && type != MESH_REC_ALERT)
        return MESH_E_PROTOCOL;
    return n == 0 && type != MESH_REC_DATA ? MESH_E_PROTOCOL : 0;
}

int mesh_record_open(struct mesh_record *r, struct mesh_aead *a, uint64_t tag, const uint8_t *wire,
                     size_t wire_len, void *out, size_t cap, uint8_t *ret_type) {
    if (wire_len < MESH_REC_HEADER)
        return MESH_E_PROTOCOL;
    int body = mesh_record_body_len(r, wire);
    if (body < 0 || (size_t)body != wire_len - MESH_REC_HEADER)
        return MESH_E_PROTOCOL;
    if (cap < (size_t)body)
        return MESH_E_LIMIT;
    if (r->seq == UINT64_MAX)
        return MESH_E_KEYLIMIT;
    struct mesh_tls_gcm *gcm;
    int err = aead_ready(a, r, tag, OPENS, (size_t)body, &gcm);
    if (err)
        return err;
    const uint8_t *sealed = wire + MESH_REC_HEADER, *explicit_nonce = NULL;
    uint8_t *text = out, nonce[12], aad[13], type = wire[0];
    size_t n = (size_t)body - TAG;
    if (has_explicit_nonce(r)) {
        explicit_nonce = sealed;
        sealed += EXPLICIT;
        n -= EXPLICIT;
        if (text == wire + MESH_REC_HEADER) /* in place: decrypt where it lies, then close the gap */
            text += EXPLICIT;
    }
    nonce_make(r, r->seq, explicit_nonce, nonce);
    size_t aad_len = aad_make(r, r->seq, wire, n, aad);
    err = aead_open(a, gcm, nonce, aad, aad_len, sealed, n, text);
    if (err)
        return err;
    __atomic_store_n(&r->seq, r->seq + 1, __ATOMIC_RELAXED);
    if (text != out)
        memmove(out, text, n);
    int got = r->version == TLS13      ? padding_strip(out, n, &type)
              : n > MESH_REC_PLAIN_MAX ? MESH_E_PROTOCOL
                                       : (int)n;
    if (got < 0 || type_check(type, got) != 0)
        return MESH_E_PROTOCOL;
    *ret_type = type;
    return got;
}
