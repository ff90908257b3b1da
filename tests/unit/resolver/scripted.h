/* SPDX-License-Identifier: Apache-2.0
 *
 * A control plane inside the test: a transport for resolver/xds.h whose other end knows some resources (in the form of a
 * view file) and answers each request for them as a state-of-the-world server does.
 */
#ifndef MESH_TESTS_RESOLVER_SCRIPTED_H
#define MESH_TESTS_RESOLVER_SCRIPTED_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "proto/discovery.pb-c.h"
#include "proto/proto.h"
#include "resolver/xds.h"

enum { SCRIPTED_TYPES = 5, SCRIPTED_NAMES = 64 };
static struct {
    const char *suffix;
    char url[128];
    char *names[SCRIPTED_NAMES]; /* subscribed to */
    size_t n;
    unsigned version, sent; /* of the resources, of the last response */
    bool asked;
} scripted_types[SCRIPTED_TYPES] = {{.suffix = ".Listener"}, {.suffix = ".RouteConfiguration"}, {.suffix = ".Cluster"},
                                    {.suffix = ".ClusterLoadAssignment"}, {.suffix = ".Secret"}};
static struct mesh_resources *scripted_resources;
static unsigned scripted_version = 1, scripted_opened, scripted_nacks;
static bool scripted_silent; /* requests are read and not answered */
static bool scripted_away;   /* no stream is to be had */

struct mesh_channel {
    struct mesh_channel_config cfg;
    bool up;
};

static inline void scripted_set(const char *text) {
    struct mesh_why why = {""};
    struct mesh_read_opts opts = {.file = "scripted"};
    if (scripted_resources)
        mesh_resources_free(scripted_resources);
    cr_assert_eq(mesh_resources_read(text, strlen(text), &opts, &scripted_resources, &why), 0, "%s", why.text);
    scripted_version++;
}

static inline int scripted_open(const struct mesh_channel_config *cfg, struct mesh_channel **ret) {
    *ret = calloc(1, sizeof **ret);
    (*ret)->cfg = *cfg;
    scripted_opened++;
    return 0;
}
static inline void scripted_close(struct mesh_channel *ch) {
    free(ch);
}
static inline void scripted_path(struct mesh_channel *ch, const char *path) {
}
static inline void scripted_restart(struct mesh_channel *ch, const char *why) {
    cr_assert_fail("restarted: %s", why);
}
static inline uint32_t scripted_fill(struct mesh_channel *ch, struct pollfd *ret, uint32_t max, uint64_t *io_deadline) {
    return 0;
}
static inline void scripted_describe(const struct mesh_channel *ch, struct mesh_channel_info *ret) {
    *ret = (struct mesh_channel_info){.state = ch->up ? MESH_CHANNEL_UP : MESH_CHANNEL_BACKOFF};
}

static inline int scripted_send(struct mesh_channel *ch, const uint8_t *p, size_t n) {
    ProtobufCMessage *m;
    cr_assert_eq(mesh_proto_unpack(&mesh__discovery__discovery_request__descriptor, p, n, &m), 0);
    const Mesh__Discovery__DiscoveryRequest *r = (void *)m;
    scripted_nacks += r->error_detail != NULL;
    for (int i = 0; i < SCRIPTED_TYPES; i++) {
        size_t at = strlen(r->type_url) - strlen(scripted_types[i].suffix);
        if (strcmp(r->type_url + at, scripted_types[i].suffix) != 0)
            continue;
        snprintf(scripted_types[i].url, sizeof scripted_types[i].url, "%s", r->type_url);
        bool same = scripted_types[i].n == r->n_resource_names;
        for (size_t j = 0; j < r->n_resource_names && j < SCRIPTED_NAMES; j++) {
            same = same && strcmp(scripted_types[i].names[j], r->resource_names[j]) == 0;
            free(scripted_types[i].names[j]);
            scripted_types[i].names[j] = strdup(r->resource_names[j]);
        }
        scripted_types[i].n = r->n_resource_names;
        scripted_types[i].asked = true;
        if (!same || !r->response_nonce[0])
            scripted_types[i].sent = 0;
    }
    protobuf_c_message_free_unpacked(m, NULL);
    return 0;
}

static inline bool scripted_wants(int type, const char *name) {
    for (size_t i = 0; i < scripted_types[type].n; i++)
        if (strcmp(scripted_types[type].names[i], name) == 0)
            return true;
    return scripted_types[type].n == 0;
}

static inline void scripted_answer(struct mesh_channel *ch, int type) {
    static unsigned nonce;
    Mesh__Discovery__DiscoveryResponse response;
    Mesh__Pb__Any anys[64], *list[64];
    uint8_t *bytes[64], *all;
    char version[16], number[16];
    protobuf_c_message_init(&mesh__discovery__discovery_response__descriptor, &response);
    snprintf(version, sizeof version, "%u", scripted_version);
    snprintf(number, sizeof number, "%u", ++nonce);
    response.version_info = version;
    response.nonce = number;
    response.type_url = scripted_types[type].url;
    response.resources = list;
    for (size_t i = 0; i < scripted_resources->n; i++) {
        const struct mesh_resource *r = &scripted_resources->items[i];
        size_t k = response.n_resources;
        if (!strstr(mesh_proto_type_name(r->type), scripted_types[type].suffix + 1) ||
            strcmp(strrchr(mesh_proto_type_name(r->type), '.'), scripted_types[type].suffix) != 0 ||
            !scripted_wants(type, r->name))
            continue;
        protobuf_c_message_init(&mesh__pb__any__descriptor, &anys[k]);
        anys[k].type_url = response.type_url;
        anys[k].value.len = protobuf_c_message_get_packed_size(r->msg);
        bytes[k] = anys[k].value.data = malloc(anys[k].value.len + 1);
        protobuf_c_message_pack(r->msg, bytes[k]);
        list[response.n_resources++] = &anys[k];
    }
    all = malloc(protobuf_c_message_get_packed_size(&response.base) + 1);
    size_t n = protobuf_c_message_pack(&response.base, all);
    ch->cfg.events->message(ch->cfg.arg, all, n);
    for (size_t i = 0; i < response.n_resources; i++)
        free(bytes[i]);
    free(all);
}

static inline void scripted_drive(struct mesh_channel *ch, uint64_t now) {
    if (scripted_away && ch->up) {
        ch->up = false;
        ch->cfg.events->down(ch->cfg.arg, 14, true, "away");
    }
    if (scripted_away)
        return;
    if (!ch->up) {
        ch->up = true;
        for (int i = 0; i < SCRIPTED_TYPES; i++)
            scripted_types[i].asked = false;
        ch->cfg.events->up(ch->cfg.arg);
    }
    for (int i = 0; i < SCRIPTED_TYPES && !scripted_silent; i++)
        if (scripted_types[i].asked && scripted_types[i].sent != scripted_version) {
            scripted_types[i].sent = scripted_version;
            scripted_answer(ch, i);
        }
}

static const struct mesh_xds_transport scripted = {scripted_open,    scripted_close, scripted_path,  scripted_send,
                                                   scripted_restart, scripted_fill,  scripted_drive, scripted_describe};

#endif
