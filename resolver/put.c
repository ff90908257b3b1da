/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "resolver/publish.h"
#include "shim/base/mem.h"

enum { COLLISIONS_MAX = 1 << 16 };

static struct view_span put_bytes(void *rec, uint32_t *io_at, const void *p, size_t n) {
    struct view_span s = {*io_at, (uint32_t)n};
    if (n)
        memcpy((uint8_t *)rec + *io_at, p, n);
    *io_at += (uint32_t)n;
    return s;
}

static size_t text_len(const char *text) {
    return text ? strlen(text) : 0;
}

int mesh_pub_route_put(struct mesh_pub *pub, const struct mesh_route_in *in, uint32_t *ret_ref) {
    struct view_route *r;
    uint32_t at = sizeof *r;
    size_t targets = in->n * sizeof in->targets[0];
    int rc =
        mesh_space_new(&pub->space, KIND_ROUTE, sizeof *r + targets + text_len(in->text) + text_len(in->why),
                       ret_ref, (void **)&r);
    if (rc < 0)
        return rc;
    r->kind = in->kind;
    r->hash = in->hash;
    r->attempts = in->attempts;
    r->max_age_ms = in->max_age_ms;
    r->max_age_jitter = in->max_age_jitter;
    r->error = in->error;
    r->targets = put_bytes(r, &at, in->targets, targets);
    r->text = put_bytes(r, &at, in->text, text_len(in->text));
    r->why = put_bytes(r, &at, in->why, text_len(in->why));
    if (in->hash == HASH_SOURCE_IP)
        pub->root.flags |= ROOT_SOURCE_IP;
    return 0;
}

/* ---- virtual addresses ------------------------------------------------------------------------------------
 */
int mesh_pub_reserve(struct mesh_pub *pub, int family, const void *addr, uint8_t bits) {
    if (!pub->reserved) {
        pub->reserved = calloc(PUB_RESERVED_MAX, sizeof *pub->reserved);
        if (!pub->reserved)
            return MESH_E_NOMEM;
    }
    if (pub->nreserved == PUB_RESERVED_MAX)
        return MESH_E_LIMIT;
    struct mesh_reserved *r = &pub->reserved[pub->nreserved++];
    r->family = (uint8_t)family;
    r->bits = bits;
    memcpy(r->addr, addr, family == 4 ? 4 : 16);
    return 0;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, uint8_t bits) {
    uint8_t whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, whole) == 0 && (!rest || ((a[whole] ^ b[whole]) & (0xff00 >> rest) & 0xff) == 0);
}

static bool is_reserved(const struct mesh_pub *pub, int family, const uint8_t *addr) {
    for (uint32_t i = 0; i < pub->nreserved; i++) {
        const struct mesh_reserved *r = &pub->reserved[i];
        if (r->family == family && same_bits(r->addr, addr, r->bits))
            return true;
    }
    return false;
}

static bool is_taken(const struct mesh_pub *pub, uint64_t hash) {
    for (uint32_t i = (uint32_t)hash & pub->taken_mask; pub->taken && pub->taken[i];
         i = (i + 1) & pub->taken_mask)
        if (pub->taken[i] == hash)
            return true;
    return false;
}

static void put_taken(uint64_t *table, uint32_t mask, uint64_t hash) {
    uint32_t i = (uint32_t)hash & mask;
    while (table[i])
        i = (i + 1) & mask;
    table[i] = hash;
}

static int take(struct mesh_pub *pub, int family, const uint8_t *addr) {
    if (!pub->taken || pub->ntaken * 2 > pub->taken_mask) {
        uint32_t slots = pub->taken ? (pub->taken_mask + 1) * 2 : 1024;
        uint64_t *table = calloc(slots, sizeof *table);
        if (!table)
            return MESH_E_NOMEM;
        for (uint32_t i = 0; pub->taken && i <= pub->taken_mask; i++)
            if (pub->taken[i])
                put_taken(table, slots - 1, pub->taken[i]);
        free(pub->taken);
        pub->taken = table;
        pub->taken_mask = slots - 1;
    }
    put_taken(pub->taken, pub->taken_mask, mesh_hash_addr(family, addr, 0) | 1);
    pub->ntaken++;
    return 0;
}

