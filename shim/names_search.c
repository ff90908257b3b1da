// SPDX-License-Identifier: Apache-2.0
#include <ctype.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shim/base/buf.h"
#include "shim/base/clock.h"
#include "shim/names.h"
#include "shim/real.h"

static bool is_blank(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\0';
}

static struct mesh_rbuf take_line(struct mesh_rbuf *b) {
    size_t left = mesh_rbuf_left(b);
    const uint8_t *end = memchr(b->p, '\n', left);
    struct mesh_rbuf line = mesh_rbuf_sub(b, end ? (size_t)(end - b->p) : left);
    if (end)
        mesh_rbuf_take(b, 1);
    return line;
}

/* The next word of a line; false at its end. */
static bool take_word(struct mesh_rbuf *line, const char **ret_word, size_t *ret_len) {
    while (mesh_rbuf_left(line) > 0 && is_blank(*line->p))
        mesh_rbuf_take(line, 1);
    size_t n = 0, left = mesh_rbuf_left(line);
    while (n < left && !is_blank(line->p[n]))
        n++;
    if (n == 0)
        return false;
    *ret_word = (const char *)mesh_rbuf_take(line, n);
    *ret_len = n;
    return true;
}

static bool word_is(const char *word, size_t len, const char *what) {
    return strlen(what) == len && memcmp(word, what, len) == 0;
}

/* A list of domains replaces the one before it. The root alone (".") adds nothing to the name as written. */
static void set_domains(struct mesh_names_search *s, struct mesh_rbuf words, unsigned most) {
    struct mesh_wbuf out = mesh_wbuf_of(s->text, sizeof s->text);
    const char *word;
    size_t len;
    s->n = 0;
    while (s->n < most && take_word(&words, &word, &len)) {
        while (len > 0 && word[len - 1] == '.')
            len--;
        if (len == 0 || len > MESH_NAME_MAX)
            continue;
        if ((size_t)(out.end - out.p) <= len)
            break;
        mesh_wbuf_put(&out, word, len);
        mesh_wbuf_u8(&out, 0);
        s->n++;
    }
    s->len = (uint16_t)mesh_wbuf_len(&out);
}

static void set_options(struct mesh_names_search *s, struct mesh_rbuf words) {
    static const char key[] = "ndots:";
    const char *word;
    size_t len;
    while (take_word(&words, &word, &len)) {
        if (len < sizeof key || memcmp(word, key, sizeof key - 1) != 0)
            continue;
        unsigned n = 0;
        for (size_t i = sizeof key - 1;
             i < len && isdigit((unsigned char)word[i]) && n <= MESH_NAMES_NDOTS_MAX; i++)
            n = n * 10 + (unsigned)(word[i] - '0');
        s->ndots = (uint8_t)(n < MESH_NAMES_NDOTS_MAX ? n : MESH_NAMES_NDOTS_MAX);
    }
}

/* libc wants the keyword in the first column, so indented lines and comments are nothing. */
static void parse_line(struct mesh_names_search *s, struct mesh_rbuf line, bool *io_said) {
    const char *word;
    size_t len;
    if (mesh_rbuf_left(&line) == 0 || is_blank(*line.p) || !take_word(&line, &word, &len))
        return;
    bool domain = word_is(word, len, "domain"), search = word_is(word, len, "search");
    if (word_is(word, len, "options"))
        set_options(s, line);
    if (domain || search) {
        set_domains(s, line, domain ? 1 : MESH_NAMES_SEARCH_MAX);
        *io_said = true;
    }
}

static struct mesh_rbuf text_of(const char *s) {
    return mesh_rbuf_of(s, strlen(s));
}

void mesh_names_search_parse(const char *text, size_t len, const char *localdomain, const char *options,
                             const char *hostname, struct mesh_names_search *ret) {
    bool said = false;
    *ret = (struct mesh_names_search){.ndots = 1};
    struct mesh_rbuf b = mesh_rbuf_of(text ? text : "", len);
    while (mesh_rbuf_left(&b) > 0)
        parse_line(ret, take_line(&b), &said);
    const char *dot = hostname ? strchr(hostname, '.') : NULL;
    if (localdomain)
        set_domains(ret, text_of(localdomain), MESH_NAMES_SEARCH_MAX);
    else if (!said && dot)
        set_domains(ret, text_of(dot + 1), 1);
    if (options)
        set_options(ret, text_of(options));
}

/* ---- the one in force -------------------------------------------------------------------------------------
 */

/* Versions are never freed, so a reader needs no lock and may keep what it got. A content that comes back
 * finds its version again; after MESH_NAMES_CONF_VERSIONS different ones the last stays in force. */
static struct {
    const char *_Atomic path;
    _Atomic uint64_t next_look; /* mesh_now(); 0: never looked */
    _Atomic uint64_t stamp;     /* of the file that `current` came from */
    struct mesh_names_search *_Atomic current;
    struct mesh_names_search *_Atomic versions[MESH_NAMES_CONF_VERSIONS];
} conf = {.path = "/etc/resolv.conf"};

