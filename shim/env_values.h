/* SPDX-License-Identifier: Apache-2.0
 *
 * One parser a kind of value (the second column of shim/env.def); used by env.c alone. Each gets the member of struct
 * mesh_env that it fills and a private copy of the value, which it may cut up and keep. Returns 0, MESH_E_NOMEM, or
 * another error with p->why saying what is wrong; the member then holds its default or the strict reading.
 */
#ifndef MESH_SHIM_ENV_VALUES_H
#define MESH_SHIM_ENV_VALUES_H

#include "shim/base/err.h"
#include "shim/env.h"

enum { MESH_ENV_PATH_MAX = 4096, MESH_ENV_ENTRIES_MAX = 256 };

struct mesh_env_parser {
    struct mesh_env *env;
    const char *cwd;    /* NULL: relative names stay */
    char *next, *end;   /* free rest of env->block */
    struct mesh_why why;
};

typedef int mesh_env_value_fn(struct mesh_env_parser *p, void *field, char *value);

mesh_env_value_fn mesh_env_value_path, mesh_env_value_directory, mesh_env_value_text, mesh_env_value_domains,
    mesh_env_value_peers, mesh_env_value_callers, mesh_env_value_inbound, mesh_env_value_ranges,
    mesh_env_value_ranges_and_names, mesh_env_value_pools, mesh_env_value_tls, mesh_env_value_duration,
    mesh_env_value_age, mesh_env_value_hash_key, mesh_env_value_trace, mesh_env_value_programs, mesh_env_value_off;

/* The next entry of a comma-separated list, NUL-terminated in place, blanks around it cut off; NULL at the end. */
char *mesh_env_entry_next(char **io_rest);

#endif
