/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/ctl.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "shim/ctl/proc.h"
#include "shim/env_file.h"

void mesh_ctl_complain(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("meshctl: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

int mesh_ctl_finish(struct mesh_ctl_out *o, int status) {
    int r = mesh_ctl_out_done(o);
    if (r == 0)
        return status;
    mesh_ctl_complain("output: %s", mesh_err_text(r));
    return MESH_CTL_USAGE;
}

static int become(int pid, uid_t uid, struct mesh_why *why) {
    if (geteuid() == uid)
        return 0;
    if (geteuid() != 0 || seteuid(uid) != 0)
        return mesh_why(why, MESH_E_INVALID,
                        "process %d belongs to user %u: run meshctl as that user or as root", pid, uid);
    return 0;
}

static int read_theirs(struct mesh_ctl *c, struct mesh_env_source *src, char *cwd, size_t cap,
                       struct mesh_why *why) {
    char path[64];
    int pid = c->args.pid;
    int r = mesh_ctl_proc_environ(pid, &c->their_envp, why);
    if (r < 0)
        return r;
    if (mesh_ctl_proc_uid(pid, &c->uid) < 0 || mesh_ctl_proc_secure(pid, &src->secure) < 0)
        return mesh_why(why, MESH_E_NOTFOUND, "process %d cannot be examined", pid);
    if (!mesh_ctl_proc_same_files(pid))
        return mesh_why(why, MESH_E_INVALID, "process %d has another mount namespace: run meshctl inside it",
                        pid);
    snprintf(path, sizeof path, "/proc/%d/cwd", pid);
    ssize_t n = readlink(path, cwd, cap - 1);
    cwd[n > 0 ? n : 0] = 0;
    src->envp = c->their_envp;
    return become(pid, c->uid, why);
}

int mesh_ctl_session_read(struct mesh_ctl *c, mesh_ctl_bad_fn *bad, void *arg, struct mesh_why *why) {
    char cwd[4096] = "";
    struct mesh_env_source src = {.envp = environ, .conf = MESH_ENV_FILE, .cwd = cwd};
    int r = 0;
    c->uid = geteuid();
    if (c->args.pid)
        r = read_theirs(c, &src, cwd, sizeof cwd, why);
    else if (!getcwd(cwd, sizeof cwd))
        cwd[0] = 0;
    if (r < 0)
        return r;
    src.uid = c->uid;
    if (!cwd[0])
        src.cwd = NULL;
    r = mesh_env_parse(&src, &c->env, bad, arg);
    return r < 0 ? mesh_why(why, r, "%s", mesh_err_text(r)) : 0;
}

int mesh_ctl_session_view(struct mesh_ctl *c, struct mesh_why *why) {
    struct mesh_view_config cfg;
    mesh_env_view_config(&c->env, c->uid, &cfg);
    int r = mesh_view_open(&cfg, &c->view, &c->private_view, why);
    if (r < 0 && !why->text[0])
        return mesh_why(why, r, "%s", mesh_err_text(r));
    return r;
}

static void complain_of_value(void *arg, const char *name, const char *value, const char *what) {
    (void)arg;
    (void)value;
    mesh_ctl_complain("%s: %s", name, what);
}

bool mesh_ctl_session_open(struct mesh_ctl *c) {
    struct mesh_why why = {""};
    int r = mesh_ctl_session_read(c, complain_of_value, NULL, &why);
    if (r == 0 && !c->env.any) {
        mesh_ctl_complain("nothing is configured: MESH_VIEW is not set (see meshctl check)");
        return false;
    }
    if (r == 0)
        r = mesh_ctl_session_view(c, &why);
    if (why.text[0])
        mesh_ctl_complain("%s", why.text);
    return r == 0;
}

void mesh_ctl_session_done(struct mesh_ctl *c) {
    if (c->view)
        mesh_view_close(c->view);
    mesh_env_done(&c->env);
    free(c->their_envp);
}
