/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include "proto/nds.pb-c.h"
#include "resolver/builder.h"

enum { CLUSTERS_OF_NAME = 256 };

/* ---- texts ------------------------------------------------------------------------------------------------
 */
bool mesh_parse_address(const char *text, uint8_t *ret_family, uint8_t ret_addr[16]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!text)
        return false;
    memset(ret_addr, 0, 16);
    *ret_family = strchr(text, ':') ? 6 : 4;
    if (inet_pton(*ret_family == 4 ? AF_INET : AF_INET6, text, ret_addr) != 1)
        return false;
    if (*ret_family == 6 && memcmp(ret_addr, mapped, sizeof mapped) == 0) {
        memmove(ret_addr, ret_addr + 12, 4);
        memset(ret_addr + 4, 0, 12);
        *ret_family = 4;
    }
    return true;
}

static bool read_port(const char *text, uint16_t *ret_port) {
    unsigned port;
    int used = 0;
    if (sscanf(text, "%5u%n", &port, &used) != 1 || text[used] || port == 0 || port > UINT16_MAX)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

/* Labels of letters, digits, '-' and '_'. The last one is no number, nor a number after '_', which is how
 * control planes name listeners on addresses. */
static bool is_host(const char *name) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *label = name;
    for (const char *p = name;; p++) {
        if (*p && *p != '.') {
            if (!strchr(letters, *p))
                return false;
            continue;
        }
        if (p == label)
            return false;
        if (!*p)
            return strspn(label, "0123456789_") != (size_t)(p - label);
        label = p + 1;
    }
}

static bool is_special(const char *name) {
    return strcmp(name, "blackholecluster") == 0 || strcmp(name, "passthroughcluster") == 0 ||
           strcmp(name, "inboundpassthroughcluster") == 0;
}

/* outbound|PORT||NAME; a subset between the bars is reached by routes only. */
static const char *outbound(const char *text, uint16_t *ret_port) {
    char port[8];
    int used = 0;
    if (sscanf(text, "outbound|%5[0-9]||%n", port, &used) != 1 || !used || !read_port(port, ret_port))
        return NULL;
    return text + used;
}

bool mesh_host_name(const char *text, char ret_name[MESH_NAME_MAX + 1], uint16_t *ret_port) {
    char copy[MESH_NAME_MAX + 8];
    size_t n = strlen(text);
    const char *host = text;
    *ret_port = 0;
    if (n >= sizeof copy)
        return false;
    if (strchr(text, '|')) {
        host = outbound(text, ret_port);
        if (!host)
            return false;
    }
    snprintf(copy, sizeof copy, "%s", host);
    char *colon = strrchr(copy, ':');
    if (colon && (host != text || !read_port(colon + 1, ret_port)))
        return false;
    if (colon)
        *colon = 0;
    return mesh_name_normal(copy, ret_name) && is_host(ret_name) && !is_special(ret_name);
}

bool mesh_service_name(const char *cluster, char ret_name[MESH_NAME_MAX + 1]) {
    char whole[MESH_NAME_MAX + 32];
    uint16_t port;
    const char *bar = strrchr(cluster, '|');
    if (!bar || strncmp(cluster, "outbound|", 9) != 0)
        return mesh_host_name(cluster, ret_name, &port);
    snprintf(whole, sizeof whole, "outbound|1||%s", bar + 1);
    return mesh_host_name(whole, ret_name, &port);
}

/* ---- the table --------------------------------------------------------------------------------------------
 */
static struct build_name **chain_of(const struct build *b, const char *text, size_t len) {
    return &b->names[(uint32_t)mesh_hash_bytes(text, len, 0) & b->names_mask];
}

static int widen(struct build *b) {
    uint32_t slots = (b->names_mask + 1) * 2;
    struct build_name **old = b->names, **names = calloc(slots, sizeof *names);
    if (!names)
        return MESH_E_NOMEM;
    uint32_t old_slots = b->names_mask + 1;
    b->names = names;
    b->names_mask = slots - 1;
    for (uint32_t i = 0; i < old_slots; i++)
        for (struct build_name *n = old[i], *next; n; n = next) {
            struct build_name **chain = chain_of(b, n->text, n->len);
            next = n->next;
            n->next = *chain;
            *chain = n;
        }
    free(old);
    return 0;
}

static struct build_name *find_name(const struct build *b, const char *text, size_t len) {
    struct build_name *n = *chain_of(b, text, len);
    while (n && (n->len != len || memcmp(n->text, text, len) != 0))
        n = n->next;
    return n;
}

