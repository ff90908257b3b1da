/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/uio.h>
#include "tests/unit/tls/vectors.h"
#include "tls/internal.h"

static uint8_t plain[MESH_REC_PLAIN_MAX + 64], wire[MESH_REC_WIRE_MAX + 64], text[MESH_REC_WIRE_MAX + 64];
static struct mesh_aead seal_aead, open_aead;

static void setup(void) {
    cr_assert_eq(mesh_tls_start(), 0);
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 131 >> 3);
}

static void teardown(void) {
    mesh_aead_done(&seal_aead);
    mesh_aead_done(&open_aead);
}

TestSuite(record, .init = setup, .fini = teardown);

static const struct kind {
    enum mesh_cipher cipher;
    uint16_t version;
} kinds[] = {{MESH_AES128_GCM, 0x0304}, {MESH_AES256_GCM, 0x0304}, {MESH_CHACHA20_POLY1305, 0x0304},
             {MESH_AES128_GCM, 0x0303}, {MESH_AES256_GCM, 0x0303}, {MESH_CHACHA20_POLY1305, 0x0303}};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static struct mesh_record make(struct kind k) {
    static uint32_t generation = 1;
    struct mesh_record r = {.version = k.version,
                            .cipher = (uint8_t)k.cipher,
                            .generation = generation++,
                            .hash_len = k.cipher == MESH_AES256_GCM ? 48 : 32};
    for (int i = 0; i < 32; i++)
        r.key[i] = (uint8_t)(i * 7 + k.cipher);
    for (int i = 0; i < 12; i++)
        r.iv[i] = (uint8_t)(200 + i);
    return r;
}

static int seal(struct mesh_record *r, uint8_t type, const void *p, size_t n) {
    return mesh_record_seal(r, &seal_aead, 1, type, p, n, wire, sizeof wire);
}

static int open_it(struct mesh_record *r, size_t n, uint8_t *ret_type) {
    return mesh_record_open(r, &open_aead, 1, wire, n, text, sizeof text, ret_type);
}

static void expect_round_trip(struct mesh_record *tx, struct mesh_record *rx, uint8_t type, size_t n) {
    uint8_t got_type = 0;
    int len = seal(tx, type, plain, n);
    cr_assert_eq((size_t)len, n + mesh_record_overhead(tx));
    cr_assert_eq(mesh_record_body_len(rx, wire), len - 5);
    cr_assert_eq(open_it(rx, (size_t)len, &got_type), (int)n, "size %zu", n);
    cr_assert_eq(got_type, type);
    cr_assert_eq(memcmp(text, plain, n), 0);
}

Test(record, sizes_around_every_boundary_come_back) {
    static const size_t around[] = {0,   16,   32,   64,   128,  192,  256,  288,
                                    512, 1024, 1460, 3072, 4096, 8192, 16384};
    for (size_t k = 0; k < KINDS; k++) {
        struct mesh_record tx = make(kinds[k]), rx = tx;
        for (size_t i = 0; i < sizeof around / sizeof around[0]; i++)
            for (int d = -18; d <= 18; d++)
                if ((long)around[i] + d >= 0 && around[i] + (size_t)d <= MESH_REC_PLAIN_MAX &&
                    (d >= 0 || around[i]))
                    expect_round_trip(&tx, &rx, MESH_REC_DATA, around[i] + (size_t)d);
        cr_assert_eq(tx.seq, rx.seq);
    }
}

Test(record, every_small_size_comes_back) {
    for (size_t k = 0; k < KINDS; k++) {
        struct mesh_record tx = make(kinds[k]), rx = tx;
        for (size_t n = 0; n <= 400; n++)
            expect_round_trip(&tx, &rx, MESH_REC_DATA, n);
    }
}

Test(record, handshake_and_alert_types_come_back) {
    for (size_t k = 0; k < KINDS; k++) {
        struct mesh_record tx = make(kinds[k]), rx = tx;
        expect_round_trip(&tx, &rx, MESH_REC_ALERT, 2);
        expect_round_trip(&tx, &rx, MESH_REC_HANDSHAKE, 5);
    }
}

