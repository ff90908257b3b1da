/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/pend.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/base/clock.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/close.h"
#include "shim/conn.h"
#include "shim/drain.h"
#include "shim/fd.h"
#include "shim/hand.h"
#include "shim/watch.h"

enum {
    BATCH = 64,
    FEW = 64, /* so many are tried at each wait, whatever else watches them */
    HELPER_STACK = 256 << 10,
    HELPER_SLICE_MS = 5, /* new work reaches a helper that is in poll after this */
    HELPER_IDLE_MS =
        200,          /* a bulk sender fills its buffer again soon: the thread is worth keeping that long */
    PRIVATE_FD = 700, /* lingering sockets move up here */
};

struct item {
    uint32_t slot, generation;
    uint64_t linger; /* deadline of a socket that the program has closed; 0: the program still has it */
};

static struct item *items;
static uint32_t nitems, cap;
static _Atomic uint32_t count;
static _Atomic bool helping;

uint32_t mesh_pend_count(void) {
    return atomic_load_explicit(&count, memory_order_relaxed);
}

/* guard held */
static struct item *find(uint32_t slot) {
    uint32_t at = atomic_load(&mesh_local_at(slot)->pending);
    return at && at <= nitems && items[at - 1].slot == slot ? &items[at - 1] : NULL;
}

/* guard held */
static struct item *put(uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    if (atomic_load(&l->pending))
        return find(slot);
    if (nitems == cap) {
        uint32_t bigger = cap ? cap * 2 : 512;
        void *p;
        if (mesh_sys_mmap(NULL, bigger * sizeof *items, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                          -1, 0, &p))
            return NULL;
        if (cap) {
            memcpy(p, items, cap * sizeof *items);
            (void)mesh_sys_munmap(items, cap * sizeof *items);
        }
        items = p;
        cap = bigger;
    }
    items[nitems] = (struct item){.slot = slot, .generation = atomic_load(&mesh_conn_at(slot)->generation)};
    atomic_store(&l->pending, nitems + 1);
    atomic_store(&count, nitems + 1);
    return &items[nitems++];
}

/* guard held */
static void drop(uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    struct item *i = find(slot);
    if (!i)
        return;
    *i = items[--nitems];
    if (i != &items[nitems])
        atomic_store(&mesh_local_at(i->slot)->pending, (uint32_t)(i - items) + 1);
    atomic_store(&l->pending, 0);
    atomic_store(&count, nitems);
}

void mesh_pend_add(uint32_t slot) {
    struct mesh_local *l = mesh_local_at(slot);
    if (!l || atomic_load(&l->pending))
        return;
    struct mesh_guard g = mesh_guard_enter();
    (void)put(slot);
    mesh_guard_leave(g);
}

void mesh_pend_forget(uint32_t slot) {
    if (!atomic_load(&mesh_local_at(slot)->pending))
        return;
    struct mesh_guard g = mesh_guard_enter();
    drop(slot);
    mesh_guard_leave(g);
}

static bool unfinished(const struct mesh_conn *c) {
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_DIAL || state == MESH_CONN_HAND)
        return true;
    return state == MESH_CONN_OPEN && mesh_tx_unsent(c);
}

/* Is there anything to be done for it now? An epoll registration of ours tells when a handshake can go on;
 * thousands of clients that are shaking hands must not be tried one by one at each wait. */
static bool idle(uint32_t slot, uint64_t now) {
    const struct mesh_conn *c = mesh_conn_at(slot);
    return mesh_pend_count() > FEW && mesh_local_at(slot)->swapped && unfinished(c) && !mesh_tx_unsent(c) &&
           now < mesh_hand_deadline(slot);
}

/* One step; true when nothing is left to do. */
static bool step(uint32_t slot, int fd) {
    struct mesh_conn *c = mesh_conn_at(slot);
    (void)mesh_hand_drive(c, slot, fd);
    if (atomic_load(&c->state) == MESH_CONN_OPEN && mesh_tx_unsent(c) && mesh_conn_lock_tx(c) == 0) {
        if (mesh_conn_owns(slot, fd))
            (void)mesh_tx_flush(c, fd);
        mesh_conn_unlock_tx(c);
    }
    return !unfinished(c);
}

