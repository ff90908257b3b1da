/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "lb/lb.h"
#include "shim/admit.h"
#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/drain.h"
#include "shim/fresh.h"
#include "shim/hand_private.h"
#include "shim/own_identity.h"
#include "shim/pend.h"
#include "shim/text.h"
#include "shim/watch.h"

enum { ACCESS_DENIED = 49 }; /* RFC 8446 6.2: a valid certificate, and access control says no */
enum { NEVER = POLLRDBAND }; /* an event that TCP does not know */
static const uint64_t LOOK_AGAIN = 10 * MESH_MS;

static struct mesh_hand *hand_of(uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    return l ? l->hand : NULL;
}

/* rx lock held, or nobody else knows the slot: what those see who look without it. */
void hand_show(uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    const struct mesh_hand *h = l->hand;
    uint64_t due = UINT64_MAX;
    short wants = POLLIN;
    bool if_held = false;
    if (h && h->stage == STAGE_FIRST) {
        /* on a permissive port a caller may be silent for ever: only first bytes set a time, or a program
         * that speaks first */
        if_held = !h->look_at && h->mode == MESH_INBOUND_PERMISSIVE;
        due = h->look_at ? h->look_at : if_held ? h->began + mesh_env()->detect_ns : h->deadline;
        wants = h->wants;
    } else if (h && h->stage != STAGE_TICKET) {
        bool tell = !mesh_conn_at(slot)->told && h->tell_at && h->tell_at < h->deadline;
        due = tell ? h->tell_at : h->deadline;
        wants = h->wants;
    }
    atomic_store_explicit(&l->if_held, if_held, memory_order_relaxed);
    atomic_store_explicit(&l->wants, wants, memory_order_relaxed);
    atomic_store_explicit(&l->due, due, memory_order_relaxed);
}

void mesh_hand_drop(uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    struct mesh_hand *h = l ? l->hand : NULL;
    if (!h)
        return;
    l->hand = NULL;
    hand_show(slot);
    mesh_handshake_free(h->tls);
    dial_free(h->dial);
    free(h);
}

void mesh_hand_before_fork(uint32_t slot) {
    struct mesh_hand *h = hand_of(slot);
    if (h && !h->busy)
        atomic_store(&mesh_conn_at(slot)->driver, 0);
}

void mesh_hand_after_fork(uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    if (l->hand && l->hand->busy) {
        l->hand = NULL;
        hand_show(slot);
    }
}

uint64_t mesh_hand_deadline(uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    if (!l || (atomic_load_explicit(&l->if_held, memory_order_relaxed) &&
               !mesh_look(mesh_conn_at(slot)->held.bytes)))
        return UINT64_MAX;
    return atomic_load_explicit(&l->due, memory_order_relaxed);
}

short mesh_hand_wants(uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    return l ? atomic_load_explicit(&l->wants, memory_order_relaxed) : POLLIN;
}

/* ---- clients' TLS objects that wait for tickets ----
 * One is twenty times the size of an idle connection, and a peer that never says a word sends no ticket: only
 * the youngest few are kept. */

enum { WAITING = 64 };
static struct waiting { uint32_t slot, generation; /* even generation: empty */ } waiting[WAITING];
static uint32_t waiting_next; /* guarded by mesh_guard */

/* Holds no lock. */
static void wait_for_ticket(uint32_t slot) {
    struct mesh_guard g = mesh_guard_enter();
    struct waiting *at = &waiting[waiting_next++ % WAITING], old = *at;
    *at = (struct waiting){slot, atomic_load(&mesh_conn_at(slot)->generation)};
    mesh_guard_leave(g);
    struct mesh_conn *c = mesh_conn_at(old.slot);
    if (old.generation % 2 == 0 || old.slot == slot ||
        mesh_local_at(old.slot)->generation != old.generation || mesh_conn_lock_rx(c))
        return;
    struct mesh_hand *h = hand_of(old.slot);
    if (mesh_local_at(old.slot)->generation == old.generation && h && h->stage == STAGE_TICKET)
        mesh_hand_drop(old.slot);
    mesh_conn_unlock_rx(c);
}

/* ---- what the record layer tells ---- */

