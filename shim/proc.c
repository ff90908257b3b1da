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
#include "shim/fresh.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/real.h"
#include "shim/rotation.h"
#include "shim/spawn.h"
#include "shim/steward.h"
#include "shim/stdio.h"

/* ---- fork ---- */

static uint32_t child_entry = MESH_PROCS_MAX;

static void hold_for_child(uint32_t slot) {
    mesh_conn_hold(slot, child_entry);
    mesh_hand_before_fork(slot);
}

static void before(void) {
    mesh_fresh_share(false);
    mesh_steward_before_fork();
    mesh_spawn_enter();
    mesh_guard_before_fork();
    if (!mesh_slab)
        return;
    child_entry = mesh_proc_reserve();
    mesh_local_each(hold_for_child);
}

/* An entry of a fork that failed is nobody's after ten seconds. */
static void after_in_parent(void) {
    mesh_guard_after_fork(false);
    mesh_spawn_leave();
    mesh_steward_after_fork(false);
}

static void after_in_child(void) {
    if (mesh_slab)
        mesh_proc_become(child_entry);
    mesh_local_each(mesh_hand_after_fork);
    mesh_guard_after_fork(true);
    mesh_spawn_after_fork();
    mesh_steward_after_fork(true);
    mesh_aead_after_fork();
    mesh_pend_after_fork();
    mesh_engine_after_fork();
}

void mesh_proc_start(void) {
    (void)pthread_atfork(before, after_in_parent, after_in_child);
}

/* A fork that nobody told us of (a raw system call): the parent does not know of this holder until now. What
 * it has ended meanwhile is not a connection any more, whatever the kernel's socket says. */
static void bury(int fd, uint32_t slot) {
    mesh_fresh_bury(fd);
    mesh_fd_clear(fd);
    (void)mesh_local_drop(slot, fd);
    mesh_trace_refused("unseen-fork", NULL, NULL);
}

static void bury_ended(void) {
    for (int fd = 0; fd <= (int)mesh_fd_highest(); fd++) {
        uint32_t word = mesh_fd_get(fd), slot = mesh_fd_slot(word);
        bool held = mesh_fd_kind(word) == MESH_FD_CONN || mesh_fd_kind(word) == MESH_FD_KIN;
        if (held && mesh_local_at(slot)->generation != atomic_load(&mesh_conn_at(slot)->generation))
            bury(fd, slot);
    }
}

static void hold_late(uint32_t slot) {
    mesh_conn_hold(slot, child_entry);
}

void mesh_proc_found_out(void) {
    mesh_guard_forget();
    mesh_spawn_after_fork();
    if (mesh_slab) {
        child_entry = mesh_proc_reserve();
        mesh_proc_become(child_entry);
        bury_ended();
        mesh_local_each(hold_late);
        mesh_local_each(mesh_hand_after_fork);
    }
    mesh_steward_after_fork(true);
    mesh_aead_after_fork();
    mesh_pend_after_fork();
    mesh_engine_after_fork();
}

pid_t shim_fork(void) {
    pid_t pid = real.fork();
    if (pid > 0)
        mesh_rotation_forked();
    return pid;
}

void mesh_proc_before_fork(void) {
    before();
}

void mesh_proc_after_fork(long pid) {
    int keep = errno;
    if (pid == 0) {
        after_in_child();
    } else {
        if (pid < 0 && mesh_slab)
            mesh_proc_cancel(child_entry);
        after_in_parent();
    }
    errno = keep;
}

/* Runs no handlers by itself, and is there for signal handlers: ours take no lock that the thread could hold.
 */
pid_t shim__Fork(void) {
    if (!atomic_load(&mesh_armed))
        return real._Fork();
    mesh_proc_before_fork();
    pid_t pid = real._Fork();
    mesh_proc_after_fork(pid);
    return pid;
}

struct child {
    int (*run)(void *);
    void *arg;
};

static int run_child(void *arg) {
    struct child c = *(struct child *)arg;
    mesh_proc_after_fork(0);
    return c.run(c.arg);
}

/* With memory of its own it is a fork; otherwise a thread, or a child that has only borrowed ours. */
int shim_clone(int (*run)(void *), void *stack, int flags, void *arg, pid_t *ret_parent, void *tls,
               pid_t *ret_child) {
    if (!atomic_load(&mesh_armed) || flags & CLONE_VM || !run || mesh_engine_foreign())
        return real.clone(run, stack, flags, arg, ret_parent, tls, ret_child);
    struct child c = {run, arg};
    mesh_proc_before_fork();
    int pid = real.clone(run_child, stack, flags, &c, ret_parent, tls, ret_child);
    mesh_proc_after_fork(pid < 0 ? -1 : 1);
    return pid;
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
