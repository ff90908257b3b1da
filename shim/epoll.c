/* SPDX-License-Identifier: Apache-2.0
 *
 * epoll registrations of mesh connections (shim/watch.h). */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/conn.h"
#include "shim/fd.h"
#include "shim/hand.h"
#include "shim/pend.h"
#include "shim/real.h"
#include "shim/watch.h"

enum { BUCKETS = 1024, NONE = UINT32_MAX, FEW = 8, ANY_EP = -1, CHUNK = 256, CHUNKS = 4096, HOPS = 64 };
static const uint64_t QUIET = 100 * MESH_MS;

#define OFF (UINT32_C(1) << 27) /* no event: the program took it out, and may put it in again */

/* What the program wants: changed as one, also by who has no guard (quick_ctl). */
struct want {
    uint64_t data;
    uint32_t events;
    uint32_t generation; /* of the registration: another one may have the place by now */
} __attribute__((aligned(16)));

struct reg { /* its place is never given back to the system */
    struct want want;
    int ep, fd;
    uint32_t next; /* of its bucket, or of the free list */
    uint32_t slot; /* NONE: not a connection yet */
    uint32_t index;
    uint32_t kernel; /* events that the kernel has, while swapped */
    bool used, swapped;
    bool disarmed; /* EPOLLONESHOT went off */
    bool out_told; /* EPOLLET: writable was reported while told */
};

static struct reg *chunks[CHUNKS];
static _Atomic uint32_t
    nregs; /* read without the guard: 0, and the program has never used epoll on one of ours */
static uint32_t free_list = NONE;
static uint32_t buckets[BUCKETS]; /* index + 1 */
static uint32_t magic;

/* ---- the registry; guard held ---- */

static uint32_t *bucket(int fd) {
    return &buckets[(unsigned)fd % BUCKETS];
}

static struct reg *reg_at(uint32_t i) {
    return &chunks[i / CHUNK][i % CHUNK];
}

/* Without the guard the way may lead astray: `hops` ends it, and the finding is looked at again. */
static struct reg *reg_find(int ep, int fd, int hops) {
    uint32_t i = *bucket(fd);
    for (; i && hops; i = reg_at(i - 1)->next, hops--) {
        struct reg *r = reg_at(i - 1);
        if (r->fd == fd && r->ep == ep && r->used)
            return r;
    }
    return NULL;
}

static bool grow(void) {
    void *p;
    if (nregs / CHUNK >= CHUNKS || mesh_sys_mmap(NULL, CHUNK * sizeof(struct reg), PROT_READ | PROT_WRITE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &p))
        return false;
    chunks[nregs / CHUNK] = p;
    return true;
}

static struct reg *reg_new(int ep, int fd) {
    uint32_t i = free_list;
    if (i != NONE)
        free_list = reg_at(i)->next;
    else if (nregs % CHUNK || grow())
        i = nregs++;
    else
        return NULL;
    if (!magic)
        magic = (uint32_t)mesh_random() | 1;
    struct reg *r = reg_at(i);
    uint32_t generation = r->want.generation;
    *r = (struct reg){.ep = ep, .fd = fd, .slot = NONE, .index = i, .next = *bucket(fd)};
    r->want.generation = generation;
    r->used = true;
    *bucket(fd) = i + 1;
    return r;
}

static void reg_free(struct reg *r) {
    uint32_t i = r->index;
    for (uint32_t *at = bucket(r->fd); *at; at = &reg_at(*at - 1)->next)
        if (*at == i + 1) {
            *at = r->next;
            break;
        }
    r->used = false;
    r->want.generation++;
    r->next = free_list;
    free_list = i;
}

static uint64_t cookie(const struct reg *r) {
    return (uint64_t)magic << 32 | r->index;
}

/* ---- what the kernel is asked for ---- */