/* Takes an item off. While it was stepped the program may have closed the connection, which now lingers and
 * is ours to end, or another thread has ended it, and the slot leads its next life. */
static void finished(const struct item *was, bool late) {
    struct mesh_guard g = mesh_guard_enter();
    struct item *it = find(was->slot);
    bool same = it && it->generation == was->generation && (late || !unfinished(mesh_conn_at(was->slot)));
    bool linger = same && it->linger;
    int fd = atomic_load(&mesh_local_at(was->slot)->fd);
    if (same)
        drop(was->slot);
    mesh_guard_leave(g);
    if (linger)
        mesh_close_end(was->slot, fd, true);
}

void mesh_pend_drive(void) {
    struct item batch[BATCH];
    mesh_drain_look();
    for (uint32_t at = 0; at < mesh_pend_count(); at += BATCH) {
        struct mesh_guard g = mesh_guard_enter();
        uint32_t n = nitems > at ? nitems - at : 0;
        if (n > BATCH)
            n = BATCH;
        if (n)
            memcpy(batch, items + at, n * sizeof *batch);
        mesh_guard_leave(g);
        uint64_t now = mesh_now();
        for (uint32_t i = 0; i < n; i++) {
            uint32_t slot = batch[i].slot;
            struct mesh_local *l = mesh_local_at(slot);
            int fd = atomic_load(&l->fd);
            bool late = batch[i].linger && now >= batch[i].linger;
            if (!late && (idle(slot, now) || !step(slot, fd)))
                continue;
            finished(&batch[i], late);
        }
    }
}

/* Does a wait have to watch its descriptor, or does an epoll registration do so? */
static bool to_be_watched(const struct item *i, const struct mesh_conn *c, const struct mesh_local *l) {
    if (i->linger)
        return true;
    if (!l->swapped)
        return !c->server || mesh_look(c->held.bytes) || mesh_tx_unsent(c) || atomic_load(&c->driver);
    return mesh_look(c->told) && mesh_tx_unsent(c);
}

uint32_t mesh_pend_fill(struct pollfd *ret, uint32_t max, int except, uint64_t *io_deadline) {
    uint32_t filled = 0;
    if (atomic_load(&count) == 0) /* the guard is two system calls, and every wait comes by */
        return 0;
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = 0; i < nitems; i++) {
        uint32_t slot = items[i].slot;
        struct mesh_conn *c = mesh_conn_at(slot);
        struct mesh_local *l = mesh_local_at(slot);
        uint64_t d = mesh_hand_deadline(slot);
        if (items[i].linger && items[i].linger < d)
            d = items[i].linger;
        if (d < *io_deadline)
            *io_deadline = d;
        int fd = atomic_load(&l->fd);
        if (fd == except || filled == max || !to_be_watched(&items[i], c, l))
            continue;
        uint32_t state = atomic_load(&c->state);
        short events = state == MESH_CONN_OPEN ? 0 : mesh_hand_wants(slot);
        if (state == MESH_CONN_OPEN && mesh_tx_unsent(c))
            events |= POLLOUT;
        ret[filled++] = (struct pollfd){.fd = fd, .events = events};
    }
    mesh_guard_leave(g);
    return filled;
}

/* ---- the helper ---- */

static void help_once(void) {
    struct pollfd fds[BATCH];
    uint64_t deadline = mesh_now() + HELPER_SLICE_MS * MESH_MS;
    mesh_pend_drive();
    uint32_t n = mesh_pend_fill(fds, BATCH, -1, &deadline);
    uint64_t now = mesh_now();
    struct timespec t = {0, deadline > now ? (long)(deadline - now) : 1000000};
    (void)mesh_sys_ppoll(fds, n, &t, NULL);
}

