/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ticket_file.h"

#include <stdio.h>
#include <sys/mman.h>

#include "resolver/resolver.h"
#include "shim/base/sys.h"
#include "tls/tls.h"

enum { TRIES = 3 };
static const char name[] = "tickets";

static void *map(int fd) {
    void *p;
    return mesh_sys_mmap(NULL, mesh_tickets_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &p) ? NULL : p;
}

static bool is_ours(int fd, uid_t uid) {
    struct stat st;
    return mesh_sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == uid &&
           (st.st_mode & 0777) == 0600 && st.st_nlink == 1 && (size_t)st.st_size == mesh_tickets_size();
}

/* What is there, when it is as we make it. -ENOENT: nothing is. */
static int attach(int dir, uid_t uid, void **ret_p) {
    int fd = mesh_sys_openat(dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    void *p = is_ours(fd, uid) ? map(fd) : NULL;
    mesh_sys_close(fd);
    if (p && !mesh_tickets_whole(p)) {
        (void)mesh_sys_munmap(p, mesh_tickets_size());
        p = NULL;
    }
    if (!p)
        return -EINVAL;
    *ret_p = p;
    return 0;
}

/* Its bytes are taken before it is mapped: a full disk is an error here, not a signal later. */
static void *make(int dir, const char *fresh) {
    (void)mesh_sys_unlinkat(dir, fresh, 0); /* of a process with our number that was killed */
    int fd = mesh_sys_openat(dir, fresh, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    void *p = mesh_sys_fchmod(fd, 0600) == 0 && mesh_sys_fallocate(fd, 0, 0, (off_t)mesh_tickets_size()) == 0
                  ? map(fd)
                  : NULL;
    mesh_sys_close(fd);
    if (p && mesh_tickets_format(p)) {
        (void)mesh_sys_munmap(p, mesh_tickets_size());
        p = NULL;
    }
    return p;
}

/* Whole when it appears under its name. Who was first is taken by all others; what is damaged is replaced. */
static void *create(int dir, bool replace) {
    char fresh[sizeof name + 16];
    snprintf(fresh, sizeof fresh, "%s.%d", name, mesh_sys_getpid());
    void *p = make(dir, fresh);
    int err = !p        ? -ENOSPC
              : replace ? mesh_sys_renameat(dir, fresh, dir, name)
                        : mesh_sys_linkat(dir, fresh, dir, name, 0);
    (void)mesh_sys_unlinkat(dir, fresh, 0);
    if (p && err) {
        (void)mesh_sys_munmap(p, mesh_tickets_size());
        p = NULL;
    }
    return p;
}

void mesh_ticket_file_use(const char *run_dir) {
    struct mesh_why why = {""};
    uid_t uid = mesh_sys_geteuid();
    int dir = run_dir ? mesh_run_dir_open(run_dir, uid, &why) : -ENOENT; /* the view has complained already */
    if (dir < 0)
        return;
    void *p = NULL;
    for (int i = 0; !p && i < TRIES; i++) {
        int err = attach(dir, uid, &p);
        if (err)
            p = create(dir, err != -ENOENT);
    }
    mesh_sys_close(dir);
    if (p)
        mesh_tickets_use(p);
}
