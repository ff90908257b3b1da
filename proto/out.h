/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes nested maps and lists as JSON or as YAML in block form, into a growing heap text. The caller keeps
 * one struct mesh_level for each open map or list; an empty one prints as {} or []. A failed write makes all
 * later ones void; ask mesh_out_done. Threads: one at a time.
 */
#ifndef MESH_PROTO_OUT_H
#define MESH_PROTO_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include "shim/base/err.h"

struct mesh_out {
    char *text;
    size_t n, cap;
    bool failed;
    bool yaml;
    bool bare;  /* YAML: what comes next follows "- " directly */
    int indent; /* columns a level; JSON with 0: one line */
    int level;
};

struct mesh_level {
    bool used; /* it has an entry */
};

void mesh_out_init(struct mesh_out *o, bool yaml, int indent);
void mesh_out_open(struct mesh_out *o, struct mesh_level *l);
void mesh_out_key(struct mesh_out *o, struct mesh_level *l, const char *key);
void mesh_out_item(struct mesh_out *o, struct mesh_level *l);
void mesh_out_close(struct mesh_out *o, const struct mesh_level *l, bool list);
void mesh_out_word(struct mesh_out *o, const char *word);           /* number, true, null */
void mesh_out_text(struct mesh_out *o, const char *text, size_t n); /* quoted when it must be */
/* Ends the text with a newline and gives it away; MESH_E_NOMEM. */
int mesh_out_done(struct mesh_out *o, char **ret_text) MESH_MUST_CHECK;

#endif
