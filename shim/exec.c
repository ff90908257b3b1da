/* SPDX-License-Identifier: Apache-2.0
 *
 * exec: what crosses into the new program, and what must not (shim/handover.h). It may be a vfork child that
 * calls: nothing but the stack, the child's descriptors and the slab is written then, and all of it is undone
 * when exec fails. */
#include <errno.h>
#include <stdalign.h>
#include <string.h>
#include <sys/mman.h>

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

enum { ABOVE = 900, VARIABLES_MAX = 1 << 15, ON_STACK = 4096 };
enum { UNTOUCHED = -1, MADE_TO_CLOSE = -2 };

struct departure {
    struct mesh_crossing x;
    int *saved; /* for each: what a dead socket took the place of, UNTOUCHED or MADE_TO_CLOSE */
    char *tree; /* NULL: nothing crosses */
    bool foreign;
    uint32_t entry;
};

/* ---- dead sockets ---- */

static int shield_one(int dead, int fd) {
    int saved = mesh_sys_fcntl(fd, F_DUPFD_CLOEXEC, ABOVE);
    if (saved < 0)
        saved = mesh_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (saved >= 0 && dead >= 0 && mesh_sys_dup3(dead, fd, 0) >= 0)
        return saved;
    if (saved >= 0)
        (void)mesh_sys_close(saved);
    (void)mesh_sys_fcntl(fd, F_SETFD, FD_CLOEXEC); /* nothing is better than the live socket */
    return MADE_TO_CLOSE;
}

static void shield(struct departure *d) {
    int dead = -1;
    for (int i = 0; i < d->x.n; i++) {
        d->saved[i] = UNTOUCHED;
        if (!d->x.at[i].dead)
            continue;
        if (dead < 0)
            dead = mesh_sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        d->saved[i] = shield_one(dead, d->x.at[i].fd);
    }
    if (dead >= 0)
        (void)mesh_sys_close(dead);
}

static void unshield(const struct departure *d) {
    for (int i = 0; i < d->x.n; i++)
        if (d->saved[i] >= 0) {
            (void)mesh_sys_dup3(d->saved[i], d->x.at[i].fd, 0);
            (void)mesh_sys_close(d->saved[i]);
        } else if (d->saved[i] == MADE_TO_CLOSE) {
            (void)mesh_sys_fcntl(d->x.at[i].fd, F_SETFD, 0);
        }
}

/* ---- going, and coming back ---- */

/* Another thread's popen may have it open for its own program (shim/spawn.c). */
static void slab_stays(bool stays) {
    int slab = mesh_slab_fd();
    if (slab >= 0)
        (void)mesh_sys_fcntl(slab, F_SETFD, stays ? 0 : FD_CLOEXEC);
}

static void leave(struct departure *d, enum mesh_exec_target t, const char *program) {
    if (!mesh_crossing_judge(&d->x, t, program))
        d->tree = NULL;
    if (d->tree) {
        d->entry = mesh_handover_hold(&d->x, mesh_sys_getpid());
        mesh_handover_text(&d->x, d->entry, d->tree);
    }
    slab_stays(d->tree != NULL);
    shield(d);
    if (!d->foreign)
        mesh_proc_replacing(true);
}

static void come_back(struct departure *d) {
    if (!d->foreign)
        mesh_proc_replacing(false);
    unshield(d);
    slab_stays(false);
    if (d->tree)
        mesh_handover_cancel(&d->x, d->entry);
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

static int depart_with(struct departure *d, const struct mesh_program *p, char *const *argv,
                       char *const *envp, enum mesh_exec_target t, bool restored) {
    int keep = errno;
    leave(d, t, p->path);
    errno = keep;
    int r = d->tree || restored ? call_with(p, argv, envp, d->tree, restored) : call(p, argv, envp);
    keep = errno;
    come_back(d);
    errno = keep;
    return r;
}

/* In a vfork child only the stack is its own. */
__attribute__((noinline)) static int depart_foreign(const struct mesh_program *p, char *const *argv,
                                                    char *const *envp, enum mesh_exec_target t,
                                                    bool restored) {
    struct departure d = {.foreign = true};
    mesh_crossing_init(&d.x);
    mesh_crossing_find(&d.x);
    if (d.x.lacking) {
        d.x.room = d.x.n + d.x.lacking;
        d.x.at = __builtin_alloca((size_t)d.x.room * sizeof *d.x.at);
        mesh_crossing_find(&d.x);
    }
    if (d.x.lacking) { /* another thread was quicker */
        errno = ENOMEM;
        return -1;
    }
    d.saved = __builtin_alloca((size_t)(d.x.n + 1) * sizeof *d.saved);
    d.tree = __builtin_alloca(mesh_crossing_text(&d.x));
    return depart_with(&d, p, argv, envp, t, restored);
}

__attribute__((noinline)) static int depart(const struct mesh_program *p, char *const *argv,
                                            char *const *envp, enum mesh_exec_target t, bool restored) {
    struct departure d = {.foreign = false};
    mesh_crossing_init(&d.x);
    mesh_crossing_find(&d.x);
    if (t != MESH_TARGET_MISSING) {
        int keep = errno;
        if (t == MESH_TARGET_SHIM)
            mesh_crossing_settle(&d.x);
        mesh_pend_drain(mesh_now() + MESH_HANDSHAKE_SECONDS * MESH_SEC);
        errno = keep;
    }
    size_t saved = (size_t)(d.x.n + 1) * sizeof *d.saved, size = saved + mesh_crossing_text(&d.x);
    alignas(int) char little[ON_STACK];
    char *room = little;
    void *more = NULL;
    int r = -1;
    if (size > sizeof little &&
        mesh_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &more))
        more = NULL;
    if (size > sizeof little)
        room = more;
    if (room && !d.x.lacking) {
        d.saved = (int *)(void *)room;
        d.tree = room + saved;
        r = depart_with(&d, p, argv, envp, t, restored);
    } else {
        errno = ENOMEM;
    }
    if (more)
        (void)mesh_sys_munmap(more, size);
    mesh_crossing_done(&d.x);
    return r;
}

static int go(const struct mesh_program *p, char *const *argv, char *const *envp) {
    bool armed = atomic_load(&mesh_armed), cleaned = mesh_preload_cleaned(envp);
    if ((!armed && !cleaned) || variables(envp) > VARIABLES_MAX)
        return call(p, argv, envp);
    enum mesh_exec_target t = mesh_target_judge(p, envp, cleaned);
    bool restored = cleaned && t == MESH_TARGET_SHIM;
    if (armed)
        return mesh_engine_foreign() ? depart_foreign(p, argv, envp, t, restored)
                                     : depart(p, argv, envp, t, restored);
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
