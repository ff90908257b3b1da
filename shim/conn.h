/* SPDX-License-Identifier: Apache-2.0
 *
 * A mesh connection on a descriptor of this process: what reads and writes of the program become. Knows the kernel's
 * socket and the record layer; knows nothing of names, endpoints or handshakes (shim/hand.h).
 *
 * Truthful readiness (DESIGN D1): whenever opened plaintext is left over, the last byte of its record stays unread in the
 * kernel, so that every kind of wait, also one that we never see, reports the descriptor readable. A read asks the kernel
 * for no more bytes than the program's buffer plus one record's overhead, hence what it completes always fits.
 *
 * Signals: a handler that interrupts one of these calls and does I/O on the same direction of the same connection gets
 * EAGAIN. Cancellation: only while waiting, with no lock held. errno is the caller's business: results are -errno.
 */
#ifndef MESH_SHIM_CONN_H
#define MESH_SHIM_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "shim/base/mem.h"
#include "shim/slab.h"

struct mesh_io { /* one read or write of the program */
    struct mesh_conn *c;
    uint32_t slot;
    int fd;
    const struct iovec *iov;
    int cnt;
    size_t want;  /* sum of the iovecs */
    size_t done;  /* delivered or accepted so far */
    size_t skip;  /* bytes of `done` inside iov[0] after whole iovecs were stepped over */
    int flags;    /* MSG_ */
    bool discard; /* MSG_TRUNC: count, do not copy */
    bool ended;   /* the kernel said that there is no more */
};

/* Prepares; -EINVAL, -EMSGSIZE for a bad vector. */
int mesh_io_init(struct mesh_io *io, uint32_t slot, int fd, const struct iovec *iov, int cnt, int flags);

/* What the program's call returns: bytes, 0 (end), or -errno. Blocks as the descriptor and flags say. */
ssize_t mesh_io_recv(struct mesh_io *io);
ssize_t mesh_io_send(struct mesh_io *io);

/* One try without waiting, rx lock held, state MESH_CONN_OPEN. */
ssize_t mesh_rx_try(struct mesh_io *io);
/* Is there something for the program: plaintext, end or error? Swallows records without data. rx lock NOT held. Never
 * waits. */
bool mesh_rx_ready(struct mesh_conn *c, uint32_t slot, int fd);
/* Is there opened plaintext that the kernel's queue does not tell of? (A process whose filter knows read alone.) Unlocked
 * look. */
static inline bool mesh_rx_hidden(const struct mesh_conn *c) {
    return mesh_look(c->plain.bytes) && !mesh_look(c->tail);
}
/* Bytes that a read would give now without waiting, as far as known (FIONREAD). */
size_t mesh_rx_pending(struct mesh_conn *c, uint32_t slot, int fd);

/* One try without waiting, takes the tx lock: 0 all accepted and sent, or the state is RAW and nothing is in front of the
 * program's own sends any more; -EAGAIN something is left (io->done tells how much of the program's bytes is accepted; a
 * sealed tail may be left); -errno. */
int mesh_tx_try(struct mesh_io *io);

/* tx lock held. Sends what is sealed (state RAW: what is held, as it is); 0 when nothing is left, -EAGAIN, or -errno. */
int mesh_tx_flush(struct mesh_conn *c, int fd);
/* tx lock held, keys in place: seals what was held, then close_notify if `fin` asks for it. As _flush; -ENOBUFS: some of it
 * never will be, and the connection cannot go on. */
int mesh_tx_release_held(struct mesh_conn *c, uint32_t slot, int fd);
/* Seals and sends an alert; tx lock held. Later sends are EPIPE. */
int mesh_tx_alert(struct mesh_conn *c, uint32_t slot, int fd, uint8_t level, uint8_t alert);
/* shutdown(SHUT_WR): close_notify behind everything accepted so far, then FIN. Takes the lock. -errno. */
int mesh_tx_finish(struct mesh_conn *c, uint32_t slot, int fd);
/* Is there something unsent that nobody may forget (not deferred tickets)? Unlocked look. */
static inline bool mesh_tx_unsent(const struct mesh_conn *c) {
    return (mesh_look(c->sealed.bytes) && !mesh_look(c->deferred)) || mesh_look(c->held.bytes);
}

/* Not open yet, but told: may the program write? What is held is bounded. Unlocked look. */
static inline bool mesh_tx_room(const struct mesh_conn *c) {
    return mesh_look(c->told) && mesh_look(c->held.bytes) < MESH_HELD_MAX;
}

