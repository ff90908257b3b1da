/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/inner.h"

size_t mesh_path_down(struct mesh_path *p, const char *fmt, ...) {
    size_t mark = p->len, room = sizeof(p->text) - mark;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(p->text + mark, room, fmt, ap);
    va_end(ap);
    if (n > 0)
        p->len = (size_t)n < room ? mark + (size_t)n : sizeof(p->text) - 1;
    return mark;
}

size_t mesh_path_field(struct mesh_path *p, const char *name) {
    return mesh_path_down(p, p->len ? ".%s" : "%s", name);
}

void mesh_path_up(struct mesh_path *p, size_t mark) {
    p->len = mark;
    p->text[mark] = '\0';
}

/* Its head says which resource, its end which field. */
void mesh_path_brief(const struct mesh_path *p, char ret[MESH_BRIEF_MAX]) {
    enum { HEAD = 44, TAIL = 60 };
    if (p->len < MESH_BRIEF_MAX)
        memcpy(ret, p->text, p->len + 1);
    else
        snprintf(ret, MESH_BRIEF_MAX, "%.*s...%s", HEAD, p->text, p->text + p->len - TAIL);
}
