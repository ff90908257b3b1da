/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/publisher.h"
#include <stdlib.h>
#include "resolver/blend.h"
#include "resolver/builder.h"
#include "resolver/demand.h"
#include "resolver/health.h"
#include "resolver/hosts.h"
#include "resolver/report.h"
#include "resolver/waker.h"
#include "resolver/xds.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"

enum { AT_ONCE = 64 /* clusters whose endpoints change in one publication of their own */ };
#define BEAT (200 * MESH_MS)
#define SUSPECT (450 * MESH_MS)  /* a beat that is so late makes readers look at the process */
#define DEBOUNCE (100 * MESH_MS) /* longest wait for the rest of a push */
#define PATIENCE (1 * MESH_SEC)  /* longest wait for host names, and for first checks, that are new */
#define PAUSE 4                  /* times what a build took, before a name that is waited for makes another */
#define RETRY (1 * MESH_SEC)     /* after a build that failed: no memory, disk full */
#define SILENCE (1 * MESH_SEC)   /* of a control plane about a bare name */
#define IDLE (600 * MESH_SEC)    /* names that nobody looks up for so long are not wanted any more */
#define LOOK (1 * MESH_SEC)      /* at the file, at idle names, for the report */

struct want { /* what became of a demand; one a slot of the table */
    uint64_t hash;
    uint64_t since;
    uint16_t port;
    uint8_t state; /* enum demand_state; FREE: not wanted */
    char *name;
};

struct mesh_publisher {
    struct mesh_view *v;
    struct mesh_pub *pub;
    struct mesh_xds *xds; /* NULL: a file alone */
    struct mesh_dns *dns;
    struct mesh_hosts *hosts;
    struct mesh_checks *health;
    struct mesh_report_writer *report;
    struct mesh_resources *file, *before;
    uint64_t file_stamp, file_bad;
    int waker;
    bool is_agent, answered, whole; /* whole: something other than endpoints is unpublished */
    bool retaken;                   /* the first build of this publisher is still to come */
    bool inherited;                 /* what the one before was told of host names is taken over */
    uint32_t posted;                /* demands_posted when the table was last read */
    uint64_t beat_at, look_at, retry_at, changed_since; /* 0: nothing is unpublished */
    uint64_t publish_at;         /* what is unpublished waits until then for what belongs to it */
    uint64_t built_at, built_ns; /* the last build of the whole, and what it took */
    bool has_aggregates;         /* in what it built */
    bool by_zone;                /* it weighs zones by where we run */
    bool health_changed;         /* since then */
    struct want *wants;          /* VIEW_DEMANDS */
};

/* ---- the role ---------------------------------------------------------------------------------------------
 */
bool mesh_publisher_missing(const struct mesh_view *v, uint64_t now) {
    uint64_t since = atomic_load_explicit(&mesh_view_head(v)->lease.since, memory_order_relaxed);
    bool late = now > since && now - since > SUSPECT;
    return mesh_view_learns(v) && !mesh_lease_stands(v, now, late) && !mesh_lease_yields(v);
}

bool mesh_publisher_fresh(const struct mesh_view *v, int64_t seconds) {
    int64_t age = mesh_wall() - atomic_load(&mesh_view_head(v)->confirmed);
    return age >= 0 && age < seconds;
}

void mesh_publisher_claim(struct mesh_view *v, bool first) {
    mesh_lease_claim(v, first);
}

static void trace_state(const char *what, const char *detail) {
    struct mesh_line l;
    mesh_line_begin(&l, detail && *detail ? MESH_TRACE_ERROR : MESH_TRACE_INFO, "view");
    mesh_line_str(&l, "publisher", what);
    mesh_line_str(&l, "detail", detail && *detail ? detail : NULL);
    mesh_line_end(&l);
}

static int open_client(struct mesh_publisher *p, const struct mesh_publisher_config *cfg) {
    struct mesh_xds_config x = {.bootstrap = p->v->bootstrap,
                                .transport = cfg->transport ? cfg->transport : &mesh_xds_channels,
                                .hooks = cfg->hooks,
                                .dns = p->dns};
    return p->v->bootstrap ? mesh_xds_new(&x, &p->xds) : 0;
}

