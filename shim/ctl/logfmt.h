/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads trace lines (shim/base/trace.h writes them) back. No heap.
 */
#ifndef MESH_CTL_LOGFMT_H
#define MESH_CTL_LOGFMT_H

#include <stdbool.h>
#include <stddef.h>

enum { MESH_CTL_LINE_MAX = 1024 };

struct mesh_ctl_line {
    long pid;
    char level[8], event[24];
    const char *rest; /* the fields; points into the line */
};

/* `meshshim[PID] LEVEL EVENT FIELDS`; false when it is no such line. */
bool mesh_ctl_line_parse(const char *text, struct mesh_ctl_line *ret);

struct mesh_ctl_field {
    char key[32];
    char value[MESH_CTL_LINE_MAX]; /* unquoted; NUL bytes are dropped */
};
/* Steps to the next field of *io_rest; false at the end, or where the text is not KEY=VALUE. */
bool mesh_ctl_field_next(const char **io_rest, struct mesh_ctl_field *ret);

/* Is the line about this name? True when its field `name` is NAME or NAME:PORT. */
bool mesh_ctl_line_is_about(const struct mesh_ctl_line *l, const char *name);

#endif
