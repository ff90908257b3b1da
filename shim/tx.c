/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>

#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/hand.h"

/* In a process whose filter knows write alone. It would wait on a blocking descriptor, and a signal would end
 * the program where the peer has gone. */
static ssize_t push_by_write(int fd, const void *p, size_t n) {
    struct pollfd w = {.fd = fd, .events = POLLOUT};
    int r = mesh_sys_poll(&w, 1, 0);
    if (r <= 0 && r != -EPERM) /* strict mode knows no poll either */
        return r < 0 ? r : -EAGAIN;
    return r > 0 && w.revents & (POLLERR | POLLHUP) ? -EPIPE : mesh_sys_write(fd, p, n);
}

static ssize_t push(int fd, const void *p, size_t n, int flags) {
    ssize_t r;
    if (!mesh_sys_may(SYS_sendto))
        return push_by_write(fd, p, n);
    do
        r = mesh_sys_sendto(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL | (flags & MSG_MORE), NULL, 0);
    while (r == -EINTR);
    return r;
}

/* Both ends at once where the program asked for both: what comes behind a FIN of ours that nobody will read
 * is answered by a reset then, and the peer does not wait for room for ever. */
static int ends_of(const struct mesh_conn *c) {
    return mesh_look(c->rx_shut) ? SHUT_RDWR : SHUT_WR;
}

/* The connection turned out to be plaintext: what was held goes out as it is, in front of everything else. */
static int flush_held(struct mesh_conn *c, int fd) {
    const uint8_t *p;
    size_t n;
    while ((n = mesh_queue_peek(&c->held, &p))) {
        ssize_t r = push(fd, p, n, c->held.bytes > n ? MSG_MORE : 0);
        if (r < 0) {
            if (r != -EAGAIN)
                mesh_queue_clear(&c->held);
            return (int)r;
        }
        mesh_queue_drop(&c->held, (size_t)r);
    }
    if (c->fin == 1) {
        c->fin = 2;
        (void)mesh_sys_shutdown(fd, ends_of(c));
    }
    return 0;
}

int mesh_tx_flush(struct mesh_conn *c, int fd) {
    const uint8_t *p;
    size_t n;
    if (atomic_load(&c->state) == MESH_CONN_RAW)
        return flush_held(c, fd);
    while ((n = mesh_queue_peek(&c->sealed, &p))) {
        ssize_t r = push(fd, p, n, c->sealed.bytes > n ? MSG_MORE : 0);
        if (r < 0) {
            if (r != -EAGAIN)
                mesh_queue_clear(&c->sealed);
            return (int)r;
        }
        mesh_queue_drop(&c->sealed, (size_t)r);
    }
    if (c->fin == 1 && c->tx_dead && !c->held.bytes) { /* close_notify is out */
        c->fin = 2;
        (void)mesh_sys_shutdown(fd, ends_of(c));
    }
    return 0;
}

/* What is put together before one system call. */
struct batch {
    uint8_t *base;
    size_t len;
};

static int seal(struct mesh_conn *c, uint32_t slot, struct batch *b, uint8_t type, const struct iovec *iov,
                int cnt, size_t skip, size_t n) {
    struct mesh_aead_ref a;
    mesh_aead_borrow(&a, slot, true);
    int r = mesh_record_sealv(&c->tx, a.a, a.tag, type, iov, cnt, skip, n, b->base + b->len,
                              MESH_SCRATCH - b->len);
    mesh_aead_return(&a);
    if (r < 0)
        return r;
    b->len += (size_t)r;
    return 0;
}

static int seal_bytes(struct mesh_conn *c, uint32_t slot, struct batch *b, uint8_t type, const void *p,
                      size_t n) {
    struct iovec iov = {(void *)p, n};
    return seal(c, slot, b, type, &iov, 1, 0, n);
}

static int key_update(struct mesh_conn *c, uint32_t slot, struct batch *b) {
    uint8_t msg[5];
    mesh_key_update_message(false, msg);
    int err = seal_bytes(c, slot, b, MESH_REC_HANDSHAKE, msg, sizeof msg);
    if (!err)
        err = mesh_record_next_key(&c->tx);
    if (!err)
        __atomic_store_n(&c->key_update_due, 0, __ATOMIC_RELAXED);
    return err;
}

/* Seals one data record, after a KeyUpdate when the peer asked for one or the key is used up. */
static int seal_data(struct mesh_conn *c, uint32_t slot, struct batch *b, const struct iovec *iov, int cnt,
                     size_t skip, size_t n) {
    int err = 0;
    if (mesh_unlikely(__atomic_load_n(&c->key_update_due, __ATOMIC_ACQUIRE)))
        err = key_update(c, slot, b);
    if (!err)
        err = seal(c, slot, b, MESH_REC_DATA, iov, cnt, skip, n);
    if (err == MESH_E_KEYLIMIT && (err = key_update(c, slot, b)) == 0)
        err = seal(c, slot, b, MESH_REC_DATA, iov, cnt, skip, n);
    return err;
}

