/* SPDX-License-Identifier: Apache-2.0
 *
 * Which connections would cross, and may they? (shim/handover.h) */
#include <errno.h>
#include <poll.h>
#include <sys/resource.h>

#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/engine.h"
#include "shim/fd.h"
#include "shim/hand.h"
#include "shim/handover.h"
#include "shim/pend.h"
#include "shim/slab_fd.h"

bool mesh_crossing_add(struct mesh_crossing *x, int fd, uint32_t slot) {
    if (x->n == MESH_CROSS_MAX)
        return false;
    x->at[x->n++] = (struct mesh_cross){.fd = fd, .slot = slot};
    return true;
}

static bool stays_open(int fd) {
    int flags = mesh_sys_fcntl(fd, F_GETFD, 0);
    return flags >= 0 && !(flags & FD_CLOEXEC);
}

static void found(struct mesh_crossing *x, int fd, uint32_t slot) {
    if (atomic_load(&mesh_conn_at(slot)->state) == MESH_CONN_RAW)
        return; /* an ordinary socket, and plaintext is its business */
    if (!mesh_crossing_add(x, fd, slot))
        (void)mesh_sys_fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void find_marked(struct mesh_crossing *x) {
    for (int fd = 0; fd <= (int)mesh_fd_highest(); fd++) {
        uint32_t word = mesh_fd_get(fd);
        if (mesh_fd_kind(word) == MESH_FD_CONN && stays_open(fd))
            found(x, fd, mesh_fd_slot(word));
    }
}

/* A vfork child has closed and duplicated in its own table, which ours does not speak of: the sockets are
 * asked. */
static void find_by_inode(struct mesh_crossing *x) {
    enum { BATCH = 64 };
    int top = (int)mesh_fd_highest();
    for (int first = 0; first <= top; first += BATCH) {
        struct pollfd open_[BATCH];
        for (int i = 0; i < BATCH; i++)
            open_[i] = (struct pollfd){.fd = first + i};
        bool told = mesh_sys_poll(open_, BATCH, 0) >= 0;
        for (int i = 0; i < BATCH; i++) {
            struct stat st;
            int fd = first + i;
            if ((told && open_[i].revents & POLLNVAL) || !stays_open(fd) || mesh_sys_fstat(fd, &st) ||
                !S_ISSOCK(st.st_mode))
                continue;
            uint32_t slot = mesh_conn_by_inode(st.st_ino);
            if (slot != UINT32_MAX)
                found(x, fd, slot);
        }
    }
}

void mesh_crossing_find(struct mesh_crossing *x) {
    x->n = 0;
    if (!atomic_load(&mesh_armed) || !mesh_slab)
        return;
    if (mesh_engine_foreign())
        find_by_inode(x);
    else
        find_marked(x);
}

static bool under_way(const struct mesh_conn *c) {
    uint32_t state = atomic_load(&c->state);
    return state == MESH_CONN_DIAL || (state == MESH_CONN_HAND && c->begun);
}

void mesh_crossing_settle(const struct mesh_crossing *x) {
    const uint64_t slice = 10 * MESH_MS, end = mesh_now() + MESH_HANDSHAKE_SECONDS * MESH_SEC;
    for (int i = 0; i < x->n; i++) {
        uint32_t slot = x->at[i].slot;
        struct mesh_conn *c = mesh_conn_at(slot);
        struct mesh_local *l = mesh_local_at(slot);
        if (under_way(c)) {
            atomic_store(&l->waiter, mesh_thread());
            mesh_pend_add(slot);
        }
        for (uint64_t now; under_way(c) && (now = mesh_now()) < end && mesh_hand_drive(c, slot, l->fd);)
            mesh_pend_round(now + slice);
    }
}

/* Why this one may not cross; NULL: it may. */
static const char *obstacle(const struct mesh_conn *c, enum mesh_exec_target t, int slab) {
    if (t != MESH_TARGET_SHIM)
        return mesh_target_text(t);
    if (mesh_hand_untouched(c))
        return NULL;
    if (under_way(c))
        return "handshake";
    return slab < 0 ? "no-slab" : !mesh_slab_fd_size(slab) ? "user" : NULL;
}

bool mesh_crossing_judge(struct mesh_crossing *x, enum mesh_exec_target t, const char *program) {
    int slab = mesh_slab_fd(), dead = 0, first = -1;
    const char *why = NULL;
    for (int i = 0; i < x->n; i++) {
        const char *reason = obstacle(mesh_conn_at(x->at[i].slot), t, slab);
        x->at[i].dead = reason != NULL;
        if (reason && !dead++) {
            why = reason;
            first = x->at[i].fd;
        }
    }
    if (dead && t != MESH_TARGET_MISSING) {
        struct mesh_line l;
        mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
        mesh_line_str(&l, "why", "exec");
        mesh_line_str(&l, "program", program);
        mesh_line_str(&l, "reason", why);
        mesh_line_int(&l, "fd", first);
        mesh_line_int(&l, "descriptors", dead);
        mesh_line_end(&l);
    }
    return dead < x->n;
}