static void *helper(void *arg) {
    uint64_t idle_since = mesh_now();
    for (;;) {
        if (mesh_pend_count()) {
            help_once();
            idle_since = mesh_now();
            continue;
        }
        struct timespec t = {0, HELPER_SLICE_MS * 1000000};
        (void)mesh_sys_ppoll(NULL, 0, &t, NULL);
        if (mesh_now() - idle_since < HELPER_IDLE_MS * MESH_MS)
            continue;
        atomic_store(&helping, false);
        bool none = false; /* work that came in between would have seen a helper */
        if (!mesh_pend_count() || !atomic_compare_exchange_strong(&helping, &none, true))
            return arg;
    }
}

static void help(void) {
    bool none = false;
    if (!atomic_compare_exchange_strong(&helping, &none, true))
        return;
    uint64_t all = MESH_SIGNALS_OF_PROGRAM, old;
    pthread_attr_t a;
    pthread_t t;
    (void)mesh_sys_sigprocmask(SIG_BLOCK, &all, &old);
    int err = pthread_attr_init(&a);
    if (!err) {
        pthread_attr_setstacksize(&a, HELPER_STACK);
        pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
        err = pthread_create(&t, &a, helper, NULL);
        pthread_attr_destroy(&a);
    }
    (void)mesh_sys_sigprocmask(SIG_SETMASK, &old, NULL);
    if (err) /* the program's next call or wait carries the work */
        atomic_store(&helping, false);
}

void mesh_pend_leave(uint32_t slot) {
    mesh_pend_add(slot);
    help(); /* a thread that already waits does not know of it, and may wait for ever */
}

void mesh_pend_linger(uint32_t slot, int fd) {
    struct mesh_local *l = mesh_local_at(slot);
    int own = mesh_sys_fcntl(fd, F_DUPFD_CLOEXEC, PRIVATE_FD);
    if (own < 0)
        own = mesh_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0) {
        mesh_close_end(slot, fd, true);
        return;
    }
    mesh_fd_set(own, MESH_FD_CONN, slot);
    struct mesh_guard g = mesh_guard_enter();
    atomic_store(&l->fd, own);
    struct item *i = put(slot);
    if (i)
        i->linger = mesh_now() + MESH_HANDSHAKE_SECONDS * MESH_SEC;
    mesh_guard_leave(g);
    atomic_store(&l->ending, 0);
    (void)mesh_sys_close(fd);
    if (!i)
        mesh_close_end(slot, own, true);
    else
        help();
}

void mesh_pend_drain(uint64_t deadline) {
    struct pollfd fds[BATCH];
    for (;;) {
        mesh_pend_drive();
        uint64_t until = deadline;
        bool unsent = false;
        struct mesh_guard g = mesh_guard_enter();
        for (uint32_t i = 0; i < nitems; i++)
            unsent |= mesh_tx_unsent(mesh_conn_at(items[i].slot));
        mesh_guard_leave(g);
        if (!unsent)
            return;
        uint32_t n = mesh_pend_fill(fds, BATCH, -1, &until);
        uint64_t now = mesh_now();
        if (now >= deadline) {
            mesh_trace_refused("unsent-at-exit", NULL, NULL);
            return;
        }
        /* in short pieces: the helper may send what we are about to wait for */
        bool soon = until > now && until - now < HELPER_SLICE_MS * MESH_MS;
        struct timespec t = {0, soon ? (long)(until - now) : (long)(HELPER_SLICE_MS * MESH_MS)};
        (void)mesh_sys_ppoll(fds, n, &t, NULL);
    }
}

void mesh_pend_after_fork(void) {
    atomic_store(&helping, false);
    while (nitems) { /* the parent's business; what the child touches comes back on its list */
        struct item it = items[nitems - 1];
        int fd = atomic_load(&mesh_local_at(it.slot)->fd);
        drop(it.slot);
        if (it.linger)
            mesh_close_inherited(it.slot, fd);
    }
}
