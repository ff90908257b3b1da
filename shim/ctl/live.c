/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens now: status, stats, trace.
 */
#include <stdlib.h>
#include <string.h>
#include "lb/lb.h"
#include "resolver/channel.h"
#include "resolver/publisher.h"
#include "shim/base/clock.h"
#include "shim/base/trace.h"
#include "shim/ctl/cluster.h"
#include "shim/ctl/ctl.h"
#include "shim/ctl/proc.h"

enum { ROWS_MAX = 65536 };

/* ---- status -----------------------------------------------------------------------------------------------
 */
struct process {
    int pid;
    uint64_t since;
    char program[MESH_CTL_PROGRAM_MAX];
    char identity[256];
};

struct status {
    struct mesh_report *report; /* NULL: no publisher has reported */
    struct process *processes;
    struct mesh_conn_info *conns;
    size_t nprocesses, nconns;
    bool full; /* out of memory or over ROWS_MAX: some rows are missing */
};

/* Room for one more at the end, or NULL. */
static void *grow(void *list, size_t n, size_t size, bool *ret_full) {
    if (n & (n - 1)) /* grows at powers of two */
        return list;
    void *more = n < ROWS_MAX ? realloc(list, (n ? 2 * n : 1) * size) : NULL;
    *ret_full = *ret_full || !more;
    return more;
}

/* Names and IDs come from peers, by way of memory that others write: ended, and fit for a terminal. */
static void clean(char *text, size_t cap) {
    text[cap - 1] = 0;
    for (; *text; text++)
        if (*text < ' ' || *text == 0x7f)
            *text = '?';
}

static void add_process(void *arg, int pid, uint64_t tree, uint64_t since, const char *identity) {
    struct status *s = arg;
    (void)tree;
    struct process *more = s->full ? NULL : grow(s->processes, s->nprocesses, sizeof *more, &s->full);
    if (!more)
        return;
    s->processes = more;
    struct process *p = &s->processes[s->nprocesses++];
    *p = (struct process){.pid = pid, .since = since};
    snprintf(p->identity, sizeof p->identity, "%s", identity ? identity : "");
    clean(p->identity, sizeof p->identity);
    if (mesh_ctl_proc_program(pid, p->program) < 0)
        p->program[0] = 0;
}

static void add_connection(void *arg, const struct mesh_conn_info *info) {
    struct status *s = arg;
    struct mesh_conn_info *more = s->full ? NULL : grow(s->conns, s->nconns, sizeof *more, &s->full);
    if (!more)
        return;
    s->conns = more;
    struct mesh_conn_info *c = &s->conns[s->nconns++];
    *c = *info;
    clean(c->name, sizeof c->name);
    clean(c->endpoint, sizeof c->endpoint);
    clean(c->peer, sizeof c->peer);
}

static const char *version_name(const struct mesh_conn_info *i) {
    return i->plain ? "none" : i->version == 0x0304 ? "1.3" : i->version == 0x0303 ? "1.2" : "?";
}

static const char *cipher_name(const struct mesh_conn_info *i) {
    switch (i->plain ? 0 : i->cipher) {
    case MESH_AES128_GCM:
        return "AES-128-GCM";
    case MESH_AES256_GCM:
        return "AES-256-GCM";
    case MESH_CHACHA20_POLY1305:
        return "CHACHA20-POLY1305";
    default:
        return "";
    }
}

static void status_connections(struct mesh_ctl_out *o, const struct status *s, int pid, uint64_t now) {
    mesh_ctl_list_begin(o, "connections");
    for (size_t i = 0; i < s->nconns; i++) {
        const struct mesh_conn_info *c = &s->conns[i];
        if (c->pid != pid)
            continue;
        mesh_ctl_map_begin(o, NULL);
        mesh_ctl_int(o, "fd", c->fd);
        mesh_ctl_str(o, "direction", c->inbound ? "in" : "out");
        mesh_ctl_str(o, "name", c->name);
        mesh_ctl_str(o, "endpoint", c->endpoint);
        mesh_ctl_str(o, "peer", c->peer);
        mesh_ctl_str(o, "tls", version_name(c));
        mesh_ctl_str(o, "cipher", cipher_name(c));
        mesh_ctl_bool(o, "resumed", c->resumed);
        mesh_ctl_ms(o, "age_ms", now > c->started ? now - c->started : 0);
        mesh_ctl_end(o);
    }
    mesh_ctl_end(o);
}