static int open_parts(struct mesh_publisher *p, const struct mesh_publisher_config *cfg) {
    int rc = mesh_dns_new(cfg->hooks, &p->dns);
    if (rc == 0)
        rc = mesh_hosts_new(p->dns, &p->hosts);
    if (rc == 0)
        rc = mesh_health_new(cfg->hooks, NULL, NULL, &p->health);
    p->pub->health = p->health;
    if (rc == 0)
        rc = mesh_report_open(&p->report);
    if (rc == 0)
        rc = open_client(p, cfg);
    if (rc == 0 && p->xds)
        rc = mesh_blend_before(p->v, &p->before);
    if (rc == MESH_E_INTERNAL || rc == MESH_E_AGAIN) /* nothing of a damaged view is kept */
        rc = 0;
    p->waker = rc == 0 ? mesh_waker_open(p->v, mesh_random()) : -1;
    if (p->waker >= 0 && cfg->hooks && cfg->hooks->keep)
        p->waker = cfg->hooks->keep(p->waker);
    return rc;
}

int mesh_publisher_new(const struct mesh_publisher_config *cfg, uint64_t now, struct mesh_publisher **ret) {
    if (!mesh_view_learns(cfg->view))
        return MESH_E_NOTFOUND;
    struct mesh_publisher *p = calloc(1, sizeof *p);
    if (!p)
        return MESH_E_NOMEM;
    p->v = cfg->view;
    p->is_agent = cfg->is_agent;
    p->waker = -1;
    p->whole = p->retaken = true;
    p->changed_since = now;
    p->posted = atomic_load(&mesh_view_head(p->v)->demands_posted) - 1;
    p->wants = calloc(VIEW_DEMANDS, sizeof *p->wants);
    int rc = p->wants ? mesh_pub_open(p->v, now, &p->pub) : MESH_E_NOMEM;
    if (rc == 0) {
        mesh_lease_stand(p->v, p->pub->lease);
        rc = open_parts(p, cfg);
    }
    if (rc < 0) {
        mesh_publisher_free(p);
        return rc;
    }
    trace_state("begins", NULL);
    *ret = p;
    return 0;
}

void mesh_publisher_free(struct mesh_publisher *p) {
    if (!p)
        return;
    if (p->pub)
        trace_state("ends", NULL);
    mesh_xds_free(p->xds);
    mesh_hosts_free(p->hosts);
    mesh_health_free(p->health);
    if (p->dns)
        mesh_dns_free(p->dns);
    mesh_report_close(p->report);
    mesh_pub_close(p->pub);
    if (p->waker >= 0)
        mesh_sys_close(p->waker);
    mesh_resources_free(p->file);
    mesh_resources_free(p->before);
    for (uint32_t i = 0; p->wants && i < VIEW_DEMANDS; i++)
        free(p->wants[i].name);
    free(p->wants);
    free(p);
}

/* ---- demand -----------------------------------------------------------------------------------------------
 */
/* The address, when it is a listener and no name. */
static const char *inbound_of(const char *name) {
    return strncmp(name, DEMAND_INBOUND, sizeof DEMAND_INBOUND - 1) == 0 ? name + sizeof DEMAND_INBOUND - 1
                                                                         : NULL;
}

static int want_it(struct mesh_publisher *p, const struct mesh_demand *d, uint64_t now) {
    const char *inbound = inbound_of(d->name);
    return inbound ? mesh_xds_want_inbound(p->xds, inbound, now)
                   : mesh_xds_want(p->xds, d->name, d->port, now);
}

static enum mesh_xds_state state_of(const struct mesh_publisher *p, const struct want *w) {
    const char *inbound = inbound_of(w->name);
    return inbound ? mesh_xds_inbound_state(p->xds, inbound) : mesh_xds_state(p->xds, w->name, w->port);
}

static void unwant(struct mesh_publisher *p, struct want *w, uint64_t now) {
    if (w->state != DEMAND_FREE && p->xds && !inbound_of(w->name))
        mesh_xds_unwant(p->xds, w->name, w->port, now);
    free(w->name);
    *w = (struct want){.name = NULL};
}

