/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "resolver/blend.h"
#include "resolver/builder.h"
#include "shim/base/mem.h"

enum { ARENA_BLOCK = 64 << 10, NAMES_FIRST = 1024 };

/* ---- memory -----------------------------------------------------------------------------------------------
 */
struct arena_block {
    struct arena_block *next;
    _Alignas(16) uint8_t bytes[];
};

void *mesh_arena_get(struct mesh_arena *a, size_t n) {
    n = (n ? n + 15 : 16) & ~(size_t)15;
    if (n > a->left) {
        size_t room = n > ARENA_BLOCK ? n : ARENA_BLOCK;
        struct arena_block *block = malloc(sizeof *block + room);
        if (!block)
            return NULL;
        block->next = a->blocks;
        a->blocks = block;
        a->at = block->bytes;
        a->left = room;
    }
    void *p = a->at;
    a->at += n;
    a->left -= n;
    return memset(p, 0, n);
}

char *mesh_arena_text(struct mesh_arena *a, const char *text, size_t n) {
    char *p = mesh_arena_get(a, n + 1);
    if (p)
        memcpy(p, text, n);
    return p;
}

void mesh_arena_done(struct mesh_arena *a) {
    while (a->blocks) {
        struct arena_block *next = a->blocks->next;
        free(a->blocks);
        a->blocks = next;
    }
}

struct view_span mesh_blob_add(struct mesh_blob *b, const void *p, size_t n, uint32_t align) {
    uint32_t at = (b->len + align - 1) & ~(align - 1);
    if (b->broken || n > (1u << 30) || at + n > (1u << 30)) {
        b->broken = true;
        return (struct view_span){0, 0};
    }
    if (at + n > b->room) {
        uint32_t room = b->room ? b->room : 1024;
        while (room < at + n)
            room *= 2;
        uint8_t *bytes = realloc(b->p, room);
        if (!bytes) {
            b->broken = true;
            return (struct view_span){0, 0};
        }
        b->p = bytes;
        b->room = room;
    }
    memset(b->p + b->len, 0, at - b->len);
    if (n)
        memcpy(b->p + at, p, n);
    b->len = at + (uint32_t)n;
    return (struct view_span){at, (uint32_t)n};
}

/* ---- resources by name ------------------------------------------------------------------------------------
 */
static int index_open(struct build *b, struct build_index *index, const ProtobufCMessageDescriptor *type) {
    uint32_t slots = 16;
    while (slots < b->resources->n * 2)
        slots *= 2;
    index->slots = mesh_arena_get(&b->arena, slots * sizeof *index->slots);
    if (!index->slots)
        return MESH_E_NOMEM;
    index->mask = slots - 1;
    for (size_t i = 0; i < b->resources->n; i++) {
        const struct mesh_resource *r = &b->resources->items[i];
        if (r->type != type)
            continue;
        uint32_t at = (uint32_t)mesh_hash_bytes(r->name, strlen(r->name), 0) & index->mask;
        while (index->slots[at])
            at = (at + 1) & index->mask;
        index->slots[at] = r;
    }
    return 0;
}

const struct mesh_resource *mesh_build_find(const struct build_index *index, const char *name) {
    uint32_t at = (uint32_t)mesh_hash_bytes(name, strlen(name), 0) & index->mask;
    while (index->slots[at] && strcmp(index->slots[at]->name, name) != 0)
        at = (at + 1) & index->mask;
    return index->slots[at];
}

uint32_t mesh_build_number(const struct build *b, const struct mesh_resource *r) {
    return (uint32_t)(r - b->resources->items);
}

/* Not more of them than there are clusters. */
void mesh_build_keep(struct build *b, const char *name, const uint8_t *p, size_t n) {
    uint32_t at = (uint32_t)mesh_hash_bytes(&p, sizeof p, 0) & b->raws_mask;
    while (b->raws[at].p && b->raws[at].p != p)
        at = (at + 1) & b->raws_mask;
    b->raws[at] = (struct build_raw){name, p, n};
}

