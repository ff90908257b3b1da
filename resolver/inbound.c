/* SPDX-License-Identifier: Apache-2.0
 *
 * Which inbound filter chain takes a connection (Envoy's filter chain matching), and what it says of the
 * caller.
 */
#include <stdio.h>
#include <stdlib.h>
#include "resolver/authz.h"
#include "resolver/view.h"

struct match { /* what the chains are matched against */
    const void *rec;
    uint32_t len;
    const struct view_chain *chains;
    uint32_t n;
    uint8_t *alive; /* of each chain; behind them the fallbacks */
    struct mesh_where local, peer;
    const struct mesh_facts *facts; /* NULL: the first bytes are not known */
};

enum { ANY_SCORE = 0, NO_FIT = -1 }; /* more is a better fit; no condition, or one that is not known yet: 0 */

/* ---- conditions -------------------------------------------------------------------------------------------
 */
static int fit_ranges(const struct match *m, const struct view_span *where, const struct mesh_where *w) {
    uint32_t bytes;
    const struct view_range *r = mesh_view_span(m->rec, m->len, where, 1, &bytes);
    int best = bytes ? NO_FIT : ANY_SCORE;
    if (!w->family)
        return ANY_SCORE;
    for (uint32_t i = 0; r && i < bytes / sizeof *r; i++)
        if (r[i].family == w->family && r[i].bits <= (w->family == 4 ? 32 : 128) &&
            mesh_bits_match(r[i].addr, w->addr, r[i].bits) && r[i].bits + 1 > best)
            best = r[i].bits + 1;
    return best;
}

/* Texts of a list: uint16_t length, bytes. False at its end. */
static bool next_text(const uint8_t *p, uint32_t bytes, uint32_t *io_at, const char **ret, uint16_t *ret_n) {
    uint16_t n;
    if (bytes - *io_at < 2)
        return false;
    memcpy(&n, p + *io_at, 2);
    if (n > bytes - *io_at - 2)
        return false;
    *ret = (const char *)p + *io_at + 2;
    *ret_n = n;
    *io_at += 2 + (uint32_t)n;
    return true;
}

/* One on the very address stands before one on all of them, and both before one that takes redirected
 * connections. */
static int fit_listener(const struct match *m, const struct view_chain *c) {
    uint32_t bytes;
    const struct view_at *at = mesh_view_span(m->rec, m->len, &c->ats, 2, &bytes);
    static const uint8_t zero[16];
    bool any = !memcmp(m->local.addr, zero, sizeof zero); /* a listening socket on all addresses */
    int best = NO_FIT;
    for (uint32_t i = 0; at && i < bytes / sizeof *at; i++) {
        bool here = !at[i].addr.bits || any ||
                    (at[i].addr.family == m->local.family && memcmp(at[i].addr.addr, m->local.addr, 16) == 0);
        int score = at[i].port == 0                        ? 0
                    : at[i].port != m->local.port || !here ? NO_FIT
                    : at[i].addr.bits                      ? 2
                                                           : 1;
        best = score > best ? score : best;
    }
    return best;
}

static int fit_port(const struct match *m, const struct view_chain *c) {
    return c->port == 0 ? ANY_SCORE : c->port == m->local.port ? 1 : NO_FIT;
}

static int fit_range(const struct match *m, const struct view_chain *c) {
    return fit_ranges(m, &c->ranges, &m->local);
}

static bool server_fits(const char *pattern, size_t n, const char *sni, size_t len) {
    if (n > 2 && pattern[0] == '*' && pattern[1] == '.')
        return len >= n && memcmp(sni + len - (n - 1), pattern + 1, n - 1) == 0;
    return len == n && memcmp(sni, pattern, n) == 0;
}

static int fit_server(const struct match *m, const struct view_chain *c) {
    uint32_t bytes, at = 0;
    uint16_t n;
    const char *name;
    const uint8_t *p = mesh_view_span(m->rec, m->len, &c->servers, 1, &bytes);
    if (!p || !bytes || !m->facts || m->facts->cut_sni)
        return ANY_SCORE;
    size_t len = strnlen(m->facts->sni, sizeof m->facts->sni);
    int best = NO_FIT;
    while (next_text(p, bytes, &at, &name, &n)) {
        int score = n + (n && name[0] == '*' ? 1 : MESH_NAME_MAX + 1);
        if (n && server_fits(name, n, m->facts->sni, len) && score > best)
            best = score;
    }
    return best;
}

static int fit_transport(const struct match *m, const struct view_chain *c) {
    if (!c->transport || !m->facts)
        return ANY_SCORE;
    return (c->transport == 1) == (m->facts->kind == MESH_FACTS_TLS) ? 1 : NO_FIT;
}

