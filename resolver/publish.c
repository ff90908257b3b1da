/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/publish.h"
#include <stdlib.h>
#include "lb/lb.h"
#include "shim/base/mem.h"

/* ---- transactions -----------------------------------------------------------------------------------------
 */
static void tables_done(struct mesh_pub *pub) {
    mesh_wpages_done(&pub->names);
    mesh_wpages_done(&pub->addrs);
    mesh_wpages_done(&pub->assigns);
    mesh_wpages_done(&pub->cluster_names);
    mesh_wpages_done(&pub->clusters);
    mesh_wpages_done(&pub->resources);
}

static int tables_open(struct mesh_pub *pub) {
    const struct view_root *r = &pub->root;
    int rc = mesh_wpages_open(&pub->names, &pub->space, &r->names);
    if (rc == 0)
        rc = mesh_wpages_open(&pub->addrs, &pub->space, &r->addrs);
    if (rc == 0)
        rc = mesh_wpages_open(&pub->assigns, &pub->space, &r->assigns);
    if (rc == 0)
        rc = mesh_wpages_open(&pub->cluster_names, &pub->space, &r->cluster_names);
    if (rc == 0)
        rc = mesh_wpages_open(&pub->clusters, &pub->space, &r->clusters);
    if (rc == 0)
        rc = mesh_wpages_open(&pub->resources, &pub->space, &r->resources);
    return rc;
}

static int mark_ids(struct mesh_pub *pub) {
    for (uint32_t i = 0; i < pub->cluster_names.p.npages * VIEW_PAGE_SLOTS; i++) {
        uint32_t len, ref = (uint32_t)mesh_wpages_get(&pub->cluster_names, i);
        const struct view_cluster_name *n =
            ref && ref != SLOT_DEAD ? mesh_view_rec(pub->v, ref, KIND_CLUSTER_NAME, sizeof *n, &len) : NULL;
        if (n && n->id < pub->nids)
            pub->ids[n->id / 64] |= UINT64_C(1) << (n->id % 64);
    }
    return 0;
}

/* What is in force becomes the transaction's start. A root that does not hold together is not built upon. */
static int adopt_root(struct mesh_pub *pub) {
    struct view_head *h = mesh_view_head(pub->v);
    uint32_t len;
    pub->root_word = atomic_load(&h->root);
    const struct view_root *root =
        mesh_view_rec(pub->v, (uint32_t)pub->root_word, KIND_ROOT, sizeof *root, &len);
    int rc = mesh_space_collect(&pub->space, root);
    if (rc == MESH_E_INTERNAL) {
        root = NULL;
        rc = mesh_space_collect(&pub->space, NULL);
    }
    if (rc < 0)
        return rc;
    memset(&pub->root, 0, sizeof pub->root);
    if (root)
        pub->root = *root;
    tables_done(pub);
    return tables_open(pub);
}

static int open_counters(struct mesh_pub *pub) {
    int rc = mesh_counters_open(pub, &pub->stats, KIND_STATS);
    return rc == 0 ? mesh_counters_open(pub, &pub->lives, KIND_LIVES) : rc;
}

/* Records, and the counters of endpoints that left long ago. */
static int collect(struct mesh_pub *pub) {
    mesh_counters_done(&pub->stats);
    mesh_counters_done(&pub->lives);
    mesh_pub_resources_moved(pub);
    int rc = adopt_root(pub);
    return rc == 0 ? open_counters(pub) : rc;
}

int mesh_pub_open(struct mesh_view *v, uint64_t now, struct mesh_pub **ret_pub) {
    uint64_t lease;
    int rc = mesh_lease_take(v, now, &lease);
    if (rc < 0)
        return rc;
    struct mesh_pub *pub = calloc(1, sizeof *pub);
    if (!pub) {
        mesh_lease_drop(v, lease);
        return MESH_E_NOMEM;
    }
    pub->v = v;
    pub->lease = lease;
    pub->now = now;
    pub->space.v = v;
    pub->pass = 1;
    pub->nids = VIEW_PAGES_MAX * VIEW_PAGE_SLOTS / 8;
    pub->ids = calloc(pub->nids / 64, sizeof *pub->ids);
    rc = pub->ids ? adopt_root(pub) : MESH_E_NOMEM;
    if (rc == 0)
        rc = mark_ids(pub);
    if (rc == 0)
        rc = open_counters(pub);
    if (rc < 0) {
        mesh_pub_close(pub);
        return rc;
    }
    *ret_pub = pub;
    return 0;
}

