/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/pages.h"
#include <stdlib.h>
#include "shim/base/mem.h"

/* ---- hashing ----------------------------------------------------------------------------------------------
 */
static uint64_t fold(uint64_t a, uint64_t b) {
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t load8(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}

static uint64_t load4(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* The last bytes, n < 8 of them; `whole` is how many there were in all: reading some of those twice costs
 * nothing. */
static uint64_t tail(const uint8_t *p, size_t n, size_t whole) {
    if (whole >= 8)
        return load8(p + n - 8);
    if (n >= 4)
        return load4(p) << 32 | load4(p + n - 4);
    return (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1];
}

uint64_t mesh_hash_bytes(const void *p, size_t n, uint64_t seed) {
    const uint8_t *b = p;
    size_t whole = n;
    uint64_t h = seed ^ fold(n ^ UINT64_C(0xa0761d6478bd642f), UINT64_C(0xe7037ed1a0b428db));
    for (; n >= 8; b += 8, n -= 8)
        h = fold(load8(b) ^ UINT64_C(0x8ebc6af09c88c6e3), h ^ UINT64_C(0x589965cc75374cc3));
    if (n)
        h = fold(tail(b, n, whole) ^ UINT64_C(0x1d8e4e27c47d124f), h ^ UINT64_C(0xeb44accab455d165));
    return fold(h ^ UINT64_C(0x2d358dccaa6c78a5), h ^ UINT64_C(0x8bb84b93962eacc9));
}

uint64_t mesh_hash_addr(int family, const void *addr, uint16_t port) {
    size_t n = family == 4 ? 4 : 16;
    return mesh_hash_bytes(addr, n, (uint64_t)port << 8 | (unsigned)family);
}

uint64_t mesh_hash_range(int family, const void *addr, uint16_t port, uint8_t range) {
    return mesh_hash_addr(family, addr, port) ^ range * UINT64_C(0x9e3779b97f4a7c15);
}

void mesh_mask_addr(uint8_t addr[16], uint8_t bits) {
    for (uint8_t i = 0; i < 16; i++) {
        uint8_t left = bits > i * 8 ? (uint8_t)(bits - i * 8) : 0;
        addr[i] &= left >= 8 ? 0xff : (uint8_t)(0xff00 >> left);
    }
}

/* ---- reading ----------------------------------------------------------------------------------------------
 */
bool mesh_pages_open(const struct mesh_view *v, const struct view_pages *p, struct view_reader *ret) {
    uint32_t len, ref = ((const volatile struct view_pages *)p)->dir,
                  n = ((const volatile struct view_pages *)p)->npages;
    if (n == 0 || n > VIEW_PAGES_MAX)
        return false;
    const struct view_rec *dir = mesh_view_rec(v, ref, KIND_DIR, sizeof *dir + n * sizeof(uint32_t), &len);
    if (!dir)
        return false;
    *ret = (struct view_reader){v, (const uint32_t *)(dir + 1), n,
                                ((const volatile struct view_pages *)p)->used};
    return true;
}

uint32_t mesh_map_find(const struct mesh_view *v, const struct view_pages *p, uint64_t hash,
                       mesh_map_match *match, const void *key) {
    struct view_reader r;
    if (!mesh_pages_open(v, p, &r))
        return 0;
    uint32_t mask = r.npages * VIEW_PAGE_SLOTS - 1, tag = mesh_hash_slot(hash);
    for (uint32_t i = mesh_slot_start(tag), tries = 0; tries < VIEW_PROBES; i++, tries++) {
        uint64_t slot = mesh_pages_get(&r, i & mask);
        if (!slot)
            return 0;
        if ((uint32_t)(slot >> 32) == tag && (uint32_t)slot != SLOT_DEAD && match(v, (uint32_t)slot, key))
            return (uint32_t)slot;
    }
    return 0;
}

static bool same_text(const void *rec, uint32_t len, const struct view_span *where,
                      const struct mesh_text_key *k) {
    uint32_t n;
    const char *text = mesh_view_span(rec, len, where, 1, &n);
    return text && n == k->len && memcmp(text, k->text, n) == 0;
}

bool mesh_match_name(const struct mesh_view *v, uint32_t ref, const void *key) {
    uint32_t len;
    const struct view_name *r = mesh_view_rec(v, ref, KIND_NAME, sizeof *r, &len);
    return r && same_text(r, len, &r->text, key);
}

bool mesh_match_cluster_name(const struct mesh_view *v, uint32_t ref, const void *key) {
    uint32_t len;
    const struct view_cluster_name *r = mesh_view_rec(v, ref, KIND_CLUSTER_NAME, sizeof *r, &len);
    return r && same_text(r, len, &r->text, key);
}

bool mesh_match_assign(const struct mesh_view *v, uint32_t ref, const void *key) {
    uint32_t len;
    const struct view_assign *r = mesh_view_rec(v, ref, KIND_ASSIGN, sizeof *r, &len);
    return r && r->name == *(const uint64_t *)key;
}

static bool name_has_addr(const struct view_name *r, const struct mesh_addr_key *k) {
    if (k->family == 4)
        return (r->flags & (NAME_HAS4 | NAME_OWN4)) == NAME_HAS4 && memcmp(r->v4, k->addr, 4) == 0;
    return (r->flags & (NAME_HAS6 | NAME_OWN6)) == NAME_HAS6 && memcmp(r->v6, k->addr, 16) == 0;
}

bool mesh_match_addr(const struct mesh_view *v, uint32_t ref, const void *key) {
    const struct mesh_addr_key *k = key;
    uint32_t len;
    const struct view_addr *a = mesh_view_rec(v, ref, KIND_ADDR, sizeof *a, &len);
    if (a)
        return a->family == k->family && a->port == k->port && a->range == k->range &&
               memcmp(a->addr, k->addr, k->family == 4 ? 4 : 16) == 0;
    const struct view_name *n = mesh_view_rec(v, ref, KIND_NAME, sizeof *n, &len);
    return n && k->port == 0 && !k->range && name_has_addr(n, k);
}

/* ---- writing ----------------------------------------------------------------------------------------------
 */
int mesh_wpages_open(struct mesh_wpages *w, struct mesh_space *s, const struct view_pages *p) {
    struct view_reader r;
    *w = (struct mesh_wpages){.s = s};
    if (!p || !mesh_pages_open(s->v, p, &r))
        return 0;
    w->dir = malloc(r.npages * sizeof *w->dir);
    w->mine = calloc(r.npages, 1);
    if (!w->dir || !w->mine) {
        mesh_wpages_done(w);
        return MESH_E_NOMEM;
    }
    memcpy(w->dir, r.dir, r.npages * sizeof *w->dir);
    w->p = *p;
    w->room = r.npages;
    return 0;
}

void mesh_wpages_done(struct mesh_wpages *w) {
    free(w->dir);
    free(w->mine);
    w->dir = NULL;
    w->mine = NULL;
}

static int make_room(struct mesh_wpages *w, uint32_t npages) {
    if (npages <= w->room)
        return 0;
    uint32_t room = w->room ? w->room : 1;
    while (room < npages)
        room *= 2;
    uint32_t *dir = realloc(w->dir, room * sizeof *dir);
    if (!dir)
        return MESH_E_NOMEM;
    w->dir = dir;
    uint8_t *mine = realloc(w->mine, room);
    if (!mine)
        return MESH_E_NOMEM;
    w->mine = mine;
    w->room = room;
    return 0;
}

static int add_pages(struct mesh_wpages *w, uint32_t npages) {
    if (npages > VIEW_PAGES_MAX)
        return MESH_E_LIMIT;
    int rc = make_room(w, npages);
    while (rc == 0 && w->p.npages < npages) {
        struct view_page *page;
        rc = mesh_space_new(w->s, KIND_PAGE, sizeof *page, &w->dir[w->p.npages], (void **)&page);
        if (rc < 0)
            break;
        memset(page->slots, 0, sizeof page->slots);
        w->mine[w->p.npages++] = 1;
    }
    if (rc == 0)
        w->changed = true;
    return rc;
}

static const struct view_page *page_at(const struct mesh_wpages *w, uint32_t i) {
    uint32_t len;
    return mesh_view_rec(w->s->v, w->dir[i], KIND_PAGE, sizeof(struct view_page), &len);
}

/* A page that this transaction may write: a published one is copied first. */
static int own_page(struct mesh_wpages *w, uint32_t i, struct view_page **ret) {
    const struct view_page *old = page_at(w, i);
    if (!old)
        return MESH_E_INTERNAL;
    if (!w->mine[i]) {
        struct view_page *page;
        int rc = mesh_space_new(w->s, KIND_PAGE, sizeof *page, &w->dir[i], (void **)&page);
        if (rc < 0)
            return rc;
        memcpy(page->slots, old->slots, sizeof page->slots);
        w->mine[i] = 1;
        w->changed = true;
        old = page;
    }
    *ret = (struct view_page *)old;
    return 0;
}

uint64_t mesh_wpages_get(const struct mesh_wpages *w, uint32_t i) {
    if (i / VIEW_PAGE_SLOTS >= w->p.npages)
        return 0;
    const struct view_page *page = page_at(w, i / VIEW_PAGE_SLOTS);
    return page ? page->slots[i % VIEW_PAGE_SLOTS] : 0;
}

int mesh_wpages_set(struct mesh_wpages *w, uint32_t i, uint64_t slot) {
    struct view_page *page = NULL;
    int rc = i / VIEW_PAGE_SLOTS < w->p.npages ? 0 : add_pages(w, i / VIEW_PAGE_SLOTS + 1);
    if (rc == 0)
        rc = own_page(w, i / VIEW_PAGE_SLOTS, &page);
    if (rc < 0)
        return rc;
    page->slots[i % VIEW_PAGE_SLOTS] = slot;
    if (w->p.used <= i)
        w->p.used = i + 1;
    return 0;
}

int mesh_wpages_commit(struct mesh_wpages *w, struct view_pages *ret) {
    struct view_rec *dir;
    if (w->changed) {
        size_t n = w->p.npages * sizeof(uint32_t);
        int rc = mesh_space_new(w->s, KIND_DIR, sizeof *dir + n, &w->p.dir, (void **)&dir);
        if (rc < 0)
            return rc;
        memcpy(dir + 1, w->dir, n);
        memset(w->mine, 0, w->p.npages);
        w->changed = false;
    }
    *ret = w->p;
    return 0;
}

/* ---- hash tables, writing ---------------------------------------------------------------------------------
 */
static int put_slot(struct mesh_wpages *w, uint64_t slot) {
    uint32_t mask = w->p.npages * VIEW_PAGE_SLOTS - 1, used = w->p.used;
    for (uint32_t i = mesh_slot_start((uint32_t)(slot >> 32)), tries = 0; tries < VIEW_PROBES / 2;
         i++, tries++) {
        uint64_t old = mesh_wpages_get(w, i & mask);
        if (old && (uint32_t)old != SLOT_DEAD)
            continue;
        int rc = mesh_wpages_set(w, i & mask, slot);
        w->p.used = used + 1;
        w->p.dead -= old != 0;
        return rc;
    }
    return MESH_E_AGAIN;
}

static int rehash(struct mesh_wpages *w, uint32_t npages) {
    struct mesh_wpages old = *w;
    int rc;
    *w = (struct mesh_wpages){.s = old.s};
    rc = add_pages(w, npages);
    for (uint32_t i = 0; rc == 0 && i < old.p.npages * VIEW_PAGE_SLOTS; i++) {
        uint64_t slot = mesh_wpages_get(&old, i);
        if (slot && (uint32_t)slot != SLOT_DEAD)
            rc = put_slot(w, slot);
    }
    if (rc < 0) {
        mesh_wpages_done(w);
        *w = old;
        return rc;
    }
    mesh_wpages_done(&old);
    return 0;
}

int mesh_wmap_reserve(struct mesh_wpages *w, uint32_t entries) {
    uint32_t npages = w->p.npages ? w->p.npages : 1;
    while ((uint64_t)npages * VIEW_PAGE_SLOTS < (uint64_t)entries * 2)
        npages *= 2;
    return npages == w->p.npages ? 0 : rehash(w, npages);
}

int mesh_wmap_add(struct mesh_wpages *w, uint64_t hash, uint32_t ref) {
    uint64_t slot = (uint64_t)mesh_hash_slot(hash) << 32 | ref;
    int rc = mesh_wmap_reserve(w, w->p.used + w->p.dead + 1);
    if (rc == 0)
        rc = put_slot(w, slot);
    if (rc == MESH_E_AGAIN && (rc = rehash(w, w->p.npages * 2)) == 0)
        rc = put_slot(w, slot);
    return rc == MESH_E_AGAIN ? MESH_E_LIMIT : rc;
}

static uint32_t *slot_of(const struct mesh_wpages *w, uint64_t hash, mesh_map_match *match, const void *key,
                         uint32_t *ret_i) {
    uint32_t mask = w->p.npages * VIEW_PAGE_SLOTS - 1, tag = mesh_hash_slot(hash);
    for (uint32_t i = mesh_slot_start(tag), tries = 0; w->p.npages && tries < VIEW_PROBES; i++, tries++) {
        uint64_t slot = mesh_wpages_get(w, i & mask);
        if (!slot)
            return NULL;
        if ((uint32_t)(slot >> 32) == tag && (uint32_t)slot != SLOT_DEAD &&
            match(w->s->v, (uint32_t)slot, key)) {
            *ret_i = i & mask;
            return ret_i;
        }
    }
    return NULL;
}

uint32_t mesh_wmap_find(const struct mesh_wpages *w, uint64_t hash, mesh_map_match *match, const void *key) {
    uint32_t i;
    return slot_of(w, hash, match, key, &i) ? (uint32_t)mesh_wpages_get(w, i) : 0;
}

int mesh_wmap_replace(struct mesh_wpages *w, uint64_t hash, mesh_map_match *match, const void *key,
                      uint32_t ref) {
    uint32_t i, used = w->p.used;
    if (!slot_of(w, hash, match, key, &i))
        return MESH_E_NOTFOUND;
    uint64_t tag = (uint64_t)mesh_hash_slot(hash) << 32;
    int rc = mesh_wpages_set(w, i, tag | (ref ? ref : SLOT_DEAD));
    w->p.used = used;
    if (rc == 0 && !ref) {
        w->p.used--;
        w->p.dead++;
    }
    return rc;
}
