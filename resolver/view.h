/* SPDX-License-Identifier: Apache-2.0
 *
 * One process's attachment to a view, and the checked reads that everything else in this room goes through. A
 * pointer from mesh_view_rec is into mapped memory that others may change: lengths and references are read
 * once into locals, checked against the record's own length, and the whole reading is thrown away unless
 * mesh_view_still says yes.
 */
#ifndef MESH_RESOLVER_VIEW_H
#define MESH_RESOLVER_VIEW_H

#include <string.h>
#include "resolver/bootstrap.h"
#include "resolver/layout.h"
#include "resolver/resolver.h"

enum { VIEW_DOMAINS_MAX = 64, VIEW_RETRIES = 64 };

struct view_domain {
    char text[MESH_NAME_MAX + 1]; /* lower case, no dots at the ends */
    uint16_t len;
    bool or_libc; /* written with `?` */
};

struct mesh_view {
    uint8_t *base;
    size_t span;          /* bytes of address space mapped; the file may be shorter */
    _Atomic size_t limit; /* bytes known to be backed: only these are touched */
    bool is_private;
    dev_t dev;
    ino_t ino;
    char *path;                      /* of the mapping, NULL: private */
    char *source;                    /* MESH_VIEW, NULL: none */
    char *seed;                      /* MESH_VIEW_SEED, NULL: none */
    bool learns;                     /* a bootstrap is set: names may become known later */
    struct mesh_bootstrap *bootstrap; /* NULL: none, or a wrong one */
    _Atomic bool is_stale;           /* older than MESH_VIEW_MAX_AGE when attached: not used until confirmed */
    int64_t stale_since;             /* what `confirmed` was then */
    char *hash_text;                 /* MESH_HASH_KEY */
    _Atomic uint64_t source_ip_hash; /* 0: not known */
    enum mesh_tls_default tls;
    uid_t uid;
    uint64_t boot;
    struct mesh_cidr_list *exclude, *capture, *virtual_ranges;
    uint32_t ndomains;
    struct view_domain *domains;
    _Atomic uint32_t chunk_hint;
};

static inline struct view_head *mesh_view_head(const struct mesh_view *v) {
    return (struct view_head *)v->base;
}
static inline size_t mesh_view_limit(const struct mesh_view *v) {
    return atomic_load_explicit(&((struct mesh_view *)v)->limit, memory_order_relaxed);
}
/* Is everything below `end` backed by the file? Looks at a file that grew since. */
bool mesh_view_reach(const struct mesh_view *v, size_t end);

static inline bool mesh_view_backed(const struct mesh_view *v, size_t end) {
    return end <= mesh_view_limit(v) || mesh_view_reach(v, end);
}

/* The record at `ref` when it is of that kind, at least `min` bytes long and inside the mapping; else NULL.
 */
static inline const void *mesh_view_rec(const struct mesh_view *v, uint32_t ref, uint32_t kind, size_t min,
                                        uint32_t *ret_len) {
    size_t at = (size_t)ref * VIEW_GRANULE;
    if (!ref || !mesh_view_backed(v, at + VIEW_GRANULE))
        return NULL;
    const volatile struct view_rec *r = (const volatile struct view_rec *)(v->base + at);
    uint32_t len = r->len;
    if (r->kind != kind || len < min || !mesh_view_backed(v, at + len))
        return NULL;
    *ret_len = len;
    return v->base + at;
}

/* The bytes of a span inside a record of `len` bytes; NULL when it does not lie inside or is not aligned. */
static inline const void *mesh_view_span(const void *rec, uint32_t len, const struct view_span *where,
                                         uint32_t align, uint32_t *ret_len) {
    uint32_t off = ((const volatile struct view_span *)where)->off,
             n = ((const volatile struct view_span *)where)->len;
    bool inside = off <= len && n <= len - off && !(off & (align - 1));
    *ret_len = inside ? n : 0;
    if (!inside)
        return NULL;
    return (const uint8_t *)rec + off;
}
/* Copies a span's text, cut and NUL-terminated; false (and an empty text) when it is not inside. */
bool mesh_view_text(const void *rec, uint32_t len, const struct view_span *where, char *ret_text, size_t cap);

/* Starts a reading: the root in force (NULL: nothing was published, or it is too old) and the sequence for
 * mesh_view_still. */
