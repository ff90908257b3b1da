/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/inner.h"

/* Messages of the largest text fit; what is far beyond is an attack. */
static const size_t heap_ceiling = (size_t)256 << 20;

void mesh_reading_init(struct mesh_reading *r, const struct mesh_read_opts *opts, struct mesh_why *why) {
    r->opts = opts;
    r->why = why;
    r->refused = NULL;
    r->unit = r->total = 0;
    r->path.len = 0;
    r->path.text[0] = '\0';
    mesh_heap_init(&r->heap, heap_ceiling);
}

static void say(const struct mesh_reading *r, struct mesh_why *why, int err, const struct mesh_node *at,
                const char *what) {
    const char *file = r->opts && r->opts->file ? r->opts->file : "view";
    char path[MESH_BRIEF_MAX];
    mesh_path_brief(&r->path, path);
    mesh_why(why, err, "%s:%u:%u: %s%s%s", file, at->line, at->column, path, *path ? ": " : "", what);
}

int mesh_reading_fail(struct mesh_reading *r, int err, const struct mesh_node *at, const char *fmt, ...) {
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    if (err != MESH_E_UNSUPPORTED || !r->refused) {
        say(r, r->why, err, at, what);
        return err;
    }
    if (!r->refused->text[0])
        say(r, r->refused, err, at, what);
    return 0;
}

int mesh_reading_enter(struct mesh_reading *r, const struct mesh_node *at) {
    if (r->unit == MESH_UNIT_DEPTH || r->total == MESH_TOTAL_DEPTH)
        return mesh_reading_fail(r, MESH_E_LIMIT, at, "messages are nested too deep");
    r->unit++;
    r->total++;
    return 0;
}

void mesh_reading_leave(struct mesh_reading *r) {
    r->unit--;
    r->total--;
}

int mesh_reading_no_room(struct mesh_reading *r, const struct mesh_node *at) {
    int err = mesh_heap_err(&r->heap);
    return mesh_reading_fail(r, err, at, "%s",
                             err == MESH_E_LIMIT ? "the messages take too much memory" : "out of memory");
}

void mesh_reading_warn(struct mesh_reading *r, const struct mesh_node *at, const char *what) {
    if (r->opts && r->opts->warn)
        r->opts->warn(r->opts->arg, r->path.text, at->line, at->column, what);
}
