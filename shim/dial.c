/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "lb/lb.h"
#include "shim/accept.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/drain.h"
#include "shim/hand_private.h"
#include "shim/own_identity.h"
#include "shim/pend.h"

enum {
    STALLED_SECONDS = 60, /* how long the only endpoint may be silent after it took the TCP connection */
    SILENT_ONES = 3,
};

void dial_free(struct dial *d) {
    if (!d)
        return;
    free(d->target);
    free(d);
}

static int cluster_of(const struct dial *d, struct mesh_cluster_view *ret, uint64_t *ret_seq) {
    struct mesh_view *v = mesh_engine_view();
    return v ? mesh_view_cluster(v, &d->route, ret, ret_seq) : MESH_E_NOTFOUND;
}

static void report(struct mesh_conn *c, const struct dial *d, enum mesh_lb_outcome outcome) {
    struct mesh_view *v = mesh_engine_view();
    struct mesh_route whole = {.cluster_id = d->route.whole_id,
                               .cluster_generation = d->route.whole_generation};
    struct mesh_cluster_view cv;
    uint64_t seq;
    if (c->stat != UINT32_MAX && v && mesh_view_cluster(v, &whole, &cv, &seq) == 0)
        mesh_lb_report(&cv, c->stat, outcome, mesh_now(), mesh_now() - d->attempt_at);
}

/* ---- choosing ---- */

static int pick(struct dial *d, struct mesh_endpoint *ret, struct mesh_why *ret_why) {
    struct mesh_view *v = mesh_engine_view();
    struct mesh_lb_request rq = {.now = mesh_now(),
                                 .hash = d->route.hash,
                                 .has_hash = d->route.has_hash,
                                 .families = d->families,
                                 .attempt = d->attempts,
                                 .ntried = d->ntried};
    memcpy(rq.tried, d->tried, sizeof d->tried);
    for (int round = 0; round < 16; round++) { /* torn reads are rare; a view that tears 16 times is broken */
        struct mesh_cluster_view cv;
        uint64_t seq;
        uint32_t i;
        int err = cluster_of(d, &cv, &seq);
        if (err)
            return err;
        rq.random = mesh_random();
        err = mesh_lb_pick(&cv, &rq, &i, ret_why);
        if (!err)
            *ret = cv.endpoints[i];
        d->another = cv.n > (uint32_t)d->ntried + 1;
        if (mesh_view_still(v, seq))
            return err;
    }
    return MESH_E_INTERNAL;
}