static const char *state_name(uint8_t state) {
    static const char *const names[] = {[MESH_CHANNEL_IDLE] = "idle",
                                        [MESH_CHANNEL_CONNECTING] = "connecting",
                                        [MESH_CHANNEL_UP] = "up",
                                        [MESH_CHANNEL_BACKOFF] = "backoff"};
    return state <= MESH_CHANNEL_BACKOFF ? names[state] : "?";
}

static void publisher_structured(struct mesh_ctl_out *o, const struct mesh_report *r, uint64_t now) {
    mesh_ctl_int(o, "pid", r->pid);
    mesh_ctl_bool(o, "agent", r->pid && r->is_agent);
    mesh_ctl_int(o, "confirmed", r->confirmed);
    mesh_ctl_int(o, "demanded", r->demanded);
    mesh_ctl_int(o, "denied", r->denied);
    mesh_ctl_list_begin(o, "servers");
    for (uint32_t i = 0; i < r->nservers; i++) {
        const struct mesh_report_server *s = &r->servers[i];
        mesh_ctl_map_begin(o, NULL);
        mesh_ctl_str(o, "uri", s->uri);
        mesh_ctl_str(o, "authority", s->authority);
        mesh_ctl_str(o, "state", state_name(s->state));
        mesh_ctl_bool(o, "active", s->is_active);
        mesh_ctl_str(o, "peer", s->peer);
        mesh_ctl_ms(o, "since_ms", now > s->since ? now - s->since : 0);
        mesh_ctl_int(o, "acks", s->acks);
        mesh_ctl_int(o, "nacks", s->nacks);
        mesh_ctl_str(o, "error", s->error[0] ? s->error : NULL);
        mesh_ctl_end(o);
    }
    mesh_ctl_end(o);
}

static void publisher_text(const struct mesh_report *r) {
    if (r->pid)
        printf("publisher %d%s, %u names asked for, %u denied\n", r->pid, r->is_agent ? " (agent)" : "",
               r->demanded, r->denied);
    else
        printf("no publisher now\n");
    for (uint32_t i = 0; i < r->nservers; i++) {
        const struct mesh_report_server *s = &r->servers[i];
        printf("  server %s %s%s%s acks=%u nacks=%u%s%s\n", s->uri, state_name(s->state),
               s->is_active ? " active" : "", s->authority[0] ? " (authority)" : "", s->acks, s->nacks,
               s->error[0] ? " error=" : "", s->error);
    }
}

static int status_structured(const struct status *s, const struct mesh_view_info *i, bool yaml) {
    struct mesh_ctl_out o;
    uint64_t now = mesh_now();
    mesh_ctl_out_init(&o, stdout, yaml);
    mesh_ctl_map_begin(&o, "publisher");
    mesh_ctl_str(&o, "source", i->source);
    mesh_ctl_str(&o, "path", i->path);
    mesh_ctl_int(&o, "version", (int64_t)i->version);
    mesh_ctl_int(&o, "age_s", mesh_wall() - i->built_wall);
    if (s->report)
        publisher_structured(&o, s->report, now);
    mesh_ctl_end(&o);
    mesh_ctl_list_begin(&o, "processes");
    for (size_t k = 0; k < s->nprocesses; k++) {
        const struct process *p = &s->processes[k];
        mesh_ctl_map_begin(&o, NULL);
        mesh_ctl_int(&o, "pid", p->pid);
        mesh_ctl_str(&o, "program", p->program);
        mesh_ctl_str(&o, "identity", p->identity);
        mesh_ctl_ms(&o, "age_ms", now > p->since ? now - p->since : 0);
        status_connections(&o, s, p->pid, now);
        mesh_ctl_end(&o);
    }
    mesh_ctl_end(&o);
    return mesh_ctl_finish(&o, MESH_CTL_YES);
}

