// SPDX-License-Identifier: Apache-2.0
/* Queries as res_send gets them: parse, answer into a buffer whose size the input chooses, parse reverse
 * names. */
#include <stdlib.h>
#include <string.h>
#include "shim/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mesh_dns_question q, again;
    struct mesh_names_addrs addrs = {.n = 3,
                                     .a = {{4, {241, 0, 0, 5}}, {6, {0xfd, [15] = 5}}, {4, {10, 0, 0, 7}}}};
    uint8_t addr[16];
    unsigned count;
    if (size < 2)
        return 0;
    size_t cap = (size_t)(data[0] | data[1] << 8) % 1024;
    uint8_t *out = malloc(cap ? cap : 1), *msg = malloc(size - 2 ? size - 2 : 1);
    if (out && msg) {
        memcpy(msg, data + 2, size - 2);
        if (mesh_dns_question_parse(msg, size - 2, &q) == 0) {
            mesh_dns_reverse_parse(q.name, addr);
            int n = mesh_dns_answer_build(&q, MESH_DNS_NOERROR, &addrs, q.name, out, cap, &count);
            if (n > (int)cap || (n >= 0 && n < MESH_DNS_HEADER))
                abort();
            if (mesh_dns_question_of(q.name, q.type, q.class, &again) != 0 || again.wire_len != q.wire_len ||
                memcmp(again.wire, q.wire, q.wire_len) != 0)
                abort();
        }
    }
    free(out);
    free(msg);
    return 0;
}
