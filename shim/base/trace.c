/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/base/trace.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/trace_out.h"

enum {
    REPEAT_ROOM = sizeof " repeat=4294967295\n" - 1, /* kept free at the end of every line */
    SHORT_VALUE = 6,                                 /* a text is cut to no less: two quotes and an escape */
    LIMIT_SLOTS = 64,
    LIMIT_PROBES = 4,
    LIMIT_MS = 1000,
};

enum { REFUSED = 1, HAS_WHY = 2, HAS_SUBJECT = 4 }; /* mesh_line.flags */

_Atomic int mesh_trace_level_ = MESH_TRACE_OFF;
void (*mesh_trace_sink)(const char *line, size_t len);

static _Atomic uint64_t refusals;

static const char *const level_names[] = {"off", "error", "info", "debug", "trace"};

/* ---- switching --------------------------------------------------------------------------------------------
 */
/* Splits a spec; 0 and the level, with the file's name or NULL. */
static int parse_spec(const char *spec, int *ret_level, const char **ret_file) {
    *ret_file = NULL;
    *ret_level = MESH_TRACE_OFF;
    if (!spec || !spec[0])
        return 0;
    if (strcmp(spec, level_names[MESH_TRACE_OFF]) == 0)
        return 0;
    size_t n = strcspn(spec, ":");
    for (int i = MESH_TRACE_ERROR; i <= MESH_TRACE_TRACE; i++)
        if (strlen(level_names[i]) == n && memcmp(level_names[i], spec, n) == 0)
            *ret_level = i;
    if (*ret_level == MESH_TRACE_OFF)
        return MESH_E_INVALID;
    if (spec[n] == ':')
        *ret_file = spec + n + 1;
    return *ret_file && !(*ret_file)[0] ? MESH_E_INVALID : 0;
}

int mesh_trace_check(const char *spec) {
    int level;
    const char *file;
    int r = parse_spec(spec, &level, &file);
    return r < 0 || !file ? r : mesh_trace_out_check(file);
}

int mesh_trace_set(const char *spec) {
    int level;
    const char *file;
    int r = parse_spec(spec, &level, &file);
    if (r < 0)
        return r;
    if (level != MESH_TRACE_OFF && (r = mesh_trace_out_file(file)) < 0)
        return r;
    atomic_store(&mesh_trace_level_, level);
    return 0;
}

/* ---- building ---------------------------------------------------------------------------------------------
 */
static size_t room(const struct mesh_line *l) {
    return sizeof l->text - REPEAT_ROOM - l->len;
}

static bool put(struct mesh_line *l, const char *text, size_t n) {
    if (n > room(l))
        return false;
    memcpy(l->text + l->len, text, n);
    l->len = (uint16_t)(l->len + n);
    return true;
}

static size_t print_number(char *ret_text, uint64_t v) {
    char digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    for (size_t i = 0; i < n; i++)
        ret_text[i] = digits[n - 1 - i];
    return n;
}

static void put_number(struct mesh_line *l, uint64_t v) {
    char text[20];
    put(l, text, print_number(text, v));
}

void mesh_line_begin(struct mesh_line *l, enum mesh_trace_level level, const char *event) {
    l->len = 0;
    l->level = (uint8_t)level;
    l->flags = strcmp(event, "refused") == 0 ? REFUSED : 0;
    l->identity = 0;
    put(l, "meshshim[", 9);
    put_number(l, (uint64_t)mesh_trace_out_pid());
    put(l, "] ", 2);
    put(l, level_names[level], strlen(level_names[level]));
    put(l, " ", 1);
    put(l, event, strlen(event));
}

static bool is_plain(unsigned char c) {
    return c > ' ' && c < 0x7f && c != '"';
}

static bool needs_quotes(const char *value, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!is_plain((unsigned char)value[i]))
            return true;
    return n == 0;
}

/* One byte of a quoted value. Everything but printable ASCII is escaped: names come from peers, and the line
 * goes to terminals. */
