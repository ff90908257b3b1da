/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of the library's link only. OpenSSL's variables are meant for the program's own OpenSSL, and its exit
 * handler would free what other threads still use: the linker leads those calls here (--wrap).
 */
#include "shim/link/private.h"

#include <stdio.h>
#include <string.h>

#include "shim/real.h"

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
