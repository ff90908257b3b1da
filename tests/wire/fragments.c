// SPDX-License-Identifier: Apache-2.0
// modes: plain mtls
//
// What is sent arrives in pieces, or only a part of it does: by way of a relay that lets bytes through one by
// one. In mode mtls no byte of a message is there before all of it is, and an end or a reset in the middle is
// an error.
#include "raw.h"
#include <linux/sockios.h>
#include <sys/select.h>

static struct relay r;
static int p[2];

struct drip {
    size_t most;
    _Atomic size_t done;
    _Atomic bool stop;
};

// One byte at a time, for as long as the reader waits.
static void *drip(void *arg) {
    struct drip *d = arg;
    while (!d->stop && d->done < d->most) {
        relay_move(r.near, r.far, 1);
        d->done++;
        t_sleep_ms(20);
    }
    return NULL;
}

// The limit of a read is the limit of the whole call, not of each piece.
static void receive_timeout_within_a_piece(void) {
    struct timeval tv = {0, 300000}, none = {0};
    char b[200];
    relay_pair(p, &r);
    PUT(p[0], 0, 100);
    SYS(setsockopt(p[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    struct drip d = {.most = 99};
    pthread_t t = t_thread(drip, &d);
    ssize_t n = recv(p[1], b, sizeof b, MSG_WAITALL);
    size_t at = d.done;
    d.stop = true;
    t_join(t);
    CHECK(at < 99); // it came back before all was there
    if (t_mtls()) {
        EQ(n, -1);
        EQ(errno, EAGAIN);
        n = 0;
    } else {
        CHECK(n > 0);
    }
    relay_open(&r, true);
    SYS(setsockopt(p[1], SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none));
    GET(p[1], n, 100 - n);
}

// A piece of a message is nothing to read, and the rest makes it readable.
static void part_is_nothing_to_read(void) {
    int ep = SYS(epoll_create1(0)), n = 0;
    struct epoll_event e = {.events = EPOLLIN};
    char b[200];
    if (!t_mtls())
        SKIP("TCP gives what it has");
    relay_pair(p, &r);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
    PUT(p[0], 0, 100);
    for (size_t moved = 0; moved < 100; moved += 10) {
        relay_move(r.near, r.far, 10);
        CHECK(!t_wait(p[1], POLLIN, 5));
        EQ(epoll_wait(ep, &e, 1, 5), 0);
        SYS(ioctl(p[1], FIONREAD, &n));
        EQ(n, 0);
        ERR(recv(p[1], b, sizeof b, MSG_DONTWAIT), EAGAIN);
        ERR(recv(p[1], b, sizeof b, MSG_DONTWAIT | MSG_PEEK), EAGAIN);
    }
    relay_open(&r, true);
    CHECK(t_wait(p[1], POLLIN, 5000));
    EQ(epoll_wait(ep, &e, 1, 5000), 1);
    SYS(ioctl(p[1], FIONREAD, &n));
    EQ(n, 100);
    GET(p[1], 0, 100);
}

static void end_within_a_piece(void) {
    char b[200];
    relay_pair(p, &r);
    PUT(p[0], 0, 100);
    relay_move(r.near, r.far, 50);
    raw(SYS_shutdown, r.far, SHUT_WR, 0);
    if (t_mtls()) {
        ERR(recv(p[1], b, sizeof b, 0), ECONNRESET);
        struct pollfd f = {.fd = p[1], .events = POLLIN};
        EQ(poll(&f, 1, 5000), 1);
        EQ(f.revents & (POLLERR | POLLHUP), POLLERR | POLLHUP);
        ERR(send(p[1], "x", 1, 0), ECONNRESET);
    } else {
        GET(p[1], 0, 50);
        END(p[1]);
    }
}

static void reset(int fd) {
    struct linger now = {1, 0};
    SYS(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    raw(SYS_close, fd, 0, 0);
}

static void reset_within_a_piece(void) {
    char b[200];
    relay_pair(p, &r);
    PUT(p[0], 0, 100);
    relay_move(r.near, r.far, 50);
    reset(r.far);
    if (!t_mtls()) {
        ssize_t n = recv(p[1], b, sizeof b, 0); // what had come, or nothing of it
        CHECK(n == 50 || (n < 0 && errno == ECONNRESET));
        if (n < 0)
            return;
    }
    ERR(recv(p[1], b, sizeof b, 0), ECONNRESET);
}

// The first call that looks is told, whichever it is; a write after that breaks the pipe where TCP is alone.
static void reset_while_idle(void) {
    for (int first = 0; first < 4; first++) {
        char b;
        int err = 0;
        socklen_t len = sizeof err;
        struct pollfd f;
        relay_pair(p, &r);
        f = (struct pollfd){.fd = p[1]};
        reset(r.far);
        EQ(poll(&f, 1, 5000), 1);
        EQ(f.revents, POLLERR | POLLHUP);
        switch (first) {
        case 0:
            ERR(recv(p[1], &b, 1, 0), ECONNRESET);
            break;
        case 1:
            ERR(send(p[1], "x", 1, 0), ECONNRESET); // no SIGPIPE
            break;
        case 2:
            SYS(getsockopt(p[1], SOL_SOCKET, SO_ERROR, &err, &len));
            EQ(err, ECONNRESET);
            break;
        default:
            CHECK(t_wait(p[1], POLLIN, 5000)); // a wait looks, and tells nobody
            EQ(poll(&f, 1, 5000), 1);
            ERR(send(p[1], "x", 1, 0), ECONNRESET);
        }
        ERR(send(p[1], "x", 1, MSG_NOSIGNAL), EPIPE);
        EQ(recv(p[1], &b, 1, 0), 0);
        raw(SYS_close, r.near, 0, 0);
    }
}

static void *blocked_reader(void *arg) {
    char b;
    ssize_t n = recv(*(int *)arg, &b, 1, 0);
    return (void *)(intptr_t)(n < 0 ? -errno : n);
}

static void *blocked_writer(void *arg) {
    static char big[1 << 20];
    for (;;) {
        ssize_t n = send(*(int *)arg, big, sizeof big, MSG_NOSIGNAL);
        if (n < 0)
            return (void *)(intptr_t)-errno;
    }
}

static void reset_under_a_reader(void) {
    relay_pair(p, &r);
    pthread_t t = t_thread(blocked_reader, &p[1]);
    t_sleep_ms(100);
    reset(r.far);
    EQ((intptr_t)t_join(t), -ECONNRESET);
}

static void reset_under_a_writer(void) {
    relay_pair(p, &r);
    pthread_t t = t_thread(blocked_writer, &p[1]);
    t_sleep_ms(200);
    reset(r.far);
    intptr_t err = (intptr_t)t_join(t);
    CHECK(err == -ECONNRESET || err == -EPIPE); // a part of the last one may have gone
}

// The peer ends its side while we write: the reader is told the end, the writer goes on.
static void end_under_a_writer(void) {
    relay_pair(p, &r);
    relay_open(&r, true);
    SYS(shutdown(p[0], SHUT_WR));
    relay_open(&r, true);
    t_sleep_ms(50);
    raw(SYS_shutdown, r.far, SHUT_WR, 0);
    END(p[1]);
    PUT(p[1], 0, 300000);
    GET(p[0], 0, 300000);
}

static void handshake_that_stops(void) {
    char b;
    for (int how = 0; how < 2; how++) { // a reset, an end
        int l = t_listen(AF_INET), far = raw_socket();
        struct t_addr to = t_local(l);
        EQ(raw(SYS_connect, far, (long)&to.sa, to.len), 0);
        EQ(raw(SYS_write, far, (long)"\x16\x03\x01\x02\x00\x01", 6), 6);
        int s = SYS(accept(l, NULL, NULL));
        t_sleep_ms(20);
        if (how)
            raw(SYS_shutdown, far, SHUT_WR, 0);
        else
            reset(far);
        if (t_mtls() || !how) {
            ssize_t n;
            while ((n = recv(s, &b, 1, 0)) > 0)
                ;
            EQ(n, -1);
            EQ(errno, ECONNRESET);
        } else {
            for (int i = 0; i < 6; i++)
                EQ(recv(s, &b, 1, 0), 1);
            END(s);
        }
        SYS(close(s));
    }
}

// Unsent bytes are counted until they are out.
static void outq_counts_what_waits(void) {
    static char big[4 << 20];
    int n = 0, small = 8192;
    relay_pair(p, &r);
    SYS(setsockopt(p[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    t_nonblock(p[0], true);
    size_t sent = 0;
    t_fill(big, 0, sizeof big);
    for (ssize_t k; sent < sizeof big && (k = send(p[0], big + sent, sizeof big - sent, 0)) > 0;)
        sent += (size_t)k;
    SYS(ioctl(p[0], SIOCOUTQ, &n));
    CHECK(n > 0);
    t_nonblock(p[0], false);
    relay_open(&r, true);
    GET(p[1], 0, sent);
    for (int i = 0; i < 500 && n; i++) {
        t_sleep_ms(10);
        SYS(ioctl(p[0], SIOCOUTQ, &n));
    }
    EQ(n, 0);
}

static void *cancelled_in_recv(void *arg) {
    char b[100];
    recv(*(int *)arg, b, sizeof b, MSG_WAITALL);
    return NULL;
}

// Cancelled with half a message there: the next reader gets all of it.
static void cancelled_within_a_piece(void) {
    if (!t_mtls())
        SKIP("what TCP gave the cancelled read is gone");
    relay_pair(p, &r);
    PUT(p[0], 0, 100);
    pthread_t t = t_thread(cancelled_in_recv, &p[1]);
    relay_move(r.near, r.far, 60);
    t_sleep_ms(100);
    EQ(pthread_cancel(t), 0);
    CHECK(t_join(t) == PTHREAD_CANCELED);
    relay_open(&r, true);
    GET(p[1], 0, 100);
    PUT(p[1], 0, 100);
    GET(p[0], 0, 100);
}

static void nothing_in_the_error_queue(void) {
    char b[16];
    struct iovec v = {b, sizeof b};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    relay_pair(p, &r);
    PUT(p[0], 0, 16);
    ERR(recv(p[1], b, sizeof b, MSG_ERRQUEUE), EAGAIN);
    ERR(recvmsg(p[1], &m, MSG_ERRQUEUE), EAGAIN);
    relay_open(&r, true);
    GET(p[1], 0, 16);
}

T_MAIN(T_CASE(receive_timeout_within_a_piece), T_CASE(part_is_nothing_to_read), T_CASE(end_within_a_piece),
       T_CASE(reset_within_a_piece), T_CASE(reset_while_idle), T_CASE(reset_under_a_reader),
       T_CASE(reset_under_a_writer), T_CASE(end_under_a_writer), T_CASE(handshake_that_stops),
       T_CASE(outq_counts_what_waits), T_CASE(cancelled_within_a_piece), T_CASE(nothing_in_the_error_queue))
