/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl's command line: `meshctl [-o text|json|yaml] [-p PID] COMMAND [ARGUMENT...]`. The two options may also follow
 * the command; those of a command are its own.
 */
#ifndef MESH_CTL_ARGS_H
#define MESH_CTL_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include "shim/base/err.h"
#include "shim/ctl/out.h"

enum { MESH_CTL_PICKS_MAX = 100000 };

struct mesh_ctl_args {
    enum mesh_ctl_format format;
    int pid;              /* -p; 0: ourselves */
    const char *command;  /* NULL: none, help was asked for */
    const char *operand;  /* NAME, NAME:PORT or LEVEL[:FILE]; NULL: none */
    const char *file;     /* check -f FILE */
    const char *hash;     /* pick --hash TEXT */
    int picks;            /* pick -n; default 1 */
    bool explain, procs, follow;
};

/* MESH_E_INVALID: wrong use, why says which. Pointers are into argv. */
int mesh_ctl_args_parse(int argc, char *const *argv, struct mesh_ctl_args *ret, struct mesh_why *why) MESH_MUST_CHECK;

/* Splits NAME[:PORT]; port 0: none. MESH_E_INVALID: too long, or a bad port. */
int mesh_ctl_name_split(const char *text, char ret_name[256], uint16_t *ret_port) MESH_MUST_CHECK;

#endif
