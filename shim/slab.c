/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/slab.h"

#include <errno.h>
#include <stddef.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/door.h"
#include "shim/slab_fd.h"

enum { SLOTS = 1 << 17, CHUNKS = 1 << 14, SLOTS_LEAST = 1 << 10, CHUNKS_LEAST = 1 << 8 };

struct proc {
    _Atomic int pid;            /* 0: free, -1: reserved for a child that has not come yet */
    _Atomic uint32_t replacing; /* it execs: alive only as long as it holds its lock (shim/slab_fd.h) */
    uint64_t reserved_at;       /* mesh_now() */
};

struct mesh_slab {
    struct head {
        uint64_t tree;
        uint32_t layout;
        uint32_t nslots, nchunks;
    } head;
    _Atomic uint64_t free_slots; /* tag << 32 | index + 1 */
    _Atomic uint64_t free_chunks;
    _Atomic uint32_t fresh_slot, fresh_chunk; /* never used so far; chunk 0 is never given out */
    _Atomic uint64_t collected;               /* mesh_now() of the last collection */
    struct proc procs[MESH_PROCS_MAX];
    struct mesh_rotation rotation;
    struct mesh_conn conns[]; /* nslots, then the chunks, page-aligned */
};

struct mesh_slab *mesh_slab;
static struct mesh_chunk *chunks;
static uint32_t self = MESH_PROCS_MAX;

static size_t slab_size(uint32_t slots, uint32_t nchunks, size_t *ret_chunks_at) {
    size_t at = sizeof(struct mesh_slab) + (size_t)slots * sizeof(struct mesh_conn);
    at = (at + 4095) & ~(size_t)4095;
    *ret_chunks_at = at;
    return at + (size_t)nchunks * MESH_CHUNK_SIZE;
}

/* Raised whenever the meaning of a field changes; the sizes catch the rest. */
enum { LAYOUT_VERSION = 2 };
uint32_t mesh_slab_layout(void) {
    const uint32_t parts[] = {LAYOUT_VERSION,
                              sizeof(struct mesh_slab),
                              sizeof(struct mesh_conn),
                              sizeof(struct mesh_record),
                              sizeof(struct mesh_post),
                              sizeof(pthread_mutex_t),
                              offsetof(struct mesh_conn, rx),
                              offsetof(struct mesh_conn, tx),
                              offsetof(struct mesh_conn, rx_lock),
                              MESH_CHUNK_SIZE,
                              MESH_PROCS_MAX};
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < MESH_ARRAY_LEN(parts); i++)
        h = (h ^ parts[i]) * 16777619u;
    return h;
}

/* On a memfd where that is to be had. */
static int map_new(size_t size, int *ret_fd, void **ret_p) {
    int fd = mesh_slab_fd_new(size);
    int err = MESH_E_NOMEM;
    if (fd >= 0)
        err = mesh_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0, ret_p);
    if (err && fd >= 0)
        (void)mesh_sys_close(fd);
    if (err) {
        fd = -1;
        err = mesh_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                            -1, 0, ret_p);
    }
    *ret_fd = fd;
    return err;
}

static void use(struct mesh_slab *s, size_t size, size_t chunks_at) {
    (void)mesh_sys_madvise(s, size, MADV_DONTDUMP); /* keys do not belong into core files */
    chunks = (struct mesh_chunk *)((char *)s + chunks_at);
}

int mesh_slab_need(void) {
    if (__atomic_load_n(&mesh_slab, __ATOMIC_ACQUIRE))
        return 0;
    uint32_t slots = SLOTS, nchunks = CHUNKS;
    size_t at, size;
    void *p;
    int fd;
    for (;;) { /* a machine that commits strictly may refuse the large reservation */
        size = slab_size(slots, nchunks, &at);
        if (map_new(size, &fd, &p) == 0)
            break;
        if (slots <= SLOTS_LEAST)
            return MESH_E_NOMEM;
        slots /= 2;
        nchunks = nchunks / 2 > CHUNKS_LEAST ? nchunks / 2 : CHUNKS_LEAST;
    }
    struct mesh_slab *s = p, *none = NULL;
    s->head = (struct head){.layout = mesh_slab_layout(), .nslots = slots, .nchunks = nchunks};
    s->fresh_chunk = 1;
    if (mesh_sys_getrandom(&s->head.tree, sizeof s->head.tree, 0) != sizeof s->head.tree || s->head.tree == 0)
        s->head.tree = mesh_random() | 1;
    if (!__atomic_compare_exchange_n(&mesh_slab, &none, s, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        (void)mesh_sys_munmap(p, size);
        if (fd >= 0)
            (void)mesh_sys_close(fd);
        return 0;
    }
    use(s, size, at);
    mesh_slab_fd_keep(fd);
    mesh_proc_become(mesh_proc_reserve());
    return 0;
}

int mesh_slab_adopt(int fd, uint64_t tree) {
    struct head h;
    size_t at, size = mesh_slab_fd_size(fd);
    void *p;
    if (mesh_slab || size < sizeof(struct mesh_slab) || mesh_sys_pread(fd, &h, sizeof h, 0) != sizeof h)
        return MESH_E_INVALID;
    if (h.tree != tree || h.layout != mesh_slab_layout() || h.nslots > SLOTS || h.nchunks > CHUNKS ||
        size != slab_size(h.nslots, h.nchunks, &at))
        return MESH_E_INVALID;
    if (mesh_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0, &p))
        return MESH_E_NOMEM;
    mesh_slab = p;
    use(p, size, at);
    mesh_slab_fd_keep(fd);
    return 0;
}

