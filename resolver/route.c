/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/view.h"
#include <arpa/inet.h>
#include <stdio.h>
#include "lb/lb.h"
#include "shim/base/sys.h"

#define CAPTURE_CLUSTER UINT32_MAX

struct lookup { /* one question */
    const struct mesh_view *v;
    const struct view_root *root;
    int family;
    uint8_t addr[16];
    uint16_t port;
    bool by_addr, is_virtual;
    bool by_index; /* `random` is the place of a target */
    uint64_t random;
    /* what was found */
    char name[MESH_NAME_MAX + 1];
    uint32_t level, route;
    bool headless;
    struct mesh_why *why;
};

static int refuse(const struct lookup *l, int err, const char *what, const char *subject) {
    return mesh_why(l->why, err, "%s%s%s", what, *subject ? ": " : "", subject);
}

/* ---- which route ------------------------------------------------------------------------------------------
 */
static void consider(struct lookup *l, uint32_t level, uint32_t route, bool headless) {
    if (l->level && l->level <= level)
        return;
    l->level = level;
    l->route = route;
    l->headless = headless;
}

static void consider_name(struct lookup *l, const struct view_name *n, uint32_t len) {
    uint32_t bytes;
    const struct view_entry *e = mesh_view_span(n, len, &n->entries, 4, &bytes);
    for (uint32_t i = 0; e && i < bytes / sizeof *e; i++) {
        if (l->port && e[i].port && e[i].port != l->port)
            continue;
        consider(l, e[i].level, e[i].route, false);
        return;
    }
}

static void consider_ref(struct lookup *l, uint32_t ref) {
    uint32_t len;
    const struct view_addr *a = mesh_view_rec(l->v, ref, KIND_ADDR, sizeof *a, &len);
    if (a && a->route)
        consider(l, a->level, a->route, a->headless);
    const struct view_name *n = mesh_view_rec(l->v, a ? a->name : ref, KIND_NAME, sizeof *n, &len);
    if (!n)
        return;
    mesh_view_text(n, len, &n->text, l->name, sizeof l->name);
    if (!a || !a->route)
        consider_name(l, n, len);
}

static uint32_t find_addr(const struct lookup *l, uint16_t port) {
    struct mesh_addr_key key = {l->family, l->addr, port, 0};
    return mesh_map_find(l->v, &l->root->addrs, mesh_hash_addr(l->family, l->addr, port), mesh_match_addr,
                         &key);
}

static uint32_t find_in_range(const struct lookup *l, uint8_t bits, uint16_t port) {
    uint8_t first[16];
    struct mesh_addr_key key = {l->family, first, port, (uint8_t)(bits + 1)};
    memcpy(first, l->addr, sizeof first);
    mesh_mask_addr(first, bits);
    return mesh_map_find(l->v, &l->root->addrs, mesh_hash_range(l->family, first, port, key.range),
                         mesh_match_addr, &key);
}

/* The narrowest range that has it. */
static void find_by_range(struct lookup *l) {
    uint64_t sets[3] = {l->root->ranges4, 0, 0};
    if (l->family == 6)
        memcpy(sets, l->root->ranges6, sizeof sets);
    for (int bits = l->family == 4 ? 32 : 128; (sets[0] | sets[1] | sets[2]) && bits >= 0 && !l->level;
         bits--) {
        if (!(sets[bits / 64] >> (bits % 64) & 1))
            continue;
        if (l->port)
            consider_ref(l, find_in_range(l, (uint8_t)bits, l->port));
        if (!l->level)
            consider_ref(l, find_in_range(l, (uint8_t)bits, 0));
    }
}

static void find_by_addr(struct lookup *l) {
    struct mesh_found f;
    if (l->port)
        consider_ref(l, find_addr(l, l->port));
    consider_ref(l, find_addr(l, 0));
    if (!l->level && !l->is_virtual)
        find_by_range(l);
    if (l->level || l->name[0] || !l->is_virtual ||
        !mesh_virtual_wild_name(l->v, l->family, l->addr, l->name))
        return;
    if (mesh_name_find(l->v, l->root, l->name, strlen(l->name), &f))
        consider_name(l, f.rec, f.len);
}