/* Ends the connection for good: state DEAD with this errno, alert sent when alert != 0, socket shut down, one trace
 * line. Any lock of the connection but tx may be held by the caller or none. */
void mesh_conn_fail(struct mesh_conn *c, uint32_t slot, int fd, int err, uint8_t alert, const char *why);

/* The same, tx lock held, without an alert: what we were sending cannot be gone on with. */
void mesh_conn_fail_tx(struct mesh_conn *c, uint32_t slot, int fd, int err, const char *why);
/* An error that work on nobody's behalf took out of the kernel: the program is told it with its next call. */
void mesh_conn_error(struct mesh_conn *c, uint32_t slot, int fd, int err);

/* Is the descriptor in non-blocking mode, or MSG_DONTWAIT in flags? */
bool mesh_nonblocking(int fd, int flags);

/* ---- scratch: 68 KiB buffers for the length of a call; across a wait only for what the wait itself needs, and then given
 * back also when the thread is cancelled in it; NULL when memory is out ---- */
enum { MESH_SCRATCH = 69632 };
uint8_t *mesh_scratch_take(void);
void mesh_scratch_give(uint8_t *p);

/* ---- AEAD contexts: process-private, a bounded cache ---- */
struct mesh_aead_ref {
    struct mesh_aead *a;
    uint64_t tag;
    void *set; /* private */
    struct mesh_aead own;
};
void mesh_aead_borrow(struct mesh_aead_ref *r, uint32_t slot, bool tx);
void mesh_aead_return(struct mesh_aead_ref *r);
void mesh_aead_after_fork(void); /* in the child: what another thread was using is dropped */

/* ---- the process-private companion of a slot ---- */
struct mesh_hand;
struct mesh_local {
    uint32_t generation;   /* of the slot's life that this belongs to */
    _Atomic uint32_t fds;  /* descriptors of this process */
    _Atomic int fd;        /* one of them, for work that nobody's call carries */
    _Atomic uint32_t users;  /* calls of this process that are inside */
    _Atomic int ending;      /* descriptor + 1 that close() is working on */
    _Atomic uint8_t closing; /* the program closed it under them: the last one ends it */
    uint32_t held_at;      /* place in the list of held slots */
    struct mesh_hand *hand; /* handshake in progress, or a client's TLS object that waits for tickets; rx lock */
    _Atomic uint64_t due;  /* what mesh_hand_deadline and mesh_hand_wants tell; the handshake itself may be freed */
    _Atomic uint8_t if_held; /* `due` counts only while bytes are held */
    _Atomic short wants;   /* under who looks */
    _Atomic uint32_t waiter; /* mesh_thread() that was the last to wait for its handshake; 0: none did */
    _Atomic uint32_t pending; /* place in the pending list + 1; 0: not on it */
    _Atomic uint8_t swapped; /* epoll registrations carry our cookie */
    _Atomic uint8_t nonblock; /* O_NONBLOCK as the program last set it */
};
struct mesh_local *mesh_local_at(uint32_t slot); /* NULL: no memory */
/* Slots this process holds, the `from`th and on, copied into ret; returns how many were copied, at most max. */
uint32_t mesh_local_held(uint32_t *ret, uint32_t from, uint32_t max);
/* The one of them whose socket has this inode; UINT32_MAX: none. */
uint32_t mesh_local_by_inode(uint64_t inode);
/* Calls fn for each of them; guard held by the caller (fork). */
void mesh_local_each(void (*fn)(uint32_t slot));
/* Adds a descriptor to a slot (the first one makes the companion), or takes one away: returns how many are left. */
int mesh_local_add(uint32_t slot, int fd) MESH_MUST_CHECK;
uint32_t mesh_local_drop(uint32_t slot, int fd);

/* With a lock of the connection held: is `fd` still a descriptor of it? A close() that came in between has cleared the
 * word, and goes on only when it has had both locks. */
bool mesh_conn_owns(uint32_t slot, int fd);

/* ---- the private lock: registry of this process, signals blocked while held, carried over fork ---- */
struct mesh_guard {
    uint64_t signals;
};
struct mesh_guard mesh_guard_enter(void);
void mesh_guard_leave(struct mesh_guard g);
void mesh_guard_before_fork(void);
void mesh_guard_after_fork(bool child);
void mesh_guard_forget(void); /* in a child of a fork that nobody saw: whoever held it is not here */

#endif