/* Names outside of MESH_DOMAINS, and all of them without a control plane, are nobody's to answer for. */
static bool may_be_asked(const struct mesh_publisher *p, const struct mesh_demand *d) {
    return p->xds && (inbound_of(d->name) || mesh_domain_find(p->v, d->name, d->len));
}

static bool take_demand(struct mesh_publisher *p, const struct mesh_demand *d, uint64_t now) {
    struct want *w = &p->wants[d->slot];
    bool same = w->name && w->hash == d->hash && w->port == d->port && strcmp(w->name, d->name) == 0;
    if (same && (d->state != DEMAND_ASKED || w->state == DEMAND_ASKED))
        return false;
    if (!same)
        unwant(p, w, now);
    if (!may_be_asked(p, d)) {
        mesh_demand_answer(p->v, d, DEMAND_DENIED, now);
        return true;
    }
    if (!same && !(w->name = strdup(d->name)))
        return false;
    w->hash = d->hash;
    w->port = d->port;
    w->since = now;
    w->state = want_it(p, d, now) == 0 ? DEMAND_ASKED : DEMAND_FREE;
    return false;
}

static void take_demands(struct mesh_publisher *p, uint64_t now) {
    uint32_t posted = atomic_load(&mesh_view_head(p->v)->demands_posted);
    struct mesh_demand d;
    bool denied = false;
    if (posted == p->posted)
        return;
    p->posted = posted;
    for (uint32_t i = 0; i < VIEW_DEMANDS; i++)
        if (mesh_demand_read(p->v, i, &d))
            denied |= take_demand(p, &d, now);
    if (denied)
        mesh_demand_wake(p->v);
}

static void drop_idle(struct mesh_publisher *p, uint64_t now) {
    struct mesh_demand d;
    for (uint32_t i = 0; i < VIEW_DEMANDS; i++) {
        bool there = mesh_demand_read(p->v, i, &d);
        uint64_t used = there ? mesh_demand_used(p->v, &d) : 0;
        if (there && (used >= now || now - used < IDLE || inbound_of(d.name)))
            continue;
        if (there)
            mesh_demand_free(p->v, &d);
        if (p->wants[i].name)
            unwant(p, &p->wants[i], now);
    }
}

/* The answer that stands now. What is known is said only once it is published. */
static enum demand_state answer_of(struct mesh_publisher *p, const struct want *w, uint64_t now) {
    switch (state_of(p, w)) {
    case MESH_XDS_KNOWN:
        return p->changed_since ? DEMAND_ASKED : DEMAND_KNOWN;
    case MESH_XDS_DENIED:
        return p->changed_since ? DEMAND_ASKED : DEMAND_DENIED;
    default:
        return w->port == 0 && !inbound_of(w->name) && !p->v->bootstrap->is_wildcard &&
                       now - w->since >= SILENCE
                   ? DEMAND_SILENT
                   : DEMAND_ASKED;
    }
}

static void answer_demands(struct mesh_publisher *p, uint64_t now) {
    bool told = false;
    for (uint32_t i = 0; p->xds && i < VIEW_DEMANDS; i++) {
        struct want *w = &p->wants[i];
        struct mesh_demand d;
        enum demand_state state = w->state != DEMAND_FREE ? answer_of(p, w, now) : DEMAND_ASKED;
        if (state == DEMAND_ASKED || state == w->state || !mesh_demand_read(p->v, i, &d))
            continue;
        w->state = (uint8_t)state;
        mesh_demand_answer(p->v, &d, state, now);
        told = true;
    }
    if (told)
        mesh_demand_wake(p->v);
}

static bool is_caught_up(const struct mesh_publisher *p) {
    if (!p->answered)
        return false;
    for (uint32_t i = 0; i < VIEW_DEMANDS; i++)
        if (p->wants[i].name && p->wants[i].state != DEMAND_FREE &&
            state_of(p, &p->wants[i]) == MESH_XDS_WAITING)
            return false;
    return true;
}

/* ---- the file ---------------------------------------------------------------------------------------------
 */
static void changed(struct mesh_publisher *p, uint64_t now) {
    p->whole = true;
    if (!p->changed_since)
        p->changed_since = now;
}

