/* SPDX-License-Identifier: Apache-2.0
 *
 * The writer of meshctl's structured output: one stream of begin, value, end calls becomes JSON or block YAML. Depth is
 * bounded, text is escaped, bytes that are not UTF-8 become U+FFFD. Inside a map each call has a key, inside a list
 * none (NULL). Nothing fails on the way: mesh_ctl_out_done says whether all was written. Threads: one at a time.
 */
#ifndef MESH_CTL_OUT_H
#define MESH_CTL_OUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "shim/base/err.h"

enum mesh_ctl_format { MESH_CTL_TEXT, MESH_CTL_JSON, MESH_CTL_YAML };

enum { MESH_CTL_DEPTH_MAX = 12 };

struct mesh_ctl_out {
    FILE *file;
    bool yaml;
    bool broken; /* deeper than the bound, or an end without its begin */
    uint8_t depth;
    struct {
        bool list;
        bool any; /* something was written in it */
    } level[MESH_CTL_DEPTH_MAX + 1];
};

void mesh_ctl_out_init(struct mesh_ctl_out *o, FILE *file, bool yaml); /* begins the outermost map */
void mesh_ctl_map_begin(struct mesh_ctl_out *o, const char *key);
void mesh_ctl_list_begin(struct mesh_ctl_out *o, const char *key);
void mesh_ctl_end(struct mesh_ctl_out *o);
void mesh_ctl_str(struct mesh_ctl_out *o, const char *key, const char *value); /* NULL value: null */
void mesh_ctl_int(struct mesh_ctl_out *o, const char *key, int64_t value);
void mesh_ctl_bool(struct mesh_ctl_out *o, const char *key, bool value);
void mesh_ctl_ms(struct mesh_ctl_out *o, const char *key, uint64_t ns); /* milliseconds with one decimal */
/* A value that is JSON already (YAML reads it as well); the caller vouches for it. */
void mesh_ctl_raw(struct mesh_ctl_out *o, const char *key, const char *json);
/* Ends the outermost map and the line. MESH_E_IO: not written; MESH_E_INTERNAL: begin and end do not match. */
int mesh_ctl_out_done(struct mesh_ctl_out *o) MESH_MUST_CHECK;

#endif
