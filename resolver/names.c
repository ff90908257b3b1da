/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "resolver/demand.h"

size_t mesh_name_normal(const char *name, char ret_name[MESH_NAME_MAX + 1]) {
    size_t n = 0;
    for (; name[n]; n++) {
        if (n == MESH_NAME_MAX)
            return 0;
        char c = name[n];
        ret_name[n] = c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
    }
    if (n && ret_name[n - 1] == '.')
        n--;
    ret_name[n] = 0;
    return n;
}

const struct view_domain *mesh_domain_find(const struct mesh_view *v, const char *name, size_t len) {
    for (uint32_t i = 0; i < v->ndomains; i++) {
        const struct view_domain *d = &v->domains[i];
        if (len >= d->len && memcmp(name + len - d->len, d->text, d->len) == 0 &&
            (len == d->len || name[len - d->len - 1] == '.'))
            return d;
    }
    return NULL;
}

/* ---- finding ----------------------------------------------------------------------------------------------
 */
static bool find(const struct mesh_view *v, const struct view_root *root, const char *text, size_t len,
                 bool pattern, struct mesh_found *ret) {
    struct mesh_text_key key = {text, len};
    uint32_t n, ref = mesh_map_find(v, &root->names, mesh_hash_bytes(text, len, 0), mesh_match_name, &key);
    const struct view_name *r = mesh_view_rec(v, ref, KIND_NAME, sizeof *r, &n);
    if (!r || !(r->flags & NAME_PATTERN) != !pattern)
        return false;
    *ret = (struct mesh_found){r, n, pattern};
    return true;
}

/* Longest first. Each step overwrites with the star a byte that shorter ones do not look at. */
static bool find_suffix(const struct mesh_view *v, const struct view_root *root, const char *name, size_t len,
                        struct mesh_found *ret) {
    char text[MESH_NAME_MAX + 1];
    uint64_t bits[4];
    memcpy(bits, root->suffixes, sizeof bits);
    if (!(bits[0] | bits[1] | bits[2] | bits[3]))
        return false;
    memcpy(text + 1, name, len);
    for (size_t n = len - 1; n > 0; n--) {
        if (!(bits[n / 64] >> (n % 64) & 1))
            continue;
        text[len - n] = '*';
        if (find(v, root, text + len - n, n + 1, true, ret))
            return true;
    }
    return false;
}

static bool find_prefix(const struct mesh_view *v, const struct view_root *root, const char *name, size_t len,
                        struct mesh_found *ret) {
    char text[MESH_NAME_MAX + 1];
    uint64_t bits[4];
    memcpy(bits, root->prefixes, sizeof bits);
    if (!(bits[0] | bits[1] | bits[2] | bits[3]))
        return false;
    memcpy(text, name, len);
    for (size_t n = len - 1; n > 0; n--) {
        if (!(bits[n / 64] >> (n % 64) & 1))
            continue;
        text[n] = '*';
        if (find(v, root, text, n + 1, true, ret))
            return true;
    }
    return false;
}

bool mesh_name_find(const struct mesh_view *v, const struct view_root *root, const char *name, size_t len,
                    struct mesh_found *ret) {
    if (!root || !len)
        return false;
    if (find(v, root, name, len, false, ret) || find_suffix(v, root, name, len, ret) ||
        find_prefix(v, root, name, len, ret))
        return true;
    /* A lone star says where the mesh's names lead that nothing else lists; it makes no name a mesh name. */
    return (root->suffixes[0] & 1) && mesh_domain_find(v, name, len) && find(v, root, "*", 1, true, ret);
}

/* ---- answers ----------------------------------------------------------------------------------------------
 */
static const uint32_t *clusters_of(const struct mesh_found *f, uint32_t *ret_n) {
    uint32_t len;
    const uint32_t *ids = mesh_view_span(f->rec, f->len, &f->rec->clusters, 4, &len);
    *ret_n = ids ? len / 4 : 0;
    return ids;
}

/* Families that the name's endpoints have; without endpoints both, so that connect can say what is wrong, and
 * CLUSTER_PENDING when some are still asked for. */
static uint32_t families_of(const struct mesh_view *v, const struct view_root *root,
                            const struct mesh_found *f) {
    uint32_t n, flags = 0;
    struct view_reader r;
    const uint32_t *ids = clusters_of(f, &n);
    if (mesh_pages_open(v, &root->clusters, &r))
        for (uint32_t i = 0; i < n; i++)
            flags |= (uint32_t)(mesh_pages_get(&r, ids[i]) >> 32);
    uint32_t families = flags & (CLUSTER_HAS4 | CLUSTER_HAS6);
    return families ? families : CLUSTER_HAS4 | CLUSTER_HAS6 | (flags & CLUSTER_PENDING);
}

