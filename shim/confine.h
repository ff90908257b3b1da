/* SPDX-License-Identifier: Apache-2.0
 *
 * A process that gives up what it may do: another user, another root, other namespaces, a seccomp filter (DESIGN D12). It
 * lives on what it has mapped: view and identity are brought in before, and when it can no longer read its identity's files
 * that is said then, not when the certificate runs out.
 */
#ifndef MESH_SHIM_CONFINE_H
#define MESH_SHIM_CONFINE_H

/* A filter is about to be installed (seccomp's first and last argument): what is needed later is brought in, handshakes are
 * taken to their ends. */
void mesh_confine_before(unsigned operation);
/* It is installed. `program` is asked what it would do to each system call of ours: those that it punishes are not made any
 * more (shim/base/sys.h). A connection then gets by with read, write and poll. */
void mesh_confine_after(unsigned operation, const void *program);

#endif
