/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "shim/base/clock.h"
#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/base/trace.h"
#include "shim/conn.h"
#include "shim/hand.h"

/* ---- the program's buffer ---- */

int mesh_io_init(struct mesh_io *io, uint32_t slot, int fd, const struct iovec *iov, int cnt, int flags) {
    if (cnt < 0 || cnt > 1024)
        return cnt < 0 ? -EINVAL : -EMSGSIZE;
    *io = (struct mesh_io){
        .c = mesh_conn_at(slot), .slot = slot, .fd = fd, .iov = iov, .cnt = cnt, .flags = flags};
    for (int i = 0; i < cnt; i++) {
        if (iov[i].iov_len > SIZE_MAX / 2 - io->want)
            return -EINVAL;
        io->want += iov[i].iov_len;
    }
    return 0;
}

static size_t room(const struct mesh_io *io) {
    return io->want - io->done;
}

static void deliver(struct mesh_io *io, const uint8_t *p, size_t n) {
    io->done += n;
    if (io->discard)
        return;
    while (n) {
        size_t left = io->iov->iov_len - io->skip, k = left < n ? left : n;
        if (k)
            memcpy((uint8_t *)io->iov->iov_base + io->skip, p, k);
        p += k;
        n -= k;
        io->skip += k;
        if (io->skip == io->iov->iov_len) {
            io->iov++;
            io->skip = 0;
        }
    }
}

/* ---- the kernel's queue ---- */

/* In a process whose filter knows read alone. */
static ssize_t pull_by_read(int fd, void *p, size_t n, int flags) {
    struct pollfd w = {.fd = fd, .events = POLLIN};
    if (flags & MSG_PEEK)
        return -EPERM;
    int r = mesh_sys_poll(&w, 1, 0);
    return r > 0 || r == -EPERM ? mesh_sys_read(fd, p, n) : r < 0 ? r : -EAGAIN;
}

static ssize_t pull(int fd, void *p, size_t n, int flags) {
    ssize_t r;
    if (!mesh_sys_may(SYS_recvfrom))
        return pull_by_read(fd, p, n, flags);
    do
        r = mesh_sys_recvfrom(fd, p, n, MSG_DONTWAIT | flags, NULL, NULL);
    while (r == -EINTR);
    return r;
}

/* The plaintext whose record kept its last byte in the kernel is gone: take the byte. */
static void eat_tail(struct mesh_conn *c, int fd) {
    uint8_t b;
    if (c->tail && pull(fd, &b, 1, 0) != -EAGAIN)
        c->tail = 0;
}

static ssize_t from_plain(struct mesh_io *io, bool peek) {
    struct mesh_conn *c = io->c;
    if (peek) {
        uint32_t i = c->plain.head;
        for (struct mesh_chunk *h; room(io) && (h = mesh_chunk_at(i)); i = i == c->plain.tail ? 0 : h->next)
            deliver(io, h->data + h->off, h->len - h->off < room(io) ? h->len - h->off : room(io));
        return (ssize_t)io->done;
    }
    const uint8_t *p;
    size_t n;
    while (room(io) && (n = mesh_queue_peek(&c->plain, &p))) {
        size_t k = n < room(io) ? n : room(io);
        deliver(io, p, k);
        mesh_queue_drop(&c->plain, k);
    }
    if (!c->plain.bytes)
        eat_tail(c, io->fd);
    return (ssize_t)io->done;
}

/* ---- records ---- */

static void post_handshake(struct mesh_io *io, const uint8_t *p, size_t n, int *err) {
    struct mesh_conn *c = io->c;
    int what = mesh_post_feed(&c->post, &c->rx, c->server, p, n);
    if (what < 0) {
        *err = what;
        return;
    }
    if (what & (MESH_POST_KEY_UPDATE | MESH_POST_KEY_UPDATE_REPLY))
        *err = mesh_record_next_key(&c->rx);
    if (what & MESH_POST_KEY_UPDATE_REPLY)
        __atomic_store_n(&c->key_update_due, 1, __ATOMIC_RELEASE);
}

static int broken(struct mesh_io *io, int err, const char *detail) {
    static const struct {
        int err;
        uint8_t alert;
        const char *why;
    } table[] = {
        {MESH_E_RECORD, 20, "bad-record"}, {MESH_E_PROTOCOL, 10, "protocol"},
        {MESH_E_ALERT, 0, "alert"},        {MESH_E_TRUNCATED, 0, "truncated"},
        {MESH_E_KEYLIMIT, 0, "key-limit"}, {MESH_E_NOMEM, 80, "no-memory"},
    };
    for (size_t i = 0; i < MESH_ARRAY_LEN(table); i++)
        if (table[i].err == err) {
            mesh_conn_fail(io->c, io->slot, io->fd, ECONNRESET, table[i].alert,
                           detail ? detail : table[i].why);
            return -ECONNRESET;
        }
    mesh_conn_fail(io->c, io->slot, io->fd, ECONNRESET, 80, "internal");
    return -ECONNRESET;
}

