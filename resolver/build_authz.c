/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include "proto/rbac.pb-c.h"
#include "resolver/authz.h"
#include "resolver/builder.h"
#include "tls/tls.h"

#define NETWORK &mesh__rbac__network_rbac__descriptor
#define HTTP &mesh__rbac__http_rbac__descriptor

struct build_authz {                                /* one chain's record while it grows */
    struct mesh_blob rec, nodes, policies, filters; /* rec: head, then texts */
    bool is_http;                                   /* the filter at hand */
    const char *fault;
    const char *policy; /* the one at hand */
    char needs[192];    /* "policy POLICY decides by CONDITION", the first one; not of a dry run */
};

/* What the filter says cannot be kept: the chain is refused. */
static void cannot(struct build_authz *c, const char *what) {
    if (!c->fault)
        c->fault = what;
}

/* ---- nodes ------------------------------------------------------------------------------------------------
 */
static uint32_t count(const struct build_authz *c) {
    return c->nodes.len / (uint32_t)sizeof(struct authz_node);
}

static uint32_t begin(struct build_authz *c, uint8_t op) {
    struct authz_node n = {.op = op, .nodes = 1};
    uint32_t at = count(c);
    if (at >= AUTHZ_NODES_MAX)
        cannot(c, "too many conditions");
    else
        mesh_blob_add(&c->nodes, &n, sizeof n, 4);
    return at;
}

static struct authz_node *node_at(struct build_authz *c, uint32_t at) {
    return at < count(c) ? &((struct authz_node *)(void *)c->nodes.p)[at] : NULL;
}

static void end(struct build_authz *c, uint32_t at) {
    struct authz_node *n = node_at(c, at);
    if (n)
        n->nodes = count(c) - at;
}

static void add_text(struct build_authz *c, uint8_t op, const void *text, size_t len) {
    struct view_span where = mesh_blob_add(&c->rec, text, len, 1);
    struct authz_node *n = node_at(c, begin(c, op));
    if (!n)
        return;
    n->off = where.off;
    n->len = where.len;
}

static void needs(struct build_authz *c, const char *what, const char *subject) {
    char text[64];
    snprintf(text, sizeof text, "%s%s%s", what, subject ? " " : "", subject ? subject : "");
    if (c->policy && !c->needs[0])
        snprintf(c->needs, sizeof c->needs, "policy %s decides by %s", c->policy, text);
    add_text(c, AUTHZ_REQUEST, text, strlen(text));
}

static void add_range(struct build_authz *c, uint8_t op, const Mesh__Core__CidrRange *r) {
    uint8_t family, addr[16];
    if (!r || !mesh_parse_address(r->address_prefix, &family, addr)) {
        cannot(c, "an address range that is none");
        return;
    }
    uint32_t size = family == 4 ? 4 : 16, bits = r->prefix_len ? r->prefix_len->value : 0;
    if (strchr(r->address_prefix, ':') && family == 4) /* v4-mapped */
        bits = bits > 96 ? bits - 96 : 0;
    struct view_span where = mesh_blob_add(&c->rec, addr, size, 1);
    struct authz_node *n = node_at(c, begin(c, op));
    if (!n)
        return;
    n->kind = family;
    n->ignore_case = (uint8_t)(bits > size * 8 ? size * 8 : bits);
    n->off = where.off;
    n->len = size;
}

static void add_ports(struct build_authz *c, int64_t from, int64_t to) {
    struct authz_node *n = node_at(c, begin(c, AUTHZ_LOCAL_PORT));
    if (from < 0 || to > UINT16_MAX || from > to)
        cannot(c, "a port range that is none");
    if (!n)
        return;
    n->off = (uint32_t)from;
    n->len = (uint32_t)to;
}

static void add_regex(struct build_authz *c, uint8_t op, const Mesh__Matcher__RegexMatcher *r) {
    const char *text = r && r->regex ? r->regex : "";
    if (!mesh_match_regex_valid(text,
                                strlen(text))) { /* matching nobody would be letting in where it is denied */
        cannot(c, "a regular expression that is not supported");
        return;
    }
    uint32_t at = count(c);
    add_text(c, op, text, strlen(text));
    if (node_at(c, at))
        node_at(c, at)->kind = MESH_MATCH_REGEX;
}

static void add_match(struct build_authz *c, uint8_t op, const Mesh__Matcher__StringMatcher *m) {
    uint8_t kind;
    const char *text;
    switch (m->match_pattern_case) {
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_EXACT:
        kind = MESH_MATCH_EXACT;
        text = m->exact;
        break;
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_PREFIX:
        kind = MESH_MATCH_PREFIX;
        text = m->prefix;
        break;
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_SUFFIX:
        kind = MESH_MATCH_SUFFIX;
        text = m->suffix;
        break;
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_CONTAINS:
        kind = MESH_MATCH_CONTAINS;
        text = m->contains;
        break;
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX:
        add_regex(c, op, m->safe_regex);
        return;
    default:
        cannot(c, "a string matcher of an unknown kind");
        return;
    }
    uint32_t at = count(c);
    if (strlen(text) > UINT16_MAX)
        cannot(c, "a string matcher that is too long");
    add_text(c, op, text, strlen(text));
    if (!node_at(c, at))
        return;
    node_at(c, at)->kind = kind;
    node_at(c, at)->ignore_case = m->ignore_case != 0;
}