/* The client's first protocol that some chain asks for decides. Those of plaintext nobody has looked for. */
static int fit_protocol(const struct match *m, const struct view_chain *c) {
    uint32_t bytes;
    const uint8_t *p = mesh_view_span(m->rec, m->len, &c->protocols, 1, &bytes);
    if (!p || !bytes || !m->facts || m->facts->kind == MESH_FACTS_PLAIN || m->facts->cut_alpn)
        return ANY_SCORE;
    const uint8_t *offer = m->facts->alpn;
    uint32_t room = m->facts->alpn_len > sizeof m->facts->alpn ? sizeof m->facts->alpn : m->facts->alpn_len;
    for (uint32_t i = 0; i < room && offer[i] < room - i; i += offer[i] + 1u) {
        const char *name;
        uint16_t n;
        for (uint32_t at = 0; next_text(p, bytes, &at, &name, &n);)
            if (n == offer[i] && memcmp(name, offer + i + 1, n) == 0)
                return 1000 - (int)i;
    }
    return NO_FIT;
}

static int fit_direct(const struct match *m, const struct view_chain *c) {
    return fit_ranges(m, &c->directs, &m->peer);
}

static int fit_source_type(const struct match *m, const struct view_chain *c) {
    static const uint8_t one6[16] = {[15] = 1};
    if (!c->source_type || !m->peer.family)
        return ANY_SCORE;
    bool loopback = m->peer.family == 4 ? m->peer.addr[0] == 127 : memcmp(m->peer.addr, one6, 16) == 0;
    bool same =
        loopback || (m->peer.family == m->local.family && memcmp(m->peer.addr, m->local.addr, 16) == 0);
    return (c->source_type == 1) == same ? 1 : NO_FIT;
}

static int fit_source(const struct match *m, const struct view_chain *c) {
    return fit_ranges(m, &c->sources, &m->peer);
}

static int fit_source_port(const struct match *m, const struct view_chain *c) {
    uint32_t bytes;
    const uint16_t *ports = mesh_view_span(m->rec, m->len, &c->source_ports, 2, &bytes);
    if (!ports || !bytes || !m->peer.family)
        return ANY_SCORE;
    for (uint32_t i = 0; i < bytes / 2; i++)
        if (ports[i] == m->peer.port)
            return 1;
    return NO_FIT;
}

/* ---- the choice -------------------------------------------------------------------------------------------
 */
typedef int fit(const struct match *m, const struct view_chain *c);

/* A condition is looked at only among the chains that the earlier ones left, and the best fit leaves only its
 * equals. What is not known yet leaves all that may fit. */
static void narrow(struct match *m, fit *how, bool is_known) {
    int best = NO_FIT;
    for (uint32_t i = 0; i < m->n; i++)
        if (m->alive[i] && how(m, &m->chains[i]) > best)
            best = how(m, &m->chains[i]);
    for (uint32_t i = 0; i < m->n; i++) {
        int score = m->alive[i] ? how(m, &m->chains[i]) : NO_FIT;
        m->alive[i] = score != NO_FIT && (score == best || !is_known);
    }
}

static uint32_t count(const struct match *m) {
    uint32_t k = 0;
    for (uint32_t i = 0; i < m->n; i++)
        k += m->alive[i];
    return k;
}

/* MESH_E_NOTFOUND: no chain has that port; MESH_E_REFUSED: some have, and none of them fits. */
static int choose(struct match *m) {
    bool peer = m->peer.family != 0;
    uint8_t *fallback = m->alive + m->n; /* default_filter_chain: when nothing else fits */
    memset(m->alive, 1, m->n);
    narrow(m, fit_listener, true);
    if (!count(m))
        return MESH_E_NOTFOUND;
    for (uint32_t i = 0; i < m->n; i++) {
        fallback[i] = m->alive[i] && m->chains[i].fallback;
        m->alive[i] = m->alive[i] && !m->chains[i].fallback;
    }
    narrow(m, fit_port, true);
    if (!count(m) && !memchr(fallback, 1, m->n))
        return MESH_E_NOTFOUND;
    narrow(m, fit_range, true);
    narrow(m, fit_server, m->facts && !m->facts->cut_sni);
    narrow(m, fit_transport, m->facts != NULL);
    narrow(m, fit_protocol, m->facts && m->facts->kind == MESH_FACTS_TLS && !m->facts->cut_alpn);
    narrow(m, fit_direct, peer);
    narrow(m, fit_source_type, peer);
    narrow(m, fit_source, peer);
    narrow(m, fit_source_port, peer);
    if (!count(m))
        memcpy(m->alive, fallback, m->n);
    return count(m) ? 0 : MESH_E_REFUSED;
}

/* ---- what it says -----------------------------------------------------------------------------------------
 */
static const struct view_chain *first_error(const struct match *m) {
    for (uint32_t i = 0; i < m->n; i++)
        if (m->alive[i] && m->chains[i].error)
            return &m->chains[i];
    return NULL;
}

/* A chain that has conditions beyond the port, or policies: who calls must be asked about. */
static bool is_judged(const struct view_chain *c) {
    return c->servers.len || c->protocols.len || c->directs.len || c->sources.len || c->source_ports.len ||
           c->source_type || c->authz.len || c->error;
}