/* The peer will send no more. The kernel's socket is told so as well: an end that was announced but not yet
 * followed by a FIN would otherwise be invisible to waits. */
static void end_of_stream(struct mesh_io *io) {
    io->c->rx_eof = 1;
    (void)mesh_sys_shutdown(io->fd, SHUT_RD);
}

/* A record that carries no data. Returns 0 or -errno. */
static int control(struct mesh_io *io, uint8_t type, const uint8_t *p, size_t n) {
    int err = 0;
    if (type == MESH_REC_HANDSHAKE) {
        post_handshake(io, p, n, &err);
    } else if (type == MESH_REC_ALERT) {
        uint8_t alert = 0;
        err = mesh_alert_read(&io->c->rx, p, n, &alert);
        if (err == MESH_E_CLOSED) {
            end_of_stream(io);
            return 0;
        }
        if (err == MESH_E_ALERT) {
            mesh_hand_peer_alert(io->c, alert);
            return broken(io, err, mesh_alert_name(alert));
        }
    } else {
        err = MESH_E_PROTOCOL;
    }
    return err < 0 ? broken(io, err, NULL) : 0;
}

/* Opens the record at `wire` in place. Returns the plaintext length with its type, or -errno. */
static ssize_t open_record(struct mesh_io *io, uint8_t *wire, size_t n, uint8_t *ret_type) {
    struct mesh_conn *c = io->c;
    uint8_t sealed[2048];
    bool keep = c->control && n <= sizeof sealed;
    if (keep)
        memcpy(sealed, wire, n);
    struct mesh_aead_ref a;
    mesh_aead_borrow(&a, io->slot, false);
    int len =
        mesh_record_open(&c->rx, a.a, a.tag, wire, n, wire + MESH_REC_HEADER, n - MESH_REC_HEADER, ret_type);
    mesh_aead_return(&a);
    if (len < 0)
        return broken(io, len, NULL);
    if (*ret_type == MESH_REC_HANDSHAKE && keep)
        mesh_hand_ticket(io->slot, sealed, n);
    if (*ret_type == MESH_REC_DATA &&
        (c->post.have || c->post.skip)) /* a handshake message must not be interrupted */
        return broken(io, MESH_E_PROTOCOL, NULL);
    if (*ret_type == MESH_REC_DATA && len && c->control) {
        mesh_show(c->control, 0);
        mesh_hand_data_came(io->slot);
    }
    return len;
}

/* A data record is complete in memory of ours and fits the program's buffer. */
static int hand_over(struct mesh_io *io, uint8_t *wire, size_t n) {
    uint8_t type;
    ssize_t len = open_record(io, wire, n, &type);
    if (len < 0)
        return (int)len;
    if (type != MESH_REC_DATA)
        return control(io, type, wire + MESH_REC_HEADER, (size_t)len);
    deliver(io, wire + MESH_REC_HEADER, (size_t)len);
    atomic_fetch_add_explicit(&io->c->in, (uint64_t)len, memory_order_relaxed);
    return 0;
}

static int body_of(struct mesh_io *io, const uint8_t *wire, size_t *ret_total) {
    int body = mesh_record_body_len(&io->c->rx, wire);
    if (body < 0 || body + MESH_REC_HEADER > MESH_CHUNK_DATA)
        return broken(io, MESH_E_PROTOCOL, NULL);
    *ret_total = (size_t)body + MESH_REC_HEADER;
    return 0;
}

static int end_or_error(struct mesh_io *io, ssize_t r) {
    if (r < 0)
        return (int)r;
    if (io->c->part_have && !mesh_look(io->c->rx_shut)) /* the program has ended it itself */
        return broken(io, MESH_E_TRUNCATED, NULL);
    io->ended = true;
    if (!mesh_look(io->c->rx_shut))
        io->c->rx_eof = 1;
    else if (!(io->flags & MSG_PEEK)) /* more may come, as the kernel has it, and may be read */
        mesh_show(io->c->rx_shut, 2);
    return 0;
}

