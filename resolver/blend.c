/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/blend.h"
#include <stdio.h>
#include <stdlib.h>
#include "proto/core.pb-c.h"
#include "resolver/copies.h"

struct seen { /* (type, name) of what is in the set, open addressing */
    const struct mesh_resource **slots;
    uint32_t mask;
};

static uint64_t hash_of(const ProtobufCMessageDescriptor *type, const char *name) {
    return mesh_hash_bytes(name, strlen(name), (uint64_t)(uintptr_t)type);
}

/* The slot that holds it, or is free for it. */
static const struct mesh_resource **slot_of(const struct seen *s, const ProtobufCMessageDescriptor *type,
                                            const char *name) {
    uint32_t at = (uint32_t)hash_of(type, name) & s->mask;
    while (s->slots[at] && (s->slots[at]->type != type || strcmp(s->slots[at]->name, name) != 0))
        at = (at + 1) & s->mask;
    return &s->slots[at];
}

static void add(struct mesh_blend *b, struct seen *s, const struct mesh_resources *from,
                enum mesh_rank rank) {
    for (size_t i = 0; from && i < from->n; i++) {
        const struct mesh_resource *r = &from->items[i], **slot = slot_of(s, r->type, r->name);
        if (*slot && r->name[0])
            continue;
        b->ranks[b->set.n] = (uint8_t)rank;
        b->set.items[b->set.n] = *r;
        if (!*slot)
            *slot = &b->set.items[b->set.n];
        b->set.n++;
    }
}

/* Where we are, and the cluster that we are one of; borrowed, but for a node that is unpacked for it. */
static int say_who(struct mesh_blend *b, const struct mesh_resources *file,
                   const struct mesh_bootstrap *boot) {
    int rc = 0;
    b->set.node = file ? file->node : NULL;
    b->set.local_cluster = file ? file->local_cluster : NULL;
    if (boot && !b->set.node) {
        rc = mesh_proto_unpack(&mesh__core__node__descriptor, boot->node, boot->node_len, &b->node);
        b->set.node = b->node;
    }
    if (boot && !b->set.local_cluster && *boot->node_cluster)
        b->set.local_cluster = boot->node_cluster;
    return rc == MESH_E_NOMEM ? rc : 0;
}

int mesh_blend_make(struct mesh_blend *ret, const struct mesh_resources *file,
                    const struct mesh_resources *control, const struct mesh_resources *before,
                    const struct mesh_bootstrap *boot) {
    size_t n = (file ? file->n : 0) + (control ? control->n : 0) + (before ? before->n : 0);
    struct mesh_blend b = {.own = {NULL, NULL}};
    struct seen s = {NULL, 15};
    while (s.mask < n * 2)
        s.mask = s.mask * 2 + 1;
    s.slots = calloc((size_t)s.mask + 1, sizeof *s.slots);
    b.set.items = malloc((n + 1) * sizeof *b.set.items);
    b.ranks = malloc(n + 1);
    if (!s.slots || !b.set.items || !b.ranks) {
        free(s.slots);
        mesh_blend_done(&b);
        return MESH_E_NOMEM;
    }
    add(&b, &s, file, RANK_FILE);
    add(&b, &s, control, RANK_CONTROL);
    add(&b, &s, before, RANK_BEFORE);
    free(s.slots);
    int rc = say_who(&b, file, boot);
    if (rc < 0) {
        mesh_blend_done(&b);
        return rc;
    }
    *ret = b;
    return 0;
}

void mesh_blend_done(struct mesh_blend *b) {
    free(b->set.items);
    free(b->ranks);
    mesh_resources_free(b->own[0]);
    mesh_resources_free(b->own[1]);
    if (b->node)
        protobuf_c_message_free_unpacked(b->node, NULL);
    *b = (struct mesh_blend){.ranks = NULL};
}

/* ---- what served before -----------------------------------------------------------------------------------
 */
static const char *name_in(const struct mesh_resource *r) {
    unsigned at = 0;
    static const char *const fields[] = {"name", "cluster_name"};
    for (; at < 2; at++) {
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field_by_name(r->type, fields[at]);
        const char *text = f && f->type == PROTOBUF_C_TYPE_STRING
                               ? *(char *const *)((const char *)r->msg + f->offset)
                               : NULL;
        if (text && *text)
            return text;
    }
    return "";
}

/* 1: read, 0: passed over (an unknown type, bytes that are not what they say). */
static int revive(const struct mesh_copy *c, struct mesh_resource *ret) {
    struct mesh_why why = {""};
    char url[256];
    snprintf(url, sizeof url, "/%s", c->type);
    *ret = (struct mesh_resource){.type = mesh_proto_type(url)};
    int rc = ret->type ? mesh_proto_unpack(ret->type, c->bytes, c->n, &ret->msg) : MESH_E_UNSUPPORTED;
    if (rc < 0)
        return rc == MESH_E_NOMEM ? rc : 0;
    ret->name = name_in(ret);
    ret->path = strdup(c->path);
    if (mesh_proto_check(ret->msg, c->path, &why) < 0)
        ret->refused = strdup(why.text);
    if (ret->path && (!why.text[0] || ret->refused))
        return 1;
    protobuf_c_message_free_unpacked(ret->msg, NULL);
    free(ret->path);
    return MESH_E_NOMEM;
}

int mesh_blend_before(const struct mesh_view *v, struct mesh_resources **ret) {
    struct mesh_copies all = {0};
    int rc = mesh_copies_all(v, &all);
    if (rc < 0)
        return rc;
    struct mesh_resources *r = calloc(1, sizeof *r);
    if (r && !(r->items = calloc(all.n + 1, sizeof *r->items))) {
        free(r);
        r = NULL;
    }
    rc = r ? 0 : MESH_E_NOMEM;
    for (uint32_t i = 0; i < all.n && rc >= 0; i++)
        if (all.items[i].rank != RANK_FILE) {
            rc = revive(&all.items[i], &r->items[r->n]);
            r->n += rc == 1;
        }
    mesh_copies_done(&all);
    if (rc < 0) {
        mesh_resources_free(r);
        return rc;
    }
    *ret = r;
    return 0;
}