const struct view_root *mesh_view_begin(const struct mesh_view *v, uint64_t *ret_seq);

/* ---- slots in pages (resolver/pages.c has the writing side)
 * ---------------------------------------------------- */
struct view_reader { /* a table as one reading sees it */
    const struct mesh_view *v;
    const uint32_t *dir;
    uint32_t npages, used;
};
/* False: there is no such table (empty) or it is damaged. */
bool mesh_pages_open(const struct mesh_view *v, const struct view_pages *p, struct view_reader *ret);
static inline uint64_t mesh_pages_get(const struct view_reader *r, uint32_t i) {
    uint32_t len, page = i / VIEW_PAGE_SLOTS;
    if (page >= r->npages)
        return 0;
    const struct view_page *p = (const struct view_page *)mesh_view_rec(
        r->v, ((const volatile uint32_t *)r->dir)[page], KIND_PAGE, sizeof(struct view_page), &len);
    return p ? ((const volatile uint64_t *)p->slots)[i % VIEW_PAGE_SLOTS] : 0;
}

/* Hash tables: a slot is hash << 32 | reference; linear probing. `match` is asked for each slot of that hash.
 */
typedef bool mesh_map_match(const struct mesh_view *v, uint32_t ref, const void *key);
enum { VIEW_PROBES = 1024 };
#define SLOT_DEAD UINT32_C(0xffffffff)
uint32_t mesh_map_find(const struct mesh_view *v, const struct view_pages *p, uint64_t hash,
                       mesh_map_match *match, const void *key); /* 0: none */
static inline uint32_t mesh_hash_slot(uint64_t hash) {          /* what a slot keeps of a hash, never 0 */
    return (uint32_t)(hash >> 32) | 1;
}
static inline uint32_t mesh_slot_start(uint32_t tag) { /* where its probe begins, before the table's mask */
    return tag >> 1;
}

uint64_t mesh_hash_bytes(const void *p, size_t n, uint64_t seed);
uint64_t mesh_hash_addr(int family, const void *addr, uint16_t port);
uint64_t mesh_hash_range(int family, const void *addr, uint16_t port,
                         uint8_t range);             /* range 0: mesh_hash_addr */
void mesh_mask_addr(uint8_t addr[16], uint8_t bits); /* all behind the first bits to 0 */

struct mesh_text_key {
    const char *text;
    size_t len;
};
struct mesh_addr_key {
    int family;
    const uint8_t *addr; /* of a range: its first */
    uint16_t port;
    uint8_t range; /* bits of a range + 1; 0: one address */
};
mesh_map_match mesh_match_name;         /* struct mesh_text_key */
mesh_map_match mesh_match_cluster_name; /* struct mesh_text_key */
mesh_map_match mesh_match_addr;         /* struct mesh_addr_key */
mesh_map_match mesh_match_assign;       /* uint64_t */

/* Lower-cases a name and drops one trailing dot. 0: empty, too long, or not a name. */
size_t mesh_name_normal(const char *name, char ret_name[MESH_NAME_MAX + 1]);

/* ---- files (resolver/file.c)
 * -------------------------------------------------------------------------------- */
/* Maps RUN_DIR/DIGEST.view into `v`, creating or replacing it when needed; a private mapping when the
 * directory cannot be used. MESH_E_INVALID: the directory is not ours alone. */
int mesh_view_map(struct mesh_view *v, const char *run_dir, const uint8_t digest[16],
                  struct mesh_why *why) MESH_MUST_CHECK;
/* Takes `granules` more at the end of the file for us. MESH_E_LIMIT, MESH_E_IO (disk full, file replaced). */
int mesh_view_grow(struct mesh_view *v, enum view_extent kind, uint32_t granules,
                   uint32_t *ret_first) MESH_MUST_CHECK;
uint64_t mesh_boot_id(void);
uint64_t mesh_process_start(int pid);             /* 0: not known; UINT64_MAX: dead, not waited for */
bool mesh_process_lives(int pid, uint64_t start); /* start 0: no look into /proc */
bool mesh_lease_lives(uint64_t word);             /* the process behind a lease's word */
/* Reads a file of at most `max` bytes, NUL-terminated. MESH_E_IO with why, MESH_E_LIMIT, MESH_E_NOMEM. */
int mesh_file_read(const char *path, size_t max, char **ret_text, size_t *ret_len,
                   struct mesh_why *why) MESH_MUST_CHECK;