static size_t escape(char ret_text[4], unsigned char c) {
    static const char hex[] = "0123456789abcdef";
    ret_text[0] = '\\';
    ret_text[1] = (char)c;
    if (c == '"' || c == '\\')
        return 2;
    if (c == '\n' || c == '\t') {
        ret_text[1] = c == '\n' ? 'n' : 't';
        return 2;
    }
    if (c >= ' ' && c < 0x7f) {
        ret_text[0] = (char)c;
        return 1;
    }
    ret_text[1] = 'x';
    ret_text[2] = hex[c >> 4];
    ret_text[3] = hex[c & 15];
    return 4;
}

static void put_quoted(struct mesh_line *l, const char *value, size_t n) {
    put(l, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        char text[4];
        size_t len = escape(text, (unsigned char)value[i]);
        if (len + 1 > room(l))
            break;
        put(l, text, len);
    }
    put(l, "\"", 1);
}

/* ` KEY=`; false, with nothing written, when `value` bytes would not fit after it. */
static bool put_key(struct mesh_line *l, const char *key, size_t value) {
    size_t n = strlen(key);
    if (n + 2 + value > room(l))
        return false;
    put(l, " ", 1);
    put(l, key, n);
    put(l, "=", 1);
    return true;
}

static uint32_t hash(const char *p, size_t n, uint32_t h) { /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * UINT32_C(16777619);
    return h;
}

static void identify(struct mesh_line *l, const char *key, const char *value, size_t n) {
    uint8_t part = strcmp(key, "why") == 0 ? HAS_WHY : HAS_SUBJECT;
    if (!(l->flags & REFUSED) || (l->flags & part))
        return;
    l->flags |= part;
    l->identity ^= hash(value, n, part == HAS_WHY ? UINT32_C(2166136261) : UINT32_C(84696351));
}

void mesh_line_strn(struct mesh_line *l, const char *key, const char *value, size_t n) {
    if (!value)
        return;
    identify(l, key, value, n);
    if (!put_key(l, key, SHORT_VALUE))
        return;
    if (needs_quotes(value, n))
        put_quoted(l, value, n);
    else
        put(l, value, n < room(l) ? n : room(l));
}

void mesh_line_str(struct mesh_line *l, const char *key, const char *value) {
    if (value)
        mesh_line_strn(l, key, value, strlen(value));
}

void mesh_line_int(struct mesh_line *l, const char *key, int64_t value) {
    char text[21];
    size_t sign = value < 0;
    text[0] = '-';
    size_t n = sign + print_number(text + sign, sign ? -(uint64_t)value : (uint64_t)value);
    if (put_key(l, key, n))
        put(l, text, n);
}

void mesh_line_ms(struct mesh_line *l, const char *key, uint64_t ns) {
    char text[24];
    uint64_t tenths = ns / 100000 + (ns % 100000 >= 50000);
    size_t n = print_number(text, tenths / 10);
    text[n++] = '.';
    text[n++] = (char)('0' + tenths % 10);
    if (put_key(l, key, n))
        put(l, text, n);
}

static size_t print_ip4(char *ret_text, const uint8_t *addr) {
    size_t n = 0;
    for (int i = 0; i < 4; i++) {
        if (i)
            ret_text[n++] = '.';
        n += print_number(ret_text + n, addr[i]);
    }
    return n;
}

static size_t print_ip6(char *ret_text, const struct in6_addr *addr) {
    if (IN6_IS_ADDR_V4MAPPED(addr))
        return print_ip4(ret_text, addr->s6_addr + 12);
    ret_text[0] = '[';
    inet_ntop(AF_INET6, addr, ret_text + 1, INET6_ADDRSTRLEN);
    size_t n = strlen(ret_text);
    ret_text[n++] = ']';
    return n;
}