/* ---- what the route says ----------------------------------------------------------------------------------
 */
static void write_port(uint16_t port, char *ret_text) {
    char digits[5];
    uint32_t n = 0;
    for (uint32_t left = port; left; left /= 10)
        digits[n++] = (char)('0' + left % 10);
    if (n)
        *ret_text++ = ':';
    while (n)
        *ret_text++ = digits[--n];
    *ret_text = 0;
}

static void write_name(const struct lookup *l, char *ret_text, size_t cap) {
    char addr[INET6_ADDRSTRLEN];
    if (l->name[0]) { /* on every connect's path: no printf */
        size_t n = strnlen(l->name, cap - sizeof ":65535");
        memcpy(ret_text, l->name, n);
        write_port(l->port, ret_text + n);
        return;
    }
    inet_ntop(l->family == 4 ? AF_INET : AF_INET6, l->addr, addr, sizeof addr);
    snprintf(ret_text, cap, l->family == 4 ? "%s:%u" : "[%s]:%u", addr, l->port);
}

static void write_hash(const struct lookup *l, const struct view_route *r, struct mesh_route *ret) {
    const char *text = l->v->hash_text;
    char digits[16];
    uint64_t source = atomic_load_explicit(&((struct mesh_view *)l->v)->source_ip_hash, memory_order_relaxed);
    ret->has_hash = 1;
    if (text && text[0] == '=') {
        ret->hash = mesh_lb_xxh64(text + 1, strlen(text + 1), 0);
    } else if (text && strcmp(text, "name") == 0) {
        ret->hash = mesh_lb_xxh64(ret->name, strlen(ret->name), 0);
    } else if (text && strcmp(text, "pid") == 0) {
        int n = snprintf(digits, sizeof digits, "%d", mesh_sys_getpid());
        ret->hash = mesh_lb_xxh64(digits, (size_t)n, 0);
    } else {
        ret->has_hash =
            source && ((r && r->hash == HASH_SOURCE_IP) || (text && strcmp(text, "source-ip") == 0));
        ret->hash = ret->has_hash ? source : 0;
    }
}

static int capture(const struct lookup *l, struct mesh_route *ret) {
    *ret =
        (struct mesh_route){.cluster_id = CAPTURE_CLUSTER, .whole_id = CAPTURE_CLUSTER, .original_dst = true};
    write_name(l, ret->name, sizeof ret->name);
    memcpy(ret->route, "capture", 8);
    memcpy(ret->cluster, "capture", 8);
    return 0;
}

static uint32_t draw(const struct view_target *t, uint32_t n, uint64_t random) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += t[i].weight;
    uint64_t at = total ? random % total : 0;
    for (uint32_t i = 0; i < n; i++) {
        if (at < t[i].weight)
            return i;
        at -= t[i].weight;
    }
    return 0;
}

static int take_cluster(const struct lookup *l, uint32_t id, struct mesh_route *ret) {
    uint32_t flags, len;
    char why[sizeof l->why->text];
    const struct view_cluster *c = mesh_cluster_at(l->v, l->root, id, &flags, &len);
    if (!c)
        return refuse(l, MESH_E_NOENDPOINT, "the route leads to a cluster that the view does not have", "");
    if (!mesh_view_text(c, len, &c->text, ret->cluster, sizeof ret->cluster))
        return MESH_E_INTERNAL;
    if (c->error) {
        mesh_view_text(c, len, &c->why, why, sizeof why);
        return refuse(l, c->error, why, "");
    }
    ret->original_dst = c->flags & CLUSTER_ORIGINAL_DST;
    if (ret->original_dst && l->is_virtual)
        return refuse(l, MESH_E_NOROUTE, "an ORIGINAL_DST cluster behind a virtual address", ret->cluster);
    ret->plain = c->flags & CLUSTER_PLAIN;
    if (l->v->tls == MESH_TLS_REQUIRED && c->flags & (CLUSTER_PLAIN | CLUSTER_SOME_PLAIN))
        return refuse(l, MESH_E_IDENTITY, "MESH_TLS=required, and plaintext is asked for by cluster",
                      ret->cluster);
    ret->drain = (c->flags & CLUSTER_DRAIN_UNHEALTHY ? MESH_DRAIN_UNHEALTHY : 0) |
                 (c->flags & CLUSTER_DRAIN_REMOVED ? MESH_DRAIN_REMOVED : 0);
    ret->cluster_id = c->id;
    ret->cluster_generation = c->generation;
    ret->whole_id = c->whole;
    ret->whole_generation = c->whole_generation;
    return 0;
}

