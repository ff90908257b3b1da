/* SPDX-License-Identifier: Apache-2.0
 *
 * The writing side of the view's tables: arrays of slots in pages that are copied when first changed, so that
 * a publication that changes one entry writes one page and one directory however large the table is. Used by
 * the publisher only, between mesh_wpages_open and _commit; what is not committed is never seen. Threads:
 * publisher only.
 */
#ifndef MESH_RESOLVER_PAGES_H
#define MESH_RESOLVER_PAGES_H

#include "resolver/space.h"
#include "resolver/view.h"

struct mesh_wpages {
    struct mesh_space *s;
    struct view_pages p;
    uint32_t *dir; /* p.npages references */
    uint8_t *mine; /* page made by this transaction: may be written in place */
    uint32_t room; /* entries that dir and mine have room for */
    bool changed;
};
/* `p` NULL or empty: starts empty. MESH_E_NOMEM. */
int mesh_wpages_open(struct mesh_wpages *w, struct mesh_space *s, const struct view_pages *p) MESH_MUST_CHECK;
void mesh_wpages_done(struct mesh_wpages *w);
uint64_t mesh_wpages_get(const struct mesh_wpages *w, uint32_t i);
int mesh_wpages_set(struct mesh_wpages *w, uint32_t i, uint64_t slot) MESH_MUST_CHECK;
/* Writes the directory; from here on the pages are no longer ours to change. */
int mesh_wpages_commit(struct mesh_wpages *w, struct view_pages *ret) MESH_MUST_CHECK;

int mesh_wmap_reserve(struct mesh_wpages *w, uint32_t entries) MESH_MUST_CHECK;
int mesh_wmap_add(struct mesh_wpages *w, uint64_t hash, uint32_t ref) MESH_MUST_CHECK;
uint32_t mesh_wmap_find(const struct mesh_wpages *w, uint64_t hash, mesh_map_match *match,
                        const void *key); /* 0: none */
/* ref 0 removes. MESH_E_NOTFOUND. */
int mesh_wmap_replace(struct mesh_wpages *w, uint64_t hash, mesh_map_match *match, const void *key,
                      uint32_t ref) MESH_MUST_CHECK;

#endif