/* The endpoint's address in a form that this socket takes. */
static void address_of(struct dial *d) {
    const struct mesh_endpoint *e = &d->endpoint;
    memset(&d->to, 0, sizeof d->to);
    if (e->family == 4 && !d->mapped) {
        struct sockaddr_in *in = (struct sockaddr_in *)&d->to;
        in->sin_family = AF_INET;
        in->sin_port = htons(e->port);
        memcpy(&in->sin_addr, e->addr, 4);
        d->to_len = sizeof *in;
        return;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&d->to;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(e->port);
    if (e->family == 4) {
        memcpy(in6->sin6_addr.s6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
        memcpy(in6->sin6_addr.s6_addr + 12, e->addr, 4);
    } else {
        memcpy(&in6->sin6_addr, e->addr, 16);
    }
    d->to_len = sizeof *in6;
}

/* connect() that does not wait, on a descriptor whose flags are the program's and stay so. *ret_known: 0 or
 * -errno when it has ended already, as on loopback, which a second call tells; 1: not yet. `flags`: F_GETFL's
 * answer. */
static int connect_now(int fd, const struct sockaddr *to, socklen_t len, int flags, int *ret_known) {
    if (flags < 0)
        return flags;
    bool blocking = !(flags & O_NONBLOCK);
    if (blocking)
        (void)mesh_sys_fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    int r = mesh_sys_connect(fd, to, len), again = r == -EINPROGRESS ? mesh_sys_connect(fd, to, len) : r;
    *ret_known = again == -EALREADY || again == -EINPROGRESS || again == -EINTR ? 1 : again;
    if (blocking)
        (void)mesh_sys_fcntl(fd, F_SETFL, flags);
    return r;
}

static bool local_fault(int r) { /* says something of the program's socket, nothing of the endpoint */
    return r == -EISCONN || r == -EALREADY || r == -EBADF || r == -ENOTSOCK || r == -EINVAL ||
           r == -EAFNOSUPPORT || r == -EFAULT || r == -EPROTOTYPE;
}

static void disconnect(int fd) {
    struct sockaddr sa = {.sa_family = AF_UNSPEC};
    (void)mesh_sys_connect(fd, &sa, sizeof sa);
}

static void count_off(struct mesh_conn *c) {
    struct mesh_view *v = mesh_engine_view();
    if (v && c->ledger != UINT32_MAX)
        mesh_ledger_release(v, mesh_engine_tree(), c->ledger);
    c->ledger = UINT32_MAX;
}

/* What is in clear says so in every line. */
static void line_tls(struct mesh_line *l, const struct dial *d) {
    mesh_line_str(l, "tls", d->target && d->target->plain ? "none" : NULL);
}

static void trace_dial(const struct dial *d, int fd, const struct sockaddr *to, socklen_t len) {
    if (!mesh_trace_on(MESH_TRACE_DEBUG))
        return;
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_DEBUG, "dial");
    mesh_line_int(&l, "fd", fd);
    mesh_line_str(&l, "name", d->route.name);
    mesh_line_str(&l, "route", d->route.route);
    mesh_line_str(&l, "cluster", d->route.cluster);
    mesh_line_addr(&l, "address", to, len);
    line_tls(&l, d);
    mesh_line_end(&l);
}

static void trace_no_pick(const struct dial *d, int err, const struct mesh_why *why) {
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
    mesh_line_str(&l, "why",
                  err == MESH_E_FAMILY     ? "family"
                  : err == MESH_E_OVERLOAD ? "overload"
                                           : "no-endpoint");
    mesh_line_str(&l, "name", d->route.name);
    mesh_line_str(&l, "cluster", d->route.cluster);
    line_tls(&l, d);
    mesh_line_str(&l, "detail", why->text[0] ? why->text : NULL);
    mesh_line_end(&l);
}

/* Picks an endpoint and begins its TCP connection. 0, or a negative errno of the program's socket, or 1 with
 * *ret_err. */
static int attempt(struct mesh_conn *c, int fd, int flags, struct mesh_hand *h, int *ret_err) {
    struct dial *d = h->dial;
    if (!d->route.original_dst) {
        struct mesh_why why = {""};
        int err = pick(d, &d->endpoint, &why);
        if (err) {
            /* the first attempt's, or a breaker that stops the retries: what an attempt failed with stands */
            if (!d->attempts || err == MESH_E_OVERLOAD)
                trace_no_pick(d, err, &why);
            *ret_err = err;
            return 1;
        }
        c->stat = d->endpoint.stat;
        if (d->ntried < MESH_ARRAY_LEN(d->tried))
            d->tried[d->ntried++] = c->stat;
        address_of(d);
        if (d->endpoint.transport) { /* its own transport socket */
            struct mesh_target *t;
            if (mesh_view_target(mesh_engine_view(), &d->route, d->endpoint.transport, &t) == 0) {
                free(d->target);
                d->target = t;
            }
        }
    }
    struct mesh_view *v = mesh_engine_view();
    enum mesh_ledger_dial dial = d->attempts ? MESH_LEDGER_RETRY : MESH_LEDGER_DIAL;
    if (v && mesh_ledger_take(v, mesh_engine_tree(), c->stat, dial, &c->ledger))
        c->ledger = UINT32_MAX;
    d->attempts++;
    d->attempt_at = mesh_now();
    h->stage = STAGE_CONNECT;
    h->tell_at = 0;
    h->wants = POLLOUT;
    h->deadline = d->attempt_at + d->target->connect_timeout_ms * MESH_MS;
    int r = connect_now(fd, (struct sockaddr *)&d->to, d->to_len, flags, &h->connected);
    if (r == 0 || r == -EINPROGRESS || r == -EINTR)
        return 0;
    d->last_errno = -r;
    if (local_fault(r)) {
        count_off(c);
        return r;
    }
    *ret_err = MESH_E_REFUSED;
    return 1;
}

static void trace_attempt(const struct dial *d, int fd, const char *why, int errno_,
                          const struct mesh_why *detail) {
    bool refused = errno_ == EACCES || errno_ == ENOMEM;
    if (!mesh_trace_on(MESH_TRACE_DEBUG) && !refused)
        return;
    struct mesh_line l;
    mesh_line_begin(&l, refused ? MESH_TRACE_ERROR : MESH_TRACE_DEBUG, refused ? "refused" : "attempt");
    mesh_line_str(&l, "why", why);
    mesh_line_int(&l, "fd", fd);
    mesh_line_str(&l, "name", d->route.name);
    mesh_line_str(&l, "cluster", d->route.cluster);
    mesh_line_addr(&l, "endpoint", (const struct sockaddr *)&d->to, d->to_len);
    line_tls(&l, d);
    mesh_line_int(&l, "errno", errno_);
    mesh_line_int(&l, "attempt", d->attempts);
    mesh_line_str(&l, "detail", detail && detail->text[0] ? detail->text : NULL);
    mesh_line_end(&l);
}

static enum mesh_lb_outcome outcome_of(int err) {
    switch (err) {
    case MESH_E_TIMEOUT:
        return MESH_LB_TIMEOUT;
    case MESH_E_PEER:
    case MESH_E_ALERT:
    case MESH_E_PROTOCOL:
        return MESH_LB_UNAUTHENTIC;
    default:
        return MESH_LB_REFUSED;
    }
}

/* Endpoints that refuse are passed quickly, those that are silent take connect_timeout each: three of them
 * are enough, unless the view says how many. */
static bool is_late(const struct mesh_hand *h) {
    const struct dial *d = h->dial;
    return !d->route.attempts &&
           mesh_now() - h->began >= SILENT_ONES * d->target->connect_timeout_ms * MESH_MS;
}

int dial_next(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h, int err, int errno_,
              const char *why, const struct mesh_why *detail) {
    struct dial *d = h->dial;
    (void)slot;
    for (;;) {
        trace_attempt(d, fd, why, errno_, detail);
        if (err != MESH_E_IDENTITY && err != MESH_E_NOMEM)
            report(c, d, outcome_of(err));
        count_off(c);
        mesh_handshake_free(h->tls);
        h->tls = NULL;
        if (mesh_conn_lock_tx(c) == 0) {
            mesh_queue_clear(&c->sealed);
            mesh_conn_unlock_tx(c);
        }
        d->last_errno = errno_;
        if (err == MESH_E_IDENTITY || d->route.original_dst || d->attempts >= d->target->attempts ||
            is_late(h))
            return -d->last_errno;
        disconnect(fd);
        int e = 0, r = attempt(c, fd, mesh_sys_fcntl(fd, F_GETFL, 0), h, &e);
        if (r <= 0)
            return r;
        if (e != MESH_E_REFUSED) /* nothing left to pick: the last one's errno stands */
            return -(e == MESH_E_OVERLOAD ? mesh_errno(e) : d->last_errno);
        err = e;
        errno_ = d->last_errno;
        why = "connect";
        detail = NULL;
    }
}

void dial_done(struct mesh_conn *c, struct mesh_hand *h) {
    struct mesh_view *v = mesh_engine_view_if_any();
    if (v)
        mesh_ledger_ease(v, mesh_engine_tree(), c->ledger);
    report(c, h->dial, MESH_LB_CONNECTED);
    c->cluster_id = h->dial->route.whole_id;
    c->cluster_generation = h->dial->route.whole_generation;
    mesh_drain_begin(c, &h->dial->route);
}

int dial_connect_step(struct mesh_hand *h, int fd) {
    if (h->connected <= 0)
        return h->connected;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (mesh_sys_poll(&p, 1, 0) <= 0) {
        h->wants = POLLOUT;
        return 1;
    }
    int err = 0;
    socklen_t len = sizeof err;
    if (mesh_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err)
        return -err;
    if (p.revents & POLLHUP)
        return -ECONNREFUSED;
    return 0;
}

/* The peers that may answer: the cluster's, else MESH_PEERS. */
static void peers_of(const struct dial *d, struct mesh_handshake_config *cfg) {
    const struct mesh_env *e = mesh_env();
    if (d->target->peers) {
        cfg->peers = d->target->peers;
        cfg->npeers = d->target->npeers;
    } else {
        cfg->peers = e->npeers ? e->peers : NULL;
        cfg->npeers = e->npeers;
        cfg->peers_none = e->peers_none;
    }
}

int dial_tls(struct mesh_conn *c, struct mesh_hand *h, struct mesh_why *why) {
    struct dial *d = h->dial;
    const struct mesh_env *e = mesh_env();
    int err = mesh_engine_crypto(why);
    if (err)
        return err;
    if (e->bad_peers && !d->target->peers)
        return mesh_why(why, MESH_E_IDENTITY, "MESH_PEERS has a wrong value");
    const struct mesh_target *t = d->target;
    const struct mesh_pem pem = {t->cert, t->key, t->ca, t->cert_len, t->key_len, t->ca_len};
    struct mesh_identity *id = mesh_own_identity(&pem, why);
    if (!id)
        return MESH_E_IDENTITY;
    struct mesh_handshake_config cfg = {.identity = id,
                                        .any_peer_san = d->target->any_peer_san,
                                        .sni = d->target->sni,
                                        .alpn = d->target->no_alpn ? (const uint8_t *)"" : d->target->alpn,
                                        .alpn_len = d->target->alpn_len,
                                        .min_version = d->target->min_version,
                                        .max_version = d->target->max_version,
                                        .ticket_key = d->route.name,
                                        .wall = mesh_wall()};
    peers_of(d, &cfg);
    err = mesh_handshake_new(&cfg, &h->tls);
    mesh_identity_unref(id);
    if (err)
        return err;
    err = mesh_handshake_step(h->tls, NULL, 0, why);
    if (err != MESH_E_AGAIN)
        return err ? err : MESH_E_INTERNAL;
    uint64_t now = mesh_now();
    bool own = mesh_accept_is_ours((struct sockaddr *)&d->to);
    h->tell_at = own ? now : now + e->patience_ns;
    uint64_t timeout = d->target->connect_timeout_ms * MESH_MS;
    bool last = !d->another || d->attempts >= d->target->attempts;
    h->deadline = now + (last && timeout < STALLED_SECONDS * MESH_SEC ? STALLED_SECONDS * MESH_SEC : timeout);
    (void)c;
    return 0;
}

/* ---- beginning ---- */

/* Only an IPv4 socket connects to an IPv4 address. */
static int families_of(int fd, const struct sockaddr *to, struct dial *d) {
    int domain = 0, only6 = 0;
    d->families = 1;
    if (to->sa_family == AF_INET)
        return 0;
    socklen_t len = sizeof domain;
    int r = mesh_sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
    if (r < 0)
        return r;
    if (domain == AF_INET)
        return 0;
    len = sizeof only6;
    (void)mesh_sys_getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, &len);
    d->mapped = true;
    d->families = only6 ? 2 : 3;
    return 0;
}

