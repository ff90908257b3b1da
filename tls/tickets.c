/* SPDX-License-Identifier: Apache-2.0
 *
 * The client's sessions, in memory that processes share: a file of the run directory, or a mapping that
 * children inherit. A TLS 1.3 ticket is used once (RFC 8446 C.4), by whoever takes it out of its slot first.
 *
 * A slot's word says what is in it, since when, and is never twice the same; every change of it is a compare
 * and swap. Who works on a slot marks it, and a mark that stays (its process was killed) is overruled after
 * some seconds. What is in a slot is sealed under a key that only holders of our private key can make, bound
 * to what the ticket is for: whatever the bytes have become, torn, old or made up, they open as they were put
 * or not at all.
 */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <string.h>
#include "tls/internal.h"

enum { SLOTS = 256, PER_KEY = 8, NONCE = 12, TAG = 16, LIFE = 8 };
enum { BODY_MAX = 4096 - 4 - NONCE - TAG, DER_MAX = BODY_MAX - LIFE };
enum { FREE, FULL, HELD, STATE_BITS = 2, COUNT_BITS = 30 };
enum { HELD_SECONDS = 10, TRIES = 8 };
#define MAGIC UINT64_C(0x31746b7468736d)

struct ticket_body {
    uint32_t n; /* of `sealed`; untrusted, as all of it */
    uint8_t nonce[NONCE], tag[TAG];
    uint8_t sealed[BODY_MAX]; /* when it ends (8 bytes), then the session in DER */
};

struct ticket_slot {
    _Atomic uint64_t word; /* seconds of the last change (32), count of changes (30), state (2) */
    _Atomic uint64_t key;  /* the first bytes of the ticket's key: where to look, no more */
};

struct ticket_store {
    uint64_t magic, size;
    uint8_t salt[MESH_TLS_DIGEST];
    _Atomic uint32_t count;
    struct ticket_slot slot[SLOTS];
    struct ticket_body body[SLOTS];
};

static struct ticket_store *store; /* NULL: nothing is kept */

size_t mesh_tickets_size(void) {
    return sizeof(struct ticket_store);
}

int mesh_tickets_format(void *mem) {
    struct ticket_store *s = mem;
    s->magic = MAGIC;
    s->size = sizeof *s;
    int ok = RAND_bytes(s->salt, sizeof s->salt);
    ERR_clear_error();
    return ok == 1 ? 0 : MESH_E_INTERNAL;
}

bool mesh_tickets_whole(const void *mem) {
    const struct ticket_store *s = mem;
    return s->magic == MAGIC && s->size == sizeof *s;
}

void mesh_tickets_use(void *mem) {
    store = mem;
}

const uint8_t *mesh_tls_tickets_salt(void) {
    static const uint8_t none[MESH_TLS_DIGEST];
    return store ? store->salt : none;
}

/* ---- slots ---- */

static uint64_t word_new(int64_t wall, unsigned state) {
    uint64_t count = atomic_fetch_add_explicit(&store->count, 1, memory_order_relaxed);
    return (uint64_t)(uint32_t)wall << 32 | (count & ((1u << COUNT_BITS) - 1)) << STATE_BITS | state;
}

static unsigned state_of(uint64_t word) {
    return word & ((1u << STATE_BITS) - 1);
}

/* Free, or held by somebody who is no more. */
static bool is_vacant(uint64_t word, int64_t wall) {
    int32_t age = (int32_t)((uint32_t)wall - (uint32_t)(word >> 32));
    return state_of(word) != FULL && (state_of(word) != HELD || age > HELD_SECONDS || age < -HELD_SECONDS);
}

static bool swap(struct ticket_slot *slot, uint64_t *io_word, uint64_t to) {
    if (!atomic_compare_exchange_strong_explicit(&slot->word, io_word, to, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    *io_word = to;
    return true;
}

static uint64_t key_start(const uint8_t key[MESH_TLS_DIGEST]) {
    uint64_t start;
    memcpy(&start, key, sizeof start);
    return start;
}

/* Where a ticket of this key may go: a vacant slot, else the oldest; the oldest of this key when it has its
 * share. -1: everybody is busy. */
static int slot_for(uint64_t key, int64_t wall, uint64_t *ret_word) {
    int vacant = -1, oldest = -1, oldest_same = -1, same = 0;
    uint64_t word[SLOTS];
    for (int i = 0; i < SLOTS; i++) {
        word[i] = atomic_load_explicit(&store->slot[i].word, memory_order_acquire);
        if (is_vacant(word[i], wall))
            vacant = i;
        if (state_of(word[i]) != FULL)
            continue;
        if (oldest < 0 || word[i] < word[oldest])
            oldest = i;
        if (atomic_load_explicit(&store->slot[i].key, memory_order_relaxed) != key)
            continue;
        same++;
        if (oldest_same < 0 || word[i] < word[oldest_same])
            oldest_same = i;
    }
    int at = same >= PER_KEY ? oldest_same : vacant >= 0 ? vacant : oldest;
    if (at >= 0)
        *ret_word = word[at];
    return at;
}

static int newest(uint64_t key, uint64_t *ret_word) {
    int at = -1;
    for (int i = 0; i < SLOTS; i++) {
        uint64_t word = atomic_load_explicit(&store->slot[i].word, memory_order_acquire);
        if (state_of(word) == FULL && (at < 0 || word > *ret_word) &&
            atomic_load_explicit(&store->slot[i].key, memory_order_relaxed) == key) {
            at = i;
            *ret_word = word;
        }
    }
    return at;
}

/* ---- what is in them ---- */

static bool seal(const struct mesh_identity *id, const uint8_t key[MESH_TLS_DIGEST], const uint8_t *plain,
                 int n, struct ticket_body *ret) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len;
    bool ok =
        ctx && RAND_bytes(ret->nonce, NONCE) == 1 &&
        EVP_EncryptInit_ex2(ctx, mesh_tls_cipher_get(MESH_AES256_GCM), id->vault, ret->nonce, NULL) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &len, key, MESH_TLS_DIGEST) == 1 &&
        EVP_EncryptUpdate(ctx, ret->sealed, &len, plain, n) == 1 &&
        EVP_EncryptFinal_ex(ctx, ret->tag, &len) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, ret->tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    ret->n = (uint32_t)n;
    return ok;
}

