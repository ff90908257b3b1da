/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/engine.h"
#include "shim/fd.h"

/* ---- the private lock ---- */

static _Atomic uint32_t word; /* 0 free, 1 held, 2 held and waited for */
static struct mesh_guard fork_guard;

struct mesh_guard mesh_guard_enter(void) {
    struct mesh_guard g = {0};
    uint64_t all = ~UINT64_C(0);
    (void)mesh_sys_sigprocmask(SIG_BLOCK, &all, &g.signals);
    uint32_t free_ = 0;
    if (atomic_compare_exchange_strong(&word, &free_, 1))
        return g;
    while (atomic_exchange(&word, 2) != 0)
        (void)mesh_sys_futex(&word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, NULL, NULL, 0);
    return g;
}

void mesh_guard_leave(struct mesh_guard g) {
    if (atomic_exchange(&word, 0) == 2)
        (void)mesh_sys_futex(&word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
    (void)mesh_sys_sigprocmask(SIG_SETMASK, &g.signals, NULL);
}

void mesh_guard_before_fork(void) {
    struct mesh_guard g = mesh_guard_enter();
    fork_guard = g;
}

void mesh_guard_after_fork(bool child) {
    if (child)
        atomic_store(&word, 1);
    mesh_guard_leave(fork_guard);
}

void mesh_guard_forget(void) {
    atomic_store(&word, 0);
}

/* ---- scratch ---- */

enum { POOL = 32 };
static _Atomic(uint8_t *) pool[POOL];

uint8_t *mesh_scratch_take(void) {
    for (int i = 0; i < POOL; i++)
        if (atomic_load_explicit(&pool[i], memory_order_relaxed)) {
            uint8_t *p = atomic_exchange(&pool[i], NULL);
            if (p)
                return p;
        }
    void *p;
    if (mesh_sys_mmap(NULL, MESH_SCRATCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &p)) {
        mesh_trace_refused("no-memory", "for", "record");
        return NULL;
    }
    return p;
}

void mesh_scratch_give(uint8_t *p) {
    for (int i = 0; p && i < POOL; i++) {
        uint8_t *none = NULL;
        if (!atomic_load_explicit(&pool[i], memory_order_relaxed) &&
            atomic_compare_exchange_strong(&pool[i], &none, p))
            return;
    }
    if (p)
        (void)mesh_sys_munmap(p, MESH_SCRATCH);
}

/* ---- AEAD contexts ----
 * Four ways a set; a context in use by another thread (or by the call that a signal interrupted) is passed
 * over, and when all four are, a temporary one is made. */

enum { SETS = 64, WAYS = 4 };
struct way {
    _Atomic uint32_t busy;
    uint32_t used; /* when last, for replacement */
    struct mesh_aead a;
};
static struct way ways[SETS][WAYS];
static _Atomic uint32_t ticks;

void mesh_aead_borrow(struct mesh_aead_ref *r, uint32_t slot, bool tx) {
    struct mesh_conn *c = mesh_conn_at(slot);
    (void)mesh_engine_crypto(NULL); /* a program that a connection crossed into may come here first */
    r->tag = ((uint64_t)atomic_load_explicit(&c->generation, memory_order_relaxed) << 32) |
             (uint64_t)c->renewed << 24 | (uint64_t)slot << 1 | tx;
    struct way *set = ways[(slot * 2 + tx) % SETS], *best = NULL;
    for (int i = 0; i < WAYS; i++) {
        if (atomic_load_explicit(&set[i].busy, memory_order_relaxed))
            continue;
        if (set[i].a.keyed && set[i].a.tag == r->tag) {
            best = &set[i];
            break;
        }
        if (!best || set[i].used < best->used)
            best = &set[i];
    }
    uint32_t free_ = 0;
    if (best && atomic_compare_exchange_strong(&best->busy, &free_, 1)) {
        best->used = atomic_fetch_add_explicit(&ticks, 1, memory_order_relaxed);
        r->set = best;
        r->a = &best->a;
        return;
    }
    memset(&r->own, 0, sizeof r->own);
    r->set = NULL;
    r->a = &r->own;
}

void mesh_aead_return(struct mesh_aead_ref *r) {
    struct way *w = r->set;
    if (w)
        atomic_store_explicit(&w->busy, 0, memory_order_release);
    else
        mesh_aead_done(&r->own);
}

void mesh_aead_after_fork(void) {
    for (int i = 0; i < SETS * WAYS; i++) {
        struct way *w = &ways[i / WAYS][i % WAYS];
        if (!w->busy)
            continue;
        memset(&w->a, 0, sizeof w->a); /* torn: leave it to the parent's thread, do not even free it */
        atomic_store(&w->busy, 0);
    }
}

/* ---- companions ---- */

enum { DIRECTORY = 1 << 9, LEAF = 1 << 8 };
static _Atomic(struct mesh_local *) directory[DIRECTORY];
static uint32_t *held_slots;
static uint32_t held_n, held_cap;

struct mesh_local *mesh_local_at(uint32_t slot) {
    uint32_t d = slot / LEAF;
    if (d >= DIRECTORY)
        return NULL;
    struct mesh_local *leaf = atomic_load_explicit(&directory[d], memory_order_acquire), *none = NULL;
    if (mesh_unlikely(!leaf)) {
        void *p;
        size_t n = LEAF * sizeof(struct mesh_local);
        if (mesh_sys_mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &p))
            return NULL;
        leaf = p;
        if (!atomic_compare_exchange_strong(&directory[d], &none, leaf)) {
            (void)mesh_sys_munmap(p, n);
            leaf = none;
        }
    }
    return &leaf[slot % LEAF];
}