void mesh_hand_ticket(uint32_t slot, const uint8_t *wire, size_t n) {
    struct mesh_hand *h = hand_of(slot);
    /* it is sealed, with random bytes: OpenSSL asks whose process this is, and the kernel for more of them */
    if (h && h->stage == STAGE_TICKET && h->tls && mesh_sys_may(SYS_getpid) && mesh_sys_may(SYS_getrandom))
        mesh_handshake_ticket(h->tls, wire, n);
}

void mesh_hand_data_came(uint32_t slot) {
    struct mesh_hand *h = hand_of(slot);
    if (h && h->stage == STAGE_TICKET)
        mesh_hand_drop(slot);
    mesh_watch_settled(slot);
}

/* In TLS 1.3 a server refuses our certificate after the client is done: that is a failed authentication (D8).
 */
void mesh_hand_peer_alert(struct mesh_conn *c, uint8_t alert) {
    struct mesh_view *v = mesh_engine_view();
    if (!v || c->server || c->stat == UINT32_MAX || !c->control)
        return;
    struct mesh_route r = {.cluster_id = c->cluster_id, .cluster_generation = c->cluster_generation};
    struct mesh_cluster_view cv;
    uint64_t seq;
    if (mesh_view_cluster(v, &r, &cv, &seq) == 0)
        mesh_lb_report(&cv, c->stat, MESH_LB_UNAUTHENTIC, mesh_now(), 0);
    (void)alert;
}

/* ---- traces ---- */

static const char *cipher_name(uint8_t cipher) {
    static const char *const names[] = {"", "AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"};
    return cipher < MESH_ARRAY_LEN(names) ? names[cipher] : "";
}

static void trace_open(struct mesh_conn *c, int fd, const struct mesh_hand *h, const struct mesh_peer *peer) {
    if (!mesh_trace_on(MESH_TRACE_INFO))
        return;
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_INFO, c->server ? "accepted" : "connected");
    mesh_line_int(&l, "fd", fd);
    if (h->dial) {
        mesh_line_str(&l, "name", h->dial->route.name);
        mesh_line_str(&l, "route", h->dial->route.route);
        mesh_line_str(&l, "cluster", h->dial->route.cluster);
        mesh_line_addr(&l, "endpoint", (struct sockaddr *)&h->dial->to, h->dial->to_len);
    } else {
        struct sockaddr_storage ss;
        socklen_t len = sizeof ss;
        mesh_line_int(&l, "port", h->port);
        if (mesh_sys_getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
            mesh_line_addr(&l, "from", (struct sockaddr *)&ss, len);
    }
    if (peer) {
        mesh_line_str(&l, "peer", peer->spiffe[0] ? peer->spiffe : NULL);
        mesh_line_str(&l, "tls", peer->version == 0x0304 ? "1.3" : "1.2");
        mesh_line_str(&l, "cipher", cipher_name(peer->cipher));
        mesh_line_str(&l, "resumed", peer->resumed ? "yes" : "no");
    } else {
        mesh_line_str(&l, "tls", "none");
    }
    if (h->dial)
        mesh_line_int(&l, "attempts", h->dial->attempts);
    mesh_line_ms(&l, "ms", mesh_now() - h->began);
    mesh_line_end(&l);
}

