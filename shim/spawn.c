/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs that libc itself starts: posix_spawn, system, popen. Their child is libc's; what is to cross is
 * arranged here, in the process that calls (shim/handover.h). */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "shim/base/mem.h"
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
#include "shim/spawn.h"
#include "shim/spawn_actions.h"

enum { ABOVE = 900 };

/* ---- popen's window ----
 * The shell that libc's popen starts finds the slab's descriptor open because it is open in this process for
 * as long as the call lasts. No other program may be started meanwhile: those who do count themselves, and
 * wait for its end. Bounded, because the call that opened it may be one that a signal handler has
 * interrupted. */

enum { WAIT_MS = 1000 };
static _Atomic int window, starting;

static bool patience(int *io_ms) {
    struct timespec t = {0, 1000000};
    return (*io_ms)++ < WAIT_MS && (mesh_sys_ppoll(NULL, 0, &t, NULL), true);
}

void mesh_spawn_enter(void) {
    int ms = 0;
    atomic_fetch_add(&starting, 1);
    while (mesh_unlikely(atomic_load(&window))) {
        atomic_fetch_sub(&starting, 1);
        bool again = patience(&ms);
        atomic_fetch_add(&starting, 1);
        if (!again)
            return;
    }
}

void mesh_spawn_leave(void) {
    atomic_fetch_sub(&starting, 1);
}

void mesh_spawn_after_fork(void) {
    atomic_store(&starting, 0);
    atomic_store(&window, 0);
}

static void window_open(void) {
    int ms = 0, none = 0;
    while (!atomic_compare_exchange_strong(&window, &none, 1) && patience(&ms))
        none = 0;
    while (atomic_load(&starting) && patience(&ms))
        ;
}

static void window_shut(void) {
    atomic_store(&window, 0);
}

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
    if (t == MESH_TARGET_SHIM)
        mesh_crossing_settle(x);
    bool handed = mesh_crossing_judge(x, t, s->program.path);
    char *tree = handed ? malloc(mesh_crossing_text(x)) : NULL;
    if (handed && !tree)
        return ENOMEM;
    int dead = any_dead(x) ? dead_socket() : -1;
    int slab = handed ? mesh_slab_fd() : -1;
    int r = mesh_spawn_rewrite(s->actions, x, slab, dead, &actions);
    if (!r) {
        uint32_t entry = handed ? mesh_handover_hold(x, 0) : MESH_PROCS_MAX;
        if (handed)
            mesh_handover_text(x, entry, tree);
        r = call_with(s, &actions, tree, restored);
        if (handed && r)
            mesh_handover_cancel(x, entry);
        else if (handed && s->pid && s->ret)
            mesh_proc_assign(entry, *(pid_t *)s->ret);
        posix_spawn_file_actions_destroy(&actions);
    }
    if (dead >= 0)
        (void)mesh_sys_close(dead);
    free(tree);
    return r;
}

static int spawn_with(struct spawn *s, struct mesh_crossing *x) {
    bool moved = false, cleaned = mesh_preload_cleaned(s->envp),
         armed = atomic_load(&mesh_armed) && mesh_slab;
    pid_t pid;
    int err = armed && !mesh_engine_foreign() ? mesh_spawn_simulate(s->actions, x, &moved) : 0;
    if (err)
        return err;
    if (!x->n && !cleaned)
        return call(s, s->actions, s->envp);
    enum mesh_exec_target t = moved && s->program.path && s->program.path[0] != '/' && !s->program.search
                                  ? MESH_TARGET_UNREADABLE
                                  : mesh_target_judge(&s->program, s->envp, cleaned);
    bool restored = cleaned && t == MESH_TARGET_SHIM;
    if (s->pid && !s->ret)
        s->ret = &pid;
    if (x->n)
        return spawn_crossing(s, x, t, restored);
    return restored ? call_with(s, s->actions, NULL, true) : call(s, s->actions, s->envp);
}

