/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* program_invocation_short_name */
#endif
#include "shim/env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/env_file.h"
#include "shim/env_values.h"

enum {
    UNKNOWN_MAX = 16,  /* wrong names told of one environment */
    NAME_LEN_MAX = 40, /* longer ones resemble none of ours */
    RUN_DIR_ROOM = 64,
};

/* ---- the table --------------------------------------------------------------------------------------------
 */
static const struct mesh_env_row rows[] = {
#define MESH_ENV(name, parser, field, bad, protects, value, def, text) {#name, value, def, text, protects},
#include "shim/env.def"
#undef MESH_ENV
};

enum { NROWS = MESH_ARRAY_LEN(rows) };

static const struct rule {
    mesh_env_value_fn *parse;
    size_t field, bad;
} rules[NROWS] = {
#define MESH_ENV(name, parser, field, bad, protects, value, def, text)                                       \
    {mesh_env_value_##parser, offsetof(struct mesh_env, field), offsetof(struct mesh_env, bad)},
#include "shim/env.def"
#undef MESH_ENV
};

enum { /* the rows' places, for the few that are looked at by name */
#define MESH_ENV(name, parser, field, bad, protects, value, def, text) AT_##name,
#include "shim/env.def"
#undef MESH_ENV
};

const struct mesh_env_row *mesh_env_rows(size_t *ret_n) {
    *ret_n = NROWS;
    return rows;
}

static int row_of(const char *name, size_t n) {
    for (int i = 0; i < NROWS; i++)
        if (strncmp(rows[i].name, name, n) == 0 && rows[i].name[n] == 0)
            return i;
    return -1;
}

/* ---- what was found ---------------------------------------------------------------------------------------
 */
struct found {
    const char *value[NROWS];
    const char *xdg_runtime_dir;
    struct {
        const char *name; /* ends at n */
        size_t n;
        const char *value, *what;
    } wrong[UNKNOWN_MAX];
    size_t nwrong;
    bool any; /* a value or a wrong name */
};

static void note_wrong(struct found *f, const char *name, size_t n, const char *value, const char *what) {
    f->any = true;
    if (f->nwrong == UNKNOWN_MAX)
        return;
    f->wrong[f->nwrong].name = name;
    f->wrong[f->nwrong].n = n;
    f->wrong[f->nwrong].value = value;
    f->wrong[f->nwrong++].what = what;
}

static void note(struct found *f, const char *name, size_t n, const char *value) {
    int at = row_of(name, n);
    if (at < 0) {
        note_wrong(f, name, n, value, NULL);
        return;
    }
    f->any = true;
    if (!f->value[at])
        f->value[at] = value;
}

static void scan_environment(struct found *f, char *const *envp) {
    for (char *const *e = envp; e && *e; e++) {
        const char *entry = *e;
        bool ours = strncmp(entry, "MESH_", 5) == 0 || strncmp(entry, "GRPC_XDS_BOOTSTRAP", 18) == 0;
        if (!ours && entry[0] != 'X')
            continue;
        const char *equals = strchr(entry, '=');
        if (!equals)
            continue;
        size_t n = (size_t)(equals - entry);
        if (!ours && strncmp(entry, "XDG_RUNTIME_DIR=", 16) == 0 && !f->xdg_runtime_dir)
            f->xdg_runtime_dir = equals + 1;
        else if (ours && (entry[0] == 'M' || row_of(entry, n) >= 0))
            note(f, entry, n, equals + 1);
    }
}

/* Comes after the environment, which wins. A name given twice in the file: the first one holds. */
static void scan_file(struct found *f, const char *path, char *text) {
    char *name = NULL, *value = NULL;
    int r;
    while ((r = mesh_env_file_next(&text, &name, &value)) != 0) {
        if (r < 0)
            note_wrong(f, path, strlen(path), name, "not NAME=value");
        else
            note(f, name, strlen(name), value);
    }
}

/* Fills f; *ret_text is the file's text that f points into (free()), or NULL. */
static int find(const struct mesh_env_source *src, struct found *f, char **ret_text, struct mesh_why *why) {
    *ret_text = NULL;
    if (!src->secure)
        scan_environment(f, src->envp);
    if (!src->conf)
        return 0;
    int r = mesh_env_file_read(src->conf, 0, ret_text, why);
    if (r == MESH_E_NOMEM)
        return r;
    if (r == 0)
        scan_file(f, src->conf, *ret_text);
    else if (r != MESH_E_NOTFOUND)
        note_wrong(f, src->conf, strlen(src->conf), "", why->text);
    return 0;
}

/* ---- near misses ------------------------------------------------------------------------------------------
 */
static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Edit distance of a (n characters) and b, both at most NAME_LEN_MAX. */
static size_t distance(const char *a, size_t n, const char *b) {
    size_t line[NAME_LEN_MAX + 1], m = strlen(b);
    for (size_t j = 0; j <= m; j++)
        line[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = line[0];
        line[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = line[j];
            line[j] = smaller(change, 1 + smaller(line[j], line[j - 1]));
        }
    }
    return line[m];
}

/* The name of ours that was probably meant, or NULL. */
static const char *near_miss(const char *name, size_t n) {
    size_t best = 3; /* two letters wrong may be a slip, three are another word */
    const char *meant = NULL;
    for (size_t i = 0; n <= NAME_LEN_MAX && i < NROWS; i++) {
        size_t d = distance(name, n, rows[i].name);
        if (d < best) {
            best = d;
            meant = rows[i].name;
        }
    }
    return meant;
}

/* ---- parsing ----------------------------------------------------------------------------------------------
 */
struct reporter {
    void (*bad)(void *arg, const char *name, const char *value, const char *what);
    void *arg;
};

static void report_wrong_names(const struct found *f, const struct reporter *to) {
    for (size_t i = 0; i < f->nwrong; i++) {
        char name[NAME_LEN_MAX + 1];
        size_t n = smaller(f->wrong[i].n, NAME_LEN_MAX);
        memcpy(name, f->wrong[i].name, n);
        name[n] = 0;
        struct mesh_why why = {""};
        const char *meant = f->wrong[i].what ? NULL : near_miss(f->wrong[i].name, f->wrong[i].n);
        if (f->wrong[i].what)
            mesh_why(&why, 0, "%s", f->wrong[i].what);
        else if (meant)
            mesh_why(&why, 0, "unknown name; did you mean %s?", meant);
        else
            mesh_why(&why, 0, "unknown name");
        to->bad(to->arg, name, f->wrong[i].value, why.text);
    }
}

static void set_defaults(struct mesh_env *e) {
    memset(e, 0, sizeof *e);
    e->tls = MESH_TLS_MUTUAL;
    e->detect_ns = 300 * MESH_MS;
    e->patience_ns = 100 * MESH_MS;
    e->resolve_timeout_ns = 5 * MESH_SEC;
}

/* Room for every value twice, once as it is and once behind the directory, and for the run directory. */
static int alloc_block(struct mesh_env_parser *p, const struct found *f) {
    size_t cwd = p->cwd ? strlen(p->cwd) : 0, n = RUN_DIR_ROOM;
    for (int i = 0; i < NROWS; i++)
        n += f->value[i] ? 2 * strlen(f->value[i]) + cwd + 3 : 0;
    n += f->xdg_runtime_dir ? strlen(f->xdg_runtime_dir) : 0;
    p->env->block = malloc(n);
    if (!p->env->block)
        return MESH_E_NOMEM;
    p->next = p->env->block;
    p->end = p->next + n;
    return 0;
}

static char *keep(struct mesh_env_parser *p, const char *text) {
    size_t n = strlen(text) + 1;
    char *at = memcpy(p->next, text, n);
    p->next += n;
    return at;
}

static int parse_row(struct mesh_env_parser *p, int i, const char *value, const struct reporter *to) {
    const struct rule *rule = &rules[i];
    char *env = (char *)p->env;
    if (!value[0] && !rows[i].protects)
        return 0;
    p->why.text[0] = 0;
    int r = value[0] ? rule->parse(p, env + rule->field, keep(p, value))
                     : mesh_why(&p->why, MESH_E_INVALID, "is empty");
    if (r == MESH_E_NOMEM || r == 0)
        return r;
    *(bool *)(env + rule->bad) = true;
    to->bad(to->arg, rows[i].name, value, p->why.text);
    return 0;
}

static void default_run_dir(struct mesh_env_parser *p, const struct found *f, uid_t uid) {
    char text[RUN_DIR_ROOM] = "/tmp/meshshim-", digits[12];
    size_t n = strlen(text), k = 0;
    if (p->env->run_dir)
        return;
    p->env->run_dir = p->next;
    if (f->xdg_runtime_dir && f->xdg_runtime_dir[0] == '/') {
        keep(p, f->xdg_runtime_dir);
        p->next--;
        keep(p, "/meshshim");
        return;
    }
    if (uid == 0) {
        keep(p, "/run/meshshim");
        return;
    }
    do
        digits[k++] = (char)('0' + uid % 10);
    while (uid /= 10);
    while (k)
        text[n++] = digits[--k];
    keep(p, text);
}

/* A certificate without its key, or without a trust bundle, is a mistake and not the absence of an identity.
 */
static void judge_identity(struct mesh_env *e, const struct reporter *to) {
    const struct {
        const char *name, *value;
    } parts[] = {{"MESH_CERT", e->cert}, {"MESH_KEY", e->key}, {"MESH_CA", e->ca}};
    if (e->bad_identity || (!e->cert && !e->key && !e->ca))
        return;
    for (size_t i = 0; i < MESH_ARRAY_LEN(parts); i++) {
        if (parts[i].value)
            continue;
        e->bad_identity = true;
        to->bad(to->arg, parts[i].name, "",
                "MESH_CERT, MESH_KEY and MESH_CA go together: this one is not set");
    }
}

static bool inbound_protects(const struct mesh_env *e) {
    for (size_t i = 0; i < e->ninbound; i++)
        if (e->inbound[i].mode != MESH_INBOUND_OFF)
            return true;
    return e->bad_inbound;
}

/* Wrong values read as strictly as they can be; then: is anything configured at all? */
static void judge_whole(struct mesh_env *e, const struct reporter *to) {
    judge_identity(e, to);
    if (e->bad_tls)
        e->tls = MESH_TLS_REQUIRED;
    if (e->bad_peers)
        e->peers_none = true;
    if (e->bad_inbound)
        e->ninbound = 0;
    e->any = e->view || e->bootstrap || e->bootstrap_config || e->domains || e->capture || e->bad_capture ||
             inbound_protects(e);
}

static int parse_found(const struct mesh_env_source *src, const struct found *f, struct mesh_env *ret,
                       const struct reporter *to) {
    struct mesh_env_parser p = {.env = ret, .cwd = src->cwd};
    set_defaults(ret);
    int r = alloc_block(&p, f);
    for (int i = 0; i < NROWS && r == 0; i++)
        if (f->value[i])
            r = parse_row(&p, i, f->value[i], to);
    if (r < 0) {
        mesh_env_done(ret);
        return r;
    }
    default_run_dir(&p, f, src->uid);
    report_wrong_names(f, to);
    judge_whole(ret, to);
    return 0;
}

int mesh_env_parse(const struct mesh_env_source *src, struct mesh_env *ret,
                   void (*bad)(void *arg, const char *name, const char *value, const char *what), void *arg) {
    struct found f = {0};
    struct reporter to = {bad, arg};
    struct mesh_why why = {""};
    char *text;
    int r = find(src, &f, &text, &why);
    if (r == 0)
        r = parse_found(src, &f, ret, &to);
    free(text);
    return r;
}

void mesh_env_done(struct mesh_env *e) {
    free(e->block);
    free(e->inbound_plain);
    free(e->capture);
    free(e->exclude);
    free(e->virtual_ranges);
    memset(e, 0, sizeof *e);
}

/* ---- questions --------------------------------------------------------------------------------------------
 */
static bool is_listed(const char *list, const char *program) {
    size_t n = strlen(program);
    for (const char *at = list; at && n;) {
        at += strspn(at, " \t,");
        size_t len = strcspn(at, " \t,");
        if (len == n && memcmp(at, program, n) == 0)
            return true;
        at = at[len] ? at + len : NULL;
    }
    return false;
}

bool mesh_env_skips(const struct mesh_env *e, const char *program) {
    return is_listed(e->skip, program);
}

enum mesh_inbound_mode mesh_env_inbound_mode(const struct mesh_env *e, uint16_t port) {
    enum mesh_inbound_mode other = MESH_INBOUND_OFF;
    if (e->bad_inbound)
        return MESH_INBOUND_STRICT;
    for (size_t i = 0; i < e->ninbound; i++) {
        if (e->inbound[i].port == port)
            return (enum mesh_inbound_mode)e->inbound[i].mode;
        if (e->inbound[i].port == 0)
            other = (enum mesh_inbound_mode)e->inbound[i].mode;
    }
    return other;
}

void mesh_env_view_config(const struct mesh_env *e, uid_t uid, struct mesh_view_config *ret) {
    *ret = (struct mesh_view_config){
        .file = e->view,
        .bootstrap = e->bootstrap,
        .bootstrap_text = e->bootstrap_config,
        .seed = e->view_seed,
        .max_age = e->view_max_age_ns,
        .run_dir = e->run_dir,
        .domains = e->domains,
        .tls = e->tls,
        .hash_key = e->hash_key,
        .exclude = e->exclude,
        .capture = e->capture,
        .virtual_ranges = e->virtual_ranges,
        .uid = uid,
    };
}

/* ---- this process -----------------------------------------------------------------------------------------
 */
static struct mesh_env own;

const struct mesh_env *mesh_env(void) {
    return &own;
}

static void trace_bad(void *arg, const char *name, const char *value, const char *what) {
    struct mesh_line l;
    if (!mesh_trace_on(MESH_TRACE_ERROR))
        return;
    mesh_line_begin(&l, MESH_TRACE_ERROR, "config");
    mesh_line_str(&l, "variable", name);
    mesh_line_strn(&l, "value", value, smaller(strlen(value), 200));
    mesh_line_str(&l, "why", what);
    mesh_line_end(&l);
}

/* By the name the program was called with, and by its file's: they differ for scripts and multi-call
 * binaries. */
static bool is_skipped(const char *list) {
    const char *file = (const char *)getauxval(AT_EXECFN);
    const char *slash = file ? strrchr(file, '/') : NULL;
    return is_listed(list, program_invocation_short_name) ||
           (file && is_listed(list, slash ? slash + 1 : file));
}

/* Then nothing else is read, and nothing is said. */
static bool is_off(const struct found *f) {
    const char *off = f->value[AT_MESH_OFF];
    return (off && strcmp(off, "1") == 0) || is_skipped(f->value[AT_MESH_SKIP]);
}

static void fail_closed(struct mesh_env *e) {
    e->any = e->peers_none = true;
    e->tls = MESH_TLS_REQUIRED;
    e->bad_identity = e->bad_peers = e->bad_callers = e->bad_inbound = e->bad_capture = e->bad_tls = true;
    e->bad_exclude = e->bad_other = true;
}

/* Who wants a trace and mistypes it hears at least of that. */
static void switch_trace_on(const char *spec) {
    if (mesh_trace_set(spec) < 0 && mesh_trace_set("error") < 0)
        return;
}

static int start_found(struct mesh_env_source *src, const struct found *f) {
    char cwd[MESH_ENV_PATH_MAX];
    struct reporter to = {trace_bad, NULL};
    if (is_off(f)) {
        own.off = true;
        return 0;
    }
    src->uid = mesh_sys_geteuid();
    src->cwd = mesh_sys3(SYS_getcwd, (long)cwd, sizeof cwd, 0) > 0 && cwd[0] == '/' ? cwd : NULL;
    switch_trace_on(f->value[AT_MESH_TRACE]);
    return parse_found(src, f, &own, &to);
}

int mesh_env_start(char *const *envp, bool secure) {
    struct found f = {0};
    struct mesh_why why = {""};
    struct mesh_env_source src = {.envp = envp, .secure = secure, .conf = MESH_ENV_FILE};
    char *text;
    int r = find(&src, &f, &text, &why);
    if (r == 0 && f.any)
        r = start_found(&src, &f);
    free(text);
    if (r < 0)
        fail_closed(&own);
    return r;
}
