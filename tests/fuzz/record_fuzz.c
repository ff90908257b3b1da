/* SPDX-License-Identifier: Apache-2.0
 *
 * Records and what is in them. The first byte chooses suite, version and whether the text is sealed by us
 * first, so that the part behind the tag is reached: the bytes are then the inner text of the record.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "tls/internal.h"

static struct mesh_aead seal_aead, open_aead;

static struct mesh_record make(uint8_t choice) {
    struct mesh_record r = {
        .version = choice & 1 ? 0x0303 : 0x0304, .cipher = (uint8_t)(1 + (choice >> 1) % 3), .hash_len = 32};
    r.generation = (uint32_t)r.version << 8 | r.cipher;
    memset(r.key, 7, sizeof r.key);
    return r;
}

static void post(const struct mesh_record *r, bool server, uint8_t type, const uint8_t *p, size_t n) {
    struct mesh_post acc = {0};
    uint8_t alert;
    if (type == MESH_REC_ALERT) {
        (void)!mesh_alert_read(r, p, n, &alert);
    } else if (type == MESH_REC_HANDSHAKE) {
        size_t cut =
            n / 2; /* whole and in two halves it must mean the same, but for a KeyUpdate inside the first */
        int whole = mesh_post_feed(&acc, r, server, p, n);
        acc = (struct mesh_post){0};
        int first = mesh_post_feed(&acc, r, server, p, cut),
            second = first < 0 ? first : mesh_post_feed(&acc, r, server, p + cut, n - cut);
        if (whole >= 0 && (second < 0 || (first | second) != whole))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t wire[MESH_REC_WIRE_MAX + 64], text[MESH_REC_WIRE_MAX + 64], type = 0;
    if (mesh_tls_start() != 0 || size < 2 || size > MESH_REC_PLAIN_MAX)
        return 0;
    struct mesh_record rx = make(data[0]), tx = rx;
    bool sealed = data[0] & 0x80, server = data[0] & 0x40;
    uint8_t *exact = malloc(size);
    memcpy(exact, data + 2, size - 2);
    if (!sealed) {
        int body = size - 2 >= 5 ? mesh_record_body_len(&rx, exact) : -1;
        if (body > (int)sizeof text)
            abort();
        int n = mesh_record_open(&rx, &open_aead, 1, exact, size - 2, text, sizeof text, &type);
        if (n >= 0)
            post(&rx, server, type, text, (size_t)n);
    } else {
        int len = mesh_record_seal(&tx, &seal_aead, 1, data[1], exact, size - 2, wire, sizeof wire);
        int n =
            len < 0 ? len : mesh_record_open(&rx, &open_aead, 1, wire, (size_t)len, text, sizeof text, &type);
        if (n >= 0) {
            if ((size_t)n > size - 2 || memcmp(text, exact, (size_t)n) != 0)
                abort();
            post(&rx, server, type, text, (size_t)n);
        }
    }
    free(exact);
    return 0;
}