static int status_text(const struct status *s, const struct mesh_view_info *i) {
    printf("view %s, version %llu, %lld s old\n", i->source, (unsigned long long)i->version,
           (long long)(mesh_wall() - i->built_wall));
    if (s->report)
        publisher_text(s->report);
    for (size_t k = 0; k < s->nprocesses; k++) {
        const struct process *p = &s->processes[k];
        printf("%d %s  %s\n", p->pid, p->program, p->identity[0] ? p->identity : "no identity yet");
        for (size_t j = 0; j < s->nconns; j++) {
            const struct mesh_conn_info *c = &s->conns[j];
            if (c->pid == p->pid)
                printf("  fd=%d %s %s%s%s peer=%s tls=%s %s%s\n", c->fd, c->inbound ? "from" : "to", c->name,
                       c->name[0] ? " " : "", c->endpoint, c->peer, version_name(c), cipher_name(c),
                       c->resumed ? " resumed" : "");
        }
    }
    if (!s->nprocesses)
        printf("no live process\n");
    return MESH_CTL_YES;
}

int mesh_ctl_status(struct mesh_ctl *c) {
    struct status s = {0};
    struct mesh_view_info info;
    if (!mesh_ctl_session_open(c))
        return MESH_CTL_NO;
    mesh_ledger_settle(c->view, mesh_now());
    int r = mesh_view_describe(c->view, &info);
    if (r == 0 && mesh_view_report(c->view, mesh_now(), &s.report) < 0)
        s.report = NULL;
    if (r == 0)
        r = mesh_ledger_each_process(c->view, add_process, &s);
    if (r >= 0)
        r = mesh_ledger_each(c->view, add_connection, &s);
    int status = MESH_CTL_NO;
    if (r < 0)
        mesh_ctl_complain("the ledger: %s", mesh_err_text(r));
    else if (c->args.format == MESH_CTL_TEXT)
        status = status_text(&s, &info);
    else
        status = status_structured(&s, &info, c->args.format == MESH_CTL_YAML);
    if (s.full)
        mesh_ctl_complain("some rows are missing: %s", mesh_err_text(MESH_E_LIMIT));
    free(s.report);
    free(s.processes);
    free(s.conns);
    return status;
}

/* ---- stats ------------------------------------------------------------------------------------------------
 */
struct stats {
    struct mesh_ctl *c;
    struct mesh_ctl_out *out; /* NULL: text */
    uint64_t now;
};

static uint64_t left(uint64_t until, uint64_t now) {
    return until > now ? until - now : 0;
}

/* A limit of UINT32_MAX is none: not printed. */
static void limit(const struct stats *s, const char *name, uint32_t n) {
    if (n != UINT32_MAX)
        mesh_ctl_int(s->out, name, n);
}

static uint32_t ejected(const struct stats *s, const struct mesh_ctl_cluster *k) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->n; i++)
        n += left(k->endpoints[i].ejected_until, s->now) > 0;
    return n;
}

static void stats_structured(const struct stats *s, const struct mesh_ctl_cluster *k) {
    mesh_ctl_map_begin(s->out, NULL);
    mesh_ctl_str(s->out, "name", k->name);
    mesh_ctl_str(s->out, "policy", mesh_lb_policy_name(k->policy));
    mesh_ctl_int(s->out, "in_flight", k->inflight);
    mesh_ctl_int(s->out, "pending", k->pending);
    mesh_ctl_int(s->out, "retries", k->retries);
    mesh_ctl_int(s->out, "overflow", k->overflow);
    mesh_ctl_int(s->out, "ejected", ejected(s, k));
    limit(s, "max_connections", k->max_connections);
    limit(s, "max_pending_requests", k->max_pending);
    limit(s, "max_retries", k->max_retries);
    limit(s, "max_connections_per_host", k->max_host_connections);
    mesh_ctl_list_begin(s->out, "endpoints");
    for (uint32_t i = 0; i < k->n; i++) {
        const struct mesh_ctl_endpoint *e = &k->endpoints[i];
        mesh_ctl_map_begin(s->out, NULL);
        mesh_ctl_str(s->out, "address", e->address);
        mesh_ctl_str(s->out, "health", e->health);
        mesh_ctl_int(s->out, "weight", e->weight);
        mesh_ctl_int(s->out, "priority", e->priority);
        mesh_ctl_int(s->out, "in_flight", e->inflight);
        mesh_ctl_int(s->out, "connects", (int64_t)e->connects);
        mesh_ctl_int(s->out, "failures", (int64_t)e->failures);
        mesh_ctl_int(s->out, "failures_in_row", e->failures_in_row);
        mesh_ctl_int(s->out, "ejections", e->ejections);
        mesh_ctl_ms(s->out, "ejected_ms", left(e->ejected_until, s->now));
        mesh_ctl_ms(s->out, "latency_ms", (uint64_t)e->latency_us * 1000);
        mesh_ctl_end(s->out);
    }
    mesh_ctl_end(s->out);
    mesh_ctl_end(s->out);
}