struct mesh_rotation *mesh_slab_rotation(void) {
    return &mesh_slab->rotation;
}

uint64_t mesh_slab_tree(void) {
    return mesh_slab ? mesh_slab->head.tree : 0;
}

/* ---- free lists: a tag beside the index stops a pop from believing a head that went and came back ---- */

static uint32_t pop(_Atomic uint64_t *head, uint32_t *(*next_of)(uint32_t)) {
    uint64_t h = atomic_load_explicit(head, memory_order_acquire);
    while ((uint32_t)h) {
        uint32_t i = (uint32_t)h - 1;
        uint32_t next = __atomic_load_n(next_of(i), __ATOMIC_RELAXED);
        if (atomic_compare_exchange_weak_explicit(head, &h, ((h >> 32) + 1) << 32 | next,
                                                  memory_order_acq_rel, memory_order_acquire))
            return i;
    }
    return UINT32_MAX;
}

static void push(_Atomic uint64_t *head, uint32_t i, uint32_t *next) {
    uint64_t h = atomic_load_explicit(head, memory_order_relaxed);
    do
        __atomic_store_n(next, (uint32_t)h, __ATOMIC_RELAXED);
    while (!atomic_compare_exchange_weak_explicit(head, &h, ((h >> 32) + 1) << 32 | (i + 1),
                                                  memory_order_acq_rel, memory_order_relaxed));
}

static uint32_t fresh(_Atomic uint32_t *counter, uint32_t max) {
    uint32_t i = atomic_load(counter);
    while (i < max)
        if (atomic_compare_exchange_weak(counter, &i, i + 1))
            return i;
    return UINT32_MAX;
}

static uint32_t *conn_next(uint32_t i) {
    return &mesh_slab->conns[i].next;
}
static uint32_t *chunk_next(uint32_t i) {
    return &chunks[i].next;
}

/* ---- connections ---- */

struct mesh_conn *mesh_conn_at(uint32_t slot) {
    return mesh_slab && slot < mesh_slab->head.nslots ? &mesh_slab->conns[slot] : NULL;
}

uint32_t mesh_conn_by_inode(uint64_t inode) {
    uint32_t n = mesh_slab ? atomic_load(&mesh_slab->fresh_slot) : 0;
    for (uint32_t i = 0; i < n && i < mesh_slab->head.nslots; i++) {
        const struct mesh_conn *c = &mesh_slab->conns[i];
        if (c->inode == inode && atomic_load(&c->generation) % 2)
            return i;
    }
    return UINT32_MAX;
}

static int lock_make(pthread_mutex_t *m) {
    pthread_mutexattr_t a;
    int err = pthread_mutexattr_init(&a);
    if (err)
        return err;
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    err = pthread_mutex_init(m, &a);
    pthread_mutexattr_destroy(&a);
    return err;
}

/* Locks that a process died with are beyond use and made anew: nobody can be waiting for them in earnest. */
static bool usable(pthread_mutex_t *m) {
    int err = pthread_mutex_trylock(m);
    if (err == EOWNERDEAD)
        pthread_mutex_consistent(m);
    if (err == 0 || err == EOWNERDEAD)
        pthread_mutex_unlock(m);
    return err != ENOTRECOVERABLE;
}

static int locks_need(struct mesh_conn *c) {
    if (c->locks_made && usable(&c->rx_lock) && usable(&c->tx_lock))
        return 0;
    c->locks_made = 0;
    if (lock_make(&c->rx_lock) || lock_make(&c->tx_lock))
        return MESH_E_NOMEM;
    c->locks_made = 1;
    return 0;
}