static int follow(const struct lookup *l, struct mesh_route *ret) {
    uint32_t len, bytes;
    char why[sizeof l->why->text];
    const struct view_route *r = mesh_view_rec(l->v, l->route, KIND_ROUTE, sizeof *r, &len);
    if (!r)
        return MESH_E_INTERNAL;
    memset(ret, 0, sizeof *ret);
    write_name(l, ret->name, sizeof ret->name);
    mesh_view_text(r, len, &r->text, ret->route, sizeof ret->route);
    ret->attempts = r->attempts;
    ret->max_age_ms = r->max_age_ms;
    ret->max_age_jitter = (uint8_t)r->max_age_jitter;
    if (l->by_index && r->kind != ROUTE_CLUSTERS && l->random > 0)
        return MESH_E_LIMIT;
    if (r->kind == ROUTE_PASS)
        return l->is_virtual
                   ? refuse(l, MESH_E_NOROUTE, "the route leaves the mesh, a virtual address cannot", "")
                   : MESH_E_NOTFOUND;
    if (r->kind == ROUTE_REFUSE) {
        mesh_view_text(r, len, &r->why, why, sizeof why);
        return refuse(l, r->error ? r->error : MESH_E_INTERNAL, why, "");
    }
    const struct view_target *t = mesh_view_span(r, len, &r->targets, 4, &bytes);
    if (!t || bytes < sizeof *t)
        return MESH_E_INTERNAL;
    uint32_t n = bytes / (uint32_t)sizeof *t;
    if (l->by_index && l->random >= n)
        return MESH_E_LIMIT;
    int rc = take_cluster(l, t[l->by_index ? l->random : draw(t, n, l->random)].cluster, ret);
    if (rc == 0)
        write_hash(l, r, ret);
    return rc;
}

static int no_route(const struct lookup *l, struct mesh_route *ret) {
    if (l->is_virtual)
        return refuse(l, MESH_E_NOROUTE, "nothing in the view has that port", l->name);
    if (mesh_cidr_has(l->v->capture, l->family, l->addr, l->port))
        return capture(l, ret);
    return MESH_E_NOTFOUND;
}

static int by_addr(struct lookup *l, struct mesh_route *ret) {
    if (mesh_cidr_has(l->v->exclude, l->family, l->addr, l->port))
        return MESH_E_NOTFOUND;
    if (l->root)
        find_by_addr(l);
    if (l->name[0] && mesh_cidr_has_name(l->v->exclude, l->name, l->port))
        return l->is_virtual ? refuse(l, MESH_E_NOROUTE, "MESH_EXCLUDE names it", l->name) : MESH_E_NOTFOUND;
    return l->level ? follow(l, ret) : no_route(l, ret);
}

/* ---- questions --------------------------------------------------------------------------------------------
 */
