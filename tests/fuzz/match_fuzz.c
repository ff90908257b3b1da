/* SPDX-License-Identifier: Apache-2.0
 *
 * Patterns and values: `kind`, pattern, NUL, value. A pattern list that parses must hold patterns that match
 * without harm, and a SPIFFE pattern matches only valid IDs.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 4096)
        return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    size_t len = strlen(text), rest = size - 1 - len;
    const char *value = rest ? text + len + 1 : "";
    size_t value_len = rest ? rest - 1 : 0;
    struct mesh_match m = {.kind = data[0] & 7,
                           .ignore_case = data[0] >> 7,
                           .len = (uint16_t)len,
                           .text = text},
                      list[8];
    struct mesh_why why;
    bool yes = mesh_match_text(&m, value, value_len);
    if (yes && m.kind == MESH_MATCH_SPIFFE && !mesh_spiffe_valid(value, value_len, NULL))
        abort();
    int n = mesh_match_parse_patterns(text, list, 8, &why);
    for (int i = 0; i < n; i++) {
        if (list[i].text < text || list[i].text + list[i].len > text + len)
            abort();
        (void)mesh_match_text(&list[i], value, value_len);
    }
    free(text);
    return 0;
}
