/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/env_values.h"

#include <stdlib.h>
#include <string.h>
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/trace.h"

static int wrong(struct mesh_env_parser *p, const char *what) {
    return mesh_why(&p->why, MESH_E_INVALID, "%s", what);
}

static int wrong_entry(struct mesh_env_parser *p, const char *entry, const char *what) {
    return mesh_why(&p->why, MESH_E_INVALID, "\"%.80s\": %s", entry, what);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

char *mesh_env_entry_next(char **io_rest) {
    char *at = *io_rest;
    if (!at)
        return NULL;
    char *end = at + strcspn(at, ",");
    *io_rest = *end ? end + 1 : NULL;
    while (is_blank(*at))
        at++;
    while (end > at && is_blank(end[-1]))
        end--;
    *end = 0;
    return at;
}

/* Decimal digits and nothing else, up to max; -1 otherwise. */
static int64_t number(const char *text, size_t n, int64_t max) {
    int64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9' || v > max)
            return -1;
        v = v * 10 + (text[i] - '0');
    }
    return n && v <= max ? v : -1;
}

static int word(const char *text, const char *const *words, int n) {
    for (int i = 0; i < n; i++)
        if (strcmp(text, words[i]) == 0)
            return i;
    return -1;
}

/* ---- texts and files --------------------------------------------------------------------------------------
 */
int mesh_env_value_text(struct mesh_env_parser *p, void *field, char *value) {
    *(const char **)field = value;
    return 0;
}

/* The program may change its directory before the file is read: a relative name becomes absolute now. */
int mesh_env_value_path(struct mesh_env_parser *p, void *field, char *value) {
    size_t cwd = p->cwd ? strlen(p->cwd) : 0, n = strlen(value);
    if (n + cwd + 2 > MESH_ENV_PATH_MAX)
        return wrong(p, "name too long");
    if (value[0] == '/' || !p->cwd)
        return mesh_env_value_text(p, field, value);
    if (cwd + n + 2 > (size_t)(p->end - p->next))
        return MESH_E_NOMEM;
    char *made = p->next;
    memcpy(made, p->cwd, cwd);
    made[cwd] = '/';
    memcpy(made + cwd + 1, value, n + 1);
    p->next += cwd + n + 2;
    return mesh_env_value_text(p, field, made);
}

int mesh_env_value_directory(struct mesh_env_parser *p, void *field, char *value) {
    if (value[0] != '/')
        return wrong(p, "must be an absolute path");
    return mesh_env_value_path(p, field, value);
}

int mesh_env_value_trace(struct mesh_env_parser *p, void *field, char *value) {
    if (mesh_trace_check(value) < 0)
        return wrong(p, "must be error, info, debug or trace, then :FILE; % in FILE is %p or %%");
    return mesh_env_value_text(p, field, value);
}

int mesh_env_value_off(struct mesh_env_parser *p, void *field, char *value) {
    if (strcmp(value, "1") != 0 && strcmp(value, "0") != 0)
        return wrong(p, "must be 1");
    *(bool *)field = value[0] == '1';
    return 0;
}

int mesh_env_value_programs(struct mesh_env_parser *p, void *field, char *value) {
    char copy[MESH_ENV_PATH_MAX / 2], *rest = copy, *entry;
    if (strlen(value) >= sizeof copy)
        return wrong(p, "too long");
    memcpy(copy, value, strlen(value) + 1);
    while ((entry = mesh_env_entry_next(&rest)) != NULL)
        if (!entry[0] || strchr(entry, '/'))
            return wrong_entry(p, entry, "must be a program's name without directory");
    return mesh_env_value_text(p, field, value);
}

int mesh_env_value_hash_key(struct mesh_env_parser *p, void *field, char *value) {
    static const char *const words[] = {"source-ip", "name", "pid"};
    if (value[0] != '=' && word(value, words, MESH_ARRAY_LEN(words)) < 0)
        return wrong(p, "must be source-ip, name, pid or =TEXT");
    return mesh_env_value_text(p, field, value);
}

/* ---- durations --------------------------------------------------------------------------------------------
 */
int mesh_env_value_duration(struct mesh_env_parser *p, void *field, char *value) {
    static const struct {
        char unit[3];
        uint64_t ns;
    } units[] = {{"ms", MESH_MS}, {"s", MESH_SEC}, {"m", 60 * MESH_SEC}};
    const int64_t most = 10000000; /* in any unit: 19 years of minutes, far from overflow */
    size_t digits = strspn(value, "0123456789");
    int64_t n = number(value, digits, most);
    for (size_t i = 0; i < MESH_ARRAY_LEN(units); i++) {
        if (n < 0 || strcmp(value + digits, units[i].unit) != 0)
            continue;
        *(uint64_t *)field = (uint64_t)n * units[i].ns;
        return 0;
    }
    return wrong(p, "must be a duration such as 100ms, 5s or 2m");
}

int mesh_env_value_age(struct mesh_env_parser *p, void *field, char *value) {
    uint64_t ns;
    int r = mesh_env_value_duration(p, &ns, value);
    if (r < 0)
        return r;
    if (ns == 0)
        return wrong(p, "must be longer than 0");
    *(uint64_t *)field = ns;
    return 0;
}

/* ---- ranges -----------------------------------------------------------------------------------------------
 */
static int parse_ranges(struct mesh_env_parser *p, void *field, const char *value, bool names) {
    return mesh_cidr_parse(value, names, (struct mesh_cidr_list **)field, &p->why);
}

int mesh_env_value_ranges(struct mesh_env_parser *p, void *field, char *value) {
    return parse_ranges(p, field, value, false);
}