static uint32_t mask_of(const struct reg *r, const struct mesh_conn *c) {
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_OPEN || state == MESH_CONN_DEAD)
        return r->disarmed ? 0 : r->want.events;
    uint32_t m = (uint32_t)mesh_hand_wants(r->slot) & (EPOLLIN | EPOLLOUT);
    if (mesh_tx_room(c) && r->want.events & EPOLLOUT && !r->disarmed &&
        !(r->want.events & EPOLLET && r->out_told))
        m |= EPOLLOUT;
    return m;
}

static int kernel_mod(struct reg *r, uint32_t events, uint64_t data) {
    struct epoll_event ev = {.events = events, .data.u64 = data};
    return mesh_sys_epoll_ctl(r->ep, EPOLL_CTL_MOD, r->fd, &ev);
}

/* Makes the kernel's registration what the connection's state asks for. */
static void refresh(struct reg *r, bool force) {
    struct mesh_conn *c = r->slot == NONE || r->want.events == OFF ? NULL : mesh_conn_at(r->slot);
    if (!c)
        return;
    if (!mesh_watch_special(c, r->slot)) {
        if (!r->swapped)
            return;
        r->swapped = false;
        (void)kernel_mod(r, r->disarmed ? 0 : r->want.events, r->want.data);
        return;
    }
    uint32_t m = mask_of(r, c);
    if (r->swapped && r->kernel == m && !force)
        return;
    r->swapped = true;
    r->kernel = m;
    (void)kernel_mod(r, m, cookie(r));
}

static void refresh_slot(uint32_t slot, bool force) {
    struct mesh_local *l = mesh_local_at(slot);
    bool any = false;
    int fd = atomic_load(&l->fd);
    for (uint32_t i = *bucket(fd), next; i; i = next) {
        struct reg *r = reg_at(i - 1);
        next = r->next;
        if (r->fd != fd || r->slot != slot)
            continue;
        refresh(r, force);
        any |= r->swapped;
    }
    if (atomic_load(&l->fds) > 1) /* other descriptors of it, rare */
        for (uint32_t i = 0; i < nregs; i++)
            if (reg_at(i)->used && reg_at(i)->slot == slot && reg_at(i)->fd != fd) {
                refresh(reg_at(i), force);
                any |= reg_at(i)->swapped;
            }
    l->swapped = any;
}

/* Whoever registers raises nregs before looking at the connection's state, which was set before we look. */
void mesh_watch_settled(uint32_t slot) {
    if (!atomic_load(&nregs))
        return;
    struct mesh_guard g = mesh_guard_enter();
    if (nregs)
        refresh_slot(slot, true);
    mesh_guard_leave(g);
}

void mesh_watch_begin(uint32_t slot, int fd) {
    if (!atomic_load(&nregs))
        return;
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = nregs ? *bucket(fd) : 0; i; i = reg_at(i - 1)->next)
        if (reg_at(i - 1)->fd == fd) {
            reg_at(i - 1)->slot = slot;
            reg_at(i - 1)->out_told = false;
        }
    if (nregs)
        refresh_slot(slot, true);
    mesh_guard_leave(g);
}

static void forget_where(int fd, int ep) {
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = 0; i < nregs; i++)
        if (reg_at(i)->used && (reg_at(i)->fd == fd || reg_at(i)->ep == ep))
            reg_free(reg_at(i));
    mesh_guard_leave(g);
}

void mesh_watch_forget(int fd) {
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = nregs ? *bucket(fd) : 0, next; i; i = next) {
        next = reg_at(i - 1)->next;
        struct reg *r = reg_at(i - 1);
        if (r->fd != fd)
            continue;
        if (r->swapped) /* as long as another descriptor keeps the socket, the kernel keeps the registration
                         */
            (void)kernel_mod(r, r->disarmed ? 0 : r->want.events, r->want.data);
        reg_free(r);
    }
    mesh_guard_leave(g);
}