/* guard held */
static int held_push(uint32_t slot, struct mesh_local *l) {
    if (held_n == held_cap) {
        uint32_t cap = held_cap ? held_cap * 2 : 1024;
        void *p;
        if (mesh_sys_mmap(NULL, cap * sizeof *held_slots, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                          -1, 0, &p))
            return MESH_E_NOMEM;
        if (held_cap) {
            memcpy(p, held_slots, held_n * sizeof *held_slots);
            (void)mesh_sys_munmap(held_slots, held_cap * sizeof *held_slots);
        }
        held_slots = p;
        held_cap = cap;
    }
    l->held_at = held_n;
    held_slots[held_n++] = slot;
    return 0;
}

uint32_t mesh_local_held(uint32_t *ret, uint32_t from, uint32_t max) {
    struct mesh_guard g = mesh_guard_enter();
    uint32_t n = 0;
    while (n < max && from + n < held_n) {
        ret[n] = held_slots[from + n];
        n++;
    }
    mesh_guard_leave(g);
    return n;
}

uint32_t mesh_local_by_inode(uint64_t inode) {
    uint32_t found = UINT32_MAX;
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = 0; i < held_n && found == UINT32_MAX; i++)
        if (mesh_conn_at(held_slots[i])->inode == inode)
            found = held_slots[i];
    mesh_guard_leave(g);
    return found;
}

void mesh_local_each(void (*fn)(uint32_t slot)) {
    for (uint32_t i = 0; i < held_n; i++)
        fn(held_slots[i]);
}

static uint64_t inode_of(int fd) {
    struct stat st;
    return mesh_sys_fstat(fd, &st) ? 0 : st.st_ino;
}

int mesh_local_add(uint32_t slot, int fd) {
    struct mesh_local *l = mesh_local_at(slot);
    struct mesh_conn *c = mesh_conn_at(slot);
    if (!l || !c)
        return MESH_E_NOMEM;
    uint32_t generation = atomic_load(&c->generation);
    struct mesh_guard g = mesh_guard_enter();
    int err = 0;
    if (!c->inode)
        c->inode = inode_of(fd);
    if (l->generation != generation) { /* new to this process */
        memset(l, 0, sizeof *l);
        l->due = UINT64_MAX;
        l->wants = POLLIN;
        err = held_push(slot, l);
        if (!err)
            l->generation = generation;
    }
    if (!err) {
        atomic_fetch_add(&l->fds, 1);
        atomic_store(&l->fd, fd);
    }
    mesh_guard_leave(g);
    return err;
}

bool mesh_conn_owns(uint32_t slot, int fd) {
    return mesh_fd_get(fd) == (slot << 4 | MESH_FD_CONN) ||
           atomic_load(&mesh_local_at(slot)->ending) == fd + 1;
}

uint32_t mesh_local_drop(uint32_t slot, int fd) {
    struct mesh_local *l = mesh_local_at(slot);
    struct mesh_guard g = mesh_guard_enter();
    uint32_t left = atomic_fetch_sub(&l->fds, 1) - 1;
    if (left == 0) {
        uint32_t last = held_slots[--held_n];
        held_slots[l->held_at] = last;
        mesh_local_at(last)->held_at = l->held_at;
        l->generation = 0;
    } else if (atomic_load(&l->fd) == fd) { /* another of its descriptors must stand in */
        for (int i = 0; i <= (int)mesh_fd_highest(); i++)
            if (i != fd &&
                (mesh_fdtab[i] == (slot << 4 | MESH_FD_CONN) || mesh_fdtab[i] == (slot << 4 | MESH_FD_KIN))) {
                atomic_store(&l->fd, i);
                break;
            }
    }
    mesh_guard_leave(g);
    return left;
}
