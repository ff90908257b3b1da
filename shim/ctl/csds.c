/* SPDX-License-Identifier: Apache-2.0
 *
 * meshctl csds: envoy.service.status.v3.ClientConfig, as the publisher last reported it.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "proto/core.pb-c.h"
#include "proto/proto.h"
#include "resolver/publisher.h"
#include "resolver/xds.h"
#include "shim/base/clock.h"
#include "shim/ctl/ctl.h"

struct text { /* a resource in force, as JSON */
    char *type_url, *name, *json;
};
struct texts {
    struct text *items;
    size_t n, room;
    bool full;
};

static void add_text(void *arg, const char *type_url, const char *name, const char *json) {
    struct texts *t = arg;
    if (t->n == t->room) {
        size_t room = t->room ? 2 * t->room : 64;
        struct text *items = realloc(t->items, room * sizeof *items);
        if (!items) {
            t->full = true;
            return;
        }
        t->items = items;
        t->room = room;
    }
    struct text x = {strdup(type_url), strdup(name), strdup(json)};
    t->full |= !x.type_url || !x.name || !x.json;
    if (x.type_url && x.name && x.json)
        t->items[t->n++] = x;
}

static int compare(const void *a, const void *b) {
    const struct text *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c ? c : strcmp(x->type_url, y->type_url);
}

static const char *status_name(uint32_t status) {
    static const char *const names[] = {"UNKNOWN", "REQUESTED",      "DOES_NOT_EXIST", "ACKED",
                                        "NACKED",  "RECEIVED_ERROR", "TIMEOUT"};
    return status < sizeof names / sizeof *names ? names[status] : names[0];
}

static void print_time(struct mesh_ctl_out *o, const char *key, int64_t wall) {
    char text[32];
    struct tm tm;
    time_t t = (time_t)wall;
    if (wall > 0 && gmtime_r(&t, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        mesh_ctl_str(o, key, text);
}

static void print_resource(struct mesh_ctl_out *o, const struct mesh_report_resource *r,
                           const struct texts *all) {
    struct text key = {(char *)r->type_url, (char *)r->name, NULL};
    const struct text *x = all->n ? bsearch(&key, all->items, all->n, sizeof key, compare) : NULL;
    mesh_ctl_map_begin(o, NULL);
    mesh_ctl_str(o, "type_url", r->type_url);
    mesh_ctl_str(o, "name", r->name);
    if (r->version[0])
        mesh_ctl_str(o, "version_info", r->version);
    if (x && r->version[0])
        mesh_ctl_raw(o, "xds_config", x->json);
    print_time(o, "last_updated", r->updated);
    mesh_ctl_str(o, "client_status", status_name(r->status));
    if (r->error[0]) {
        mesh_ctl_map_begin(o, "error_state");
        mesh_ctl_str(o, "details", r->error);
        mesh_ctl_str(o, "version_info", r->error_version);
        mesh_ctl_end(o);
    }
    mesh_ctl_end(o);
}

static void print_node(const struct mesh_ctl *c, struct mesh_ctl_out *o) {
    struct mesh_bootstrap *b = NULL;
    struct mesh_why why;
    ProtobufCMessage *node = NULL;
    char *json = NULL;
    if (mesh_bootstrap_load(c->env.bootstrap, c->env.bootstrap_config, &b, &why) == 0 &&
        mesh_proto_unpack(&mesh__core__node__descriptor, b->node, b->node_len, &node) == 0 &&
        mesh_proto_print(node, false, 0, &json) == 0) {
        json[strcspn(json, "\n")] = 0;
        mesh_ctl_raw(o, "node", json);
    }
    free(json);
    if (node)
        protobuf_c_message_free_unpacked(node, NULL);
    mesh_bootstrap_free(b);
}

static int print_config(const struct mesh_ctl *c, const struct mesh_report *r, const struct texts *all) {
    struct mesh_ctl_out o;
    mesh_ctl_out_init(&o, stdout, c->args.format == MESH_CTL_YAML);
    print_node(c, &o);
    mesh_ctl_list_begin(&o, "generic_xds_configs");
    for (uint32_t i = 0; i < r->nresources; i++)
        print_resource(&o, &r->resources[i], all);
    mesh_ctl_end(&o);
    return mesh_ctl_finish(&o, all->full ? MESH_CTL_NO : MESH_CTL_YES);
}

int mesh_ctl_csds(struct mesh_ctl *c) {
    struct texts all = {0};
    struct mesh_report *report = NULL;
    int status = MESH_CTL_NO;
    if (!mesh_ctl_session_open(c))
        return MESH_CTL_NO;
    int r = mesh_view_report(c->view, mesh_now(), &report);
    if (r == 0)
        r = mesh_view_each_resource(c->view, add_text, &all);
    if (r < 0) {
        mesh_ctl_complain("the view: %s",
                          r == MESH_E_NOTFOUND ? "no publisher has reported yet" : mesh_err_text(r));
    } else {
        if (all.n)
            qsort(all.items, all.n, sizeof *all.items, compare);
        status = print_config(c, report, &all);
    }
    for (size_t i = 0; i < all.n; i++) {
        free(all.items[i].type_url);
        free(all.items[i].name);
        free(all.items[i].json);
    }
    free(all.items);
    free(report);
    return status;
}
