/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/proc.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/bodies.h"
#include "shim/close.h"
#include "shim/conn.h"
#include "shim/engine.h"
#include "shim/fd.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/real.h"
#include "shim/stdio.h"

/* ---- fork ---- */

static uint32_t child_entry = MESH_PROCS_MAX;

static void hold_for_child(uint32_t slot) {
    mesh_conn_hold(slot, child_entry);
    mesh_hand_before_fork(slot);
}

static void before(void) {
    mesh_guard_before_fork();
    if (!mesh_slab)
        return;
    child_entry = mesh_proc_reserve();
    mesh_local_each(hold_for_child);
}

static void after_in_parent(void) {
    mesh_guard_after_fork(false);
}

static void after_in_child(void) {
    if (mesh_slab)
        mesh_proc_become(child_entry);
    mesh_local_each(mesh_hand_after_fork);
    mesh_guard_after_fork(true);
    mesh_aead_after_fork();
    mesh_pend_after_fork();
    mesh_engine_after_fork();
}

void mesh_proc_start(void) {
    (void)pthread_atfork(before, after_in_parent, after_in_child);
}

pid_t shim_fork(void) {
    pid_t pid = real.fork();
    if (pid < 0 && mesh_slab && child_entry < MESH_PROCS_MAX)
        mesh_proc_cancel(child_entry);
    return pid;
}

/* Runs no handlers by itself, and is there for signal handlers: ours take no lock that the thread could hold. */
pid_t shim__Fork(void) {
    if (!atomic_load(&mesh_armed))
        return real._Fork();
    before();
    pid_t pid = real._Fork();
    if (pid == 0)
        after_in_child();
    else
        after_in_parent();
    return pid;
}

/* ---- exec: the new program is not told of our connections, and must not speak plaintext on them ---- */

enum { MOST_SHIELDED = 64, ABOVE = 900 };

struct shield {
    int n;
    struct {
        int fd, saved;
    } at[MOST_SHIELDED];
};

static bool crosses(int fd) {
    uint32_t word = mesh_fd_get(fd);
    if (mesh_fd_kind(word) != MESH_FD_CONN)
        return false;
    struct mesh_conn *c = mesh_conn_at(mesh_fd_slot(word));
    int flags = mesh_sys_fcntl(fd, F_GETFD, 0);
    return flags >= 0 && !(flags & FD_CLOEXEC) && atomic_load(&c->state) != MESH_CONN_RAW;
}

static void raise_shield(struct shield *s) {
    s->n = 0;
    if (!atomic_load(&mesh_armed))
        return;
    int keep = errno, dead = -1;
    for (int fd = 0; fd <= (int)mesh_fd_highest(); fd++) {
        if (!crosses(fd))
            continue;
        if (dead < 0)
            dead = mesh_sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int saved = s->n < MOST_SHIELDED ? mesh_sys_fcntl(fd, F_DUPFD_CLOEXEC, ABOVE) : -1;
        if (mesh_sys_dup3(dead, fd, 0) < 0)
            (void)mesh_sys_close(fd); /* nothing is better than the live socket */
        if (saved >= 0)
            s->at[s->n++] = (typeof(s->at[0])){fd, saved};
        struct mesh_line l;
        mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
        mesh_line_str(&l, "why", "exec");
        mesh_line_int(&l, "fd", fd);
        mesh_line_end(&l);
    }
    if (dead >= 0)
        (void)mesh_sys_close(dead);
    errno = keep;
}

/* exec failed: everything as it was. */
static int lower_shield(struct shield *s, int r) {
    int keep = errno;
    for (int i = 0; i < s->n; i++) {
        (void)mesh_sys_dup3(s->at[i].saved, s->at[i].fd, 0);
        (void)mesh_sys_close(s->at[i].saved);
    }
    errno = keep;
    return r;
}

/* A process that execs without having forked for it ends what only it holds. */
static void last_words(void) {
    if (atomic_load(&mesh_armed) && !mesh_engine_foreign())
        mesh_pend_drain(mesh_now() + MESH_HANDSHAKE_SECONDS * MESH_SEC);
}

#define EXEC(call)                                                                                           \
    struct shield s;                                                                                         \
    last_words();                                                                                            \
    raise_shield(&s);                                                                                        \
    return lower_shield(&s, call)