static bool read_address(const struct sockaddr *sa, socklen_t len, struct lookup *l) {
    if (len >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        l->family = 4;
        memcpy(l->addr, &in->sin_addr, 4);
        l->port = ntohs(in->sin_port);
        return true;
    }
    if (len < offsetof(struct sockaddr_in6, sin6_scope_id) || sa->sa_family != AF_INET6)
        return false;
    const struct sockaddr_in6 *in = (const void *)sa;
    bool mapped = IN6_IS_ADDR_V4MAPPED(&in->sin6_addr);
    l->family = mapped ? 4 : 6;
    memcpy(l->addr, (const uint8_t *)&in->sin6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
    l->port = ntohs(in->sin6_port);
    return true;
}

static int ask(struct lookup *l, int (*once)(struct lookup *, struct mesh_route *), struct mesh_route *ret) {
    struct mesh_route r;
    for (int i = 0; i < VIEW_RETRIES; i++) {
        struct lookup again = *l;
        uint64_t seq;
        again.root = mesh_view_begin(l->v, &seq);
        int rc = once(&again, &r);
        if (!mesh_view_still(l->v, seq))
            continue;
        if (rc == 0)
            *ret = r;
        return rc;
    }
    return MESH_E_AGAIN;
}

static int route(const struct mesh_view *v, const struct sockaddr *dst, socklen_t len, uint64_t random,
                 struct mesh_route *ret, struct mesh_why *why) {
    struct lookup l = {.v = v, .random = random, .by_addr = true, .why = why};
    if (!read_address(dst, len, &l))
        return MESH_E_NOTFOUND;
    l.is_virtual = mesh_view_is_virtual(v, l.family, l.addr);
    return ask(&l, by_addr, ret);
}

int mesh_view_route(const struct mesh_view *v, const struct sockaddr *dst, socklen_t len, uint64_t random,
                    struct mesh_route *ret) {
    return route(v, dst, len, random, ret, NULL);
}

int mesh_view_route_why(const struct mesh_view *v, const struct sockaddr *dst, socklen_t len,
                        struct mesh_why *ret_why) {
    struct mesh_route r;
    ret_why->text[0] = 0;
    return route(v, dst, len, 0, &r, ret_why);
}

static int by_name(struct lookup *l, struct mesh_route *ret) {
    struct mesh_found f;
    if (!l->root || !mesh_name_find(l->v, l->root, l->name, strlen(l->name), &f))
        return MESH_E_NOTFOUND;
    consider_name(l, f.rec, f.len);
    return l->level ? follow(l, ret)
                    : refuse(l, MESH_E_NOROUTE, "nothing in the view has that port", l->name);
}

static int route_name(const struct mesh_view *v, const char *name, uint16_t port, uint64_t random,
                      struct mesh_route *ret, struct mesh_why *why) {
    struct lookup l = {.v = v, .port = port, .random = random, .why = why};
    struct mesh_answer a;
    size_t n = mesh_name_normal(name, l.name);
    if (!n || mesh_cidr_has_name(v->exclude, l.name, port))
        return MESH_E_NOTFOUND;
    int rc = ask(&l, by_name, ret);
    return rc == MESH_E_NOTFOUND ? mesh_view_name_at(v, name, port, &a) ?: rc : rc;
}

int mesh_view_route_name(const struct mesh_view *v, const char *name, uint16_t port, uint64_t random,
                         struct mesh_route *ret) {
    return route_name(v, name, port, random, ret, NULL);
}

int mesh_view_route_target(const struct mesh_view *v, const char *name, uint16_t port, uint32_t i,
                           struct mesh_route *ret, struct mesh_why *ret_why) {
    struct lookup l = {.v = v, .port = port, .random = i, .by_index = true, .why = ret_why};
    ret_why->text[0] = 0;
    return mesh_name_normal(name, l.name) ? ask(&l, by_name, ret) : MESH_E_NOTFOUND;
}

static int ports_of(const struct mesh_view *v, const struct view_root *root, const char *name, uint16_t *ret,
                    uint32_t max) {
    struct mesh_found f;
    uint32_t bytes, n = 0;
    if (!mesh_name_find(v, root, name, strlen(name), &f))
        return MESH_E_NOTFOUND;
    const struct view_entry *e = mesh_view_span(f.rec, f.len, &f.rec->entries, 4, &bytes);
    for (uint32_t i = 0; e && i < bytes / sizeof *e && n < max; i++) {
        uint32_t k = 0;
        while (k < n && ret[k] != e[i].port)
            k++;
        ret[k] = e[i].port;
        n += k == n;
    }
    return (int)n;
}

int mesh_view_name_ports(const struct mesh_view *v, const char *name, uint16_t *ret, uint32_t max) {
    char normal[MESH_NAME_MAX + 1];
    if (!mesh_name_normal(name, normal))
        return MESH_E_NOTFOUND;
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        const struct view_root *root = mesh_view_begin(v, &seq);
        int rc = ports_of(v, root, normal, ret, max);
        if (mesh_view_still(v, seq))
            return rc;
    }
    return MESH_E_AGAIN;
}

/* ---- clusters ---------------------------------------------------------------------------------------------
 */
