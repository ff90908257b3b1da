/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/space.h"
#include <stdlib.h>
#include "shim/base/mem.h"

enum { GROW_LEAST = 4096 /* granules */ };

static uint32_t bin_of(uint32_t granules) { /* largest n with 2^n <= granules */
    return 31 - (uint32_t)__builtin_clz(granules);
}

static int new_run(struct mesh_space *s, uint32_t *ret_i) {
    if (s->spare_runs) {
        *ret_i = s->spare_runs - 1;
        s->spare_runs = s->runs[*ret_i].next;
        return 0;
    }
    if (s->nruns == s->room) {
        uint32_t room = s->room ? s->room * 2 : 256;
        struct space_run *runs = realloc(s->runs, room * sizeof *runs);
        if (!runs)
            return MESH_E_NOMEM;
        s->runs = runs;
        s->room = room;
    }
    *ret_i = s->nruns++;
    return 0;
}

static void bin_run(struct mesh_space *s, uint32_t i) {
    uint32_t *bin = &s->bins[bin_of(s->runs[i].granules)];
    s->runs[i].next = *bin;
    *bin = i + 1;
}

static int add_run(struct mesh_space *s, uint32_t first, uint32_t granules) {
    uint32_t i;
    if (!granules)
        return 0;
    int rc = new_run(s, &i);
    if (rc < 0)
        return rc;
    s->runs[i].first = first;
    s->runs[i].granules = granules;
    bin_run(s, i);
    return 0;
}

/* A run that certainly fits comes from the bins above; the bin of the size itself may hold a shorter one, so
 * only its first entry is looked at. */
static uint32_t take_run(struct mesh_space *s, uint32_t granules) {
    for (uint32_t b = bin_of(granules); b < SPACE_BINS; b++) {
        uint32_t i = s->bins[b];
        if (i && s->runs[i - 1].granules >= granules) {
            s->bins[b] = s->runs[i - 1].next;
            return i;
        }
    }
    return 0;
}

static int more(struct mesh_space *s, uint32_t granules) {
    uint32_t first, n = (uint32_t)(s->total / 2);
    if (n < GROW_LEAST)
        n = GROW_LEAST;
    if (n < granules)
        n = granules;
    int rc = mesh_view_grow(s->v, EXTENT_RECORDS, n, &first);
    if (rc < 0 && n > granules) {
        n = granules;
        rc = mesh_view_grow(s->v, EXTENT_RECORDS, n, &first);
    }
    if (rc < 0)
        return rc;
    n = (n + VIEW_SLAB_GRANULES - 1) / VIEW_SLAB_GRANULES * VIEW_SLAB_GRANULES;
    s->total += n;
    s->grew = true;
    return add_run(s, first, n);
}

static int take(struct mesh_space *s, uint32_t granules, uint32_t *ret_first) {
    uint32_t i = take_run(s, granules);
    if (!i) {
        int rc = more(s, granules);
        if (rc < 0)
            return rc;
        i = take_run(s, granules);
        if (!i)
            return MESH_E_INTERNAL;
    }
    struct space_run *r = &s->runs[i - 1];
    *ret_first = r->first;
    r->first += granules;
    r->granules -= granules;
    if (r->granules) {
        bin_run(s, i - 1);
    } else {
        r->next = s->spare_runs;
        s->spare_runs = i;
    }
    s->made += granules;
    return 0;
}

int mesh_space_new(struct mesh_space *s, uint32_t kind, size_t len, uint32_t *ret_ref, void **ret_rec) {
    uint32_t first;
    if (len > (size_t)1 << 31)
        return MESH_E_LIMIT;
    int rc = take(s, (uint32_t)((len + VIEW_GRANULE - 1) / VIEW_GRANULE), &first);
    if (rc < 0)
        return rc;
    struct view_rec *rec = (struct view_rec *)(s->v->base + (size_t)first * VIEW_GRANULE);
    rec->kind = kind;
    rec->len = (uint32_t)len;
    *ret_ref = first;
    *ret_rec = rec;
    return 0;
}

int mesh_space_slab(struct mesh_space *s, uint32_t *ret_first) {
    uint32_t first, aligned;
    int rc = take(s, 2 * VIEW_SLAB_GRANULES - 1, &first);
    if (rc < 0)
        return rc;
    aligned = (first + VIEW_SLAB_GRANULES - 1) / VIEW_SLAB_GRANULES * VIEW_SLAB_GRANULES;
    rc = add_run(s, first, aligned - first);
    if (rc == 0)
        rc = add_run(s, aligned + VIEW_SLAB_GRANULES, first + VIEW_SLAB_GRANULES - 1 - aligned);
    *ret_first = aligned;
    return rc;
}

