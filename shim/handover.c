/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/handover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "shim/accept.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/hand.h"
#include "shim/slab_fd.h"
#include "shim/stdio.h"

/* ---- the side that goes ---- */

uint32_t mesh_handover_hold(const struct mesh_crossing *x, int pid) {
    uint32_t entry = mesh_proc_reserve();
    if (pid)
        mesh_proc_assign(entry, pid);
    for (int i = 0; i < x->n; i++)
        if (!x->at[i].dead)
            mesh_conn_hold(x->at[i].slot, entry);
    return entry;
}

void mesh_handover_cancel(const struct mesh_crossing *x, uint32_t entry) {
    for (int i = 0; i < x->n; i++)
        if (!x->at[i].dead)
            (void)mesh_conn_let_go(x->at[i].slot, entry);
    mesh_proc_cancel(entry);
}

void mesh_handover_text(const struct mesh_crossing *x, uint32_t entry, char *ret) {
    char *at = ret, *end = ret + mesh_crossing_text(x);
    at += snprintf(at, (size_t)(end - at), MESH_TREE_VARIABLE "=%x:%x:%llx:%x:", (unsigned)mesh_slab_fd(),
                   mesh_slab_layout(), (unsigned long long)mesh_slab_tree(), entry);
    for (int i = 0; i < x->n; i++) {
        const struct mesh_cross *k = &x->at[i];
        const struct mesh_conn *c = mesh_conn_at(k->slot);
        if (k->dead)
            continue;
        at += snprintf(at, (size_t)(end - at), "%x=%x.%x.%llx", (unsigned)k->fd, k->slot,
                       atomic_load(&c->generation), (unsigned long long)c->inode);
        if (mesh_hand_untouched(c) || atomic_load(&c->state) == MESH_CONN_NEW)
            at += snprintf(at, (size_t)(end - at), ".%x.%x", c->mode, c->port);
        at += snprintf(at, (size_t)(end - at), ",");
    }
}

/* ---- the side that comes ---- */

struct arrival { /* one descriptor, as the variable tells it */
    int fd;
    uint32_t slot, generation;
    uint64_t inode;
    bool untouched, fresh;
    uint8_t mode;
    uint16_t port;
};

static bool number(const char **io_p, char end, uint64_t *ret) {
    char *e;
    if (**io_p == '-' || **io_p == '+' || **io_p == ' ')
        return false;
    *ret = strtoull(*io_p, &e, 16);
    if (e == *io_p || *e != end)
        return false;
    *io_p = e + 1;
    return true;
}

/* Up to and with its comma. */
static bool arrival_read(const char **io_p, struct arrival *ret) {
    uint64_t fd, slot, generation, inode, mode = 0, port = 0;
    const char *p = *io_p;
    if (!number(&p, '=', &fd) || !number(&p, '.', &slot) || !number(&p, '.', &generation))
        return false;
    bool more = !number(&p, ',', &inode);
    if (more && (!number(&p, '.', &inode) || !number(&p, '.', &mode) || !number(&p, ',', &port)))
        return false;
    bool fresh = more && mode == MESH_INBOUND_OFF, untouched = more && !fresh;
    if (fd >= MESH_FD_MAX || (untouched && mode != MESH_INBOUND_PERMISSIVE && mode != MESH_INBOUND_STRICT))
        return false;
    *ret = (struct arrival){(int)fd,   (uint32_t)slot, (uint32_t)generation, inode,
                            untouched, fresh,          (uint8_t)mode,        (uint16_t)port};
    *io_p = p;
    return true;
}

/* popen and the like put something else on a number that was said to cross. */
static bool is_there(const struct arrival *a) {
    struct stat st;
    return mesh_sys_fstat(a->fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == a->inode;
}

static void deaden(int fd, const char *reason) {
    mesh_fresh_bury(fd);
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_ERROR, "refused");
    mesh_line_str(&l, "why", "exec");
    mesh_line_str(&l, "reason", reason);
    mesh_line_int(&l, "fd", fd);
    mesh_line_end(&l);
}

