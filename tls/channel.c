/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/channel.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include "tls/channel_creds.h"

struct mesh_tls_channel {
    SSL *ssl;
    BIO *in, *out; /* the SSL's */
    struct mesh_tls_creds *creds;
};

static const char *reason(void) {
    unsigned long e = ERR_peek_error();
    const char *text = e ? ERR_reason_error_string(e) : NULL;
    return text ? text : "no reason given";
}

/* The name or address that the certificate must have, by its subject alternative names alone (RFC 9525). */
static int expect_host(SSL *ssl, const char *host) {
    char name[256];
    size_t n = strlen(host);
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    if (n && host[n - 1] == '.') /* absolute names are the same without */
        n--;
    if (n >= sizeof name)
        return MESH_E_LIMIT;
    memcpy(name, host, n);
    name[n] = 0;
    if (X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1)
        return 0;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return X509_VERIFY_PARAM_set1_host(param, name, n) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1
               ? 0
               : MESH_E_NOMEM;
}

static int prepare(struct mesh_tls_channel *ch, SSL_CTX *ctx, const char *host) {
    static const unsigned char h2[] = {2, 'h', '2'};
    ch->ssl = SSL_new(ctx);
    ch->in = BIO_new(BIO_s_mem());
    ch->out = BIO_new(BIO_s_mem());
    if (!ch->ssl || !ch->in || !ch->out) {
        BIO_free(ch->in);
        BIO_free(ch->out);
        return MESH_E_NOMEM;
    }
    SSL_set_bio(ch->ssl, ch->in, ch->out);
    SSL_set_connect_state(ch->ssl);
    if (SSL_set_alpn_protos(ch->ssl, h2, sizeof h2) != 0)
        return MESH_E_NOMEM;
    return expect_host(ch->ssl, host);
}

int mesh_tls_channel_new(struct mesh_tls_creds *c, const char *host, uint64_t now,
                         struct mesh_tls_channel **ret, struct mesh_why *why) {
    SSL_CTX *ctx;
    int err = mesh_tls_creds_get(c, now, &ctx, why);
    if (err)
        return err;
    struct mesh_tls_channel *ch = calloc(1, sizeof *ch);
    err = ch ? prepare(ch, ctx, host) : MESH_E_NOMEM;
    ERR_clear_error();
    if (err) {
        mesh_tls_channel_free(ch);
        return mesh_why(why, err, "%s", mesh_err_text(err));
    }
    ch->creds = c;
    *ret = ch;
    return 0;
}

void mesh_tls_channel_free(struct mesh_tls_channel *ch) {
    if (!ch)
        return;
    SSL_free(ch->ssl);
    ERR_clear_error();
    free(ch);
}

int mesh_tls_channel_feed(struct mesh_tls_channel *ch, const void *p, size_t n) {
    int took = BIO_write(ch->in, p, (int)n);
    ERR_clear_error();
    return took == (int)n ? 0 : MESH_E_NOMEM;
}

/* What OpenSSL's refusal means. */
static int judge(struct mesh_tls_channel *ch, int rc, struct mesh_why *why) {
    int error = SSL_get_error(ch->ssl, rc);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return MESH_E_AGAIN;
    if (error == SSL_ERROR_ZERO_RETURN)
        return mesh_why(why, MESH_E_CLOSED, "the server closed the connection");
    unsigned long e = ERR_peek_error();
    long verify = SSL_get_verify_result(ch->ssl);
    if (ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED && verify != X509_V_OK)
        return mesh_why(why, MESH_E_PEER, "the server's certificate: %s",
                        X509_verify_cert_error_string(verify));
    if (ERR_GET_REASON(e) >= SSL_AD_REASON_OFFSET)
        return mesh_why(why, MESH_E_ALERT, "the server refused: %s", reason());
    return mesh_why(why, MESH_E_PROTOCOL, "TLS: %s", reason());
}

static int check_alpn(struct mesh_tls_channel *ch, struct mesh_why *why) {
    const unsigned char *name;
    unsigned n;
    SSL_get0_alpn_selected(ch->ssl, &name, &n);
    if (n == 2 && memcmp(name, "h2", 2) == 0)
        return 0;
    return mesh_why(why, MESH_E_PROTOCOL, "TLS: the server did not choose h2 by ALPN");
}

int mesh_tls_channel_shake(struct mesh_tls_channel *ch, struct mesh_why *why) {
    ERR_clear_error();
    int rc = SSL_do_handshake(ch->ssl);
    int err = rc == 1 ? check_alpn(ch, why) : judge(ch, rc, why);
    ERR_clear_error();
    if (err && err != MESH_E_AGAIN)
        mesh_tls_creds_doubt(ch->creds);
    return err;
}

int mesh_tls_channel_read(struct mesh_tls_channel *ch, void *ret_p, size_t cap, struct mesh_why *why) {
    ERR_clear_error();
    int n = SSL_read(ch->ssl, ret_p, (int)cap);
    int err = n > 0 ? n : judge(ch, n, why);
    ERR_clear_error();
    if (err == MESH_E_ALERT) /* in TLS 1.3 a server refuses our certificate only now */
        mesh_tls_creds_doubt(ch->creds);
    return err;
}

int mesh_tls_channel_write(struct mesh_tls_channel *ch, const void *p, size_t n) {
    ERR_clear_error();
    int took = SSL_write(ch->ssl, p, (int)n); /* memory is always writable: all or an error */
    ERR_clear_error();
    return took == (int)n ? 0 : MESH_E_PROTOCOL;
}

size_t mesh_tls_channel_out(struct mesh_tls_channel *ch, const uint8_t **ret_p) {
    char *p;
    long n = BIO_get_mem_data(ch->out, &p);
    *ret_p = (const uint8_t *)p;
    return n > 0 ? (size_t)n : 0;
}

void mesh_tls_channel_sent(struct mesh_tls_channel *ch, size_t n) {
    char skipped[4096];
    while (n) {
        int took = BIO_read(ch->out, skipped, (int)(n < sizeof skipped ? n : sizeof skipped));
        if (took <= 0)
            break;
        n -= (size_t)took;
    }
    ERR_clear_error();
}
