/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/real.h"
#include "shim/spawn_actions.h"

#include <errno.h>
#include <stdlib.h>

#include "shim/base/sys.h"
#include "shim/conn.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/slab_fd.h"

enum tag { CLOSE, DUP2, OPEN, CHDIR, FCHDIR, CLOSEFROM, TCSETPGRP };

struct record {
    int tag; /* enum tag */
    int pad;
    union {
        struct {
            int fd, to; /* fd of CLOSE, OPEN, FCHDIR, TCSETPGRP, the first of CLOSEFROM */
        };
        const char *directory;
    };
    char *path; /* OPEN */
    int flags;
    mode_t mode;
};

static const struct record *records(const posix_spawn_file_actions_t *actions, int *ret_n) {
    *ret_n = actions ? actions->__used : 0;
    return actions ? (const struct record *)actions->__actions : NULL;
}

static bool known(void) {
    static _Atomic int answer; /* 1 yes, 2 no */
    posix_spawn_file_actions_t a;
    int n;
    if (atomic_load(&answer))
        return atomic_load(&answer) == 1;
    if (posix_spawn_file_actions_init(&a))
        return false;
    bool yes = posix_spawn_file_actions_adddup2(&a, 5, 6) == 0 &&
               posix_spawn_file_actions_addopen(&a, 7, "/", 8, 9) == 0;
    const struct record *r = records(&a, &n);
    yes = yes && n == 2 && r[0].tag == DUP2 && r[0].fd == 5 && r[0].to == 6 && r[1].tag == OPEN &&
          r[1].fd == 7 && r[1].path && r[1].path[0] == '/' && r[1].flags == 8 && r[1].mode == 9;
    posix_spawn_file_actions_destroy(&a);
    atomic_store(&answer, yes ? 1 : 2);
    return yes;
}

/* ---- what becomes of our descriptors ---- */

struct change { /* a number that the actions touched */
    int fd;
    uint32_t slot; /* UINT32_MAX: no connection */
};

struct table {
    struct change *changes;
    int n;
};

static uint32_t slot_of(int fd) {
    uint32_t slot, word = mesh_fd_get(fd);
    (void)mesh_fd_conn(fd, &slot); /* somebody may have connected it meanwhile */
    if ((mesh_fd_kind(word) != MESH_FD_CONN && mesh_fd_kind(word) != MESH_FD_KIN) ||
        atomic_load(&mesh_conn_at(mesh_fd_slot(word))->state) == MESH_CONN_RAW)
        return UINT32_MAX;
    return mesh_fd_slot(word);
}

static struct change *find(const struct table *t, int fd) {
    for (int i = 0; i < t->n; i++)
        if (t->changes[i].fd == fd)
            return &t->changes[i];
    return NULL;
}

static void put(struct table *t, int fd, uint32_t slot) {
    struct change *c = find(t, fd);
    if (!c)
        c = &t->changes[t->n++];
    *c = (struct change){fd, slot};
}

static uint32_t get(const struct table *t, int closed_from, int fd) {
    const struct change *c = find(t, fd);
    return c ? c->slot : fd >= closed_from ? UINT32_MAX : slot_of(fd);
}

static void inherited(const struct table *t, int closed_from, struct mesh_crossing *x) {
    for (int fd = 0; fd <= (int)mesh_fd_highest() && fd < closed_from; fd++) {
        uint32_t slot = slot_of(fd);
        int flags = slot == UINT32_MAX || find(t, fd) ? -1 : mesh_sys_fcntl(fd, F_GETFD, 0);
        if (flags >= 0 && !(flags & FD_CLOEXEC))
            (void)mesh_crossing_add(x, fd, slot);
    }
}