void mesh_pub_close(struct mesh_pub *pub) {
    if (!pub)
        return;
    mesh_lease_drop(pub->v, pub->lease);
    tables_done(pub);
    mesh_counters_done(&pub->stats);
    mesh_counters_done(&pub->lives);
    mesh_space_done(&pub->space);
    free(pub->ids);
    mesh_pub_resources_moved(pub);
    free(pub->reserved);
    free(pub->taken);
    free(pub->changed);
    free(pub);
}

int mesh_pub_begin(struct mesh_pub *pub, uint64_t now) {
    if (!mesh_lease_ours(pub->v, pub->lease))
        return MESH_E_AGAIN;
    pub->now = now;
    pub->nchanged = 0;
    mesh_lease_renew(pub->v, now);
    return mesh_space_full(&pub->space) ? collect(pub) : 0;
}

int mesh_pub_undo(struct mesh_pub *pub) {
    pub->is_fresh = false;
    return mesh_lease_ours(pub->v, pub->lease) ? collect(pub) : MESH_E_AGAIN;
}

int mesh_pub_fresh(struct mesh_pub *pub) {
    struct view_root old = pub->root;
    memset(&pub->root, 0, sizeof pub->root);
    pub->root.version = old.version;
    pub->root.assigns = old.assigns;
    pub->root.report = old.report;
    pub->old_cluster_names = old.cluster_names;
    pub->first_pass = pub->pass + 1;
    pub->is_fresh = true;
    mesh_pub_resources_moved(pub);
    tables_done(pub);
    return tables_open(pub);
}

static int commit_tables(struct mesh_pub *pub, struct view_root *ret) {
    int rc = mesh_wpages_commit(&pub->names, &ret->names);
    if (rc == 0)
        rc = mesh_wpages_commit(&pub->addrs, &ret->addrs);
    if (rc == 0)
        rc = mesh_wpages_commit(&pub->assigns, &ret->assigns);
    if (rc == 0)
        rc = mesh_wpages_commit(&pub->cluster_names, &ret->cluster_names);
    if (rc == 0)
        rc = mesh_wpages_commit(&pub->clusters, &ret->clusters);
    if (rc == 0)
        rc = mesh_wpages_commit(&pub->resources, &ret->resources);
    return rc;
}

static int commit(struct mesh_pub *pub) {
    struct view_root *root;
    uint32_t ref;
    int rc = commit_tables(pub, &pub->root);
    if (rc == 0)
        rc = mesh_space_new(&pub->space, KIND_ROOT, sizeof *root, &ref, (void **)&root);
    if (rc < 0)
        return rc;
    pub->root.rec = root->rec;
    *root = pub->root;
    uint64_t word = (pub->lease >> 40) << 40 | ref;
    if (!mesh_lease_ours(pub->v, pub->lease) ||
        !atomic_compare_exchange_strong(&mesh_view_head(pub->v)->root, &pub->root_word, word))
        return MESH_E_AGAIN;
    pub->root_word = word;
    for (uint32_t i = 0; i < pub->nchanged; i++)
        mesh_lb_recount_later(mesh_live_at(pub->v, pub->changed[i]));
    pub->nchanged = 0;
    if (pub->is_fresh) {
        mesh_counters_retire_unseen(pub, &pub->stats, pub->first_pass);
        mesh_counters_retire_unseen(pub, &pub->lives, pub->first_pass);
    }
    pub->is_fresh = false;
    return 0;
}

int mesh_pub_commit(struct mesh_pub *pub, uint64_t stamp, int64_t wall) {
    pub->root.version++;
    pub->root.built_wall = wall;
    pub->root.stamp = stamp;
    return commit(pub);
}

int mesh_pub_commit_aside(struct mesh_pub *pub) {
    return commit(pub);
}

/* ---- clusters ---------------------------------------------------------------------------------------------
 */
static int free_id(struct mesh_pub *pub, uint32_t *ret_id) {
    for (uint32_t i = 0; i < pub->nids / 64; i++) {
        if (pub->ids[i] == ~UINT64_C(0))
            continue;
        *ret_id = i * 64 + (uint32_t)__builtin_ctzll(~pub->ids[i]);
        return 0;
    }
    return MESH_E_LIMIT;
}

static void put_text(void *rec, uint32_t *io_at, struct view_span *ret, const char *text) {
    size_t n = text ? strlen(text) : 0;
    memcpy((uint8_t *)rec + *io_at, text ? text : "", n);
    *ret = (struct view_span){*io_at, (uint32_t)n};
    *io_at += (uint32_t)n;
}

static const struct view_cluster_name *name_rec(const struct mesh_pub *pub, uint32_t ref) {
    uint32_t len;
    return mesh_view_rec(pub->v, ref, KIND_CLUSTER_NAME, sizeof(struct view_cluster_name), &len);
}

