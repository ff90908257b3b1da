/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/pend.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
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
    DEAF_MS = 20,
    STARTING = 1,
    ROUNDS = 64,
    HELPER_STACK = 256 << 10,
    HELPER_SLICE_MS =
        5, /* new work reaches a helper that is in poll after this, or, when none has come for a while, */
    HELPER_SLICE_MOST_MS = 80,
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
static _Atomic uint32_t leaves;  /* calls of mesh_pend_leave */
static _Atomic uint32_t helping; /* the helper's mesh_thread(), or STARTING */

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

static bool sends(uint32_t state) {
    return state == MESH_CONN_OPEN || state == MESH_CONN_RAW;
}

static bool unfinished(const struct mesh_conn *c) {
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_DIAL || state == MESH_CONN_HAND)
        return true;
    return sends(state) && mesh_tx_unsent(c);
}

/* The program has shut both ways and read to the end, and our last bytes wait for room: what comes now is
 * nobody's, but the peer may not read ours before it has found room for it. */
static bool is_deaf(const struct mesh_conn *c) {
    return mesh_look(c->rx_shut) == 2 && __atomic_load_n(&c->fin, __ATOMIC_RELAXED) == 1 && mesh_tx_unsent(c);
}

static void discard(struct mesh_conn *c, uint32_t slot, int fd) {
    if (atomic_load(&c->state) != MESH_CONN_OPEN || !mesh_sys_may(SYS_recvfrom) || mesh_conn_lock_rx(c))
        return;
    c->rx_eof = 1;
    while (mesh_conn_owns(slot, fd) &&
           mesh_sys_recvfrom(fd, NULL, 1 << 20, MSG_DONTWAIT | MSG_TRUNC, NULL, NULL) > 0)
        ;
    mesh_conn_unlock_rx(c);
}