static void look_at_file(struct mesh_publisher *p, uint64_t now) {
    struct mesh_resources *file;
    struct mesh_why why = {""};
    uint64_t stamp = p->v->source ? mesh_source_stamp(p->v->source) : 0;
    if (!stamp || stamp == p->file_stamp || stamp == p->file_bad)
        return;
    int rc = mesh_source_read(p->v->source, &file, &why);
    p->file_bad = rc < 0 ? stamp : 0;
    mesh_source_say(p->v, rc < 0 ? why.text : "");
    if (rc < 0) {
        trace_state("kept", why.text);
        return;
    }
    mesh_resources_free(p->file);
    p->file = file;
    p->file_stamp = stamp;
    changed(p, now);
}

/* ---- building ---------------------------------------------------------------------------------------------
 */
static bool assignment(void *arg, const char *cluster, const uint8_t **ret_p, size_t *ret_n) {
    return mesh_xds_assignment(arg, cluster, ret_p, ret_n);
}

static struct mesh_build_in input(const struct mesh_publisher *p, const struct mesh_blend *blend) {
    return (struct mesh_build_in){.resources = &blend->set,
                                  .ranks = blend->ranks,
                                  .hosts = p->hosts,
                                  .assignment = p->xds ? assignment : NULL,
                                  .arg = p->xds};
}

/* Everybody that the set needs an answer of is asked. 1: some have not answered, and may yet; 0; negative. */
static int gather(struct mesh_publisher *p, const struct mesh_blend *blend, uint64_t now) {
    struct mesh_build_in in = input(p, blend);
    int rc = mesh_hosts_want(p->hosts, &blend->set, now);
    if (rc == 0 && !p->inherited)
        mesh_hosts_inherit(p->hosts, p->v, &blend->set);
    p->inherited |= rc == 0;
    if (rc == 0)
        rc = mesh_health_load(p->health, &in, p->v->tls, now);
    if (rc < 0)
        return rc;
    return mesh_hosts_waiting(p->hosts, now, PATIENCE) || mesh_health_waiting(p->health, now, PATIENCE);
}

/* Puts and commits. */
static int build(struct mesh_publisher *p, const struct mesh_blend *blend, uint64_t now,
                 struct mesh_why *why) {
    struct mesh_build_in in = input(p, blend);
    int rc = mesh_pub_begin(p->pub, now);
    if (rc == 0)
        rc = mesh_pub_fresh(p->pub);
    if (rc == 0)
        rc = mesh_build(p->pub, &in, why);
    mesh_lease_renew(p->v, now);
    if (rc == 0)
        rc = mesh_pub_commit(p->pub, p->file_stamp ? p->file_stamp : 1, mesh_wall());
    return rc;
}

static int give_up(struct mesh_publisher *p, int rc, const char *why, uint64_t now) {
    if (rc == MESH_E_AGAIN)
        return rc;
    trace_state("failed", why[0] ? why : mesh_err_text(rc));
    mesh_source_say(p->v, why[0] ? why : mesh_err_text(rc));
    p->retry_at = now + RETRY;
    return mesh_pub_undo(p->pub) == MESH_E_AGAIN ? MESH_E_AGAIN : 0;
}

static bool is_aggregate(const struct mesh_resource *r) {
    return r->type == &mesh__cluster__cluster__descriptor &&
           ((const Mesh__Cluster__Cluster *)r->msg)->cluster_discovery_type_case ==
               MESH__CLUSTER__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE;
}

/* The cluster that we are one of, where it matters: a change of it may move every other's weights. */
static bool is_own(const struct mesh_resources *set, const struct mesh_resource *r) {
    const Mesh__Core__Node *node = (const Mesh__Core__Node *)set->node;
    return node && node->locality && set->local_cluster && r->type == &mesh__cluster__cluster__descriptor &&
           strcmp(r->name, set->local_cluster) == 0;
}

static void note_built(struct mesh_publisher *p, const struct mesh_blend *blend, uint64_t began,
                       uint64_t now) {
    p->built_at = now;
    p->built_ns = mesh_now() - began;
    p->has_aggregates = p->by_zone = false;
    for (size_t i = 0; i < blend->set.n; i++) {
        p->has_aggregates |= is_aggregate(&blend->set.items[i]);
        p->by_zone |= is_own(&blend->set, &blend->set.items[i]);
    }
}