struct build_name *mesh_build_name(struct build *b, const char *text, size_t len) {
    struct build_name *n = find_name(b, text, len);
    if (n)
        return n;
    if (b->nnames > b->names_mask && widen(b) < 0)
        return NULL;
    n = mesh_arena_get(&b->arena, sizeof *n);
    if (!n || !(n->text = mesh_arena_text(&b->arena, text, len)))
        return NULL;
    n->len = (uint32_t)len;
    struct build_name **chain = chain_of(b, text, len);
    n->next = *chain;
    *chain = n;
    b->nnames++;
    return n;
}

static int add_entry(struct build *b, struct build_name *n, uint16_t port, enum view_level level,
                     const struct build_route *route) {
    for (uint32_t i = 0; i < n->nentries; i++)
        if (n->entries[i].port == port && n->entries[i].level == level)
            return 0; /* the first stays */
    if (n->nentries == n->room) {
        uint32_t room = n->room ? n->room * 2 : 2;
        struct build_entry *e = mesh_arena_get(&b->arena, room * sizeof *e);
        if (!e)
            return MESH_E_NOMEM;
        if (n->nentries)
            memcpy(e, n->entries, n->nentries * sizeof *e);
        n->entries = e;
        n->room = room;
    }
    n->entries[n->nentries++] = (struct build_entry){port, (uint16_t)level, route};
    return 0;
}

int mesh_build_entry(struct build *b, struct build_name *n, uint16_t port, enum view_level level,
                     const struct build_route *route) {
    if (n->nentries && n->rank < b->rank)
        return 0;
    if (n->rank > b->rank)
        n->nentries = 0;
    n->rank = b->rank;
    return add_entry(b, n, port, level, route);
}

int mesh_build_reserve(struct build *b, int family, const uint8_t *addr, uint8_t range) {
    if (!mesh_cidr_has(b->pub->v->virtual_ranges, family, addr, 0))
        return 0;
    return mesh_pub_reserve(b->pub, family, addr, range ? (uint8_t)(range - 1) : family == 4 ? 32 : 128);
}

int mesh_build_addr(struct build *b, const struct build_addr *a) {
    struct build_addr *copy = mesh_arena_get(&b->arena, sizeof *copy);
    if (!copy)
        return MESH_E_NOMEM;
    *copy = *a;
    copy->next = NULL;
    *b->addrs_end = copy;
    b->addrs_end = &copy->next;
    return mesh_build_reserve(b, a->family, a->addr, a->range);
}

/* ---- clusters as names ------------------------------------------------------------------------------------
 */
static int add_clusters(struct build *b) {
    char name[MESH_NAME_MAX + 1];
    uint16_t port;
    int rc = 0;
    for (size_t i = 0; i < b->resources->n && rc == 0; i++) {
        const struct mesh_resource *r = &b->resources->items[i];
        const struct build_route *route;
        if (r->type != &mesh__cluster__cluster__descriptor || !mesh_host_name(r->name, name, &port))
            continue;
        struct build_name *n = mesh_build_name(b, name, strlen(name));
        mesh_build_at(b, i);
        rc = n ? mesh_build_route(b, "default", r->name, &route) : MESH_E_NOMEM;
        if (rc == 0)
            rc = mesh_build_entry(b, n, port, LEVEL_CLUSTER, route);
    }
    return rc;
}

/* ---- Istio's name table -----------------------------------------------------------------------------------
 */
/* The one address of a family that a name has; several are the name's endpoints, not the service's address.
 */
static bool only_address(const Mesh__Nds__NameTable__NameInfo *info, uint8_t want, uint8_t ret_addr[16]) {
    uint32_t n = 0;
    for (size_t i = 0; i < info->n_ips; i++) {
        uint8_t family, addr[16];
        if (!mesh_parse_address(info->ips[i], &family, addr) || family != want)
            continue;
        memcpy(ret_addr, addr, 16);
        n++;
    }
    return n == 1;
}

static int own_of(struct build *b, struct build_name *n, const Mesh__Nds__NameTable__NameInfo *info,
                  uint8_t family) {
    struct build_addr a = {.family = family, .name = n};
    if ((family == 4 ? n->has_own4 : n->has_own6) || !only_address(info, family, a.addr))
        return 0;
    memcpy(family == 4 ? n->own4 : n->own6, a.addr, family == 4 ? 4 : 16);
    n->has_own4 |= family == 4;
    n->has_own6 |= family == 6;
    return mesh_build_addr(b, &a);
}