static bool open_sealed(const struct mesh_identity *id, const uint8_t key[MESH_TLS_DIGEST],
                        struct ticket_body *body, uint8_t *ret_plain) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len;
    bool ok =
        ctx && body->n > LIFE && body->n <= BODY_MAX &&
        EVP_DecryptInit_ex2(ctx, mesh_tls_cipher_get(MESH_AES256_GCM), id->vault, body->nonce, NULL) == 1 &&
        EVP_DecryptUpdate(ctx, NULL, &len, key, MESH_TLS_DIGEST) == 1 &&
        EVP_DecryptUpdate(ctx, ret_plain, &len, body->sealed, (int)body->n) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, body->tag) == 1 &&
        EVP_DecryptFinal_ex(ctx, ret_plain + len, &len) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

/* `body` is the caller's own copy: nobody changes it meanwhile. */
static SSL_SESSION *session_read(const struct mesh_identity *id, const uint8_t key[MESH_TLS_DIGEST],
                                 struct ticket_body *body, int64_t wall, int64_t *ret_expires) {
    uint8_t plain[BODY_MAX];
    const uint8_t *der = plain + LIFE;
    SSL_SESSION *session = NULL;
    int64_t expires;
    if (open_sealed(id, key, body, plain)) {
        memcpy(&expires, plain, sizeof expires);
        if (expires > wall)
            session = d2i_SSL_SESSION(NULL, &der, (long)body->n - LIFE);
        if (session)
            *ret_expires = expires;
    }
    OPENSSL_cleanse(plain, sizeof plain);
    ERR_clear_error();
    return session;
}

static int session_write(SSL_SESSION *session, int64_t expires, uint8_t ret_plain[BODY_MAX]) {
    uint8_t *der = ret_plain + LIFE;
    int n = i2d_SSL_SESSION(session, NULL);
    if (n <= 0 || n > DER_MAX || i2d_SSL_SESSION(session, &der) != n)
        return 0;
    memcpy(ret_plain, &expires, sizeof expires);
    return LIFE + n;
}

void mesh_tls_tickets_put(const struct mesh_identity *id, const uint8_t key[MESH_TLS_DIGEST],
                          SSL_SESSION *session, int64_t wall, int64_t expires) {
    uint8_t plain[BODY_MAX];
    struct ticket_body body;
    uint64_t word;
    int n = store ? session_write(session, expires, plain) : 0;
    if (n && seal(id, key, plain, n, &body)) {
        for (int i = 0, at; i < TRIES && (at = slot_for(key_start(key), wall, &word)) >= 0; i++) {
            struct ticket_slot *slot = &store->slot[at];
            if (!swap(slot, &word, word_new(wall, HELD)))
                continue;
            memcpy(&store->body[at], &body, offsetof(struct ticket_body, sealed) + (size_t)n);
            atomic_store_explicit(&slot->key, key_start(key), memory_order_relaxed);
            (void)swap(slot, &word, word_new(wall, FULL));
            break;
        }
    }
    OPENSSL_cleanse(plain, sizeof plain);
    ERR_clear_error();
}

SSL_SESSION *mesh_tls_tickets_take(const struct mesh_identity *id, const uint8_t key[MESH_TLS_DIGEST],
                                   int64_t wall, int64_t *ret_expires) {
    struct ticket_body body;
    uint64_t full = 0;
    for (int i = 0, at; store && i < TRIES && (at = newest(key_start(key), &full)) >= 0; i++) {
        struct ticket_slot *slot = &store->slot[at];
        uint64_t held = full;
        if (!swap(slot, &held, word_new(wall, HELD)))
            continue;
        memcpy(&body, &store->body[at], sizeof body);
        SSL_SESSION *session = session_read(id, key, &body, wall, ret_expires);
        /* 1.2 has one session for many connections. */
        bool stays = session && SSL_SESSION_get_protocol_version(session) == TLS1_2_VERSION;
        (void)swap(slot, &held, stays ? full : word_new(wall, FREE));
        if (session)
            return session;
    }
    return NULL;
}