static int put_raws(struct build *b, int (*put)(struct mesh_pub *, const struct mesh_resource_in *)) {
    int rc = 0;
    for (uint32_t i = 0; b->raws && i <= b->raws_mask && rc == 0; i++) {
        struct mesh_resource_in in = {
            .type = mesh_proto_type_name(&mesh__endpoint__cluster_load_assignment__descriptor),
            .name = b->raws[i].name,
            .path = "EDS",
            .rank = RANK_CONTROL,
            .bytes = b->raws[i].p,
            .n = b->raws[i].n};
        if (in.bytes)
            rc = put(b->pub, &in);
    }
    return rc;
}

int mesh_fault(struct build *b, const struct mesh_resource *r, const char *fmt, ...) {
    char text[sizeof((struct mesh_why *)0)->text];
    const char **why = &b->why[mesh_build_number(b, r)];
    va_list args;
    if (*why)
        return 0;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    *why = mesh_arena_text(&b->arena, text, strlen(text));
    return *why ? 0 : MESH_E_NOMEM;
}

/* ---- small things of protobuf -----------------------------------------------------------------------------
 */
const char *mesh_any_type(const Mesh__Pb__Any *any) {
    const char *url = any && any->type_url ? any->type_url : "", *slash = strrchr(url, '/');
    return slash ? slash + 1 : url;
}

bool mesh_any_is(const Mesh__Pb__Any *any, const ProtobufCMessageDescriptor *d) {
    return any && any->type_url && mesh_proto_type(any->type_url) == d;
}

void *mesh_any_open(const Mesh__Pb__Any *any, const ProtobufCMessageDescriptor *d, int *ret_rc) {
    ProtobufCMessage *m = NULL;
    *ret_rc =
        mesh_any_is(any, d) ? mesh_proto_unpack(d, any->value.data, any->value.len, &m) : MESH_E_UNSUPPORTED;
    return *ret_rc < 0 ? NULL : m;
}

uint32_t mesh_duration_ms(const Mesh__Pb__Duration *d, uint32_t otherwise) {
    if (!d)
        return otherwise;
    if (d->seconds < 0 || d->nanos < 0)
        return 0;
    if (d->seconds > 4000000)
        return 4000000000u;
    return (uint32_t)(d->seconds * 1000 + d->nanos / 1000000);
}

/* ---- the whole --------------------------------------------------------------------------------------------
 */
static int put_resource(struct build *b, const struct mesh_resource *r) {
    size_t n = protobuf_c_message_get_packed_size(r->msg);
    uint8_t *bytes = malloc(n + 1);
    if (!bytes)
        return MESH_E_NOMEM;
    protobuf_c_message_pack(r->msg, bytes);
    const char *type = mesh_proto_type_name(r->type);
    struct mesh_resource_in in = {.type = type ? type : "",
                                  .name = r->name,
                                  .path = r->path,
                                  .why = b->why[mesh_build_number(b, r)],
                                  .rank = mesh_build_rank(b, r),
                                  .bytes = bytes,
                                  .n = n};
    int rc = mesh_pub_resource_put(b->pub, &in);
    mesh_zero(bytes, n);
    free(bytes);
    return rc;
}

static int put_inbound(struct build *b) {
    if (b->chains.broken || b->inbound.broken)
        return MESH_E_NOMEM;
    if (!b->chains.len)
        return 0;
    struct view_span chains = mesh_blob_add(&b->inbound, b->chains.p, b->chains.len, 8);
    if (b->inbound.broken)
        return MESH_E_NOMEM;
    ((struct view_inbound *)(void *)b->inbound.p)->chains = chains;
    return mesh_pub_inbound_put(b->pub, b->inbound.p, b->inbound.len);
}

