/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "shim/base/mem.h"

int mesh_why(struct mesh_why *why, int err, const char *fmt, ...) {
    if (!why)
        return err;
    int saved = errno;
    struct mesh_why
        made; /* not in place: an argument may be the old sentence, to be wrapped in a longer one */
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(made.text, sizeof made.text, fmt, ap);
    va_end(ap);
    if (n < 0)
        made.text[0] = 0;
    memcpy(why, &made, sizeof made);
    errno = saved;
    return err;
}

const char *mesh_err_text(int err) {
    static const char *const texts[] = {
#define X(name, text) text,
        MESH_ERR_MAP(X)
#undef X
    };
    if (err == MESH_OK)
        return "success";
    long at = (long)err - MESH_ERR_FIRST_ - 1;
    if (at < 0 || at >= (long)MESH_ARRAY_LEN(texts))
        return "unknown error";
    return texts[at];
}
