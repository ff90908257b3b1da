/* SPDX-License-Identifier: Apache-2.0
 *
 * The slab: connection state shared by a tree of processes (DESIGN D2). One memfd, made at the first mesh connection or
 * protected listener, mapped, inherited over fork, and handed to programs that the tree executes when a connection crosses
 * (shim/handover.h): simpler than a small memfd for each crossing, at the price that such a program maps the whole. Its
 * descriptor is CLOEXEC and lies at a high number (shim/slab_fd.h); where there is no room for one the mapping is anonymous
 * and nothing crosses exec. It holds
 *   - connections: fixed-size slots with the keys and sequence numbers of both directions,
 *   - chunks: 20 KiB pieces for what is not idle (partial records, undelivered plaintext, sealed tails, held bytes),
 *   - processes: who shares the tree, so that the last holder of a connection is known (D10).
 * Slots and chunks are type-stable: never unmapped, told apart by their generation.
 *
 * Locks: each direction of a connection has a robust process-shared mutex. Order: rx before tx. No lock is held across a
 * wait. A lock whose owner died poisons the connection (mesh_conn_lock_*): nobody continues it, the socket is shut down.
 */
#ifndef MESH_SHIM_SLAB_H
#define MESH_SHIM_SLAB_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "resolver/resolver.h"
#include "shim/base/err.h"
#include "shim/rotation.h"
#include "tls/tls.h"

enum {
    MESH_CHUNK_SIZE = 20480,
    MESH_CHUNK_DATA = MESH_CHUNK_SIZE - 16, /* >= MESH_REC_WIRE_MAX, so that a whole record fits one chunk */
    MESH_PROCS_MAX = 512,
    MESH_HELD_MAX = 4 << 20, /* plaintext held for a peer that is not authenticated yet (D8) */
};

enum mesh_conn_state {
    MESH_CONN_FREE,
    MESH_CONN_DIAL, /* client: choosing, connecting, shaking hands; may try further endpoints */
    MESH_CONN_HAND, /* server: handshake not done (perhaps not begun) */
    MESH_CONN_OPEN, /* keys are in place */
    MESH_CONN_RAW,  /* plaintext by the view or by permissive mode: libc carries the data */
    MESH_CONN_DEAD, /* failed for good: `error` says how */
    MESH_CONN_NEW,  /* a TCP socket that several hold and nobody has connected (shim/fresh.h) */
};

struct mesh_chunk {
    uint32_t next; /* of a queue, or of the free list; 0: none */
    uint32_t off;  /* first byte not consumed */
    uint32_t len;  /* bytes filled */
    uint32_t spare;
    uint8_t data[MESH_CHUNK_DATA];
};
_Static_assert(sizeof(struct mesh_chunk) == MESH_CHUNK_SIZE, "chunks are page multiples");

struct mesh_queue { /* bytes in chunks, first in first out; guarded by the lock of its direction */
    uint32_t head, tail;
    uint32_t bytes;
};