/* ---- source (resolver/source.c)
 * ----------------------------------------------------------------------------- */
int mesh_source_first(struct mesh_view *v, uint64_t now, struct mesh_why *why) MESH_MUST_CHECK;
uint64_t mesh_source_stamp(const char *path); /* 0: there is none */
struct mesh_resources;
int mesh_source_read(const char *path, struct mesh_resources **ret, struct mesh_why *why) MESH_MUST_CHECK;
void mesh_source_say(struct mesh_view *v, const char *error); /* what describe tells; "": all is well */
/* Does a standing publisher build this view, so that the file alone would not say all? */
bool mesh_source_published(const struct mesh_view *v);

/* ---- virtual addresses (resolver/virtual.c)
 * -------------------------------------------------------------------- */
/* The n-th candidate for a name: n counts collisions. False: the ranges hold no address of that family. */
bool mesh_virtual_at(const struct mesh_cidr_list *ranges, int family, uint64_t name_hash, uint32_t n,
                     uint8_t *ret_addr);
bool mesh_virtual_fit(int family, const uint8_t *addr); /* may be given to programs */
/* Address of a name that only a wildcard lists. */
bool mesh_virtual_wild(struct mesh_view *v, const char *name, size_t len, bool want4, uint8_t ret_v4[4],
                       uint8_t ret_v6[16], bool *ret_has6);
bool mesh_virtual_wild_name(const struct mesh_view *v, int family, const void *addr,
                            char ret_name[MESH_NAME_MAX + 1]);

/* ---- one transport socket for the caller (resolver/target.c)
 * --------------------------------------------------- */
/* A record copied out of the view into the heap: from there on nobody else changes it. Its lengths are still
 * not trusted. NULL and *ret_rc: MESH_E_INTERNAL, MESH_E_NOMEM. */
void *mesh_record_copy(const struct mesh_view *v, uint32_t ref, uint32_t kind, size_t min, uint32_t *ret_len,
                       int *ret_rc);
int mesh_inbound_make(const void *rec, uint32_t len, const struct view_tls *t,
                      struct mesh_inbound **ret) MESH_MUST_CHECK;

/* ---- look-ups shared by names.c, route.c and print.c
 * -------------------------------------------------------------- */
struct mesh_found { /* a name as one reading finds it */
    const struct view_name *rec;
    uint32_t len;
    bool pattern; /* found through a wildcard */
};
bool mesh_name_find(const struct mesh_view *v, const struct view_root *root, const char *name, size_t len,
                    struct mesh_found *ret);
const struct view_domain *mesh_domain_find(const struct mesh_view *v, const char *name, size_t len);
/* The cluster in slot `id`, with the slot's flags. */
const struct view_cluster *mesh_cluster_at(const struct mesh_view *v, const struct view_root *root,
                                           uint32_t id, uint32_t *ret_flags, uint32_t *ret_len);
/* Is it the index of a counter of that kind? */
bool mesh_counter_valid(const struct mesh_view *v, uint32_t ref, uint32_t kind);
static inline struct mesh_stat *mesh_counter_at(const struct mesh_view *v, uint32_t ref) {
    return (struct mesh_stat *)(void *)(v->base + (size_t)ref * VIEW_GRANULE);
}
static inline struct view_counter *mesh_counter_owner(const struct mesh_view *v, uint32_t ref) {
    uint32_t first = ref / VIEW_SLAB_GRANULES * VIEW_SLAB_GRANULES;
    struct view_slab *slab = (struct view_slab *)(void *)(v->base + (size_t)first * VIEW_GRANULE);
    return &slab->owners[ref - first - VIEW_SLAB_FIRST];
}
static inline struct mesh_cluster_stat *mesh_live_at(const struct mesh_view *v, uint32_t ref) {
    return (struct mesh_cluster_stat *)(void *)(v->base + (size_t)ref * VIEW_GRANULE);
}
/* What lb sees of a cluster whose endpoints are at `items`. */
void mesh_cluster_view_fill(const struct mesh_view *v, const struct view_cluster *c,
                            const struct mesh_endpoint *items, struct mesh_cluster_view *ret);

#endif