static int get_name(struct mesh_pub *pub, const char *name, const struct view_cluster_name **ret) {
    struct mesh_text_key key = {name, strlen(name)};
    uint64_t hash = mesh_hash_bytes(name, key.len, 0);
    const struct view_cluster_name *old;
    struct view_cluster_name *n;
    uint32_t ref = mesh_wmap_find(&pub->cluster_names, hash, mesh_match_cluster_name, &key), at = sizeof *n;
    if (ref) {
        *ret = name_rec(pub, ref);
        return *ret ? 0 : MESH_E_INTERNAL;
    }
    int rc = mesh_space_new(&pub->space, KIND_CLUSTER_NAME, sizeof *n + key.len, &ref, (void **)&n);
    if (rc < 0)
        return rc;
    old = name_rec(pub, mesh_map_find(pub->v, &pub->old_cluster_names, hash, mesh_match_cluster_name, &key));
    n->generation = old ? old->generation : (uint32_t)pub->root.version + 1;
    if (old)
        n->id = old->id;
    else if ((rc = free_id(pub, &n->id)) < 0)
        return rc;
    if (n->id >= pub->nids)
        return MESH_E_LIMIT;
    pub->ids[n->id / 64] |= UINT64_C(1) << (n->id % 64);
    put_text(n, &at, &n->text, name);
    *ret = n;
    return mesh_wmap_add(&pub->cluster_names, hash, ref);
}

int mesh_pub_cluster_id(struct mesh_pub *pub, const char *name, uint32_t *ret_id) {
    const struct view_cluster_name *n;
    int rc = get_name(pub, name, &n);
    if (rc == 0)
        *ret_id = n->id;
    return rc;
}

static int note_change(struct mesh_pub *pub, uint32_t live) {
    if (pub->nchanged == pub->changed_room) {
        uint32_t room = pub->changed_room ? pub->changed_room * 2 : 256;
        uint32_t *p = realloc(pub->changed, room * sizeof *p);
        if (!p)
            return MESH_E_NOMEM;
        pub->changed = p;
        pub->changed_room = room;
    }
    pub->changed[pub->nchanged++] = live;
    return 0;
}

static int put_endpoints(struct mesh_pub *pub, const struct mesh_cluster_in *in, uint64_t key, uint32_t live,
                         uint32_t *ret_ref, uint32_t *io_flags) {
    struct view_endpoints *rec;
    size_t items = (size_t)in->n * sizeof rec->items[0];
    int rc = mesh_space_new(&pub->space, KIND_ENDPOINTS, sizeof *rec + items + in->keys_len, ret_ref,
                            (void **)&rec);
    if (rc < 0)
        return rc;
    uint64_t keys = (uint64_t)*ret_ref * VIEW_GRANULE + sizeof *rec + items;
    rec->n = in->n;
    for (uint32_t i = 0; i < in->n; i++) {
        struct mesh_endpoint *e = &rec->items[i];
        *e = in->endpoints[i];
        uint64_t k =
            mesh_hash_bytes(e->addr, e->family == 4 ? 4 : 16, key + ((uint64_t)e->port << 8 | e->family));
        rc = mesh_counters_get(pub, &pub->stats, k, live, &e->stat);
        if (rc < 0)
            return rc;
        e->since = mesh_counter_since(pub, e->stat);
        e->hash_key = e->hash_key ? (uint32_t)((keys + e->hash_key - 1) / 2) : 0;
        *io_flags |= e->family == 4 ? CLUSTER_HAS4 : CLUSTER_HAS6;
    }
    if (in->keys_len)
        memcpy((uint8_t *)rec->items + items, in->keys, in->keys_len);
    return 0;
}

static int put_table(struct mesh_pub *pub, struct view_cluster *c, const struct mesh_endpoint *items) {
    struct mesh_cluster_view cv;
    struct view_table *t;
    mesh_cluster_view_fill(pub->v, c, items, &cv);
    size_t size = mesh_lb_table_size(&cv);
    if (!size || size > (size_t)1 << 30)
        return size ? MESH_E_LIMIT : 0;
    int rc = mesh_space_new(&pub->space, KIND_TABLE, sizeof *t + size, &c->table, (void **)&t);
    return rc < 0 ? rc : mesh_lb_table_build(&cv, t->bytes, size, &c->table_len);
}

