/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/fresh.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>

#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/close.h"
#include "shim/conn.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/stdio.h"
#include "shim/watch.h"

enum { NUMBERS = 0xfffffff, LOOKED_THROUGH = 1024, BATCH = 64 };
static _Atomic uint32_t numbers;
static _Atomic bool any_doubled; /* some dup was made of such a socket */

/* ---- what the kernel knows of a socket ---- */

static int option(int fd, int level, int name) {
    int v = 0;
    socklen_t n = sizeof v;
    int r = mesh_sys_getsockopt(fd, level, name, &v, &n);
    return r ? r : v;
}

static void mark(int fd, int on) {
    (void)mesh_sys_setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on);
}

static bool marked(int fd) {
    return option(fd, SOL_SOCKET, SO_NO_CHECK) > 0;
}

static bool connected(int fd) {
    struct sockaddr_storage ss;
    socklen_t n = sizeof ss;
    return mesh_sys_getpeername(fd, (struct sockaddr *)&ss, &n) == 0;
}

static bool is_tcp(int fd) {
    int domain = option(fd, SOL_SOCKET, SO_DOMAIN);
    return (domain == AF_INET || domain == AF_INET6) && option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP;
}

static uint64_t inode_of(int fd) {
    struct stat st;
    return mesh_sys_fstat(fd, &st) || !S_ISSOCK(st.st_mode) ? 0 : st.st_ino;
}

void mesh_fresh_bury(int fd) {
    int flags = mesh_sys_fcntl(fd, F_GETFD, 0);
    int dead = mesh_sys_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (dead < 0 || mesh_sys_dup3(dead, fd, flags > 0 ? O_CLOEXEC : 0) < 0) /* nothing is better than it */
        (void)mesh_sys_close(fd);
    if (dead >= 0)
        (void)mesh_sys_close(dead);
}

/* ---- descriptors of this process ---- */

static bool replace(int fd, uint32_t was, enum mesh_fd_kind kind, uint32_t slot) {
    return atomic_compare_exchange_strong(&mesh_fdtab[fd], &was, slot << 4 | (uint32_t)kind);
}

/* One more descriptor of the slot, unless its word has changed meanwhile. */
static bool join(int fd, uint32_t was, enum mesh_fd_kind kind, uint32_t slot) {
    if (mesh_local_add(slot, fd))
        return false;
    mesh_fd_reach(fd);
    if (replace(fd, was, kind, slot))
        return true;
    (void)mesh_local_drop(slot, fd);
    return false;
}

static void in_use(int fd, uint32_t slot) {
    mesh_local_at(slot)->nonblock = mesh_nonblocking(fd, 0);
    atomic_store(&mesh_armed, 1);
    mesh_watch_begin(slot, fd);
    mesh_stdio_took(fd);
}

void mesh_fresh_made(int fd) {
    mesh_fd_set(fd, MESH_FD_FRESH, atomic_fetch_add(&numbers, 1) & NUMBERS);
    atomic_store(&mesh_armed, 1); /* sendmsg and the like must look at it, too */
}

int mesh_fresh_doubled(int fd, int to) {
    uint32_t word = mesh_fd_get(fd);
    if (mesh_fd_kind(word) == MESH_FD_KIN && mesh_local_add(mesh_fd_slot(word), to))
        return -EMFILE;
    atomic_store(&any_doubled, true);
    mesh_fd_set(to, mesh_fd_kind(word), mesh_fd_slot(word));
    return 0;
}

void mesh_fresh_forget(int fd) {
    uint32_t word = mesh_fd_get(fd), slot = mesh_fd_slot(word);
    mesh_watch_forget(fd);
    if (!mesh_fd_unconnected(word) || !replace(fd, word, MESH_FD_NONE, 0) ||
        mesh_fd_kind(word) != MESH_FD_KIN)
        return;
    if (atomic_load(&mesh_local_at(slot)->fds) > 1)
        (void)mesh_local_drop(slot, fd);
    else
        mesh_close_end(slot, fd, false);
}

/* ---- connected by somebody else ---- */

static void refuse(int fd) {
    mesh_fresh_forget(fd);
    mesh_fresh_bury(fd);
    mesh_trace_refused("another-tree", NULL, NULL);
}

/* A slot of the slab that speaks of this socket, held by us from now on. */
static uint32_t hold_by_inode(uint64_t inode) {
    uint32_t slot = inode ? mesh_conn_by_inode(inode) : UINT32_MAX;
    if (slot == UINT32_MAX)
        return slot;
    uint32_t generation = atomic_load(&mesh_conn_at(slot)->generation);
    bool held = mesh_local_at(slot) && mesh_local_at(slot)->generation == generation;
    mesh_conn_hold(slot, mesh_proc_self());
    if (generation % 2 && atomic_load(&mesh_conn_at(slot)->generation) == generation &&
        mesh_conn_at(slot)->inode == inode)
        return slot;
    if (!held) /* it ended before we held it */
        (void)mesh_conn_let_go(slot, mesh_proc_self());
    return UINT32_MAX;
}