Test(record, opening_in_place_gives_the_same) {
    for (size_t k = 0; k < KINDS; k++) {
        struct mesh_record tx = make(kinds[k]), rx = tx;
        for (size_t n = 0; n < 3000; n += 61) {
            uint8_t type;
            int len = seal(&tx, MESH_REC_DATA, plain, n);
            int got =
                mesh_record_open(&rx, &open_aead, 1, wire, (size_t)len, wire + 5, (size_t)len - 5, &type);
            cr_assert_eq(got, (int)n);
            cr_assert_eq(memcmp(wire + 5, plain, n), 0);
        }
    }
}

Test(record, gathered_text_is_sealed_as_one) {
    for (size_t k = 0; k < KINDS; k++) {
        struct mesh_record a = make(kinds[k]), b = a, rx = a;
        for (size_t skip = 0; skip < 60; skip += 7) {
            uint8_t flat[MESH_REC_WIRE_MAX], type;
            struct iovec iov[5] = {
                {plain, 13}, {plain + 13, 0}, {plain + 13, 1}, {plain + 14, 700}, {plain + 714, 300}};
            size_t n = 1000 - skip;
            int one = mesh_record_seal(&a, &seal_aead, 1, MESH_REC_DATA, plain + skip, n, flat, sizeof flat);
            struct mesh_aead other = {0};
            int two = mesh_record_sealv(&b, &other, 1, MESH_REC_DATA, iov, 5, skip, n, wire, sizeof wire);
            mesh_aead_done(&other);
            cr_assert_eq(one, two);
            cr_assert_eq(memcmp(flat, wire, (size_t)one), 0);
            cr_assert_eq(open_it(&rx, (size_t)two, &type), (int)n);
        }
    }
}

Test(record, iovecs_shorter_than_told_are_an_error) {
    struct mesh_record r = make(kinds[0]);
    struct iovec iov = {plain, 10};
    cr_assert_lt(mesh_record_sealv(&r, &seal_aead, 1, MESH_REC_DATA, &iov, 1, 0, 11, wire, sizeof wire), 0);
}

Test(record, rfc8448_records_are_reproduced_and_read) {
    uint8_t type, fifty[50];
    struct mesh_record c, s;
    for (int i = 0; i < 50; i++)
        fifty[i] = (uint8_t)i;
    cr_assert_eq(mesh_tls_record_init13(&c, MESH_AES128_GCM, 32, rfc8448_client_secret), 0);
    cr_assert_eq(mesh_tls_record_init13(&s, MESH_AES128_GCM, 32, rfc8448_server_secret), 0);
    c.generation = 1000;
    s.generation = 1001;
    struct mesh_record c_rx = c, s_rx = s;
    s.seq = s_rx.seq = 1; /* after the ticket */
    cr_assert_eq(seal(&c, MESH_REC_DATA, fifty, 50), (int)sizeof rfc8448_client_data);
    cr_assert_arr_eq(wire, rfc8448_client_data, sizeof rfc8448_client_data);
    cr_assert_eq(open_it(&c_rx, sizeof rfc8448_client_data, &type), 50);
    cr_assert_eq(seal(&c, MESH_REC_ALERT, "\1\0", 2), (int)sizeof rfc8448_client_close);
    cr_assert_arr_eq(wire, rfc8448_client_close, sizeof rfc8448_client_close);
    cr_assert_eq(seal(&s, MESH_REC_DATA, fifty, 50), (int)sizeof rfc8448_server_data);
    cr_assert_arr_eq(wire, rfc8448_server_data, sizeof rfc8448_server_data);
    cr_assert_eq(seal(&s, MESH_REC_ALERT, "\1\0", 2), (int)sizeof rfc8448_server_close);
    cr_assert_arr_eq(wire, rfc8448_server_close, sizeof rfc8448_server_close);
    memcpy(wire, rfc8448_server_data, sizeof rfc8448_server_data);
    cr_assert_eq(open_it(&s_rx, sizeof rfc8448_server_data, &type), 50);
    memcpy(wire, rfc8448_server_close, sizeof rfc8448_server_close);
    cr_assert_eq(open_it(&s_rx, sizeof rfc8448_server_close, &type), 2);
    cr_assert_eq(type, MESH_REC_ALERT);
}