static int open_build(struct build *b) {
    struct view_inbound head = {.chains = {0, 0}};
    size_t n = b->resources->n;
    b->addrs_end = &b->addrs;
    b->names_mask = NAMES_FIRST - 1;
    b->names = calloc(NAMES_FIRST, sizeof *b->names);
    b->why = mesh_arena_get(&b->arena, n * sizeof *b->why);
    b->ports = mesh_arena_get(&b->arena, n * sizeof *b->ports);
    mesh_blob_add(&b->inbound, &head, sizeof head, 8);
    if (!b->names || !b->why || !b->ports)
        return MESH_E_NOMEM;
    b->raws_mask = 15;
    while (b->raws_mask < n * 2)
        b->raws_mask = b->raws_mask * 2 + 1;
    if (b->in->assignment && !(b->raws = calloc((size_t)b->raws_mask + 1, sizeof *b->raws)))
        return MESH_E_NOMEM;
    int rc = index_open(b, &b->clusters, &mesh__cluster__cluster__descriptor);
    if (rc == 0)
        rc = index_open(b, &b->assignments, &mesh__endpoint__cluster_load_assignment__descriptor);
    if (rc == 0)
        rc = index_open(b, &b->routes, &mesh__route__route_configuration__descriptor);
    if (rc == 0)
        rc = index_open(b, &b->secrets, &mesh__tls__secret__descriptor);
    for (size_t i = 0; i < n && rc == 0; i++)
        if (b->resources->items[i].refused)
            rc = mesh_fault(b, &b->resources->items[i], "%s", b->resources->items[i].refused);
    return rc;
}

static int run_build(struct build *b) {
    int rc = mesh_host_reserve_routes(b->pub);
    for (size_t i = 0; i < b->resources->n; i++)
        if (mesh_build_rank(b, &b->resources->items[i]) == RANK_BEFORE)
            b->pub->root.flags |= ROOT_BEFORE;
    if (rc == 0)
        rc = mesh_build_clusters(b);
    if (rc == 0)
        rc = mesh_build_ports(b);
    if (rc == 0)
        rc = mesh_build_listeners(b);
    if (rc == 0)
        rc = mesh_build_routes(b);
    if (rc == 0)
        rc = mesh_build_names_put(b);
    if (rc == 0)
        rc = put_inbound(b);
    if (rc == 0)
        rc = put_raws(b, mesh_pub_resource_put);
    for (size_t i = 0; i < b->resources->n && rc == 0; i++)
        rc = put_resource(b, &b->resources->items[i]);
    return rc;
}

static int run_again(struct build *b) {
    int rc = mesh_build_clusters(b);
    return rc == 0 ? put_raws(b, mesh_pub_resource_replace) : rc;
}

static int build(struct mesh_pub *pub, const struct mesh_build_in *in, int (*run)(struct build *b),
                 struct mesh_why *why) {
    struct build *b = calloc(1, sizeof *b);
    if (!b)
        return MESH_E_NOMEM;
    b->pub = pub;
    b->resources = in->resources;
    b->in = in;
    int rc = open_build(b);
    if (rc == 0)
        rc = run(b);
    if (rc < 0)
        mesh_why(why, rc, "the view cannot be built: %s", mesh_err_text(rc));
    if (b->own_opened)
        protobuf_c_message_free_unpacked(b->own_opened, NULL);
    free(b->names);
    free(b->raws);
    free(b->chains.p);
    free(b->inbound.p);
    free(b->endpoints);
    free(b->metadata);
    free(b->keys.p);
    mesh_arena_done(&b->arena);
    free(b);
    return rc;
}

int mesh_build(struct mesh_pub *pub, const struct mesh_build_in *in, struct mesh_why *why) {
    return build(pub, in, run_build, why);
}

int mesh_build_again(struct mesh_pub *pub, const struct mesh_build_in *in, struct mesh_why *why) {
    return build(pub, in, run_again, why);
}