static bool alive(uint32_t i) {
    const struct proc *p = &mesh_slab->procs[i];
    int pid = atomic_load_explicit(&p->pid, memory_order_acquire);
    if (pid == 0)
        return false;
    if (pid < 0) /* a child on its way; one that died before it could say so counts for ten seconds */
        return mesh_now_coarse() - p->reserved_at < 10 * MESH_SEC;
    if (i == self)
        return true;
    return mesh_sys_kill(pid, 0) != -ESRCH && (!atomic_load(&p->replacing) || mesh_slab_fd_locked(i));
}

/* Is it on its way to a process? What is not picked up within a minute will not be. */
static bool travels(const struct mesh_conn *c) {
    return atomic_load(&c->transit) && mesh_now_coarse() - atomic_load(&c->transit_at) < 60 * MESH_SEC;
}

/* Is a live process among the holders, besides `but`? */
static bool held_but(const struct mesh_conn *c, uint32_t but) {
    if (c->in_doubt || travels(c))
        return true;
    for (uint32_t w = 0; w < MESH_PROCS_MAX / 64; w++)
        for (uint64_t bits = atomic_load(&c->holders[w]); bits; bits &= bits - 1) {
            uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);
            if (i != but && alive(i))
                return true;
        }
    return false;
}

static bool held(const struct mesh_conn *c) {
    return held_but(c, MESH_PROCS_MAX);
}

/* Gives back what only dead processes hold; at most once a second, and only by who found nothing free. */
static void collect(void) {
    uint64_t now = mesh_now(), last = atomic_load(&mesh_slab->collected);
    if (now - last < MESH_SEC || !atomic_compare_exchange_strong(&mesh_slab->collected, &last, now))
        return;
    uint32_t n = atomic_load(&mesh_slab->fresh_slot);
    for (uint32_t i = 0; i < n && i < mesh_slab->head.nslots; i++) {
        struct mesh_conn *c = &mesh_slab->conns[i];
        uint32_t g = atomic_load(&c->generation);
        if (g % 2 && !held(c) && atomic_compare_exchange_strong(&c->generation, &g, g + 2))
            mesh_conn_give(i);
    }
}

/* Before an entry goes to another process: no connection may speak of it any more. */
static void forget(uint32_t proc) {
    uint32_t n = atomic_load(&mesh_slab->fresh_slot);
    for (uint32_t i = 0; i < n && i < mesh_slab->head.nslots; i++)
        atomic_fetch_and(&mesh_slab->conns[i].holders[proc / 64], ~(UINT64_C(1) << (proc % 64)));
}

uint32_t mesh_conn_take(void) {
    if (mesh_slab_need())
        return UINT32_MAX;
    uint32_t i = pop(&mesh_slab->free_slots, conn_next);
    if (i == UINT32_MAX)
        i = fresh(&mesh_slab->fresh_slot, mesh_slab->head.nslots);
    if (i == UINT32_MAX) {
        collect();
        i = pop(&mesh_slab->free_slots, conn_next);
        if (i == UINT32_MAX)
            return i;
    }
    struct mesh_conn *c = &mesh_slab->conns[i];
    uint32_t g = atomic_load(&c->generation);
    if (locks_need(c)) {
        push(&mesh_slab->free_slots, i, &c->next);
        return UINT32_MAX;
    }
    memset(c, 0, offsetof(struct mesh_conn, locks_made));
    mesh_conn_hold(i, self);
    c->ledger = c->stat = UINT32_MAX;
    c->started = mesh_now();
    atomic_store(&c->generation, g + 1 + g % 2);
    return i;
}

void mesh_conn_hold(uint32_t slot, uint32_t proc) {
    struct mesh_conn *c = &mesh_slab->conns[slot];
    if (proc < MESH_PROCS_MAX)
        atomic_fetch_or(&c->holders[proc / 64], UINT64_C(1) << (proc % 64));
    else
        c->in_doubt = 1;
}

bool mesh_conn_let_go(uint32_t slot, uint32_t proc) {
    struct mesh_conn *c = &mesh_slab->conns[slot];
    if (proc < MESH_PROCS_MAX)
        atomic_fetch_and(&c->holders[proc / 64], ~(UINT64_C(1) << (proc % 64)));
    return !held(c);
}

static void empty(struct mesh_conn *c) {
    if (c->part)
        mesh_chunk_give(c->part);
    c->part = 0;
    mesh_queue_clear(&c->plain);
    mesh_queue_clear(&c->sealed);
    mesh_queue_clear(&c->held);
    mesh_zero(&c->rx, sizeof c->rx);
    mesh_zero(&c->tx, sizeof c->tx);
}

