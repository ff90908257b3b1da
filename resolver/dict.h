/* SPDX-License-Identifier: Apache-2.0
 *
 * A table of heap objects by their name. The object begins with its item; the name is the object's. Walks go in the order
 * of insertion, and the item at hand may be removed on the way. Threads: one at a time per object.
 */
#ifndef MESH_RESOLVER_DICT_H
#define MESH_RESOLVER_DICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shim/base/err.h"

struct mesh_dict_item {
    const char *name;
    uint64_t hash;
    struct mesh_dict_item *chain;         /* of the same slot */
    struct mesh_dict_item *before, *next; /* in the order of insertion */
};
struct mesh_dict {
    struct mesh_dict_item **slots;
    struct mesh_dict_item *first, *last;
    uint32_t mask, n;
};

void *mesh_dict_find(const struct mesh_dict *d, const char *name, size_t len); /* NULL: none */
/* The name must not be there yet. MESH_E_NOMEM. */
int mesh_dict_add(struct mesh_dict *d, struct mesh_dict_item *item, const char *name) MESH_MUST_CHECK;
void mesh_dict_remove(struct mesh_dict *d, struct mesh_dict_item *item);
void mesh_dict_done(struct mesh_dict *d); /* the table; what is in it is the caller's */

#endif
