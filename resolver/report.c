/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/report.h"
#include <stdlib.h>
#include "resolver/builder.h"
#include "resolver/demand.h"
#include "resolver/publisher.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"

enum { RESOURCES_MAX = 1 << 20, SERVERS_MAX = 256 };

struct mesh_report_writer {
    struct mesh_blob servers, resources, texts, whole;
    uint64_t written; /* hash of what the view holds of ours */
};

/* ---- writing ----------------------------------------------------------------------------------------------
 */
int mesh_report_open(struct mesh_report_writer **ret) {
    *ret = calloc(1, sizeof **ret);
    return *ret ? 0 : MESH_E_NOMEM;
}

void mesh_report_close(struct mesh_report_writer *w) {
    if (!w)
        return;
    free(w->servers.p);
    free(w->resources.p);
    free(w->texts.p);
    free(w->whole.p);
    free(w);
}

static void add_server(void *arg, const struct mesh_xds_server_info *s) {
    struct mesh_report_writer *w = arg;
    struct view_report_server r = {.state = (uint8_t)s->channel.state,
                                   .is_active = s->is_active,
                                   .acks = s->acks,
                                   .nacks = s->nacks,
                                   .since = s->channel.since,
                                   .uri = mesh_blob_text(&w->texts, s->uri),
                                   .authority = mesh_blob_text(&w->texts, s->authority),
                                   .peer = mesh_blob_text(&w->texts, s->channel.peer),
                                   .error = mesh_blob_text(&w->texts, s->channel.error)};
    mesh_blob_add(&w->servers, &r, sizeof r, 8);
}

static void add_resource(void *arg, const struct mesh_xds_resource_info *s) {
    struct mesh_report_writer *w = arg;
    struct view_report_resource r = {.status = s->status,
                                     .updated = s->updated_wall,
                                     .type = mesh_blob_text(&w->texts, s->type_url),
                                     .name = mesh_blob_text(&w->texts, s->name),
                                     .version = mesh_blob_text(&w->texts, s->version),
                                     .error = mesh_blob_text(&w->texts, s->error),
                                     .error_version = mesh_blob_text(&w->texts, s->error_version)};
    mesh_blob_add(&w->resources, &r, sizeof r, 8);
}

static void shift(struct view_span *s, uint32_t by) {
    s->off += by;
}

/* Texts were put down before anybody knew where they would lie in the record. */
static void place(struct mesh_report_writer *w, struct view_report *head) {
    uint32_t texts = mesh_blob_add(&w->whole, w->texts.p, w->texts.len, 8).off;
    struct view_report_server *s = (void *)w->servers.p;
    struct view_report_resource *r = (void *)w->resources.p;
    for (uint32_t i = 0; i < w->servers.len / sizeof *s; i++) {
        shift(&s[i].uri, texts);
        shift(&s[i].authority, texts);
        shift(&s[i].peer, texts);
        shift(&s[i].error, texts);
    }
    for (uint32_t i = 0; i < w->resources.len / sizeof *r; i++) {
        shift(&r[i].type, texts);
        shift(&r[i].name, texts);
        shift(&r[i].version, texts);
        shift(&r[i].error, texts);
        shift(&r[i].error_version, texts);
    }
    head->servers = mesh_blob_add(&w->whole, w->servers.p, w->servers.len, 8);
    head->resources = mesh_blob_add(&w->whole, w->resources.p, w->resources.len, 8);
}

static int commit(struct mesh_report_writer *w, struct mesh_pub *pub, uint64_t now) {
    int rc = mesh_pub_begin(pub, now);
    if (rc == 0)
        rc = mesh_pub_report_put(pub, w->whole.p, w->whole.len);
    if (rc == 0)
        rc = mesh_pub_commit_aside(pub);
    if (rc < 0 && rc != MESH_E_AGAIN && mesh_pub_undo(pub) == MESH_E_AGAIN)
        rc = MESH_E_AGAIN;
    return rc;
}

int mesh_report_write(struct mesh_report_writer *w, struct mesh_pub *pub, const struct mesh_xds *x,
                      bool is_agent, uint64_t now) {
    struct view_report head = {.pid = mesh_sys_getpid(), .is_agent = is_agent, .word = pub->lease};
    struct mesh_blob *parts[] = {&w->servers, &w->resources, &w->texts, &w->whole};
    for (size_t i = 0; i < 4; i++) {
        parts[i]->len = 0;
        parts[i]->broken = false;
    }
    mesh_xds_each_server(x, add_server, w);
    mesh_xds_each_resource(x, add_resource, w);
    mesh_blob_add(&w->whole, &head, sizeof head, 8);
    place(w, &head);
    if (w->servers.broken || w->resources.broken || w->texts.broken || w->whole.broken)
        return MESH_E_NOMEM;
    memcpy(w->whole.p, &head, sizeof head);
    uint64_t hash = mesh_hash_bytes(w->whole.p, w->whole.len, 1);
    if (hash == w->written)
        return 0;
    head.wall = mesh_wall();
    memcpy(w->whole.p, &head, sizeof head);
    int rc = commit(w, pub, now);
    if (rc == 0)
        w->written = hash;
    return rc;
}

