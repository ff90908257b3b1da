/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs that libc itself starts: posix_spawn, system, popen. Their child is libc's; what is to cross is
 * arranged here, in the process that calls (shim/handover.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shim/base/sys.h"
#include "shim/bodies.h"
#include "shim/conn.h"
#include "shim/engine.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/handover.h"
#include "shim/preload.h"
#include "shim/real.h"
#include "shim/slab_fd.h"
#include "shim/spawn_actions.h"

enum { ABOVE = 900 };

/* The environment with more in it; NULL when memory is out. The caller frees it. */
static char **environment(char *const *envp, char *tree, bool restored) {
    size_t n = 0, more = 0, at = 0;
    char *const *back = mesh_preload_variables(&more);
    while (envp && envp[n])
        n++;
    char **all = malloc((n + more + 2) * sizeof *all);
    if (!all)
        return NULL;
    for (size_t i = 0; i < n; i++)
        all[at++] = envp[i];
    for (size_t i = 0; restored && i < more; i++)
        all[at++] = back[i];
    if (tree)
        all[at++] = tree;
    all[at] = NULL;
    return all;
}

/* ---- posix_spawn ---- */

struct spawn {
    int (*call)(void *ret, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                char *const *, char *const *);
    void *ret; /* pid_t or pidfd */
    bool pid;  /* it is a pid */
    struct mesh_program program;
    const posix_spawn_file_actions_t *actions;
    const posix_spawnattr_t *attr;
    char *const *argv, *const *envp;
};

static int call(const struct spawn *s, const posix_spawn_file_actions_t *actions, char *const *envp) {
    return s->call(s->ret, s->program.path, actions, s->attr, s->argv, envp);
}

static int call_with(const struct spawn *s, const posix_spawn_file_actions_t *actions, char *tree,
                     bool restored) {
    char **all = environment(s->envp, tree, restored);
    int r = all ? call(s, actions, all) : ENOMEM;
    free(all);
    return r;
}

/* A socket that leads nowhere, at a number that no file action means. */
static int dead_socket(void) {
    int low = mesh_sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (low < 0)
        return -1;
    int fd = mesh_sys_fcntl(low, F_DUPFD_CLOEXEC, ABOVE);
    if (fd < 0)
        return low;
    (void)mesh_sys_close(low);
    return fd;
}

static bool any_dead(const struct mesh_crossing *x) {
    for (int i = 0; i < x->n; i++)
        if (x->at[i].dead)
            return true;
    return false;
}

static int spawn_crossing(const struct spawn *s, struct mesh_crossing *x, enum mesh_exec_target t,
                          bool restored) {
    posix_spawn_file_actions_t actions;
    char tree[MESH_TREE_TEXT];
    if (t == MESH_TARGET_SHIM)
        mesh_crossing_settle(x);
    bool handed = mesh_crossing_judge(x, t, s->program.path);
    int dead = any_dead(x) ? dead_socket() : -1;
    int slab = handed ? mesh_slab_fd() : -1;
    int r = mesh_spawn_rewrite(s->actions, x, slab, dead, &actions);
    if (!r) {
        uint32_t entry = handed ? mesh_handover_hold(x, 0) : MESH_PROCS_MAX;
        if (handed)
            mesh_handover_text(x, entry, tree);
        r = call_with(s, &actions, handed ? tree : NULL, restored);
        if (handed && r)
            mesh_handover_cancel(x, entry);
        else if (handed && s->pid && s->ret)
            mesh_proc_assign(entry, *(pid_t *)s->ret);
        posix_spawn_file_actions_destroy(&actions);
    }
    if (dead >= 0)
        (void)mesh_sys_close(dead);
    return r;
}

static int spawn(struct spawn *s) {
    struct mesh_crossing x = {.n = 0};
    mesh_fresh_share(true);
    bool moved = false, cleaned = mesh_preload_cleaned(s->envp),
         armed = atomic_load(&mesh_armed) && mesh_slab;
    pid_t pid;
    int err = armed && !mesh_engine_foreign() ? mesh_spawn_simulate(s->actions, &x, &moved) : 0;
    if (err)
        return err;
    if (!x.n && !cleaned)
        return call(s, s->actions, s->envp);
    enum mesh_exec_target t = moved && s->program.path && s->program.path[0] != '/' && !s->program.search
                                  ? MESH_TARGET_UNREADABLE
                                  : mesh_target_judge(&s->program, s->envp, cleaned);
    bool restored = cleaned && t == MESH_TARGET_SHIM;
    if (s->pid && !s->ret)
        s->ret = &pid;
    if (x.n)
        return spawn_crossing(s, &x, t, restored);
    return restored ? call_with(s, s->actions, NULL, true) : call(s, s->actions, s->envp);
}

#define SPAWN(name, first, is_pid, searches)                                                                 \
    int shim_##name(first, const char *file, const posix_spawn_file_actions_t *actions,                      \
                    const posix_spawnattr_t *attr, char *const *argv, char *const *envp) {                   \
        int keep = errno;                                                                                    \
        struct spawn s = {.call = (typeof(s.call))real.name,                                                 \
                          .ret = ret,                                                                        \
                          .pid = is_pid,                                                                     \
                          .program = {.dir = AT_FDCWD, .path = file, .search = searches},                    \
                          .actions = actions,                                                                \
                          .attr = attr,                                                                      \
                          .argv = argv,                                                                      \
                          .envp = envp};                                                                     \
        int r = spawn(&s);                                                                                   \
        errno = keep;                                                                                        \
        return r;                                                                                            \
    }