/* The RFCs' words once more, one-shot: what goes in as key, nonce and additional data, and what comes out. */
static void expect_as_written(struct kind k, const char *name, size_t text_len) {
    struct mesh_record r = make(k);
    r.seq = 0x0102030405060708;
    static uint8_t in[MESH_REC_PLAIN_MAX + 1], out[MESH_REC_WIRE_MAX];
    uint8_t nonce[12], aad[13], tag[16], seq[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    int n, explicit_len = k.version == 0x0303 && k.cipher != MESH_CHACHA20_POLY1305 ? 8 : 0;
    size_t aad_len = 5, in_len = text_len;
    memcpy(nonce, r.iv, 12);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = explicit_len ? seq[i] : nonce[4 + i] ^ seq[i];
    int len = seal(&r, MESH_REC_DATA, plain, text_len);
    memcpy(in, plain, text_len);
    if (k.version == 0x0304) {
        memcpy(aad, wire, 5);
        in[in_len++] = MESH_REC_DATA;
    } else {
        memcpy(aad, seq, 8);
        memcpy(aad + 8, (uint8_t[]){23, 3, 3, (uint8_t)(text_len >> 8), (uint8_t)text_len}, 5);
        aad_len = 13;
    }
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    cr_assert(EVP_EncryptInit_ex(ctx, cipher, NULL, r.key, nonce) &&
              EVP_EncryptUpdate(ctx, NULL, &n, aad, (int)aad_len) &&
              EVP_EncryptUpdate(ctx, out, &n, in, (int)in_len) && EVP_EncryptFinal_ex(ctx, out + n, &n) &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, tag));
    EVP_CIPHER_free(cipher);
    EVP_CIPHER_CTX_free(ctx);
    cr_assert_eq((size_t)len, 5 + (size_t)explicit_len + in_len + 16);
    cr_assert_arr_eq(wire, ((uint8_t[]){23, 3, 3, (uint8_t)((len - 5) >> 8), (uint8_t)(len - 5)}), 5);
    if (explicit_len)
        cr_assert_arr_eq(wire + 5, seq, 8);
    cr_assert_eq(memcmp(wire + 5 + explicit_len, out, in_len), 0);
    cr_assert_arr_eq(wire + len - 16, tag, 16);
}

Test(record, every_suite_is_built_as_its_rfc_says) {
    static const char *const names[] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};
    static const size_t sizes[] = {0,    1,    16,   32,   1000,
                                   3071, 3072, 3073, 5000, 16384}; /* both sides of the way's change */
    for (size_t k = 0; k < KINDS; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            expect_as_written(kinds[k], names[k % 3], sizes[i]);
}

Test(record, a_change_of_any_bit_is_found) {
    for (size_t k = 0; k < KINDS; k++) {
        struct mesh_record tx = make(kinds[k]);
        int len = seal(&tx, MESH_REC_DATA, plain, 77);
        for (int i = 0; i < len; i++) {
            struct mesh_record rx = make(kinds[k]);
            uint8_t type = 99;
            wire[i] ^= (uint8_t)(1 << (i % 8));
            int err = open_it(&rx, (size_t)len, &type);
            wire[i] ^= (uint8_t)(1 << (i % 8));
            cr_assert(err == MESH_E_RECORD || (i < 5 && err == MESH_E_PROTOCOL), "byte %d: %d", i, err);
            cr_assert(type == 99 && rx.seq == 0);
        }
    }
}

