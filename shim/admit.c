/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/admit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/own_identity.h"

enum {
    ACCESS_DENIED = 49
}; /* RFC 8446 6.2: a valid certificate, and access control decided not to proceed */

struct ends { /* of a descriptor */
    struct sockaddr_storage local, peer;
    struct mesh_caller caller;
};

static bool ends_of(const struct mesh_conn *c, int fd, struct ends *ret) {
    socklen_t local = sizeof ret->local, peer = sizeof ret->peer;
    if (mesh_sys_getsockname(fd, (struct sockaddr *)&ret->local, &local) ||
        mesh_sys_getpeername(fd, (struct sockaddr *)&ret->peer, &peer))
        return false;
    ret->caller = (struct mesh_caller){.local = (struct sockaddr *)&ret->local,
                                       .peer = (struct sockaddr *)&ret->peer,
                                       .local_len = local,
                                       .peer_len = peer,
                                       .facts = &c->facts};
    return true;
}

/* What is not known (yet) is closed: MESH_E_AGAIN may change, MESH_E_IDENTITY never says anything. */
static int look(const struct mesh_caller *who, struct mesh_inbound **ret) {
    struct mesh_view *v = mesh_engine_view();
    int err = v ? mesh_view_inbound(v, who, ret, NULL) : MESH_E_AGAIN;
    if (err == MESH_E_NOTFOUND && mesh_view_inbound_cannot(v))
        return MESH_E_IDENTITY;
    return err == MESH_E_NOTFOUND && !mesh_view_inbound_known(v, who->local) ? MESH_E_AGAIN : err;
}

enum mesh_inbound_mode mesh_admit_begin(const struct mesh_caller *who, bool *ret_asks) {
    struct mesh_inbound *in = NULL;
    int err = look(who, &in);
    *ret_asks = err != MESH_E_NOTFOUND;
    if (err)
        return err == MESH_E_NOTFOUND ? MESH_INBOUND_OFF : MESH_INBOUND_STRICT;
    enum mesh_inbound_mode mode = in->mode;
    *ret_asks = in->judged;
    free(in);
    return mode;
}

enum mesh_inbound_mode mesh_admit_mode(const struct mesh_conn *c, int fd, bool *ret_waits) {
    struct mesh_inbound *in = NULL;
    struct ends e;
    int err = ends_of(c, fd, &e) ? look(&e.caller, &in) : MESH_E_INTERNAL;
    enum mesh_inbound_mode mode = err == MESH_E_NOTFOUND ? MESH_INBOUND_OFF : MESH_INBOUND_STRICT;
    if (!err)
        mode = in->mode;
    free(in);
    *ret_waits = err == MESH_E_AGAIN;
    return mode;
}

bool mesh_admit_asks(void) {
    struct mesh_view *v = mesh_engine_view();
    return v && mesh_view_policy(v) != 0;
}

/* ---- facts ---- */

/* A server name as rules write it; one that no rule could mean is not known rather than empty. */
static void note_server_name(struct mesh_facts *f, const struct mesh_hello *h) {
    f->cut_sni = h->sni_len >= sizeof f->sni;
    for (size_t i = 0; i < h->sni_len && !f->cut_sni; i++) {
        uint8_t b = h->sni[i];
        f->sni[i] = (char)(b >= 'A' && b <= 'Z' ? b + 32 : b);
        f->cut_sni = b <= ' ' || b >= 127;
    }
    if (f->cut_sni)
        memset(f->sni, 0, sizeof f->sni);
}

void mesh_admit_hello(struct mesh_conn *c, const uint8_t *p, size_t n, bool is_tls) {
    struct mesh_facts f = {.kind = is_tls ? MESH_FACTS_TLS : MESH_FACTS_PLAIN};
    struct mesh_hello h;
    if (is_tls && !mesh_hello_read(p, n, &h)) {
        f.cut_sni = f.cut_alpn = 1;
    } else if (is_tls) {
        note_server_name(&f, &h);
        f.cut_alpn = h.alpn_len > sizeof f.alpn;
        f.alpn_len = f.cut_alpn ? 0 : (uint8_t)h.alpn_len;
        if (f.alpn_len)
            memcpy(f.alpn, h.alpn, f.alpn_len);
    }
    c->facts = f;
}

void mesh_admit_peer(struct mesh_conn *c, const struct mesh_peer *peer) {
    struct mesh_facts *f = &c->facts;
    size_t n = strnlen(peer->spiffe, sizeof peer->spiffe);
    f->has_cert = peer->not_after != 0;
    f->cut_peer = n + 1 >= sizeof f->peer;
    memset(f->peer, 0, sizeof f->peer);
    if (!f->cut_peer && mesh_spiffe_valid(peer->spiffe, n, NULL))
        memcpy(f->peer, peer->spiffe, n);
}

/* ---- judgements ---- */