/* ---- permissions ------------------------------------------------------------------------------------------
 */
static void add_permission(struct build_authz *c, const Mesh__Rbac__Permission *p);

static void add_permissions(struct build_authz *c, uint8_t op, size_t n,
                            Mesh__Rbac__Permission *const *list) {
    uint32_t at = begin(c, op);
    if (!n)
        cannot(c, "a list of permissions that is empty");
    for (size_t i = 0; i < n && !c->fault; i++)
        add_permission(c, list[i]);
    end(c, at);
}

static void add_permission_port_range(struct build_authz *c, const Mesh__Core__Int32Range *r) {
    add_ports(c, r->start, (int64_t)r->end - 1);
}

static void add_permission(struct build_authz *c, const Mesh__Rbac__Permission *p) {
    switch (p->rule_case) {
    case MESH__RBAC__PERMISSION__RULE_AND_RULES:
        add_permissions(c, AUTHZ_AND, p->and_rules->n_rules, p->and_rules->rules);
        break;
    case MESH__RBAC__PERMISSION__RULE_OR_RULES:
        add_permissions(c, AUTHZ_OR, p->or_rules->n_rules, p->or_rules->rules);
        break;
    case MESH__RBAC__PERMISSION__RULE_NOT_RULE: {
        uint32_t at = begin(c, AUTHZ_NOT);
        add_permission(c, p->not_rule);
        end(c, at);
        break;
    }
    case MESH__RBAC__PERMISSION__RULE_ANY:
        begin(c, AUTHZ_ANY);
        break;
    case MESH__RBAC__PERMISSION__RULE_DESTINATION_IP:
        add_range(c, AUTHZ_LOCAL_IP, p->destination_ip);
        break;
    case MESH__RBAC__PERMISSION__RULE_DESTINATION_PORT:
        add_ports(c, p->destination_port, p->destination_port);
        break;
    case MESH__RBAC__PERMISSION__RULE_DESTINATION_PORT_RANGE:
        add_permission_port_range(c, p->destination_port_range);
        break;
    case MESH__RBAC__PERMISSION__RULE_REQUESTED_SERVER_NAME:
        add_match(c, AUTHZ_SERVER_NAME, p->requested_server_name);
        break;
    case MESH__RBAC__PERMISSION__RULE_HEADER:
        needs(c, "header", p->header->name);
        break;
    case MESH__RBAC__PERMISSION__RULE_URL_PATH:
        needs(c, "the path", NULL);
        break;
    case MESH__RBAC__PERMISSION__RULE_METADATA:
        needs(c, "metadata", p->metadata->filter);
        break;
    default:
        cannot(c, "a permission of an unknown kind");
    }
}

/* ---- principals -------------------------------------------------------------------------------------------
 */
static void add_principal(struct build_authz *c, const Mesh__Rbac__Principal *p);

static void add_principals(struct build_authz *c, uint8_t op, size_t n, Mesh__Rbac__Principal *const *list) {
    uint32_t at = begin(c, op);
    if (!n)
        cannot(c, "a list of principals that is empty");
    for (size_t i = 0; i < n && !c->fault; i++)
        add_principal(c, list[i]);
    end(c, at);
}

static void add_principal(struct build_authz *c, const Mesh__Rbac__Principal *p) {
    switch (p->identifier_case) {
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_AND_IDS:
        add_principals(c, AUTHZ_AND, p->and_ids->n_ids, p->and_ids->ids);
        break;
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_OR_IDS:
        add_principals(c, AUTHZ_OR, p->or_ids->n_ids, p->or_ids->ids);
        break;
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_NOT_ID: {
        uint32_t at = begin(c, AUTHZ_NOT);
        add_principal(c, p->not_id);
        end(c, at);
        break;
    }
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_ANY:
        begin(c, AUTHZ_ANY);
        break;
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_AUTHENTICATED:
        if (p->authenticated->principal_name)
            add_match(c, AUTHZ_PRINCIPAL, p->authenticated->principal_name);
        else
            begin(c, AUTHZ_AUTHENTICATED);
        break;
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_SOURCE_IP:
        add_range(c, AUTHZ_PEER_IP, p->source_ip);
        break;
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_DIRECT_REMOTE_IP:
        add_range(c, AUTHZ_PEER_IP, p->direct_remote_ip);
        break;
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_REMOTE_IP:
        if (c->is_http) /* x-forwarded-for may say another one */
            needs(c, "header", "x-forwarded-for");
        else
            add_range(c, AUTHZ_PEER_IP, p->remote_ip);
        break;
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_HEADER:
        needs(c, "header", p->header->name);
        break;
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_URL_PATH:
        needs(c, "the path", NULL);
        break;
    case MESH__RBAC__PRINCIPAL__IDENTIFIER_METADATA:
        needs(c, "metadata", p->metadata->filter);
        break;
    default:
        cannot(c, "a principal of an unknown kind");
    }
}