/* Texts of consistent hashing lie at even offsets: the 32 bits of the offset count pairs of bytes. */
static const char *hash_key(const void *view, uint32_t offset, size_t *ret_len) {
    const struct mesh_view *v = view;
    size_t at = (size_t)offset * 2;
    uint16_t n;
    if (!offset || !mesh_view_backed(v, at + 2))
        return NULL;
    memcpy(&n, v->base + at, 2);
    if (!mesh_view_backed(v, at + 2 + n))
        return NULL;
    *ret_len = n;
    return (const char *)v->base + at + 2;
}

void mesh_cluster_view_fill(const struct mesh_view *v, const struct view_cluster *c,
                            const struct mesh_endpoint *items, struct mesh_cluster_view *ret) {
    *ret = (struct mesh_cluster_view){
        .policy = &c->policy,
        .endpoints = items,
        .n = items ? c->n : 0,
        .stats = (struct mesh_stat *)(void *)v->base,
        .nstats = (uint32_t)(mesh_view_limit(v) / VIEW_GRANULE),
        .live = mesh_live_at(v, c->live),
        .limits = mesh_live_at(v, c->limits),
        .hash_key = hash_key,
        .view = v,
    };
}

static int fill_view(const struct mesh_view *v, const struct view_cluster *c, struct mesh_cluster_view *ret) {
    uint32_t len, n = c->n;
    const struct view_endpoints *e = mesh_view_rec(v, c->endpoints, KIND_ENDPOINTS, sizeof *e, &len);
    if (!mesh_counter_valid(v, c->live, KIND_LIVES) || !mesh_counter_valid(v, c->limits, KIND_LIVES) ||
        (n && (!e || n > (len - sizeof *e) / sizeof e->items[0])))
        return MESH_E_INTERNAL;
    mesh_cluster_view_fill(v, c, e ? e->items : NULL, ret);
    ret->n = n;
    const struct view_table *t = mesh_view_rec(v, c->table, KIND_TABLE, sizeof *t, &len);
    if (t && c->table_len <= len - sizeof *t) {
        ret->table = t->bytes;
        ret->table_len = c->table_len;
    }
    return 0;
}

int mesh_view_cluster(const struct mesh_view *v, const struct mesh_route *r, struct mesh_cluster_view *ret,
                      uint64_t *ret_seq) {
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        uint32_t flags, len;
        struct mesh_cluster_view cv;
        const struct view_root *root = mesh_view_begin(v, &seq);
        const struct view_cluster *c = root ? mesh_cluster_at(v, root, r->cluster_id, &flags, &len) : NULL;
        int rc = c && c->generation == r->cluster_generation ? fill_view(v, c, &cv) : MESH_E_NOTFOUND;
        if (!mesh_view_still(v, seq))
            continue;
        if (rc == 0) {
            *ret = cv;
            *ret_seq = seq;
        }
        return rc;
    }
    return MESH_E_AGAIN;
}

int mesh_view_each_cluster(const struct mesh_view *v, void (*fn)(void *arg, const struct mesh_route *cluster),
                           void *arg) {
    int count = 0;
    uint32_t used = 1;
    for (uint32_t id = 0; id < used; id++) {
        struct mesh_route r = {.route = "cluster"};
        uint64_t seq;
        uint32_t flags, len;
        struct view_reader pages;
        const struct view_root *root = mesh_view_begin(v, &seq);
        if (!root || !mesh_pages_open(v, &root->clusters, &pages))
            break;
        used = pages.used < pages.npages * VIEW_PAGE_SLOTS ? pages.used : pages.npages * VIEW_PAGE_SLOTS;
        const struct view_cluster *c = mesh_cluster_at(v, root, id, &flags, &len);
        if (!c || c->whole != id || !mesh_view_text(c, len, &c->text, r.cluster, sizeof r.cluster))
            continue;
        r.cluster_id = r.whole_id = id;
        r.cluster_generation = r.whole_generation = c->generation;
        r.original_dst = c->flags & CLUSTER_ORIGINAL_DST;
        r.plain = c->flags & CLUSTER_PLAIN;
        snprintf(r.name, sizeof r.name, "%s", r.cluster);
        if (!mesh_view_still(v, seq))
            continue;
        fn(arg, &r);
        count++;
    }
    return count;
}
