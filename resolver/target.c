/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "resolver/view.h"
#include "shim/base/mem.h"
#include "tls/tls.h"

enum {
    CONNECT_TIMEOUT_MS = 5000,
    ATTEMPTS = 10,
    PEERS_MAX = 256,
    PEM_MAX = 1 << 20,
    RECORD_MAX = 64 << 20, /* what one look-up copies out of the view */
    CAPTURE = UINT32_MAX,
};

/* A record copied out of the view: from here on nobody else changes it. Its lengths are still not trusted. */
void *mesh_record_copy(const struct mesh_view *v, uint32_t ref, uint32_t kind, size_t min, uint32_t *ret_len,
                       int *ret_rc) {
    uint32_t len;
    const void *rec = mesh_view_rec(v, ref, kind, min, &len);
    void *copy = rec && len <= RECORD_MAX ? malloc(len) : NULL;
    *ret_rc = !rec || len > RECORD_MAX ? MESH_E_INTERNAL : copy ? 0 : MESH_E_NOMEM;
    if (copy) {
        memcpy(copy, rec, len);
        *ret_len = len;
    }
    return copy;
}

/* ---- one transport socket, laid out for the caller
 * --------------------------------------------------------- */
struct pem {
    const char *text;
    char *heap; /* read from a file, ours until it is copied */
    size_t len;
};
struct parts { /* what the block is made of */
    const struct view_match *peers;
    uint32_t npeers, peers_bytes;
    const char *sni;
    const uint8_t *alpn;
    uint32_t sni_len, alpn_len;
    struct pem ca, cert, key;
};

static int read_pem(const void *rec, uint32_t len, uint8_t kind, const struct view_span *where,
                    struct pem *ret) {
    char path[4096];
    uint32_t n;
    if (kind == PEM_NONE)
        return 0;
    const char *text = mesh_view_span(rec, len, where, 1, &n);
    if (!text)
        return MESH_E_INTERNAL;
    if (kind == PEM_INLINE) {
        *ret = (struct pem){text, NULL, n};
        return 0;
    }
    if (!mesh_view_text(rec, len, where, path, sizeof path))
        return MESH_E_INTERNAL;
    int rc = mesh_file_read(path, PEM_MAX, &ret->heap, &ret->len, NULL);
    ret->text = ret->heap;
    return rc < 0 ? MESH_E_IDENTITY : 0;
}

static void free_pem(struct pem *p) {
    if (p->heap)
        mesh_zero(p->heap, p->len);
    free(p->heap);
}

static void free_parts(struct parts *p) {
    free_pem(&p->ca);
    free_pem(&p->cert);
    free_pem(&p->key);
}

static int read_parts(const void *rec, uint32_t len, const struct view_tls *t, struct parts *p) {
    uint32_t bytes;
    memset(p, 0, sizeof *p);
    p->peers = mesh_view_span(rec, len, &t->peers, 4, &bytes);
    p->npeers = bytes / sizeof *p->peers;
    p->sni = mesh_view_span(rec, len, &t->sni, 1, &p->sni_len);
    p->alpn = mesh_view_span(rec, len, &t->alpn, 1, &p->alpn_len);
    if (!p->peers || !p->sni || !p->alpn || p->npeers > PEERS_MAX)
        return MESH_E_INTERNAL;
    for (uint32_t i = 0; i < p->npeers; i++) {
        const struct view_match *m = &p->peers[i];
        if (m->off > len || m->len > len - m->off || m->len > UINT16_MAX)
            return MESH_E_INTERNAL;
        p->peers_bytes += m->len + 1;
    }
    int rc = read_pem(rec, len, t->ca_kind, &t->ca, &p->ca);
    if (rc == 0)
        rc = read_pem(rec, len, t->cert_kind, &t->cert, &p->cert);
    if (rc == 0)
        rc = read_pem(rec, len, t->key_kind, &t->key, &p->key);
    if (rc < 0)
        free_parts(p);
    return rc;
}

static size_t parts_size(const struct parts *p) {
    return p->npeers * sizeof(struct mesh_match) + p->peers_bytes + p->sni_len + 1 + p->alpn_len + p->ca.len +
           p->cert.len + p->key.len + 3;
}

static char *put(char **io_at, const void *p, size_t n) { /* with a NUL behind it */
    char *to = *io_at;
    if (n)
        memcpy(to, p, n);
    to[n] = 0;
    *io_at += n + 1;
    return to;
}

static char *put_pem(char **io_at, const struct pem *p, uint32_t *ret_len) {
    *ret_len = (uint32_t)p->len;
    return p->text ? put(io_at, p->text, p->len) : NULL;
}

static struct mesh_match *put_peers(char **io_at, const void *rec, const struct parts *p) {
    struct mesh_match *to = (struct mesh_match *)(void *)*io_at;
    *io_at += p->npeers * sizeof *to;
    for (uint32_t i = 0; i < p->npeers; i++) {
        const struct view_match *m = &p->peers[i];
        to[i] = (struct mesh_match){
            .kind = m->kind, .san_type = m->san_type, .ignore_case = m->ignore_case, .len = (uint16_t)m->len};
        to[i].text = put(io_at, (const uint8_t *)rec + m->off, m->len);
    }
    return p->npeers ? to : NULL;
}

