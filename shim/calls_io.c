/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies of the reading and writing calls: each becomes one struct mesh_io. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>

#include "shim/base/mem.h"
#include "shim/base/sys.h"
#include "shim/bodies.h"
#include "shim/conn.h"
#include "shim/datagram.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/hand.h"
#include "shim/real.h"
#include "shim/scm.h"
#include "shim/watch.h"

/* The connection behind a descriptor, or false: libc's, and when another thread has just closed it a number
 * that is not open. */
static bool conn_of(int *io_fd, uint32_t *ret_slot) {
    if (mesh_fd_conn(*io_fd, ret_slot))
        return true;
    (void)mesh_fd_shown(io_fd);
    return false;
}

/* The same for a call that writes. 1, 0, or -1: the call has its answer in errno. */
static int conn_out(int *io_fd, int flags, uint32_t *ret_slot) {
    int fd = *io_fd;
    uint32_t word = mesh_fd_get(fd);
    *ret_slot = mesh_fd_slot(word);
    if (mesh_likely(mesh_fd_kind(word) == MESH_FD_CONN))
        return 1;
    int r = mesh_fd_unconnected(word) ? mesh_fresh_out(fd, flags, ret_slot) : 0;
    if (r < 0) {
        errno = -r;
        if (r == -EPIPE && !(flags & MSG_NOSIGNAL))
            (void)mesh_sys_tgkill(mesh_sys_getpid(), mesh_sys_gettid(), SIGPIPE);
        return -1;
    }
    return r;
}

static ssize_t give(ssize_t r) {
    if (r >= 0)
        return r;
    errno = (int)-r;
    return -1;
}

/* The number is no socket any more: it was closed behind our back and given to something else, which is
 * libc's. */
static bool stale(int fd, ssize_t n) {
    if (mesh_likely(n != -ENOTSOCK))
        return false;
    mesh_fd_new(fd);
    return true;
}

/* ---- reading ---- */

static ssize_t receive(uint32_t slot, int fd, const struct iovec *iov, int cnt, int flags) {
    struct mesh_io io;
    if (flags & MSG_OOB)
        return -EINVAL; /* what TCP says when there is no urgent data: TLS has none */
    int r = mesh_io_init(&io, slot, fd, iov, cnt, flags);
    if (r)
        return r;
    io.discard = flags & MSG_TRUNC;
    int keep = errno;
    ssize_t n = mesh_io_recv(&io);
    errno = keep;
    return n;
}

/* read() of nothing returns at once; recv() of nothing waits for something first. */
static ssize_t receive_file(uint32_t slot, int fd, const struct iovec *iov, int cnt, int flags) {
    if (cnt < 0 || cnt > IOV_MAX)
        return -EINVAL;
    size_t n = 0;
    for (int i = 0; i < cnt; i++)
        n |= iov[i].iov_len;
    return n ? receive(slot, fd, iov, cnt, flags) : 0;
}

ssize_t shim_read(int fd, void *buf, size_t n) {
    uint32_t slot;
    if (!conn_of(&fd, &slot))
        return real.read(fd, buf, n);
    ssize_t r = n ? receive(slot, fd, &(struct iovec){buf, n}, 1, 0) : 0;
    return stale(fd, r) ? real.read(fd, buf, n) : give(r);
}

ssize_t shim_readv(int fd, const struct iovec *iov, int cnt) {
    uint32_t slot;
    if (!conn_of(&fd, &slot))
        return real.readv(fd, iov, cnt);
    ssize_t r = receive_file(slot, fd, iov, cnt, 0);
    return stale(fd, r) ? real.readv(fd, iov, cnt) : give(r);
}

ssize_t shim_preadv2(int fd, const struct iovec *iov, int cnt, off_t offset, int flags) {
    uint32_t slot;
    if (!conn_of(&fd, &slot) || offset != -1)
        return real.preadv2(fd, iov, cnt, offset, flags);
    return give(receive_file(slot, fd, iov, cnt, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0));
}

ssize_t shim_recv(int fd, void *buf, size_t n, int flags) {
    uint32_t slot;
    if (!conn_of(&fd, &slot) || flags & MSG_ERRQUEUE)
        return real.recv(fd, buf, n, flags);
    return give(receive(slot, fd, &(struct iovec){buf, n}, 1, flags));
}

/* A connected TCP socket names no sender. */
ssize_t shim_recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *len) {
    uint32_t slot;
    if (!conn_of(&fd, &slot) || flags & MSG_ERRQUEUE)
        return real.recvfrom(fd, buf, n, flags, addr, len);
    ssize_t r = receive(slot, fd, &(struct iovec){buf, n}, 1, flags);
    if (r >= 0 && addr && len)
        *len = 0;
    return give(r);
}