void mesh_handover_trace(int fd, const char *by) {
    if (!mesh_trace_on(MESH_TRACE_INFO) || mesh_fd_kind(mesh_fd_get(fd)) != MESH_FD_CONN)
        return;
    struct mesh_line l;
    mesh_line_begin(&l, MESH_TRACE_INFO, "handover");
    mesh_line_int(&l, "fd", fd);
    mesh_line_str(&l, "by", by);
    mesh_line_end(&l);
}

static bool mark_shared(const struct arrival *a) {
    struct mesh_conn *c = mesh_conn_at(a->slot);
    if (!c || atomic_load(&c->generation) != a->generation || c->inode != a->inode ||
        mesh_local_add(a->slot, a->fd))
        return false;
    mesh_conn_hold(a->slot, mesh_proc_self());
    mesh_local_at(a->slot)->nonblock = mesh_nonblocking(a->fd, 0);
    mesh_fd_set(a->fd, atomic_load(&c->state) == MESH_CONN_NEW ? MESH_FD_KIN : MESH_FD_CONN, a->slot);
    atomic_store(&mesh_armed, 1);
    return true;
}

static bool mark_fresh(const struct arrival *a) {
    if (!a->untouched || mesh_accept_take_over(a->fd, a->inode, (enum mesh_inbound_mode)a->mode, a->port))
        return false;
    return true;
}

static bool arrive(const struct arrival *a, bool shared, bool usable, const char *reason) {
    if (!is_there(a)) {
        if (shared && mesh_conn_at(a->slot))
            (void)mesh_conn_let_go(a->slot, mesh_proc_self());
        return false;
    }
    if (usable && (shared ? mark_shared(a) : mark_fresh(a))) {
        mesh_stdio_took(a->fd);
        mesh_handover_trace(a->fd, "exec");
        return true;
    }
    if (!a->fresh) /* its end is as good as any other socket's */
        deaden(a->fd, reason);
    return false;
}

/* The slab and our place in it. */
static bool join(int fd, uint64_t layout, uint64_t tree, uint32_t entry, const char **ret_reason) {
    *ret_reason = layout != mesh_slab_layout() ? "layout" : "slab";
    if (fd < 0 || layout != mesh_slab_layout() || mesh_slab_adopt(fd, tree))
        return false;
    (void)mesh_sys_fcntl(fd, F_SETFD, FD_CLOEXEC);
    mesh_slab_fd_unlock(); /* what the last program held here has ended */
    return mesh_proc_take(entry);
}

static bool take(const char *p, bool usable) {
    uint64_t fd, layout, tree, entry;
    const char *reason = "off";
    struct arrival a;
    if (!number(&p, ':', &fd) || !number(&p, ':', &layout) || !number(&p, ':', &tree) ||
        !number(&p, ':', &entry))
        return false;
    int slab = fd < MESH_FD_MAX ? (int)fd : -1;
    bool shared = usable && join(slab, layout, tree, (uint32_t)entry, &reason), any = false;
    if (!shared && slab >= 0 && mesh_slab_fd_number() < 0 && mesh_sys_fcntl(slab, F_GET_SEALS, 0) >= 0)
        (void)mesh_sys_close(slab);
    while (arrival_read(&p, &a))
        any |= arrive(&a, shared, usable, reason);
    return any;
}

bool mesh_handover_take(char **envp, bool usable) {
    static const char name[] = MESH_TREE_VARIABLE "=";
    char **kept = envp;
    const char *value = NULL;
    for (char **e = envp; e && *e; e++) {
        if (strncmp(*e, name, sizeof name - 1) == 0)
            value = *e + sizeof name - 1;
        else
            *kept++ = *e;
    }
    if (!value)
        return false;
    *kept = NULL;
    return take(value, usable && !getauxval(AT_SECURE));
}