struct mesh_conn {
    _Atomic uint32_t state;      /* enum mesh_conn_state; a futex word for processes that wait for another's handshake */
    _Atomic uint32_t generation; /* of the slot's life: odd while in use */
    uint32_t next;               /* free list */
    uint32_t in_doubt;           /* a process without an entry holds it: nobody knows who is last */
    _Atomic uint64_t holders[MESH_PROCS_MAX / 64]; /* processes of the tree with a descriptor of it */
    _Atomic uint32_t driver;     /* process + 1 that drives the handshake; 0: whoever comes first */
    uint32_t ledger;             /* slot in the view's ledger, UINT32_MAX: none */
    uint32_t stat;               /* endpoint's counters, UINT32_MAX: none */
    int32_t error;               /* MESH_CONN_DEAD: errno for the program */
    uint32_t cluster_id, cluster_generation; /* to report a later reset to lb */
    uint64_t expires;            /* mesh_now() at which it is old (shim/drain.h), 0: never */
    uint8_t drain;               /* enum mesh_drain of its cluster */
    _Atomic uint8_t drained;     /* ended by shim/drain.c, and why */
    uint8_t server;
    uint8_t told;                /* the program believes that it is connected */
    uint8_t error_seen;          /* SO_ERROR told it */
    uint8_t connect_seen;        /* connect() returned 0 */
    uint8_t mode;                /* server: enum mesh_inbound_mode of the port it came in on */
    uint8_t begun;               /* server: its handshake has consumed bytes, only a process with a copy may go on */
    uint16_t port;               /* server: local port */
    uint8_t renewed;             /* counts what mesh_conn_renew did to this life */
    uint8_t judged;              /* server: the view's policies were asked, and are again when they change: shim/admit.h */
    uint8_t lenient;             /* server: may be served where no chain of the view takes it */
    _Atomic uint64_t judged_at;  /* mesh_view_stamp() of the last judgement */
    uint64_t policy;             /* mesh_view_policy() of it */
    struct mesh_facts facts;     /* server: what it has told of itself */
    uint8_t handed;              /* somebody outside the tree has taken it over untouched: its end is silent */
    _Atomic uint32_t transit;    /* messages on their way that carry it (shim/scm.h) */
    _Atomic uint64_t transit_at; /* mesh_now_coarse() of the last one sent */
    uint64_t inode;              /* of the kernel's socket: how a descriptor that no table speaks of is known */
    struct sockaddr_in6 dialled; /* what the program connected to (getpeername); family 0: ask the kernel */
    uint64_t started;            /* mesh_now() */
    _Atomic uint64_t in, out;    /* plaintext bytes */

    /* receiving: rx_lock */
    struct mesh_record rx;
    struct mesh_post post;
    uint32_t part;               /* chunk with the first part_have bytes of a record that is not complete; 0: none */
    uint32_t part_have;
    struct mesh_queue plain;     /* opened and not delivered yet */
    uint8_t tail;                /* the last byte of the last record in `plain` is still in the kernel */
    uint8_t rx_eof;              /* close_notify or FIN seen */
    uint8_t control;             /* client: records without data are to be expected (tickets) */
    uint8_t rx_shut;             /* 1: shutdown(SHUT_RD); 2: and the program has read to the end that it made */
    uint64_t rx_at;              /* mesh_now_coarse() when data last came */
    int32_t rx_error;            /* errno that a look-ahead took out of the kernel and the program has not seen */

    /* sending: tx_lock */
    struct mesh_record tx;
    struct mesh_queue sealed;    /* ciphertext the kernel had no room for, and a server's deferred tickets */
    struct mesh_queue held;      /* plaintext written before the peer was authenticated */
    uint8_t deferred;            /* `sealed` holds nothing but tickets: it waits for our first data */
    uint8_t first;               /* our last handshake bytes may be unacknowledged: Nagle must not hold the first data back */
    uint8_t key_update_due;
    uint8_t fin;                 /* shutdown(SHUT_WR) asked for: 1 queued behind held bytes, 2 sent */
    uint8_t tx_dead;             /* EPIPE from now on */

    /* made once: a slot that is given back and taken again keeps its locks, because a thread that is late may still ask for
     * them. It finds, holding one, that its descriptor is no longer this slot's (mesh_conn_owns) */
    uint8_t locks_made;
    pthread_mutex_t rx_lock, tx_lock;
};

struct mesh_slab;

struct mesh_rotation { /* the identity's files as a process of the tree last read them: shim/rotation.h */
    _Atomic uint32_t sequence; /* odd: being written */
    uint32_t length[3];        /* certificate, key, bundle, one behind the other in data */
    uint8_t data[MESH_ROTATION_MAX];
};
struct mesh_rotation *mesh_slab_rotation(void);