static ssize_t receive_msg(uint32_t slot, int fd, struct msghdr *msg, int flags) {
    if (msg->msg_iovlen > IOV_MAX)
        return -EMSGSIZE;
    ssize_t r = receive(slot, fd, msg->msg_iov, (int)msg->msg_iovlen, flags);
    if (r >= 0) {
        msg->msg_namelen = 0;
        msg->msg_controllen = 0;
        msg->msg_flags = flags & MSG_CMSG_CLOEXEC;
    }
    return r;
}

static ssize_t received(ssize_t n, const struct msghdr *msg) {
    if (n >= 0)
        mesh_scm_received(msg);
    return n;
}

ssize_t shim_recvmsg(int fd, struct msghdr *msg, int flags) {
    uint32_t slot;
    if (!conn_of(&fd, &slot) || flags & MSG_ERRQUEUE)
        return received(real.recvmsg(fd, msg, flags), msg);
    return give(receive_msg(slot, fd, msg, flags));
}

int shim_recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout) {
    uint32_t slot;
    if (!conn_of(&fd, &slot) || flags & MSG_ERRQUEUE) {
        int got = real.recvmmsg(fd, msgs, n, flags, timeout);
        for (int i = 0; i < got; i++)
            mesh_scm_received(&msgs[i].msg_hdr);
        return got;
    }
    uint64_t deadline = mesh_deadline_ts(timeout);
    for (unsigned i = 0; i < n; i++) {
        int more = i && flags & MSG_WAITFORONE ? MSG_DONTWAIT : 0;
        ssize_t r = receive_msg(slot, fd, &msgs[i].msg_hdr, (flags & ~MSG_WAITFORONE) | more);
        if (r < 0)
            return i ? (int)i : (int)give(r);
        msgs[i].msg_len = (unsigned)r;
        if (r == 0 || (timeout && mesh_deadline_ms(0) >= deadline))
            return (int)i + 1;
    }
    return (int)n;
}

/* ---- writing ---- */

static ssize_t transmit(uint32_t slot, int fd, const struct iovec *iov, int cnt, int flags) {
    struct mesh_io io;
    if (flags & MSG_OOB)
        return -EOPNOTSUPP; /* urgent data cannot travel in TLS */
    int r = mesh_io_init(&io, slot, fd, iov, cnt, flags & ~MSG_ZEROCOPY);
    if (r)
        return r;
    int keep = errno;
    ssize_t n = mesh_io_send(&io);
    errno = keep;
    if (n == -EPIPE && !(flags & MSG_NOSIGNAL))
        (void)mesh_sys_tgkill(mesh_sys_getpid(), mesh_sys_gettid(), SIGPIPE);
    return n;
}

ssize_t shim_write(int fd, const void *buf, size_t n) {
    uint32_t slot;
    int out = conn_out(&fd, 0, &slot);
    if (out <= 0)
        return out ? -1 : real.write(fd, buf, n);
    ssize_t r = transmit(slot, fd, &(struct iovec){(void *)buf, n}, 1, 0);
    return stale(fd, r) ? real.write(fd, buf, n) : give(r);
}

ssize_t shim_writev(int fd, const struct iovec *iov, int cnt) {
    uint32_t slot;
    int out = conn_out(&fd, 0, &slot);
    if (out <= 0)
        return out ? -1 : real.writev(fd, iov, cnt);
    if (cnt > IOV_MAX)
        return give(-EINVAL);
    ssize_t r = transmit(slot, fd, iov, cnt, 0);
    return stale(fd, r) ? real.writev(fd, iov, cnt) : give(r);
}

ssize_t shim_pwritev2(int fd, const struct iovec *iov, int cnt, off_t offset, int flags) {
    uint32_t slot;
    int out = offset != -1 ? 0 : conn_out(&fd, 0, &slot);
    if (out <= 0)
        return out ? -1 : real.pwritev2(fd, iov, cnt, offset, flags);
    return give(transmit(slot, fd, iov, cnt, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0));
}

ssize_t shim_send(int fd, const void *buf, size_t n, int flags) {
    uint32_t slot;
    int out = conn_out(&fd, flags, &slot);
    if (out <= 0)
        return out ? -1 : real.send(fd, buf, n, flags);
    return give(transmit(slot, fd, &(struct iovec){(void *)buf, n}, 1, flags));
}

/* TCP Fast Open: a connect and a write in one call. */
static ssize_t fast_open(int fd, const struct msghdr *msg, int flags) {
    if (shim_connect(fd, msg->msg_name, msg->msg_namelen) && errno != EINPROGRESS)
        return -errno;
    struct msghdr rest = *msg;
    rest.msg_name = NULL;
    rest.msg_namelen = 0;
    ssize_t r = shim_sendmsg(fd, &rest, flags & ~MSG_FASTOPEN);
    if (r < 0)
        return errno == EAGAIN ? -EINPROGRESS : -errno;
    return r;
}

