/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may be at the other end: SPIFFE's demands on a leaf (X509-SVID section 4 and 5), then the caller's list
 * or our own trust domain.
 */
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include "tls/internal.h"

enum { LIST_BYTES_MAX = 1 << 20 };

int mesh_tls_rule_init(struct mesh_tls_rule *rule, const struct mesh_handshake_config *cfg) {
    size_t texts = 0;
    if (cfg->npeers > MESH_TLS_PEERS_MAX)
        return MESH_E_LIMIT;
    for (size_t i = 0; i < cfg->npeers; i++)
        texts += cfg->peers[i].len;
    if (texts > LIST_BYTES_MAX)
        return MESH_E_LIMIT;
    *rule = (struct mesh_tls_rule){.n = cfg->npeers,
                                   .none = cfg->peers_none,
                                   .any = cfg->any_peer_san,
                                   .own_domain = mesh_identity_trust_domain(cfg->identity)};
    if (rule->n == 0)
        return 0;
    rule->list = malloc(rule->n * sizeof *rule->list + texts);
    if (!rule->list)
        return MESH_E_NOMEM;
    char *at = (char *)(rule->list + rule->n);
    for (size_t i = 0; i < rule->n; i++) {
        rule->list[i] = cfg->peers[i];
        memcpy(at, cfg->peers[i].text, cfg->peers[i].len);
        rule->list[i].text = at;
        at += cfg->peers[i].len;
    }
    return 0;
}

void mesh_tls_rule_done(struct mesh_tls_rule *rule) {
    free(rule->list);
    rule->list = NULL;
    rule->n = 0;
}

int mesh_tls_rule_digest(const struct mesh_tls_rule *rule, const struct mesh_identity *id, const char *what,
                         const char *which, uint8_t ret_digest[MESH_TLS_DIGEST]) {
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (!md)
        return MESH_E_NOMEM;
    const uint8_t flags[4] = {rule->none, rule->any, what != NULL, which != NULL};
    bool ok = EVP_DigestInit_ex(md, mesh_tls_hash_get(MESH_TLS_DIGEST), NULL) == 1 &&
              EVP_DigestUpdate(md, id->digest, sizeof id->digest) == 1 &&
              EVP_DigestUpdate(md, flags, sizeof flags) == 1 &&
              (!what || EVP_DigestUpdate(md, what, strlen(what) + 1) == 1) &&
              (!which || EVP_DigestUpdate(md, which, strlen(which) + 1) == 1);
    for (size_t i = 0; ok && i < rule->n; i++) {
        const struct mesh_match *m = &rule->list[i];
        const uint8_t head[5] = {m->kind, m->san_type, m->ignore_case, (uint8_t)(m->len >> 8),
                                 (uint8_t)m->len};
        ok = EVP_DigestUpdate(md, head, sizeof head) == 1 && EVP_DigestUpdate(md, m->text, m->len) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(md, ret_digest, NULL) == 1;
    EVP_MD_CTX_free(md);
    return ok ? 0 : MESH_E_NOMEM;
}

/* RFC 6125 6.4.3 as Envoy does it for exact DNS matchers: the certificate's `*.` stands for one label. */
static bool dns_exact(const struct mesh_match *m, const struct mesh_tls_san *san) {
    const char *dot = memchr(m->text, '.', m->len);
    if (san->len > 2 && san->text[0] == '*' && san->text[1] == '.' && dot && dot != m->text) {
        size_t rest = m->len - (size_t)(dot - m->text);
        return san->len - 1 == rest && strncasecmp(san->text + 1, dot, rest) == 0;
    }
    return san->len == m->len && strncasecmp(san->text, m->text, m->len) == 0;
}

static bool san_matches(const struct mesh_match *m, const struct mesh_tls_san *san) {
    enum mesh_san_type want = m->kind == MESH_MATCH_SPIFFE ? MESH_SAN_URI : m->san_type;
    if (want != MESH_SAN_ANY && want != san->type)
        return false;
    if (san->type == MESH_SAN_DNS && m->kind == MESH_MATCH_EXACT)
        return dns_exact(m, san);
    return mesh_match_text(m, san->text, san->len);
}

static bool list_allows(const struct mesh_tls_rule *rule, const GENERAL_NAMES *names) {
    struct mesh_tls_san san;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        if (!mesh_tls_san_get(names, i, &san))
            continue;
        for (size_t j = 0; j < rule->n; j++)
            if (san_matches(&rule->list[j], &san))
                return true;
    }
    return false;
}

