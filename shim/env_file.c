/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/env_file.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "shim/base/sys.h"

static int judge(const struct stat *st, uid_t owner, struct mesh_why *why) {
    if (!S_ISREG(st->st_mode))
        return mesh_why(why, MESH_E_INVALID, "not a plain file: ignored");
    if (st->st_uid != owner)
        return mesh_why(why, MESH_E_INVALID, "owned by user %u instead of %u: ignored", st->st_uid, owner);
    if (st->st_mode & (S_IWGRP | S_IWOTH))
        return mesh_why(why, MESH_E_INVALID, "writable by others than its owner: ignored");
    if (st->st_size > MESH_ENV_FILE_MAX)
        return mesh_why(why, MESH_E_INVALID, "larger than %d bytes: ignored", MESH_ENV_FILE_MAX);
    return 0;
}

/* Reads up to size bytes (the file may have shrunk) and terminates them. */
static int read_text(int fd, size_t size, char *text, struct mesh_why *why) {
    size_t have = 0;
    while (have < size) {
        ssize_t n = mesh_sys_read(fd, text + have, size - have);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return mesh_why(why, MESH_E_IO, "cannot be read (error %d): ignored", (int)-n);
        if (n == 0)
            break;
        have += (size_t)n;
    }
    text[have] = 0;
    if (memchr(text, 0, have))
        return mesh_why(why, MESH_E_INVALID, "holds a NUL byte: ignored");
    return 0;
}

int mesh_env_file_read(const char *path, uid_t owner, char **ret_text, struct mesh_why *why) {
    int fd = mesh_sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (fd == -ENOENT || fd == -ENOTDIR)
        return MESH_E_NOTFOUND;
    if (fd < 0)
        return mesh_why(why, MESH_E_IO, "cannot be opened (error %d): ignored", -fd);
    struct stat st;
    char *text = NULL;
    int r = mesh_sys_fstat(fd, &st) < 0 ? mesh_why(why, MESH_E_IO, "cannot be examined: ignored")
                                        : judge(&st, owner, why);
    if (r < 0)
        goto close;
    text = malloc((size_t)st.st_size + 1);
    if (!text) {
        r = MESH_E_NOMEM;
        goto close;
    }
    r = read_text(fd, (size_t)st.st_size, text, why);
    if (r < 0)
        free(text);
    else
        *ret_text = text;
close:
    mesh_sys_close(fd);
    return r;
}

static char *trim(char *from, char *to) {
    while (to > from && strchr(" \t\r", to[-1]))
        to--;
    *to = 0;
    return from + strspn(from, " \t");
}

int mesh_env_file_next(char **io_rest, char **ret_name, char **ret_value) {
    while (**io_rest) {
        char *line = *io_rest, *end = line + strcspn(line, "\n");
        *io_rest = *end ? end + 1 : end;
        line = trim(line, end);
        if (!line[0] || line[0] == '#')
            continue;
        char *equals = strchr(line, '=');
        *ret_name = line;
        if (!equals || !trim(line, equals)[0])
            return MESH_E_SYNTAX;
        *ret_value = equals + 1 + strspn(equals + 1, " \t");
        return 1;
    }
    return 0;
}
