/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "proto/cluster.pb-c.h"
#include "proto/core.pb-c.h"
#include "proto/discovery.pb-c.h"
#include "proto/endpoint.pb-c.h"
#include "proto/inner.h"
#include "proto/listener.pb-c.h"
#include "proto/nds.pb-c.h"
#include "proto/route.pb-c.h"
#include "proto/tls.pb-c.h"
#include "shim/base/mem.h"

#define CLUSTER &mesh__cluster__cluster__descriptor
#define LISTENER &mesh__listener__listener__descriptor
#define ROUTES &mesh__route__route_configuration__descriptor
#define ENDPOINTS &mesh__endpoint__cluster_load_assignment__descriptor
#define SECRET &mesh__tls__secret__descriptor
#define NAMES &mesh__nds__name_table__descriptor

static bool is_resource(const ProtobufCMessageDescriptor *d) {
    return d == CLUSTER || d == LISTENER || d == ROUTES || d == ENDPOINTS || d == SECRET || d == NAMES;
}

/* All of them have their name in field 1, but for the name table, which has none. */
static const char *name_of(const ProtobufCMessage *m) {
    if (m->descriptor == NAMES)
        return "";
    const char *name =
        *(const char *const *)mesh_field_value(m, protobuf_c_message_descriptor_get_field(m->descriptor, 1));
    return name ? name : "";
}

static int keep(struct mesh_collect *c, ProtobufCMessage *m, const struct mesh_why *refused,
                const struct mesh_node *at) {
    struct mesh_resources *out = c->out;
    if (out->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct mesh_resource *more = realloc(out->items, cap * sizeof(*more));
        if (!more)
            return MESH_E_NOMEM;
        out->items = more;
        c->cap = cap;
    }
    struct mesh_resource item = {
        .type = m->descriptor, .msg = m, .name = name_of(m), .line = at->line, .column = at->column};
    item.path = strdup(c->r->path.text);
    item.refused = refused->text[0] ? strdup(refused->text) : NULL;
    if (!item.path || (refused->text[0] && !item.refused)) {
        free(item.path);
        free(item.refused);
        return MESH_E_NOMEM;
    }
    out->items[out->n++] = item;
    return 0;
}

int mesh_collect_add(struct mesh_collect *c, const struct mesh_node *node,
                     const ProtobufCMessageDescriptor *d, const struct mesh_node *at) {
    struct mesh_why refused = {.text = ""};
    ProtobufCMessage *m;
    c->r->refused = c->r->opts && c->r->opts->keep_refused ? &refused : NULL;
    int err = mesh_read_message(c->r, node, d, true, &m);
    if (err)
        return err;
    if (d == CLUSTER && !*name_of(m))
        err = mesh_reading_fail(c->r, MESH_E_INVALID, at, "wants a name");
    else if (keep(c, m, &refused, at))
        err = mesh_reading_no_room(c->r, at);
    if (err)
        protobuf_c_message_free_unpacked(m, NULL);
    return err;
}

/* One entry of a list; `d` is what the list holds, NULL when each entry says it. */
static int read_item(struct mesh_collect *c, const struct mesh_node *node,
                     const ProtobufCMessageDescriptor *d) {
    const struct mesh_node *type = mesh_node_get(node, "@type"), *at = node;
    if (node->kind != MESH_NODE_MAP)
        return mesh_reading_fail(c->r, MESH_E_INVALID, node, "wants a map");
    const ProtobufCMessageDescriptor *said = type ? mesh_proto_type(type->text) : d;
    if (said == &mesh__discovery__resource__descriptor) {
        node = mesh_node_get(node, "resource");
        type = mesh_node_get(node, "@type");
        said = type ? mesh_proto_type(type->text) : d;
        if (!node || node->kind != MESH_NODE_MAP)
            return 0; /* a heartbeat */
    }
    if (!type && !d)
        return mesh_reading_fail(c->r, MESH_E_INVALID, node, "wants an \"@type\"");
    if (d && said != d)
        return mesh_reading_fail(c->r, MESH_E_INVALID, type, "is of another type than its list");
    if (said && is_resource(said))
        return mesh_collect_add(c, node, said, at);
    mesh_reading_warn(c->r, type, "not a type of resource that is used");
    return 0;
}

