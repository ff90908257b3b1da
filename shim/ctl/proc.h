/* SPDX-License-Identifier: Apache-2.0
 *
 * Other processes, as /proc shows them. A process may end between two look-ups: then a call says MESH_E_NOTFOUND.
 */
#ifndef MESH_CTL_PROC_H
#define MESH_CTL_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "shim/base/err.h"

enum { MESH_CTL_ENVIRON_MAX = 8 << 20, MESH_CTL_PROGRAM_MAX = 64 };

/* The environment it was started with: one heap block that starts with the vector (free()). MESH_E_NOTFOUND, MESH_E_IO
 * (not ours to read), MESH_E_LIMIT, MESH_E_NOMEM. */
int mesh_ctl_proc_environ(int pid, char ***ret_envp, struct mesh_why *why) MESH_MUST_CHECK;
/* Its effective user. */
int mesh_ctl_proc_uid(int pid, uid_t *ret_uid) MESH_MUST_CHECK;
/* AT_SECURE of its auxiliary vector. */
int mesh_ctl_proc_secure(int pid, bool *ret_secure) MESH_MUST_CHECK;
/* Name of its file without directory; of a kernel thread MESH_E_NOTFOUND. */
int mesh_ctl_proc_program(int pid, char ret_name[MESH_CTL_PROGRAM_MAX]) MESH_MUST_CHECK;
/* Has it mapped a file of this name (libmeshshim.so)? */
int mesh_ctl_proc_has_mapped(int pid, const char *file, bool *ret_has) MESH_MUST_CHECK;
/* Is it in our mount namespace, so that names of files mean the same? */
bool mesh_ctl_proc_same_files(int pid);
/* Calls fn for each process; stops when it returns false. MESH_E_IO: no /proc. */
int mesh_ctl_proc_each(bool (*fn)(void *arg, int pid), void *arg) MESH_MUST_CHECK;

/* Which sockets are internet sockets, by network namespace. */
struct mesh_ctl_sockets;
int mesh_ctl_sockets_new(struct mesh_ctl_sockets **ret_s) MESH_MUST_CHECK;
void mesh_ctl_sockets_free(struct mesh_ctl_sockets *s);
/* Does the process hold a TCP or UDP socket? MESH_E_IO: its descriptors are not ours to see. */
int mesh_ctl_sockets_held(struct mesh_ctl_sockets *s, int pid, bool *ret_held) MESH_MUST_CHECK;

#endif
