/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/channel_creds.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "shim/base/sys.h"
#include "tls/tls.h"

enum { FILE_MAX = 4 << 20, VERIFY_DEPTH = 10 };

/* Where distributions keep their roots; the first that can be read. */
static const char *const system_roots[] = {
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"};

struct mesh_tls_creds {
    struct mesh_tls_channel_files files;
    SSL_CTX *ctx;    /* NULL: never good */
    uint64_t loaded; /* when the files were looked at last */
    bool doubted;
};

int mesh_tls_creds_new(const struct mesh_tls_channel_files *files, struct mesh_tls_creds **ret) {
    struct mesh_tls_creds *c = calloc(1, sizeof *c);
    if (!c)
        return MESH_E_NOMEM;
    c->files = *files;
    *ret = c;
    return 0;
}

void mesh_tls_creds_free(struct mesh_tls_creds *c) {
    if (!c)
        return;
    SSL_CTX_free(c->ctx);
    free(c);
}

void mesh_tls_creds_doubt(struct mesh_tls_creds *c) {
    c->doubted = true;
}

/* ---- files ------------------------------------------------------------------------------------------------
 */
struct pem {
    uint8_t *bytes;
    size_t len;
};

static void pem_done(struct pem *f) {
    if (f->bytes)
        OPENSSL_cleanse(f->bytes, f->len);
    free(f->bytes);
}

static int read_all(int fd, const char *path, struct pem *ret, struct mesh_why *why) {
    struct stat st;
    int rc = mesh_sys_fstat(fd, &st);
    if (rc < 0)
        return mesh_why(why, MESH_E_IO, "%s: %s", path, strerrordesc_np(-rc));
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
        return mesh_why(why, MESH_E_LIMIT, "%s: not a file, or longer than 4 MiB", path);
    ret->bytes = malloc((size_t)st.st_size + 1);
    if (!ret->bytes)
        return mesh_why(why, MESH_E_NOMEM, "%s: out of memory", path);
    while (ret->len < (size_t)st.st_size) {
        ssize_t n = mesh_sys_read(fd, ret->bytes + ret->len, (size_t)st.st_size - ret->len);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return mesh_why(why, MESH_E_IO, "%s: %s", path, strerrordesc_np((int)-n));
        if (n == 0)
            break;
        ret->len += (size_t)n;
    }
    return 0;
}

static int pem_read(const char *path, struct pem *ret, struct mesh_why *why) {
    int fd = mesh_sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0)
        return mesh_why(why, MESH_E_IO, "%s: %s", path, strerrordesc_np(-fd));
    int err = read_all(fd, path, ret, why);
    mesh_sys_close(fd);
    if (err) {
        pem_done(ret);
        *ret = (struct pem){NULL, 0};
    }
    return err;
}

/* ---- into a context ---------------------------------------------------------------------------------------
 */
/* Never asks a terminal for a password. */
static int no_password(char *buf, int size, int rwflag, void *arg) {
    return -1;
}

static int load_roots(SSL_CTX *ctx, const char *path, struct mesh_why *why) {
    struct pem file = {NULL, 0};
    int n = 0, err = pem_read(path, &file, why);
    if (err)
        return err;
    BIO *bio = BIO_new_mem_buf(file.bytes, (int)file.len);
    for (X509 *cert; bio && (cert = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL)); n++) {
        (void)X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx),
                                  cert); /* one that is there already is no matter */
        X509_free(cert);
    }
    BIO_free(bio);
    pem_done(&file);
    return n ? 0 : mesh_why(why, MESH_E_SYNTAX, "%s: no certificate in it", path);
}

static int load_system_roots(SSL_CTX *ctx, struct mesh_why *why) {
    for (size_t i = 0; i < sizeof system_roots / sizeof *system_roots; i++)
        if (load_roots(ctx, system_roots[i], NULL) == 0)
            return 0;
    return mesh_why(why, MESH_E_IO,
                    "this system has no roots where they usually are; name a ca_certificate_file");
}

static int load_cert(SSL_CTX *ctx, const char *path, struct mesh_why *why) {
    struct pem file = {NULL, 0};
    int n = 0, err = pem_read(path, &file, why);
    if (err)
        return err;
    BIO *bio = BIO_new_mem_buf(file.bytes, (int)file.len);
    for (X509 *cert; bio && !err && (cert = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL)); n++) {
        bool ok = n ? SSL_CTX_add1_chain_cert(ctx, cert) == 1 : SSL_CTX_use_certificate(ctx, cert) == 1;
        X509_free(cert);
        if (!ok)
            err = mesh_why(why, MESH_E_INVALID, "%s: a certificate that cannot be used", path);
    }
    BIO_free(bio);
    pem_done(&file);
    return err || n ? err : mesh_why(why, MESH_E_SYNTAX, "%s: no certificate in it", path);
}

static int load_key(SSL_CTX *ctx, const char *path, struct mesh_why *why) {
    struct pem file = {NULL, 0};
    int err = pem_read(path, &file, why);
    if (err)
        return err;
    BIO *bio = BIO_new_mem_buf(file.bytes, (int)file.len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    if (!key)
        err = mesh_why(why, MESH_E_SYNTAX, "%s: no private key in it that can be read", path);
    else if (SSL_CTX_use_PrivateKey(ctx, key) != 1)
        err = mesh_why(why, MESH_E_INVALID, "%s: the key does not belong to the certificate", path);
    EVP_PKEY_free(key);
    BIO_free(bio);
    pem_done(&file);
    return err;
}

static int load(const struct mesh_tls_channel_files *files, SSL_CTX *ctx, struct mesh_why *why) {
    SSL_CTX_set_security_level(ctx, 2);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_verify_depth(ctx, VERIFY_DEPTH);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
        return MESH_E_NOMEM;
    int err = files->ca ? load_roots(ctx, files->ca, why) : load_system_roots(ctx, why);
    if (!err && files->cert)
        err = load_cert(ctx, files->cert, why);
    if (!err && files->key)
        err = load_key(ctx, files->key, why);
    return err;
}

int mesh_tls_creds_get(struct mesh_tls_creds *c, uint64_t now, SSL_CTX **ret_ctx, struct mesh_why *why) {
    if (!c->ctx || c->doubted || now - c->loaded >= c->files.refresh) {
        SSL_CTX *ctx = mesh_tls_start() == 0 ? SSL_CTX_new(TLS_client_method()) : NULL;
        int err = ctx ? load(&c->files, ctx, why) : mesh_why(why, MESH_E_NOMEM, "out of memory");
        ERR_clear_error();
        SSL_CTX *old = err ? ctx : c->ctx;
        if (!err) {
            c->ctx = ctx;
            c->doubted = false;
        }
        SSL_CTX_free(old);
        c->loaded = now;
        if (!c->ctx)
            return err;
    }
    *ret_ctx = c->ctx;
    return 0;
}