/* The entries of a list. In config dumps they are wrapped: `inner` is the path to follow, a NULL ends it. */
static int read_items(struct mesh_collect *c, const struct mesh_node *list,
                      const ProtobufCMessageDescriptor *d, const char *const *inner) {
    if (list->kind == MESH_NODE_NULL)
        return 0;
    if (list->kind != MESH_NODE_LIST)
        return mesh_reading_fail(c->r, MESH_E_INVALID, list, "wants a list");
    for (uint32_t i = 0; i < list->n; i++) {
        const struct mesh_node *node = list->items[i];
        size_t mark = mesh_path_down(&c->r->path, "[%u]", i);
        for (const char *const *name = inner; *name && node; name++) {
            node = mesh_node_get(node, *name);
            mesh_path_field(&c->r->path, *name);
        }
        int err = node ? read_item(c, node, d) : 0;
        if (err)
            return err;
        mesh_path_up(&c->r->path, mark);
    }
    return 0;
}

struct section {
    const char *name;
    const ProtobufCMessageDescriptor *d;
    const char *inner[3];
};

/* One entry of a map, if a table of sections names it. Returns 1 when it does, 0 when not, or an error. */
static int read_section(struct mesh_collect *c, const struct mesh_node *key, const struct mesh_node *value,
                        const struct section *sections, size_t n) {
    size_t k = 0;
    while (k < n && !mesh_name_is(sections[k].name, key->text))
        k++;
    if (k == n)
        return 0;
    size_t mark = mesh_path_field(&c->r->path, sections[k].name);
    int err = read_items(c, value, sections[k].d, sections[k].inner);
    if (err)
        return err;
    mesh_path_up(&c->r->path, mark);
    return 1;
}

/* The other entries of such a map are of no use here. */
static int read_sections(struct mesh_collect *c, const struct mesh_node *map, const struct section *sections,
                         size_t n) {
    int err = 0;
    for (uint32_t i = 0; map->kind == MESH_NODE_MAP && i < map->n && err >= 0; i++)
        err = read_section(c, map->items[2 * i], map->items[2 * i + 1], sections, n);
    return err < 0 ? err : 0;
}

static int read_static(struct mesh_collect *c, const struct mesh_node *map) {
    static const struct section sections[] = {
        {"listeners", LISTENER, {NULL}}, {"clusters", CLUSTER, {NULL}}, {"secrets", SECRET, {NULL}}};
    return read_sections(c, map, sections, MESH_ARRAY_LEN(sections));
}

/* What is warming, draining or in error is not in force; static routes and endpoints repeat what stands
 * inside listeners and clusters. */
static int read_dump(struct mesh_collect *c, const struct mesh_node *list) {
    static const struct section sections[] = {
        {"static_listeners", LISTENER, {"listener"}},
        {"dynamic_listeners", LISTENER, {"active_state", "listener"}},
        {"static_clusters", CLUSTER, {"cluster"}},
        {"dynamic_active_clusters", CLUSTER, {"cluster"}},
        {"dynamic_route_configs", ROUTES, {"route_config"}},
        {"dynamic_endpoint_configs", ENDPOINTS, {"endpoint_config"}},
        {"static_secrets", SECRET, {"secret"}},
        {"dynamic_active_secrets", SECRET, {"secret"}},
    };
    if (list->kind != MESH_NODE_LIST)
        return mesh_reading_fail(c->r, MESH_E_INVALID, list, "wants a list");
    for (uint32_t i = 0; i < list->n; i++) {
        size_t mark = mesh_path_down(&c->r->path, "[%u]", i);
        int err = read_sections(c, list->items[i], sections, MESH_ARRAY_LEN(sections));
        if (err)
            return err;
        mesh_path_up(&c->r->path, mark);
    }
    return 0;
}

static int read_list(struct mesh_collect *c, const struct mesh_node *key, const struct mesh_node *value) {
    static const struct section sections[] = {{"resources", NULL, {NULL}}, {"LDS", LISTENER, {NULL}},
                                              {"RDS", ROUTES, {NULL}},     {"CDS", CLUSTER, {NULL}},
                                              {"EDS", ENDPOINTS, {NULL}},  {"SDS", SECRET, {NULL}},
                                              {"NDS", NAMES, {NULL}}};
    return read_section(c, key, value, sections, MESH_ARRAY_LEN(sections));
}

/* Of an Envoy bootstrap: who and where we are, for zone-aware routing. */
static int read_node(struct mesh_collect *c, const struct mesh_node *map) {
    if (c->out->node)
        return mesh_reading_fail(c->r, MESH_E_INVALID, map, "is there already");
    return mesh_read_message(c->r, map, &mesh__core__node__descriptor, false, &c->out->node);
}

static int read_manager(struct mesh_collect *c, const struct mesh_node *map) {
    const struct mesh_node *name = mesh_node_get(map, "local_cluster_name");
    if (!name)
        name = mesh_node_get(map, "localClusterName");
    if (!name || name->kind != MESH_NODE_STRING || c->out->local_cluster)
        return 0;
    c->out->local_cluster = strdup(name->text);
    return c->out->local_cluster ? 0 : mesh_why(c->r->why, MESH_E_NOMEM, "out of memory");
}