static void note_server(void *arg, const struct mesh_xds_server_info *s) {
    bool *up = arg;
    *up |= s->is_active && s->channel.state == MESH_CHANNEL_UP;
}

static void confirm(struct mesh_publisher *p) {
    bool up = false;
    mesh_xds_each_server(p->xds, note_server, &up);
    if (up && p->answered)
        atomic_store(&mesh_view_head(p->v)->confirmed, mesh_wall());
}

static int publish_all(struct mesh_publisher *p, uint64_t now) {
    struct mesh_blend blend;
    struct mesh_why why = {""};
    uint64_t began = mesh_now();
    if (p->before && is_caught_up(p)) {
        mesh_resources_free(p->before);
        p->before = NULL;
    }
    const struct mesh_resources *said = p->xds ? mesh_xds_resources(p->xds) : NULL;
    if (p->xds && !said)
        return give_up(p, MESH_E_NOMEM, "", now);
    int rc = mesh_blend_make(&blend, p->file, said, p->before, p->v->bootstrap);
    if (rc == 0 && (rc = gather(p, &blend, now)) != 0)
        mesh_blend_done(&blend);
    if (rc != 0)
        return rc < 0 ? give_up(p, rc, "", now) : 0;
    rc = build(p, &blend, now, &why);
    note_built(p, &blend, began, now);
    mesh_blend_done(&blend);
    if (rc < 0)
        return give_up(p, rc, why.text, now);
    mesh_source_ip(p->v);
    if (!p->file_bad)
        mesh_source_say(p->v, "");
    mesh_hosts_taken(p->hosts);
    if (p->xds)
        mesh_xds_taken(p->xds);
    p->changed_since = 0;
    p->whole = p->retaken = p->health_changed = false;
    if (p->xds)
        confirm(p);
    return 0;
}

/* Only endpoints changed, and of clusters that stand alone: the cost is theirs. 1: done, 0: the whole must be
 * built. */
static int publish_endpoints(struct mesh_publisher *p, const struct mesh_xds_change *c, uint64_t now) {
    struct mesh_resource items[AT_ONCE];
    struct mesh_resources set = {.items = items};
    uint8_t ranks[AT_ONCE];
    struct mesh_why why = {""};
    struct mesh_build_in in = {.resources = &set, .ranks = ranks, .assignment = assignment, .arg = p->xds};
    if (p->whole || p->before || p->file || p->has_aggregates || p->by_zone || c->all ||
        c->nclusters > AT_ONCE)
        return 0;
    for (; set.n < c->nclusters; set.n++) {
        const Mesh__Cluster__Cluster *m = (const void *)mesh_xds_cluster(p->xds, c->clusters[set.n]);
        if (!m || m->type != MESH__CLUSTER__CLUSTER__DISCOVERY_TYPE__EDS || mesh_cluster_selects(m) ||
            m->n_health_checks)
            return 0; /* each subset of it is a cluster of its own; who joins is to be checked */
        ranks[set.n] = RANK_CONTROL;
        items[set.n] = (struct mesh_resource){.type = &mesh__cluster__cluster__descriptor,
                                              .msg = (ProtobufCMessage *)m,
                                              .name = m->name,
                                              .path = "CDS"};
    }
    int rc = mesh_pub_begin(p->pub, now);
    if (rc == 0)
        rc = mesh_build_again(p->pub, &in, &why);
    if (rc == 0)
        rc = mesh_pub_commit(p->pub, p->pub->root.stamp, mesh_wall());
    if (rc < 0)
        return rc == MESH_E_AGAIN || mesh_pub_undo(p->pub) == MESH_E_AGAIN ? MESH_E_AGAIN : 0;
    mesh_xds_taken(p->xds);
    return 1;
}

static uint64_t patience_of(const struct mesh_publisher *p, const struct want *w) {
    return inbound_of(w->name) ? 0 : mesh_xds_patience(p->xds, w->name, w->port);
}

/* How long the change may wait, since it came, for what belongs to it: not at all where somebody waits for a
 * name that is whole, longest where the names that are waited for are still without what comes first. */