static const struct mesh_names_search nothing = {.ndots = 1};

void mesh_names_search_from(const char *path) {
    atomic_store(&conf.path, path ? path : "/etc/resolv.conf");
    atomic_store(&conf.next_look, 0);
    atomic_store(&conf.stamp, 0);
}

/* Which file, which content: enough to see a rename over it and an edit in place. Never 0. */
static uint64_t stamp_of(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0)
        return 1;
    uint64_t h = (uint64_t)st.st_ino;
    h = h * 31 + (uint64_t)st.st_size;
    h = h * 31 + (uint64_t)st.st_mtim.tv_sec;
    h = h * 31 + (uint64_t)st.st_mtim.tv_nsec;
    return h | 2;
}

static size_t read_file(const char *path, char *buf, size_t cap) {
    FILE *f = fopen(path, "rce");
    if (!f)
        return 0;
    size_t n = fread(buf, 1, cap, f);
    real.fclose(f);
    return n;
}

static bool same(const struct mesh_names_search *a, const struct mesh_names_search *b) {
    return a->ndots == b->ndots && a->n == b->n && a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

/* Keeps `fresh` or frees it for an equal one that is kept already. NULL: no room. */
static struct mesh_names_search *intern(struct mesh_names_search *fresh) {
    for (size_t i = 0; i < MESH_NAMES_CONF_VERSIONS; i++) {
        struct mesh_names_search *there = NULL;
        if (atomic_compare_exchange_strong(&conf.versions[i], &there, fresh))
            return fresh;
        if (same(there, fresh)) {
            free(fresh);
            return there;
        }
    }
    free(fresh);
    return NULL;
}

static void reload(const char *path) {
    char host[256];
    if (gethostname(host, sizeof host) != 0)
        host[0] = '\0';
    host[sizeof host - 1] = '\0';
    char *text = malloc(MESH_NAMES_CONF_BYTES);
    struct mesh_names_search *fresh = malloc(sizeof *fresh);
    if (text && fresh) {
        size_t n = read_file(path, text, MESH_NAMES_CONF_BYTES);
        mesh_names_search_parse(text, n, getenv("LOCALDOMAIN"), getenv("RES_OPTIONS"), host, fresh);
        struct mesh_names_search *kept = intern(fresh);
        if (kept)
            atomic_store_explicit(&conf.current, kept, memory_order_release);
        fresh = NULL;
    }
    free(fresh);
    free(text);
}

/* Of several threads that find the second over, one looks. */
static void look(uint64_t now, uint64_t due) {
    if (!atomic_compare_exchange_strong(&conf.next_look, &due, now + MESH_SEC))
        return;
    int saved = errno;
    const char *path = atomic_load(&conf.path);
    uint64_t stamp = stamp_of(path);
    if (atomic_exchange(&conf.stamp, stamp) != stamp)
        reload(path);
    errno = saved;
}

const struct mesh_names_search *mesh_names_search_get(uint64_t now) {
    uint64_t due = atomic_load_explicit(&conf.next_look, memory_order_relaxed);
    if (now >= due)
        look(now, due);
    const struct mesh_names_search *s = atomic_load_explicit(&conf.current, memory_order_acquire);
    return s ? s : &nothing;
}

/* ---- what a name stands for
 * --------------------------------------------------------------------------------- */

bool mesh_names_walk_init(struct mesh_names_walk *w, const char *name,
                          const struct mesh_names_search *search) {
    size_t len = strnlen(name, MESH_NAME_MAX + 2), dots = 0;
    bool absolute = len > 0 && name[len - 1] == '.';
    len -= absolute;
    if (len == 0 || len > MESH_NAME_MAX)
        return false;
    for (const char *p = name; (p = memchr(p, '.', len - (size_t)(p - name))) != NULL; p++)
        dots++;
    w->name = name;
    w->len = len;
    w->search = search;
    w->domain = search->text;
    w->left = absolute ? 0 : search->n;
    w->single = dots == 0 && !absolute;
    w->first = absolute || dots >= search->ndots;
    w->last = !w->first;
    return true;
}

static void copy_name(struct mesh_names_walk *w) {
    memcpy(w->text, w->name, w->len);
    w->text[w->len] = '\0';
}

static bool next_expansion(struct mesh_names_walk *w) {
    while (w->left > 0) {
        const char *domain = w->domain;
        size_t n = strlen(domain);
        w->left--;
        w->domain += n + 1;
        if (w->len + 1 + n > MESH_NAME_MAX)
            continue;
        memcpy(w->text, w->name, w->len);
        w->text[w->len] = '.';
        memcpy(w->text + w->len + 1, domain, n + 1);
        return true;
    }
    return false;
}

bool mesh_names_walk_next(struct mesh_names_walk *w, bool *ret_as_written) {
    *ret_as_written = w->first;
    if (w->first) {
        w->first = false;
        copy_name(w);
        return true;
    }
    if (next_expansion(w))
        return true;
    if (!w->last)
        return false;
    w->last = false;
    *ret_as_written = true;
    copy_name(w);
    return true;
}