/* The forms that are more than a list; returns as read_section does. *ret_took: does it hold
 * resources? */
static int read_form(struct mesh_collect *c, const struct mesh_node *key, const struct mesh_node *value,
                     int *ret_took) {
    static const struct {
        const char *name;
        int (*read)(struct mesh_collect *c, const struct mesh_node *node);
        bool aside; /* it says nothing of the mesh */
    } forms[] = {{"services", mesh_short_expand, false},
                 {"static_resources", read_static, false},
                 {"configs", read_dump, false},
                 {"node", read_node, true},
                 {"cluster_manager", read_manager, true}};
    for (size_t i = 0; i < MESH_ARRAY_LEN(forms); i++) {
        if (!mesh_name_is(forms[i].name, key->text))
            continue;
        size_t mark = mesh_path_field(&c->r->path, forms[i].name);
        int err = value->kind == MESH_NODE_NULL ? 0 : forms[i].read(c, value);
        mesh_path_up(&c->r->path, mark);
        *ret_took = !forms[i].aside;
        return err < 0 ? err : 1;
    }
    return 0;
}

static int read_root(struct mesh_collect *c, const struct mesh_node *root) {
    int known = 0;
    for (uint32_t i = 0; root->kind == MESH_NODE_MAP && i < root->n; i++) {
        const struct mesh_node *key = root->items[2 * i], *value = root->items[2 * i + 1];
        int took = read_list(c, key, value), holds = 1;
        if (!took)
            took = read_form(c, key, value, &holds);
        if (took < 0)
            return took;
        if (!took) {
            size_t mark = mesh_path_field(&c->r->path, key->text);
            mesh_reading_warn(c->r, key, "not known");
            mesh_path_up(&c->r->path, mark);
        }
        known += took && holds;
    }
    return known ? 0
                 : mesh_reading_fail(c->r, MESH_E_INVALID, root,
                                     "wants services, resources or static_resources");
}

static int by_name(const void *a, const void *b) {
    const struct mesh_resource *x = *(const struct mesh_resource *const *)a,
                               *y = *(const struct mesh_resource *const *)b;
    if (x->type != y->type)
        return x->type < y->type ? -1 : 1;
    int order = strcmp(x->name, y->name);
    return order ? order : x < y ? -1 : 1;
}

static int refuse_same_names(struct mesh_collect *c) {
    size_t n = c->out->n;
    const struct mesh_resource **order = n > 1 ? malloc(n * sizeof(*order)) : NULL;
    if (n < 2)
        return 0;
    if (!order)
        return mesh_why(c->r->why, MESH_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        order[i] = &c->out->items[i];
    qsort(order, n, sizeof(*order), by_name);
    int err = 0;
    for (size_t i = 1; i < n && !err; i++) {
        const struct mesh_resource *first = order[i - 1], *second = order[i];
        if (first->type != second->type || !*first->name || strcmp(first->name, second->name))
            continue;
        const struct mesh_node at = {.line = second->line, .column = second->column};
        mesh_path_up(&c->r->path, 0);
        mesh_path_field(&c->r->path, second->path);
        err = mesh_reading_fail(c->r, MESH_E_INVALID, &at, "there is a %s \"%.60s\" in line %u already",
                                first->type->short_name, first->name, first->line);
    }
    free(order);
    return err;
}

int mesh_resources_read(const char *text, size_t len, const struct mesh_read_opts *opts,
                        struct mesh_resources **ret, struct mesh_why *why) {
    struct mesh_doc *doc;
    struct mesh_reading r;
    int err = mesh_doc_parse(text, len, opts && opts->file ? opts->file : "view", &doc, why);
    if (err)
        return err;
    mesh_reading_init(&r, opts, why);
    struct mesh_collect c = {.r = &r, .out = calloc(1, sizeof(*c.out))};
    if (c.out)
        err = read_root(&c, mesh_doc_root(doc));
    else
        err = mesh_why(why, MESH_E_NOMEM, "out of memory");
    if (!err)
        err = refuse_same_names(&c);
    mesh_doc_free(doc);
    if (err) {
        mesh_resources_free(c.out);
        return err;
    }
    *ret = c.out;
    return 0;
}

void mesh_resources_free(struct mesh_resources *r) {
    for (size_t i = 0; r && i < r->n; i++) {
        protobuf_c_message_free_unpacked(r->items[i].msg, NULL);
        free(r->items[i].path);
        free(r->items[i].refused);
    }
    if (r && r->node)
        protobuf_c_message_free_unpacked(r->node, NULL);
    if (r) {
        free(r->local_cluster);
        free(r->items);
    }
    free(r);
}