static int take_wild(struct mesh_pub *pub) {
    struct view_head *h = mesh_view_head(pub->v);
    int rc = 0;
    for (int i = 0; i < VIEW_WILD_NAMES && rc == 0; i++) {
        struct view_wild *w = &h->wild[i];
        if (atomic_load(&w->state) != 2)
            continue;
        if (w->has4)
            rc = take(pub, 4, w->v4);
        if (rc == 0 && w->has6)
            rc = take(pub, 6, w->v6);
    }
    return rc;
}

/* Every address that was ever given out in this view stays taken, so that no other name gets it. */
static int know_taken(struct mesh_pub *pub) {
    int rc = pub->taken_known ? 0 : take_wild(pub);
    for (uint32_t i = 0; !pub->taken_known && rc == 0 && i < pub->assigns.p.npages * VIEW_PAGE_SLOTS; i++) {
        uint32_t len, ref = (uint32_t)mesh_wpages_get(&pub->assigns, i);
        const struct view_assign *a =
            ref && ref != SLOT_DEAD ? mesh_view_rec(pub->v, ref, KIND_ASSIGN, sizeof *a, &len) : NULL;
        if (a && a->has4)
            rc = take(pub, 4, a->v4);
        if (a && a->has6 && rc == 0)
            rc = take(pub, 6, a->v6);
    }
    pub->taken_known = rc == 0;
    return rc;
}

static bool find_address(const struct mesh_pub *pub, int family, uint64_t name, uint8_t *ret_addr) {
    for (uint32_t n = 0; n < COLLISIONS_MAX; n++) {
        if (!mesh_virtual_at(pub->v->virtual_ranges, family, name, n, ret_addr))
            return false;
        if (mesh_virtual_fit(family, ret_addr) && !is_taken(pub, mesh_hash_addr(family, ret_addr, 0) | 1) &&
            !is_reserved(pub, family, ret_addr))
            return true;
    }
    return false;
}

static bool still_good(const struct mesh_pub *pub, const struct view_assign *a) {
    return (!a->has4 ||
            (mesh_cidr_has(pub->v->virtual_ranges, 4, a->v4, 0) && !is_reserved(pub, 4, a->v4))) &&
           (!a->has6 || (mesh_cidr_has(pub->v->virtual_ranges, 6, a->v6, 0) && !is_reserved(pub, 6, a->v6)));
}

static int assign(struct mesh_pub *pub, uint64_t name, const struct view_assign **ret) {
    uint32_t len, ref = mesh_wmap_find(&pub->assigns, name, mesh_match_assign, &name);
    const struct view_assign *old = mesh_view_rec(pub->v, ref, KIND_ASSIGN, sizeof *old, &len);
    struct view_assign *a;
    if (old && still_good(pub, old)) {
        *ret = old;
        return 0;
    }
    int rc = know_taken(pub);
    if (rc == 0)
        rc = mesh_space_new(&pub->space, KIND_ASSIGN, sizeof *a, &ref, (void **)&a);
    if (rc < 0)
        return rc;
    a->name = name;
    a->has4 = find_address(pub, 4, name, a->v4);
    a->has6 = find_address(pub, 6, name, a->v6);
    if (a->has4 && (rc = take(pub, 4, a->v4)) < 0)
        return rc;
    if (a->has6 && (rc = take(pub, 6, a->v6)) < 0)
        return rc;
    *ret = a;
    return old ? mesh_wmap_replace(&pub->assigns, name, mesh_match_assign, &name, ref)
               : mesh_wmap_add(&pub->assigns, name, ref);
}

/* ---- names and addresses ----------------------------------------------------------------------------------
 */
