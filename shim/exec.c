/* SPDX-License-Identifier: Apache-2.0
 *
 * exec: what crosses into the new program, and what must not (shim/handover.h). It may be a vfork child that
 * calls: nothing but the stack, the child's descriptors and the slab is written then, and all of it is undone
 * when exec fails. */
#include <errno.h>
#include <string.h>

#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/bodies.h"
#include "shim/conn.h"
#include "shim/engine.h"
#include "shim/door.h"
#include "shim/handover.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/preload.h"
#include "shim/proc.h"
#include "shim/real.h"
#include "shim/slab_fd.h"

enum { ABOVE = 900, VARIABLES_MAX = 1 << 15 };

struct departure {
    struct mesh_crossing x;
    int saved[MESH_CROSS_MAX]; /* what a dead socket took the place of; -1 */
    bool foreign, handed;
    uint32_t entry;
    int slab;
    char tree[MESH_TREE_TEXT];
};

/* ---- dead sockets ---- */

static void shield(struct departure *d) {
    int dead = -1;
    for (int i = 0; i < d->x.n; i++) {
        d->saved[i] = -1;
        if (!d->x.at[i].dead)
            continue;
        if (dead < 0)
            dead = mesh_sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        d->saved[i] = mesh_sys_fcntl(d->x.at[i].fd, F_DUPFD_CLOEXEC, ABOVE);
        if (d->saved[i] < 0)
            d->saved[i] = mesh_sys_fcntl(d->x.at[i].fd, F_DUPFD_CLOEXEC, 3);
        if (mesh_sys_dup3(dead, d->x.at[i].fd, 0) < 0) /* nothing is better than the live socket */
            (void)mesh_sys_fcntl(d->x.at[i].fd, F_SETFD, FD_CLOEXEC);
    }
    if (dead >= 0)
        (void)mesh_sys_close(dead);
}

static void unshield(const struct departure *d) {
    for (int i = 0; i < d->x.n; i++)
        if (d->saved[i] >= 0) {
            (void)mesh_sys_dup3(d->saved[i], d->x.at[i].fd, 0);
            (void)mesh_sys_close(d->saved[i]);
        }
}

/* ---- going, and coming back ---- */

static void leave(struct departure *d, enum mesh_exec_target t, const char *program) {
    d->handed = mesh_crossing_judge(&d->x, t, program);
    if (d->handed) {
        d->entry = mesh_handover_hold(&d->x, mesh_sys_getpid());
        mesh_handover_text(&d->x, d->entry, d->tree);
        d->slab = mesh_slab_fd();
        if (d->slab >= 0)
            (void)mesh_sys_fcntl(d->slab, F_SETFD, 0);
    }
    shield(d);
    if (!d->foreign)
        mesh_proc_replacing(true);
}

static void come_back(struct departure *d) {
    if (!d->foreign)
        mesh_proc_replacing(false);
    unshield(d);
    if (!d->handed)
        return;
    mesh_handover_cancel(&d->x, d->entry);
    if (d->slab >= 0)
        (void)mesh_sys_fcntl(d->slab, F_SETFD, FD_CLOEXEC);
}

/* ---- the call itself ---- */

static int call(const struct mesh_program *p, char *const *argv, char *const *envp) {
    if (p->flags & AT_EMPTY_PATH && p->path && !*p->path)
        return real.fexecve(p->dir, argv, envp);
    if (p->search)
        return real.execvpe(p->path, argv, envp);
    if (p->dir != AT_FDCWD || p->flags)
        return real.execveat(p->dir, p->path, argv, envp, p->flags);
    return real.execve(p->path, argv, envp);
}

static size_t variables(char *const *envp) {
    size_t n = 0;
    while (envp && envp[n])
        n++;
    return n;
}

/* With more in the environment than the program was given. */
static int call_with(const struct mesh_program *p, char *const *argv, char *const *envp, char *tree,
                     bool restored) {
    size_t n = variables(envp), more = 0, at = 0;
    char *const *back = mesh_preload_variables(&more);
    char *all[n + more + 2];
    for (size_t i = 0; i < n; i++)
        if (strncmp(envp[i], MESH_TREE_VARIABLE "=", sizeof MESH_TREE_VARIABLE) != 0)
            all[at++] = envp[i];
    for (size_t i = 0; restored && i < more; i++)
        all[at++] = back[i];
    if (tree)
        all[at++] = tree;
    all[at] = NULL;
    return call(p, argv, all);
}

__attribute__((noinline)) static int depart(const struct mesh_program *p, char *const *argv,
                                            char *const *envp, enum mesh_exec_target t, bool restored) {
    struct departure d = {.foreign = mesh_engine_foreign(), .slab = -1};
    int keep = errno;
    mesh_crossing_find(&d.x);
    if (!d.foreign && t != MESH_TARGET_MISSING) {
        if (t == MESH_TARGET_SHIM)
            mesh_crossing_settle(&d.x);
        mesh_pend_drain(mesh_now() + MESH_HANDSHAKE_SECONDS * MESH_SEC);
    }
    leave(&d, t, p->path);
    errno = keep;
    int r = d.handed || restored ? call_with(p, argv, envp, d.handed ? d.tree : NULL, restored)
                                 : call(p, argv, envp);
    keep = errno;
    come_back(&d);
    errno = keep;
    return r;
}

static int go(const struct mesh_program *p, char *const *argv, char *const *envp) {
    bool armed = atomic_load(&mesh_armed), cleaned = mesh_preload_cleaned(envp);
    if ((!armed && !cleaned) || variables(envp) > VARIABLES_MAX)
        return call(p, argv, envp);
    enum mesh_exec_target t = mesh_target_judge(p, envp, cleaned);
    bool restored = cleaned && t == MESH_TARGET_SHIM;
    if (armed)
        return depart(p, argv, envp, t, restored);
    return restored ? call_with(p, argv, envp, NULL, true) : call(p, argv, envp);
}

int shim_execve(const char *path, char *const *argv, char *const *envp) {
    return go(&(struct mesh_program){.dir = AT_FDCWD, .path = path}, argv, envp);
}
int shim_execv(const char *path, char *const *argv) {
    return go(&(struct mesh_program){.dir = AT_FDCWD, .path = path}, argv, environ);
}
int shim_execvp(const char *file, char *const *argv) {
    return go(&(struct mesh_program){.dir = AT_FDCWD, .path = file, .search = true}, argv, environ);
}
int shim_execvpe(const char *file, char *const *argv, char *const *envp) {
    return go(&(struct mesh_program){.dir = AT_FDCWD, .path = file, .search = true}, argv, envp);
}
int shim_fexecve(int fd, char *const *argv, char *const *envp) {
    return go(&(struct mesh_program){.dir = fd, .path = "", .flags = AT_EMPTY_PATH}, argv, envp);
}
int shim_execveat(int dir, const char *path, char *const *argv, char *const *envp, int flags) {
    return go(&(struct mesh_program){.dir = dir, .path = path, .flags = flags}, argv, envp);
}
