/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "resolver/builder.h"
#include "tls/tls.h"

#define SYSTEM_ROOTS "/etc/ssl/certs/ca-certificates.crt"
enum { ALPN_MAX = 255, TLS_1_2 = 0x0303, TLS_1_3 = 0x0304 };

struct context { /* one TLS context while it is read */
    struct build *b;
    struct mesh_blob *blob;
    struct view_tls *t;
    struct mesh_blob peers; /* struct view_match */
    bool validates;         /* it says how the peer is checked */
};

static int refuse(struct context *c, int err, const char *fmt, const char *subject) {
    struct mesh_why why;
    mesh_why(&why, err, fmt, subject);
    if (!c->t->error) {
        c->t->error = err;
        c->t->why = mesh_blob_text(c->blob, why.text);
    }
    return err;
}

/* ---- where bytes come from --------------------------------------------------------------------------------
 */
static int read_source(struct context *c, const Mesh__Core__DataSource *s, uint8_t *ret_kind,
                       struct view_span *ret) {
    switch (s->specifier_case) {
    case MESH__CORE__DATA_SOURCE__SPECIFIER_FILENAME:
        *ret_kind = PEM_PATH;
        *ret = mesh_blob_text(c->blob, s->filename);
        return 0;
    case MESH__CORE__DATA_SOURCE__SPECIFIER_INLINE_BYTES:
        *ret_kind = PEM_INLINE;
        *ret = mesh_blob_add(c->blob, s->inline_bytes.data, s->inline_bytes.len, 1);
        return 0;
    case MESH__CORE__DATA_SOURCE__SPECIFIER_INLINE_STRING:
        *ret_kind = PEM_INLINE;
        *ret = mesh_blob_text(c->blob, s->inline_string);
        return 0;
    default:
        return refuse(c, MESH_E_UNSUPPORTED, "%s",
                      "certificates from environment variables are not supported");
    }
}

/* These names stand for the identity of the environment where nothing else defines them. */
static bool is_ours(const char *name) {
    return !name || !*name || strcmp(name, "default") == 0 || strcmp(name, "ROOTCA") == 0;
}

static const Mesh__Tls__Secret *find_secret(struct context *c, const char *name) {
    const struct mesh_resource *r = mesh_build_find(&c->b->secrets, name ? name : "");
    if (r && r->refused)
        refuse(c, MESH_E_UNSUPPORTED, "secret: %s", r->refused);
    return r ? (const Mesh__Tls__Secret *)r->msg : NULL;
}

/* ---- certificate provider instances (gRFC A29)
 * ---------------------------------------------------------------
 */
/* The one of the bootstrap, NULL: it has none of that name. */
static const struct mesh_cert_provider *find_provider(const struct context *c, const char *name) {
    const struct mesh_bootstrap *b = c->b->pub->v->bootstrap;
    for (uint32_t i = 0; b && name && i < b->nproviders; i++)
        if (strcmp(b->providers[i].instance, name) == 0)
            return &b->providers[i];
    return NULL;
}

/* What an instance without files of that kind is. */
static int lacks(struct context *c, const struct mesh_cert_provider *p, const char *name) {
    if (!p)
        return is_ours(name) ? 0 : refuse(c, MESH_E_IDENTITY, "no certificate provider instance %s", name);
    return p->is_supported
               ? refuse(c, MESH_E_IDENTITY, "certificate provider instance %s has no such file", name)
               : refuse(c, MESH_E_UNSUPPORTED,
                        "certificate provider instance %s is of another plugin than file_watcher", name);
}

static int use_own(struct context *c, const char *name) {
    const struct mesh_cert_provider *p = find_provider(c, name);
    if (!p || !p->is_supported || !p->files.cert || !p->files.key)
        return lacks(c, p, name);
    c->t->cert_kind = c->t->key_kind = PEM_PATH;
    c->t->cert = mesh_blob_text(c->blob, p->files.cert);
    c->t->key = mesh_blob_text(c->blob, p->files.key);
    return 0;
}

static int use_roots(struct context *c, const char *name) {
    const struct mesh_cert_provider *p = find_provider(c, name);
    if (!p || !p->is_supported || !p->files.ca)
        return lacks(c, p, name);
    c->t->ca_kind = PEM_PATH;
    c->t->ca = mesh_blob_text(c->blob, p->files.ca);
    return 0;
}

