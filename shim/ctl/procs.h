/* SPDX-License-Identifier: Apache-2.0
 *
 * Why a process has not the library.
 */
#ifndef MESH_CTL_PROCS_H
#define MESH_CTL_PROCS_H

#include <stdbool.h>
#include "shim/ctl/elf.h"

enum mesh_ctl_reason {
    MESH_CTL_STATIC,
    MESH_CTL_GO,
    MESH_CTL_SECURE,
    MESH_CTL_OTHER_LIBC,
    MESH_CTL_OTHER_CLASS,
    MESH_CTL_NOT_LOADED,
    MESH_CTL_STARTED_WITHOUT,
    MESH_CTL_UNKNOWN,
};

/* `secure`: AT_SECURE; `preloaded`: its environment's LD_PRELOAD names the library. */
enum mesh_ctl_reason mesh_ctl_reason_judge(const struct mesh_ctl_elf *e, bool secure, bool preloaded);
const char *mesh_ctl_reason_word(enum mesh_ctl_reason r);

#endif