int mesh_spawn_simulate(const posix_spawn_file_actions_t *actions, struct mesh_crossing *x, bool *ret_moved) {
    int n, closed_from = MESH_FD_MAX;
    const struct record *r = records(actions, &n);
    struct table t = {NULL, 0};
    *ret_moved = false;
    if (n && !known())
        return ENOTSUP;
    if (n && !(t.changes = calloc((size_t)n, sizeof *t.changes)))
        return ENOMEM;
    for (int i = 0; i < n; i++) {
        if (r[i].tag == DUP2) {
            put(&t, r[i].to, get(&t, closed_from, r[i].fd));
        } else if (r[i].tag == CLOSE || r[i].tag == OPEN) {
            put(&t, r[i].fd, UINT32_MAX);
        } else if (r[i].tag == CLOSEFROM) {
            closed_from = r[i].fd < closed_from ? r[i].fd : closed_from;
            for (int k = 0; k < t.n; k++)
                if (t.changes[k].fd >= r[i].fd)
                    t.changes[k].slot = UINT32_MAX;
        }
        *ret_moved |= r[i].tag == CHDIR || r[i].tag == FCHDIR;
    }
    inherited(&t, closed_from, x);
    for (int k = 0; k < t.n; k++)
        if (t.changes[k].slot != UINT32_MAX)
            (void)mesh_crossing_add(x, t.changes[k].fd, t.changes[k].slot);
    free(t.changes);
    return x->lacking ? ENOMEM : 0;
}

/* ---- the copy ---- */

/* closefrom() around two numbers: everything that would be left open, one by one. */
static int close_around(posix_spawn_file_actions_t *ret, int from, int slab, int dead) {
    char buf[1024];
    int dir = mesh_sys_open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), err = 0;
    ssize_t n;
    if (dir < 0) /* the slab's descriptor goes, and the program finds its connections dead */
        return posix_spawn_file_actions_addclosefrom_np(ret, from);
    while (!err && (n = mesh_sys_getdents64(dir, buf, sizeof buf)) > 0)
        for (ssize_t at = 0; !err && at < n;) {
            const struct dirent64 *e = (const struct dirent64 *)(buf + at);
            char *end;
            long fd = strtol(e->d_name, &end, 10);
            at += e->d_reclen;
            if (end == e->d_name || fd < from || fd == slab || fd == dead || fd == dir)
                continue;
            err = posix_spawn_file_actions_addclose(ret, (int)fd);
        }
    (void)mesh_sys_close(dir);
    return err;
}

static int copy(const struct record *r, posix_spawn_file_actions_t *ret, int slab, int dead) {
    switch ((enum tag)r->tag) {
    case CLOSE:
        return r->fd == slab || r->fd == dead ? 0 : posix_spawn_file_actions_addclose(ret, r->fd);
    case DUP2:
        return posix_spawn_file_actions_adddup2(ret, r->fd, r->to);
    case OPEN:
        return posix_spawn_file_actions_addopen(ret, r->fd, r->path, r->flags, r->mode);
    case CHDIR:
        return posix_spawn_file_actions_addchdir_np(ret, r->directory);
    case FCHDIR:
        return posix_spawn_file_actions_addfchdir_np(ret, r->fd);
    case CLOSEFROM:
        return slab >= r->fd || dead >= r->fd ? close_around(ret, r->fd, slab, dead)
                                              : posix_spawn_file_actions_addclosefrom_np(ret, r->fd);
    case TCSETPGRP: { /* younger than the oldest libc that we run on */
        int (*add)(posix_spawn_file_actions_t *, int) =
            mesh_real_lookup("posix_spawn_file_actions_addtcsetpgrp_np");
        return add ? add(ret, r->fd) : ENOTSUP;
    }
    }
    return ENOTSUP;
}

int mesh_spawn_rewrite(const posix_spawn_file_actions_t *actions, const struct mesh_crossing *x, int slab,
                       int dead, posix_spawn_file_actions_t *ret) {
    int n;
    const struct record *r = records(actions, &n);
    int err = posix_spawn_file_actions_init(ret);
    if (err)
        return err;
    for (int i = 0; !err && i < n; i++)
        err = copy(&r[i], ret, slab, dead);
    for (int i = 0; !err && i < x->n; i++)
        if (x->at[i].dead)
            err = posix_spawn_file_actions_adddup2(ret, dead, x->at[i].fd);
    if (!err && slab >= 0) /* onto itself: libc clears close-on-exec */
        err = posix_spawn_file_actions_adddup2(ret, slab, slab);
    if (err)
        posix_spawn_file_actions_destroy(ret);
    return err;
}