static int give_addresses(struct mesh_pub *pub, struct view_name *r, uint64_t hash, uint32_t ref) {
    const struct view_assign *a;
    if (r->flags & (NAME_PATTERN | NAME_HEADLESS | NAME_OWN4 | NAME_OWN6))
        return 0;
    int rc = assign(pub, hash, &a);
    if (rc < 0)
        return rc;
    r->flags |= (a->has4 ? NAME_HAS4 : 0) | (a->has6 ? NAME_HAS6 : 0);
    memcpy(r->v4, a->v4, 4);
    memcpy(r->v6, a->v6, 16);
    if (a->has4)
        rc = mesh_wmap_add(&pub->addrs, mesh_hash_addr(4, r->v4, 0), ref);
    if (rc == 0 && a->has6)
        rc = mesh_wmap_add(&pub->addrs, mesh_hash_addr(6, r->v6, 0), ref);
    return rc;
}

static void note_pattern(struct mesh_pub *pub, const struct mesh_name_in *in) {
    uint32_t n = in->len - 1;
    if (in->text[0] == '*')
        pub->root.suffixes[n / 64] |= UINT64_C(1) << (n % 64);
    else
        pub->root.prefixes[n / 64] |= UINT64_C(1) << (n % 64);
}

int mesh_pub_name_put(struct mesh_pub *pub, const struct mesh_name_in *in, uint32_t *ret_ref) {
    struct view_name *r;
    uint32_t at = sizeof *r;
    if (in->len == 0 || in->len > MESH_NAME_MAX)
        return MESH_E_INVALID;
    size_t entries = in->n * sizeof in->entries[0], clusters = in->nclusters * sizeof(uint32_t);
    uint64_t hash = mesh_hash_bytes(in->text, in->len, 0);
    int rc = mesh_space_new(&pub->space, KIND_NAME, sizeof *r + entries + clusters + in->len, ret_ref,
                            (void **)&r);
    if (rc < 0)
        return rc;
    r->flags = in->flags;
    memcpy(r->v4, in->v4, 4);
    memcpy(r->v6, in->v6, 16);
    r->entries = put_bytes(r, &at, in->entries, entries);
    r->clusters = put_bytes(r, &at, in->clusters, clusters);
    r->text = put_bytes(r, &at, in->text, in->len);
    rc = give_addresses(pub, r, hash, *ret_ref);
    if (rc == 0)
        rc = mesh_wmap_add(&pub->names, hash, *ret_ref);
    if (rc < 0)
        return rc;
    if (in->flags & NAME_PATTERN)
        note_pattern(pub, in);
    pub->root.names_n++;
    return 0;
}

int mesh_pub_addr_put(struct mesh_pub *pub, const struct view_addr *in) {
    struct mesh_addr_key key = {in->family, in->addr, in->port, in->range};
    uint64_t hash = mesh_hash_range(in->family, in->addr, in->port, in->range);
    struct view_addr *a;
    uint32_t ref;
    if (mesh_wmap_find(&pub->addrs, hash, mesh_match_addr, &key))
        return 0;
    int rc = mesh_space_new(&pub->space, KIND_ADDR, sizeof *a, &ref, (void **)&a);
    if (rc < 0)
        return rc;
    struct view_rec head = a->rec;
    *a = *in;
    a->rec = head;
    if (in->range)
        (in->family == 4 ? &pub->root.ranges4 : pub->root.ranges6)[(in->range - 1) / 64] |=
            UINT64_C(1) << ((in->range - 1) % 64);
    return mesh_wmap_add(&pub->addrs, hash, ref);
}

static int put_resource(struct mesh_pub *pub, const struct mesh_resource_in *in, uint32_t *ret_ref) {
    struct view_resource *r;
    uint32_t at = sizeof *r;
    size_t len =
        sizeof *r + text_len(in->type) + text_len(in->name) + text_len(in->path) + text_len(in->why) + in->n;
    int rc = mesh_space_new(&pub->space, KIND_RESOURCE, len, ret_ref, (void **)&r);
    if (rc < 0)
        return rc;
    r->rank = in->rank;
    r->spare = 0;
    r->bytes = put_bytes(r, &at, in->bytes, in->n);
    r->type = put_bytes(r, &at, in->type, text_len(in->type));
    r->name = put_bytes(r, &at, in->name, text_len(in->name));
    r->path = put_bytes(r, &at, in->path, text_len(in->path));
    r->why = put_bytes(r, &at, in->why, text_len(in->why));
    return 0;
}

