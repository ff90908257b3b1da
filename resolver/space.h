/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a publisher puts records: the free runs of the file, found by marking what the root in force reaches,
 * and more of the file when they are used up. Nothing is given back: what a transaction made and did not
 * publish, and what a publication replaced, is found free by the next collection. State is in the publisher's
 * heap and dies with it. Threads: publisher only.
 */
#ifndef MESH_RESOLVER_SPACE_H
#define MESH_RESOLVER_SPACE_H

#include "resolver/view.h"

enum { SPACE_BINS = 31 };
struct space_run {
    uint32_t first, granules;
    uint32_t next; /* in its bin, index + 1 */
};
struct mesh_space {
    struct mesh_view *v;
    struct space_run *runs;
    uint32_t nruns, room;
    uint32_t bins[SPACE_BINS]; /* runs of at least 2^n granules, index + 1 */
    uint32_t spare_runs;       /* unused entries of runs, index + 1 */
    uint64_t *marks;           /* a bit a granule, while collecting */
    uint32_t nmarks;           /* granules that marks covers */
    uint64_t total, made;      /* granules: of all extents, handed out since the last collection */
    bool grew;                 /* the free runs did not suffice since then */
};

/* Finds the free space: everything that `root` (may be NULL) does not reach. Raises `recycled`. MESH_E_NOMEM;
 * MESH_E_INTERNAL: the root is damaged, nothing of it may be kept. */
int mesh_space_collect(struct mesh_space *s, const struct view_root *root) MESH_MUST_CHECK;
/* Is a collection due? Enough was made since the last one to pay for it. */
bool mesh_space_full(const struct mesh_space *s);
void mesh_space_done(struct mesh_space *s);
/* Memory for one record; its header is filled in, the rest is what was there before. MESH_E_NOMEM, _LIMIT,
 * _IO. */
int mesh_space_new(struct mesh_space *s, uint32_t kind, size_t len, uint32_t *ret_ref,
                   void **ret_rec) MESH_MUST_CHECK;
/* Granules for a counters' slab, aligned to VIEW_SLAB_GRANULES. */
int mesh_space_slab(struct mesh_space *s, uint32_t *ret_first) MESH_MUST_CHECK;

/* ---- marking (resolver/mark.c)
 * ------------------------------------------------------------------------------- */
/* Marks what the root reaches. MESH_E_INTERNAL: it is damaged. */
int mesh_mark_root(struct mesh_space *s, const struct view_root *root) MESH_MUST_CHECK;
bool mesh_mark_set(struct mesh_space *s, uint32_t first, uint32_t granules); /* false: out of bounds */

#endif