/* ---- policies, filters ------------------------------------------------------------------------------------
 */
static void add_policy(struct build_authz *c, const Mesh__Rbac__RBAC__PoliciesEntry *e) {
    const char *name = e->key ? e->key : "";
    struct authz_policy p = {.name = mesh_blob_add(&c->rec, name, strlen(name), 1), .node = count(c)};
    uint32_t at = begin(c, AUTHZ_AND);
    if (!e->value) {
        cannot(c, "a policy without permissions");
        return;
    }
    add_permissions(c, AUTHZ_OR, e->value->n_permissions, e->value->permissions);
    add_principals(c, AUTHZ_OR, e->value->n_principals, e->value->principals);
    end(c, at);
    mesh_blob_add(&c->policies, &p, sizeof p, 4);
}

/* Of two entries of one key the last one counts. */
static bool is_replaced(const Mesh__Rbac__RBAC *r, size_t i) {
    for (size_t j = i + 1; j < r->n_policies; j++)
        if (strcmp(r->policies[i]->key ? r->policies[i]->key : "",
                   r->policies[j]->key ? r->policies[j]->key : "") == 0)
            return true;
    return false;
}

static void add_filter(struct build_authz *c, const Mesh__Rbac__RBAC *r, bool shadow) {
    struct authz_filter f = {.shadow = shadow,
                             .first = c->policies.len / (uint32_t)sizeof(struct authz_policy)};
    if (!r)
        return;
    if ((unsigned)r->action > AUTHZ_LOG || f.first + r->n_policies > AUTHZ_POLICIES_MAX ||
        c->filters.len / sizeof f >= AUTHZ_FILTERS_MAX) {
        cannot(c, "an unknown action, or too many policies");
        return;
    }
    f.action = (uint8_t)r->action;
    for (size_t i = 0; i < r->n_policies && !c->fault; i++) {
        c->policy = shadow ? NULL : r->policies[i]->key ? r->policies[i]->key : "";
        if (!is_replaced(r, i))
            add_policy(c, r->policies[i]);
    }
    if (c->fault)
        return;
    f.n = c->policies.len / (uint32_t)sizeof(struct authz_policy) - f.first;
    mesh_blob_add(&c->filters, &f, sizeof f, 4);
}

bool mesh_build_authz_is(const Mesh__Pb__Any *config) {
    return mesh_any_is(config, NETWORK) || mesh_any_is(config, HTTP);
}

int mesh_build_authz_new(struct build_authz **ret) {
    static const struct authz_head head;
    struct build_authz *c = calloc(1, sizeof *c);
    if (!c)
        return MESH_E_NOMEM;
    mesh_blob_add(&c->rec, &head, sizeof head, 8);
    *ret = c;
    return 0;
}

int mesh_build_authz_add(struct build_authz *c, const Mesh__Pb__Any *config) {
    int rc;
    c->is_http = mesh_any_is(config, HTTP);
    ProtobufCMessage *m = mesh_any_open(config, c->is_http ? HTTP : NETWORK, &rc);
    if (!m) {
        cannot(c, "it cannot be read");
        return rc == MESH_E_NOMEM ? rc : 0;
    }
    const Mesh__Rbac__HttpRBAC *h = (const void *)m;
    const Mesh__Rbac__NetworkRBAC *n = (const void *)m;
    if (c->is_http ? h->matcher != NULL : n->matcher != NULL)
        cannot(c, "RBAC matchers are not supported");
    add_filter(c, c->is_http ? h->rules : n->rules, false);
    if (!c->fault) {
        add_filter(c, c->is_http ? h->shadow_rules : n->shadow_rules, true);
        c->fault = NULL; /* what a dry run asks decides nothing: it is left out */
    }
    protobuf_c_message_free_unpacked(m, NULL);
    return 0;
}

const char *mesh_build_authz_fault(const struct build_authz *c) {
    return c->fault;
}

const char *mesh_build_authz_needs(const struct build_authz *c) {
    return c->needs[0] ? c->needs : NULL;
}

int mesh_build_authz_put(struct build_authz *c, struct mesh_blob *to, struct view_span *ret) {
    struct authz_head head;
    bool any = c->filters.len != 0 && !c->fault;
    head.nodes = mesh_blob_add(&c->rec, c->nodes.p, c->nodes.len, 4);
    head.policies = mesh_blob_add(&c->rec, c->policies.p, c->policies.len, 4);
    head.filters = mesh_blob_add(&c->rec, c->filters.p, c->filters.len, 4);
    bool broken = c->rec.broken || c->nodes.broken || c->policies.broken || c->filters.broken;
    if (!broken)
        memcpy(c->rec.p, &head, sizeof head);
    if (!broken && any)
        *ret = mesh_blob_add(to, c->rec.p, c->rec.len, 8);
    return broken || to->broken ? MESH_E_NOMEM : 0;
}

void mesh_build_authz_free(struct build_authz *c) {
    if (!c)
        return;
    free(c->rec.p);
    free(c->nodes.p);
    free(c->policies.p);
    free(c->filters.p);
    free(c);
}
