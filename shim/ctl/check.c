/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl check: is this environment right?
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/trace.h"
#include "shim/ctl/ctl.h"
#include "shim/ctl/findings.h"
#include "shim/ctl/proc.h"
#include "shim/env_file.h"

enum {
    SOON = 3600,                 /* s: an identity that ends within this is worth a word */
    EARLIEST_CLOCK = 1704067200, /* 2024-01-01: before this the clock was never set */
};

static const char library[] = "libmeshshim.so";

/* ---- environment ------------------------------------------------------------------------------------------
 */
static const struct mesh_env_row *row_of(const char *name) {
    size_t n;
    const struct mesh_env_row *rows = mesh_env_rows(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

static void found_bad_value(void *arg, const char *name, const char *value, const char *what) {
    const struct mesh_env_row *row = row_of(name);
    char todo[240];
    if (row)
        snprintf(todo, sizeof todo, "give %s the form %s; default: %s", name, row->value, row->def);
    else
        snprintf(todo, sizeof todo, "correct or remove it");
    mesh_ctl_found(arg, row && !row->protects ? MESH_CTL_WARNING : MESH_CTL_ERROR, "environment", todo,
                   "%s%s%.80s: %s%s", name, row || *value ? "=" : "", value, what,
                   row && row->protects ? "; what it protects is refused" : "");
}

/* Nothing tells of lines that cannot be written: not even a trace. */
static void check_trace_file(const struct mesh_env *e, struct mesh_ctl_findings *f) {
    char directory[MESH_TRACE_PATH_MAX];
    const char *file = e->trace ? strchr(e->trace, ':') : NULL, *slash = file ? strrchr(file, '/') : NULL;
    if (!slash || file[1] != '/') /* taken from the directory in which each program starts */
        return;
    size_t n = (size_t)(slash - file - 1);
    snprintf(directory, sizeof directory, "%.*s", (int)(n ? n : 1), file + 1);
    if (access(directory, W_OK | X_OK))
        mesh_ctl_found(f, MESH_CTL_WARNING, "environment", "make the directory, or name another file",
                       "MESH_TRACE: no file can be made in %s", directory);
}

static void check_environment(struct mesh_ctl *c, struct mesh_ctl_findings *f) {
    char program[MESH_CTL_PROGRAM_MAX];
    const struct mesh_env *e = &c->env;
    if (e->off)
        mesh_ctl_found(f, MESH_CTL_WARNING, "environment", "remove MESH_OFF to be in the mesh",
                       "MESH_OFF=1: the library does nothing");
    if (c->args.pid && mesh_ctl_proc_program(c->args.pid, program) == 0 && mesh_env_skips(e, program))
        mesh_ctl_found(f, MESH_CTL_WARNING, "environment", "take it out of MESH_SKIP",
                       "MESH_SKIP names this program, %s", program);
    check_trace_file(e, f);
    if (!e->any)
        mesh_ctl_found(f, MESH_CTL_ERROR, "environment",
                       "set MESH_VIEW, GRPC_XDS_BOOTSTRAP, MESH_CAPTURE, MESH_DOMAINS or MESH_INBOUND",
                       "nothing makes any connection a mesh connection");
}

/* ---- is the library in it ---------------------------------------------------------------------------------
 */
static bool text_names_library(const char *text) {
    return text && strstr(text, library);
}

static bool preload_file_names_library(void) {
    char line[4096];
    FILE *f = fopen("/etc/ld.so.preload", "re");
    bool names = false;
    while (f && !names && fgets(line, sizeof line, f))
        names = text_names_library(line);
    if (f)
        fclose(f);
    return names;
}

static void check_library(struct mesh_ctl *c, struct mesh_ctl_findings *f) {
    bool mapped = false;
    if (c->args.pid && mesh_ctl_proc_has_mapped(c->args.pid, library, &mapped) == 0 && !mapped)
        mesh_ctl_found(f, MESH_CTL_ERROR, "library", "meshctl check --procs says why",
                       "process %d has not mapped %s", c->args.pid, library);
    if (!c->args.pid && !text_names_library(getenv("LD_PRELOAD")) && !preload_file_names_library())
        mesh_ctl_found(f, MESH_CTL_WARNING, "library",
                       "set LD_PRELOAD to the library's path, or name it in /etc/ld.so.preload",
                       "LD_PRELOAD does not name %s: programs started from here are not in the mesh",
                       library);
}

/* ---- identity ---------------------------------------------------------------------------------------------
 */
static void check_key_mode(const struct mesh_env *e, struct mesh_ctl_findings *f) {
    struct stat st;
    if (stat(e->key, &st) == 0 && (st.st_mode & S_IROTH))
        mesh_ctl_found(f, MESH_CTL_WARNING, "identity", "take the right to read from others: chmod o-r",
                       "%s can be read by everybody", e->key);
}

/* A length of time as a person says it. */
static void print_span(char ret_text[32], int64_t seconds) {
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{86400, "days"}, {3600, "hours"}, {60, "minutes"}, {1, "s"}};
    size_t i = 0;
    while (i + 1 < MESH_ARRAY_LEN(units) && seconds < 2 * units[i].seconds)
        i++;
    snprintf(ret_text, 32, "%lld %s", (long long)(seconds / units[i].seconds), units[i].name);
}

static void judge_validity(const struct mesh_identity *id, int64_t now, struct mesh_ctl_findings *f) {
    int64_t rest = mesh_identity_not_after(id) - now, wait = mesh_identity_not_before(id) - now;
    const char *spiffe = mesh_identity_spiffe(id);
    char span[32];
    print_span(span, wait);
    if (wait > 0)
        mesh_ctl_found(f, MESH_CTL_ERROR, "clock", "set the clock, or wait",
                       "the certificate becomes valid in %s", span);
    if (!spiffe[0])
        mesh_ctl_found(
            f, MESH_CTL_WARNING, "identity", "issue a certificate with one spiffe:// URI SAN",
            "our certificate has no SPIFFE ID: there is no trust domain of ours that peers could be of");
    print_span(span, rest > 0 ? rest : -rest);
    if (rest <= 0)
        mesh_ctl_found(f, MESH_CTL_ERROR, "identity", "renew it", "the certificate ended %s ago", span);
    else
        mesh_ctl_found(f, rest < SOON ? MESH_CTL_WARNING : MESH_CTL_OK, "identity",
                       rest < SOON ? "renew it" : "", "%s, valid for another %s",
                       spiffe[0] ? spiffe : "a certificate without SPIFFE ID", span);
}

static void check_identity(struct mesh_ctl *c, struct mesh_ctl_findings *f) {
    const struct mesh_env *e = &c->env;
    struct mesh_identity_source *src = NULL;
    struct mesh_identity *id = NULL;
    struct mesh_why why = {""};
    int64_t now = mesh_wall();
    if (now < EARLIEST_CLOCK)
        mesh_ctl_found(f, MESH_CTL_ERROR, "clock", "set the clock", "the clock says second %lld",
                       (long long)now);
    if (!e->cert || !e->key || !e->ca) {
        mesh_ctl_found(f, MESH_CTL_ERROR, "identity", "set MESH_CERT, MESH_KEY and MESH_CA to PEM files",
                       "there is none: mesh connections are refused");
        return;
    }
    check_key_mode(e, f);
    int r = mesh_tls_start();
    if (r == 0)
        r = mesh_identity_source_new(e->cert, e->key, e->ca, &src);
    if (r == 0)
        r = mesh_identity_source_poll(src, now, &why);
    if (r >= 0)
        id = mesh_identity_source_get(src);
    if (id)
        judge_validity(id, now, f);
    else
        mesh_ctl_found(f, MESH_CTL_ERROR, "identity",
                       "correct the files: mesh connections are refused until then", "%s",
                       why.text[0] ? why.text : mesh_err_text(r));
    mesh_identity_unref(id);
    mesh_identity_source_free(src);
}

/* ---- view -------------------------------------------------------------------------------------------------
 */
struct pins {
    struct mesh_ctl *c;
    struct mesh_ctl_findings *f;
};

/* Who may answer for a cluster: the view says, or MESH_PEERS does, or anybody of the trust domain may. */
static void check_pin(void *arg, const struct mesh_route *r) {
    const struct pins *p = arg;
    const struct mesh_env *e = &p->c->env;
    struct mesh_target *t = NULL;
    if (mesh_view_target(p->c->view, r, 0, &t) < 0)
        return;
    if (t->plain)
        mesh_ctl_found(p->f, MESH_CTL_WARNING, "names",
                       "give it a TLS transport socket when its servers are in the mesh",
                       "%s is dialled in clear, as the view says (tls=none)", r->cluster);
    else if (!t->peers && !e->npeers && !e->peers_none)
        mesh_ctl_found(p->f, MESH_CTL_WARNING, "names", "name its peers in the view, or set MESH_PEERS",
                       "%s is pinned to no identity: anybody of our trust domain may answer for it",
                       r->cluster);
    free(t);
}

static void found_fault(void *arg, const char *resource, const char *why) {
    mesh_ctl_found(arg, MESH_CTL_WARNING, "view", "meshctl check -f FILE says what that does to names",
                   "%s is left out: %s", resource, why);
}

static void judge_view(struct mesh_ctl *c, const struct mesh_view_info *i, struct mesh_ctl_findings *f) {
    if (c->private_view)
        mesh_ctl_found(f, MESH_CTL_WARNING, "run directory", "make it writable, or set MESH_RUN_DIR",
                       "%s cannot be used: each process tree has a view and counters of its own",
                       c->env.run_dir);
    else
        mesh_ctl_found(f, MESH_CTL_OK, "run directory", "", "%s", c->env.run_dir);
    if (i->error[0])
        mesh_ctl_found(f, MESH_CTL_ERROR, "view",
                       i->version ? "correct the file; what was good before stays in force"
                                  : "correct the file: nothing is in force",
                       "%s", i->error);
    if (!i->version)
        return;
    if (!i->names && c->env.view && !i->error[0])
        mesh_ctl_found(f, MESH_CTL_WARNING, "view", "see meshctl check -f FILE", "%s lists no name",
                       i->source);
    mesh_ctl_found(f, MESH_CTL_OK, "view", "",
                   "version %llu: %u names, %u clusters, %u endpoints, %u listeners, %lld s old",
                   (unsigned long long)i->version, i->names, i->clusters, i->endpoints, i->listeners,
                   (long long)(mesh_wall() - i->built_wall));
}

static void check_view(struct mesh_ctl *c, struct mesh_ctl_findings *f) {
    struct mesh_why why = {""};
    struct mesh_view_info info;
    struct pins pins = {c, f};
    if (c->env.view && access(c->env.view, R_OK) != 0)
        mesh_ctl_found(f, MESH_CTL_ERROR, "view", "correct MESH_VIEW, or make the file readable",
                       "%s cannot be read", c->env.view);
    int r = mesh_ctl_session_view(c, &why);
    if (r == 0)
        r = mesh_view_describe(c->view, &info);
    if (r < 0) {
        mesh_ctl_found(f, MESH_CTL_ERROR, "view", "correct what is named", "%s",
                       why.text[0] ? why.text : mesh_err_text(r));
        return;
    }
    judge_view(c, &info, f);
    r = mesh_view_each_fault(c->view, found_fault, f);
    if (r >= 0)
        r = mesh_view_each_cluster(c->view, check_pin, &pins);
    if (r < 0)
        mesh_ctl_found(f, MESH_CTL_ERROR, "view", "", "%s", mesh_err_text(r));
}

int mesh_ctl_check(struct mesh_ctl *c) {
    struct mesh_why why = {""};
    struct mesh_ctl_findings *f = calloc(1, sizeof *f);
    if (!f) {
        mesh_ctl_complain("%s", mesh_err_text(MESH_E_NOMEM));
        return MESH_CTL_USAGE;
    }
    int r = mesh_ctl_session_read(c, found_bad_value, f, &why);
    if (r < 0) {
        mesh_ctl_complain("%s", why.text);
        free(f);
        return MESH_CTL_NO;
    }
    check_environment(c, f);
    check_library(c, f);
    check_identity(c, f);
    if (c->env.any)
        check_view(c, f);
    mesh_ctl_check_plane(c, f);
    int status = mesh_ctl_findings_print(f, c->args.format);
    free(f);
    return status;
}