static bool own_domain_has(const struct mesh_tls_rule *rule, const struct mesh_tls_san *id) {
    size_t domain, own = strlen(rule->own_domain);
    return own && mesh_spiffe_valid(id->text, id->len, &domain) && domain == own &&
           memcmp(id->text + 9, rule->own_domain, own) == 0;
}

static int refuse_name(const struct mesh_tls_rule *rule, const char *shown, struct mesh_why *why) {
    const char *who = *shown ? shown : "no name";
    if (rule->none)
        return mesh_why(why, MESH_E_PEER, "peer shows %.100s, and nothing says who may be there", who);
    if (rule->n == 0 && !*rule->own_domain)
        return mesh_why(why, MESH_E_PEER,
                        "peer shows %.100s; no peers are named, and our own certificate has no trust domain",
                        who);
    if (rule->n == 0)
        return mesh_why(why, MESH_E_PEER, "peer shows %.100s, accepted is any ID of spiffe://%.80s", who,
                        rule->own_domain);
    const struct mesh_match *first = &rule->list[0];
    char more[32] = "";
    if (rule->n > 1)
        snprintf(more, sizeof more, " and %zu more", rule->n - 1);
    return mesh_why(why, MESH_E_PEER, "peer shows %.100s, accepted is %.*s%s", who,
                    first->len > 80 ? 80 : first->len, first->text, more);
}

/* X509-SVID 4.1, 4.3, 4.4: what may be a workload's certificate at all. An absent key usage passes, as in
 * go-spiffe. */
static int svid_check(X509 *leaf, const struct mesh_tls_san *id, struct mesh_why *why) {
    uint32_t usage = X509_get_key_usage(leaf), flags = X509_get_extension_flags(leaf);
    const char *wrong = NULL;
    size_t domain;
    if (flags & EXFLAG_INVALID)
        wrong = "has a malformed extension";
    else if (flags & EXFLAG_CA)
        wrong = "is a CA";
    else if ((flags & EXFLAG_KUSAGE) && (usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)))
        wrong = "may sign certificates";
    else if ((flags & EXFLAG_KUSAGE) && !(usage & KU_DIGITAL_SIGNATURE))
        wrong = "may not sign (key usage)";
    else if ((flags & EXFLAG_XKUSAGE) &&
             (~X509_get_extended_key_usage(leaf) & (XKU_SSL_SERVER | XKU_SSL_CLIENT)))
        wrong = "is not for both TLS server and client (extended key usage)";
    else if (id && mesh_spiffe_valid(id->text, id->len, &domain) && domain + 9 == id->len)
        wrong = "names a trust domain, not a workload";
    if (!wrong)
        return 0;
    return mesh_why(why, MESH_E_PEER, "peer's certificate %s: %.*s", wrong,
                    id ? (int)(id->len > 120 ? 120 : id->len) : 0, id ? id->text : "");
}

static void id_show(const struct mesh_tls_san *san, char *ret_id, size_t cap) {
    size_t n = san->len < cap ? san->len : cap - 1;
    memcpy(ret_id, san->text, n);
    ret_id[n] = 0;
}

static int names_check(const struct mesh_tls_rule *rule, X509 *leaf, const GENERAL_NAMES *names, char *ret_id,
                       size_t cap, struct mesh_why *why) {
    struct mesh_tls_san id, first;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !*ret_id; i++)
        if (mesh_tls_san_get(names, i, &first))
            id_show(&first, ret_id, cap);
    int spiffe = mesh_tls_names_spiffe(names, &id, why);
    if (spiffe < 0)
        return MESH_E_PEER;
    if (spiffe) {
        id_show(&id, ret_id, cap);
        if (svid_check(leaf, &id, why) != 0)
            return MESH_E_PEER;
    } else if (X509_get_extension_flags(leaf) & EXFLAG_CA) {
        return mesh_why(why, MESH_E_PEER, "peer's certificate is a CA: %.100s", ret_id);
    }
    if (rule->none)
        return refuse_name(rule, ret_id, why);
    if (rule->any)
        return 0;
    if (rule->n ? list_allows(rule, names) : spiffe && own_domain_has(rule, &id))
        return 0;
    return refuse_name(rule, ret_id, why);
}

int mesh_tls_rule_check(const struct mesh_tls_rule *rule, X509 *leaf, char *ret_id, size_t cap,
                        struct mesh_why *why) {
    GENERAL_NAMES *names;
    *ret_id = 0;
    if (mesh_tls_cert_names(leaf, &names) != 0)
        return mesh_why(why, MESH_E_PEER, "names in the peer's certificate cannot be read");
    int err = names_check(rule, leaf, names, ret_id, cap, why);
    GENERAL_NAMES_free(names);
    return err;
}