void mesh_conn_renew(uint32_t slot) {
    struct mesh_conn *c = &mesh_slab->conns[slot];
    uint64_t inode = c->inode, transit_at = atomic_load(&c->transit_at);
    uint32_t transit = atomic_load(&c->transit);
    uint8_t renewed = c->renewed + 1;
    empty(c);
    memset((char *)c + offsetof(struct mesh_conn, driver), 0,
           offsetof(struct mesh_conn, locks_made) - offsetof(struct mesh_conn, driver));
    c->ledger = c->stat = UINT32_MAX;
    c->inode = inode;
    c->renewed = renewed;
    atomic_store(&c->transit, transit);
    atomic_store(&c->transit_at, transit_at);
    atomic_store(&c->state, MESH_CONN_NEW);
}

bool mesh_conn_others(uint32_t slot, uint32_t proc) {
    return held_but(&mesh_slab->conns[slot], proc);
}

void mesh_conn_give(uint32_t slot) {
    struct mesh_conn *c = &mesh_slab->conns[slot];
    atomic_store(&c->state, MESH_CONN_FREE);
    empty(c);
    uint32_t g = atomic_load(&c->generation);
    atomic_store(&c->generation, g + 1 + (g + 1) % 2);
    push(&mesh_slab->free_slots, slot, &c->next);
}

static int lock(struct mesh_conn *c, pthread_mutex_t *m) {
    int err = pthread_mutex_lock(m);
    if (mesh_likely(err == 0))
        return 0;
    if (err == EDEADLK)
        return MESH_E_AGAIN;
    if (err == EOWNERDEAD) {
        c->error = ECONNRESET;
        c->tx_dead = 1;
        atomic_store(&c->state, MESH_CONN_DEAD);
        pthread_mutex_consistent(m);
        pthread_mutex_unlock(m);
    }
    return MESH_E_POISONED;
}

int mesh_conn_lock_rx(struct mesh_conn *c) {
    return lock(c, &c->rx_lock);
}
int mesh_conn_lock_tx(struct mesh_conn *c) {
    return lock(c, &c->tx_lock);
}
void mesh_conn_unlock_rx(struct mesh_conn *c) {
    pthread_mutex_unlock(&c->rx_lock);
}
void mesh_conn_unlock_tx(struct mesh_conn *c) {
    pthread_mutex_unlock(&c->tx_lock);
}

/* ---- chunks and queues ---- */

struct mesh_chunk *mesh_chunk_at(uint32_t i) {
    return i && mesh_slab && i < mesh_slab->head.nchunks ? &chunks[i] : NULL;
}

uint32_t mesh_chunk_take(void) {
    uint32_t i = pop(&mesh_slab->free_chunks, chunk_next);
    if (i == UINT32_MAX)
        i = fresh(&mesh_slab->fresh_chunk, mesh_slab->head.nchunks);
    if (i == UINT32_MAX)
        return 0;
    mesh_show(chunks[i].next, 0); /* a late pop may still look */
    chunks[i].off = chunks[i].len = 0;
    return i;
}

void mesh_chunk_give(uint32_t i) {
    if (mesh_chunk_at(i))
        push(&mesh_slab->free_chunks, i, &chunks[i].next);
}

/* One that was given back a moment ago does not mean that there are many. */
bool mesh_chunk_scarce(void) {
    uint32_t i = (uint32_t)atomic_load_explicit(&mesh_slab->free_chunks, memory_order_acquire);
    if (i && __atomic_load_n(chunk_next(i - 1), __ATOMIC_RELAXED))
        return false;
    return atomic_load_explicit(&mesh_slab->fresh_chunk, memory_order_relaxed) > mesh_slab->head.nchunks / 4;
}

static bool queue_room(struct mesh_queue *q, size_t n) {
    struct mesh_chunk *t = mesh_chunk_at(q->tail);
    size_t room = t ? MESH_CHUNK_DATA - t->len : 0;
    uint32_t first = 0, last = 0;
    while (room < n) {
        uint32_t i = mesh_chunk_take();
        if (!i) {
            while (first) {
                uint32_t next = chunks[first].next;
                mesh_chunk_give(first);
                first = next;
            }
            return false;
        }
        if (last)
            mesh_show(chunks[last].next, i);
        else
            first = i;
        last = i;
        room += MESH_CHUNK_DATA;
    }
    if (first) {
        if (t)
            mesh_show(t->next, first);
        else
            q->head = q->tail = first;
    }
    return true;
}

