/* SPDX-License-Identifier: Apache-2.0
 *
 * The first bytes of an inbound connection. An answer, once given, stays when more bytes come; what a
 * ClientHello says lies inside it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum mesh_first answer = MESH_FIRST_MORE;
    for (size_t n = 0; n <= size; n += n < 16 || n + 7 > size ? 1 : 7) {
        uint8_t *exact = malloc(n + !n);
        memcpy(exact, data, n);
        enum mesh_first now = mesh_first_bytes(exact, n);
        struct mesh_hello hello;
        if (mesh_hello_read(exact, n, &hello) &&
            ((hello.sni && (hello.sni < exact || hello.sni + hello.sni_len > exact + n)) ||
             (hello.alpn && (hello.alpn < exact || hello.alpn + hello.alpn_len > exact + n))))
            abort();
        free(exact);
        if (answer != MESH_FIRST_MORE && now != answer)
            abort();
        answer = now;
    }
    return 0;
}