static uint64_t longest_wait(const struct mesh_publisher *p, uint64_t now, bool settled) {
    bool soon = p->xds && !(p->built_at && now - p->built_at < PAUSE * p->built_ns);
    uint64_t longest = settled ? 0 : DEBOUNCE;
    for (uint32_t i = 0; p->xds && i < VIEW_DEMANDS; i++) {
        if (p->wants[i].state != DEMAND_ASKED || state_of(p, &p->wants[i]) != MESH_XDS_KNOWN)
            continue;
        uint64_t patience = patience_of(p, &p->wants[i]);
        if (!patience && soon)
            return 0;
        longest = patience > longest ? patience : longest;
    }
    return longest;
}

/* With nothing heard yet there is nothing new to say: what the view holds stays. */
static bool has_something(const struct mesh_publisher *p) {
    return !p->retaken || (p->file && p->file_stamp != p->pub->root.stamp) || p->answered || !p->xds ||
           !atomic_load(&mesh_view_head(p->v)->root);
}

static int publish(struct mesh_publisher *p, uint64_t now) {
    struct mesh_xds_change c = {.all = false};
    bool settled = true;
    bool more = p->xds && mesh_xds_changed(p->xds, now, &c, &settled);
    p->answered |= more && c.answered;
    int rc = more ? publish_endpoints(p, &c, now) : 0;
    if (rc < 0)
        return rc;
    if (more && rc == 0) {
        p->whole |= c.all || c.nclusters;
        if (!p->changed_since)
            p->changed_since = now;
        p->retaken = false;
    }
    if (mesh_hosts_changed(p->hosts) || p->health_changed)
        changed(p, now);
    if (p->before && !p->changed_since && is_caught_up(p))
        changed(p, now);
    if (!p->changed_since || now < p->retry_at || !has_something(p))
        return 0;
    p->publish_at = p->changed_since + longest_wait(p, now, settled);
    if (now < p->publish_at)
        return 0;
    return publish_all(p, now);
}

/* ---- turns ------------------------------------------------------------------------------------------------
 */
static int look_around(struct mesh_publisher *p, uint64_t now) {
    p->look_at = now + LOOK;
    look_at_file(p, now);
    if (!p->xds)
        return 0;
    drop_idle(p, now);
    confirm(p);
    return mesh_report_write(p->report, p->pub, p->xds, p->is_agent, now);
}

int mesh_publisher_turn(struct mesh_publisher *p, uint64_t now) {
    uint64_t ignored = UINT64_MAX;
    if (!mesh_lease_ours(p->v, p->pub->lease) || (!p->is_agent && mesh_lease_yields(p->v)))
        return MESH_E_AGAIN;
    if (now >= p->beat_at) {
        mesh_lease_renew(p->v, now);
        p->beat_at = now + BEAT;
    }
    if (p->waker >= 0)
        mesh_waker_drain(p->waker);
    if (p->retaken && p->v->source && !p->file)
        look_at_file(p, now);
    take_demands(p, now);
    if (p->xds)
        mesh_xds_drive(p->xds, now);
    mesh_dns_drive(p->dns, now);
    mesh_hosts_drive(p->hosts, now, &ignored);
    p->health_changed |= mesh_health_drive(p->health, now);
    int rc = publish(p, now);
    if (rc == 0)
        answer_demands(p, now);
    if (rc == 0 && now >= p->look_at)
        rc = look_around(p, now);
    return rc == MESH_E_AGAIN ? rc : 0;
}

uint32_t mesh_publisher_fill(struct mesh_publisher *p, struct pollfd *ret, uint32_t max, uint64_t now,
                             uint64_t *io_deadline) {
    uint32_t n = 0;
    uint64_t d = p->beat_at < p->look_at ? p->beat_at : p->look_at;
    if (p->waker >= 0 && max)
        ret[n++] = (struct pollfd){.fd = p->waker, .events = POLLIN};
    if (p->xds)
        n += mesh_xds_fill(p->xds, ret + n, max - n, &d);
    n += mesh_dns_fill(p->dns, ret + n, max - n, &d);
    mesh_hosts_drive(p->hosts, now, &d);
    n += mesh_health_fill(p->health, ret + n, max - n, &d);
    if (p->changed_since && p->publish_at < d && p->publish_at > now)
        d = p->publish_at;
    if (d < *io_deadline)
        *io_deadline = d;
    return n;
}