/* ---- our certificate --------------------------------------------------------------------------------------
 */
static int read_certificate(struct context *c, const Mesh__Tls__TlsCertificate *cert) {
    if (cert->password)
        return refuse(c, MESH_E_UNSUPPORTED, "%s", "private keys under a password are not supported");
    if (!cert->certificate_chain || !cert->private_key)
        return refuse(c, MESH_E_INVALID, "%s", "a certificate needs certificate_chain and private_key");
    int rc = read_source(c, cert->certificate_chain, &c->t->cert_kind, &c->t->cert);
    return rc ? rc : read_source(c, cert->private_key, &c->t->key_kind, &c->t->key);
}

static int read_certificate_secret(struct context *c, const char *name) {
    const Mesh__Tls__Secret *s = find_secret(c, name);
    if (s && s->type_case == MESH__TLS__SECRET__TYPE_TLS_CERTIFICATE)
        return read_certificate(c, s->tls_certificate);
    return is_ours(name) ? 0 : refuse(c, MESH_E_IDENTITY, "nothing defines the certificate secret %s", name);
}

static int read_own(struct context *c, const Mesh__Tls__CommonTlsContext *common) {
    if (common->n_tls_certificates)
        return read_certificate(c, common->tls_certificates[0]);
    if (common->n_tls_certificate_sds_secret_configs)
        return read_certificate_secret(c, common->tls_certificate_sds_secret_configs[0]->name);
    if (common->tls_certificate_provider_instance)
        return use_own(c, common->tls_certificate_provider_instance->instance_name);
    if (common->tls_certificate_certificate_provider_instance)
        return use_own(c, common->tls_certificate_certificate_provider_instance->instance_name);
    return 0;
}

/* ---- the peer's -------------------------------------------------------------------------------------------
 */
static int add_match(struct context *c, const Mesh__Matcher__StringMatcher *m, uint8_t san_type) {
    struct view_match v = {.san_type = san_type, .ignore_case = m->ignore_case};
    const char *text;
    switch (m->match_pattern_case) {
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_EXACT:
        v.kind = MESH_MATCH_EXACT;
        text = m->exact;
        break;
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_PREFIX:
        v.kind = MESH_MATCH_PREFIX;
        text = m->prefix;
        break;
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_SUFFIX:
        v.kind = MESH_MATCH_SUFFIX;
        text = m->suffix;
        break;
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_CONTAINS:
        v.kind = MESH_MATCH_CONTAINS;
        text = m->contains;
        break;
    case MESH__MATCHER__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX:
        v.kind = MESH_MATCH_REGEX;
        text = m->safe_regex->regex;
        break;
    default:
        return refuse(c, MESH_E_UNSUPPORTED, "%s", "a subject alternative name matcher of an unknown kind");
    }
    if (!text || !*text)
        return refuse(c, MESH_E_INVALID, "%s", "an empty subject alternative name matcher");
    struct view_span at = mesh_blob_text(c->blob, text);
    v.off = at.off;
    v.len = at.len;
    mesh_blob_add(&c->peers, &v, sizeof v, 4);
    return 0;
}

static int add_typed_match(struct context *c, const Mesh__Tls__SubjectAltNameMatcher *m) {
    static const uint8_t types[] = {
        [1] = MESH_SAN_EMAIL, [2] = MESH_SAN_DNS, [3] = MESH_SAN_URI, [4] = MESH_SAN_IP};
    if (m->san_type < 1 || m->san_type > 4 || !m->matcher)
        return refuse(c, MESH_E_UNSUPPORTED, "%s", "a subject alternative name matcher of an unknown type");
    return add_match(c, m->matcher, types[m->san_type]);
}

static int read_roots(struct context *c, const Mesh__Tls__CertificateValidationContext *v) {
    if (v->trusted_ca)
        return read_source(c, v->trusted_ca, &c->t->ca_kind, &c->t->ca);
    if (v->system_root_certs) {
        c->t->ca_kind = PEM_PATH;
        c->t->ca = mesh_blob_text(c->blob, SYSTEM_ROOTS);
    } else if (v->ca_certificate_provider_instance) {
        return use_roots(c, v->ca_certificate_provider_instance->instance_name);
    }
    return 0;
}