static void add_address(struct mesh_answer *a, const struct mesh_endpoint *e) {
    size_t n = e->family == 4 ? 4 : 16;
    for (uint16_t i = 0; i < a->naddrs; i++)
        if (a->addrs[i].family == e->family && memcmp(a->addrs[i].addr, e->addr, n) == 0)
            return;
    if (a->naddrs == MESH_ANSWER_ADDRS || (e->family != 4 && e->family != 6))
        return;
    a->addrs[a->naddrs].family = e->family;
    memcpy(a->addrs[a->naddrs].addr, e->addr, n);
    a->naddrs++;
}

static void answer_headless(const struct mesh_view *v, const struct view_root *root,
                            const struct mesh_found *f, struct mesh_answer *a) {
    uint32_t n, flags, len;
    const uint32_t *ids = clusters_of(f, &n);
    for (uint32_t i = 0; i < n; i++) {
        const struct view_cluster *c = mesh_cluster_at(v, root, ids[i], &flags, &len);
        const struct view_endpoints *e =
            c ? mesh_view_rec(v, c->endpoints, KIND_ENDPOINTS, sizeof *e, &len) : NULL;
        uint32_t most = e ? (uint32_t)((len - sizeof *e) / sizeof e->items[0]) : 0;
        for (uint32_t j = 0; j < most && j < e->n && a->naddrs < MESH_ANSWER_ADDRS; j++)
            add_address(a, &e->items[j]);
    }
}

static int answer(const struct mesh_view *v, const struct view_root *root, const char *name, size_t len,
                  struct mesh_answer *a) {
    struct mesh_found f;
    if (!mesh_name_find(v, root, name, len, &f))
        return MESH_E_NOTFOUND;
    memset(a, 0, offsetof(struct mesh_answer, addrs));
    memcpy(a->canon, name, len);
    a->pattern = f.pattern;
    if (f.rec->flags & NAME_HEADLESS) {
        answer_headless(v, root, &f, a);
        return a->naddrs ? 0 : MESH_E_NOENDPOINT;
    }
    uint32_t families = families_of(v, root, &f);
    bool four = families & CLUSTER_HAS4;
    if (families & CLUSTER_PENDING)
        return MESH_E_AGAIN;
    mesh_demand_use(v, mesh_hash_bytes(name, len, 0));
    if (f.pattern) {
        bool has6;
        if (!mesh_virtual_wild((struct mesh_view *)v, name, len, four, a->v4, a->v6, &has6))
            return MESH_E_AGAIN;
        a->has4 = four;
        a->has6 = has6;
        return 0;
    }
    uint32_t has = f.rec->flags;
    bool give4 = has & (NAME_OWN4 | NAME_HAS4), give6 = has & (NAME_OWN6 | NAME_HAS6);
    a->has4 = give4 && (four || !give6);
    a->has6 = give6;
    memcpy(a->v4, f.rec->v4, 4);
    memcpy(a->v6, f.rec->v6, 16);
    return 0;
}

/* The control plane is silent about the bare name: which ports it has is asked at connect, and for that the
 * program needs an address. */
static int answer_tentatively(const struct mesh_view *v, const char *name, size_t len,
                              struct mesh_answer *a) {
    bool has6;
    memset(a, 0, offsetof(struct mesh_answer, addrs));
    memcpy(a->canon, name, len);
    if (!mesh_virtual_wild((struct mesh_view *)v, name, len, true, a->v4, a->v6, &has6))
        return MESH_E_AGAIN;
    a->has4 = (a->v4[0] | a->v4[1] | a->v4[2] | a->v4[3]) != 0;
    a->has6 = has6;
    return 0;
}

/* What a name is that the view does not list. */
static int not_listed(const struct mesh_view *v, const struct view_root *root, const char *name, size_t len,
                      uint16_t port, struct mesh_answer *a) {
    const struct view_domain *d = mesh_domain_find(v, name, len);
    if (!d || (d->or_libc && !v->learns))
        return MESH_E_NOTFOUND;
    if (!v->learns)
        return root && v->source ? MESH_E_DENIED : MESH_E_AGAIN;
    int rc = mesh_demand_look(v, name, len, port);
    if (rc == 0)
        return answer_tentatively(v, name, len, a);
    if (rc == MESH_E_DENIED && atomic_load(&v->is_stale)) /* said of a view that is too old */
        return MESH_E_AGAIN;
    return rc == MESH_E_DENIED && d->or_libc ? MESH_E_NOTFOUND : rc;
}

