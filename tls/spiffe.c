/* SPDX-License-Identifier: Apache-2.0
 *
 * SPIFFE IDs as text (spiffe.io/standards SPIFFE-ID, section 2).
 */
#include <string.h>
#include "tls/tls.h"

enum { ID_MAX = 2048, DOMAIN_MAX = 255 };
static const char scheme[9] = "spiffe://";

static bool domain_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

static bool path_char(char c) {
    return domain_char(c) || (c >= 'A' && c <= 'Z');
}

/* One or more segments, none of them empty, "." or "..". */
static bool path_valid(const char *p, size_t n) {
    size_t start = 1;
    for (size_t i = 1; i <= n; i++) {
        if (i < n && p[i] != '/') {
            if (!path_char(p[i]))
                return false;
            continue;
        }
        size_t len = i - start;
        if (len == 0 || (len == 1 && p[start] == '.') || (len == 2 && p[start] == '.' && p[start + 1] == '.'))
            return false;
        start = i + 1;
    }
    return true;
}

bool mesh_spiffe_valid(const char *id, size_t len, size_t *ret_td_len) {
    if (len <= sizeof scheme || len > ID_MAX || memcmp(id, scheme, sizeof scheme) != 0)
        return false;
    const char *domain = id + sizeof scheme;
    size_t rest = len - sizeof scheme, n = 0;
    while (n < rest && domain_char(domain[n]))
        n++;
    if (n == 0 || n > DOMAIN_MAX)
        return false;
    if (n < rest && (domain[n] != '/' || !path_valid(domain + n, rest - n)))
        return false;
    if (ret_td_len)
        *ret_td_len = n;
    return true;
}
