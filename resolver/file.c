/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strerrordesc_np */
#endif
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "resolver/view.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"

enum {
    LOCK_TRIES = 400,     /* of 5 ms: creating a file takes less than one of them */
    FIRST_RECORDS = 4096, /* granules of the first extent */
    ZERO_CHUNK = 4096,
};
/* Address space kept for the view, tried in this order: a program may run under RLIMIT_AS. */
static const size_t spans[] = {(size_t)4 << 30, (size_t)1 << 30, (size_t)256 << 20, (size_t)64 << 20};

static size_t head_size(void) {
    size_t align = (size_t)VIEW_GRANULE * VIEW_SLAB_GRANULES;
    return (sizeof(struct view_head) + align - 1) / align * align;
}

static size_t first_size(void) {
    return head_size() + (size_t)FIRST_RECORDS * VIEW_GRANULE;
}

/* Number of a field in /proc text that follows the command's closing bracket; field 22 is the start time. */
static uint64_t stat_start(const char *text) {
    const char *p = strrchr(text, ')');
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p ? strtoull(p + 1, NULL, 10) : 0;
}

static ssize_t read_small(const char *path, char *ret_text, size_t cap) {
    int fd = mesh_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    ssize_t n = mesh_sys_read(fd, ret_text, cap - 1);
    mesh_sys_close(fd);
    ret_text[n > 0 ? n : 0] = 0;
    return n;
}

/* A dead process that its parent has not waited for still answers signals: it has no start any more. */
uint64_t mesh_process_start(int pid) {
    char path[40], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    const char *state = read_small(path, text, sizeof text) > 0 ? strrchr(text, ')') : NULL;
    if (state && (strncmp(state, ") Z", 3) == 0 || strncmp(state, ") X", 3) == 0))
        return UINT64_MAX;
    return state ? stat_start(text) : 0;
}

bool mesh_process_lives(int pid, uint64_t start) {
    if (mesh_sys_kill(pid, 0) == -ESRCH)
        return false;
    uint64_t now = start ? mesh_process_start(pid) : 0;
    return !now || now == start;
}

uint64_t mesh_boot_id(void) {
    char text[64];
    ssize_t n = read_small("/proc/sys/kernel/random/boot_id", text, sizeof text);
    return n > 0 ? mesh_hash_bytes(text, (size_t)n, 1) : 0;
}

static int read_all(int fd, char *p, size_t n, size_t *ret_len) {
    size_t have = 0;
    while (have < n) {
        ssize_t r = mesh_sys_read(fd, p + have, n - have);
        if (r == -EINTR)
            continue;
        if (r < 0)
            return (int)r;
        if (r == 0)
            break;
        have += (size_t)r;
    }
    *ret_len = have;
    return 0;
}

int mesh_file_read(const char *path, size_t max, char **ret_text, size_t *ret_len, struct mesh_why *why) {
    struct stat st;
    int rc, fd = mesh_sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0)
        return mesh_why(why, MESH_E_IO, "%s: %s", path, strerrordesc_np(-fd));
    rc = mesh_sys_fstat(fd, &st);
    if (rc < 0 || !S_ISREG(st.st_mode)) {
        rc = mesh_why(why, MESH_E_IO, "%s: %s", path, rc < 0 ? strerrordesc_np(-rc) : "not a regular file");
        goto close_file;
    }
    if (st.st_size < 0 || (uint64_t)st.st_size > max) {
        rc = mesh_why(why, MESH_E_LIMIT, "%s: larger than %zu bytes", path, max);
        goto close_file;
    }
    size_t len = 0;
    char *text = malloc((size_t)st.st_size + 1);
    if (!text) {
        rc = MESH_E_NOMEM;
        goto close_file;
    }
    rc = read_all(fd, text, (size_t)st.st_size, &len);
    if (rc < 0) {
        free(text);
        rc = mesh_why(why, MESH_E_IO, "%s: %s", path, strerrordesc_np(-rc));
        goto close_file;
    }
    text[len] = 0;
    *ret_text = text;
    *ret_len = len;
close_file:
    mesh_sys_close(fd);
    return rc;
}

/* ---- space ------------------------------------------------------------------------------------------------
 */
