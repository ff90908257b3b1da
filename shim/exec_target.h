/* SPDX-License-Identifier: Apache-2.0
 *
 * Does a program that is about to be executed count as having the shim (DESIGN D11)? Shown, not believed: it is a dynamic
 * executable of our class, machine and loader, not privileged, and the environment that it gets preloads our library from a
 * path where it can be read. Of a script its interpreter is judged.
 * Opens, reads and closes one descriptor; no heap, nothing written but the caller's stack. Threads: any, signal-safe, usable
 * in a vfork child.
 */
#ifndef MESH_SHIM_EXEC_TARGET_H
#define MESH_SHIM_EXEC_TARGET_H

#include <stdbool.h>
#include <stddef.h>

struct mesh_program { /* what an exec names */
    int dir;          /* AT_FDCWD, or where a relative path begins */
    const char *path;
    int flags;        /* AT_EMPTY_PATH: `dir` itself; AT_SYMLINK_NOFOLLOW */
    bool search;      /* a path without slash is looked for in PATH */
};

enum mesh_exec_target {
    MESH_TARGET_SHIM,       /* it has it */
    MESH_TARGET_MISSING,    /* there is no such program */
    MESH_TARGET_UNREADABLE, /* it cannot be judged */
    MESH_TARGET_STATIC,
    MESH_TARGET_OTHER_LIBC, /* another loader, class or machine */
    MESH_TARGET_PRIVILEGED, /* set-id, file capabilities, or we run with another's id */
    MESH_TARGET_NO_PRELOAD, /* its environment does not name our library */
    MESH_TARGET_OFF,        /* MESH_OFF */
    MESH_TARGET_NO_LIBRARY, /* our library cannot be read at its path */
};
const char *mesh_target_text(enum mesh_exec_target t); /* for the trace */

/* `restored`: our LD_PRELOAD is going to be added to envp. */
enum mesh_exec_target mesh_target_judge(const struct mesh_program *p, char *const *envp, bool restored);

/* The value of a variable; NULL. */
const char *mesh_target_variable(char *const *envp, const char *name);

#endif