static int make_target(const void *rec, uint32_t len, const struct view_tls *t, struct mesh_target **ret) {
    struct parts p;
    int rc = read_parts(rec, len, t, &p);
    if (rc < 0)
        return rc;
    struct mesh_target *to = calloc(1, sizeof *to + parts_size(&p) + 8);
    if (!to) {
        free_parts(&p);
        return MESH_E_NOMEM;
    }
    char *at = (char *)(to + 1);
    to->plain = t->plain;
    to->any_peer_san = t->any_peer_san;
    to->no_alpn = t->no_alpn;
    to->min_version = t->min_version;
    to->max_version = t->max_version;
    to->peers = put_peers(&at, rec, &p);
    to->npeers = p.npeers;
    to->sni = p.sni_len ? put(&at, p.sni, p.sni_len) : NULL;
    to->alpn = p.alpn_len ? (const uint8_t *)put(&at, p.alpn, p.alpn_len) : NULL;
    to->alpn_len = p.alpn_len;
    to->ca = put_pem(&at, &p.ca, &to->ca_len);
    to->cert = put_pem(&at, &p.cert, &to->cert_len);
    to->key = put_pem(&at, &p.key, &to->key_len);
    free_parts(&p);
    *ret = to;
    return 0;
}

/* ---- outbound ---------------------------------------------------------------------------------------------
 */
static int capture_target(struct mesh_target **ret) {
    struct mesh_target *t = calloc(1, sizeof *t);
    if (!t)
        return MESH_E_NOMEM;
    t->connect_timeout_ms = CONNECT_TIMEOUT_MS;
    t->attempts = 1;
    *ret = t;
    return 0;
}

static int target_of(const struct mesh_view *v, const struct mesh_route *r, const struct view_config *c,
                     uint32_t len, uint8_t transport, struct mesh_target **ret) {
    uint32_t bytes;
    const struct view_tls *t = mesh_view_span(c, len, &c->transports, 4, &bytes);
    if (!t || transport >= bytes / sizeof *t)
        return MESH_E_INTERNAL;
    if (t[transport].error)
        return t[transport].error;
    if (t[transport].plain && v->tls == MESH_TLS_REQUIRED)
        return MESH_E_IDENTITY;
    struct mesh_target *to;
    int rc = make_target(c, len, &t[transport], &to);
    if (rc < 0)
        return rc;
    to->connect_timeout_ms = c->connect_timeout_ms ? c->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    to->attempts = r->original_dst ? 1 : r->attempts ? r->attempts : ATTEMPTS;
    *ret = to;
    return 0;
}

int mesh_view_target(const struct mesh_view *v, const struct mesh_route *r, uint8_t transport,
                     struct mesh_target **ret_target) {
    if (r->cluster_id == CAPTURE)
        return capture_target(ret_target);
    for (int i = 0; i < VIEW_RETRIES; i++) {
        uint64_t seq;
        uint32_t flags, len;
        int rc;
        const struct view_root *root = mesh_view_begin(v, &seq);
        const struct view_cluster *c = root ? mesh_cluster_at(v, root, r->cluster_id, &flags, &len) : NULL;
        bool same = c && c->generation == r->cluster_generation;
        struct view_config *copy =
            same ? mesh_record_copy(v, c->config, KIND_CONFIG, sizeof *copy, &len, &rc) : NULL;
        if (!same)
            rc = MESH_E_NOTFOUND;
        if (mesh_view_still(v, seq)) {
            if (rc == 0)
                rc = target_of(v, r, copy, len, transport, ret_target);
            free(copy);
            return rc;
        }
        free(copy);
    }
    return MESH_E_AGAIN;
}

/* ---- inbound ----------------------------------------------------------------------------------------------
 */
int mesh_inbound_make(const void *rec, uint32_t len, const struct view_tls *t, struct mesh_inbound **ret) {
    struct parts p;
    int rc = read_parts(rec, len, t, &p);
    if (rc < 0)
        return rc;
    struct mesh_inbound *to = calloc(1, sizeof *to + parts_size(&p) + 8);
    if (!to) {
        free_parts(&p);
        return MESH_E_NOMEM;
    }
    char *at = (char *)(to + 1);
    to->no_client_cert = t->no_client_cert;
    to->any_peer_san = t->any_peer_san;
    to->min_version = t->min_version;
    to->max_version = t->max_version;
    to->callers = put_peers(&at, rec, &p);
    to->ncallers = p.npeers;
    to->alpn = p.alpn_len ? (const uint8_t *)put(&at, p.alpn, p.alpn_len) : NULL;
    to->alpn_len = p.alpn_len;
    to->cert = put_pem(&at, &p.cert, &to->cert_len);
    to->key = put_pem(&at, &p.key, &to->key_len);
    to->ca = put_pem(&at, &p.ca, &to->ca_len);
    free_parts(&p);
    *ret = to;
    return 0;
}
