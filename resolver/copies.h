/* SPDX-License-Identifier: Apache-2.0
 *
 * The resources that a view keeps beside its flat form, copied out of it at one moment. Threads: any.
 */
#ifndef MESH_RESOLVER_COPIES_H
#define MESH_RESOLVER_COPIES_H

#include "resolver/view.h"

struct mesh_copy {
    char *type, *name, *path, *why;
    uint8_t *bytes;
    size_t n;
    uint8_t rank; /* enum mesh_rank */
};
struct mesh_copies {
    struct mesh_copy *items;
    uint32_t n, room;
};
/* MESH_E_NOMEM; MESH_E_INTERNAL: the view is damaged; MESH_E_AGAIN: it changes too fast. */
int mesh_copies_all(const struct mesh_view *v, struct mesh_copies *ret) MESH_MUST_CHECK;
void mesh_copies_done(struct mesh_copies *c);

#endif