static bool wants_fast_open(int fd, const struct msghdr *msg, int flags) {
    return flags & MSG_FASTOPEN && msg->msg_name && mesh_fd_unconnected(mesh_fd_get(fd));
}

static bool to_virtual(int fd, const struct msghdr *msg) {
    return msg && msg->msg_name && mesh_datagram_to(fd, msg->msg_name, msg->msg_namelen) != 0;
}

ssize_t shim_sendmsg(int fd, const struct msghdr *msg, int flags) {
    uint32_t slot;
    if (wants_fast_open(fd, msg, flags))
        return give(fast_open(fd, msg, flags));
    int out = conn_out(&fd, flags, &slot);
    if (out < 0)
        return -1;
    if (!out) {
        if (to_virtual(fd, msg))
            return give(-EACCES);
        return mesh_scm_concerns(msg) ? give(mesh_scm_send(fd, msg, flags)) : real.sendmsg(fd, msg, flags);
    }
    if (msg->msg_iovlen > IOV_MAX)
        return give(-EMSGSIZE);
    return give(transmit(slot, fd, msg->msg_iov, (int)msg->msg_iovlen, flags));
}

ssize_t shim_sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr,
                    socklen_t len) {
    uint32_t slot;
    struct iovec iov = {(void *)buf, n};
    struct msghdr m = {.msg_name = (void *)addr, .msg_namelen = len, .msg_iov = &iov, .msg_iovlen = 1};
    if (wants_fast_open(fd, &m, flags))
        return give(fast_open(fd, &m, flags));
    int out = conn_out(&fd, flags, &slot);
    if (out < 0)
        return -1;
    if (!out)
        return to_virtual(fd, &m) ? give(-EACCES) : real.sendto(fd, buf, n, flags, addr, len);
    return give(transmit(slot, fd, &iov, 1, flags)); /* a connected TCP socket ignores the address */
}

int shim_sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags) {
    uint32_t slot;
    int out = conn_out(&fd, flags, &slot);
    if (out < 0)
        return -1;
    bool concerns = out;
    for (unsigned i = 0; i < n && !concerns; i++)
        concerns = mesh_scm_concerns(&msgs[i].msg_hdr) || to_virtual(fd, &msgs[i].msg_hdr);
    if (!concerns)
        return real.sendmmsg(fd, msgs, n, flags);
    for (unsigned i = 0; i < n; i++) {
        ssize_t r = shim_sendmsg(fd, &msgs[i].msg_hdr, flags);
        if (r < 0)
            return i ? (int)i : -1;
        msgs[i].msg_len = (unsigned)r;
    }
    return (int)n;
}

/* ---- moving: through a buffer of ours ---- */

static bool file_read(int fd, off_t *offset, void *p, size_t n, ssize_t *ret) {
    *ret = offset ? mesh_sys_pread(fd, p, n, *offset) : mesh_sys_read(fd, p, n);
    return *ret > 0;
}

ssize_t shim_sendfile(int out_fd, int in_fd, off_t *offset, size_t n) {
    uint32_t out = 0, in;
    if (conn_of(&in_fd, &in)) /* the kernel cannot either: not a file that can be mapped */
        return give(-EINVAL);
    int to = conn_out(&out_fd, 0, &out);
    if (to <= 0)
        return to ? -1 : real.sendfile(out_fd, in_fd, offset, n);
    uint8_t *p = mesh_scratch_take();
    if (!p)
        return give(-ENOMEM);
    off_t at = offset ? *offset : mesh_sys_lseek(in_fd, 0, SEEK_CUR);
    size_t done = 0;
    ssize_t r = 0, w = 0;
    while (done < n) {
        size_t k = n - done < MESH_REC_PLAIN_MAX * 4 ? n - done : MESH_REC_PLAIN_MAX * 4;
        off_t from = at + (off_t)done;
        if (!file_read(in_fd, at >= 0 ? &from : NULL, p, k, &r))
            break;
        w = transmit(out, out_fd, &(struct iovec){p, (size_t)r}, 1, done + (size_t)r < n ? MSG_MORE : 0);
        if (w < 0)
            break;
        done += (size_t)w;
        if (w < r)
            break;
    }
    mesh_scratch_give(p);
    if (done && offset)
        *offset = at + (off_t)done;
    else if (done && at >= 0)
        (void)mesh_sys_lseek(in_fd, at + (off_t)done, SEEK_SET);
    return give(done ? (ssize_t)done : r < 0 ? r : w < 0 ? w : 0);
}

/* From a pipe into the connection: what the pipe gave and TCP did not take would be lost, so no more is taken
 * from the pipe than will be accepted: all of a blocking descriptor's, one record's worth of a non-blocking
 * one's that is writable. */
