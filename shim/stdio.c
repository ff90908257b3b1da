/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/stdio.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>

#include "shim/bodies.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/real.h"

enum { STREAMS = 256 };

struct stream {
    _Atomic(FILE *) file; /* NULL: free */
    int fd;               /* -1: its descriptor is no longer ours to touch */
};

static struct stream streams[STREAMS];
static FILE *replaced[3]; /* libc's standard streams, while ours stand in for them */

static ssize_t cookie_read(void *cookie, char *buf, size_t n) {
    struct stream *s = cookie;
    return shim_read(s->fd, buf, n);
}

/* stdio takes a short count for an error, so the whole of it goes. */
static ssize_t cookie_write(void *cookie, const char *buf, size_t n) {
    struct stream *s = cookie;
    size_t done = 0;
    while (done < n) {
        ssize_t r = shim_write(s->fd, buf + done, n - done);
        if (r < 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

static int cookie_seek(void *cookie, off64_t *pos, int whence) {
    struct stream *s = cookie;
    off64_t at = lseek64(s->fd, *pos, whence); /* a socket says ESPIPE; freopen may have put a file there */
    if (at < 0)
        return -1;
    *pos = at;
    return 0;
}

static void stand_down(int fd);

static int cookie_close(void *cookie) {
    struct stream *s = cookie;
    int fd = s->fd;
    atomic_store(&s->file, NULL);
    stand_down(fd); /* fclose(stdout) is what closes it: close() must not close the stream once more */
    if (fd < 0)
        return 0;
    return mesh_fd_get(fd) ? shim_close(fd) : real.close(fd);
}

static FILE *stream_open(int fd, const char *mode) {
    static const cookie_io_functions_t calls = {cookie_read, cookie_write, cookie_seek, cookie_close};
    FILE *const taken = (FILE *)&streams;
    for (int i = 0; i < STREAMS; i++) {
        FILE *none = NULL;
        if (!atomic_compare_exchange_strong(&streams[i].file, &none, taken))
            continue;
        streams[i].fd = fd;
        FILE *f = fopencookie(&streams[i], mode, calls);
        atomic_store(&streams[i].file, f);
        if (f)
            f->_fileno = fd; /* fileno() tells it */
        return f;
    }
    errno = EMFILE;
    return NULL;
}

FILE *shim_fdopen(int fd, const char *mode) {
    uint32_t word = mesh_fd_get(fd); /* what is no connection yet may become one under its stream */
    if (mesh_fd_kind(word) != MESH_FD_CONN && !mesh_fd_unconnected(word))
        return real.fdopen(fd, mode);
    if (!mode || !strchr("rwa", mode[0])) {
        errno = EINVAL;
        return NULL;
    }
    return stream_open(fd, mode);
}

int shim_vdprintf(int fd, const char *format, va_list ap) {
    uint32_t word = mesh_fd_get(fd);
    if (mesh_fd_kind(word) != MESH_FD_CONN && !mesh_fd_unconnected(word))
        return real.vdprintf(fd, format, ap);
    char *text;
    int n = vasprintf(&text, format, ap);
    if (n < 0)
        return n;
    struct stream s = {.fd = fd};
    int sent = (int)cookie_write(&s, text, (size_t)n);
    free(text);
    return sent == n ? n : -1;
}

/* The program's variables: libc's own, or the copy in the executable that stands for them. Never ours, which
 * only serve the libraries inside this one (shim/link/private.h). */
static FILE **standard(int fd) {
    static const char *const names[] = {"stdin", "stdout", "stderr"};
    static FILE **found[3];
    if (!found[fd])
        found[fd] = dlsym(RTLD_DEFAULT, names[fd]);
    return found[fd];
}

void mesh_stdio_took(int fd) {
    if (fd < 0 || fd > 2 || replaced[fd] || !standard(fd))
        return;
    FILE *f = stream_open(fd, fd ? "w" : "r");
    if (!f)
        return;
    if (fd == 2)
        setvbuf(f, NULL, _IONBF, 0);
    replaced[fd] = *standard(fd);
    *standard(fd) = f;
}

static void stand_down(int fd) {
    if (fd < 0 || fd > 2 || !replaced[fd])
        return;
    *standard(fd) = replaced[fd];
    replaced[fd] = NULL;
}

void mesh_stdio_leaves(int fd) {
    if (fd < 0 || fd > 2 || !replaced[fd])
        return;
    FILE *f = *standard(fd);
    stand_down(fd);
    if (fd)
        fflush(f);
    for (int i = 0; i < STREAMS; i++)
        if (atomic_load(&streams[i].file) == f)
            streams[i].fd = -1;
    real.fclose(f);
}

static struct stream *stream_of(const FILE *file) {
    for (int i = 0; file && i < STREAMS; i++)
        if (atomic_load(&streams[i].file) == file)
            return &streams[i];
    return NULL;
}

static int flags_of(const char *mode) {
    int flags = mode[0] == 'r' ? 0 : mode[0] == 'w' ? O_CREAT | O_TRUNC : O_CREAT | O_APPEND;
    flags |= strchr(mode, '+') ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
    return flags | (strchr(mode, 'e') ? O_CLOEXEC : 0) | (strchr(mode, 'x') ? O_EXCL : 0);
}

/* libc cannot open a file on a stream of ours: the file is put on its descriptor, and the stream goes on with
 * that. */
FILE *shim_freopen(const char *path, const char *mode, FILE *file) {
    enum { NO_READS = 4, NO_WRITES = 8, APPENDING = 0x1000 }; /* libc's */
    for (int fd = 0; fd < 3; fd++)
        if (replaced[fd] && *standard(fd) == file) { /* libc's own takes over */
            mesh_stdio_leaves(fd);
            return real.freopen(path, mode, *standard(fd));
        }
    struct stream *s = stream_of(file);
    if (!s)
        return real.freopen(path, mode, file);
    (void)fflush(file);
    int fd = path && strchr("rwa", mode[0]) ? shim_open(path, flags_of(mode), 0666) : (errno = EINVAL, -1);
    bool there = fd >= 0 && shim_dup3(fd, s->fd, strchr(mode, 'e') ? O_CLOEXEC : 0) >= 0;
    int err = errno;
    if (fd >= 0)
        (void)shim_close(fd);
    if (!there) {
        (void)real.fclose(file);
        errno = err;
        return NULL;
    }
    __fpurge(file);
    clearerr(file);
    file->_flags &= ~(NO_READS | NO_WRITES | APPENDING);
    file->_flags |= strchr(mode, '+') ? 0 : mode[0] == 'r' ? NO_WRITES : NO_READS;
    return file;
}

void mesh_stdio_flush(void) {
    for (int i = 0; i < STREAMS; i++) {
        FILE *f = atomic_load(&streams[i].file);
        if (f && f != (FILE *)&streams && __fwriting(f))
            fflush(f);
    }
}