bool mesh_view_falls_through(const struct mesh_view *v, const char *name) {
    char normal[MESH_NAME_MAX + 1];
    const struct view_domain *d = mesh_domain_find(v, normal, mesh_name_normal(name, normal));
    return d && d->or_libc;
}

bool mesh_view_is_provisional(const struct mesh_view *v) {
    uint64_t seq;
    const struct view_root *root = v->bootstrap ? mesh_view_begin(v, &seq) : NULL;
    return root && root->flags & ROOT_BEFORE;
}

bool mesh_view_learns(const struct mesh_view *v) {
    uint64_t seq;
    const struct view_root *root = v->bootstrap ? NULL : mesh_view_begin(v, &seq);
    return v->bootstrap || (root && root->flags & ROOT_STANDS);
}

int mesh_view_name_at(const struct mesh_view *v, const char *name, uint16_t port, struct mesh_answer *ret) {
    char normal[MESH_NAME_MAX + 1];
    size_t len = mesh_name_normal(name, normal);
    if (!len || mesh_cidr_has_name(v->exclude, normal, 0))
        return MESH_E_NOTFOUND;
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        const struct view_root *root = mesh_view_begin(v, &seq);
        int rc = root ? answer(v, root, normal, len, ret) : MESH_E_NOTFOUND;
        if (rc == MESH_E_NOTFOUND)
            rc = not_listed(v, root, normal, len, port, ret);
        if (mesh_view_still(v, seq))
            return rc;
    }
    return MESH_E_AGAIN;
}

int mesh_view_name(const struct mesh_view *v, const char *name, struct mesh_answer *ret) {
    return mesh_view_name_at(v, name, 0, ret);
}

static int name_of(const struct mesh_view *v, const struct view_root *root, int family, const void *addr,
                   char *ret_name) {
    struct mesh_addr_key key = {family, addr, 0, 0};
    uint32_t len,
        ref =
            root ? mesh_map_find(v, &root->addrs, mesh_hash_addr(family, addr, 0), mesh_match_addr, &key) : 0;
    const struct view_addr *a = mesh_view_rec(v, ref, KIND_ADDR, sizeof *a, &len);
    const struct view_name *n = mesh_view_rec(v, a ? a->name : ref, KIND_NAME, sizeof *n, &len);
    if (n && mesh_view_text(n, len, &n->text, ret_name, MESH_NAME_MAX + 1))
        return 0;
    return mesh_virtual_wild_name(v, family, addr, ret_name) ? 0 : MESH_E_NOTFOUND;
}

int mesh_view_name_of(const struct mesh_view *v, int family, const void *addr, char *ret_name, size_t cap) {
    char name[MESH_NAME_MAX + 1];
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        int rc = name_of(v, mesh_view_begin(v, &seq), family, addr, name);
        if (!mesh_view_still(v, seq))
            continue;
        if (rc == 0 && strlen(name) >= cap)
            return MESH_E_LIMIT;
        if (rc == 0)
            memcpy(ret_name, name, strlen(name) + 1);
        return rc;
    }
    return MESH_E_AGAIN;
}

int mesh_view_each_name(const struct mesh_view *v, void (*fn)(void *arg, const char *name), void *arg) {
    struct view_reader r;
    char name[MESH_NAME_MAX + 1];
    int count = 0;
    uint32_t slots = VIEW_PAGE_SLOTS;
    for (uint32_t i = 0; i < slots; i++) {
        uint64_t seq;
        uint32_t len;
        const struct view_root *root = mesh_view_begin(v, &seq);
        if (!root || !mesh_pages_open(v, &root->names, &r))
            break;
        slots = r.npages * VIEW_PAGE_SLOTS;
        uint32_t ref = (uint32_t)mesh_pages_get(&r, i);
        const struct view_name *n =
            ref != SLOT_DEAD ? mesh_view_rec(v, ref, KIND_NAME, sizeof *n, &len) : NULL;
        bool have = n && mesh_view_text(n, len, &n->text, name, sizeof name);
        if (!have || !mesh_view_still(v, seq))
            continue;
        fn(arg, name);
        count++;
    }
    return count;
}