bool mesh_queue_put(struct mesh_queue *q, const void *p, size_t n) {
    if (!queue_room(q, n))
        return false;
    const uint8_t *src = p;
    mesh_show(q->bytes, q->bytes + (uint32_t)n);
    while (n) {
        struct mesh_chunk *t = mesh_chunk_at(q->tail);
        size_t k = MESH_CHUNK_DATA - t->len < n ? MESH_CHUNK_DATA - t->len : n;
        memcpy(t->data + t->len, src, k);
        t->len += (uint32_t)k;
        src += k;
        n -= k;
        if (n)
            q->tail = t->next;
    }
    return true;
}

size_t mesh_queue_peek(const struct mesh_queue *q, const uint8_t **ret_p) {
    struct mesh_chunk *h = mesh_chunk_at(q->head);
    if (!h || !q->bytes)
        return 0;
    *ret_p = h->data + h->off;
    return h->len - h->off;
}

void mesh_queue_drop(struct mesh_queue *q, size_t n) {
    while (n && q->head) {
        struct mesh_chunk *h = mesh_chunk_at(q->head);
        size_t k = h->len - h->off < n ? h->len - h->off : n;
        h->off += (uint32_t)k;
        mesh_show(q->bytes, q->bytes - (uint32_t)k);
        n -= k;
        if (h->off < h->len)
            return;
        uint32_t gone = q->head;
        if (gone == q->tail)
            q->head = q->tail = 0;
        else
            q->head = h->next;
        mesh_chunk_give(gone);
    }
}

void mesh_queue_clear(struct mesh_queue *q) {
    while (q->head) {
        uint32_t next = q->head == q->tail ? 0 : chunks[q->head].next;
        struct mesh_chunk *h = &chunks[q->head];
        mesh_zero(h->data, h->len);
        mesh_chunk_give(q->head);
        q->head = next;
    }
    q->tail = 0;
    mesh_show(q->bytes, 0);
}

/* ---- processes ---- */

uint32_t mesh_proc_self(void) {
    return mesh_look(self);
}

static bool claim(uint32_t i, int from) {
    struct proc *p = &mesh_slab->procs[i];
    if (!atomic_compare_exchange_strong(&p->pid, &from, -1))
        return false;
    atomic_store(&p->replacing, 0);
    p->reserved_at = mesh_now_coarse();
    return true;
}

uint32_t mesh_proc_reserve(void) {
    if (!mesh_slab)
        return MESH_PROCS_MAX;
    for (uint32_t i = 0; i < MESH_PROCS_MAX; i++)
        if (atomic_load(&mesh_slab->procs[i].pid) == 0 && claim(i, 0))
            return i;
    for (uint32_t i = 0; i < MESH_PROCS_MAX; i++) {
        int pid = atomic_load(&mesh_slab->procs[i].pid);
        if (!alive(i) && claim(i, pid)) {
            forget(i);
            return i;
        }
    }
    return MESH_PROCS_MAX;
}

bool mesh_proc_alive(uint32_t i) {
    return i >= MESH_PROCS_MAX || alive(i);
}

void mesh_proc_cancel(uint32_t i) {
    if (i >= MESH_PROCS_MAX)
        return;
    forget(i);
    atomic_store(&mesh_slab->procs[i].pid, 0);
}

void mesh_proc_assign(uint32_t i, int pid) {
    int reserved = -1;
    if (i < MESH_PROCS_MAX)
        (void)atomic_compare_exchange_strong(&mesh_slab->procs[i].pid, &reserved, pid);
}

bool mesh_proc_take(uint32_t i) {
    if (i >= MESH_PROCS_MAX)
        return i == MESH_PROCS_MAX;
    mesh_proc_assign(i, mesh_sys_getpid());
    if (atomic_load(&mesh_slab->procs[i].pid) != mesh_sys_getpid())
        return false;
    self = i;
    return true;
}

void mesh_proc_replacing(bool on) {
    if (!mesh_slab || self >= MESH_PROCS_MAX)
        return;
    if (on && !mesh_slab_fd_lock(self))
        return;
    atomic_store(&mesh_slab->procs[self].replacing, on);
    if (!on)
        mesh_slab_fd_unlock();
}

void mesh_proc_become(uint32_t i) {
    self = i;
    if (i < MESH_PROCS_MAX)
        atomic_store(&mesh_slab->procs[i].pid, mesh_sys_getpid());
}

void mesh_proc_leave(void) {
    if (mesh_slab && self < MESH_PROCS_MAX)
        atomic_store(&mesh_slab->procs[self].pid, 0);
    mesh_show(self, MESH_PROCS_MAX);
}
