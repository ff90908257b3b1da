/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "resolver/dict.h"
#include "resolver/view.h"

enum { SLOTS_FIRST = 16 };

void *mesh_dict_find(const struct mesh_dict *d, const char *name, size_t len) {
    uint64_t h = d->slots ? mesh_hash_bytes(name, len, 0) : 0;
    struct mesh_dict_item *i = d->slots ? d->slots[h & d->mask] : NULL;
    while (i && (i->hash != h || strlen(i->name) != len || memcmp(i->name, name, len) != 0))
        i = i->chain;
    return i;
}

static int grow(struct mesh_dict *d) {
    uint32_t slots = d->slots ? (d->mask + 1) * 2 : SLOTS_FIRST;
    struct mesh_dict_item **p = calloc(slots, sizeof(*p));
    if (!p)
        return MESH_E_NOMEM;
    for (struct mesh_dict_item *i = d->first; i; i = i->next) {
        i->chain = p[i->hash & (slots - 1)];
        p[i->hash & (slots - 1)] = i;
    }
    free(d->slots);
    d->slots = p;
    d->mask = slots - 1;
    return 0;
}

int mesh_dict_add(struct mesh_dict *d, struct mesh_dict_item *item, const char *name) {
    int rc = !d->slots || d->n > d->mask ? grow(d) : 0;
    if (rc)
        return rc;
    item->name = name;
    item->hash = mesh_hash_bytes(name, strlen(name), 0);
    item->chain = d->slots[item->hash & d->mask];
    d->slots[item->hash & d->mask] = item;
    item->before = d->last;
    item->next = NULL;
    *(d->last ? &d->last->next : &d->first) = item;
    d->last = item;
    d->n++;
    return 0;
}

void mesh_dict_remove(struct mesh_dict *d, struct mesh_dict_item *item) {
    struct mesh_dict_item **at = &d->slots[item->hash & d->mask];
    while (*at != item)
        at = &(*at)->chain;
    *at = item->chain;
    *(item->before ? &item->before->next : &d->first) = item->next;
    *(item->next ? &item->next->before : &d->last) = item->before;
    d->n--;
}

void mesh_dict_done(struct mesh_dict *d) {
    free(d->slots);
    *d = (struct mesh_dict){.slots = NULL};
}