void mesh_watch_end(int fd) {
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = nregs ? *bucket(fd) : 0, next; i; i = next) {
        next = reg_at(i - 1)->next;
        struct reg *r = reg_at(i - 1);
        if (r->fd != fd)
            continue;
        (void)mesh_sys_epoll_ctl(r->ep, EPOLL_CTL_DEL, fd, NULL);
        reg_free(r);
    }
    mesh_guard_leave(g);
}

void mesh_watch_forget_ep(int ep) {
    if (nregs)
        forget_where(-1, ep);
}

bool mesh_epoll_tells(uint32_t slot, int ep, uint32_t *ret_owner) {
    int fd = atomic_load(&mesh_local_at(slot)->fd);
    for (uint32_t i = nregs ? *bucket(fd) : 0; i; i = reg_at(i - 1)->next) {
        const struct reg *r = reg_at(i - 1);
        if (r->fd != fd || r->slot != slot || !r->swapped)
            continue;
        if (r->ep == ep)
            return true;
        uint32_t word = mesh_fd_get(r->ep);
        *ret_owner = mesh_fd_kind(word) == MESH_FD_EPOLL ? mesh_fd_slot(word) : 0;
    }
    return false;
}

/* ---- epoll_ctl ---- */

static int ctl_add(int ep, int fd, uint32_t slot, const struct epoll_event *ev) {
    struct reg *r = reg_new(ep, fd);
    if (!r)
        return -ENOMEM;
    r->slot = slot;
    r->want.events = ev->events;
    r->want.data = ev->data.u64;
    struct mesh_conn *c = slot == NONE ? NULL : mesh_conn_at(slot);
    struct epoll_event k = *ev;
    if (c && mesh_watch_special(c, slot)) {
        r->swapped = true;
        r->kernel = k.events = mask_of(r, c);
        k.data.u64 = cookie(r);
        mesh_local_at(slot)->swapped = 1;
    }
    int err = mesh_sys_epoll_ctl(ep, EPOLL_CTL_ADD, fd, &k);
    if (err) {
        reg_free(r);
        return err;
    }
    for (uint32_t i = r->next; i; i = reg_at(i - 1)->next)
        if (reg_at(i - 1)->fd == fd &&
            reg_at(i - 1)->ep == ep) { /* left over from an epoll instance closed behind our back */
            reg_free(reg_at(i - 1));
            break;
        }
    if (mesh_fd_kind(mesh_fd_get(ep)) != MESH_FD_EPOLL)
        mesh_fd_set(ep, MESH_FD_EPOLL, 0);
    return 0;
}

static int ctl_mod(struct reg *r, const struct epoll_event *ev) {
    struct reg old = *r;
    r->want.events = ev->events;
    r->want.data = ev->data.u64;
    r->disarmed = r->out_told = false;
    struct mesh_conn *c = r->slot == NONE ? NULL : mesh_conn_at(r->slot);
    r->swapped = c && mesh_watch_special(c, r->slot);
    r->kernel = r->swapped ? mask_of(r, c) : r->want.events;
    int err = kernel_mod(r, r->kernel, r->swapped ? cookie(r) : r->want.data);
    if (err)
        *r = old;
    return err;
}

/* Changes what a registration wants, when it is still what was read. */
static bool want_swap(struct reg *r, struct want *io_old, struct want fresh) {
#if defined(__x86_64__)
    bool ok;
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(ok), "+m"(r->want), "+a"(io_old->data), "+d"(((uint64_t *)io_old)[1])
                     : "b"(fresh.data), "c"((uint64_t)fresh.generation << 32 | fresh.events)
                     : "memory");
    return ok;
#else
    return false;
#endif
}

/* May the kernel have what the program wants, and nothing else? */
static bool is_plain(const struct reg *r, uint32_t slot) {
    const uint32_t level = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLERR | EPOLLHUP;
    struct mesh_conn *c = mesh_conn_at(slot);
    return r->slot == slot && !r->swapped && c && atomic_load(&c->state) == MESH_CONN_OPEN &&
           !mesh_watch_special(c, slot) && (r->want.events == OFF || !(r->want.events & ~level));
}