static int read_validation(struct context *c, const Mesh__Tls__CertificateValidationContext *v) {
    int rc = read_roots(c, v);
    c->validates = true;
    for (size_t i = 0; i < v->n_match_typed_subject_alt_names && rc == 0; i++)
        rc = add_typed_match(c, v->match_typed_subject_alt_names[i]);
    if (v->n_match_typed_subject_alt_names) /* they supersede the untyped ones */
        return rc;
    for (size_t i = 0; i < v->n_match_subject_alt_names && rc == 0; i++)
        rc = add_match(c, v->match_subject_alt_names[i], MESH_SAN_ANY);
    return rc;
}

static int read_validation_secret(struct context *c, const char *name) {
    const Mesh__Tls__Secret *s = find_secret(c, name);
    c->validates = true;
    if (s && s->type_case == MESH__TLS__SECRET__TYPE_VALIDATION_CONTEXT)
        return read_validation(c, s->validation_context);
    return is_ours(name) ? 0 : refuse(c, MESH_E_IDENTITY, "nothing defines the validation secret %s", name);
}

static int read_combined(struct context *c,
                         const Mesh__Tls__CommonTlsContext__CombinedCertificateValidationContext *both) {
    int rc = both->default_validation_context ? read_validation(c, both->default_validation_context) : 0;
    if (rc == 0 && both->validation_context_sds_secret_config)
        rc = read_validation_secret(c, both->validation_context_sds_secret_config->name);
    if (rc == 0 && both->validation_context_certificate_provider_instance)
        rc = use_roots(c, both->validation_context_certificate_provider_instance->instance_name);
    return rc;
}

static int read_peer(struct context *c, const Mesh__Tls__CommonTlsContext *common) {
    switch (common->validation_context_type_case) {
    case MESH__TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT:
        return read_validation(c, common->validation_context);
    case MESH__TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG:
        return read_validation_secret(c, common->validation_context_sds_secret_config->name);
    case MESH__TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT:
        return read_combined(c, common->combined_validation_context);
    case MESH__TLS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_CERTIFICATE_PROVIDER_INSTANCE:
        c->validates = true;
        return use_roots(c, common->validation_context_certificate_provider_instance->instance_name);
    default:
        return 0;
    }
}

/* ---- the rest of a context --------------------------------------------------------------------------------
 */
static int read_versions(struct context *c, const Mesh__Tls__TlsParameters *p) {
    static const uint16_t versions[] = {0, 0, 0, TLS_1_2,
                                        TLS_1_3}; /* 1.0 and 1.1 as a minimum: 1.2, which is stricter */
    if (!p)
        return 0;
    if (p->tls_minimum_protocol_version >= 0 && p->tls_minimum_protocol_version <= 4)
        c->t->min_version = versions[p->tls_minimum_protocol_version];
    if (p->tls_maximum_protocol_version >= 0 && p->tls_maximum_protocol_version <= 4)
        c->t->max_version = versions[p->tls_maximum_protocol_version];
    if (p->tls_maximum_protocol_version == 1 || p->tls_maximum_protocol_version == 2 ||
        (c->t->max_version && c->t->min_version > c->t->max_version))
        return refuse(c, MESH_E_UNSUPPORTED, "%s", "no TLS version that is allowed here is supported");
    return 0;
}

/* The peer exchange of sidecars starts a preamble of its own on the wire: not offered. */
static int read_alpn(struct context *c, const Mesh__Tls__CommonTlsContext *common) {
    uint8_t wire[ALPN_MAX];
    size_t len = 0;
    for (size_t i = 0; i < common->n_alpn_protocols; i++) {
        const char *name = common->alpn_protocols[i];
        size_t n = strlen(name);
        if (strcmp(name, "istio-peer-exchange") == 0)
            continue;
        if (n == 0 || n > ALPN_MAX || len + 1 + n > sizeof wire)
            return refuse(c, MESH_E_INVALID, "%s", "alpn_protocols: an empty name, or too many");
        wire[len++] = (uint8_t)n;
        memcpy(wire + len, name, n);
        len += n;
    }
    c->t->alpn = mesh_blob_add(c->blob, wire, len, 1);
    c->t->no_alpn = len == 0 && c->b->pub->v->tls == MESH_TLS_VIEW;
    return 0;
}

