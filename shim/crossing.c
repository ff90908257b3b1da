/* SPDX-License-Identifier: Apache-2.0
 *
 * Which connections would cross, and may they? (shim/handover.h) */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/engine.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/hand.h"
#include "shim/handover.h"
#include "shim/pend.h"
#include "shim/slab_fd.h"

void mesh_crossing_init(struct mesh_crossing *x) {
    x->n = x->lacking = 0;
    x->room = MESH_CROSS_FEW;
    x->at = x->few;
}

void mesh_crossing_done(struct mesh_crossing *x) {
    if (x->at != x->few)
        (void)mesh_sys_munmap(x->at, (size_t)x->room * sizeof *x->at);
    mesh_crossing_init(x);
}

static bool grow(struct mesh_crossing *x) {
    void *p;
    size_t had = (size_t)x->room * sizeof *x->at;
    if (mesh_engine_foreign() || /* nobody would give it back */
        mesh_sys_mmap(NULL, 4 * had, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &p))
        return false;
    memcpy(p, x->at, had);
    if (x->at != x->few)
        (void)mesh_sys_munmap(x->at, had);
    x->at = p;
    x->room *= 4;
    return true;
}

size_t mesh_crossing_text(const struct mesh_crossing *x) {
    return MESH_TREE_HEAD + MESH_CROSS_TEXT * (size_t)(x->n < MESH_CROSS_MAX ? x->n : MESH_CROSS_MAX);
}

bool mesh_crossing_add(struct mesh_crossing *x, int fd, uint32_t slot) {
    if (x->n == x->room && !grow(x)) {
        x->lacking++;
        return false;
    }
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
    (void)mesh_crossing_add(x, fd, slot);
}

static void find_marked(struct mesh_crossing *x) {
    for (int fd = 0; fd <= (int)mesh_fd_highest(); fd++) {
        uint32_t word = mesh_fd_get(fd), slot = mesh_fd_slot(word);
        bool held = mesh_fd_kind(word) == MESH_FD_CONN || mesh_fd_kind(word) == MESH_FD_KIN;
        if (!held || !stays_open(fd))
            continue;
        (void)mesh_fd_conn(fd, &slot); /* somebody may have connected it meanwhile */
        found(x, fd, slot);
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
    x->n = x->lacking = 0;
    if (!atomic_load(&mesh_armed) || !mesh_slab)
        return;
    if (mesh_engine_foreign())
        find_by_inode(x);
    else
        find_marked(x);
}

void mesh_crossing_settle(const struct mesh_crossing *x) {
    const uint64_t slice = 10 * MESH_MS, end = mesh_now() + MESH_HANDSHAKE_SECONDS * MESH_SEC;
    for (int i = 0; i < x->n; i++) {
        uint32_t slot = x->at[i].slot;
        struct mesh_conn *c = mesh_conn_at(slot);
        struct mesh_local *l = mesh_local_at(slot);
        if (mesh_hand_under_way(c)) {
            atomic_store(&l->waiter, mesh_thread());
            mesh_pend_add(slot);
        }
        for (uint64_t now;
             mesh_hand_under_way(c) && (now = mesh_now()) < end && mesh_hand_drive(c, slot, l->fd);)
            mesh_pend_round(now + slice);
    }
}

/* Why this one may not cross; NULL: it may. */
static const char *obstacle(const struct mesh_conn *c, enum mesh_exec_target t, int slab, int crossing) {
    if (t != MESH_TARGET_SHIM)
        return mesh_target_text(t);
    if (crossing == MESH_CROSS_MAX)
        return "too-many";
    if (mesh_hand_untouched(c))
        return NULL;
    if (mesh_hand_under_way(c))
        return "handshake";
    return slab < 0 ? "no-slab" : !mesh_slab_fd_size(slab) ? "user" : NULL;
}

/* They are ordinary sockets to who knows nothing of them. */
static void drop_unconnected(struct mesh_crossing *x) {
    int n = 0;
    for (int i = 0; i < x->n; i++)
        if (atomic_load(&mesh_conn_at(x->at[i].slot)->state) != MESH_CONN_NEW)
            x->at[n++] = x->at[i];
    x->n = n;
}

bool mesh_crossing_judge(struct mesh_crossing *x, enum mesh_exec_target t, const char *program) {
    int slab = mesh_slab_fd(), dead = 0, first = -1;
    const char *why = NULL;
    if (t != MESH_TARGET_SHIM || slab < 0 || !mesh_slab_fd_size(slab))
        drop_unconnected(x);
    for (int i = 0; i < x->n; i++) {
        const char *reason = obstacle(mesh_conn_at(x->at[i].slot), t, slab, i - dead);
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