int mesh_dial_begin(struct mesh_conn *c, uint32_t slot, int fd, int flags, const struct mesh_route *route,
                    const struct sockaddr *to, socklen_t len) {
    struct mesh_local *l = mesh_local_at(slot);
    struct mesh_hand *h = calloc(1, sizeof *h);
    struct dial *d = calloc(1, sizeof *d);
    int r = -ENOMEM, err = 0;
    if (!l || !h || !d) {
        mesh_trace_refused("no-memory", "name", route->name);
        free(h);
        free(d);
        return r;
    }
    h->dial = d;
    h->began = mesh_now();
    d->route = *route;
    r = families_of(fd, to, d);
    if (r == 0 && (err = mesh_view_target(mesh_engine_view(), route, 0, &d->target)) != 0) {
        trace_no_pick(d, err, &(struct mesh_why){""});
        r = -mesh_errno(err);
    }
    if (r == 0) {
        if (route->original_dst) {
            memcpy(&d->to, to, len < sizeof d->to ? len : sizeof d->to);
            d->to_len = len;
        }
        memcpy(&c->dialled, to, len < sizeof c->dialled ? len : sizeof c->dialled);
        trace_dial(d, fd, to, len);
        r = attempt(c, fd, flags, h, &err);
        if (r == 1 && err == MESH_E_REFUSED)
            r = dial_next(c, slot, fd, h, err, d->last_errno, "connect", NULL);
        else if (r == 1)
            r = -mesh_errno(err);
    }
    if (r < 0) {
        mesh_handshake_free(h->tls);
        dial_free(d);
        free(h);
        return r;
    }
    bool locked = mesh_conn_lock_rx(c) == 0; /* others see the slot, and wait for this */
    l->hand = h;
    hand_show(slot);
    atomic_store(&c->driver, mesh_proc_self() + 1);
    if (locked)
        mesh_conn_unlock_rx(c);
    return 0;
}
