// SPDX-License-Identifier: Apache-2.0
// Many callers that have begun something and say no more: they hold up nobody, and waiting beside them costs
// what waiting costs.
#include "raw.h"
#include <sys/resource.h>

enum { SILENT = 999, TALKS = 20, SOON = 15000 };

static void room_for_descriptors(void) {
    struct rlimit lim;
    SYS(getrlimit(RLIMIT_NOFILE, &lim));
    lim.rlim_cur = lim.rlim_max < 4096 ? lim.rlim_max : 4096;
    if (lim.rlim_cur < 2 * SILENT + 100)
        SKIP("too few descriptors");
    SYS(setrlimit(RLIMIT_NOFILE, &lim));
}

static int beginner(struct t_addr to, const char *says, size_t n) {
    int fd = raw_socket();
    EQ(raw(SYS_connect, fd, (long)&to.sa, to.len), 0);
    EQ(raw(SYS_write, fd, (long)says, (long)n), (long)n);
    return fd;
}

static long waits(int who) {
    struct rusage u;
    SYS(getrusage(who, &u));
    return u.ru_nvcsw;
}

static double cpu_seconds(void) {
    struct timespec ts;
    SYS(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts));
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void *talk(void *arg) {
    struct t_addr to = *(struct t_addr *)arg;
    int c = t_dial(to);
    for (int i = 0; i < TALKS; i++) {
        PUT(c, i * 100, 100);
        GET(c, i * 100, 100);
    }
    SYS(close(c));
    return NULL;
}

// Accepts the callers; where their bytes are plain data they are read.
static int accepted(int l, bool nonblock) {
    char b[64];
    int s = SYS(accept4(l, NULL, NULL, nonblock ? SOCK_NONBLOCK : 0));
    ssize_t n = recv(s, b, sizeof b, MSG_DONTWAIT);
    CHECK(n > 0 || (t_mtls() && errno == EAGAIN));
    return s;
}

// Serves until the talker has gone; every wake must be for somebody who has said something.
static void serve_by_epoll(int ep, int l) {
    uint64_t off = 0;
    for (;;) {
        struct epoll_event e;
        char buf[4096];
        EQ(epoll_wait(ep, &e, 1, SOON), 1);
        if (e.data.fd == l) {
            int s = SYS(accept4(l, NULL, NULL, SOCK_NONBLOCK));
            e = (struct epoll_event){.events = EPOLLIN, .data.fd = s};
            SYS(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
            continue;
        }
        ssize_t n = recv(e.data.fd, buf, sizeof buf, 0);
        if (n == 0) {
            SYS(close(e.data.fd));
            return;
        }
        CHECK(n > 0);
        SAME(buf, off, n);
        PUT(e.data.fd, off, n);
        off += (uint64_t)n;
    }
}

static void beside_them_in_one_epoll(void) {
    room_for_descriptors();
    int l = t_listen(AF_INET), ep = SYS(epoll_create1(0));
    struct t_addr to = t_local(l);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = l};
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, l, &e));
    for (int i = 0; i < SILENT; i++) {
        beginner(to, "\x16\x03", 2);
        int s = accepted(l, true);
        e.data.fd = s;
        SYS(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
    }
    pthread_t t = t_thread(talk, &to);
    serve_by_epoll(ep, l);
    t_join(t);
    long before = waits(RUSAGE_THREAD);
    double cpu = cpu_seconds();
    EQ(epoll_wait(ep, &e, 1, 1000), 0);
    CHECK(waits(RUSAGE_THREAD) - before < 20);
    CHECK(cpu_seconds() - cpu < 0.3);
}

static void beside_them_in_one_poll(void) {
    room_for_descriptors();
    static struct pollfd f[SILENT + 1];
    int l = t_listen(AF_INET);
    struct t_addr to = t_local(l);
    for (int i = 0; i < SILENT; i++) {
        beginner(to, "\x16\x03", 2);
        f[i] = (struct pollfd){.fd = accepted(l, false), .events = POLLIN};
    }
    pthread_t t = t_thread(talk, &to);
    f[SILENT] = (struct pollfd){.fd = SYS(accept(l, NULL, NULL)), .events = POLLIN};
    for (uint64_t off = 0;;) {
        char buf[4096];
        EQ(poll(f, SILENT + 1, SOON), 1);
        CHECK(f[SILENT].revents & POLLIN);
        ssize_t n = SYS(recv(f[SILENT].fd, buf, sizeof buf, 0));
        if (n == 0)
            break;
        SAME(buf, off, n);
        PUT(f[SILENT].fd, off, n);
        off += (uint64_t)n;
    }
    t_join(t);
    long before = waits(RUSAGE_THREAD);
    double cpu = cpu_seconds();
    EQ(poll(f, SILENT, 1000), 0);
    CHECK(waits(RUSAGE_THREAD) - before < 20);
    CHECK(cpu_seconds() - cpu < 0.3);
}

// They are in one epoll descriptor, and another thread, or the same one, waits for something else.
static void beside_them_elsewhere(void) {
    room_for_descriptors();
    int l = t_listen(AF_INET), ep = SYS(epoll_create1(0)), p[2];
    struct t_addr to = t_local(l);
    struct epoll_event e = {.events = EPOLLIN};
    t_pair(p);
    for (int i = 0; i < 200; i++) {
        beginner(to, "\x16\x03", 2);
        e.data.fd = accepted(l, true);
        SYS(epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e));
    }
    pthread_t t = t_thread(talk, &to);
    int s = SYS(accept(l, NULL, NULL));
    for (int i = 0; i < TALKS; i++) {
        GET(s, i * 100, 100);
        PUT(s, i * 100, 100);
    }
    END(s);
    t_join(t);
    long before = waits(RUSAGE_THREAD);
    struct timeval tv = {1, 0};
    char b;
    SYS(setsockopt(p[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    ERR(recv(p[1], &b, 1, 0), EAGAIN);
    CHECK(!t_wait(p[1], POLLIN, 300));
    CHECK(waits(RUSAGE_THREAD) - before < 30);
}

// A call that nobody answers: TCP has it, and no more comes of it. Waiting for something else sleeps.
static void beside_a_call_that_is_not_answered(void) {
    int l = raw_socket(), p[2];
    struct t_addr at = t_loopback(AF_INET);
    t_pair(p);
    EQ(raw(SYS_bind, l, (long)&at.sa, at.len), 0);
    EQ(raw(SYS_listen, l, 5, 0), 0);
    EQ(raw(SYS_getsockname, l, (long)&at.sa, (long)&at.len), 0);
    int c = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    ERR(connect(c, &at.sa, at.len), EINPROGRESS);
    CHECK(t_wait(c, POLLOUT, SOON));
    EQ(send(c, T_MARK, 16, 0), 16); // held, where the peer has to be authenticated first
    t_sleep_ms(300);
    long before = waits(RUSAGE_SELF);
    CHECK(!t_wait(p[1], POLLIN, 1000));
    CHECK(!t_wait(c, POLLIN, 1000));
    CHECK(waits(RUSAGE_SELF) - before < 60);
    PUT(p[0], 0, 100);
    GET(p[1], 0, 100);
}

T_MAIN(T_CASE(beside_them_in_one_epoll), T_CASE(beside_them_in_one_poll), T_CASE(beside_them_elsewhere),
       T_CASE(beside_a_call_that_is_not_answered))