static int write_zeroes(int fd, off_t from, off_t to) {
    char zeroes[ZERO_CHUNK] = {0};
    while (from < to) {
        size_t n = to - from < (off_t)sizeof zeroes ? (size_t)(to - from) : sizeof zeroes;
        ssize_t r = mesh_sys_pwrite(fd, zeroes, n, from);
        if (r == -EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? (int)r : -EIO;
        from += r;
    }
    return 0;
}

/* Makes sure that the bytes exist on disk, so that touching them through the mapping cannot fail. The file
 * never shrinks, and bytes below its size that hold data are left alone. */
static int allocate(int fd, off_t from, off_t to) {
    struct stat st;
    int rc;
    do
        rc = mesh_sys_fallocate(fd, 0, from, to - from);
    while (rc == -EINTR);
    if (rc != -EOPNOTSUPP && rc != -ENOSYS)
        return rc;
    rc = mesh_sys_fstat(fd, &st);
    if (rc < 0)
        return rc;
    return write_zeroes(fd, st.st_size > from ? st.st_size : from, to);
}

bool mesh_view_reach(const struct mesh_view *v, size_t end) {
    struct mesh_view *w = (struct mesh_view *)v;
    size_t size = atomic_load_explicit(&mesh_view_head(v)->size, memory_order_acquire);
    if (end > size || size > v->span || size % VIEW_GRANULE)
        return false;
    /* The file must be as long as it says: let the kernel look, it answers EFAULT where a load would fault.
     */
    if (mesh_sys6(SYS_rt_sigprocmask, -1, (long)(v->base + size - 8), 0, 8, 0, 0) != -EINVAL)
        return false;
    size_t limit = mesh_view_limit(v);
    while (limit < size && !atomic_compare_exchange_weak(&w->limit, &limit, size))
        ;
    return true;
}

static int grow_file(const struct mesh_view *v, size_t from, size_t to) {
    struct stat st;
    int rc, fd = mesh_sys_open(v->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return MESH_E_IO;
    rc = mesh_sys_fstat(fd, &st);
    if (rc == 0 && (st.st_dev != v->dev || st.st_ino != v->ino))
        rc = -ESTALE;
    if (rc == 0)
        rc = allocate(fd, (off_t)from, (off_t)to);
    mesh_sys_close(fd);
    return rc < 0 ? MESH_E_IO : 0;
}

static uint64_t extent_word(enum view_extent kind, uint32_t first, uint32_t granules) {
    return (uint64_t)kind << 62 | (uint64_t)granules << 32 | first;
}

int mesh_view_grow(struct mesh_view *v, enum view_extent kind, uint32_t granules, uint32_t *ret_first) {
    struct view_head *h = mesh_view_head(v);
    uint32_t first = (uint32_t)(head_size() / VIEW_GRANULE), unit = VIEW_SLAB_GRANULES;
    granules = (granules + unit - 1) / unit * unit;
    if (granules >= 1 << 30)
        return MESH_E_LIMIT;
    for (uint32_t i = 0; i < VIEW_EXTENTS; i++) {
        uint64_t word = atomic_load(&h->extents[i]);
        if (!word) {
            size_t from = (size_t)first * VIEW_GRANULE, to = from + (size_t)granules * VIEW_GRANULE;
            if (to > v->span)
                return MESH_E_LIMIT;
            if (!v->is_private) {
                int rc = grow_file(v, from, to);
                if (rc < 0)
                    return rc;
            }
            if (atomic_compare_exchange_strong(&h->extents[i], &word, extent_word(kind, first, granules))) {
                size_t size = atomic_load(&h->size);
                while (size < to && !atomic_compare_exchange_weak(&h->size, &size, to))
                    ;
                *ret_first = first;
                return mesh_view_reach(v, to) ? 0 : MESH_E_INTERNAL;
            }
        }
        /* taken, by us earlier or by somebody just now: go on behind it */
        if ((uint32_t)word != first)
            return MESH_E_INTERNAL;
        first += (uint32_t)(word >> 32) & 0x3fffffff;
        if ((size_t)first * VIEW_GRANULE > v->span)
            return MESH_E_INTERNAL;
    }
    return MESH_E_LIMIT;
}

/* ---- making and judging a file ----------------------------------------------------------------------------
 */
static void fill_head(struct view_head *h, const uint8_t digest[16], uint64_t boot) {
    h->layout = MESH_VIEW_LAYOUT;
    h->head_size = (uint32_t)head_size();
    memcpy(h->digest, digest, 16);
    h->boot = boot;
    h->seed = mesh_random();
    atomic_store(&h->size, first_size());
    atomic_store(&h->extents[0],
                 extent_word(EXTENT_RECORDS, (uint32_t)(head_size() / VIEW_GRANULE), FIRST_RECORDS));
    __atomic_store_n(&h->magic, VIEW_MAGIC, __ATOMIC_RELEASE);
}

static bool head_fits(const struct view_head *h, const uint8_t digest[16], uint64_t boot, size_t file_size) {
    size_t size = atomic_load(&h->size);
    return h->magic == VIEW_MAGIC && h->layout == MESH_VIEW_LAYOUT && h->head_size == head_size() &&
           memcmp(h->digest, digest, 16) == 0 && h->boot == boot && size <= file_size &&
           size >= first_size() && size % VIEW_GRANULE == 0;
}

static int map_span(int fd, int flags, void **ret_p, size_t *ret_span) {
    int rc = -ENOMEM;
    for (size_t i = 0; i < MESH_ARRAY_LEN(spans) && rc < 0; i++) {
        rc = mesh_sys_mmap(NULL, spans[i], PROT_READ | PROT_WRITE, flags, fd, 0, ret_p);
        *ret_span = spans[i];
    }
    return rc;
}

/* Takes an open file when it is a view of ours. 1: it is, 0: it must be replaced, negative: errno. */
static int take_file(struct mesh_view *v, int fd, const uint8_t digest[16]) {
    struct stat st;
    void *p;
    int rc = mesh_sys_fstat(fd, &st);
    if (rc < 0)
        return rc;
    if (!S_ISREG(st.st_mode) || st.st_uid != v->uid || (st.st_mode & 07777) != 0600 || st.st_nlink != 1 ||
        (uint64_t)st.st_size < first_size())
        return 0;
    if ((uint64_t)st.st_blocks * 512 < (uint64_t)st.st_size && allocate(fd, 0, st.st_size) < 0)
        return 0;
    rc = map_span(fd, MAP_SHARED | MAP_NORESERVE, &p, &v->span);
    if (rc < 0)
        return rc;
    if ((uint64_t)st.st_size > v->span || !head_fits(p, digest, v->boot, (size_t)st.st_size)) {
        mesh_sys_munmap(p, v->span);
        return 0;
    }
    v->base = p;
    v->dev = st.st_dev;
    v->ino = st.st_ino;
    atomic_store(&v->limit, (size_t)st.st_size / VIEW_GRANULE * VIEW_GRANULE);
    return 1;
}

static int make_temporary(int dir, const char *name, const uint8_t digest[16], uint64_t boot) {
    mesh_sys_unlinkat(dir, name, 0); /* of a creator that died: we hold the lock */
    int rc, fd = mesh_sys_openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    void *p;
    if (fd < 0)
        return fd;
    rc = mesh_sys_fchmod(fd, 0600);
    if (rc == 0)
        rc = allocate(fd, 0, (off_t)first_size());
    if (rc == 0)
        rc = mesh_sys_mmap(NULL, head_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &p);
    if (rc == 0) {
        fill_head(p, digest, boot);
        mesh_sys_munmap(p, head_size());
    } else {
        mesh_sys_unlinkat(dir, name, 0);
    }
    mesh_sys_close(fd);
    return rc;
}

/* A record lock: it is the process's own, children do not inherit it, and it ends with the process. */
static int lock_directory(int dir) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc, fd = mesh_sys_openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fd;
    for (int i = 0; i < LOCK_TRIES; i++) {
        rc = mesh_sys_fcntl(fd, F_SETLK, (long)&lock);
        if (rc != -EAGAIN && rc != -EACCES && rc != -EINTR)
            break;
        struct timespec pause = {0, 5000000};
        mesh_sys_ppoll(NULL, 0, &pause, NULL);
    }
    if (rc < 0)
        mesh_sys_close(fd);
    return rc < 0 ? rc : fd;
}

static int try_file(struct mesh_view *v, int dir, const char *name, const uint8_t digest[16]) {
    int fd = mesh_sys_openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd == -ENOENT || fd == -ELOOP || fd == -EISDIR || fd == -ENXIO)
        return 0;
    if (fd < 0)
        return fd;
    int rc = take_file(v, fd, digest);
    mesh_sys_close(fd);
    return rc;
}