/* A server's tickets travel in front of its first data. */
static void take_deferred(struct mesh_conn *c, struct batch *b) {
    const uint8_t *p;
    size_t n;
    while (c->deferred && (n = mesh_queue_peek(&c->sealed, &p))) {
        memcpy(b->base + b->len, p, n);
        b->len += n;
        mesh_queue_drop(&c->sealed, n);
    }
    mesh_show(c->deferred, 0);
}

/* The program's first bytes, which TCP would send at once: Nagle's rule counts our handshake as theirs. */
static ssize_t push_first(struct mesh_conn *c, int fd, const struct batch *b) {
    int on = 1, off = 0, is = 1;
    socklen_t len = sizeof is;
    c->first = 0;
    (void)mesh_sys_getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &is, &len);
    if (!is)
        (void)mesh_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ssize_t r = push(fd, b->base, b->len, 0);
    if (!is)
        (void)mesh_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &off, sizeof off);
    return r;
}

/* What is sealed has its numbers and is sealed but once: with no room for it the stream cannot go on. */
static int tail_put(struct mesh_conn *c, uint32_t slot, int fd, const uint8_t *p, size_t n) {
    if (mesh_queue_put(&c->sealed, p, n))
        return -EAGAIN;
    mesh_queue_clear(&c->sealed);
    mesh_conn_fail_tx(c, slot, fd, ECONNRESET, "no-memory");
    return -ECONNRESET;
}

/* Sends a batch; what the kernel does not take becomes the sealed tail. 0, -EAGAIN (a tail is left) or
 * -errno. */
static int launch(struct mesh_conn *c, uint32_t slot, int fd, const struct batch *b, int flags) {
    bool first = mesh_unlikely(c->first) && !(flags & MSG_MORE);
    ssize_t r = first ? push_first(c, fd, b) : push(fd, b->base, b->len, flags);
    if (r == (ssize_t)b->len)
        return 0;
    if (r < 0 && r != -EAGAIN)
        return (int)r;
    size_t sent = r > 0 ? (size_t)r : 0;
    return tail_put(c, slot, fd, b->base + sent, b->len - sent);
}

