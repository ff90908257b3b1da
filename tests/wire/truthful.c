// SPDX-License-Identifier: Apache-2.0
//
// Truthful readiness: request and response, the peer waits for an answer to each message, so a readiness that
// is not told stalls. (A busy stream hides that.) Level, edge, oneshot, poll, select and nested epoll, with
// application buffers smaller than a record, about one, and larger; each wake reads once (edge: until
// EAGAIN). No stall, and not more than one wake without data a record.
#include <sys/select.h>
#include "t.h"

enum how { LEVEL, EDGE, ONESHOT, POLL, SELECT, NESTED };
enum { MESSAGES = 120, STALL = 8000 };

struct peer {
    int fd;
    size_t most;
    int pieces; // in how many sends a message goes
};

static size_t size_of(int message, size_t most) {
    return 1 + t_mix((uint64_t)message * 31 + most) % most;
}

static void *ask_and_wait(void *arg) {
    struct peer *p = arg;
    static _Thread_local char buf[16384];
    uint64_t off = 0;
    for (int i = 0; i < MESSAGES; i++) {
        size_t n = size_of(i, p->most), done = 0;
        t_fill(buf, off, n);
        for (int piece = p->pieces; piece > 0; piece--) {
            size_t len = piece == 1 ? n - done : (n - done) / (size_t)piece;
            for (size_t sent = 0; sent < len;)
                sent += (size_t)SYS(send(p->fd, buf + done + sent, len - sent, MSG_NOSIGNAL));
            done += len;
        }
        off += n;
        char answer;
        EQ(recv(p->fd, &answer, 1, 0), 1);
        EQ(answer, 'a' + i % 26);
    }
    return NULL;
}

struct waiter {
    enum how how;
    int fd, ep, outer;
};

static struct waiter waiter(enum how how, int fd) {
    struct waiter w = {how, fd, SYS(epoll_create1(0)), SYS(epoll_create1(0))};
    struct epoll_event e = {.events = EPOLLIN}, o = {.events = EPOLLIN};
    if (how == EDGE)
        e.events |= EPOLLET;
    if (how == ONESHOT)
        e.events |= EPOLLONESHOT;
    SYS(epoll_ctl(w.ep, EPOLL_CTL_ADD, fd, &e));
    SYS(epoll_ctl(w.outer, EPOLL_CTL_ADD, w.ep, &o));
    return w;
}

static bool wait_readable(struct waiter *w) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT};
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    struct timeval tv = {STALL / 1000, 0};
    fd_set set;
    switch (w->how) {
    case POLL:
        return SYS(poll(&p, 1, STALL)) > 0;
    case SELECT:
        FD_ZERO(&set);
        FD_SET(w->fd, &set);
        return SYS(select(w->fd + 1, &set, NULL, NULL, &tv)) > 0;
    case NESTED:
        return SYS(epoll_wait(w->outer, &e, 1, STALL)) > 0 && SYS(epoll_wait(w->ep, &e, 1, 0)) >= 0;
    case ONESHOT:
        SYS(epoll_ctl(w->ep, EPOLL_CTL_MOD, w->fd, &e));
        return SYS(epoll_wait(w->ep, &e, 1, STALL)) > 0;
    default:
        return SYS(epoll_wait(w->ep, &e, 1, STALL)) > 0;
    }
}

static ssize_t read_once(int fd, char *buf, size_t n, uint64_t off) {
    ssize_t got = recv(fd, buf, n, MSG_DONTWAIT);
    if (got < 0) {
        EQ(errno, EAGAIN);
        return 0;
    }
    CHECK(got > 0);
    SAME(buf, off, got);
    return got;
}

