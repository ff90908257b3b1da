/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/slab_fd.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "shim/base/sys.h"
#include "shim/fd.h"

enum {
    PARKED_AT = 1000,  /* the first number tried */
    BELOW_LIMIT = 24,  /* or that many below a lower limit */
    LEAST_LIMIT = 128, /* a process with fewer descriptors misses the one */
};

static _Atomic int number = -1;
static uint64_t kept_inode;

/* The kernel copies a descriptor table up to its highest number at every fork: high, but not at the limit. */
static int park(int fd) {
    uint64_t limit = mesh_sys_limit(RLIMIT_NOFILE);
    if (limit < LEAST_LIMIT)
        return -1;
    int from = limit > PARKED_AT + BELOW_LIMIT ? PARKED_AT : (int)limit - BELOW_LIMIT;
    int at = mesh_sys_fcntl(fd, F_DUPFD_CLOEXEC, from);
    if (at >= MESH_FD_MAX) {
        (void)mesh_sys_close(at);
        at = -1;
    }
    return at;
}

int mesh_slab_fd_new(size_t size) {
    if (mesh_sys_limit(RLIMIT_FSIZE) < size) /* SIGXFSZ */
        return -1;
    int low = mesh_sys_memfd_create("meshshim", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (low < 0)
        return -1;
    int fd = -1;
    if (mesh_sys_ftruncate(low, (off_t)size) == 0 &&
        mesh_sys_fcntl(low, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        fd = park(low);
    (void)mesh_sys_close(low);
    return fd < 0 ? -1 : fd;
}

void mesh_slab_fd_keep(int fd) {
    struct stat st;
    if (fd < 0 || mesh_sys_fstat(fd, &st))
        return;
    kept_inode = st.st_ino;
    atomic_store(&number, fd);
    mesh_fd_set(fd, MESH_FD_OURS, 0);
    atomic_store(&mesh_armed, 1); /* ranges are closed around it */
}

size_t mesh_slab_fd_size(int fd) {
    struct stat st;
    int seals = mesh_sys_fcntl(fd, F_GET_SEALS, 0); /* a memfd's alone */
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || mesh_sys_fstat(fd, &st) || st.st_uid != mesh_sys_geteuid())
        return 0;
    return (size_t)st.st_size;
}

int mesh_slab_fd_number(void) {
    return atomic_load_explicit(&number, memory_order_relaxed);
}

int mesh_slab_fd(void) {
    struct stat st;
    int fd = mesh_slab_fd_number();
    if (fd < 0 || mesh_sys_fstat(fd, &st) || st.st_ino != kept_inode ||
        mesh_sys_fcntl(fd, F_GET_SEALS, 0) < 0)
        return -1;
    return fd;
}

void mesh_slab_fd_lost(void) {
    atomic_store(&number, -1);
}

void mesh_slab_fd_move(void) {
    int fd = mesh_slab_fd();
    int to = fd < 0 ? -1 : mesh_sys_fcntl(fd, F_DUPFD_CLOEXEC, fd + 1);
    if (fd >= 0) {
        mesh_fd_clear(fd);
        (void)mesh_sys_close(fd);
    }
    mesh_slab_fd_lost();
    mesh_slab_fd_keep(to < MESH_FD_MAX ? to : -1);
}

/* ---- locks ---- */

bool mesh_slab_fd_lock(uint32_t entry) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = entry, .l_len = 1};
    int fd = mesh_slab_fd();
    return fd >= 0 && mesh_sys_fcntl(fd, F_SETLK, (long)&l) == 0;
}

void mesh_slab_fd_unlock(void) {
    struct flock l = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    int fd = mesh_slab_fd();
    if (fd >= 0)
        (void)mesh_sys_fcntl(fd, F_SETLK, (long)&l);
}

bool mesh_slab_fd_locked(uint32_t entry) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = entry, .l_len = 1};
    int fd = mesh_slab_fd();
    return fd < 0 || mesh_sys_fcntl(fd, F_GETLK, (long)&l) != 0 || l.l_type != F_UNLCK;
}