/* ---- reading ----------------------------------------------------------------------------------------------
 */
struct reader { /* the record, and the block that it is copied into */
    const struct view_report *rec;
    uint32_t len;
    char *at, *end;
};

static const char *copy_text(struct reader *r, const struct view_span *where) {
    char *text = r->at;
    size_t room = (size_t)(r->end - r->at);
    if (room < 2)
        return "";
    mesh_view_text(r->rec, r->len, where, text, room);
    for (; *r->at; r->at++) /* from a control plane, by way of memory that others write: fit for a terminal */
        if ((unsigned char)*r->at < ' ' || *r->at == 0x7f)
            *r->at = '?';
    r->at++;
    return text;
}

static void copy_server(struct reader *r, const struct view_report_server *s,
                        struct mesh_report_server *ret) {
    struct view_report_server c = *s;
    *ret = (struct mesh_report_server){.state = c.state,
                                       .is_active = c.is_active,
                                       .acks = c.acks,
                                       .nacks = c.nacks,
                                       .since = c.since,
                                       .uri = copy_text(r, &c.uri),
                                       .authority = copy_text(r, &c.authority),
                                       .peer = copy_text(r, &c.peer),
                                       .error = copy_text(r, &c.error)};
}

static void copy_resource(struct reader *r, const struct view_report_resource *s,
                          struct mesh_report_resource *ret) {
    struct view_report_resource c = *s;
    *ret = (struct mesh_report_resource){.status = c.status,
                                         .updated = c.updated,
                                         .type_url = copy_text(r, &c.type),
                                         .name = copy_text(r, &c.name),
                                         .version = copy_text(r, &c.version),
                                         .error = copy_text(r, &c.error),
                                         .error_version = copy_text(r, &c.error_version)};
}

static int read_once(const struct mesh_view *v, const struct view_root *root, struct mesh_report **ret) {
    struct reader r;
    uint32_t bytes, ns, nr;
    r.rec = root ? mesh_view_rec(v, root->report, KIND_REPORT, sizeof *r.rec, &r.len) : NULL;
    if (!r.rec)
        return MESH_E_NOTFOUND;
    const struct view_report_server *s = mesh_view_span(r.rec, r.len, &r.rec->servers, 8, &bytes);
    ns = bytes / sizeof *s < SERVERS_MAX ? bytes / (uint32_t)sizeof *s : SERVERS_MAX;
    const struct view_report_resource *x = mesh_view_span(r.rec, r.len, &r.rec->resources, 8, &bytes);
    nr = bytes / sizeof *x < RESOURCES_MAX ? bytes / (uint32_t)sizeof *x : RESOURCES_MAX;
    size_t lists = ns * sizeof(struct mesh_report_server) + nr * sizeof(struct mesh_report_resource);
    size_t texts = r.len + 8 * ((size_t)ns + nr); /* each text lies in the record, and gets a NUL */
    struct mesh_report *p = calloc(1, sizeof *p + lists + texts);
    if (!p)
        return MESH_E_NOMEM;
    p->servers = (struct mesh_report_server *)(p + 1);
    p->resources = (struct mesh_report_resource *)(p->servers + ns);
    r.at = (char *)(p->resources + nr);
    r.end = r.at + texts;
    p->pid = r.rec->pid;
    p->is_agent = r.rec->is_agent;
    p->wall = r.rec->wall;
    for (p->nservers = 0; s && p->nservers < ns; p->nservers++)
        copy_server(&r, &s[p->nservers], &p->servers[p->nservers]);
    for (p->nresources = 0; x && p->nresources < nr; p->nresources++)
        copy_resource(&r, &x[p->nresources], &p->resources[p->nresources]);
    *ret = p;
    return 0;
}

static void count_demands(const struct mesh_view *v, struct mesh_report *p) {
    struct mesh_demand d;
    for (uint32_t i = 0; i < VIEW_DEMANDS; i++)
        if (mesh_demand_read(v, i, &d)) {
            p->demanded++;
            p->denied += d.state == DEMAND_DENIED;
        }
}

int mesh_view_report(const struct mesh_view *v, uint64_t now, struct mesh_report **ret) {
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        struct mesh_report *p = NULL;
        int rc = read_once(v, mesh_view_begin(v, &seq), &p);
        if (mesh_view_still(v, seq) && rc == 0) {
            p->pid = mesh_lease_stands(v, now, true) ? mesh_lease_pid(v) : 0;
            p->confirmed = atomic_load(&mesh_view_head(v)->confirmed);
            count_demands(v, p);
            *ret = p;
            return 0;
        }
        free(p);
        if (rc < 0 && mesh_view_still(v, seq))
            return rc;
    }
    return MESH_E_AGAIN;
}