static int spawn(struct spawn *s) {
    struct mesh_crossing x;
    mesh_crossing_init(&x);
    if (mesh_engine_foreign())
        return spawn_with(s, &x);
    mesh_fresh_share(true);
    mesh_spawn_enter();
    int r = spawn_with(s, &x);
    mesh_spawn_leave();
    mesh_crossing_done(&x);
    return r;
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

/* ---- popen ----
 * What crosses to its shell is told by a variable that is in the environment for as long as the call lasts.
 */

struct shell {
    struct mesh_crossing x;
    bool handed, failed;
    int slab;
    char **ours, **theirs;
    char *tree;
};

static void keep_from(const struct mesh_crossing *x, int flag) {
    for (int i = 0; i < x->n; i++)
        if (x->at[i].dead)
            (void)mesh_sys_fcntl(x->at[i].fd, F_SETFD, flag);
}

static const struct mesh_program sh = {.dir = AT_FDCWD, .path = "/bin/sh"};

static void shell_begin(struct shell *s) {
    enum mesh_exec_target t = mesh_target_judge(&sh, environ, false);
    if (t == MESH_TARGET_SHIM)
        mesh_crossing_settle(&s->x);
    s->handed = mesh_crossing_judge(&s->x, t, sh.path);
    s->tree = s->handed ? malloc(mesh_crossing_text(&s->x)) : NULL;
    s->slab = -1;
    window_open();
    if (s->handed && s->tree) {
        mesh_handover_text(&s->x, mesh_handover_hold(&s->x, 0), s->tree);
        s->theirs = environ;
        s->ours = environment(environ, s->tree, false);
    }
    s->failed = s->handed && !s->ours;
    keep_from(&s->x, FD_CLOEXEC);
    if (!s->ours)
        return;
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
    if (s->ours) {
        if (environ == s->ours)
            environ = s->theirs;
        else /* another thread has set a variable meanwhile: it goes on with a copy of ours */
            (void)unsetenv(MESH_TREE_VARIABLE);
    }
    window_shut();
    free(s->ours);
    free(s->tree);
    errno = keep;
}

/* Does anything of ours cross to a shell that is started now? */
static bool shell_concerns(struct mesh_crossing *x) {
    mesh_crossing_init(x);
    if (mesh_engine_foreign())
        return false;
    mesh_fresh_share(true);
    mesh_crossing_find(x);
    return x->n || x->lacking;
}

FILE *shim_popen(const char *command, const char *mode) {
    struct shell s = {.handed = false};
    FILE *f = NULL;
    if (!shell_concerns(&s.x)) {
        mesh_spawn_enter();
        f = real.popen(command, mode);
        mesh_spawn_leave();
        return f;
    }
    if (!s.x.lacking) {
        shell_begin(&s);
        errno = ENOMEM;
        if (!s.failed)
            f = real.popen(command, mode);
        shell_end(&s);
    }
    mesh_crossing_done(&s.x);
    return f;
}

/* ---- system ----
 * By our own posix_spawn where something crosses, so that nothing is open in this process for it. SIGINT and
 * SIGQUIT are ignored as long as any thread is in it, as libc does. */

static struct sigaction old_int, old_quit;
static int ignoring; /* all three guarded by mesh_guard */

static void ignore(bool begin) {
    const struct sigaction nothing = {.sa_handler = SIG_IGN};
    struct mesh_guard g = mesh_guard_enter();
    if (begin && ignoring++ == 0) {
        (void)sigaction(SIGINT, &nothing, &old_int);
        (void)sigaction(SIGQUIT, &nothing, &old_quit);
    } else if (!begin && --ignoring == 0) {
        (void)sigaction(SIGINT, &old_int, NULL);
        (void)sigaction(SIGQUIT, &old_quit, NULL);
    }
    mesh_guard_leave(g);
}

static int shell_spawn(const char *command, const sigset_t *mask, pid_t *ret_pid) {
    char *const argv[] = {"sh", "-c", (char *)command, NULL};
    posix_spawnattr_t attr;
    sigset_t reset;
    int err = posix_spawnattr_init(&attr);
    if (err)
        return err;
    sigemptyset(&reset);
    if (old_int.sa_handler != SIG_IGN)
        sigaddset(&reset, SIGINT);
    if (old_quit.sa_handler != SIG_IGN)
        sigaddset(&reset, SIGQUIT);
    posix_spawnattr_setsigmask(&attr, mask);
    posix_spawnattr_setsigdefault(&attr, &reset);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    err = shim_posix_spawn(ret_pid, sh.path, NULL, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    return err;
}

struct run {
    pid_t pid;
    int err; /* of the spawn */
    sigset_t mask;
};

static void run_end(void *arg) {
    struct run *r = arg;
    ignore(false);
    (void)pthread_sigmask(SIG_SETMASK, &r->mask, NULL);
}

/* A thread that is cancelled in system() takes its command with it. */
static void run_cancelled(void *arg) {
    struct run *r = arg;
    (void)mesh_sys_kill(r->pid, SIGKILL);
    while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static int run_wait(struct run *r) {
    int status = -1, got;
    pthread_cleanup_push(run_cancelled, r);
    do
        got = waitpid(r->pid, &status, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        status = -1;
    pthread_cleanup_pop(0);
    return status;
}

static int run(const char *command) {
    struct run r;
    sigset_t child;
    int status;
    ignore(true);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    (void)pthread_sigmask(SIG_BLOCK, &child, &r.mask);
    pthread_cleanup_push(run_end, &r);
    r.err = shell_spawn(command, &r.mask, &r.pid);
    status = !r.err            ? run_wait(&r)
             : r.err == ENOMEM ? -1
                               : 127 << 8; /* as a shell that could not be started */
    pthread_cleanup_pop(1);
    if (r.err)
        errno = r.err;
    return status;
}

int shim_system(const char *command) {
    struct mesh_crossing x;
    bool concerns = shell_concerns(&x);
    mesh_crossing_done(&x);
    if (command && concerns)
        return run(command);
    return real.system(command);
}