static int map_file(struct mesh_view *v, int dir, const char *name, const uint8_t digest[16]) {
    char temporary[48];
    int lock, rc = try_file(v, dir, name, digest);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    lock = lock_directory(dir);
    if (lock < 0)
        return lock;
    rc = try_file(v, dir, name, digest); /* somebody may have made it while we waited */
    if (rc == 0) {
        snprintf(temporary, sizeof temporary, "%s.new", name);
        rc = make_temporary(dir, temporary, digest, v->boot);
        if (rc == 0)
            rc = mesh_sys_renameat(dir, temporary, dir, name);
        if (rc == 0)
            rc = try_file(v, dir, name, digest);
        if (rc == 0)
            rc = -EIO;
    }
    mesh_sys_close(lock);
    return rc < 0 ? rc : 0;
}

/* ---- the directory ----------------------------------------------------------------------------------------
 */
int mesh_run_dir_open(const char *path, uid_t uid, struct mesh_why *why) {
    struct stat st;
    int fd = mesh_sys_open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd == -ENOENT) {
        int rc = mesh_sys_mkdir(path, 0700);
        if (rc < 0 && rc != -EEXIST)
            return rc;
        fd = mesh_sys_open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    }
    if (fd == -ELOOP || fd == -ENOTDIR)
        return mesh_why(why, MESH_E_INVALID, "MESH_RUN_DIR %s: a symbolic link or not a directory", path);
    if (fd < 0)
        return fd;
    int rc = mesh_sys_fstat(fd, &st);
    if (rc == 0 && st.st_uid != uid)
        rc = mesh_why(why, MESH_E_INVALID, "MESH_RUN_DIR %s: owned by uid %u, not by us", path,
                      (unsigned)st.st_uid);
    else if (rc == 0 && (st.st_mode & 0777) != 0700)
        rc = mesh_why(why, MESH_E_INVALID, "MESH_RUN_DIR %s: mode %04o, must be 0700", path,
                      (unsigned)st.st_mode & 07777);
    if (rc < 0) {
        mesh_sys_close(fd);
        return rc;
    }
    return fd;
}

