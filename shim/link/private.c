/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of the library's link only. OpenSSL's variables are meant for the program's own OpenSSL, and its exit
 * handler would free what other threads still use; a linked-in library's `close` would come in again through
 * our own door: the linker leads those calls here (--wrap, MESH_WRAPPED of the Makefile).
 */
#include "shim/link/private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/real.h"

int mesh_private_socket(int family, int type, int protocol);
int mesh_private_bind(int fd, const struct sockaddr *sa, socklen_t len);
int mesh_private_connect(int fd, const struct sockaddr *sa, socklen_t len);
int mesh_private_getsockname(int fd, struct sockaddr *ret_sa, socklen_t *io_len);
int mesh_private_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int mesh_private_fcntl(int fd, int cmd, ...);
int mesh_private_close(int fd);
ssize_t mesh_private_send(int fd, const void *p, size_t n, int flags);
ssize_t mesh_private_recv(int fd, void *p, size_t n, int flags);
ssize_t mesh_private_recvfrom(int fd, void *p, size_t n, int flags, struct sockaddr *ret_sa,
                              socklen_t *io_len);
ssize_t mesh_private_writev(int fd, const struct iovec *iov, int n);
FILE *mesh_private_fopen(const char *path, const char *mode);
int mesh_private_fclose(FILE *f);
int mesh_private_rand(void);
void *mesh_private_malloc(size_t n);
void *mesh_private_realloc(void *p, size_t n);
void mesh_private_free(void *p);
void mesh_private_assert_fail(const char *what, const char *file, unsigned line, const char *function);
char *__wrap_ossl_safe_getenv(const char *name);
char *__wrap_getenv(const char *name);
char *__real_getenv(const char *name);
int __wrap_atexit(void (*handler)(void));

char *__wrap_ossl_safe_getenv(const char *name) {
    return NULL;
}

char *__wrap_getenv(const char *name) {
    return strncmp(name, "OPENSSL_", 8) == 0 ? NULL : __real_getenv(name);
}

int __wrap_atexit(void (*handler)(void)) {
    return 0;
}

/* ---- c-ares and nghttp2: the Makefile gives their archives these names in place of libc's (PRIVATE_CARES)
 * -------- c-ares's sockets are resolver/dns.c's, but what it would make of its own, and files, must not come
 * in through our door. Its pointers to malloc and the like would be looked up by the loader, in every
 * program. */
static long result(long rc) {
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}

int mesh_private_socket(int family, int type, int protocol) {
    return (int)result(mesh_sys_socket(family, type | SOCK_CLOEXEC, protocol));
}

int mesh_private_bind(int fd, const struct sockaddr *sa, socklen_t len) {
    return (int)result(mesh_sys3(SYS_bind, fd, (long)sa, (long)len));
}

int mesh_private_connect(int fd, const struct sockaddr *sa, socklen_t len) {
    return (int)result(mesh_sys_connect(fd, sa, len));
}

int mesh_private_getsockname(int fd, struct sockaddr *ret_sa, socklen_t *io_len) {
    return (int)result(mesh_sys_getsockname(fd, ret_sa, io_len));
}

int mesh_private_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    return (int)result(mesh_sys_setsockopt(fd, level, name, value, len));
}

int mesh_private_fcntl(int fd, int cmd, ...) {
    va_list ap;
    va_start(ap, cmd);
    long arg = va_arg(ap, long);
    va_end(ap);
    return (int)result(mesh_sys_fcntl(fd, cmd, arg));
}

int mesh_private_close(int fd) {
    return (int)result(mesh_sys_close(fd));
}

ssize_t mesh_private_send(int fd, const void *p, size_t n, int flags) {
    return result(mesh_sys_sendto(fd, p, n, flags, NULL, 0));
}

ssize_t mesh_private_recv(int fd, void *p, size_t n, int flags) {
    return result(mesh_sys_recvfrom(fd, p, n, flags, NULL, NULL));
}

ssize_t mesh_private_recvfrom(int fd, void *p, size_t n, int flags, struct sockaddr *ret_sa,
                              socklen_t *io_len) {
    return result(mesh_sys_recvfrom(fd, p, n, flags, ret_sa, io_len));
}

ssize_t mesh_private_writev(int fd, const struct iovec *iov, int n) {
    return result(mesh_sys_writev(fd, iov, n));
}

/* A child of the program that is started meanwhile does not get the file. */
FILE *mesh_private_fopen(const char *path, const char *mode) {
    char closing[8];
    snprintf(closing, sizeof closing, "%.6se", mode);
    return fopen(path, closing);
}

int mesh_private_fclose(FILE *f) {
    return real.fclose(f);
}

/* The program's sequence is its own. */
int mesh_private_rand(void) {
    return (int)(mesh_random() >> 33);
}

void *mesh_private_malloc(size_t n) {
    return malloc(n);
}

void *mesh_private_realloc(void *p, size_t n) {
    return realloc(p, n);
}

void mesh_private_free(void *p) {
    free(p);
}

/* Their assertions are live, and the program must not die of one: this thread of ours is what ends, by never
 * coming back. The publisher's lease runs out and another process takes over. */
void mesh_private_assert_fail(const char *what, const char *file, unsigned line, const char *function) {
    struct mesh_line l;
    struct timespec hour = {3600, 0};
    mesh_line_begin(&l, MESH_TRACE_ERROR, "view");
    mesh_line_str(&l, "state", "assertion");
    mesh_line_str(&l, "detail", what);
    mesh_line_end(&l);
    for (;;)
        (void)mesh_sys_ppoll(NULL, 0, &hour, NULL);
}

/* The library is linked without gcc's start files, which would look up six names that nobody has; this is the
 * one thing of theirs that libc's static part asks for. */
void *__dso_handle __attribute__((visibility("hidden"))) = &__dso_handle;

/* Ours, for the linked-in libraries: libc's would be looked up in every program, and code that is not
 * position-independent (Debian's libnghttp2.a) cannot reach them. */
#undef stdin
#undef stderr
__attribute__((visibility("hidden"))) FILE *stdin, *stderr;

void mesh_private_start(void) {
    FILE **in = mesh_real_lookup("stdin"), **err = mesh_real_lookup("stderr");
    stdin = in ? *in : NULL;
    stderr = err ? *err : NULL;
}
