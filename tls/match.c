/* SPDX-License-Identifier: Apache-2.0
 *
 * One value against one condition, and the patterns of MESH_PEERS and MESH_CALLERS.
 */
#include <string.h>
#include "tls/internal.h"

static const char scheme[9] = "spiffe://";

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool same(const char *a, const char *b, size_t n, bool ignore_case) {
    if (!ignore_case)
        return memcmp(a, b, n) == 0;
    for (size_t i = 0; i < n; i++)
        if (lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

static bool contains(const struct mesh_match *m, const char *value, size_t len) {
    for (size_t at = 0; at + m->len <= len; at++)
        if (same(value + at, m->text, m->len, m->ignore_case))
            return true;
    return false;
}

/* Segment by segment. A pattern that ends with its trust domain stands for every path under it. */
static bool spiffe_match(const char *pattern, size_t m, const char *id, size_t n) {
    size_t i = 0, j = 0;
    if (!mesh_spiffe_valid(id, n, NULL))
        return false;
    while (i < m) {
        if (pattern[i] != '*') {
            if (j == n || pattern[i] != id[j])
                return false;
            i++;
            j++;
            continue;
        }
        if (++i == m)
            return true;
        size_t from = j;
        while (j < n && id[j] != '/')
            j++;
        if (j == from)
            return false;
    }
    bool domain_only = m > sizeof scheme && memchr(pattern + sizeof scheme, '/', m - sizeof scheme) == NULL;
    return domain_only ? j < n && id[j] == '/' : j == n;
}

bool mesh_match_text(const struct mesh_match *m, const char *value, size_t len) {
    if (len && memchr(value, 0, len))
        return false;
    switch ((enum mesh_match_kind)m->kind) {
    case MESH_MATCH_EXACT:
        return len == m->len && same(value, m->text, len, m->ignore_case);
    case MESH_MATCH_PREFIX:
        return len >= m->len && same(value, m->text, m->len, m->ignore_case);
    case MESH_MATCH_SUFFIX:
        return len >= m->len && same(value + len - m->len, m->text, m->len, m->ignore_case);
    case MESH_MATCH_CONTAINS:
        return contains(m, value, len);
    case MESH_MATCH_REGEX:
        return mesh_tls_regex_match(m, value, len);
    case MESH_MATCH_SPIFFE:
        return spiffe_match(m->text, m->len, value, len);
    }
    return false;
}

/* Stars are taken out for the check of the rest: one in place of a segment, or one at the very end of the
 * path. */
static bool pattern_valid(const char *p, size_t n) {
    char plain[2049];
    const char *slash = n > sizeof scheme ? memchr(p + sizeof scheme, '/', n - sizeof scheme) : NULL;
    if (n >= sizeof plain)
        return false;
    for (size_t i = 0; i < n; i++) {
        plain[i] = p[i];
        if (p[i] != '*')
            continue;
        bool segment = i > 0 && p[i - 1] == '/' && i + 1 < n && p[i + 1] == '/';
        if (!slash || p + i <= slash || (!segment && i + 1 != n))
            return false;
        plain[i] = 'x';
    }
    return mesh_spiffe_valid(plain, n, NULL);
}

int mesh_match_parse_patterns(const char *text, struct mesh_match *ret_list, size_t max,
                              struct mesh_why *why) {
    size_t count = 0;
    for (const char *p = text;; p++) {
        const char *end = strchrnul(p, ',');
        const char *from = p, *to = end;
        while (from < to && (*from == ' ' || *from == '\t'))
            from++;
        while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
            to--;
        size_t n = (size_t)(to - from);
        if (!pattern_valid(from, n))
            return mesh_why(why, MESH_E_INVALID, "\"%.*s\" is not a pattern of SPIFFE IDs",
                            (int)(n > 120 ? 120 : n), from);
        if (count == max)
            return mesh_why(why, MESH_E_LIMIT, "more than %zu patterns, from \"%.*s\"", max,
                            (int)(n > 120 ? 120 : n), from);
        ret_list[count++] = (struct mesh_match){
            .kind = MESH_MATCH_SPIFFE, .san_type = MESH_SAN_URI, .len = (uint16_t)n, .text = from};
        p = end;
        if (!*p)
            return (int)count;
    }
}