Test(record, text_that_does_not_authenticate_is_wiped) {
    struct mesh_record tx = make(kinds[0]), rx = tx;
    uint8_t type;
    int len = seal(&tx, MESH_REC_DATA, plain, 64);
    wire[len - 1] ^= 1;
    memset(text, 0xee, sizeof text);
    cr_assert_eq(open_it(&rx, (size_t)len, &type), MESH_E_RECORD);
    for (int i = 0; i < 65; i++)
        cr_assert_eq(text[i], 0);
}

Test(record, a_record_out_of_order_or_twice_is_refused) {
    for (size_t k = 0; k < KINDS; k++) {
        struct mesh_record tx = make(kinds[k]), rx = tx;
        uint8_t type, first[200];
        int len = seal(&tx, MESH_REC_DATA, plain, 100);
        memcpy(first, wire, (size_t)len);
        cr_assert_eq(open_it(&rx, (size_t)len, &type), 100);
        cr_assert_eq(open_it(&rx, (size_t)len, &type), MESH_E_RECORD);
        seal(&tx, MESH_REC_DATA, plain, 100);
        len = seal(&tx, MESH_REC_DATA, plain, 100);
        cr_assert_eq(open_it(&rx, (size_t)len, &type), MESH_E_RECORD);
    }
}

/* Seals an inner text of our own making: type and padding included. */
static size_t seal_inner(struct mesh_record *r, const uint8_t *inner, size_t n) {
    uint8_t nonce[12];
    int len;
    memcpy(nonce, r->iv, 12);
    nonce[11] ^= (uint8_t)r->seq;
    memcpy(wire, (uint8_t[]){23, 3, 3, (uint8_t)((n + 16) >> 8), (uint8_t)(n + 16)}, 5);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    cr_assert(EVP_EncryptInit_ex(ctx, mesh_tls_cipher_get(r->cipher), NULL, r->key, nonce) &&
              EVP_EncryptUpdate(ctx, NULL, &len, wire, 5) &&
              EVP_EncryptUpdate(ctx, wire + 5, &len, inner, (int)n) &&
              EVP_EncryptFinal_ex(ctx, wire + 5 + n, &len) &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, wire + 5 + n));
    EVP_CIPHER_CTX_free(ctx);
    return 5 + n + 16;
}

static int open_inner(const uint8_t *inner, size_t n, uint8_t *ret_type) {
    struct mesh_record r = make(kinds[0]), rx = r;
    return open_it(&rx, seal_inner(&r, inner, n), ret_type);
}

Test(record, padding_is_removed) {
    uint8_t inner[512] = {0}, type;
    memcpy(inner, "abc\0", 4);
    inner[4] = MESH_REC_DATA;
    for (size_t n = 5; n < sizeof inner; n += 23) {
        cr_assert_eq(open_inner(inner, n, &type), 4);
        cr_assert_eq(type, MESH_REC_DATA);
    }
    inner[0] = MESH_REC_DATA; /* empty text, padded */
    memset(inner + 1, 0, sizeof inner - 1);
    cr_assert_eq(open_inner(inner, 300, &type), 0);
}

Test(record, nothing_but_padding_is_refused) {
    static const uint8_t zeros[400];
    uint8_t type;
    cr_assert_eq(open_inner(zeros, 1, &type), MESH_E_PROTOCOL);
    cr_assert_eq(open_inner(zeros, 400, &type), MESH_E_PROTOCOL);
}

Test(record, inner_types_that_cannot_be_are_refused) {
    uint8_t type, bad[] = {1, 19, 20, 24, 255};
    for (size_t i = 0; i < sizeof bad; i++)
        cr_assert_eq(open_inner((uint8_t[]){'x', bad[i]}, 2, &type), MESH_E_PROTOCOL);
    cr_assert_eq(open_inner((uint8_t[]){MESH_REC_HANDSHAKE}, 1, &type), MESH_E_PROTOCOL); /* empty */
    cr_assert_eq(open_inner((uint8_t[]){MESH_REC_ALERT, 0, 0}, 3, &type), MESH_E_PROTOCOL);
}