/* This process's slab; NULL until mesh_slab_need() succeeded. */
extern struct mesh_slab *mesh_slab;
/* Makes it if there is none. MESH_E_NOMEM. Threads: any (a loser of the race unmaps its own). */
int mesh_slab_need(void) MESH_MUST_CHECK;
uint64_t mesh_slab_tree(void); /* random, never 0 */
uint32_t mesh_slab_layout(void); /* what another program's library must agree with to share it */
/* Takes over the slab that a program of the same tree left on `fd`: a sealed memfd of our user, layout and tree. 0;
 * MESH_E_INVALID, MESH_E_NOMEM: it is not ours to use, `fd` is untouched. Called at start-up, before there is another. */
int mesh_slab_adopt(int fd, uint64_t tree) MESH_MUST_CHECK;

/* A zeroed slot with its locks made and its holder set to this process; UINT32_MAX: none left. Collects the slots of
 * dead processes when there is none. */
uint32_t mesh_conn_take(void);
struct mesh_conn *mesh_conn_at(uint32_t slot); /* NULL when out of range */
/* The slot in use whose socket has this inode; UINT32_MAX: none. Threads: any; usable in a vfork child. */
uint32_t mesh_conn_by_inode(uint64_t inode);
/* Process `proc` (an index; the child's entry before a fork) holds it as well. */
void mesh_conn_hold(uint32_t slot, uint32_t proc);
/* Process `proc` lets go: true when nobody alive holds it any more, i.e. the caller must end the connection and then
 * mesh_conn_give it back. In doubt false (D10). */
bool mesh_conn_let_go(uint32_t slot, uint32_t proc);
/* Does a live process besides `proc` hold it? */
bool mesh_conn_others(uint32_t slot, uint32_t proc);
void mesh_conn_give(uint32_t slot); /* keys zeroed, chunks freed */
/* The socket may be connected anew: state MESH_CONN_NEW, everything but its holders forgotten. Both locks held. */
void mesh_conn_renew(uint32_t slot);

/* 0; MESH_E_POISONED: the former owner died inside, the connection is dead now, the lock is NOT held; MESH_E_AGAIN: this
 * very thread holds it (a signal handler interrupted it), NOT held. */
int mesh_conn_lock_rx(struct mesh_conn *c) MESH_MUST_CHECK;
int mesh_conn_lock_tx(struct mesh_conn *c) MESH_MUST_CHECK;
void mesh_conn_unlock_rx(struct mesh_conn *c);
void mesh_conn_unlock_tx(struct mesh_conn *c);

struct mesh_chunk *mesh_chunk_at(uint32_t i); /* NULL for 0 and out of range */
uint32_t mesh_chunk_take(void);               /* 0: none left */
void mesh_chunk_give(uint32_t i);
bool mesh_chunk_scarce(void); /* so many are in use that none should be kept for comfort */
/* Appends n bytes; false (and nothing appended) when chunks run out. */
bool mesh_queue_put(struct mesh_queue *q, const void *p, size_t n);
/* The first contiguous bytes; 0 when empty. */
size_t mesh_queue_peek(const struct mesh_queue *q, const uint8_t **ret_p);
void mesh_queue_drop(struct mesh_queue *q, size_t n);
void mesh_queue_clear(struct mesh_queue *q);

/* ---- processes of the tree ---- */
bool mesh_proc_alive(uint32_t i); /* in doubt true */
uint32_t mesh_proc_self(void); /* index; MESH_PROCS_MAX: the table was full, holders are in doubt */
/* fork: the parent reserves an entry for the child before and marks what it inherits (mesh_conn_hold), the child takes
 * it over; cancelled when fork failed. An entry is reused only when no connection's holders speak of its former owner. */
uint32_t mesh_proc_reserve(void);
void mesh_proc_cancel(uint32_t i);
/* exec and spawn: an entry reserved for a program is its process's as soon as that is known; the program takes it over at
 * its start, false: it is not its. */
void mesh_proc_assign(uint32_t i, int pid);
bool mesh_proc_take(uint32_t i) MESH_MUST_CHECK;
/* This process is about to be replaced by another program: when that has come, what only it held has no holder, although
 * its process lives. `false` takes it back: exec failed. */
void mesh_proc_replacing(bool on);
void mesh_proc_become(uint32_t i);
void mesh_proc_leave(void); /* after letting go of everything: exit */

#endif