static void describe(struct mesh_conn *c, int fd, const struct mesh_hand *h, const struct mesh_peer *peer) {
    struct mesh_view *v = mesh_engine_view();
    if (!v)
        return;
    if (c->server && c->ledger == UINT32_MAX)
        if (mesh_ledger_take(v, mesh_engine_tree(), UINT32_MAX, MESH_LEDGER_SETTLED, &c->ledger))
            return;
    struct mesh_conn_info i = {
        .pid = mesh_sys_getpid(), .fd = fd, .inbound = c->server, .started = c->started};
    if (peer) {
        i.cipher = peer->cipher;
        i.resumed = peer->resumed;
        i.version = peer->version;
        mesh_text_copy(i.peer, sizeof i.peer, peer->spiffe);
    } else {
        i.plain = 1;
    }
    if (h->dial)
        mesh_text_copy(i.name, sizeof i.name, h->dial->route.name);
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    if (h->dial)
        mesh_text_addr(i.endpoint, sizeof i.endpoint, (struct sockaddr *)&h->dial->to);
    else if (mesh_sys_getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
        mesh_text_addr(i.endpoint, sizeof i.endpoint, (struct sockaddr *)&ss);
    mesh_ledger_describe(v, c->ledger, &i);
}

void mesh_hand_closed(struct mesh_conn *c, uint32_t slot, int fd) {
    (void)slot;
    struct mesh_view *v = mesh_engine_view();
    uint32_t state = atomic_load(&c->state);
    if (mesh_trace_on(MESH_TRACE_INFO) && (state == MESH_CONN_OPEN || state == MESH_CONN_RAW)) {
        struct mesh_line l;
        mesh_line_begin(&l, MESH_TRACE_INFO, "closed");
        mesh_line_int(&l, "fd", fd);
        mesh_line_int(&l, "in", (int64_t)atomic_load(&c->in));
        mesh_line_int(&l, "out", (int64_t)atomic_load(&c->out));
        mesh_line_ms(&l, "ms", mesh_now() - c->started);
        mesh_line_str(&l, "tls", state == MESH_CONN_RAW ? "none" : NULL);
        mesh_line_str(&l, "why", mesh_drain_why(c));
        mesh_line_end(&l);
    }
    if (v && c->ledger != UINT32_MAX)
        mesh_ledger_release(v, mesh_engine_tree(), c->ledger);
    c->ledger = UINT32_MAX;
}

static void trace_fail(struct mesh_conn *c, int fd, const struct mesh_hand *h, const char *why,
                       const struct mesh_why *w) {
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
    mesh_line_str(&l, "why", why);
    mesh_line_int(&l, "fd", fd);
    if (h && h->dial) {
        mesh_line_str(&l, "name", h->dial->route.name);
        mesh_line_str(&l, "cluster", h->dial->route.cluster);
        mesh_line_addr(&l, "endpoint", (struct sockaddr *)&h->dial->to, h->dial->to_len);
        mesh_line_str(&l, "tls", h->dial->target->plain ? "none" : NULL);
    } else if (h) {
        struct sockaddr_storage ss;
        socklen_t len = sizeof ss;
        mesh_line_int(&l, "port", h->port);
        if (mesh_sys_getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
            mesh_line_addr(&l, "from", (struct sockaddr *)&ss, len);
    }
    mesh_line_str(&l, "detail", w && w->text[0] ? w->text : NULL);
    mesh_line_end(&l);
    (void)c;
}

static bool die(struct mesh_conn *c, uint32_t slot, int fd, int err, const char *why) {
    int32_t none = 0; /* first, so that who sees DEAD sees it */
    (void)__atomic_compare_exchange_n(&c->error, &none, err, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    if (atomic_exchange(&c->state, MESH_CONN_DEAD) == MESH_CONN_DEAD)
        return false;
    if (why)
        trace_fail(c, fd, hand_of(slot), why, NULL);
    return true;
}

static void dead(uint32_t slot, int fd) {
    (void)mesh_sys_shutdown(fd, SHUT_RDWR);
    mesh_watch_settled(slot);
}

void mesh_conn_fail(struct mesh_conn *c, uint32_t slot, int fd, int err, uint8_t alert, const char *why) {
    if (!die(c, slot, fd, err, why))
        return;
    if (mesh_conn_lock_tx(c) == 0) {
        mesh_queue_clear(&c->held);
        if (alert)
            (void)mesh_tx_alert(c, slot, fd, 2, alert);
        c->tx_dead = 1;
        mesh_conn_unlock_tx(c);
    }
    dead(slot, fd);
}

void mesh_conn_fail_tx(struct mesh_conn *c, uint32_t slot, int fd, int err, const char *why) {
    c->tx_dead = 1;
    if (!die(c, slot, fd, err, why))
        return;
    mesh_queue_clear(&c->held);
    dead(slot, fd);
}

void mesh_conn_error(struct mesh_conn *c, uint32_t slot, int fd, int err) {
    if (atomic_load(&c->state) == MESH_CONN_OPEN)
        mesh_show(c->rx_error, err);
    else
        mesh_conn_fail(c, slot, fd, err, 0, NULL);
}

/* ---- the two sides' common way ---- */

/* What the handshake wants sent goes behind whatever is already sealed. tx lock held. */
static int send_out(struct mesh_conn *c, int fd, struct mesh_hand *h) {
    const uint8_t *p;
    size_t n = mesh_handshake_out(h->tls, &p);
    if (n) {
        if (!mesh_queue_put(&c->sealed, p, n))
            return -ENOBUFS;
        mesh_handshake_sent(h->tls, n);
    }
    return mesh_tx_flush(c, fd);
}

static int send_out_locked(struct mesh_conn *c, int fd, struct mesh_hand *h) {
    if (mesh_conn_lock_tx(c))
        return -EAGAIN;
    int r = send_out(c, fd, h);
    mesh_conn_unlock_tx(c);
    return r;
}

/* Our tickets wait for our first data, so nothing of ours carries the acknowledgement of the caller's last
 * flight: without one now, Nagle's algorithm would hold the caller's first small write back for as long as we
 * would delay it. */
static void acknowledge(int fd) {
    int one = 1;
    (void)mesh_sys_setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

/* The peer is authenticated: keys in, held bytes out. */
static int open_conn(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h, struct mesh_why *why) {
    struct mesh_peer peer;
    if (mesh_conn_lock_tx(c))
        return MESH_E_AGAIN;
    int err = mesh_handshake_finish(h->tls, &c->rx, &c->tx, &peer);
    if (err) {
        mesh_conn_unlock_tx(c);
        return mesh_why(why, err, "handshake keys");
    }
    (void)send_out(c, fd, h);
    const uint8_t *p;
    size_t n = mesh_handshake_tickets(h->tls, &p);
    if (n) {
        mesh_show(c->deferred, c->sealed.bytes == 0 && !mesh_chunk_scarce());
        if (!mesh_queue_put(&c->sealed, p, n)) { /* their numbers are used: nothing may follow without them */
            mesh_conn_unlock_tx(c);
            return mesh_why(why, MESH_E_NOMEM, "no room for the tickets");
        }
        if (!c->deferred && mesh_tx_flush(c, fd) == -EAGAIN)
            mesh_pend_add(slot);
    }
    if (c->server)
        mesh_admit_peer(c, &peer);
    if (c->server && mesh_admit(c, fd, false)) {
        mesh_conn_unlock_tx(c);
        mesh_conn_fail(c, slot, fd, ECONNRESET, ACCESS_DENIED, NULL);
        return MESH_E_DENIED;
    }
    mesh_show(c->control, !c->server && peer.version == 0x0304);
    c->first = !c->server || peer.version != 0x0304; /* who had the handshake's last word */
    mesh_show(c->told, 1);
    atomic_store(&c->state, MESH_CONN_OPEN);
    int released = c->held.bytes || c->fin ? mesh_tx_release_held(c, slot, fd) : 0;
    if (mesh_look(c->rx_shut))
        (void)mesh_sys_shutdown(fd, SHUT_RD);
    mesh_conn_unlock_tx(c);
    if (c->server)
        acknowledge(fd);
    if (h->dial)
        dial_done(c, h);
    describe(c, fd, h, &peer);
    trace_open(c, fd, h, &peer);
    if (c->control) {
        dial_free(h->dial);
        h->dial = NULL;
        h->stage = STAGE_TICKET;
        hand_show(slot);
    } else {
        mesh_hand_drop(slot);
    }
    mesh_watch_settled(slot);
    if (released == -ENOBUFS) /* what the program was told is sent never will be */
        mesh_conn_fail(c, slot, fd, ECONNRESET, 80, "no-memory");
    return 0;
}

/* Plaintext by the cluster's word, or by a permissive port's first bytes. What was held goes out first: the
 * state changes under the tx lock, and until the queue is empty every send goes by it. */
static void open_raw(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h) {
    if (mesh_conn_lock_tx(c))
        return; /* poisoned, or interrupted in a send: the next drive comes here again */
    mesh_show(c->told, 1);
    if (!c->server)
        mesh_fresh_plain(fd);
    atomic_store(&c->state, MESH_CONN_RAW);
    int r = mesh_tx_flush(c, fd);
    if (mesh_look(c->rx_shut))
        (void)mesh_sys_shutdown(fd, SHUT_RD);
    mesh_conn_unlock_tx(c);
    if (h->dial)
        dial_done(c, h);
    describe(c, fd, h, NULL);
    trace_open(c, fd, h, NULL);
    mesh_hand_drop(slot);
    mesh_watch_settled(slot);
    if (r == -EAGAIN)
        mesh_pend_add(slot);
    else if (r)
        mesh_conn_error(c, slot, fd, -r);
}

/* One whole record into c->part. 1: there; 0: not yet; -errno: MESH's `end` is -EPIPE. */
static int gather_record(struct mesh_conn *c, int fd, size_t *ret_total) {
    if (!c->part) {
        c->part = mesh_chunk_take();
        c->part_have = 0;
        if (!c->part)
            return -ENOBUFS;
    }
    struct mesh_chunk *k = mesh_chunk_at(c->part);
    size_t total = MESH_REC_HEADER;
    for (;;) {
        /* two bytes tell plaintext: a caller that says no more would else wait for the deadline */
        if ((c->part_have > 0 && (k->data[0] < 20 || k->data[0] > 23)) ||
            (c->part_have > 1 && k->data[1] != 3))
            return -EPROTO;
        if (c->part_have >= MESH_REC_HEADER) {
            size_t body = (size_t)k->data[3] << 8 | k->data[4];
            if (body == 0 || body > MESH_REC_PLAIN_MAX + 256)
                return -EPROTO;
            total = body + MESH_REC_HEADER;
        }
        if (c->part_have == total && total > MESH_REC_HEADER) {
            *ret_total = total;
            return 1;
        }
        ssize_t r =
            mesh_sys_recvfrom(fd, k->data + c->part_have, total - c->part_have, MSG_DONTWAIT, NULL, NULL);
        if (r == -EINTR)
            continue;
        if (r == -EAGAIN)
            return 0;
        if (r <= 0)
            return r ? (int)r : -EPIPE;
        c->part_have += (uint32_t)r;
    }
}

static void part_clear(struct mesh_conn *c) {
    mesh_chunk_give(c->part);
    c->part = c->part_have = 0;
}

struct failure {
    int err; /* enum mesh_err */
    int errno_;
    const char *why;
    struct mesh_why detail;
};

static int failed(struct failure *f, int err, int errno_, const char *why) {
    f->err = err;
    f->errno_ = errno_;
    f->why = why;
    return -1;
}

static const char *why_of(int err) {
    switch (err) {
    case MESH_E_PEER:
        return "peer";
    case MESH_E_ALERT:
        return "alert";
    case MESH_E_IDENTITY:
        return "identity";
    case MESH_E_NOMEM:
        return "no-memory";
    default:
        return "protocol";
    }
}

/* Shakes hands as far as the bytes that are there go. 0 done, 1 waits (h->wants), -1 failed. */
static int shake(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h, struct failure *f) {
    for (;;) {
        int r = send_out_locked(c, fd, h);
        if (r && r != -EAGAIN)
            return failed(f, MESH_E_REFUSED, -r, "reset");
        size_t total = 0;
        r = gather_record(c, fd, &total);
        if (r == 0) {
            h->wants = POLLIN | (c->sealed.bytes ? POLLOUT : 0);
            return 1;
        }
        if (r == -EPROTO) {
            bool first =
                h->stage == STAGE_SHAKE && c->server && !mesh_handshake_out(h->tls, &(const uint8_t *){0});
            return failed(f, MESH_E_PROTOCOL, ECONNRESET, first ? "plaintext" : "protocol");
        }
        if (r < 0)
            return failed(f, MESH_E_REFUSED, r == -EPIPE ? ECONNRESET : -r, "reset");
        h->busy = true;
        r = mesh_handshake_step(h->tls, mesh_chunk_at(c->part)->data, total, &f->detail);
        h->busy = false;
        part_clear(c);
        if (r == 0) {
            r = open_conn(c, slot, fd, h, &f->detail);
            return r == 0 ? 0 : failed(f, r, ECONNRESET, r == MESH_E_DENIED ? NULL : "internal");
        }
        if (r != MESH_E_AGAIN) {
            (void)send_out_locked(c, fd, h); /* the alert */
            return failed(f, r, ECONNRESET, why_of(r));
        }
    }
}

/* ---- the accepted side ---- */

void mesh_hand_accepted(struct mesh_conn *c, enum mesh_inbound_mode mode, uint16_t port) {
    c->mode = (uint8_t)mode;
    c->port = port;
    c->server = 1;
    mesh_show(c->told, 1);
    atomic_store(&c->state, MESH_CONN_HAND);
}

/* What its port demands of it, as far as that is known. */
static void take_mode(const struct mesh_conn *c, int fd, struct mesh_hand *h) {
    bool waits = false;
    h->mode = h->by_view ? (uint8_t)mesh_admit_mode(c, fd, &waits) : c->mode;
    h->waits = waits;
    if (h->look_at) /* it has said something: its time runs */
        return;
    h->deadline =
        h->mode == MESH_INBOUND_PERMISSIVE ? UINT64_MAX : c->started + MESH_SILENT_SECONDS * MESH_SEC;
}

/* Whoever touches it first, in whatever process or program, begins (DESIGN D9). */
static struct mesh_hand *first_touch(const struct mesh_conn *c, uint32_t slot, int fd) {
    struct mesh_hand *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->stage = STAGE_FIRST;
    h->by_view = c->mode == MESH_INBOUND_VIEW;
    h->port = c->port;
    h->wants = POLLIN;
    h->began = c->started;
    take_mode(c, fd, h);
    mesh_local_at(slot)->hand = h;
    return h;
}

/* Served as it is: plaintext, or the program's own TLS. 2: out of our hands; -1 refused. */
static int serve_raw(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h, struct failure *f) {
    if (!c->facts.kind && h->mode == MESH_INBOUND_PERMISSIVE)
        mesh_admit_hello(c, NULL, 0, false); /* whoever means TLS would have spoken */
    if (mesh_admit(c, fd, !h->by_view))
        return failed(f, MESH_E_DENIED, ECONNRESET, NULL);
    open_raw(c, slot, fd, h);
    return 2;
}

static int begin_shake(struct mesh_conn *c, uint32_t slot, struct mesh_hand *h, const struct mesh_inbound *in,
                       bool looked, struct failure *f) {
    int err = mesh_engine_crypto(&f->detail);
    if (!err)
        err = mesh_admit_tls(in, &h->tls, &f->detail);
    if (err)
        return failed(f, err, ECONNRESET, why_of(err));
    h->stage = STAGE_SHAKE;
    h->deadline = mesh_now() + MESH_HANDSHAKE_SECONDS * MESH_SEC;
    c->begun = 1;
    h->wants = POLLIN;
    if (looked) {
        hand_show(slot);
        mesh_watch_settled(slot);
    }
    return 0;
}

/* It is known what the caller speaks: 0: shake hands, 2 out of our hands, -1 refused. */
static int settle(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h, enum mesh_first first,
                  bool looked, struct failure *f) {
    struct mesh_inbound *in = NULL;
    if (h->mode == MESH_INBOUND_PERMISSIVE && !h->by_view && first != MESH_FIRST_TLS_MESH)
        return serve_raw(c, slot, fd, h, f);
    if (h->by_view && first == MESH_FIRST_PLAIN && h->mode != MESH_INBOUND_STRICT)
        return serve_raw(c, slot, fd, h, f);
    int err = mesh_admit_inbound(c, fd, &in, &f->detail);
    if (err && err != MESH_E_NOTFOUND) {
        if (!f->detail.text[0])
            (void)mesh_why(&f->detail, err, "the view guards port %u in a way that cannot be enforced",
                           h->port);
        return failed(f, err, ECONNRESET, first == MESH_FIRST_PLAIN ? "plaintext" : "inbound");
    }
    bool raw = h->by_view && in && in->mode == MESH_INBOUND_OFF;
    int r = raw ? serve_raw(c, slot, fd, h, f) : begin_shake(c, slot, h, in, looked, f);
    free(in);
    return r;
}

/* First bytes that tell nothing yet stay in the kernel, which calls that readable: we go by the clock. False:
 * waited long enough. */
static bool wait_for_more(struct mesh_hand *h) {
    uint64_t now = mesh_now();
    if (!h->look_at)
        h->deadline = now + MESH_HANDSHAKE_SECONDS * MESH_SEC;
    h->look_at = now + LOOK_AGAIN;
    h->wants = NEVER;
    return now < h->deadline;
}

/* Connects and closes. Its end is the program's end of file. */
static int probe(struct mesh_conn *c, uint32_t slot, int fd, const struct mesh_hand *h) {
    if (mesh_trace_on(MESH_TRACE_DEBUG)) {
        struct mesh_line l;
        mesh_line_begin(&l, MESH_TRACE_DEBUG, "probe");
        mesh_line_int(&l, "fd", fd);
        mesh_line_int(&l, "port", h->port);
        mesh_line_end(&l);
    }
    mesh_conn_fail(c, slot, fd, 0, 0, NULL);
    return 2;
}

/* It has said something, and whether it may is not known: it waits for the view as long as for a handshake.
 * 1: waits; -1: refused. */
static int hold(struct mesh_hand *h, struct failure *f) {
    if (wait_for_more(h))
        return 1;
    (void)mesh_why(&f->detail, MESH_E_TIMEOUT, "the control plane has not said who may call port %u",
                   h->port);
    return failed(f, MESH_E_TIMEOUT, ECONNRESET, "inbound");
}

/* Nothing is consumed so far. 0: go on with `shake`; 1: waits; 2: out of our hands; -1 failed. */
static int first_bytes(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h, struct failure *f) {
    if (h->waits)
        take_mode(c, fd, h);
    bool permissive = h->mode == MESH_INBOUND_PERMISSIVE,
         looks = permissive || h->by_view || mesh_admit_asks();
    uint8_t head[512];
    if (h->mode == MESH_INBOUND_OFF) /* whatever it speaks is served, or nothing */
        return serve_raw(c, slot, fd, h, f);
    uint8_t *big = looks ? mesh_scratch_take() : NULL;
    uint8_t *p = big ? big : head;
    ssize_t n =
        mesh_sys_recvfrom(fd, p, big ? MESH_SCRATCH : sizeof head, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
    enum mesh_first first = n > 0 && looks ? mesh_first_bytes(p, (size_t)n) : MESH_FIRST_TLS_MESH;
    if (n > 0 && h->waits) {
        mesh_scratch_give(big);
        return hold(h, f);
    }
    bool more = n > 0 && first == MESH_FIRST_MORE && wait_for_more(h);
    if (first == MESH_FIRST_MORE) /* nobody who means TLS takes that long for a few bytes */
        first = MESH_FIRST_PLAIN;
    if (n > 0 && !more)
        mesh_admit_hello(c, p, (size_t)n, first != MESH_FIRST_PLAIN);
    mesh_scratch_give(big);
    if (more)
        return 1;
    bool looked = h->look_at != 0;
    h->look_at = 0;
    if (n == -EAGAIN || n == -EINTR) {
        h->wants = POLLIN;
        /* a program that speaks first to a caller that does not: plaintext after MESH_DETECT */
        if (permissive && c->held.bytes && mesh_now() >= h->began + mesh_env()->detect_ns)
            return serve_raw(c, slot, fd, h, f);
        return 1;
    }
    if (n == 0)
        return probe(c, slot, fd, h);
    if (n < 0)
        return failed(f, MESH_E_REFUSED, (int)-n, NULL);
    return settle(c, slot, fd, h, first, looked, f);
}

static void server_step(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h) {
    struct failure f = {0};
    int r = 0;
    if (h->stage == STAGE_FIRST)
        r = first_bytes(c, slot, fd, h, &f);
    if (r == 0)
        r = shake(c, slot, fd, h, &f);
    if (r == 1 && mesh_now() >= h->deadline)
        r = failed(&f, MESH_E_TIMEOUT, ECONNRESET, "handshake-timeout");
    if (r == 1 && (h->deadline != UINT64_MAX || h->look_at))
        mesh_pend_add(slot); /* it has a time */
    if (r != -1)
        return;
    if (f.why)
        trace_fail(c, fd, h, f.why, &f.detail);
    mesh_conn_fail(c, slot, fd, f.errno_, 0, NULL);
    mesh_hand_drop(slot);
}

/* ---- the calling side ---- */

static void client_step(struct mesh_conn *c, uint32_t slot, int fd, struct mesh_hand *h) {
    for (;;) {
        struct failure f = {0};
        int r = 0;
        if (h->stage == STAGE_CONNECT) {
            r = dial_connect_step(h, fd);
            if (r < 0) {
                r = failed(&f, r == -ETIMEDOUT ? MESH_E_TIMEOUT : MESH_E_REFUSED, -r, "connect");
            } else if (r == 0 && h->dial->target->plain) {
                open_raw(c, slot, fd, h);
                return;
            } else if (r == 0) {
                int err = dial_tls(c, h, &f.detail);
                if (err)
                    r = failed(&f, err, err == MESH_E_IDENTITY ? EACCES : ENOMEM, why_of(err));
                else
                    h->stage = STAGE_SHAKE;
            }
        }
        if (r == 0)
            r = shake(c, slot, fd, h, &f);
        uint64_t now = mesh_now();
        if (r == 1 && now >= h->deadline)
            r = failed(&f, MESH_E_TIMEOUT, ETIMEDOUT, "timeout");
        if (r == 1) {
            if (!c->told && h->tell_at && now >= h->tell_at) {
                mesh_show(c->told, 1);
                hand_show(slot);
                mesh_watch_settled(slot);
            }
            return;
        }
        if (r == 0)
            return;
        if (c->part)
            part_clear(c);
        if (f.err == MESH_E_PEER || f.err == MESH_E_ALERT || f.err == MESH_E_PROTOCOL ||
            f.err == MESH_E_IDENTITY)
            f.errno_ = EACCES;
        r = dial_next(c, slot, fd, h, f.err, f.errno_, f.why, &f.detail);
        if (r == 0)
            continue;
        mesh_conn_fail(c, slot, fd, c->told ? ECONNRESET : -r, 0, NULL);
        mesh_hand_drop(slot);
        return;
    }
}

short mesh_hand_drive(struct mesh_conn *c, uint32_t slot, int fd) {
    uint32_t state = atomic_load(&c->state);
    if (state != MESH_CONN_DIAL && state != MESH_CONN_HAND)
        return 0;
    if (mesh_conn_lock_rx(c))
        return POLLIN;
    short wants = 0;
    bool told = c->told;
    state = atomic_load(&c->state);
    struct mesh_hand *h = hand_of(slot);
    if (!mesh_conn_owns(slot, fd))
        state = MESH_CONN_FREE;
    if (state == MESH_CONN_DIAL || state == MESH_CONN_HAND) {
        uint32_t me = mesh_proc_self() + 1, driver = 0;
        if (!h && mesh_hand_untouched(c))
            h = first_touch(c, slot, fd);
        bool untouched = h && h->stage == STAGE_FIRST;
        if (!h) {
            wants = POLLIN; /* another process has it, as long as it lives */
            driver = atomic_load(&c->driver);
            if (driver && driver != me && !mesh_proc_alive(driver - 1)) {
                mesh_conn_fail(c, slot, fd, ECONNRESET, 0, "driver-gone");
                state = MESH_CONN_DEAD;
                wants = 0;
            }
        } else if (atomic_load(&c->driver) != me &&
                   !atomic_compare_exchange_strong(&c->driver, &driver, me)) {
            wants = POLLIN;
        } else {
            if (c->server)
                server_step(c, slot, fd, h);
            else
                client_step(c, slot, fd, h);
            state = atomic_load(&c->state);
            h = hand_of(slot);
            if (h && untouched && h->stage == STAGE_FIRST)
                atomic_store(&c->driver, 0);
            hand_show(slot);
            wants = state == MESH_CONN_DIAL || state == MESH_CONN_HAND ? (h ? h->wants : POLLIN) : 0;
        }
    }
    bool waits = h && h->stage == STAGE_TICKET && wants == 0 && state == MESH_CONN_OPEN;
    bool alone = !told && c->told && state == MESH_CONN_DIAL;
    mesh_conn_unlock_rx(c);
    if (waits)
        wait_for_ticket(slot);
    if (alone) /* for the program all is done: it need not come back, and the peer waits for the rest */
        mesh_pend_leave(slot);
    return wants;
}