static struct mesh_conn *adopt(int fd, uint32_t word, uint32_t *ret_slot) {
    uint32_t slot = hold_by_inode(inode_of(fd));
    struct mesh_conn *c = slot == UINT32_MAX ? NULL : mesh_conn_at(slot);
    if (!c || atomic_load(&c->state) == MESH_CONN_NEW) {
        refuse(fd);
        return NULL;
    }
    if (join(fd, word, MESH_FD_CONN, slot))
        in_use(fd, slot);
    else if (mesh_fd_get(fd) != (slot << 4 | MESH_FD_CONN))
        return NULL;
    *ret_slot = slot;
    return c;
}

struct mesh_conn *mesh_fresh_conn(int fd, uint32_t *ret_slot) {
    uint32_t word = mesh_fd_get(fd), slot = mesh_fd_slot(word);
    if (mesh_fd_kind(word) == MESH_FD_KIN && atomic_load(&mesh_conn_at(slot)->state) != MESH_CONN_NEW) {
        if (replace(fd, word, MESH_FD_CONN, slot))
            in_use(fd, slot);
        *ret_slot = slot;
        return mesh_conn_at(slot);
    }
    if (!connected(fd)) /* asked first: a dial marks the socket before it is connected */
        return NULL;
    if (marked(fd))
        return adopt(fd, word, ret_slot);
    mesh_fresh_forget(fd); /* it is somebody else's peer */
    return NULL;
}

int mesh_fresh_out(int fd, int flags, uint32_t *ret_slot) {
    while (mesh_fd_unconnected(mesh_fd_get(fd))) {
        if (mesh_fresh_conn(fd, ret_slot))
            return 1;
        if (!mesh_fd_unconnected(mesh_fd_get(fd)))
            break;
        int r = (int)mesh_sys_sendto(fd, NULL, 0, MSG_NOSIGNAL | (flags & MSG_DONTWAIT), NULL, 0);
        if (r < 0)
            return r;
    }
    return mesh_fd_conn(fd, ret_slot) != NULL;
}

/* ---- connecting ---- */

/* Two descriptors of a socket from before our time have nothing in common but their inode. */
static void join_by_inode(int fd, uint32_t slot) {
    uint64_t inode = mesh_conn_at(slot)->inode;
    struct pollfd open_[BATCH];
    for (int first = 0; first < LOOKED_THROUGH; first += BATCH) {
        for (int i = 0; i < BATCH; i++)
            open_[i] = (struct pollfd){.fd = first + i};
        if (mesh_sys_poll(open_, BATCH, 0) < 0)
            return;
        for (int i = 0; i < BATCH; i++)
            if (first + i != fd && !(open_[i].revents & POLLNVAL) && !mesh_fd_get(first + i) &&
                inode_of(first + i) == inode)
                (void)join(first + i, 0, MESH_FD_CONN, slot);
    }
}

static void join_doubles(int fd, uint32_t word, uint32_t slot) {
    if (!word)
        join_by_inode(fd, slot);
    else if (atomic_load(&any_doubled))
        for (int to = 0; to <= (int)mesh_fd_highest(); to++)
            if (to != fd && mesh_fd_get(to) == word)
                (void)join(to, word, MESH_FD_CONN, slot);
}