/* Reads on until the part chunk has `goal` bytes. 1: it has; 0: end or nothing more for now, -errno. */
static int gather(struct mesh_io *io, struct mesh_chunk *k, size_t goal) {
    struct mesh_conn *c = io->c;
    while (c->part_have < goal) {
        ssize_t r = pull(io->fd, k->data + c->part_have, goal - c->part_have, 0);
        if (r <= 0)
            return end_or_error(io, r);
        c->part_have += (uint32_t)r;
    }
    return 1;
}

/* The record in `part` is complete. It stays with us when the program's buffer is not sure to take it
 * (`stays`), and its last byte in the kernel then (`tail`), if that can be: waits look at `plain` else
 * (mesh_rx_hidden). */
static int part_complete(struct mesh_io *io, struct mesh_chunk *k, size_t total, bool stays, bool tail) {
    struct mesh_conn *c = io->c;
    uint32_t chunk = c->part;
    uint8_t type;
    c->part = c->part_have = 0;
    ssize_t len = open_record(io, k->data, total, &type);
    bool keep = len > 0 && type == MESH_REC_DATA && stays;
    if (len >= 0 && tail && !keep) {
        c->tail = 1; /* stays as the tail of what is still undelivered, if there is any */
        if (!c->plain.bytes)
            eat_tail(c, io->fd);
    }
    int err = len < 0 ? (int)len : 0;
    if (len >= 0 && type != MESH_REC_DATA)
        err = control(io, type, k->data + MESH_REC_HEADER, (size_t)len);
    if (len > 0 && type == MESH_REC_DATA) {
        atomic_fetch_add_explicit(&c->in, (uint64_t)len, memory_order_relaxed);
        if (!keep)
            deliver(io, k->data + MESH_REC_HEADER, (size_t)len);
    }
    if (!keep) {
        mesh_chunk_give(chunk);
        return err < 0 ? err : 1;
    }
    k->off = MESH_REC_HEADER;
    k->len = MESH_REC_HEADER + (uint32_t)len;
    mesh_show(k->next, 0);
    struct mesh_chunk *t = mesh_chunk_at(c->plain.tail);
    if (t)
        mesh_show(t->next, chunk);
    else
        c->plain.head = chunk;
    c->plain.tail = chunk;
    c->plain.bytes += (uint32_t)len;
    c->tail = tail;
    return 1;
}

/* Completes the record in `part`. 1: something came of it; 0: end or not yet; -errno. */
static int complete_part(struct mesh_io *io, bool peek) {
    struct mesh_conn *c = io->c;
    struct mesh_chunk *k = mesh_chunk_at(c->part);
    size_t total = 0;
    int r = gather(io, k, MESH_REC_HEADER);
    if (r <= 0 || (r = body_of(io, k->data, &total)) < 0)
        return r;
    size_t most = total - MESH_REC_HEADER; /* of plaintext */
    bool fits = !peek && most <= room(io) + mesh_record_overhead(&c->rx) - MESH_REC_HEADER;
    bool tail = !fits && mesh_sys_may(SYS_recvfrom);
    r = gather(io, k, tail ? total - 1 : total);
    if (r <= 0)
        return r;
    if (tail && c->part_have < total) {
        ssize_t one = pull(io->fd, k->data + total - 1, 1, MSG_PEEK);
        if (one <= 0)
            return end_or_error(io, one);
        return part_complete(io, k, total, true, true);
    }
    return part_complete(io, k, total, !fits, false);
}

static int stash(struct mesh_io *io, const uint8_t *p, size_t n) {
    struct mesh_conn *c = io->c;
    memcpy(mesh_chunk_at(c->part)->data, p, n);
    c->part_have = (uint32_t)n;
    return 1;
}

/* Reads records straight into scratch, at most as much as the program's buffer surely takes. 1: go on; 0:
 * end, or the kernel has no more; -errno. `part` is a chunk already taken, so that what is read has a place.
 */
static int fetch(struct mesh_io *io, uint8_t *scratch, bool *ret_drained) {
    struct mesh_conn *c = io->c;
    size_t cap = room(io) + mesh_record_overhead(&c->rx);
    if (cap > MESH_SCRATCH)
        cap = MESH_SCRATCH;
    ssize_t r = pull(io->fd, scratch, cap, 0);
    if (r <= 0)
        return end_or_error(io, r);
    uint8_t *p = scratch, *end = scratch + r;
    while ((size_t)(end - p) >= MESH_REC_HEADER && !c->rx_eof) {
        size_t total = 0;
        int err = body_of(io, p, &total);
        if (err < 0)
            return err;
        if ((size_t)(end - p) < total)
            break;
        err = hand_over(io, p, total);
        if (err < 0)
            return err;
        p += total;
    }
    *ret_drained = (size_t)r < cap;
    return p < end && !c->rx_eof ? stash(io, p, (size_t)(end - p)) : 1;
}

