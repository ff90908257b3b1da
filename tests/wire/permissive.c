// SPDX-License-Identifier: Apache-2.0
// modes: plain mtls
// env: MESH_INBOUND=permissive
// env: MESH_CAPTURE=10.255.255.0/24
// env: MESH_DETECT=200ms
// wire: none
//
// A program that speaks first to a caller in plaintext, on a port that may turn out either way: what it wrote
// before that was known arrives whole and in order, however slowly the caller reads.
#include "t.h"
#include <linux/sockios.h>

enum { MUCH = 3 << 20, MORE = 6 << 20 };

struct caller {
    int fd;
    size_t want;
    const char *says; // before it reads, or NULL
    bool end;
};

// Reads slowly at first, so that the server's socket is full for long.
static void *read_slowly(void *arg) {
    struct caller *c = arg;
    static char buf[65536];
    size_t done = 0;
    if (c->says)
        SYS(send(c->fd, c->says, strlen(c->says), 0));
    t_sleep_ms(600);
    while (done < c->want) {
        ssize_t got = recv(c->fd, buf, done < 200000 ? 1000 : sizeof buf, 0);
        if (got <= 0)
            FAIL("recv at offset %zu of %zu: %zd, %s", done, c->want, got, strerrorname_np(errno));
        SAME(buf, done, got);
        done += (size_t)got;
        if (done < 200000)
            t_sleep_ms(1);
    }
    EQ(done, c->want);
    if (c->end)
        END(c->fd);
    return NULL;
}

static struct caller caller;
static pthread_t reading;

// A connection whose caller reads `want` bytes slowly; returns the accepted end.
static int called(size_t want, const char *says) {
    int p[2], small = 65536;
    t_pair_cold(AF_INET, p);
    SYS(setsockopt(p[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    SYS(setsockopt(p[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    caller = (struct caller){p[0], want, says, true};
    reading = t_thread(read_slowly, &caller);
    return p[1];
}

static void written_before_it_is_known(void) {
    int fd = called(MUCH, NULL);
    PUT(fd, 0, MUCH);
    SYS(close(fd));
    t_join(reading);
}

static void more_than_is_ever_held(void) {
    int fd = called(MORE, NULL);
    static char buf[MORE];
    t_fill(buf, 0, MORE);
    EQ(send(fd, buf, MORE, 0), MORE); // one call, whose first part is held
    SYS(close(fd));
    t_join(reading);
}

static void in_vectors(void) {
    int fd = called(MORE, NULL);
    static char buf[MORE];
    struct iovec v[5] = {
        {buf, 1}, {buf + 1, 3000000}, {buf, 0}, {buf + 3000001, 3000000}, {buf + 6000001, MORE - 6000001}};
    t_fill(buf, 0, MORE);
    EQ(writev(fd, v, 5), MORE);
    SYS(close(fd));
    t_join(reading);
}

static void not_blocking(void) {
    int fd = called(MORE, NULL);
    t_nonblock(fd, true);
    PUT(fd, 0, MORE);
    SYS(shutdown(fd, SHUT_WR));
    t_join(reading);
    SYS(close(fd));
}

static void by_epoll(bool edge) {
    int fd = called(MORE, NULL), ep = SYS(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLOUT | (edge ? EPOLLET : 0)};
    static char buf[50000];
    size_t done = 0;
    t_nonblock(fd, true);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    while (done < MORE) {
        EQ(epoll_wait(ep, &e, 1, 10000), 1);
        CHECK(e.events & EPOLLOUT);
        for (;;) {
            size_t n = MORE - done < sizeof buf ? MORE - done : sizeof buf;
            t_fill(buf, done, n);
            ssize_t r = n ? send(fd, buf, n, 0) : -1;
            if (r < 0 && (!n || errno == EAGAIN))
                break;
            CHECK(r > 0);
            done += (size_t)r;
        }
    }
    SYS(close(fd));
    t_join(reading);
}

static void by_level(void) {
    by_epoll(false);
}

static void by_edge(void) {
    by_epoll(true);
}

static void shut_before_it_is_known(void) {
    int fd = called(MUCH, NULL);
    PUT(fd, 0, MUCH);
    SYS(shutdown(fd, SHUT_WR));
    ERR(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    t_join(reading);
    ERR(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    SYS(shutdown(caller.fd, SHUT_WR));
    END(fd);
}

static void exit_before_it_is_known(void) {
    int fd = called(MUCH, NULL);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        close(caller.fd);
        PUT(fd, 0, MUCH);
        _exit(0);
    }
    SYS(close(fd));
    t_join(reading);
    CHILD_END(pid);
}

// What is not out yet is counted, and the rest comes behind it in small pieces sent all the while.
static void counted_while_it_waits(void) {
    int fd = called(MUCH + 100000, NULL), n = 0;
    PUT(fd, 0, MUCH);
    SYS(ioctl(fd, SIOCOUTQ, &n));
    CHECK(n > 0);
    SYS(ioctl(fd, FIONREAD, &n));
    EQ(n, 0);
    for (int i = 0; i < 1000; i++)
        PUT(fd, MUCH + i * 100, 100);
    SYS(shutdown(fd, SHUT_WR));
    t_join(reading);
}

static void *send_the_stream(void *arg) {
    PUT(*(int *)arg, 0, MUCH);
    return NULL;
}

// The caller speaks while the server is still writing: known at once, in the middle of a send.
static void caller_speaks_in_the_middle(void) {
    int fd = called(MUCH, "PLAIN-TEXT-MARK!");
    pthread_t t = t_thread(send_the_stream, &fd);
    char b[16];
    EQ(recv(fd, b, sizeof b, MSG_WAITALL), 16);
    EQ(memcmp(b, T_MARK, 16), 0);
    t_join(t);
    SYS(shutdown(fd, SHUT_WR));
    t_join(reading);
}

static void caller_goes_without_reading(void) {
    int p[2];
    char b;
    t_pair_cold(AF_INET, p);
    signal(SIGPIPE, SIG_IGN);
    PUT(p[1], 0, 100000);
    t_sleep_ms(500);
    SYS(close(p[0]));
    ssize_t r = 0;
    for (int i = 0; i < 1000 && r >= 0; i++) {
        r = send(p[1], "x", 1, 0);
        t_sleep_ms(1);
    }
    EQ(r, -1);
    CHECK(errno == EPIPE || errno == ECONNRESET);
    CHECK(recv(p[1], &b, 1, 0) <= 0);
}

T_MAIN(T_CASE(written_before_it_is_known), T_CASE(more_than_is_ever_held), T_CASE(in_vectors),
       T_CASE(not_blocking), T_CASE(by_level), T_CASE(by_edge), T_CASE(shut_before_it_is_known),
       T_CASE(exit_before_it_is_known), T_CASE(counted_while_it_waits), T_CASE(caller_speaks_in_the_middle),
       T_CASE(caller_goes_without_reading))