static int add_table(struct build *b, const Mesh__Nds__NameTable *t) {
    char name[MESH_NAME_MAX + 1];
    uint16_t port;
    int rc = 0;
    for (size_t i = 0; i < t->n_table && rc == 0; i++) {
        const Mesh__Nds__NameTable__TableEntry *e = t->table[i];
        if (!e->key || !e->value || strchr(e->key, '|') || !mesh_host_name(e->key, name, &port) || port)
            continue;
        struct build_name *n = mesh_build_name(b, name, strlen(name));
        bool is_theirs = n && n->nentries && n->rank < b->rank; /* a file's names are its alone */
        rc = !n ? MESH_E_NOMEM : is_theirs ? 0 : own_of(b, n, e->value, 4);
        if (rc == 0 && !is_theirs)
            rc = own_of(b, n, e->value, 6);
    }
    return rc;
}

static int add_tables(struct build *b) {
    int rc = 0;
    for (size_t i = 0; i < b->resources->n && rc == 0; i++) {
        mesh_build_at(b, i);
        if (b->resources->items[i].type == &mesh__nds__name_table__descriptor &&
            !b->resources->items[i].refused)
            rc = add_table(b, (const Mesh__Nds__NameTable *)b->resources->items[i].msg);
    }
    return rc;
}

/* ---- wildcards --------------------------------------------------------------------------------------------
 */
static bool is_pattern(const struct build_name *n) {
    return n->text[0] == '*' || n->text[n->len - 1] == '*';
}

struct lengths { /* which lengths of wildcards there are */
    bool suffix[MESH_NAME_MAX + 1], prefix[MESH_NAME_MAX + 1];
};

static void note_lengths(const struct build *b, struct lengths *ret) {
    memset(ret, 0, sizeof *ret);
    for (uint32_t i = 0; i <= b->names_mask; i++)
        for (const struct build_name *n = b->names[i]; n; n = n->next)
            if (is_pattern(n))
                (n->text[0] == '*' ? ret->suffix : ret->prefix)[n->len - 1] = true;
}

static int merge(struct build *b, struct build_name *n, const struct build_name *pattern) {
    int rc = 0;
    for (uint32_t i = 0; pattern && i < pattern->nentries && rc == 0; i++)
        rc = add_entry(b, n, pattern->entries[i].port, pattern->entries[i].level, pattern->entries[i].route);
    return rc;
}

/* A wildcard that fits stands before an address and a cluster of the same name; the longest of its kind
 * counts. */
static int merge_patterns(struct build *b, struct build_name *n, const struct lengths *lengths) {
    char text[MESH_NAME_MAX + 1];
    const struct build_name *found = NULL;
    for (size_t i = n->len - 1; i > 0 && !found; i--)
        if (lengths->suffix[i]) {
            memcpy(text, n->text, n->len);
            text[n->len - i - 1] = '*';
            found = find_name(b, text + n->len - i - 1, i + 1);
        }
    int rc = merge(b, n, found);
    found = NULL;
    for (size_t i = n->len - 1; i > 0 && !found && rc == 0; i--)
        if (lengths->prefix[i]) {
            memcpy(text, n->text, i);
            text[i] = '*';
            found = find_name(b, text, i + 1);
        }
    if (rc == 0)
        rc = merge(b, n, found);
    return rc == 0 && lengths->suffix[0] ? merge(b, n, find_name(b, "*", 1)) : rc;
}

/* ---- putting ----------------------------------------------------------------------------------------------
 */
static int by_level(const void *a, const void *b) {
    const struct build_entry *x = a, *y = b;
    if (x->level != y->level)
        return x->level < y->level ? -1 : 1;
    return (int)(y->port != 0) - (int)(x->port != 0); /* one that names its port stands first */
}

static uint32_t clusters_of(const struct build_name *n, uint32_t ret_ids[CLUSTERS_OF_NAME]) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < n->nentries; i++)
        for (uint32_t j = 0; j < n->entries[i].route->n && count < CLUSTERS_OF_NAME; j++) {
            uint32_t id = n->entries[i].route->targets[j].cluster, k = 0;
            while (k < count && ret_ids[k] != id)
                k++;
            ret_ids[k] = id;
            count += k == count;
        }
    return count;
}

static const struct view_cluster *cluster_of(const struct build *b, uint32_t id) {
    uint32_t len;
    return mesh_view_rec(b->pub->v, (uint32_t)mesh_wpages_get(&b->pub->clusters, id), KIND_CLUSTER,
                         sizeof(struct view_cluster), &len);
}