// Reads one message; returns how many wakes brought nothing.
static int read_message(struct waiter *w, char *buf, size_t room, uint64_t off, size_t n) {
    int empty = 0;
    for (size_t done = 0; done < n;) {
        if (!wait_readable(w))
            FAIL("stalls at offset %llu, %zu of %zu read, buffer %zu", (unsigned long long)off, done, n,
                 room);
        ssize_t got = read_once(w->fd, buf, room, off + done);
        empty += got == 0;
        do
            done += (size_t)got;
        while (w->how == EDGE && got > 0 && (got = read_once(w->fd, buf, room, off + done)) > 0);
    }
    return empty;
}

static void converse(enum how how, size_t room, size_t most, int pieces) {
    static char buf[65536];
    int p[2], on = 1, empty = 0;
    uint64_t off = 0;
    t_pair(p);
    SYS(setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    struct waiter w = waiter(how, p[1]);
    struct peer peer = {p[0], most, pieces};
    pthread_t t = t_thread(ask_and_wait, &peer);
    for (int i = 0; i < MESSAGES; i++) {
        size_t n = size_of(i, most);
        empty += read_message(&w, buf, room, off, n);
        off += n;
        char answer = (char)('a' + i % 26);
        EQ(send(p[1], &answer, 1, MSG_NOSIGNAL), 1);
    }
    t_join(t);
    CHECK(!t_wait(p[1], POLLIN, 10)); // all was read: nothing more is told
    if (empty > MESSAGES * pieces)
        FAIL("%d of the wakes for %d records brought nothing", empty, MESSAGES * pieces);
    close(w.ep);
    close(w.outer);
    t_close_pair(p);
}

static void by(enum how how) {
    converse(how, 1, 300, 1);
    converse(how, 700, 16384, 1);
    converse(how, 4096, 16384, 1);
    converse(how, 65536, 16384, 1);
    converse(how, 1, 300, 3);
    converse(how, 700, 16384, 2);
    converse(how, 4096, 16384, 5);
    converse(how, 65536, 16384, 4);
}

static void level_triggered(void) {
    by(LEVEL);
}
static void edge_triggered(void) {
    by(EDGE);
}
static void oneshot(void) {
    by(ONESHOT);
}
static void polled(void) {
    by(POLL);
}
static void selected(void) {
    by(SELECT);
}
static void nested(void) {
    by(NESTED);
}

// The same without a wait call between reads of one message, as blocking programs do it: a poll for the first
// byte only.
static void poll_then_blocking_reads(void) {
    static char buf[16384];
    int p[2];
    uint64_t off = 0;
    t_pair(p);
    struct peer peer = {p[0], 16384, 1};
    pthread_t t = t_thread(ask_and_wait, &peer);
    for (int i = 0; i < MESSAGES; i++) {
        size_t n = size_of(i, 16384);
        CHECK(t_wait(p[1], POLLIN, STALL));
        for (size_t done = 0; done < n;) {
            ssize_t got = SYS(recv(p[1], buf, n - done < 999 ? n - done : 999, 0));
            CHECK(got > 0);
            SAME(buf, off + done, got);
            done += (size_t)got;
        }
        off += n;
        char answer = (char)('a' + i % 26);
        EQ(send(p[1], &answer, 1, 0), 1);
    }
    t_join(t);
}

// A pooled connection: idle for a while, never readable meanwhile, whatever the connection's own traffic is.
static void pooled_and_idle(void) {
    int p[2];
    t_pair_cold(AF_INET, p);
    for (int i = 0; i < 5; i++) {
        CHECK(!t_wait(p[0], POLLIN, 40));
        CHECK(!t_wait(p[1], POLLIN, 40));
        ERR(recv(p[0], &i, 1, MSG_DONTWAIT), EAGAIN);
        PUT(p[0], 0, 100);
        GET(p[1], 0, 100);
        PUT(p[1], 0, 100);
        GET(p[0], 0, 100);
    }
}

T_MAIN(T_CASE(level_triggered), T_CASE(edge_triggered), T_CASE(oneshot), T_CASE(polled), T_CASE(selected),
       T_CASE(nested), T_CASE(poll_then_blocking_reads), T_CASE(pooled_and_idle))
