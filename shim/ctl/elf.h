/* SPDX-License-Identifier: Apache-2.0
 *
 * Can a program be given the library by LD_PRELOAD at all? Answered from its ELF headers, which may be damaged or hostile:
 * every offset is bounded, nothing is mapped.
 */
#ifndef MESH_CTL_ELF_H
#define MESH_CTL_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "shim/base/err.h"

/* Reads up to n bytes at an offset: bytes read, 0 at the end, negative on failure. */
typedef ssize_t mesh_ctl_read_at(void *source, void *ret_bytes, size_t n, uint64_t offset);

struct mesh_ctl_elf {
    bool same_class;   /* 64-bit, and of this machine */
    bool go;           /* a Go program: dials by itself, even where it is linked dynamically */
    char interp[256];  /* "" : static */
};
/* MESH_E_SYNTAX: no ELF program; MESH_E_IO: cannot be read. */
int mesh_ctl_elf_read(mesh_ctl_read_at *read_at, void *source, struct mesh_ctl_elf *ret) MESH_MUST_CHECK;
mesh_ctl_read_at mesh_ctl_read_fd; /* source: int * */

/* Is it the dynamic loader of glibc? */
bool mesh_ctl_interp_is_glibc(const char *interp);

#endif