/* A listening socket is none to connect; any other meaning of the number is stale. */
static int begin_new(int fd, uint32_t word, uint32_t *ret_slot) {
    if (mesh_fd_kind(word) != MESH_FD_FRESH && word) {
        if (option(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0)
            return -EISCONN;
        mesh_fd_new(fd);
        word = 0;
    }
    uint32_t slot = mesh_conn_take();
    if (slot == UINT32_MAX)
        return -ENOBUFS;
    atomic_store(&mesh_conn_at(slot)->state, MESH_CONN_DIAL);
    if (!join(fd, word, MESH_FD_CONN, slot)) {
        mesh_conn_give(slot);
        return -ENOBUFS;
    }
    join_doubles(fd, word, slot);
    *ret_slot = slot;
    return 0;
}

int mesh_fresh_begin(int fd, uint32_t *ret_slot) {
    uint32_t word = mesh_fd_get(fd), slot = mesh_fd_slot(word), new_ = MESH_CONN_NEW;
    int r = 0;
    if (mesh_fd_kind(word) != MESH_FD_KIN && mesh_fd_kind(word) != MESH_FD_CONN) {
        r = begin_new(fd, word, &slot);
    } else if (!atomic_compare_exchange_strong(&mesh_conn_at(slot)->state, &new_, MESH_CONN_DIAL)) {
        r = -EALREADY;
    } else {
        mesh_conn_at(slot)->started = mesh_now();
        for (int to = 0; to <= (int)mesh_fd_highest(); to++)
            (void)replace(to, slot << 4 | MESH_FD_KIN, MESH_FD_CONN, slot);
    }
    if (r)
        return r;
    mark(fd, 1); /* before the kernel's connection is begun */
    *ret_slot = slot;
    return 0;
}

void mesh_fresh_watch(uint32_t slot) {
    if (atomic_load(&mesh_local_at(slot)->fds) == 1) {
        mesh_watch_begin(slot, atomic_load(&mesh_local_at(slot)->fd));
        return;
    }
    for (int fd = 0; fd <= (int)mesh_fd_highest(); fd++)
        if (mesh_fd_get(fd) == (slot << 4 | MESH_FD_CONN)) {
            mesh_watch_begin(slot, fd);
            mesh_stdio_took(fd);
        }
}

void mesh_fresh_again(uint32_t slot, int fd) {
    struct mesh_conn *c = mesh_conn_at(slot);
    struct sockaddr unspec = {.sa_family = AF_UNSPEC};
    mesh_pend_forget(slot);
    if (mesh_conn_lock_rx(c) == 0) {
        mesh_hand_drop(slot);
        (void)mesh_sys_connect(fd, &unspec, sizeof unspec); /* no goodbye on a socket that goes on */
        mark(fd, 0);
        atomic_store(&c->state, MESH_CONN_DEAD);
        mesh_hand_closed(c, slot, fd);
        if (mesh_conn_lock_tx(c) == 0) {
            mesh_conn_renew(slot);
            mesh_conn_unlock_tx(c);
        }
        mesh_conn_unlock_rx(c);
    }
    mesh_watch_settled(slot);
    for (int to = 0; to <= (int)mesh_fd_highest(); to++)
        (void)replace(to, slot << 4 | MESH_FD_CONN, MESH_FD_KIN, slot);
}

void mesh_fresh_plain(int fd) {
    mark(fd, 0);
}

/* ---- shared with other processes ---- */

static void share(int fd) {
    uint32_t word = mesh_fd_get(fd), slot = mesh_conn_take();
    if (slot == UINT32_MAX)
        return; /* the kernel's mark is left */
    atomic_store(&mesh_conn_at(slot)->state, MESH_CONN_NEW);
    if (!join(fd, word, MESH_FD_KIN, slot)) {
        mesh_conn_give(slot);
        return;
    }
    if (atomic_load(&any_doubled))
        for (int to = 0; to <= (int)mesh_fd_highest(); to++)
            if (mesh_fd_get(to) == word)
                (void)join(to, word, MESH_FD_KIN, slot);
}

void mesh_fresh_share(bool inherited) {
    for (int fd = 0; fd <= (int)mesh_fd_highest(); fd++)
        if (mesh_fd_kind(mesh_fd_get(fd)) == MESH_FD_FRESH &&
            (!inherited || mesh_sys_fcntl(fd, F_GETFD, 0) == 0))
            share(fd);
}

void mesh_fresh_sent(int fd) {
    if (mesh_fd_kind(mesh_fd_get(fd)) == MESH_FD_FRESH)
        share(fd);
}

void mesh_fresh_fetched(int fd) {
    uint32_t slot = mesh_slab && is_tcp(fd) ? hold_by_inode(inode_of(fd)) : UINT32_MAX;
    if (slot == UINT32_MAX)
        mesh_fresh_received(fd);
    else if (join(fd, 0,
                  atomic_load(&mesh_conn_at(slot)->state) == MESH_CONN_NEW ? MESH_FD_KIN : MESH_FD_CONN,
                  slot))
        in_use(fd, slot);
}

void mesh_fresh_received(int fd) {
    uint32_t slot;
    if (mesh_fd_get(fd) || !is_tcp(fd))
        return;
    if (marked(fd)) {
        (void)adopt(fd, 0, &slot);
        return;
    }
    if (connected(fd) || option(fd, SOL_SOCKET, SO_ACCEPTCONN))
        return;
    slot = mesh_slab ? hold_by_inode(inode_of(fd)) : UINT32_MAX;
    if (slot == UINT32_MAX)
        mesh_fresh_made(fd);
    else if (join(fd, 0, MESH_FD_KIN, slot))
        atomic_store(&any_doubled, true);
}