/* Event loops change registrations several times a request, and the guard is two system calls. An open
 * connection with nothing pending needs none: what is wanted is written first, then the kernel is told. Who
 * makes the connection special meanwhile has seen the new wish, or is seen here afterwards: then the guarded
 * way does it once more. False: not done. */
static bool quick_ctl(int ep, int op, int fd, uint32_t slot, struct epoll_event *ev, int *ret_err) {
    const uint32_t level = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLERR | EPOLLHUP;
    struct reg *r = nregs ? reg_find(ep, fd, HOPS) : NULL;
    struct want old, fresh;
    if (!r || (op != EPOLL_CTL_DEL && ev->events & ~level))
        return false;
    old = r->want; /* if torn, it will not be swapped */
    fresh = (struct want){op == EPOLL_CTL_DEL ? 0 : ev->data.u64, op == EPOLL_CTL_DEL ? OFF : ev->events,
                          old.generation};
    atomic_thread_fence(memory_order_seq_cst);
    if (!is_plain(r, slot) || r->ep != ep || r->fd != fd || !r->used ||
        (old.events == OFF) != (op == EPOLL_CTL_ADD) || !want_swap(r, &old, fresh))
        return false;
    int err = mesh_sys_epoll_ctl(ep, op, fd, ev);
    if (err) {
        (void)want_swap(r, &fresh, old);
        *ret_err = err;
        return true;
    }
    atomic_thread_fence(memory_order_seq_cst);
    if (op != EPOLL_CTL_DEL && !is_plain(r, slot)) {
        struct mesh_guard g = mesh_guard_enter();
        if (r->used && r->ep == ep && r->fd == fd) {
            r->swapped = true; /* whatever the kernel has: it is told anew */
            refresh(r, true);
            mesh_local_at(slot)->swapped |= r->swapped;
        }
        mesh_guard_leave(g);
    }
    *ret_err = 0;
    return true;
}

int mesh_epoll_ctl(int ep, int op, int fd, struct epoll_event *ev) {
    uint32_t word = mesh_fd_get(fd);
    uint32_t slot = mesh_fd_kind(word) == MESH_FD_CONN ? mesh_fd_slot(word) : NONE;
    if ((op != EPOLL_CTL_DEL && !ev) || (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL))
        return mesh_sys_epoll_ctl(ep, op, fd, ev);
    int err;
    if (slot != NONE && quick_ctl(ep, op, fd, slot, ev, &err))
        return err;
    struct mesh_guard g = mesh_guard_enter();
    struct reg *r = nregs ? reg_find(ep, fd, INT_MAX) : NULL;
    if (op == EPOLL_CTL_ADD) {
        if (r && r->want.events == OFF)
            reg_free(r);
        err = ctl_add(ep, fd, slot, ev);
    } else if (op == EPOLL_CTL_MOD) {
        err = r ? ctl_mod(r, ev) : mesh_sys_epoll_ctl(ep, op, fd, ev);
    } else {
        err = mesh_sys_epoll_ctl(ep, op, fd, ev);
        if (r)
            reg_free(r);
    }
    mesh_guard_leave(g);
    if (!err && slot != NONE && op != EPOLL_CTL_DEL) {
        struct mesh_conn *c = mesh_conn_at(slot);
        uint32_t state = atomic_load(&c->state);
        if ((state == MESH_CONN_DIAL || state == MESH_CONN_HAND) && mesh_hand_deadline(slot) != UINT64_MAX)
            mesh_pend_add(slot);
    }
    return err;
}

/* ---- epoll_wait ---- */

struct seen { /* one event with a cookie, copied out of the registry */
    struct reg r;
    uint32_t index;
};

