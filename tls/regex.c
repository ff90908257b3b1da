/* SPDX-License-Identifier: Apache-2.0
 *
 * Envoy's safe_regex is RE2; libc has POSIX ERE. What both read alike passes as it is, what has a twin is
 * rewritten, and everything else does not compile: a rule that would silently mean something else is worse
 * than one that matches nobody. Whole-string matching makes lazy and greedy repetition the same.
 */
#include <locale.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include "tls/internal.h"

enum {
    PATTERN_MAX = 1024,
    VALUE_MAX = 2048,
    DEPTH_MAX = 16,    /* libc's parser recurses on groups */
    REPEAT_MAX = 4096, /* product of all {n,m}: libc copies the automaton that often */
    OUT_MAX = 4 * PATTERN_MAX,
};

struct translation {
    const char *p, *end;
    char *out;
    size_t n;
    unsigned depth;
    unsigned long repeats;
    bool repeatable; /* what stands before may take a * or + */
    bool broken;
};

static void emit(struct translation *t, const char *s) {
    size_t n = strlen(s);
    if (t->n + n >= OUT_MAX) {
        t->broken = true;
        return;
    }
    memcpy(t->out + t->n, s, n);
    t->n += n;
}

static void emit_char(struct translation *t, char c) {
    emit(t, (const char[2]){c, 0});
}

static const char *class_of(char letter) {
    switch (letter) {
    case 'd':
        return "0-9";
    case 'w':
        return "0-9A-Za-z_";
    case 's':
        return " \t\n\f\r";
    default:
        return NULL;
    }
}

static bool is_punctuation(char c) {
    return c > ' ' && c < 127 && !strchr("0123456789", c) && !((c | 32) >= 'a' && (c | 32) <= 'z');
}

static void escape(struct translation *t) {
    char c = t->p < t->end ? *t->p++ : 0;
    const char *set = class_of(c);
    if (set) {
        emit(t, "[");
        emit(t, set);
        emit(t, "]");
    } else if (c && strchr(".[]{}()*+?|^$\\", c)) {
        emit_char(t, '\\');
        emit_char(t, c);
    } else if (is_punctuation(c)) { /* \/ or \-: ERE gives a backslash before these no meaning */
        emit_char(t, c);
    } else {
        t->broken = true;
    }
    t->repeatable = true;
}

/* In a POSIX bracket the backslash is an ordinary character: RE2's escapes there are taken apart. */
static void bracket(struct translation *t) {
    emit(t, "[");
    if (t->p < t->end && *t->p == '^') {
        emit(t, "^");
        t->p++;
    }
    for (bool first = true;; first = false) {
        if (t->p == t->end || t->broken) {
            t->broken = true;
            return;
        }
        char c = *t->p++;
        if (c == ']' && !first)
            break;
        if (c == '\\') {
            char e = t->p < t->end ? *t->p++ : 0;
            const char *set = class_of(e);
            if (set)
                emit(t, set);
            else if (is_punctuation(e) && !strchr("]^-\\[", e))
                emit_char(t, e);
            else
                t->broken = true;
        } else if (c == '[') { /* [:alpha:] means the same in both; a lone [ differs between versions */
            const char *close = memmem(t->p, (size_t)(t->end - t->p), ":]", 2);
            if (t->p == t->end || *t->p != ':' || !close) {
                t->broken = true;
                return;
            }
            emit(t, "[");
            while (t->p < close + 2)
                emit_char(t, *t->p++);
        } else {
            emit_char(t, c);
        }
    }
    emit(t, "]");
    t->repeatable = true;
}

static void lazy_mark_skip(struct translation *t) {
    if (t->p < t->end && *t->p == '?')
        t->p++;
    t->repeatable = false;
}

