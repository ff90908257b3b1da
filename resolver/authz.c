/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/authz.h"
#include <stdio.h>
#include "resolver/view.h"
#include "tls/tls.h"

enum value { NO, MAYBE, YES, BROKEN }; /* BROKEN: the record cannot be believed */

struct judge { /* one judgement */
    const void *rec;
    uint32_t len;
    const struct authz_node *nodes;
    uint32_t n;
    const struct mesh_facts *facts;
    struct mesh_where local, peer;
    uint32_t regexes, steps;
    char needs[sizeof((struct mesh_verdict *)0)->needs]; /* the first MAYBE's text */
};

/* ---- what a connection is made of -------------------------------------------------------------------------
 */
bool mesh_where_of(const struct sockaddr *sa, socklen_t len, struct mesh_where *ret) {
    memset(ret, 0, sizeof *ret);
    if (sa && len >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        ret->family = 4;
        ret->port = ntohs(in->sin_port);
        memcpy(ret->addr, &in->sin_addr, 4);
    } else if (sa && len >= offsetof(struct sockaddr_in6, sin6_scope_id) && sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)sa;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in->sin6_addr);
        ret->family = mapped ? 4 : 6;
        ret->port = ntohs(in->sin6_port);
        memcpy(ret->addr, (const uint8_t *)&in->sin6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
    }
    return ret->family != 0;
}

bool mesh_bits_match(const uint8_t *a, const uint8_t *b, uint8_t bits) {
    uint8_t rest = bits % 8;
    return memcmp(a, b, bits / 8) == 0 &&
           (!rest || ((a[bits / 8] ^ b[bits / 8]) & (0xff00 >> rest) & 0xff) == 0);
}

/* ---- conditions -------------------------------------------------------------------------------------------
 */
static enum value maybe(struct judge *j, const char *what, uint32_t len) {
    if (!j->needs[0])
        snprintf(j->needs, sizeof j->needs, "%.*s", (int)(len < sizeof j->needs ? len : sizeof j->needs - 1),
                 what);
    return MAYBE;
}

static const char *text_of(const struct judge *j, const struct authz_node *n) {
    return n->off <= j->len && n->len <= j->len - n->off && n->len <= UINT16_MAX
               ? (const char *)j->rec + n->off
               : NULL;
}

static enum value by_text(struct judge *j, const struct authz_node *n, const char *value, size_t len) {
    struct mesh_match m = {.kind = n->kind,
                           .san_type = MESH_SAN_ANY,
                           .ignore_case = n->ignore_case,
                           .len = (uint16_t)n->len,
                           .text = text_of(j, n)};
    if (!m.text || n->kind > MESH_MATCH_REGEX ||
        (n->kind == MESH_MATCH_REGEX && ++j->regexes > AUTHZ_REGEX_MAX))
        return BROKEN;
    return mesh_match_text(&m, value, len) ? YES : NO;
}

static enum value by_address(const struct judge *j, const struct authz_node *n, const struct mesh_where *w) {
    const uint8_t *addr = (const uint8_t *)text_of(j, n);
    uint8_t family = n->kind, bits = n->ignore_case;
    if (!addr || (family != 4 && family != 6) || n->len != (family == 4 ? 4 : 16) || bits > n->len * 8)
        return BROKEN;
    return w->family == family && mesh_bits_match(addr, w->addr, bits) ? YES : NO;
}

/* Envoy asks all URI names, all DNS names and the subject. A SPIFFE certificate has one URI name, and that is
 * its name; of another certificate we know too little to say no. */
static enum value by_principal(struct judge *j, const struct authz_node *n) {
    static const char what[] = "the caller's name";
    const struct mesh_facts *f = j->facts;
    if (f->kind != MESH_FACTS_TLS || !f->has_cert)
        return NO;
    if (n->op == AUTHZ_AUTHENTICATED)
        return YES;
    if (f->cut_peer || !f->peer[0])
        return maybe(j, what, sizeof what - 1);
    return by_text(j, n, f->peer, strnlen(f->peer, sizeof f->peer));
}

static enum value by_server_name(struct judge *j, const struct authz_node *n) {
    static const char what[] = "the server name asked for";
    if (j->facts->cut_sni)
        return maybe(j, what, sizeof what - 1);
    return by_text(j, n, j->facts->sni, strnlen(j->facts->sni, sizeof j->facts->sni));
}

static enum value leaf(struct judge *j, const struct authz_node *n) {
    const char *text;
    switch ((enum authz_op)n->op) {
    case AUTHZ_ANY:
        return YES;
    case AUTHZ_LOCAL_IP:
        return by_address(j, n, &j->local);
    case AUTHZ_PEER_IP:
        return by_address(j, n, &j->peer);
    case AUTHZ_LOCAL_PORT:
        return j->local.port >= n->off && j->local.port <= n->len ? YES : NO;
    case AUTHZ_AUTHENTICATED:
    case AUTHZ_PRINCIPAL:
        return by_principal(j, n);
    case AUTHZ_SERVER_NAME:
        return by_server_name(j, n);
    case AUTHZ_REQUEST:
        text = text_of(j, n);
        return text ? maybe(j, text, n->len) : BROKEN;
    default:
        return BROKEN;
    }
}

static enum value ask(struct judge *j, uint32_t at, uint32_t end, unsigned depth);

