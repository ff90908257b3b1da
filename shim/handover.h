/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections that cross into another program (DESIGN D9, D11). The slab is the tree's, so little moves: the new program
 * inherits the sockets and, besides them, the slab's descriptor, and one environment variable says which is what:
 *
 *     MESHSHIM_TREE=<slab fd>:<layout>:<tree>:<process entry>:<fd>=<slot>.<generation>.<inode>[.<mode>.<port>],...
 *
 * numbers in hex. Mode and port are there when nobody has touched an accepted connection: it needs no shared state, so it
 * crosses also where the slab does not (another user, another version of the library, no slab descriptor). Mode 0 is a socket
 * that nobody has connected yet (shim/fresh.h): it crosses always, as our knowledge of it does where it can. All else that
 * may not cross is replaced by a dead socket, traced; the connection lives on for its other holders.
 */
#ifndef MESH_SHIM_HANDOVER_H
#define MESH_SHIM_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shim/exec_target.h"

enum {
    MESH_CROSS_FEW = 64,   /* crossings of so many take no memory but the caller's stack */
    MESH_CROSS_MAX = 2600, /* descriptors that cross: the kernel takes strings of 128 KiB. The rest becomes dead */
    MESH_CROSS_TEXT = 45,  /* at most, for each */
    MESH_TREE_HEAD = 80,
};
#define MESH_TREE_VARIABLE "MESHSHIM_TREE"

struct mesh_cross {
    int fd; /* its number there */
    uint32_t slot;
    bool dead; /* it does not cross: a dead socket takes its place */
};
struct mesh_crossing { /* the mesh connections that the new program would inherit */
    int n, room;
    int lacking; /* so many found no room: the program must not be started so */
    struct mesh_cross *at;
    struct mesh_cross few[MESH_CROSS_FEW];
};

void mesh_crossing_init(struct mesh_crossing *x);
void mesh_crossing_done(struct mesh_crossing *x);
/* What this process would pass on by exec as it is. A vfork child, whose memory is its parent's, has room for MESH_CROSS_FEW
 * or for what it has put in `at` and `room`; it may come again with more. */
void mesh_crossing_find(struct mesh_crossing *x);
/* One more. false: there is no memory. */
bool mesh_crossing_add(struct mesh_crossing *x, int fd, uint32_t slot);
/* Bytes that the variable's text may take. */
size_t mesh_crossing_text(const struct mesh_crossing *x);
/* Drives handshakes under way to their ends, bounded by their deadlines. Not in a vfork child. */
void mesh_crossing_settle(const struct mesh_crossing *x);
/* Marks as dead what may not cross into a program that was judged so, one trace line for the lot. True when any is left. */
bool mesh_crossing_judge(struct mesh_crossing *x, enum mesh_exec_target t, const char *program);

/* Holds the connections for the new program; `pid` 0: not known yet. Returns the process entry. */
uint32_t mesh_handover_hold(const struct mesh_crossing *x, int pid);
/* It did not come to it. */
void mesh_handover_cancel(const struct mesh_crossing *x, uint32_t entry);
/* The variable's text, NAME=VALUE, in mesh_crossing_text() bytes. */
void mesh_handover_text(const struct mesh_crossing *x, uint32_t entry, char *ret);

/* At start-up: takes over what the last program left, and the variable out of the environment. `usable`: the library is to
 * work here; if not, what crossed is made dead. True when something was taken over: the process is mesh whatever its
 * environment says. */
bool mesh_handover_take(char **envp, bool usable);
/* The trace line of a connection that arrived; `by` is exec or scm. Threads: any, signal-safe. */
void mesh_handover_trace(int fd, const char *by);

#endif