int mesh_admit_inbound(const struct mesh_conn *c, int fd, struct mesh_inbound **ret, struct mesh_why *why) {
    struct mesh_view *v = mesh_engine_view();
    struct ends e;
    if (!v)
        return MESH_E_NOTFOUND;
    if (!ends_of(c, fd, &e))
        return MESH_E_NOTFOUND;
    if (c->mode != MESH_INBOUND_VIEW)
        return mesh_view_inbound(v, &e.caller, ret, why);
    bool known = mesh_view_inbound_known(v, e.caller.local); /* first: it may become known between the two */
    int err = mesh_view_inbound(v, &e.caller, ret, why);
    return err == MESH_E_NOTFOUND && !known
               ? mesh_why(why, MESH_E_AGAIN, "it is not known yet what guards this port")
               : err;
}

int mesh_admit_tls(const struct mesh_inbound *in, struct mesh_handshake **ret, struct mesh_why *why) {
    const struct mesh_env *e = mesh_env();
    struct mesh_pem pem = {0};
    if (in)
        pem = (struct mesh_pem){in->cert, in->key, in->ca, in->cert_len, in->key_len, in->ca_len};
    struct mesh_identity *id = mesh_own_identity(&pem, why);
    int err = MESH_E_IDENTITY;
    if (e->bad_callers && !(in && in->callers)) {
        (void)mesh_why(why, err, "MESH_CALLERS has a wrong value");
    } else if (id) {
        struct mesh_handshake_config cfg = {.server = true, .identity = id, .wall = mesh_wall()};
        cfg.peers = in && in->callers ? in->callers : e->callers;
        cfg.npeers = in && in->callers ? in->ncallers : e->ncallers;
        if (in) {
            cfg.no_client_cert = in->no_client_cert;
            cfg.any_peer_san = in->any_peer_san;
            cfg.min_version = in->min_version;
            cfg.max_version = in->max_version;
        }
        err = mesh_handshake_new(&cfg, ret);
    }
    mesh_identity_unref(id);
    return err;
}

static void trace_verdict(const struct ends *e, uint16_t port, const char *why, const char *policy,
                          const char *needs, const char *detail) {
    struct mesh_line l;
    bool shadow = strcmp(why, "rbac-shadow") == 0;
    mesh_line_begin(&l, shadow ? MESH_TRACE_INFO : MESH_TRACE_ERROR, shadow ? "shadow" : "refused");
    mesh_line_str(&l, "why", why);
    mesh_line_str(&l, "policy", policy ? *policy ? policy : "none" : NULL);
    mesh_line_str(&l, "needs", needs && *needs ? needs : NULL);
    mesh_line_int(&l, "port", port);
    mesh_line_addr(&l, "from", e->caller.peer, e->caller.peer_len);
    mesh_line_str(&l, "peer", e->caller.facts->peer[0] ? e->caller.facts->peer : NULL);
    mesh_line_str(&l, "detail", detail && *detail ? detail : NULL);
    mesh_line_end(&l);
}

static int judge(const struct mesh_view *v, struct mesh_conn *c, const struct ends *e, bool lenient) {
    struct mesh_verdict verdict;
    struct mesh_why why = {""};
    int err = mesh_view_authorize(v, &e->caller, &verdict, &why);
    if (err == MESH_E_NOTFOUND || (err == MESH_E_REFUSED && lenient))
        return 0;
    if (err) {
        trace_verdict(e, c->port, "inbound", NULL, NULL, why.text[0] ? why.text : mesh_err_text(err));
        return MESH_E_DENIED;
    }
    if (verdict.shadow != MESH_PASS && mesh_trace_on(MESH_TRACE_INFO))
        trace_verdict(e, c->port, "rbac-shadow", verdict.shadow_policy, NULL, NULL);
    if (verdict.kind == MESH_PASS)
        return 0;
    trace_verdict(
        e, c->port, "rbac", verdict.policy, verdict.kind == MESH_NEEDS_REQUEST ? verdict.needs : NULL,
        verdict.kind == MESH_NEEDS_REQUEST ? "the policy decides by what we cannot know of a connection"
                                           : NULL);
    return MESH_E_DENIED;
}

int mesh_admit(struct mesh_conn *c, int fd, bool lenient) {
    struct mesh_view *v = mesh_engine_view();
    uint64_t stamp = v ? mesh_view_stamp(v) : 0, policy = v ? mesh_view_policy(v) : 0;
    struct ends e;
    c->policy = policy;
    c->lenient = lenient;
    atomic_store_explicit(&c->judged_at, stamp, memory_order_relaxed);
    mesh_show(c->judged, policy != 0);
    if (!policy)
        return 0;
    return ends_of(c, fd, &e) ? judge(v, c, &e, lenient) : 0; /* the peer is gone: nobody to let in */
}

bool mesh_admit_again(struct mesh_conn *c, uint32_t slot, int fd) {
    struct mesh_view *v = mesh_engine_view();
    uint64_t stamp = mesh_view_stamp(v), policy = mesh_view_policy(v);
    struct ends e;
    if (policy != c->policy && policy && ends_of(c, fd, &e) && judge(v, c, &e, c->lenient)) {
        mesh_conn_fail(c, slot, fd, ECONNRESET, ACCESS_DENIED, NULL);
        return false;
    }
    c->policy = policy;
    atomic_store_explicit(&c->judged_at, stamp, memory_order_relaxed);
    return true;
}