static void stats_text(const struct stats *s, const struct mesh_ctl_cluster *k) {
    printf("%s (%s) in_flight=%u pending=%u retries=%u overflow=%u ejected=%u\n", k->name,
           mesh_lb_policy_name(k->policy), k->inflight, k->pending, k->retries, k->overflow, ejected(s, k));
    for (uint32_t i = 0; i < k->n; i++) {
        const struct mesh_ctl_endpoint *e = &k->endpoints[i];
        printf("  %-24s %-9s weight=%u priority=%u in_flight=%u connects=%llu failures=%llu in_row=%u "
               "latency=%.1fms",
               e->address, e->health, e->weight, e->priority, e->inflight, (unsigned long long)e->connects,
               (unsigned long long)e->failures, e->failures_in_row, e->latency_us / 1000.0);
        if (left(e->ejected_until, s->now))
            printf(" ejected for %.1fs", (double)left(e->ejected_until, s->now) / (double)MESH_SEC);
        putchar('\n');
    }
}

static void stats_cluster(void *arg, const struct mesh_route *r) {
    const struct stats *s = arg;
    struct mesh_ctl_cluster k;
    if (mesh_ctl_cluster_copy(s->c->view, r, &k) < 0) /* it went meanwhile */
        return;
    if (s->out)
        stats_structured(s, &k);
    else
        stats_text(s, &k);
    mesh_ctl_cluster_done(&k);
}

int mesh_ctl_stats(struct mesh_ctl *c) {
    struct mesh_ctl_out o;
    struct stats s = {c, c->args.format == MESH_CTL_TEXT ? NULL : &o, mesh_now()};
    if (!mesh_ctl_session_open(c))
        return MESH_CTL_NO;
    mesh_ledger_settle(c->view, s.now);
    if (s.out) {
        mesh_ctl_out_init(&o, stdout, c->args.format == MESH_CTL_YAML);
        mesh_ctl_list_begin(&o, "clusters");
    }
    int r = mesh_view_each_cluster(c->view, stats_cluster, &s);
    int status = r < 0 ? MESH_CTL_NO : MESH_CTL_YES;
    if (r < 0)
        mesh_ctl_complain("the view: %s", mesh_err_text(r));
    if (!s.out)
        return status;
    mesh_ctl_end(&o);
    return mesh_ctl_finish(&o, status);
}

/* ---- trace ------------------------------------------------------------------------------------------------
 */
int mesh_ctl_trace(struct mesh_ctl *c) {
    const char *spec = c->args.operand;
    if (mesh_trace_check(spec) < 0) {
        mesh_ctl_complain("not off, error, info, debug or trace, then :FILE: %s", spec);
        return MESH_CTL_USAGE;
    }
    if (!mesh_ctl_session_open(c))
        return MESH_CTL_NO;
    int r = mesh_ledger_post_trace(c->view, c->args.pid, spec);
    if (r == MESH_E_NOTFOUND)
        mesh_ctl_complain("process %d has not used this view yet", c->args.pid);
    else if (r < 0)
        mesh_ctl_complain("process %d: %s", c->args.pid, mesh_err_text(r));
    return r < 0 ? MESH_CTL_NO : MESH_CTL_YES;
}