static bool is_headless(const struct build *b, const uint32_t *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const struct view_cluster *c = cluster_of(b, ids[i]);
        if (!c || !(c->flags & CLUSTER_ORIGINAL_DST))
            return false;
    }
    return n > 0;
}

static int add_headless(struct build *b, struct build_name *n, const uint32_t *ids, uint32_t nids) {
    int rc = 0;
    for (uint32_t i = 0; i < nids && rc == 0; i++) {
        uint32_t len;
        const struct view_cluster *c = cluster_of(b, ids[i]);
        const struct view_endpoints *e =
            mesh_view_rec(b->pub->v, c->endpoints, KIND_ENDPOINTS, sizeof *e, &len);
        for (uint32_t j = 0; e && j < c->n && rc == 0; j++) {
            struct build_addr a = {.family = e->items[j].family,
                                   .port = e->items[j].port,
                                   .level = LEVEL_CLUSTER,
                                   .headless = true,
                                   .route = n->entries[0].route,
                                   .name = n};
            memcpy(a.addr, e->items[j].addr, 16);
            rc = mesh_build_addr(b, &a);
        }
    }
    return rc;
}

/* All that is said of it is that it is not of the mesh: libc knows it. */
static bool is_left_alone(const struct build_name *n) {
    for (uint32_t i = 0; i < n->nentries; i++)
        if (n->entries[i].route->kind != ROUTE_PASS)
            return false;
    return !n->has_own4 && !n->has_own6;
}

static int put_name(struct build *b, struct build_name *n) {
    uint32_t ids[CLUSTERS_OF_NAME], ref;
    struct mesh_name_in in = {.text = n->text, .len = n->len, .clusters = ids, .n = n->nentries};
    struct view_entry *entries = mesh_arena_get(&b->arena, n->nentries * sizeof *entries);
    if (!entries)
        return MESH_E_NOMEM;
    if (n->nentries)
        qsort(n->entries, n->nentries, sizeof *n->entries, by_level);
    for (uint32_t i = 0; i < n->nentries; i++)
        entries[i] = (struct view_entry){n->entries[i].port, n->entries[i].level, n->entries[i].route->ref};
    in.entries = entries;
    in.nclusters = clusters_of(n, ids);
    in.flags =
        (is_pattern(n) ? NAME_PATTERN : 0) | (n->has_own4 ? NAME_OWN4 : 0) | (n->has_own6 ? NAME_OWN6 : 0);
    memcpy(in.v4, n->own4, 4);
    memcpy(in.v6, n->own6, 16);
    if (!in.flags && is_headless(b, ids, in.nclusters)) {
        in.flags = NAME_HEADLESS;
        int rc = add_headless(b, n, ids, in.nclusters);
        if (rc < 0)
            return rc;
    }
    int rc = mesh_pub_name_put(b->pub, &in, &ref);
    n->ref = ref;
    return rc;
}

static int put_addrs(struct build *b) {
    int rc = 0;
    for (int level = 0; level <= LEVEL_STAR && rc == 0; level++)
        for (const struct build_addr *a = b->addrs; a && rc == 0; a = a->next) {
            struct view_addr in = {.family = a->family,
                                   .headless = a->headless,
                                   .range = a->range,
                                   .port = a->port,
                                   .level = a->level,
                                   .route = a->route ? a->route->ref : 0,
                                   .name = a->name ? a->name->ref : 0};
            memcpy(in.addr, a->addr, 16);
            if (a->level == level)
                rc = mesh_pub_addr_put(b->pub, &in);
        }
    return rc;
}

int mesh_build_names_put(struct build *b) {
    struct lengths lengths;
    int rc = add_clusters(b);
    if (rc == 0)
        rc = add_tables(b);
    note_lengths(b, &lengths);
    if (rc == 0)
        rc = mesh_wmap_reserve(&b->pub->names, b->nnames);
    if (rc == 0)
        rc = mesh_wmap_reserve(&b->pub->addrs, b->nnames * 2);
    for (uint32_t i = 0; i <= b->names_mask && rc == 0; i++)
        for (struct build_name *n = b->names[i]; n && rc == 0; n = n->next) {
            if (!is_pattern(n))
                rc = merge_patterns(b, n, &lengths);
            if (rc == 0 && !is_left_alone(n))
                rc = put_name(b, n);
        }
    return rc == 0 ? put_addrs(b) : rc;
}