static int put_config(struct mesh_pub *pub, const struct mesh_cluster_in *in, const struct view_cluster *old,
                      uint32_t *ret_ref) {
    struct view_config *rec;
    struct view_rec head;
    *ret_ref = old ? old->config : 0;
    if (!in->config)
        return 0;
    int rc = mesh_space_new(&pub->space, KIND_CONFIG, in->config_len, ret_ref, (void **)&rec);
    if (rc < 0)
        return rc;
    head = rec->rec;
    memcpy(rec, in->config, in->config_len);
    rec->rec = head;
    return 0;
}

static void retire_endpoints(struct mesh_pub *pub, const struct view_cluster *old) {
    uint32_t len;
    const struct view_endpoints *e =
        old ? mesh_view_rec(pub->v, old->endpoints, KIND_ENDPOINTS, sizeof *e, &len) : NULL;
    for (uint32_t i = 0; e && i < e->n && i < (len - sizeof *e) / sizeof e->items[0]; i++)
        mesh_counters_retire(pub, e->items[i].stat);
}

static const struct view_cluster *old_cluster(const struct mesh_pub *pub, uint32_t id) {
    uint32_t len;
    return mesh_view_rec(pub->v, (uint32_t)mesh_wpages_get(&pub->clusters, id), KIND_CLUSTER,
                         sizeof(struct view_cluster), &len);
}

static int fill_cluster(struct mesh_pub *pub, const struct mesh_cluster_in *in,
                        const struct view_cluster *old, struct view_cluster *c) {
    const char *whole = in->of ? in->of : in->name;
    uint64_t key = mesh_hash_bytes(whole, strlen(whole), 0);
    int rc = mesh_counters_get(pub, &pub->lives, mesh_hash_bytes(in->name, strlen(in->name), 0), 0, &c->live);
    if (rc == 0)
        rc = mesh_counters_get(pub, &pub->lives, key, 0, &c->limits);
    if (rc == 0)
        rc = note_change(pub, c->live);
    if (rc == 0)
        rc = put_config(pub, in, old, &c->config);
    if (rc == 0 && in->n)
        rc = put_endpoints(pub, in, key, c->limits, &c->endpoints, &c->flags);
    if (rc == 0 && in->n) {
        const struct view_endpoints *e = (const void *)(pub->v->base + (size_t)c->endpoints * VIEW_GRANULE);
        rc = put_table(pub, c, e->items);
    }
    return rc;
}

int mesh_pub_cluster_put(struct mesh_pub *pub, const struct mesh_cluster_in *in) {
    const struct view_cluster_name *name, *whole;
    struct view_cluster *c;
    uint32_t ref, at = sizeof *c;
    size_t why = in->why ? strlen(in->why) : 0;
    int rc = get_name(pub, in->name, &name);
    if (rc == 0)
        rc = get_name(pub, in->of ? in->of : in->name, &whole);
    if (rc == 0)
        rc = mesh_space_new(&pub->space, KIND_CLUSTER, sizeof *c + strlen(in->name) + why, &ref, (void **)&c);
    if (rc < 0)
        return rc;
    const struct view_cluster *old = old_cluster(pub, name->id);
    pub->pass++;
    *c = (struct view_cluster){.rec = c->rec,
                               .id = name->id,
                               .generation = name->generation,
                               .whole = whole->id,
                               .whole_generation = whole->generation,
                               .flags = in->flags,
                               .error = in->error,
                               .n = in->n,
                               .policy = in->policy};
    put_text(c, &at, &c->text, in->name);
    put_text(c, &at, &c->why, in->why);
    rc = fill_cluster(pub, in, old, c);
    if (rc == 0)
        rc = mesh_wpages_set(&pub->clusters, c->id, (uint64_t)c->flags << 32 | ref);
    if (rc < 0)
        return rc;
    if (in->of) /* its endpoints are the cluster's, and counted there */
        return 0;
    retire_endpoints(pub, old);
    pub->root.clusters_n += !old;
    pub->root.endpoints_n += in->n - (old ? old->n : 0);
    return 0;
}

int mesh_pub_cluster_remove(struct mesh_pub *pub, const char *name) {
    struct mesh_text_key key = {name, strlen(name)};
    uint64_t hash = mesh_hash_bytes(name, key.len, 0);
    const struct view_cluster_name *n =
        name_rec(pub, mesh_wmap_find(&pub->cluster_names, hash, mesh_match_cluster_name, &key));
    const struct view_cluster *old = n ? old_cluster(pub, n->id) : NULL;
    if (!old)
        return MESH_E_NOTFOUND;
    pub->pass++;
    retire_endpoints(pub, old);
    pub->root.clusters_n--;
    pub->root.endpoints_n -= old->n;
    return mesh_wpages_set(&pub->clusters, n->id,
                           0); /* the id stays with the name: routes may still say it */
}