int mesh_env_value_ranges_and_names(struct mesh_env_parser *p, void *field, char *value) {
    return parse_ranges(p, field, value, true);
}

int mesh_env_value_pools(struct mesh_env_parser *p, void *field, char *value) {
    struct mesh_cidr_list *l = NULL;
    int r = parse_ranges(p, &l, value, false);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->items[i].port == 0)
            continue;
        free(l);
        return wrong(p, "a range of virtual addresses has no port");
    }
    *(struct mesh_cidr_list **)field = l;
    return 0;
}

/* ---- names ------------------------------------------------------------------------------------------------
 */
/* Lower-cases a DNS suffix in place; the same names as in the lists of ranges. */
static bool is_suffix(char *text) {
    size_t label = 0;
    for (char *c = text; *c; c++) {
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + 'a' - 'A');
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-' || *c == '_';
        if (!letter && (*c != '.' || label == 0))
            return false;
        label = letter ? label + 1 : 0;
        if (label > 63)
            return false;
    }
    return label != 0;
}

/* Rewrites the list in its plainest form; entries that are no suffixes are left out, the others hold. */
int mesh_env_value_domains(struct mesh_env_parser *p, void *field, char *value) {
    char *rest = value, *entry, *out = value;
    int r = 0;
    while ((entry = mesh_env_entry_next(&rest)) != NULL) {
        size_t n = strlen(entry);
        bool open = n && entry[n - 1] == '?';
        if (open)
            entry[--n] = 0;
        if (n && entry[n - 1] == '.')
            entry[--n] = 0;
        if (n > 253 || !is_suffix(entry)) {
            r = wrong_entry(p, entry, "not a domain");
            continue;
        }
        if (out != value)
            *out++ = ',';
        memmove(out, entry, n);
        out += n;
        if (open)
            *out++ = '?';
    }
    *out = 0;
    *(const char **)field = value[0] ? value : NULL;
    return r;
}

/* ---- SPIFFE ID patterns -----------------------------------------------------------------------------------
 */
static int parse_patterns(struct mesh_env_parser *p, const char *value, struct mesh_match *ret_list,
                          size_t *ret_n) {
    int n = mesh_match_parse_patterns(value, ret_list, MESH_ENV_PATTERNS_MAX, &p->why);
    if (n < 0)
        return n;
    *ret_n = (size_t)n;
    return 0;
}

int mesh_env_value_peers(struct mesh_env_parser *p, void *field, char *value) {
    p->env->peers_none = strcmp(value, "none") == 0;
    return p->env->peers_none ? 0 : parse_patterns(p, value, field, &p->env->npeers);
}

int mesh_env_value_callers(struct mesh_env_parser *p, void *field, char *value) {
    return parse_patterns(p, value, field, &p->env->ncallers);
}

/* ---- modes ------------------------------------------------------------------------------------------------
 */
int mesh_env_value_tls(struct mesh_env_parser *p, void *field, char *value) {
    static const char *const words[] = {"mutual", "view", "required"};
    _Static_assert(MESH_TLS_MUTUAL == 0 && MESH_TLS_VIEW == 1 && MESH_TLS_REQUIRED == 2,
                   "words are in its order");
    int at = word(value, words, MESH_ARRAY_LEN(words));
    if (at < 0)
        return wrong(p, "must be mutual, view or required");
    *(enum mesh_tls_default *)field = (enum mesh_tls_default)at;
    return 0;
}

static int mode_of(const char *text) {
    static const char *const words[] = {"off", "permissive", "strict", "view"};
    _Static_assert(MESH_INBOUND_OFF == 0 && MESH_INBOUND_PERMISSIVE == 1 && MESH_INBOUND_STRICT == 2 &&
                       MESH_INBOUND_VIEW == 3,
                   "words are in its order");
    return word(text, words, MESH_ARRAY_LEN(words));
}

static int add_inbound(struct mesh_env *e, uint16_t port, int mode) {
    for (size_t i = 0; i < e->ninbound; i++)
        if (e->inbound[i].port == port)
            return MESH_E_INVALID;
    e->inbound[e->ninbound++] = (struct mesh_env_inbound){port, (uint8_t)mode};
    return 0;
}

static int parse_inbound_entry(struct mesh_env_parser *p, char *entry) {
    char *equals = strchr(entry, '=');
    int mode = equals ? mode_of(equals + 1) : -1;
    if (mode < 0)
        return wrong_entry(p, entry,
                           "must be PORT=MODE or *=MODE; modes are strict, permissive, off and view");
    size_t n = (size_t)(equals - entry);
    bool star = n == 1 && entry[0] == '*';
    int64_t port = star ? 0 : number(entry, n, 65535);
    if (!star && port <= 0)
        return wrong_entry(p, entry, "bad port");
    if (p->env->ninbound == MESH_ENV_PORTS_MAX)
        return mesh_why(&p->why, MESH_E_LIMIT, "more than %d ports", MESH_ENV_PORTS_MAX);
    if (add_inbound(p->env, (uint16_t)port, mode) < 0)
        return wrong_entry(p, entry, "this port was given before");
    return 0;
}

int mesh_env_value_inbound(struct mesh_env_parser *p, void *field, char *value) {
    int mode = mode_of(value);
    if (mode >= 0)
        return add_inbound(p->env, 0, mode);
    char *rest = value, *entry;
    while ((entry = mesh_env_entry_next(&rest)) != NULL) {
        int r = parse_inbound_entry(p, entry);
        if (r < 0)
            return r;
    }
    return 0;
}