Test(record, text_above_16384_is_refused_even_when_padding) {
    static uint8_t inner[MESH_REC_PLAIN_MAX + 2];
    uint8_t type;
    inner[MESH_REC_PLAIN_MAX] = MESH_REC_DATA;
    cr_assert_eq(open_inner(inner, MESH_REC_PLAIN_MAX + 1, &type), MESH_REC_PLAIN_MAX);
    cr_assert_eq(open_inner(inner, MESH_REC_PLAIN_MAX + 2, &type), MESH_E_PROTOCOL);
}

Test(record, headers_that_cannot_be_are_refused) {
    struct mesh_record r13 = make(kinds[0]), r12 = make(kinds[3]);
    static const uint8_t bad13[][5] = {{22, 3, 3, 0, 50}, {21, 3, 3, 0, 19},        {20, 3, 3, 0, 1},
                                       {23, 2, 3, 0, 50}, {23, 3, 3, 0, 16},        {23, 3, 3, 0, 0},
                                       {23, 3, 3, 65, 1}, {'G', 'E', 'T', ' ', '/'}};
    static const uint8_t bad12[][5] = {
        {20, 3, 3, 0, 25}, {24, 3, 3, 0, 50}, {23, 3, 1, 0, 50}, {23, 3, 3, 0, 23}, {23, 3, 3, 65, 1}};
    for (size_t i = 0; i < sizeof bad13 / 5; i++)
        cr_assert_eq(mesh_record_body_len(&r13, bad13[i]), MESH_E_PROTOCOL, "%zu", i);
    for (size_t i = 0; i < sizeof bad12 / 5; i++)
        cr_assert_eq(mesh_record_body_len(&r12, bad12[i]), MESH_E_PROTOCOL, "%zu", i);
    cr_assert_eq(mesh_record_body_len(&r13, (uint8_t[]){23, 3, 3, 65, 0}), 16640);
    cr_assert_eq(mesh_record_body_len(&r12, (uint8_t[]){22, 3, 3, 0, 24}), 24);
}

Test(record, wrong_lengths_and_small_rooms_are_refused) {
    struct mesh_record tx = make(kinds[0]), rx = tx;
    uint8_t type;
    int len = seal(&tx, MESH_REC_DATA, plain, 10);
    for (size_t n = 0; n < (size_t)len; n++)
        cr_assert_eq(open_it(&rx, n, &type), MESH_E_PROTOCOL);
    cr_assert_eq(open_it(&rx, (size_t)len + 1, &type), MESH_E_PROTOCOL);
    cr_assert_eq(mesh_record_open(&rx, &open_aead, 1, wire, (size_t)len, text, (size_t)len - 6, &type),
                 MESH_E_LIMIT);
    cr_assert_eq(mesh_record_seal(&tx, &seal_aead, 1, 23, plain, 10, wire, 31), MESH_E_LIMIT);
    cr_assert_eq(mesh_record_seal(&tx, &seal_aead, 1, 23, plain, MESH_REC_PLAIN_MAX + 1, wire, sizeof wire),
                 MESH_E_LIMIT);
    cr_assert_eq(tx.seq, 1);
}

Test(record, a_spent_gcm_key_seals_no_data_but_still_the_key_update) {
    for (size_t k = 0; k < KINDS; k++) {
        struct mesh_record tx = make(kinds[k]), rx = tx;
        uint8_t type, msg[5];
        tx.sealed = UINT64_C(24296003999) - 1026; /* 2^34.5 less one full record */
        cr_assert_gt(seal(&tx, MESH_REC_DATA, plain, MESH_REC_PLAIN_MAX), 0);
        cr_assert_eq(seal(&tx, MESH_REC_DATA, plain, 1), kinds[k].cipher == MESH_CHACHA20_POLY1305
                                                             ? 1 + (int)mesh_record_overhead(&tx)
                                                             : MESH_E_KEYLIMIT);
        if (kinds[k].version != 0x0304)
            continue;
        mesh_key_update_message(false, msg);
        rx.seq = tx.seq;
        int len = seal(&tx, MESH_REC_HANDSHAKE, msg, 5);
        cr_assert_eq(open_it(&rx, (size_t)len, &type), 5);
        cr_assert(mesh_record_next_key(&tx) == 0 && mesh_record_next_key(&rx) == 0);
        expect_round_trip(&tx, &rx, MESH_REC_DATA, 100);
    }
}