static int map_private(struct mesh_view *v, const uint8_t digest[16]) {
    void *p;
    if (map_span(-1, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, &p, &v->span) < 0)
        return MESH_E_NOMEM;
    v->base = p;
    v->is_private = true;
    atomic_store(&v->limit, v->span);
    fill_head(p, digest, v->boot);
    return 0;
}

static void name_of(const uint8_t digest[16], char ret_name[40]) {
    for (int i = 0; i < 16; i++)
        snprintf(ret_name + 2 * i, 3, "%02x", digest[i]);
    memcpy(ret_name + 32, ".view", 6);
}

int mesh_view_map(struct mesh_view *v, const char *run_dir, const uint8_t digest[16], struct mesh_why *why) {
    char name[40];
    if (!run_dir)
        return map_private(v, digest);
    int rc, dir = mesh_run_dir_open(run_dir, v->uid, why);
    if (dir == MESH_E_INVALID)
        return dir;
    if (dir < 0)
        goto use_private;
    name_of(digest, name);
    rc = map_file(v, dir, name, digest);
    mesh_sys_close(dir);
    if (rc < 0) {
        dir = rc;
        goto use_private;
    }
    size_t n = strlen(run_dir) + sizeof name + 1;
    v->path = malloc(n);
    if (!v->path)
        return MESH_E_NOMEM;
    snprintf(v->path, n, "%s/%s", run_dir, name);
    return 0;
use_private:
    mesh_why(why, 0, "MESH_RUN_DIR %s: %s; the view is private to this process and its children", run_dir,
             strerrordesc_np(-dir));
    return map_private(v, digest);
}