void mesh_space_done(struct mesh_space *s) {
    free(s->runs);
    free(s->marks);
    *s = (struct mesh_space){0};
}

bool mesh_space_full(const struct mesh_space *s) {
    return s->made > (s->grew ? s->total / 8 : s->total / 2);
}

/* ---- collecting -------------------------------------------------------------------------------------------
 */
bool mesh_mark_set(struct mesh_space *s, uint32_t first, uint32_t granules) {
    if (first >= s->nmarks || granules > s->nmarks - first)
        return false;
    for (uint32_t i = first, end = first + granules; i < end;) {
        if (i % 64 == 0 && end - i >= 64) {
            s->marks[i / 64] = ~UINT64_C(0);
            i += 64;
        } else {
            s->marks[i / 64] |= UINT64_C(1) << (i % 64);
            i++;
        }
    }
    return true;
}

static bool marked(const struct mesh_space *s, uint32_t i) {
    return s->marks[i / 64] >> (i % 64) & 1;
}

/* Space that a publisher of the past may still write, though it was given up: never used while it lives. */
static uint32_t floor_of(const struct view_head *h) {
    uint64_t floor = 0;
    for (int i = 0; i < VIEW_DEPOSED; i++) {
        struct view_deposed *d = (struct view_deposed *)&h->deposed[i];
        uint64_t who = atomic_load(&d->who);
        if (!who)
            continue;
        if (!mesh_lease_lives(who))
            atomic_compare_exchange_strong(&d->who, &who, 0);
        else if (atomic_load(&d->floor) > floor)
            floor = atomic_load(&d->floor);
    }
    return floor > UINT32_MAX ? UINT32_MAX : (uint32_t)floor;
}

static int add_gaps(struct mesh_space *s, uint32_t first, uint32_t end) {
    int rc = 0;
    for (uint32_t i = first; i < end && rc == 0;) {
        if (i % 64 == 0 && s->marks[i / 64] == ~UINT64_C(0)) {
            i += 64;
            continue;
        }
        if (marked(s, i)) {
            i++;
            continue;
        }
        uint32_t from = i;
        while (i < end && !marked(s, i))
            i += i % 64 == 0 && end - i >= 64 && !s->marks[i / 64] ? 64 : 1;
        rc = add_run(s, from, i - from);
    }
    return rc;
}

static int add_extents(struct mesh_space *s) {
    const struct view_head *h = mesh_view_head(s->v);
    uint32_t floor = floor_of(h);
    s->total = s->made = 0;
    s->grew = false;
    for (int i = 0; i < VIEW_EXTENTS; i++) {
        uint64_t word = atomic_load((_Atomic uint64_t *)&h->extents[i]);
        uint32_t first = (uint32_t)word, n = (uint32_t)(word >> 32) & 0x3fffffff;
        if (!word)
            break;
        if (word >> 62 != EXTENT_RECORDS)
            continue;
        if (first < h->head_size / VIEW_GRANULE || first >= s->nmarks || n > s->nmarks - first)
            return MESH_E_INTERNAL;
        s->total += n;
        uint32_t from = first > floor ? first : floor;
        int rc = from < first + n ? add_gaps(s, from, first + n) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool mark_slabs(struct mesh_space *s, const _Atomic uint32_t *slabs, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t first = atomic_load((_Atomic uint32_t *)&slabs[i]);
        if (first && !mesh_mark_set(s, first, VIEW_SLAB_GRANULES))
            return false;
    }
    return true;
}

int mesh_space_collect(struct mesh_space *s, const struct view_root *root) {
    struct view_head *h = mesh_view_head(s->v);
    size_t size = atomic_load(&h->size);
    if (!mesh_view_backed(s->v, size))
        return MESH_E_INTERNAL;
    free(s->marks);
    s->nmarks = (uint32_t)(size / VIEW_GRANULE);
    s->marks = calloc(s->nmarks / 64 + 1, sizeof *s->marks);
    if (!s->marks)
        return MESH_E_NOMEM;
    s->nruns = s->spare_runs = 0;
    memset(s->bins, 0, sizeof s->bins);
    int rc = mark_slabs(s, h->stat_slabs, MESH_ARRAY_LEN(h->stat_slabs)) &&
                     mark_slabs(s, h->live_slabs, MESH_ARRAY_LEN(h->live_slabs))
                 ? 0
                 : MESH_E_INTERNAL;
    if (rc == 0 && root)
        rc = mesh_mark_root(s, root);
    if (rc == 0)
        rc = add_extents(s);
    free(s->marks);
    s->marks = NULL;
    /* From here on free space is written: readers that began before this look again. */
    atomic_fetch_add(&h->recycled, 1);
    return rc;
}