Test(record, the_last_sequence_number_is_never_used) {
    for (size_t k = 0; k < KINDS; k++) {
        struct mesh_record tx = make(kinds[k]), rx = tx;
        uint8_t type;
        tx.seq = rx.seq = UINT64_MAX - 1;
        int len = seal(&tx, MESH_REC_DATA, plain, 5);
        cr_assert_eq(open_it(&rx, (size_t)len, &type), 5);
        cr_assert_eq(seal(&tx, MESH_REC_DATA, plain, 5), MESH_E_KEYLIMIT);
        cr_assert_eq(open_it(&rx, (size_t)len, &type), MESH_E_KEYLIMIT);
    }
}

Test(record, a_cached_context_follows_tag_generation_and_direction) {
    struct mesh_record a = make(kinds[0]), b = make(kinds[2]), a_rx = a, b_rx = b;
    uint8_t type;
    b.generation = b_rx.generation = a.generation; /* told apart by the tag alone */
    for (int i = 0; i < 3; i++) {
        int len = mesh_record_seal(&a, &seal_aead, 1, 23, plain, 20, wire, sizeof wire);
        cr_assert_eq(mesh_record_open(&a_rx, &seal_aead, 1, wire, (size_t)len, text, sizeof text, &type), 20);
        len = mesh_record_seal(&b, &seal_aead, 2, 23, plain, 20, wire, sizeof wire);
        cr_assert_eq(mesh_record_open(&b_rx, &seal_aead, 2, wire, (size_t)len, text, sizeof text, &type), 20);
        cr_assert(mesh_record_next_key(&a) == 0 && mesh_record_next_key(&a_rx) == 0);
    }
}

Test(record, two_connections_share_a_context_by_their_tags) {
    struct mesh_record r[2] = {make(kinds[0]), make(kinds[2])}, rx[2] = {r[0], r[1]};
    uint8_t type;
    r[1].generation = rx[1].generation = r[0].generation;
    for (int i = 0; i < 6; i++) {
        int len = mesh_record_seal(&r[i % 2], &seal_aead, (uint64_t)i % 2, 23, plain, 20, wire, sizeof wire);
        cr_assert_eq(mesh_record_open(&rx[i % 2], &open_aead, (uint64_t)i % 2, wire, (size_t)len, text,
                                      sizeof text, &type),
                     20);
    }
    struct mesh_aead fresh = {0}; /* and what was opened was sealed under its own key */
    int len = mesh_record_seal(&r[1], &seal_aead, 1, 23, plain, 20, wire, sizeof wire);
    cr_assert_eq(mesh_record_open(&rx[1], &fresh, 1, wire, (size_t)len, text, sizeof text, &type), 20);
    mesh_aead_done(&fresh);
}

Test(record, an_unknown_cipher_is_an_error) {
    struct mesh_record r = make(kinds[0]);
    r.cipher = 0;
    cr_assert_eq(seal(&r, 23, plain, 1), MESH_E_INTERNAL);
    r.cipher = 9;
    cr_assert_eq(seal(&r, 23, plain, 1), MESH_E_INTERNAL);
}

Test(record, random_bytes_never_open) {
    struct mesh_record rx = make(kinds[0]);
    uint8_t type;
    for (int i = 0; i < 2000; i++) {
        size_t n = 17 + (size_t)i % 300;
        RAND_bytes(wire, (int)n + 5);
        memcpy(wire, (uint8_t[]){23, 3, 3, (uint8_t)(n >> 8), (uint8_t)n}, 5);
        cr_assert_eq(open_it(&rx, n + 5, &type), MESH_E_RECORD);
    }
}
