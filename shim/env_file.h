/* SPDX-License-Identifier: Apache-2.0
 *
 * The defaults file, /etc/meshshim.conf: lines `NAME=value`, empty lines, and comments that begin with #. Used by env.c.
 */
#ifndef MESH_SHIM_ENV_FILE_H
#define MESH_SHIM_ENV_FILE_H

#include <stddef.h>
#include <sys/types.h>
#include "shim/base/err.h"

#define MESH_ENV_FILE "/etc/meshshim.conf"
enum { MESH_ENV_FILE_MAX = 64 * 1024 };

/* Reads the file into a NUL-terminated heap block (free()). MESH_E_NOTFOUND: there is none (one failed open, no
 * heap); MESH_E_INVALID, why: not a plain file, not `owner`'s, writable by others, over MESH_ENV_FILE_MAX, holds a NUL;
 * MESH_E_IO; MESH_E_NOMEM. */
int mesh_env_file_read(const char *path, uid_t owner, char **ret_text, struct mesh_why *why) MESH_MUST_CHECK;

/* Steps through the text, which is cut up in place: 1 and the next NAME and value, blanks around both cut off; 0 at
 * the end; MESH_E_SYNTAX for a line that is neither (*ret_name is the line: going on is fine). */
int mesh_env_file_next(char **io_rest, char **ret_name, char **ret_value) MESH_MUST_CHECK;

#endif
