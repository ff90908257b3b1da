/* SPDX-License-Identifier: Apache-2.0
 *
 * Discovery messages for tests: responses from their JSON, packed by protobuf-c; requests to one line of text.
 */
#ifndef MESH_TESTS_RESOLVER_XDS_WIRE_H
#define MESH_TESTS_RESOLVER_XDS_WIRE_H

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/discovery.pb-c.h"
#include "proto/proto.h"
#include "resolver/ads.h"
#include "shim/base/clock.h"

struct wire_log {
    size_t len;
    char text[16384];
};
static void say(struct wire_log *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct wire_log *l, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(l->text + l->len, sizeof(l->text) - l->len, fmt, args);
    va_end(args);
    l->len += (size_t)n < sizeof(l->text) - l->len ? (size_t)n : 0;
}

static inline uint8_t *wire_of(const ProtobufCMessageDescriptor *d, const char *text, size_t *ret_n) {
    struct mesh_doc *doc = NULL;
    ProtobufCMessage *m = NULL;
    struct mesh_why why = {""};
    struct mesh_read_opts opts = {.file = "f"};
    cr_assert_eq(mesh_doc_parse(text, strlen(text), "f", &doc, &why), 0, "%s: %s", why.text, text);
    cr_assert_eq(mesh_proto_read(mesh_doc_root(doc), d, "", &opts, &m, &why), 0, "%s: %s", why.text, text);
    *ret_n = protobuf_c_message_get_packed_size(m);
    uint8_t *p = malloc(*ret_n ? *ret_n : 1);
    protobuf_c_message_pack(m, p);
    protobuf_c_message_free_unpacked(m, NULL);
    mesh_doc_free(doc);
    return p;
}

static inline const char *wire_kind(const char *url) {
    static const char *const kinds[] = {"CDS", "EDS", "LDS", "RDS", "SDS", "NDS"};
    for (int i = 0; i < MESH_ADS_TYPES; i++)
        if (strcmp(url, mesh_ads_type_url((enum mesh_ads_type)i)) == 0)
            return kinds[i];
    return url;
}

static inline void say_names(struct wire_log *l, const char *before, size_t n, char *const *names) {
    for (size_t i = 0; i < n; i++)
        say(l, "%s%s", i ? "," : before, names[i]);
}

static inline void say_error(struct wire_log *l, const Mesh__Pb__Status *s) {
    if (s)
        say(l, " err=%d:%s", s->code, s->message);
    say(l, "\n");
}

/* "> CDS node v=1 n=2 a,b err=3:why" */
static inline void say_request(struct wire_log *l, const uint8_t *p, size_t n, bool is_delta) {
    ProtobufCMessage *m = NULL;
    const ProtobufCMessageDescriptor *d = is_delta ? &mesh__discovery__delta_discovery_request__descriptor
                                                   : &mesh__discovery__discovery_request__descriptor;
    cr_assert_eq(mesh_proto_unpack(d, p, n, &m), 0);
    if (is_delta) {
        const Mesh__Discovery__DeltaDiscoveryRequest *r = (void *)m;
        say(l, "> %s%s n=%s", wire_kind(r->type_url), r->node ? " node" : "", r->response_nonce);
        say_names(l, " +", r->n_resource_names_subscribe, r->resource_names_subscribe);
        say_names(l, " -", r->n_resource_names_unsubscribe, r->resource_names_unsubscribe);
        for (size_t i = 0; i < r->n_initial_resource_versions; i++)
            say(l, " %s=%s", r->initial_resource_versions[i]->key, r->initial_resource_versions[i]->value);
        say_error(l, r->error_detail);
    } else {
        const Mesh__Discovery__DiscoveryRequest *r = (void *)m;
        say(l, "> %s%s v=%s n=%s", wire_kind(r->type_url), r->node ? " node" : "", r->version_info,
            r->response_nonce);
        say_names(l, " ", r->n_resource_names, r->resource_names);
        say_error(l, r->error_detail);
    }
    protobuf_c_message_free_unpacked(m, NULL);
}

#endif