static int say_inbound(const struct match *m, struct mesh_inbound **ret) {
    const struct view_chain *best = NULL;
    bool tls = false, other = false, judged = false;
    for (uint32_t i = 0; i < m->n; i++) {
        if (!m->alive[i])
            continue;
        tls |= m->chains[i].has_tls;
        other |= !m->chains[i].has_tls;
        judged |= is_judged(&m->chains[i]);
        if (!best || (m->chains[i].has_tls && !best->has_tls))
            best = &m->chains[i];
    }
    int rc = mesh_inbound_make(m->rec, m->len, &best->tls, ret);
    if (rc < 0)
        return rc;
    (*ret)->mode = !tls ? MESH_INBOUND_OFF : other ? MESH_INBOUND_PERMISSIVE : MESH_INBOUND_STRICT;
    (*ret)->judged = judged;
    return 0;
}

static int say_verdict(const struct match *m, const struct mesh_caller *caller, struct mesh_verdict *ret) {
    memset(ret, 0, sizeof *ret);
    for (uint32_t i = 0; i < m->n; i++) {
        uint32_t len;
        const void *rec = m->alive[i] ? mesh_view_span(m->rec, m->len, &m->chains[i].authz, 8, &len) : NULL;
        if (m->alive[i] && !rec)
            return MESH_E_INTERNAL;
        int rc = m->alive[i] && len ? mesh_authz_judge(rec, len, caller, ret) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- questions --------------------------------------------------------------------------------------------
 */
static int answer(const struct view_inbound *rec, uint32_t len, const struct mesh_caller *caller,
                  struct mesh_inbound **ret_inbound, struct mesh_verdict *ret_verdict, struct mesh_why *why) {
    struct match m = {.rec = rec, .len = len};
    uint32_t bytes;
    char text[sizeof why->text];
    m.chains = mesh_view_span(rec, len, &rec->chains, 4, &bytes);
    m.n = m.chains ? bytes / (uint32_t)sizeof *m.chains : 0;
    m.facts = caller->facts && caller->facts->kind != MESH_FACTS_NONE ? caller->facts : NULL;
    if (!m.n || !mesh_where_of(caller->local, caller->local_len, &m.local))
        return MESH_E_NOTFOUND;
    mesh_where_of(caller->peer, caller->peer_len, &m.peer);
    m.alive = malloc((size_t)m.n * 2);
    if (!m.alive)
        return MESH_E_NOMEM;
    int rc = choose(&m);
    /* how it begins can be said before the chain is known; whether it may be served cannot */
    const struct view_chain *bad = rc == 0 && (m.facts || ret_verdict) ? first_error(&m) : NULL;
    if (bad) {
        mesh_view_text(rec, len, &bad->why, text, sizeof text);
        rc = mesh_why(why, bad->error, "%s", text);
    } else if (rc == MESH_E_REFUSED) {
        (void)mesh_why(why, rc, "no filter chain of the view's inbound listener takes this connection");
    } else if (rc == 0) {
        rc = ret_inbound ? say_inbound(&m, ret_inbound) : say_verdict(&m, caller, ret_verdict);
    }
    free(m.alive);
    return rc;
}

static int ask(const struct mesh_view *v, const struct mesh_caller *caller, struct mesh_inbound **ret_inbound,
               struct mesh_verdict *ret_verdict, struct mesh_why *why) {
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        uint32_t n;
        int rc = MESH_E_NOTFOUND;
        const struct view_root *root = mesh_view_begin(v, &seq);
        struct view_inbound *copy =
            root && root->inbound ? mesh_record_copy(v, root->inbound, KIND_INBOUND, sizeof *copy, &n, &rc)
                                  : NULL;
        bool still = mesh_view_still(v, seq);
        if (still && rc == 0)
            rc = answer(copy, n, caller, ret_inbound, ret_verdict, why);
        free(copy);
        if (still)
            return rc;
    }
    return MESH_E_AGAIN;
}

int mesh_view_inbound(const struct mesh_view *v, const struct mesh_caller *caller, struct mesh_inbound **ret,
                      struct mesh_why *why) {
    return ask(v, caller, ret, NULL, why);
}

int mesh_view_authorize(const struct mesh_view *v, const struct mesh_caller *caller, struct mesh_verdict *ret,
                        struct mesh_why *why) {
    return ask(v, caller, NULL, ret, why);
}

uint64_t mesh_view_stamp(const struct mesh_view *v) {
    return atomic_load_explicit(&mesh_view_head(v)->root, memory_order_acquire);
}

uint64_t mesh_view_policy(const struct mesh_view *v) {
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        const struct view_root *root = mesh_view_begin(v, &seq);
        uint64_t policy = root && root->inbound ? root->policy : 0;
        if (mesh_view_still(v, seq))
            return policy;
    }
    return UINT64_MAX;
}