/* After '{': digits[,[digits]]. RE2 takes anything else as text; we refuse it. */
static void repeat_count(struct translation *t) {
    unsigned long low = 0, high;
    const char *from = t->p;
    while (t->p < t->end && *t->p >= '0' && *t->p <= '9' && low <= REPEAT_MAX)
        low = low * 10 + (unsigned long)(*t->p++ - '0');
    high = low;
    if (t->p == from || !t->repeatable)
        t->broken = true;
    if (t->p < t->end && *t->p == ',') {
        t->p++;
        for (unsigned long v = 0; t->p < t->end && *t->p >= '0' && *t->p <= '9' && v <= REPEAT_MAX; high = v)
            v = v * 10 + (unsigned long)(*t->p++ - '0');
    }
    if (t->p == t->end || *t->p != '}' || high < low || (t->repeats *= high + 1) > REPEAT_MAX) {
        t->broken = true;
        return;
    }
    emit(t, "{");
    while (from < t->p)
        emit_char(t, *from++);
    emit(t, "}");
    t->p++;
    lazy_mark_skip(t);
}

static void group_open(struct translation *t) {
    if (t->p < t->end && *t->p == '?') {
        if (t->end - t->p < 2 || t->p[1] != ':')
            t->broken = true;
        t->p += 2;
    }
    if (++t->depth > DEPTH_MAX)
        t->broken = true;
    emit(t, "(");
    t->repeatable = false;
}

static void group_close(struct translation *t) {
    if (t->depth == 0)
        t->broken = true;
    else
        t->depth--;
    emit(t, ")");
    t->repeatable = true;
}

static void translate(struct translation *t) {
    while (!t->broken && t->p < t->end) {
        char c = *t->p++;
        if (c == '\\') {
            escape(t);
        } else if (c == '[') {
            bracket(t);
        } else if (c == '(') {
            group_open(t);
        } else if (c == ')') {
            group_close(t);
        } else if (c == '{') {
            repeat_count(t);
        } else if (c == '*' || c == '+' || c == '?') {
            t->broken = !t->repeatable;
            emit_char(t, c);
            lazy_mark_skip(t);
        } else {
            emit_char(t, c);
            t->repeatable = c != '|' && c != '^' && c != '$';
        }
    }
    if (t->depth)
        t->broken = true;
}

static bool printable(const char *value, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            return false;
    return true;
}

/* What is done with a pattern once libc has it. */
static bool with_compiled(const struct mesh_match *m, char *block,
                          bool (*use)(const regex_t *re, const char *value), const char *value) {
    struct translation t = {.p = m->text, .end = m->text + m->len, .out = block, .repeats = 1};
    regex_t re;
    bool yes = false;
    emit(&t, "^(");
    translate(&t);
    emit(&t, ")$");
    locale_t c = t.broken ? (locale_t)0 : newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c)
        return false;
    /* Ranges and case are bytes here, whatever language the program speaks. */
    locale_t before = uselocale(c);
    block[t.n] = 0;
    if (regcomp(&re, block, REG_EXTENDED | REG_NOSUB | (m->ignore_case ? REG_ICASE : 0)) == 0) {
        yes = use(&re, value);
        regfree(&re);
    }
    uselocale(before);
    freelocale(c);
    return yes;
}

static bool fits(const regex_t *re, const char *value) {
    return regexec(re, value, 0, NULL, 0) == 0;
}

static bool compiles(const regex_t *re, const char *value) {
    (void)re;
    (void)value;
    return true;
}

bool mesh_tls_regex_match(const struct mesh_match *m, const char *value, size_t len) {
    if (m->len > PATTERN_MAX || len > VALUE_MAX || !printable(value, len))
        return false;
    char *block = malloc(OUT_MAX + VALUE_MAX + 1), *text = block + OUT_MAX;
    if (!block)
        return false;
    memcpy(text, value, len);
    text[len] = 0;
    bool yes = with_compiled(m, block, fits, text);
    free(block);
    return yes;
}

bool mesh_match_regex_valid(const char *text, size_t len) {
    struct mesh_match m = {.kind = MESH_MATCH_REGEX, .len = (uint16_t)len, .text = text};
    char *block = len <= PATTERN_MAX ? malloc(OUT_MAX) : NULL;
    bool yes = block && with_compiled(&m, block, compiles, NULL);
    free(block);
    return yes;
}
