/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/copies.h"
#include <stdlib.h>

void mesh_copies_done(struct mesh_copies *c) {
    for (uint32_t i = 0; i < c->n; i++) {
        free(c->items[i].type);
        free(c->items[i].name);
        free(c->items[i].path);
        free(c->items[i].why);
        free(c->items[i].bytes);
    }
    free(c->items);
    *c = (struct mesh_copies){0};
}

static char *copy_span(const void *rec, uint32_t len, const struct view_span *where, size_t *ret_n) {
    uint32_t n;
    const void *p = mesh_view_span(rec, len, where, 1, &n);
    char *copy = p ? malloc((size_t)n + 1) : NULL;
    if (copy) {
        memcpy(copy, p, n);
        copy[n] = 0;
    }
    *ret_n = n;
    return copy;
}

static int copy_resource(const struct mesh_view *v, uint32_t ref, struct mesh_copies *to) {
    uint32_t len;
    size_t n;
    const struct view_resource *r = mesh_view_rec(v, ref, KIND_RESOURCE, sizeof *r, &len);
    if (!r)
        return MESH_E_INTERNAL;
    if (to->n == to->room) {
        uint32_t room = to->room ? to->room * 2 : 64;
        struct mesh_copy *items = realloc(to->items, room * sizeof *items);
        if (!items)
            return MESH_E_NOMEM;
        to->items = items;
        to->room = room;
    }
    struct mesh_copy *c = &to->items[to->n++];
    c->rank = (uint8_t)((const volatile struct view_resource *)r)->rank;
    c->type = copy_span(r, len, &r->type, &n);
    c->name = copy_span(r, len, &r->name, &n);
    c->path = copy_span(r, len, &r->path, &n);
    c->why = copy_span(r, len, &r->why, &n);
    c->bytes = (uint8_t *)copy_span(r, len, &r->bytes, &c->n);
    return c->type && c->name && c->path && c->why && c->bytes ? 0 : MESH_E_NOMEM;
}

static int copy_all_once(const struct mesh_view *v, const struct view_root *root, struct mesh_copies *to) {
    struct view_reader r;
    int rc = 0;
    if (!root || !mesh_pages_open(v, &root->resources, &r))
        return 0;
    for (uint32_t i = 0; i < r.used && i < r.npages * VIEW_PAGE_SLOTS && rc == 0; i++)
        rc = copy_resource(v, (uint32_t)mesh_pages_get(&r, i), to);
    return rc;
}

int mesh_copies_all(const struct mesh_view *v, struct mesh_copies *to) {
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        *to = (struct mesh_copies){0};
        int rc = copy_all_once(v, mesh_view_begin(v, &seq), to);
        bool still = mesh_view_still(v, seq);
        if (still && rc == 0)
            return 0;
        mesh_copies_done(to);
        if (still)
            return rc;
    }
    return MESH_E_AGAIN;
}