/* `ep` may be ANY_EP. */
static bool lookup(const struct epoll_event *ev, int ep, struct seen *ret) {
    uint32_t i = (uint32_t)ev->data.u64;
    struct mesh_guard g = mesh_guard_enter();
    bool ok = i < nregs && reg_at(i)->used && reg_at(i)->swapped && (reg_at(i)->ep == ep || ep == ANY_EP);
    if (ok)
        *ret = (struct seen){*reg_at(i), i};
    mesh_guard_leave(g);
    return ok;
}

/* The event goes to the program: EPOLLONESHOT goes off, and a swapped registration may have to ask for less.
 */
static void delivered(const struct seen *s, uint32_t events) {
    struct mesh_guard g = mesh_guard_enter();
    struct reg *r = reg_at(s->index);
    if (r->used && r->ep == s->r.ep && r->fd == s->r.fd) {
        if (r->want.events & EPOLLONESHOT)
            r->disarmed = true;
        if (events & EPOLLOUT)
            r->out_told = true;
        refresh(r, false);
    }
    mesh_guard_leave(g);
}

/* Nothing for the program came of it: what the kernel disarmed is armed again. */
static void swallowed(const struct seen *s) {
    struct mesh_guard g = mesh_guard_enter();
    struct reg *r = reg_at(s->index);
    if (r->used && r->ep == s->r.ep && r->fd == s->r.fd)
        refresh(r, r->want.events & EPOLLONESHOT);
    mesh_guard_leave(g);
}

/* What the program gets of an event that carries our cookie; 0: nothing. */
static uint32_t translate(const struct seen *s, uint32_t kernel, bool *ret_settled) {
    uint32_t slot = s->r.slot;
    struct mesh_conn *c = mesh_conn_at(slot);
    if (!c || s->r.disarmed)
        return 0;
    uint32_t state = atomic_load(&c->state);
    if (state == MESH_CONN_DIAL || state == MESH_CONN_HAND) {
        if (!mesh_hand_drive(c, slot, s->r.fd)) {
            *ret_settled = true; /* the registration was put back and tells by itself */
            return 0;
        }
        return mesh_tx_room(c) ? kernel & s->r.want.events & EPOLLOUT : 0;
    }
    if (state == MESH_CONN_OPEN && kernel & (EPOLLIN | EPOLLRDNORM)) {
        if (!mesh_rx_ready(c, slot, s->r.fd))
            kernel &= ~(uint32_t)(EPOLLIN | EPOLLRDNORM);
        state = atomic_load(&c->state); /* what came may have been an alert */
    }
    if (state == MESH_CONN_DEAD)
        return (c->error ? EPOLLERR | EPOLLHUP : EPOLLHUP) |
               (s->r.want.events & (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLRDNORM));
    if (mesh_look(c->rx_error))
        kernel |= EPOLLERR;
    return kernel & (s->r.want.events | EPOLLERR | EPOLLHUP);
}

/* The only registration in `ep` with this data, if it is a connection's and carries no cookie. */
static bool lookup_settled(const struct epoll_event *ev, int ep, struct seen *ret) {
    uint32_t found = 0;
    struct mesh_guard g = mesh_guard_enter();
    for (uint32_t i = 0; i < nregs; i++) {
        const struct reg *r = reg_at(i);
        if (!r->used || r->ep != ep || r->want.data != ev->data.u64 || r->want.events == OFF)
            continue;
        *ret = (struct seen){*r, i};
        found++;
    }
    mesh_guard_leave(g);
    return found == 1 && ret->r.slot != NONE && !ret->r.swapped;
}

