/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/space.h"

static const void *mark_rec(struct mesh_space *s, uint32_t ref, uint32_t kind, size_t min,
                            uint32_t *ret_len) {
    const void *rec = mesh_view_rec(s->v, ref, kind, min, ret_len);
    return rec && mesh_mark_set(s, ref, (*ret_len + VIEW_GRANULE - 1) / VIEW_GRANULE) ? rec : NULL;
}

static bool mark_optional(struct mesh_space *s, uint32_t ref, uint32_t kind, size_t min) {
    uint32_t len;
    return !ref || mark_rec(s, ref, kind, min, &len);
}

static bool mark_cluster(struct mesh_space *s, uint32_t ref) {
    uint32_t len;
    const struct view_cluster *c = mark_rec(s, ref, KIND_CLUSTER, sizeof *c, &len);
    return c && mark_optional(s, c->config, KIND_CONFIG, sizeof(struct view_config)) &&
           mark_optional(s, c->endpoints, KIND_ENDPOINTS, sizeof(struct view_endpoints)) &&
           mark_optional(s, c->table, KIND_TABLE, sizeof(struct view_table));
}

static bool mark_name(struct mesh_space *s, uint32_t ref) {
    uint32_t len, n;
    const struct view_name *r = mark_rec(s, ref, KIND_NAME, sizeof *r, &len);
    const struct view_entry *e = r ? mesh_view_span(r, len, &r->entries, 4, &n) : NULL;
    if (!e)
        return false;
    for (uint32_t i = 0; i < n / sizeof *e; i++)
        if (!mark_optional(s, e[i].route, KIND_ROUTE, sizeof(struct view_route)))
            return false;
    return true;
}

/* Names stand in this table under their virtual addresses too; the table of names marks them. */
static bool mark_addr(struct mesh_space *s, uint32_t ref) {
    uint32_t len;
    const struct view_addr *a = mesh_view_rec(s->v, ref, KIND_ADDR, sizeof *a, &len);
    if (!a)
        return mesh_view_rec(s->v, ref, KIND_NAME, sizeof(struct view_name), &len) != NULL;
    return mark_rec(s, ref, KIND_ADDR, sizeof *a, &len) &&
           mark_optional(s, a->route, KIND_ROUTE, sizeof(struct view_route));
}

static bool mark_assign(struct mesh_space *s, uint32_t ref) {
    return mark_optional(s, ref, KIND_ASSIGN, sizeof(struct view_assign));
}

static bool mark_cluster_name(struct mesh_space *s, uint32_t ref) {
    return mark_optional(s, ref, KIND_CLUSTER_NAME, sizeof(struct view_cluster_name));
}

static bool mark_resource(struct mesh_space *s, uint32_t ref) {
    return mark_optional(s, ref, KIND_RESOURCE, sizeof(struct view_resource));
}

static bool mark_pages(struct mesh_space *s, const struct view_pages *p,
                       bool (*mark)(struct mesh_space *, uint32_t)) {
    struct view_reader r;
    uint32_t len;
    if (p->npages == 0)
        return true;
    if (!mesh_pages_open(s->v, p, &r) || !mark_rec(s, p->dir, KIND_DIR, sizeof(struct view_rec), &len))
        return false;
    for (uint32_t i = 0; i < r.npages; i++) {
        const struct view_page *page = mark_rec(s, r.dir[i], KIND_PAGE, sizeof *page, &len);
        for (uint32_t j = 0; page && j < VIEW_PAGE_SLOTS; j++) {
            uint32_t ref = (uint32_t)page->slots[j];
            if (ref && ref != SLOT_DEAD && !mark(s, ref))
                return false;
        }
        if (!page)
            return false;
    }
    return true;
}

int mesh_mark_root(struct mesh_space *s, const struct view_root *root) {
    uint32_t ref = (uint32_t)(((const uint8_t *)root - s->v->base) / VIEW_GRANULE);
    bool whole = mark_optional(s, ref, KIND_ROOT, sizeof *root) && mark_pages(s, &root->names, mark_name) &&
                 mark_pages(s, &root->addrs, mark_addr) && mark_pages(s, &root->assigns, mark_assign) &&
                 mark_pages(s, &root->cluster_names, mark_cluster_name) &&
                 mark_pages(s, &root->clusters, mark_cluster) &&
                 mark_pages(s, &root->resources, mark_resource) &&
                 mark_optional(s, root->inbound, KIND_INBOUND, sizeof(struct view_inbound)) &&
                 mark_optional(s, root->report, KIND_REPORT, sizeof(struct view_report));
    return whole ? 0 : MESH_E_INTERNAL;
}
