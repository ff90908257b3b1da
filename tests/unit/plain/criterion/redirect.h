/* SPDX-License-Identifier: Apache-2.0
 *
 * Standard output of a test in a file, to look at it: see criterion.h beside this.
 */
#ifndef MESH_UNIT_PLAIN_REDIRECT_H
#define MESH_UNIT_PLAIN_REDIRECT_H

#include <criterion/criterion.h>

static FILE *plain_stdout;

static inline void cr_redirect_stdout(void) {
    if (!(plain_stdout = tmpfile()) || dup2(fileno(plain_stdout), 1) < 0)
        _exit(1);
}

static inline bool plain_stdout_is(const char *want) {
    static char text[1 << 16];
    fflush(stdout);
    ssize_t n = pread(fileno(plain_stdout), text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    return strcmp(text, want) == 0;
}

#define cr_assert_stdout_eq_str(want, ...)                                                                   \
    PLAIN_CHECK(true, plain_stdout_is(want), "standard output is " #want)

#endif