int shim_execve(const char *path, char *const *argv, char *const *envp) {
    EXEC(real.execve(path, argv, envp));
}
int shim_execv(const char *path, char *const *argv) {
    EXEC(real.execv(path, argv));
}
int shim_execvp(const char *file, char *const *argv) {
    EXEC(real.execvp(file, argv));
}
int shim_execvpe(const char *file, char *const *argv, char *const *envp) {
    EXEC(real.execvpe(file, argv, envp));
}
int shim_fexecve(int fd, char *const *argv, char *const *envp) {
    EXEC(real.fexecve(fd, argv, envp));
}
int shim_execveat(int dir, const char *path, char *const *argv, char *const *envp, int flags) {
    EXEC(real.execveat(dir, path, argv, envp, flags));
}

/* ---- programs started by libc itself: the descriptors that would cross are closed in the new program ---- */

struct curtain {
    int n, fd[MOST_SHIELDED];
};

static void draw(struct curtain *c) {
    c->n = 0;
    if (!atomic_load(&mesh_armed) || mesh_engine_foreign())
        return;
    for (int fd = 0; fd <= (int)mesh_fd_highest() && c->n < MOST_SHIELDED; fd++)
        if (crosses(fd) && mesh_sys_fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
            c->fd[c->n++] = fd;
}

static void undraw(const struct curtain *c) {
    for (int i = 0; i < c->n; i++)
        (void)mesh_sys_fcntl(c->fd[i], F_SETFD, 0);
}

/* libc's own record of a file action, unchanged since posix_spawn exists: tag, then its arguments. */
struct file_action {
    int tag; /* 0 close, 1 dup2, ... */
    int pad, fd, to;
    char rest[16];
};

static bool hands_on(const posix_spawn_file_actions_t *actions) {
    if (!actions || !atomic_load(&mesh_armed))
        return false;
    const struct file_action *a = (const struct file_action *)actions->__actions;
    for (int i = 0; i < actions->__used; i++)
        if (a[i].tag == 1 && mesh_fd_kind(mesh_fd_get(a[i].fd)) == MESH_FD_CONN &&
            atomic_load(&mesh_conn_at(mesh_fd_slot(mesh_fd_get(a[i].fd)))->state) != MESH_CONN_RAW)
            return true;
    return false;
}

#define SPAWN(name, first)                                                                                   \
    int shim_##name(first, const char *file, const posix_spawn_file_actions_t *actions,                      \
                    const posix_spawnattr_t *attr, char *const *argv, char *const *envp) {                   \
        if (hands_on(actions)) {                                                                             \
            mesh_trace_refused("spawn", "program", file);                                                    \
            return EACCES;                                                                                   \
        }                                                                                                    \
        struct curtain c;                                                                                    \
        draw(&c);                                                                                            \
        int r = real.name(ret, file, actions, attr, argv, envp);                                             \
        undraw(&c);                                                                                          \
        return r;                                                                                            \
    }
SPAWN(posix_spawn, pid_t *ret)
SPAWN(posix_spawnp, pid_t *ret)
SPAWN(pidfd_spawn, int *ret)
SPAWN(pidfd_spawnp, int *ret)

int shim_system(const char *command) {
    struct curtain c;
    draw(&c);
    int r = real.system(command);
    int keep = errno;
    undraw(&c);
    errno = keep;
    return r;
}

FILE *shim_popen(const char *command, const char *mode) {
    struct curtain c;
    draw(&c);
    FILE *f = real.popen(command, mode);
    int keep = errno;
    undraw(&c);
    errno = keep;
    return f;
}

/* ---- the end ---- */

static void finish(void) {
    if (!atomic_load(&mesh_armed) || !mesh_slab || mesh_engine_foreign())
        return;
    int keep = errno;
    mesh_pend_drain(mesh_now() + MESH_HANDSHAKE_SECONDS * MESH_SEC);
    mesh_close_all();
    struct mesh_view *v = mesh_engine_view_if_any();
    if (v)
        mesh_ledger_leave(v, mesh_slab_tree(), mesh_sys_getpid());
    mesh_proc_leave();
    errno = keep;
}

void shim__exit(int status) {
    finish();
    real._exit(status);
    __builtin_unreachable();
}
void shim__Exit(int status) {
    finish();
    real._Exit(status);
    __builtin_unreachable();
}

__attribute__((destructor)) static void at_exit(void) {
    mesh_stdio_flush();
    finish();
}