int mesh_pub_resource_put(struct mesh_pub *pub, const struct mesh_resource_in *in) {
    uint32_t ref;
    int rc = put_resource(pub, in, &ref);
    if (rc < 0)
        return rc;
    pub->root.faults_n += text_len(in->why) > 0;
    return mesh_wpages_set(&pub->resources, pub->resources.p.used, ref);
}

static uint32_t place_of(const char *type, size_t type_len, const char *name, size_t name_len) {
    return (uint32_t)mesh_hash_bytes(name, name_len, mesh_hash_bytes(type, type_len, 1));
}

static const struct view_resource *resource_at(const struct mesh_pub *pub, uint32_t i, uint32_t *ret_len) {
    return mesh_view_rec(pub->v, (uint32_t)mesh_wpages_get(&pub->resources, i), KIND_RESOURCE,
                         sizeof(struct view_resource), ret_len);
}

static bool is_of(const struct view_resource *r, uint32_t len, const char *type, const char *name) {
    uint32_t n;
    const char *t = mesh_view_span(r, len, &r->type, 1, &n);
    if (!t || n != strlen(type) || memcmp(t, type, n) != 0)
        return false;
    t = mesh_view_span(r, len, &r->name, 1, &n);
    return t && n == strlen(name) && memcmp(t, name, n) == 0;
}

static int find_places(struct mesh_pub *pub) {
    uint32_t slots = 16, used = pub->resources.p.used;
    while (slots < used * 2)
        slots *= 2;
    pub->kept = calloc(slots, sizeof *pub->kept);
    if (!pub->kept)
        return MESH_E_NOMEM;
    pub->kept_mask = slots - 1;
    for (uint32_t i = 0; i < used; i++) {
        uint32_t len, nt, nn;
        const struct view_resource *r = resource_at(pub, i, &len);
        const char *type = r ? mesh_view_span(r, len, &r->type, 1, &nt) : NULL;
        const char *name = r ? mesh_view_span(r, len, &r->name, 1, &nn) : NULL;
        if (!type || !name)
            continue;
        uint32_t at = place_of(type, nt, name, nn) & pub->kept_mask;
        while (pub->kept[at])
            at = (at + 1) & pub->kept_mask;
        pub->kept[at] = i + 1;
    }
    return 0;
}

void mesh_pub_resources_moved(struct mesh_pub *pub) {
    free(pub->kept);
    pub->kept = NULL;
}

int mesh_pub_resource_replace(struct mesh_pub *pub, const struct mesh_resource_in *in) {
    uint32_t len, ref, at;
    int rc = pub->kept ? 0 : find_places(pub);
    if (rc < 0)
        return rc;
    at = place_of(in->type, strlen(in->type), in->name, strlen(in->name)) & pub->kept_mask;
    for (; pub->kept[at]; at = (at + 1) & pub->kept_mask) {
        const struct view_resource *r = resource_at(pub, pub->kept[at] - 1, &len);
        if (!r || !is_of(r, len, in->type, in->name))
            continue;
        rc = put_resource(pub, in, &ref);
        return rc < 0 ? rc : mesh_wpages_set(&pub->resources, pub->kept[at] - 1, ref);
    }
    return MESH_E_NOTFOUND;
}

static int put_whole(struct mesh_pub *pub, uint32_t kind, const void *rec, size_t len, uint32_t *ret_ref) {
    struct view_rec *r;
    int rc = mesh_space_new(&pub->space, kind, len, ret_ref, (void **)&r);
    if (rc < 0)
        return rc;
    struct view_rec head = *r;
    memcpy(r, rec, len);
    *r = head;
    return 0;
}

int mesh_pub_inbound_put(struct mesh_pub *pub, const void *rec, size_t len) {
    pub->root.policy = mesh_hash_bytes(rec, len, 0);
    return put_whole(pub, KIND_INBOUND, rec, len, &pub->root.inbound);
}

int mesh_pub_report_put(struct mesh_pub *pub, const void *rec, size_t len) {
    return put_whole(pub, KIND_REPORT, rec, len, &pub->root.report);
}