void mesh_line_addr(struct mesh_line *l, const char *key, const struct sockaddr *sa, socklen_t len) {
    char text[INET6_ADDRSTRLEN + 10];
    size_t n;
    in_port_t port;
    if (sa && sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        n = print_ip4(text, (const uint8_t *)&in.sin_addr);
        port = in.sin_port;
    } else if (sa && sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in;
        memcpy(&in, sa, sizeof in);
        n = print_ip6(text, &in.sin6_addr);
        port = in.sin6_port;
    } else {
        return;
    }
    text[n++] = ':';
    n += print_number(text + n, ntohs(port));
    mesh_line_strn(l, key, text, n);
}

/* ---- once a second ----------------------------------------------------------------------------------------
 */
struct limit {
    _Atomic uint64_t stamp; /* identity << 32 | coarse milliseconds of the last line; 0: free */
    _Atomic uint32_t left_out;
};

static struct limit limits[LIMIT_SLOTS];

static uint32_t age_ms(uint64_t stamp, uint32_t now_ms) {
    return stamp ? now_ms - (uint32_t)stamp : UINT32_MAX;
}

/* The slot of this refusal, else the one among its places that was silent longest. */
static struct limit *limit_find(uint32_t identity, uint32_t now_ms) {
    struct limit *oldest = &limits[identity % LIMIT_SLOTS];
    for (uint32_t i = 0; i < LIMIT_PROBES; i++) {
        struct limit *at = &limits[(identity + i) % LIMIT_SLOTS];
        uint64_t stamp = atomic_load(&at->stamp);
        if (stamp && (uint32_t)(stamp >> 32) == identity)
            return at;
        if (age_ms(stamp, now_ms) > age_ms(atomic_load(&oldest->stamp), now_ms))
            oldest = at;
    }
    return oldest;
}

/* May a refusal of this identity be said now? Then *ret_left_out counts those since it was last said. */
static bool limit_pass(uint32_t identity, uint32_t now_ms, uint32_t *ret_left_out) {
    struct limit *at = limit_find(identity, now_ms);
    uint64_t stamp = atomic_load(&at->stamp);
    bool same = stamp && (uint32_t)(stamp >> 32) == identity;
    uint64_t fresh = (uint64_t)identity << 32 | (now_ms ? now_ms : 1);
    if ((same && age_ms(stamp, now_ms) < LIMIT_MS) ||
        !atomic_compare_exchange_strong(&at->stamp, &stamp, fresh)) {
        atomic_fetch_add(&at->left_out, 1);
        return false;
    }
    uint32_t left_out = atomic_exchange(&at->left_out, 0);
    *ret_left_out = same ? left_out : 0;
    return true;
}

/* ---- the end of a line ------------------------------------------------------------------------------------
 */
static void append_repeat(struct mesh_line *l, uint32_t left_out) {
    char text[REPEAT_ROOM] = " repeat=";
    size_t n = 8 + print_number(text + 8, left_out);
    memcpy(l->text + l->len, text, n);
    l->len = (uint16_t)(l->len + n);
}

/* Counts and limits; false: this one is left out. */
static bool account_refusal(struct mesh_line *l) {
    uint32_t left_out;
    atomic_fetch_add(&refusals, 1);
    if (!limit_pass(l->identity, (uint32_t)(mesh_now_coarse() / MESH_MS), &left_out))
        return false;
    if (left_out)
        append_repeat(l, left_out);
    void (*sink)(const char *, size_t) = __atomic_load_n(&mesh_trace_sink, __ATOMIC_ACQUIRE);
    if (sink)
        sink(l->text, l->len);
    return true;
}

void mesh_line_end(struct mesh_line *l) {
    if ((l->flags & REFUSED) && !account_refusal(l))
        return;
    if (!mesh_trace_on((enum mesh_trace_level)l->level))
        return;
    l->text[l->len] = '\n';
    mesh_trace_out_write(l->text, l->len + 1u);
}

void mesh_trace_refused(const char *why, const char *key, const char *subject) {
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
    mesh_line_str(&l, "why", why);
    mesh_line_str(&l, key, subject);
    mesh_line_end(&l);
}

uint64_t mesh_trace_refusals(void) {
    return atomic_load(&refusals);
}