/* Is it readable for a record without data, which is swallowed? */
static bool without_data(const struct epoll_event *ev, int ep) {
    struct seen s = {.index = NONE};
    if (ev->events & ~(uint32_t)(EPOLLIN | EPOLLRDNORM) || !lookup_settled(ev, ep, &s))
        return false;
    struct mesh_conn *c = mesh_conn_at(s.r.slot);
    if (!c || atomic_load(&c->state) != MESH_CONN_OPEN || mesh_rx_ready(c, s.r.slot, s.r.fd))
        return false;
    struct mesh_guard g = mesh_guard_enter();
    struct reg *r = reg_at(s.index);
    if (r->used && r->ep == ep && r->fd == s.r.fd && !r->swapped && r->want.events & EPOLLONESHOT)
        (void)kernel_mod(r, r->want.events, r->want.data);
    mesh_guard_leave(g);
    return true;
}

/* `quiet`: the wait was so long that a look at each event costs nothing. */
static int sieve(int ep, struct epoll_event *events, int n, bool quiet, bool *ret_settled) {
    int kept = 0;
    for (int i = 0; i < n; i++) {
        struct seen s = {.index = NONE};
        if (!magic || events[i].data.u64 >> 32 != magic) {
            if (!quiet || !without_data(&events[i], ep))
                events[kept++] = events[i];
            continue;
        }
        if (!lookup(&events[i], ep, &s))
            continue;
        uint32_t e = translate(&s, events[i].events, ret_settled);
        if (!e) {
            swallowed(&s);
            continue;
        }
        delivered(&s, e);
        events[kept].events = e;
        events[kept++].data.u64 = s.r.want.data;
    }
    return kept;
}

static int until_ms(uint64_t until) {
    if (until == UINT64_MAX)
        return -1;
    uint64_t now = mesh_now(), left = until > now ? (until - now + MESH_MS - 1) / MESH_MS : 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}

/* Waits for the epoll descriptor and for what is pending elsewhere. */
static int wait_round(struct mesh_wait *w, int ep, struct epoll_event *events, int max, uint64_t deadline,
                      const sigset_t *mask, bool *ret_again) {
    uint64_t until = deadline;
    mesh_pend_before(w, -1, ep, &until);
    if (w->n == 1)
        return real.epoll_pwait(ep, events, max, until_ms(until), mask);
    int ms = until_ms(until);
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};
    int r = real.ppoll(w->fds, w->n, ms < 0 ? NULL : &ts, mask);
    if (r < 0)
        return r;
    if (mesh_pend_after(w)) {
        *ret_again = true;
        return 0;
    }
    return w->fds[0].revents ? real.epoll_pwait(ep, events, max, 0, mask) : 0;
}

static void wait_left(void *w) {
    int keep = errno;
    mesh_wait_done(w);
    errno = keep;
}

int mesh_epoll_woken(struct epoll_event *events, int n) {
    bool again = false;
    if (n <= 0 || !magic)
        return n;
    int keep = errno;
    n = sieve(ANY_EP, events, n, false, &again);
    errno = n ? keep : EINTR;
    return n ? n : -1;
}

int mesh_epoll_wait(int ep, struct epoll_event *events, int max, uint64_t deadline, const sigset_t *mask) {
    int n;
    bool again;
    struct mesh_wait w;
    if (!mesh_wait_init(&w, 1)) {
        errno = ENOMEM;
        return -1;
    }
    w.fds[0] = (struct pollfd){.fd = ep, .events = POLLIN};
    uint32_t word = mesh_fd_get(ep), mine = mesh_thread() << 4 | MESH_FD_EPOLL;
    if (mesh_fd_kind(word) == MESH_FD_EPOLL && word != mine) /* it may be closed meanwhile */
        atomic_compare_exchange_strong(&mesh_fdtab[ep], &word, mine);
    pthread_cleanup_push(wait_left, &w);
    do {
        again = false;
        uint64_t began = mesh_now_coarse();
        n = wait_round(&w, ep, events, max, deadline, mask, &again);
        if (n > 0)
            n = sieve(ep, events, n, n <= FEW && mesh_now_coarse() - began > QUIET, &again);
    } while (n == 0 && (again || deadline == UINT64_MAX || mesh_now() < deadline));
    pthread_cleanup_pop(1);
    return n;
}