SPAWN(posix_spawn, pid_t *ret, true, false)
SPAWN(posix_spawnp, pid_t *ret, true, true)
SPAWN(pidfd_spawn, int *ret, false, false)
SPAWN(pidfd_spawnp, int *ret, false, true)

/* ---- system and popen: a shell with our environment ----
 * What crosses to it is told by a variable that is in the environment for as long as the call lasts. */

struct shell {
    struct mesh_crossing x;
    bool handed;
    int slab;
    char **ours, **theirs;
    char tree[MESH_TREE_TEXT];
};

static void keep_from(const struct mesh_crossing *x, int flag) {
    for (int i = 0; i < x->n; i++)
        if (x->at[i].dead)
            (void)mesh_sys_fcntl(x->at[i].fd, F_SETFD, flag);
}

static void shell_begin(struct shell *s) {
    const struct mesh_program sh = {.dir = AT_FDCWD, .path = "/bin/sh"};
    s->x.n = 0;
    s->handed = false;
    s->slab = -1;
    if (mesh_engine_foreign())
        return;
    mesh_fresh_share(true);
    mesh_crossing_find(&s->x);
    if (!s->x.n)
        return;
    enum mesh_exec_target t = mesh_target_judge(&sh, environ, false);
    if (t == MESH_TARGET_SHIM)
        mesh_crossing_settle(&s->x);
    s->handed = mesh_crossing_judge(&s->x, t, sh.path);
    keep_from(&s->x, FD_CLOEXEC);
    if (!s->handed)
        return;
    uint32_t entry = mesh_handover_hold(&s->x, 0);
    mesh_handover_text(&s->x, entry, s->tree);
    s->theirs = environ;
    s->ours = environment(environ, s->tree, false);
    if (s->ours)
        environ = s->ours;
    s->slab = mesh_slab_fd();
    if (s->slab >= 0)
        (void)mesh_sys_fcntl(s->slab, F_SETFD, 0);
}

static void shell_end(struct shell *s) {
    int keep = errno;
    keep_from(&s->x, 0);
    if (s->slab >= 0)
        (void)mesh_sys_fcntl(s->slab, F_SETFD, FD_CLOEXEC);
    if (s->handed && s->ours) {
        if (environ == s->ours)
            environ = s->theirs;
        else /* another thread has set a variable meanwhile: it goes on with a copy of ours */
            (void)unsetenv(MESH_TREE_VARIABLE);
        free(s->ours);
    }
    errno = keep;
}

int shim_system(const char *command) {
    struct shell s;
    shell_begin(&s);
    int r = real.system(command);
    shell_end(&s);
    return r;
}

FILE *shim_popen(const char *command, const char *mode) {
    struct shell s;
    shell_begin(&s);
    FILE *f = real.popen(command, mode);
    shell_end(&s);
    return f;
}
