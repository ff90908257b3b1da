/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/view.h"
#include "shim/base/sys.h"

enum { WILD_PROBES = 64, WILD_COLLISIONS = 256 };

static uint64_t hosts_of(const struct mesh_cidr *c) {
    unsigned bits = (c->family == 4 ? 32u : 128u) - c->bits;
    return bits >= 63 ? UINT64_C(1) << 63 : UINT64_C(1) << bits;
}

/* The n-th address of a range. A range wider than 63 bits keeps what the prefix leaves open above them zero.
 */
static void address_in(const struct mesh_cidr *c, uint64_t n, uint8_t *ret_addr) {
    int bytes = c->family == 4 ? 4 : 16;
    memcpy(ret_addr, c->addr, (size_t)bytes);
    for (int i = bytes - 1; i >= 0 && n; i--, n >>= 8)
        ret_addr[i] |= (uint8_t)n;
}

bool mesh_virtual_at(const struct mesh_cidr_list *ranges, int family, uint64_t name_hash, uint32_t n,
                     uint8_t *ret_addr) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < ranges->n; i++) {
        uint64_t more = ranges->items[i].family == family ? hosts_of(&ranges->items[i]) : 0;
        total = more > (UINT64_C(1) << 63) - total ? UINT64_C(1) << 63 : total + more;
    }
    if (total == 0)
        return false;
    uint64_t at = (name_hash % total + n) % total;
    for (uint32_t i = 0; i < ranges->n; i++) {
        if (ranges->items[i].family != family)
            continue;
        uint64_t hosts = hosts_of(&ranges->items[i]);
        if (at < hosts) {
            address_in(&ranges->items[i], at, ret_addr);
            return true;
        }
        at -= hosts;
    }
    return false;
}

/* Some programs take x.x.x.0 and x.x.x.255 for networks and broadcasts. */
bool mesh_virtual_fit(int family, const uint8_t *addr) {
    return family == 4 ? addr[3] != 0 && addr[3] != 255 : (addr[15] | addr[14] | addr[13] | addr[12]) != 0;
}

bool mesh_view_is_virtual(const struct mesh_view *v, int family, const void *addr) {
    return mesh_cidr_has(v->virtual_ranges, family, addr, 0);
}

/* ---- names that only a wildcard lists ---------------------------------------------------------------------
 */
static bool same_wild(const struct view_wild *w, uint64_t hash, const char *name, size_t len) {
    return w->hash == hash && w->len == len && memcmp(w->text, name, len) == 0;
}

static bool address_used(const struct mesh_view *v, int family, const uint8_t *addr) {
    const struct view_head *h = mesh_view_head(v);
    struct mesh_addr_key key = {family, addr, 0, 0};
    uint64_t seq;
    const struct view_root *root = mesh_view_begin(v, &seq);
    if (root && mesh_map_find(v, &root->addrs, mesh_hash_addr(family, addr, 0), mesh_match_addr, &key))
        return true;
    for (int i = 0; i < VIEW_WILD_NAMES; i++) {
        const struct view_wild *w = &h->wild[i];
        if (atomic_load((_Atomic uint32_t *)&w->state) == 2 &&
            (family == 4 ? w->has4 && memcmp(w->v4, addr, 4) == 0 : w->has6 && memcmp(w->v6, addr, 16) == 0))
            return true;
    }
    return false;
}

static bool free_address(const struct mesh_view *v, int family, uint64_t hash, uint8_t *ret_addr) {
    for (uint32_t n = 0; n < WILD_COLLISIONS; n++) {
        if (!mesh_virtual_at(v->virtual_ranges, family, hash, n, ret_addr))
            return false;
        if (mesh_virtual_fit(family, ret_addr) && !address_used(v, family, ret_addr))
            return true;
    }
    return false;
}

static void fill_wild(struct mesh_view *v, struct view_wild *w, uint64_t hash, const char *name, size_t len) {
    w->hash = hash;
    w->len = (uint16_t)len;
    memcpy(w->text, name, len);
    w->text[len] = 0;
    w->has4 = free_address(v, 4, hash, w->v4);
    w->has6 = free_address(v, 6, hash, w->v6);
    atomic_store(&w->state, 2);
}

/* Ours to fill: free, or left half-written by a process that died. */
static bool claim_wild(struct view_wild *w) {
    uint32_t state = 0, me = (uint32_t)mesh_sys_getpid(), writer = atomic_load(&w->writer);
    if (atomic_compare_exchange_strong(&w->state, &state, 1)) {
        atomic_store(&w->writer, me);
        return true;
    }
    return state == 1 && writer && mesh_sys_kill((pid_t)writer, 0) == -ESRCH &&
           atomic_compare_exchange_strong(&w->writer, &writer, me);
}

bool mesh_virtual_wild(struct mesh_view *v, const char *name, size_t len, bool want4, uint8_t ret_v4[4],
                       uint8_t ret_v6[16], bool *ret_has6) {
    struct view_head *h = mesh_view_head(v);
    uint64_t hash = mesh_hash_bytes(name, len, 0);
    for (uint32_t i = 0; i < WILD_PROBES; i++) {
        struct view_wild *w = &h->wild[(hash + i) % VIEW_WILD_NAMES];
        if (atomic_load(&w->state) != 2 && claim_wild(w))
            fill_wild(v, w, hash, name, len);
        if (atomic_load(&w->state) != 2 || !same_wild(w, hash, name, len))
            continue;
        memcpy(ret_v4, w->v4, 4);
        memcpy(ret_v6, w->v6, 16);
        *ret_has6 = w->has6;
        return (want4 && w->has4) || w->has6;
    }
    return false;
}

bool mesh_virtual_wild_name(const struct mesh_view *v, int family, const void *addr,
                            char ret_name[MESH_NAME_MAX + 1]) {
    const struct view_head *h = mesh_view_head(v);
    for (int i = 0; i < VIEW_WILD_NAMES; i++) {
        const struct view_wild *w = &h->wild[i];
        if (atomic_load((_Atomic uint32_t *)&w->state) != 2 || w->len > MESH_NAME_MAX)
            continue;
        if (family == 4 ? w->has4 && memcmp(w->v4, addr, 4) == 0 : w->has6 && memcmp(w->v6, addr, 16) == 0) {
            memcpy(ret_name, w->text, MESH_NAME_MAX);
            ret_name[MESH_NAME_MAX] = 0;
            return true;
        }
    }
    return false;
}