/* One step; true when nothing is left to do. */
static bool step(uint32_t slot, int fd) {
    struct mesh_conn *c = mesh_conn_at(slot);
    (void)mesh_hand_drive(c, slot, fd);
    if (mesh_unlikely(is_deaf(c)))
        discard(c, slot, fd);
    if (sends(atomic_load(&c->state)) && mesh_tx_unsent(c) && mesh_conn_lock_tx(c) == 0) {
        int r = mesh_conn_owns(slot, fd) ? mesh_tx_flush(c, fd) : 0;
        mesh_conn_unlock_tx(c);
        if (r && r != -EAGAIN)
            mesh_conn_error(c, slot, fd, -r);
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

/* ---- the descriptors of a wait ---- */

enum { SCRATCH_FDS = MESH_SCRATCH / sizeof(struct pollfd) };

static struct pollfd *fds_take(uint32_t *io_n) {
    void *p;
    if (*io_n <= SCRATCH_FDS) {
        *io_n = SCRATCH_FDS;
        return (struct pollfd *)mesh_scratch_take();
    }
    if (mesh_sys_mmap(NULL, *io_n * sizeof(struct pollfd), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &p))
        return NULL;
    return p;
}

static bool fds_need(struct mesh_wait *w, uint32_t n) {
    if (n <= w->cap)
        return true;
    struct pollfd *p = fds_take(&n);
    if (!p)
        return false;
    memcpy(p, w->fds, w->own * sizeof *p);
    mesh_wait_done(w);
    w->fds = p;
    w->cap = n;
    return true;
}

bool mesh_wait_init(struct mesh_wait *w, uint32_t own) {
    w->fds = w->few;
    w->cap = MESH_ARRAY_LEN(w->few);
    w->own = w->n = w->rounds = 0;
    if (!fds_need(w, own))
        return false;
    w->own = w->n = own;
    return true;
}

void mesh_wait_done(struct mesh_wait *w) {
    if (w->fds == w->few)
        return;
    if (w->cap == SCRATCH_FDS)
        mesh_scratch_give((uint8_t *)w->fds);
    else
        (void)mesh_sys_munmap(w->fds, w->cap * sizeof *w->fds);
    w->fds = w->few;
    w->cap = MESH_ARRAY_LEN(w->few);
}

/* ---- driving ---- */

static uint64_t due(const struct item *i) {
    uint64_t d = mesh_hand_deadline(i->slot);
    return i->linger && i->linger < d ? i->linger : d;
}

static void drive(const struct item *i, uint64_t now) {
    struct mesh_conn *c = mesh_conn_at(i->slot);
    int fd = atomic_load(&mesh_local_at(i->slot)->fd);
    /* what comes for a connection that the program has closed is answered by a reset, as TCP does */
    bool late =
        i->linger &&
        (now >= i->linger || (atomic_load(&c->state) == MESH_CONN_OPEN && mesh_close_unread(c, i->slot, fd)));
    if (late || step(i->slot, fd))
        finished(i, late);
}

/* What has come to its time, and what was brought to its end elsewhere. */
static void drive_due(void) {
    struct item batch[BATCH];
    uint32_t at = 0, n;
    do {
        uint64_t now = mesh_now();
        struct mesh_guard g = mesh_guard_enter();
        for (n = 0; at < nitems && n < BATCH; at++)
            if (due(&items[at]) <= now || !unfinished(mesh_conn_at(items[at].slot)) ||
                is_deaf(mesh_conn_at(items[at].slot)))
                batch[n++] = items[at];
        mesh_guard_leave(g);
        for (uint32_t i = 0; i < n; i++)
            drive(&batch[i], now);
    } while (n == BATCH);
}

/* guard held. Is it this wait that watches its descriptor? Not when the epoll descriptor that is waited on
 * tells of it, nor when another thread does: that one waits for it, or will again. Bytes that the program has
 * written and need not come back for are everybody's. */
static bool ours(const struct item *i, const struct mesh_conn *c, const struct mesh_local *l, int ep,
                 bool *ret_told) {
    if (i->linger || mesh_tx_unsent(c))
        return true;
    if (atomic_load(&helping) == mesh_thread())
        return !l->swapped && !c->server;
    if (l->swapped) {
        uint32_t owner = 0;
        *ret_told = mesh_epoll_tells(i->slot, ep, &owner);
        if (*ret_told)
            return false;
        return owner == 0 || owner == mesh_thread();
    }
    uint32_t waiter = atomic_load_explicit(&l->waiter, memory_order_relaxed);
    return waiter == mesh_thread() || (waiter == 0 && (!c->server || atomic_load(&c->driver)));
}

/* Returns how many there are, of which at most max are filled in. */
static uint32_t fill(struct pollfd *ret, uint32_t max, int except, int ep, uint64_t *io_deadline) {
    uint32_t n = 0;
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = 0; i < nitems; i++) {
        uint32_t slot = items[i].slot;
        struct mesh_conn *c = mesh_conn_at(slot);
        struct mesh_local *l = mesh_local_at(slot);
        bool told = false, own = ours(&items[i], c, l, ep, &told);
        uint64_t d = own || told ? due(&items[i]) : UINT64_MAX;
        if (mesh_unlikely(is_deaf(c)) && own) /* a descriptor that is shut is always readable: by the clock */
            d = d < mesh_now() + DEAF_MS * MESH_MS ? d : mesh_now() + DEAF_MS * MESH_MS;
        if (d < *io_deadline)
            *io_deadline = d;
        int fd = atomic_load(&l->fd);
        if (fd == except || !own)
            continue;
        uint32_t state = atomic_load(&c->state);
        short events = sends(state) ? POLLOUT : mesh_hand_wants(slot);
        if (items[i].linger && state == MESH_CONN_OPEN && !c->rx_eof)
            events |= POLLIN;
        if (n < max)
            ret[n] = (struct pollfd){.fd = fd, .events = events};
        n++;
    }
    mesh_guard_leave(g);
    return n;
}

void mesh_pend_before(struct mesh_wait *w, int fd, int ep, uint64_t *io_deadline) {
    w->n = w->own;
    mesh_drain_look();
    if (atomic_load(&count) == 0) /* the guard is two system calls, and every wait comes by */
        return;
    drive_due();
    for (uint32_t n = 0;;) {
        uint64_t until = *io_deadline;
        uint32_t room = w->cap - w->own;
        n = fill(w->fds + w->own, room, fd, ep, &until);
        if (n > room && fds_need(w, w->own + n + 16))
            continue;
        if (n > room) /* no memory: the rest is looked at by the clock */
            until = mesh_now() + HELPER_SLICE_MS * MESH_MS;
        uint64_t now = mesh_now();
        if (until < *io_deadline &&
            until <= now) /* its time is over, and it is another process's to end it */
            until = now + HELPER_SLICE_MS * MESH_MS;
        w->n = w->own + (n < room ? n : room);
        if (until < *io_deadline)
            *io_deadline = until;
        return;
    }
}

bool mesh_pend_after(struct mesh_wait *w) {
    bool any = false;
    for (uint32_t i = w->own; i < w->n; i++) {
        uint32_t word = w->fds[i].revents ? mesh_fd_get(w->fds[i].fd) : 0;
        if (mesh_fd_kind(word) != MESH_FD_CONN)
            continue;
        struct mesh_guard g = mesh_guard_enter();
        struct item *at = find(mesh_fd_slot(word)), it = at ? *at : (struct item){0};
        mesh_guard_leave(g);
        if (at)
            drive(&it, mesh_now());
        any = true;
    }
    return any && ++w->rounds < ROUNDS;
}

void mesh_pend_round(uint64_t deadline) {
    struct mesh_wait w;
    if (!mesh_wait_init(&w, 0))
        return;
    mesh_pend_before(&w, -1, -1, &deadline);
    uint64_t now = mesh_now();
    struct timespec t = {0, deadline > now ? (long)(deadline - now) : 0};
    if (mesh_sys_ppoll(w.fds, w.n, &t, NULL) > 0)
        (void)mesh_pend_after(&w);
    mesh_wait_done(&w);
}

/* ---- the helper ---- */

static void *helper(void *arg) {
    uint64_t idle_since = mesh_now(), slice = HELPER_SLICE_MS;
    uint32_t seen = 0;
    atomic_store(&helping, mesh_thread());
    for (;;) {
        if (mesh_pend_count()) {
            uint32_t now = atomic_load(&leaves);
            slice = now != seen ? HELPER_SLICE_MS : slice < HELPER_SLICE_MOST_MS ? slice * 2 : slice;
            seen = now;
            mesh_pend_round(mesh_now() + slice * MESH_MS);
            idle_since = mesh_now();
            continue;
        }
        struct timespec t = {0, HELPER_SLICE_MS * 1000000};
        (void)mesh_sys_ppoll(NULL, 0, &t, NULL);
        if (mesh_now() - idle_since < HELPER_IDLE_MS * MESH_MS)
            continue;
        atomic_store(&helping, 0);
        uint32_t none = 0; /* work that came in between would have seen a helper */
        if (!mesh_pend_count() || !atomic_compare_exchange_strong(&helping, &none, mesh_thread()))
            return arg;
    }
}

static void help(void) {
    uint32_t none = 0;
    if (!mesh_sys_may(SYS_clone) || !mesh_sys_may(SYS_clone3) || !mesh_sys_may(SYS_mmap) ||
        !atomic_compare_exchange_strong(&helping, &none, STARTING))
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
        atomic_store(&helping, 0);
}

void mesh_pend_leave(uint32_t slot) {
    mesh_pend_add(slot);
    atomic_fetch_add(&leaves, 1);
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

/* Is it a handshake that other processes wait for? */
static bool awaited(const struct item *i) {
    const struct mesh_conn *c = mesh_conn_at(i->slot);
    return mesh_hand_ours(c, i->slot) && mesh_conn_others(i->slot, mesh_proc_self());
}

static bool any_unsent(void) {
    bool unsent = false;
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = 0; i < nitems; i++)
        unsent |= mesh_tx_unsent(mesh_conn_at(items[i].slot)) || awaited(&items[i]);
    mesh_guard_leave(g);
    return unsent;
}

void mesh_pend_drain(uint64_t deadline) {
    for (uint64_t now = mesh_now(); any_unsent(); now = mesh_now()) {
        if (now >= deadline) {
            mesh_trace_refused("unsent-at-exit", NULL, NULL);
            return;
        }
        /* in short pieces: the helper may send what we are about to wait for */
        uint64_t soon = now + HELPER_SLICE_MS * MESH_MS;
        mesh_pend_round(soon < deadline ? soon : deadline);
    }
}

void mesh_pend_after_fork(void) {
    atomic_store(&helping, 0);
    while (nitems) { /* the parent's business; what the child touches comes back on its list */
        struct item it = items[nitems - 1];
        int fd = atomic_load(&mesh_local_at(it.slot)->fd);
        drop(it.slot);
        if (it.linger)
            mesh_close_inherited(it.slot, fd);
    }
}