static int read_common(struct context *c, const Mesh__Tls__CommonTlsContext *common) {
    if (!common)
        return 0;
    int rc = read_own(c, common);
    if (rc == 0)
        rc = read_peer(c, common);
    if (rc == 0)
        rc = read_versions(c, common->tls_params);
    return rc == 0 ? read_alpn(c, common) : rc;
}

/* The peers go into the record last: they are an array, and each one's text came before. */
static int finish(struct context *c) {
    c->t->peers = mesh_blob_add(c->blob, c->peers.p, c->peers.len, 4);
    c->t->any_peer_san = c->validates && !c->peers.len && c->b->pub->v->tls == MESH_TLS_VIEW;
    bool broken = c->peers.broken || c->blob->broken;
    free(c->peers.p);
    return broken ? MESH_E_NOMEM : 0;
}

static int read_server_name(struct context *c, const Mesh__Tls__UpstreamTlsContext *up) {
    c->t->sni = mesh_blob_text(c->blob, up->sni);
    if (!up->auto_sni_san_validation)
        return 0;
    if (!c->t->sni.len)
        return refuse(c, MESH_E_UNSUPPORTED, "%s", "auto_sni_san_validation without sni");
    struct view_match v = {
        .kind = MESH_MATCH_EXACT, .san_type = MESH_SAN_DNS, .off = c->t->sni.off, .len = c->t->sni.len};
    mesh_blob_add(&c->peers, &v, sizeof v, 4);
    return 0;
}

static bool is_hard(int rc) {
    return rc == MESH_E_NOMEM || rc == MESH_E_LIMIT;
}

static int read_upstream(struct context *c, const Mesh__Pb__Any *config) {
    int rc;
    Mesh__Tls__UpstreamTlsContext *up =
        mesh_any_open(config, &mesh__tls__upstream_tls_context__descriptor, &rc);
    if (!up)
        return is_hard(rc) ? rc : refuse(c, MESH_E_INVALID, "%s", "the UpstreamTlsContext cannot be read");
    rc = read_common(c, up->common_tls_context);
    if (rc == 0)
        read_server_name(c, up);
    protobuf_c_message_free_unpacked(&up->base, NULL);
    return 0;
}

int mesh_build_transport(struct build *b, const Mesh__Core__TransportSocket *socket, struct mesh_blob *blob,
                         struct view_tls *ret) {
    struct context c = {.b = b, .blob = blob, .t = ret};
    const Mesh__Pb__Any *config = socket ? socket->typed_config : NULL;
    const char *name = socket && socket->name ? socket->name : "";
    int rc = 0;
    memset(ret, 0, sizeof *ret);
    if (!socket)
        ret->plain = b->pub->v->tls == MESH_TLS_VIEW;
    else if (mesh_any_is(config, &mesh__tls__raw_buffer__descriptor) ||
             (!config && strcmp(name, "envoy.transport_sockets.raw_buffer") == 0))
        ret->plain = 1;
    else if (mesh_any_is(config, &mesh__tls__upstream_tls_context__descriptor))
        rc = read_upstream(&c, config);
    else if (config || strcmp(name, "envoy.transport_sockets.tls") != 0)
        refuse(&c, MESH_E_UNSUPPORTED, "transport socket %s is not supported",
               config ? mesh_any_type(config) : name);
    int end = finish(&c);
    return rc ? rc : end;
}

int mesh_build_server(struct build *b, const Mesh__Core__TransportSocket *socket, struct mesh_blob *blob,
                      struct view_tls *ret) {
    struct context c = {.b = b, .blob = blob, .t = ret};
    int rc;
    memset(ret, 0, sizeof *ret);
    Mesh__Tls__DownstreamTlsContext *down =
        mesh_any_open(socket->typed_config, &mesh__tls__downstream_tls_context__descriptor, &rc);
    if (down) {
        read_common(&c, down->common_tls_context);
        /* Where nothing is said Envoy asks for no certificate: that reading is for MESH_TLS=view only. */
        ret->no_client_cert = down->require_client_certificate ? !down->require_client_certificate->value
                                                               : b->pub->v->tls == MESH_TLS_VIEW;
        protobuf_c_message_free_unpacked(&down->base, NULL);
    } else if (!is_hard(rc)) {
        rc = 0;
        refuse(&c, MESH_E_UNSUPPORTED, "transport socket %s is not supported",
               mesh_any_type(socket->typed_config));
    }
    int end = finish(&c);
    return rc < 0 ? rc : end;
}
