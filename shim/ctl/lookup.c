/* SPDX-License-Identifier: Apache-2.0
 *
 * What the view says: view, resolve, pick.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "lb/lb.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "resolver/publisher.h"
#include "shim/ctl/cluster.h"
#include "shim/ctl/ctl.h"

enum { PICK_TRIES = 100, BOTH_FAMILIES = 3 };

/* ---- view -------------------------------------------------------------------------------------------------
 */
static void print_time(char ret_text[32], int64_t wall) {
    time_t t = (time_t)wall;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(ret_text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void print_fault(void *arg, const char *resource, const char *why) {
    printf("# left out: %s: %s\n", resource, why);
}

static void print_plain(void *arg, const struct mesh_route *cluster) {
    if (cluster->plain)
        printf("# tls=none: %s\n", cluster->cluster);
}

/* What the control plane sent and was refused. */
static void each_nack(const struct mesh_view *v, void (*fn)(void *arg, const struct mesh_report_resource *r),
                      void *arg) {
    struct mesh_report *report;
    if (mesh_view_report(v, mesh_now(), &report) < 0)
        return;
    for (uint32_t i = 0; i < report->nresources; i++)
        if (report->resources[i].error[0])
            fn(arg, &report->resources[i]);
    free(report);
}

static void print_nack(void *arg, const struct mesh_report_resource *r) {
    printf("# refused: %s %s version %s: %s\n", r->type_url, r->name, r->error_version, r->error);
}

static void nack_json(void *arg, const struct mesh_report_resource *r) {
    struct mesh_ctl_out *o = arg;
    mesh_ctl_map_begin(o, NULL);
    mesh_ctl_str(o, "type_url", r->type_url);
    mesh_ctl_str(o, "name", r->name);
    mesh_ctl_str(o, "version", r->error_version);
    mesh_ctl_str(o, "why", r->error);
    mesh_ctl_end(o);
}

static void print_head(const struct mesh_view *v, const struct mesh_view_info *i, bool private_view) {
    char built[32];
    print_time(built, i->built_wall);
    printf("# source: %s\n", i->source);
    if (i->version)
        printf("# version: %llu, built %s, %lld s old\n", (unsigned long long)i->version, built,
               (long long)(mesh_wall() - i->built_wall));
    if (i->confirmed)
        printf("# confirmed by the control plane %lld s ago\n", (long long)(mesh_wall() - i->confirmed));
    else if (i->learns)
        printf("# never confirmed by the control plane\n");
    printf("# names: %u, clusters: %u, endpoints: %u, listeners: %u\n", i->names, i->clusters, i->endpoints,
           i->listeners);
    printf("# shared as: %s\n", private_view ? "nothing: private to each process tree" : i->path);
    if (i->error[0])
        printf("# not in force: %s\n", i->error);
    each_nack(v, print_nack, NULL);
    (void)!mesh_view_each_fault(v, print_fault, NULL);
    (void)!mesh_view_each_cluster(v, print_plain, NULL);
}

static void fault_json(void *arg, const char *resource, const char *why) {
    struct mesh_ctl_out *o = arg;
    mesh_ctl_map_begin(o, NULL);
    mesh_ctl_str(o, "resource", resource);
    mesh_ctl_str(o, "why", why);
    mesh_ctl_end(o);
}

static void plain_json(void *arg, const struct mesh_route *cluster) {
    if (cluster->plain)
        mesh_ctl_str(arg, NULL, cluster->cluster);
}

static int view_json(const struct mesh_view *v, const struct mesh_view_info *i, const char *resources) {
    struct mesh_ctl_out o;
    mesh_ctl_out_init(&o, stdout, false);
    mesh_ctl_str(&o, "source", i->source);
    mesh_ctl_str(&o, "path", i->path);
    mesh_ctl_int(&o, "version", (int64_t)i->version);
    mesh_ctl_int(&o, "built", i->built_wall);
    mesh_ctl_int(&o, "age_s", mesh_wall() - i->built_wall);
    mesh_ctl_int(&o, "confirmed", i->confirmed);
    mesh_ctl_str(&o, "error", i->error[0] ? i->error : NULL);
    mesh_ctl_int(&o, "names", i->names);
    mesh_ctl_int(&o, "clusters", i->clusters);
    mesh_ctl_int(&o, "endpoints", i->endpoints);
    mesh_ctl_int(&o, "listeners", i->listeners);
    mesh_ctl_list_begin(&o, "nacks");
    each_nack(v, nack_json, &o);
    mesh_ctl_end(&o);
    mesh_ctl_list_begin(&o, "left_out");
    (void)!mesh_view_each_fault(v, fault_json, &o);
    mesh_ctl_end(&o);
    mesh_ctl_list_begin(&o, "plain");
    (void)!mesh_view_each_cluster(v, plain_json, &o);
    mesh_ctl_end(&o);
    mesh_ctl_raw(&o, "view", resources);
    return mesh_ctl_finish(&o, MESH_CTL_YES);
}

int mesh_ctl_view(struct mesh_ctl *c) {
    struct mesh_view_info info;
    char *text = NULL;
    bool json = c->args.format == MESH_CTL_JSON;
    if (!mesh_ctl_session_open(c))
        return MESH_CTL_NO;
    int r = mesh_view_describe(c->view, &info);
    if (r == 0)
        r = mesh_view_print(c->view, c->args.operand, !json, &text);
    if (r < 0) {
        mesh_ctl_complain("%s: %s", c->args.operand ? c->args.operand : "the view", mesh_err_text(r));
        return MESH_CTL_NO;
    }
    int status = MESH_CTL_YES;
    if (json) {
        status = view_json(c->view, &info, text);
    } else {
        print_head(c->view, &info, c->private_view);
        fputs(text, stdout);
    }
    free(text);
    return status;
}

/* ---- resolve ----------------------------------------------------------------------------------------------
 */
struct answer {
    const char *operand;
    char v4[INET_ADDRSTRLEN], v6[INET6_ADDRSTRLEN]; /* "": none */
    struct mesh_answer raw;
    int nsplits;
    struct mesh_ctl_split splits[MESH_CTL_SPLITS_MAX];
    struct mesh_ctl_cluster clusters[MESH_CTL_SPLITS_MAX];
};

static int find_answer(struct mesh_ctl *c, const char *name, uint16_t port, struct answer *a) {
    int r = mesh_view_name(c->view, name, &a->raw);
    if (r < 0)
        return r;
    if (a->raw.has4)
        inet_ntop(AF_INET, a->raw.v4, a->v4, sizeof a->v4);
    if (a->raw.has6)
        inet_ntop(AF_INET6, a->raw.v6, a->v6, sizeof a->v6);
    r = mesh_ctl_splits(c->view, name, port, a->splits);
    a->nsplits = r > 0 ? r : 0;
    for (int i = 0; i < r; i++) {
        int err = mesh_ctl_cluster_copy(c->view, &a->splits[i].route, &a->clusters[i]);
        if (err < 0)
            return err;
    }
    return r < 0 ? r : 0;
}

static int resolve_structured(const struct answer *a, bool yaml, int status) {
    struct mesh_ctl_out o;
    mesh_ctl_out_init(&o, stdout, yaml);
    mesh_ctl_str(&o, "name", a->operand);
    mesh_ctl_str(&o, "address4", a->v4[0] ? a->v4 : NULL);
    mesh_ctl_str(&o, "address6", a->v6[0] ? a->v6 : NULL);
    mesh_ctl_str(&o, "route", a->nsplits ? a->splits[0].route.route : NULL);
    mesh_ctl_list_begin(&o, "clusters");
    for (int i = 0; i < a->nsplits; i++) {
        mesh_ctl_map_begin(&o, NULL);
        mesh_ctl_str(&o, "name", a->splits[i].route.cluster);
        mesh_ctl_int(&o, "weight", a->splits[i].weight);
        mesh_ctl_list_begin(&o, "endpoints");
        for (uint32_t k = 0; k < a->clusters[i].n; k++) {
            const struct mesh_ctl_endpoint *e = &a->clusters[i].endpoints[k];
            mesh_ctl_map_begin(&o, NULL);
            mesh_ctl_str(&o, "address", e->address);
            mesh_ctl_str(&o, "health", e->health);
            mesh_ctl_int(&o, "weight", e->weight);
            mesh_ctl_end(&o);
        }
        mesh_ctl_end(&o);
        mesh_ctl_end(&o);
    }
    mesh_ctl_end(&o);
    return mesh_ctl_finish(&o, status);
}

static void resolve_text(const struct answer *a) {
    printf("name      %s\n", a->operand);
    if (a->v4[0])
        printf("address4  %s\n", a->v4);
    if (a->v6[0])
        printf("address6  %s\n", a->v6);
    if (a->raw.naddrs)
        printf("headless  answers the endpoints' own addresses\n");
    if (a->nsplits)
        printf("route     %s\n", a->splits[0].route.route);
    for (int i = 0; i < a->nsplits; i++) {
        const struct mesh_route *r = &a->splits[i].route;
        printf("cluster   %s  weight=%u%s\n", r->cluster, a->splits[i].weight, r->plain ? "  tls=none" : "");
        for (uint32_t k = 0; k < a->clusters[i].n; k++) {
            const struct mesh_ctl_endpoint *e = &a->clusters[i].endpoints[k];
            printf("  %-24s %-9s weight=%u\n", e->address, e->health, e->weight);
        }
    }
}

int mesh_ctl_resolve(struct mesh_ctl *c) {
    static struct answer a; /* large, and there is one */
    char name[256];
    uint16_t port;
    if (mesh_ctl_name_split(c->args.operand, name, &port) < 0) {
        mesh_ctl_complain("not NAME or NAME:PORT: %s", c->args.operand);
        return MESH_CTL_USAGE;
    }
    if (!mesh_ctl_session_open(c))
        return MESH_CTL_NO;
    a.operand = c->args.operand;
    int r = find_answer(c, name, port, &a);
    int status = r < 0 ? MESH_CTL_NO : MESH_CTL_YES;
    if (c->args.format != MESH_CTL_TEXT)
        status = resolve_structured(&a, c->args.format == MESH_CTL_YAML, status);
    else if (r == 0)
        resolve_text(&a);
    if (r < 0)
        mesh_ctl_complain("%s: %s", c->args.operand, mesh_err_text(r));
    for (int i = 0; i < a.nsplits; i++)
        mesh_ctl_cluster_done(&a.clusters[i]);
    return status;
}

/* ---- pick -------------------------------------------------------------------------------------------------
 */
struct pick {
    char endpoint[64];
    char cluster[MESH_NAME_MAX + 1];
    struct mesh_why why;
};

/* Counters as they are now, but for the round robin position, which goes on from pick to pick. */
static void copy_live(const struct mesh_cluster_stat *from, struct mesh_cluster_stat *to, bool first) {
    if (first)
        atomic_store(&to->rr, atomic_load(&from->rr));
    atomic_store(&to->ejected, atomic_load(&from->ejected));
    atomic_store(&to->inflight, atomic_load(&from->inflight));
    atomic_store(&to->pending, atomic_load(&from->pending));
    atomic_store(&to->retries, atomic_load(&from->retries));
}

/* Behind the balancer's reason: what the endpoint weighs and carries. */
static void describe(const struct mesh_cluster_view *v, const struct mesh_endpoint *e,
                     const struct mesh_route *r, struct pick *ret) {
    size_t n = strlen(ret->why.text);
    mesh_ctl_address(e, ret->endpoint, sizeof ret->endpoint);
    memcpy(ret->cluster, r->cluster, sizeof ret->cluster);
    if (e->stat < v->nstats)
        snprintf(ret->why.text + n, sizeof ret->why.text - n, "; weight %u, %u in flight, %.1f ms", e->weight,
                 atomic_load(&v->stats[e->stat].inflight),
                 atomic_load(&v->stats[e->stat].latency_us) / 1000.0);
}

/* One pick, as a connection of its own would get it. The counters of the cluster are a copy: asking changes
 * nothing for the programs. */
static int pick_once(struct mesh_ctl *c, const char *name, uint16_t port, struct mesh_cluster_stat *live,
                     bool first, struct pick *ret) {
    struct mesh_lb_request q = {
        .now = mesh_now(), .random = mesh_random(), .families = BOTH_FAMILIES, .want_why = true};
    struct mesh_route r;
    int err = mesh_view_route_name(c->view, name, port, mesh_random(), &r);
    q.has_hash = c->args.hash || r.has_hash;
    q.hash = c->args.hash ? mesh_lb_xxh64(c->args.hash, strlen(c->args.hash), 0) : r.hash;
    if (err == 0 && r.original_dst)
        return mesh_why(&ret->why, MESH_E_UNSUPPORTED, "dialled at the very address that the program names");
    for (int i = 0; err == 0 && i < PICK_TRIES; i++) {
        struct mesh_cluster_view v;
        uint64_t seq;
        uint32_t at = 0;
        err = mesh_view_cluster(c->view, &r, &v, &seq);
        if (err < 0)
            break;
        copy_live(v.live, &live[0], first);
        copy_live(v.limits, &live[1], first);
        v.limits = v.limits == v.live ? &live[0] : &live[1];
        v.live = &live[0];
        err = mesh_lb_pick(&v, &q, &at, &ret->why);
        if (err == 0 && at < v.n)
            describe(&v, &v.endpoints[at], &r, ret);
        if (mesh_view_still(c->view, seq))
            return err;
        err = 0;
    }
    return err < 0 ? err : MESH_E_AGAIN;
}

static void pick_print(struct mesh_ctl_out *o, const struct pick *p, const struct mesh_ctl_args *a) {
    if (a->format == MESH_CTL_TEXT) {
        printf(a->explain ? "%s  %s: %s\n" : "%s\n", p->endpoint, p->cluster, p->why.text);
        return;
    }
    mesh_ctl_map_begin(o, NULL);
    mesh_ctl_str(o, "endpoint", p->endpoint);
    mesh_ctl_str(o, "cluster", p->cluster);
    mesh_ctl_str(o, "why", p->why.text);
    mesh_ctl_end(o);
}

static int pick_all(struct mesh_ctl *c, const char *name, uint16_t port, struct mesh_ctl_out *o) {
    struct mesh_cluster_stat live[2] = {{0}}; /* of the endpoints, of the limits */
    for (int i = 0; i < c->args.picks; i++) {
        struct pick p = {"", "", {""}};
        int r = pick_once(c, name, port, live, i == 0, &p);
        if (r < 0) {
            mesh_ctl_complain("%s: %s", c->args.operand, p.why.text[0] ? p.why.text : mesh_err_text(r));
            return MESH_CTL_NO;
        }
        pick_print(o, &p, &c->args);
    }
    return MESH_CTL_YES;
}

int mesh_ctl_pick(struct mesh_ctl *c) {
    struct mesh_ctl_out o;
    char name[256];
    uint16_t port;
    if (mesh_ctl_name_split(c->args.operand, name, &port) < 0) {
        mesh_ctl_complain("not NAME:PORT: %s", c->args.operand);
        return MESH_CTL_USAGE;
    }
    if (!mesh_ctl_session_open(c))
        return MESH_CTL_NO;
    if (c->args.format == MESH_CTL_TEXT)
        return pick_all(c, name, port, &o);
    mesh_ctl_out_init(&o, stdout, c->args.format == MESH_CTL_YAML);
    mesh_ctl_list_begin(&o, "picks");
    int status = pick_all(c, name, port, &o);
    mesh_ctl_end(&o);
    return mesh_ctl_finish(&o, status);
}
