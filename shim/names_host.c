// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "shim/names.h"
#include "shim/real.h"

/* ---- the _r forms
 * ----------------------------------------------------------------------------------------------- */

/* One look-up as the caller wants it answered; `h_err` may be the thread's own h_errno. */
struct request {
    int family;
    struct hostent *he;
    char *buf;
    size_t len;
    struct hostent **result;
    int *h_err;
    int rc;
};

/* libc answers "no such name" with 0 and no result, "try again" with EAGAIN, a small buffer with ERANGE. */
static int fail(const struct request *r, int h_err, int rc) {
    *r->result = NULL;
    *r->h_err = h_err;
    if (rc != 0)
        errno = rc;
    return rc;
}

static int give(const struct request *r, const char *name, const struct mesh_names_addrs *addrs) {
    if (addrs->n == 0)
        return fail(r, NO_DATA, 0);
    int rc = mesh_names_hostent_build(name, addrs, r->he, r->buf, r->len);
    if (rc != 0)
        return fail(r, NETDB_INTERNAL, rc);
    *r->h_err = NETDB_SUCCESS;
    *r->result = r->he;
    return 0;
}

static bool ask_libc(void *arg, const char *name) {
    struct request *r = arg;
    r->rc = real.gethostbyname2_r(name, r->family, r->he, r->buf, r->len, r->result, r->h_err);
    return *r->result || *r->h_err == NETDB_INTERNAL;
}

static int give_apart(struct request *r, const char *name, bool again) {
    r->rc = fail(r, HOST_NOT_FOUND, 0);
    mesh_names_apart(name, ask_libc, r);
    return again && !*r->result && *r->h_err != NETDB_INTERNAL ? fail(r, TRY_AGAIN, EAGAIN) : r->rc;
}

/* False: libc's. */
static bool judge_name(const char *name, int family, struct mesh_names_found *ret) {
    if (!name || (family != AF_INET && family != AF_INET6))
        return false;
    mesh_names_find(name, NULL, MESH_NAMES_SEARCH | MESH_NAMES_WAIT, ret);
    return ret->verdict != MESH_NAMES_LIBC;
}

static int give_name(const char *name, const struct mesh_names_found *f, struct request r) {
    struct mesh_names_addrs addrs;
    switch (f->verdict) {
    case MESH_NAMES_MESH:
        mesh_names_addrs_pick(&f->answer, r.family, false, false, &addrs);
        return give(&r, f->answer.canon, &addrs);
    case MESH_NAMES_AGAIN:
        return fail(&r, TRY_AGAIN, EAGAIN);
    case MESH_NAMES_FAIL:
        return fail(&r, NO_RECOVERY, 0);
    case MESH_NAMES_APART:
        return give_apart(&r, name, f->again);
    case MESH_NAMES_DENIED:
    case MESH_NAMES_LIBC:
        break;
    }
    return fail(&r, HOST_NOT_FOUND, 0);
}

/* `name`: whose address it is, or NULL: a virtual address that nothing has. */
static int give_addr(const void *addr, const char *name, struct request r) {
    struct mesh_names_addrs addrs;
    if (!name)
        return fail(&r, HOST_NOT_FOUND, 0);
    addrs.n = 1;
    addrs.a[0].family = r.family == AF_INET ? 4 : 6;
    memcpy(addrs.a[0].addr, addr, r.family == AF_INET ? 4 : 16);
    return give(&r, name, &addrs);
}

int shim_gethostbyname2_r(const char *name, int family, struct hostent *he, char *buf, size_t len,
                          struct hostent **result, int *h_err) {
    struct mesh_names_found f;
    if (!judge_name(name, family, &f))
        return real.gethostbyname2_r(name, family, he, buf, len, result, h_err);
    return give_name(name, &f, (struct request){family, he, buf, len, result, h_err, 0});
}

int shim_gethostbyname_r(const char *name, struct hostent *he, char *buf, size_t len, struct hostent **result,
                         int *h_err) {
    struct mesh_names_found f;
    if (!judge_name(name, AF_INET, &f))
        return real.gethostbyname_r(name, he, buf, len, result, h_err);
    return give_name(name, &f, (struct request){AF_INET, he, buf, len, result, h_err, 0});
}

int shim_gethostbyaddr_r(const void *addr, socklen_t addr_len, int family, struct hostent *he, char *buf,
                         size_t len, struct hostent **result, int *h_err) {
    char name[MESH_NAME_MAX + 1];
    enum mesh_names_verdict verdict = mesh_names_find_addr(family, addr, addr_len, name);
    if (verdict == MESH_NAMES_LIBC)
        return real.gethostbyaddr_r(addr, addr_len, family, he, buf, len, result, h_err);
    return give_addr(addr, verdict == MESH_NAMES_MESH ? name : NULL,
                     (struct request){family, he, buf, len, result, h_err, 0});
}

/* ---- the forms without a buffer
 * ----------------------------------------------------------------------------------- */

/* What they hand out lives until the thread's next call, in a block that the thread's end frees. It holds the
 * largest answer of ours, and libc's for a single label of which some expansions are denied. */
struct thread_buffer {
    struct hostent he;
    char text[8192];
};

static pthread_key_t buffer_key;
static int buffer_key_error;

static void make_buffer_key(void) {
    buffer_key_error = pthread_key_create(&buffer_key, free);
}

/* The thread's buffer as a request; false: out of memory. */
static bool thread_request(int family, struct hostent **result, struct request *ret) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_buffer_key);
    struct thread_buffer *b = buffer_key_error == 0 ? pthread_getspecific(buffer_key) : NULL;
    if (!b && buffer_key_error == 0 && (b = malloc(sizeof *b)) && pthread_setspecific(buffer_key, b) != 0) {
        free(b);
        b = NULL;
    }
    if (!b) {
        h_errno = NETDB_INTERNAL;
        errno = ENOMEM;
        return false;
    }
    *result = NULL;
    *ret = (struct request){family, &b->he, b->text, sizeof b->text, result, &h_errno, 0};
    return true;
}

struct hostent *shim_gethostbyname2(const char *name, int family) {
    struct mesh_names_found f;
    struct request r;
    struct hostent *result = NULL;
    if (!judge_name(name, family, &f))
        return real.gethostbyname2(name, family);
    if (thread_request(family, &result, &r))
        give_name(name, &f, r);
    return result;
}

struct hostent *shim_gethostbyname(const char *name) {
    struct mesh_names_found f;
    struct request r;
    struct hostent *result = NULL;
    if (!judge_name(name, AF_INET, &f))
        return real.gethostbyname(name);
    if (thread_request(AF_INET, &result, &r))
        give_name(name, &f, r);
    return result;
}

struct hostent *shim_gethostbyaddr(const void *addr, socklen_t len, int family) {
    char name[MESH_NAME_MAX + 1];
    struct request r;
    struct hostent *result = NULL;
    enum mesh_names_verdict verdict = mesh_names_find_addr(family, addr, len, name);
    if (verdict == MESH_NAMES_LIBC)
        return real.gethostbyaddr(addr, len, family);
    if (thread_request(family, &result, &r))
        give_addr(addr, verdict == MESH_NAMES_MESH ? name : NULL, r);
    return result;
}