/* MSG_PEEK beyond what is opened: only a record that is wholly there is opened as well, else the byte that
 * keeps the descriptor readable would be lost. 1: opened one; 0: no. */
static int open_behind(struct mesh_io *io, uint8_t *scratch) {
    struct mesh_conn *c = io->c;
    ssize_t r = pull(io->fd, scratch, 1 + MESH_REC_WIRE_MAX, MSG_PEEK);
    size_t total = 0;
    if (!c->tail || r < 1 + MESH_REC_HEADER || body_of(io, scratch + 1, &total) < 0 || (size_t)r < 1 + total)
        return 0;
    uint32_t chunk = mesh_chunk_take();
    struct mesh_chunk *k = mesh_chunk_at(chunk);
    if (!k)
        return 0;
    if (pull(io->fd, scratch, total, 0) != (ssize_t)total) { /* the old tail and all but the new one */
        mesh_chunk_give(chunk);
        return 0;
    }
    memcpy(k->data, scratch + 1, total - 1);
    uint8_t last;
    if (pull(io->fd, &last, 1, MSG_PEEK) != 1)
        last = 0;
    k->data[total - 1] = last;
    c->part = chunk;
    return part_complete(io, k, total, true, true);
}

static bool part_need(struct mesh_conn *c) {
    if (!c->part) {
        c->part = mesh_chunk_take();
        c->part_have = 0;
    }
    return c->part != 0;
}

ssize_t mesh_rx_try(struct mesh_io *io) {
    struct mesh_conn *c = io->c;
    bool peek = io->flags & MSG_PEEK, drained = false;
    int r = 1;
    uint8_t *scratch = mesh_scratch_take();
    if (!scratch)
        return -ENOBUFS;
    while (r > 0 && !drained) {
        if (c->plain.bytes) {
            if (peek) {
                while (c->plain.bytes < io->want && (r = open_behind(io, scratch)) > 0)
                    ;
                from_plain(io, true);
                break;
            }
            from_plain(io, false);
        }
        if (!room(io) || c->rx_eof)
            break;
        if (!part_need(c)) {
            r = -ENOBUFS;
            break;
        }
        r = c->part_have || peek ? complete_part(io, peek) : fetch(io, scratch, &drained);
    }
    if (c->part && !c->part_have) {
        mesh_chunk_give(c->part);
        c->part = 0;
    }
    mesh_scratch_give(scratch);
    if (io->done) {
        mesh_show(c->rx_at, mesh_now_coarse());
        return (ssize_t)io->done;
    }
    if (r >= 0)
        r = c->rx_eof || io->ended || io->want == 0 ? 0 : -EAGAIN;
    if (mesh_unlikely(mesh_look(c->rx_error)) && io->want && (r == 0 || r == -EAGAIN))
        r = -__atomic_exchange_n(&c->rx_error, 0, __ATOMIC_RELAXED);
    return r;
}

/* ---- what waits and FIONREAD ask ---- */

/* A try on nobody's behalf: an error that it meets is kept for the program. */
static ssize_t look_ahead(struct mesh_io *io) {
    ssize_t r = mesh_rx_try(io);
    if (r < 0 && r != -EAGAIN && atomic_load(&io->c->state) == MESH_CONN_OPEN)
        mesh_show(io->c->rx_error, (int)-r);
    return r;
}

bool mesh_rx_ready(struct mesh_conn *c, uint32_t slot, int fd) {
    if (mesh_conn_lock_rx(c))
        return true;
    bool ready = true;
    if (atomic_load(&c->state) == MESH_CONN_OPEN && !c->plain.bytes && !c->rx_eof &&
        mesh_conn_owns(slot, fd)) {
        struct mesh_io io = {.c = c, .slot = slot, .fd = fd, .want = 1, .flags = MSG_PEEK, .discard = true};
        ready = look_ahead(&io) != -EAGAIN;
    }
    mesh_conn_unlock_rx(c);
    return ready;
}

size_t mesh_rx_pending(struct mesh_conn *c, uint32_t slot, int fd) {
    if (mesh_conn_lock_rx(c))
        return 0;
    if (atomic_load(&c->state) == MESH_CONN_OPEN && !c->rx_eof && mesh_conn_owns(slot, fd)) {
        struct mesh_io io = {
            .c = c, .slot = slot, .fd = fd, .want = MESH_HELD_MAX, .flags = MSG_PEEK, .discard = true};
        (void)look_ahead(&io);
    }
    size_t n = c->plain.bytes;
    mesh_conn_unlock_rx(c);
    return n;
}