/* Children one behind the other up to the end of their parent. AND is the least of them, OR the most. */
static enum value ask_all(struct judge *j, uint32_t at, uint32_t end, unsigned depth, bool is_and) {
    enum value all = is_and ? YES : NO;
    for (uint32_t i = at + 1; i < end; i += j->nodes[i].nodes) {
        enum value v = ask(j, i, end, depth + 1);
        if (v == BROKEN)
            return BROKEN;
        all = is_and ? (v < all ? v : all) : (v > all ? v : all);
        if (all == (is_and ? NO : YES))
            return all;
    }
    return all;
}

static enum value ask(struct judge *j, uint32_t at, uint32_t end, unsigned depth) {
    if (at >= end || depth > AUTHZ_DEPTH_MAX || ++j->steps > AUTHZ_STEPS_MAX || !j->nodes[at].nodes ||
        j->nodes[at].nodes > end - at)
        return BROKEN;
    const struct authz_node *n = &j->nodes[at];
    switch (n->op) {
    case AUTHZ_AND:
    case AUTHZ_OR:
        return ask_all(j, at, at + n->nodes, depth, n->op == AUTHZ_AND);
    case AUTHZ_NOT: {
        enum value v =
            n->nodes > 1 && n[1].nodes == n->nodes - 1 ? ask(j, at + 1, at + n->nodes, depth + 1) : BROKEN;
        return v == YES ? NO : v == NO ? YES : v;
    }
    default:
        return n->nodes == 1 ? leaf(j, n) : BROKEN;
    }
}

/* ---- policies and filters ---------------------------------------------------------------------------------
 */
static void name_policy(const struct judge *j, const struct authz_policy *p, char ret_name[128]) {
    mesh_view_text(j->rec, j->len, &p->name, ret_name, sizeof((struct mesh_verdict *)0)->policy);
}

/* What one filter says; the policy that decides is named. MESH_E_INTERNAL. */
static int judge_filter(struct judge *j, const struct authz_filter *f, const struct authz_policy *policies,
                        char ret_policy[128]) {
    const struct authz_policy *open = NULL;
    char first_need[sizeof j->needs] = "";
    ret_policy[0] = 0;
    for (uint32_t i = f->first; i < f->first + f->n; i++) {
        j->needs[0] = 0;
        enum value v = ask(j, policies[i].node, j->n, 0);
        if (v == BROKEN)
            return MESH_E_INTERNAL;
        if (v == YES) {
            name_policy(j, &policies[i], ret_policy);
            return f->action == AUTHZ_DENY ? MESH_DENY : MESH_PASS;
        }
        if (v == MAYBE && !open) {
            open = &policies[i];
            memcpy(first_need, j->needs, sizeof first_need);
        }
    }
    memcpy(j->needs, first_need, sizeof first_need);
    if (!open)
        return f->action == AUTHZ_ALLOW ? MESH_DENY : MESH_PASS;
    name_policy(j, open, ret_policy);
    return MESH_NEEDS_REQUEST;
}

static void note_shadow(struct mesh_verdict *v, int said, const char *policy) {
    if (v->shadow != MESH_PASS || said == MESH_PASS)
        return;
    v->shadow = (uint8_t)said;
    memcpy(v->shadow_policy, policy, sizeof v->shadow_policy);
}

static int judge_all(struct judge *j, const struct authz_filter *filters, uint32_t nfilters,
                     const struct authz_policy *policies, uint32_t npolicies, struct mesh_verdict *io) {
    char policy[sizeof io->policy];
    for (uint32_t i = 0; i < nfilters; i++) {
        const struct authz_filter *f = &filters[i];
        if (f->first > npolicies || f->n > npolicies - f->first || f->action > AUTHZ_LOG)
            return MESH_E_INTERNAL;
        if (f->action == AUTHZ_LOG)
            continue;
        j->needs[0] = 0;
        int said = judge_filter(j, f, policies, policy);
        if (said < 0)
            return said;
        if (f->shadow) {
            note_shadow(io, said, policy);
        } else if (said != MESH_PASS && io->kind == MESH_PASS) {
            io->kind = (uint8_t)said;
            memcpy(io->policy, policy, sizeof policy);
            if (said == MESH_NEEDS_REQUEST)
                memcpy(io->needs, j->needs, sizeof io->needs);
        }
    }
    return 0;
}

int mesh_authz_judge(const void *rec, uint32_t len, const struct mesh_caller *caller,
                     struct mesh_verdict *io_verdict) {
    static const struct mesh_facts nothing;
    struct judge j = {.rec = rec, .len = len, .facts = caller->facts ? caller->facts : &nothing};
    const struct authz_head *head = rec;
    uint32_t filters, policies, nodes;
    if (len < sizeof *head)
        return MESH_E_INTERNAL;
    const struct authz_filter *f = mesh_view_span(rec, len, &head->filters, 4, &filters);
    const struct authz_policy *p = mesh_view_span(rec, len, &head->policies, 4, &policies);
    j.nodes = mesh_view_span(rec, len, &head->nodes, 4, &nodes);
    filters /= sizeof *f;
    policies /= sizeof *p;
    j.n = nodes / (uint32_t)sizeof *j.nodes;
    if (!f || !p || !j.nodes || filters > AUTHZ_FILTERS_MAX || policies > AUTHZ_POLICIES_MAX ||
        j.n > AUTHZ_NODES_MAX || !mesh_where_of(caller->local, caller->local_len, &j.local) ||
        !mesh_where_of(caller->peer, caller->peer_len, &j.peer))
        return MESH_E_INTERNAL;
    return judge_all(&j, f, filters, p, policies, io_verdict);
}