static ssize_t splice_out(uint32_t slot, int in_fd, int out_fd, size_t n, unsigned flags) {
    struct pollfd w = {.fd = out_fd, .events = POLLOUT};
    if (mesh_nonblocking(out_fd, flags & SPLICE_F_NONBLOCK ? MSG_DONTWAIT : 0) &&
        mesh_poll(&w, 1, 0, NULL) == 0)
        return -EAGAIN;
    uint8_t *p = mesh_scratch_take();
    if (!p)
        return -ENOMEM;
    if (flags & SPLICE_F_NONBLOCK && !(mesh_sys_fcntl(in_fd, F_GETFL, 0) & O_NONBLOCK)) {
        struct pollfd r = {.fd = in_fd, .events = POLLIN};
        if (mesh_sys_poll(&r, 1, 0) == 0) {
            mesh_scratch_give(p);
            return -EAGAIN;
        }
    }
    ssize_t r = mesh_sys_read(in_fd, p, n < MESH_REC_PLAIN_MAX ? n : MESH_REC_PLAIN_MAX);
    size_t done = 0;
    while (r > 0 && done < (size_t)r) {
        ssize_t s = transmit(slot, out_fd, &(struct iovec){p + done, (size_t)r - done}, 1,
                             flags & SPLICE_F_MORE ? MSG_MORE : 0);
        if (s == -EAGAIN) { /* already out of the pipe: it must go */
            struct pollfd again = {.fd = out_fd, .events = POLLOUT};
            (void)mesh_sys_poll(&again, 1, 1000);
            continue;
        }
        if (s < 0) {
            mesh_scratch_give(p);
            return done ? (ssize_t)done : s;
        }
        done += (size_t)s;
    }
    mesh_scratch_give(p);
    return r;
}

/* From the connection into a pipe: peeked, written, and only what the pipe took is consumed. */
static ssize_t splice_in(uint32_t slot, int in_fd, int out_fd, size_t n, unsigned flags) {
    uint8_t *p = mesh_scratch_take();
    if (!p)
        return -ENOMEM;
    size_t k = n < MESH_REC_PLAIN_MAX ? n : MESH_REC_PLAIN_MAX;
    int dont = flags & SPLICE_F_NONBLOCK ? MSG_DONTWAIT : 0;
    ssize_t r = receive(slot, in_fd, &(struct iovec){p, k}, 1, MSG_PEEK | dont);
    if (r > 0) {
        struct pollfd w = {.fd = out_fd, .events = POLLOUT};
        bool ready = !dont || mesh_sys_poll(&w, 1, 0) > 0;
        if (ready && dont && r > 4096)
            r = 4096; /* a writable pipe takes that much without waiting */
        r = ready ? mesh_sys_write(out_fd, p, (size_t)r) : -EAGAIN;
        if (r > 0)
            r = receive(slot, in_fd, &(struct iovec){p, (size_t)r}, 1, MSG_DONTWAIT);
    }
    mesh_scratch_give(p);
    return r;
}

ssize_t shim_splice(int in_fd, off64_t *in_offset, int out_fd, off64_t *out_offset, size_t n,
                    unsigned flags) {
    uint32_t slot;
    bool in = conn_of(&in_fd, &slot);
    int out = in ? 1 : conn_out(&out_fd, 0, &slot);
    if (out <= 0)
        return out ? -1 : real.splice(in_fd, in_offset, out_fd, out_offset, n, flags);
    struct stat st; /* one end must be a pipe, says the kernel */
    if (mesh_sys_fstat(in ? out_fd : in_fd, &st) || !S_ISFIFO(st.st_mode))
        return give(-EINVAL);
    if (in ? in_offset : out_offset)
        return give(-EINVAL);
    if (in ? out_offset : in_offset)
        return give(-ESPIPE);
    return give(in ? splice_in(slot, in_fd, out_fd, n, flags) : splice_out(slot, in_fd, out_fd, n, flags));
}

/* vmsplice and tee work on pipes alone; the kernel says so of a socket, too. */

int shim_aio_read(struct aiocb *cb) {
    uint32_t slot;
    return conn_of(&(int){cb->aio_fildes}, &slot) ? (int)give(-EOPNOTSUPP) : real.aio_read(cb);
}

int shim_aio_write(struct aiocb *cb) {
    uint32_t slot;
    return conn_of(&(int){cb->aio_fildes}, &slot) ? (int)give(-EOPNOTSUPP) : real.aio_write(cb);
}

int shim_lio_listio(int mode, struct aiocb *const *list, int n, struct sigevent *sig) {
    uint32_t slot;
    for (int i = 0; list && i < n; i++)
        if (list[i] && conn_of(&(int){list[i]->aio_fildes}, &slot))
            return (int)give(-EOPNOTSUPP);
    return real.lio_listio(mode, list, n, sig);
}
