/* SPDX-License-Identifier: Apache-2.0
 *
 * What an endpoint answers to a health check. A verdict, once given, stays when more bytes come.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "resolver/health.h"

static void judge(const struct mesh_probe_spec *s, const uint8_t *data, size_t size) {
    int verdict = 0;
    for (size_t n = 0; n <= size; n += n < 32 || n + 13 > size ? 1 : 13) {
        uint8_t *exact = malloc(n + !n);
        memcpy(exact, data, n);
        int now = mesh_probe_judge(s, exact, n);
        free(exact);
        if (verdict && now != verdict)
            abort();
        verdict = now;
    }
}

/* The first byte says how much of the input is the patterns that the rest is searched for. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mesh_probe_spec http = {.kind = MESH_PROBE_HTTP, .nstatus = 1, .status = {{200, 300}}},
                           bytes = {.kind = MESH_PROBE_BYTES};
    judge(&http, data, size);
    size_t n = size ? data[0] : 0;
    if (n + 1 > size)
        return 0;
    for (size_t at = 0; at < n && bytes.nwant < MESH_PROBE_PATTERNS; bytes.nwant++) {
        size_t piece = 1 + data[1 + at] % 4;
        piece = piece < n - at ? piece : n - at;
        memcpy(bytes.want + at, data + 1 + at, piece);
        bytes.want_len[bytes.nwant] = (uint16_t)piece;
        at += piece;
    }
    judge(&bytes, data + 1 + n, size - 1 - n);
    return 0;
}