static size_t batch_room(const struct mesh_conn *c, const struct batch *b) {
    size_t need = 2 * mesh_record_overhead(&c->tx) + 64; /* with a KeyUpdate in front */
    size_t left = MESH_SCRATCH - b->len;
    return left > need ? left - need : 0;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* One system call's worth of what is left of the program's bytes. */
static int send_batch(struct mesh_io *io, uint8_t *scratch) {
    struct mesh_conn *c = io->c;
    struct batch b = {scratch, 0};
    size_t left = io->want - io->done, taken = 0;
    take_deferred(c, &b);
    while (taken < left) {
        size_t n = least(least(left - taken, MESH_REC_PLAIN_MAX), batch_room(c, &b));
        if (n == 0 || (taken && n < MESH_REC_PLAIN_MAX && n < left - taken))
            break;
        int err = seal_data(c, io->slot, &b, io->iov, io->cnt, io->done + taken, n);
        if (err == MESH_E_NOMEM)
            mesh_trace_refused("no-memory", "for", "record");
        if (err)
            return err == MESH_E_NOMEM ? -ENOBUFS : -ECONNRESET;
        taken += n;
    }
    bool more = (io->flags & MSG_MORE) || taken < left;
    int r = launch(c, io->slot, io->fd, &b, more ? MSG_MORE : 0);
    if (r == 0 || r == -EAGAIN) {
        io->done += taken;
        atomic_fetch_add_explicit(&c->out, taken, memory_order_relaxed);
    }
    return r;
}

/* tx lock held, state OPEN: 0 all accepted, -EAGAIN some is left or a tail is, -errno. */
static int send_open(struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    if (c->tx_dead || c->fin)
        return -EPIPE;
    if (c->sealed.bytes && !c->deferred) {
        int r = mesh_tx_flush(c, io->fd);
        if (r)
            return r;
    }
    if (io->done == io->want)
        return 0;
    uint8_t *scratch = mesh_scratch_take();
    if (!scratch)
        return -ENOBUFS;
    int r = 0;
    while (r == 0 && io->done < io->want)
        r = send_batch(io, scratch);
    mesh_scratch_give(scratch);
    return r;
}

/* tx lock held, peer not authenticated yet: the bytes wait (D8). */
static int send_held(struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    if (c->fin)
        return -EPIPE;
    while (io->done < io->want) {
        size_t at = io->done;
        int i = 0;
        while (at >= io->iov[i].iov_len)
            at -= io->iov[i++].iov_len;
        size_t n = io->iov[i].iov_len - at, free_ = MESH_HELD_MAX - c->held.bytes;
        if (n > free_)
            n = free_;
        if (n == 0 || !mesh_queue_put(&c->held, (uint8_t *)io->iov[i].iov_base + at, n))
            return -EAGAIN;
        io->done += n;
        atomic_fetch_add_explicit(&c->out, n, memory_order_relaxed);
    }
    return 0;
}

int mesh_tx_try(struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    int r = mesh_conn_lock_tx(c);
    if (r)
        return r == MESH_E_AGAIN ? -EAGAIN : -ECONNRESET;
    switch (mesh_conn_owns(io->slot, io->fd) ? atomic_load(&c->state) : MESH_CONN_FREE) {
    case MESH_CONN_FREE:
        r = -EBADF;
        break;
    case MESH_CONN_OPEN:
        r = send_open(io);
        break;
    case MESH_CONN_HAND:
    case MESH_CONN_DIAL:
        r = c->told ? send_held(io) : -EAGAIN;
        break;
    case MESH_CONN_NEW:
        r = -EPIPE;
        break;
    case MESH_CONN_RAW:
        r = c->fin ? -EPIPE : mesh_tx_flush(c, io->fd);
        break;
    default:
        r = -ECONNRESET;
    }
    mesh_conn_unlock_tx(c);
    return r;
}

int mesh_tx_release_held(struct mesh_conn *c, uint32_t slot, int fd) {
    uint8_t *scratch = mesh_scratch_take();
    if (!scratch)
        return -ENOBUFS;
    int r = 0;
    const uint8_t *p;
    size_t n;
    while ((n = mesh_queue_peek(&c->held, &p))) {
        struct batch b = {scratch, 0};
        take_deferred(c, &b);
        n = least(n, MESH_REC_PLAIN_MAX);
        struct iovec iov = {(void *)p, n};
        r = seal_data(c, slot, &b, &iov, 1, 0, n);
        if (r < 0) {
            r = -ENOBUFS;
            break;
        }
        mesh_queue_drop(&c->held, n);
        r = c->sealed.bytes ? tail_put(c, slot, fd, b.base, b.len) : launch(c, slot, fd, &b, 0);
        if (r && r != -EAGAIN)
            break;
    }
    mesh_scratch_give(scratch);
    if (c->fin == 1 && (r == 0 || r == -EAGAIN)) { /* the program had shut its side down meanwhile */
        (void)mesh_tx_alert(c, slot, fd, 1, 0);
        r = mesh_tx_flush(c, fd);
    }
    return r;
}

int mesh_tx_alert(struct mesh_conn *c, uint32_t slot, int fd, uint8_t level, uint8_t alert) {
    if (c->tx_dead || !c->tx.cipher)
        return 0;
    uint8_t room[8 + MESH_REC_OVERHEAD_MAX], body[2] = {level, alert};
    struct mesh_aead_ref a;
    mesh_aead_borrow(&a, slot, true);
    int n = mesh_record_seal(&c->tx, a.a, a.tag, MESH_REC_ALERT, body, sizeof body, room, sizeof room);
    mesh_aead_return(&a);
    c->tx_dead = 1;
    if (n < 0)
        return -EIO;
    if (c->deferred) /* nobody will want the tickets, but their sequence numbers are used */
        mesh_show(c->deferred, 0);
    ssize_t r = c->sealed.bytes ? 0 : push(fd, room, (size_t)n, 0);
    if (r < 0 && r != -EAGAIN)
        return (int)r;
    size_t sent = r > 0 ? (size_t)r : 0;
    if (sent < (size_t)n && (r = tail_put(c, slot, fd, room + sent, (size_t)n - sent)) != -EAGAIN)
        return (int)r;
    return mesh_tx_flush(c, fd);
}

int mesh_tx_finish(struct mesh_conn *c, uint32_t slot, int fd) {
    int r = mesh_conn_lock_tx(c);
    if (r)
        return -ENOTCONN;
    if (c->fin == 0) {
        c->fin = 1;
        uint32_t state = atomic_load(&c->state);
        if (state == MESH_CONN_OPEN) {
            r = mesh_tx_alert(c, slot, fd, 1, 0);
        } else if (state == MESH_CONN_RAW) {
            r = mesh_tx_flush(c, fd);
        } else if (state == MESH_CONN_DEAD) {
            c->fin = 2;
            r = 0;
        }
    }
    mesh_conn_unlock_tx(c);
    return r == -EAGAIN ? 0 : r ? -ENOTCONN : 0;
}
