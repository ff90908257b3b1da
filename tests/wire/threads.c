// SPDX-License-Identifier: Apache-2.0
// What one thread does to a descriptor while another is inside a call on it; cancellation; small stacks.
#include <sys/select.h>
#include "t.h"

enum { A_WHILE = 80, SOON = 10000 };

struct call {
    int fd;
    ssize_t rc;
    int error;
    _Atomic bool inside;
};

static void *blocked_recv(void *arg) {
    struct call *c = arg;
    char b[64];
    c->inside = true;
    c->rc = recv(c->fd, b, sizeof b, 0);
    c->error = errno;
    return NULL;
}

static void *blocked_accept(void *arg) {
    struct call *c = arg;
    c->inside = true;
    c->rc = accept(c->fd, NULL, NULL);
    c->error = errno;
    return NULL;
}

static void *blocked_poll(void *arg) {
    struct call *c = arg;
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    c->inside = true;
    c->rc = poll(&p, 1, SOON);
    c->error = p.revents;
    return NULL;
}

static pthread_t blocked(void *(*fn)(void *), struct call *c) {
    pthread_t t = t_thread(fn, c);
    while (!c->inside)
        t_sleep_ms(1);
    t_sleep_ms(A_WHILE);
    return t;
}

static void shutdown_wakes_a_reader(void) {
    for (int how = 0; how < 2; how++) {
        int p[2];
        t_pair(p);
        struct call c = {.fd = p[1]};
        pthread_t t = blocked(blocked_recv, &c);
        SYS(shutdown(p[1], how ? SHUT_RD : SHUT_RDWR));
        t_join(t);
        EQ(c.rc, 0);
        t_close_pair(p);
    }
}

static void shutdown_wakes_an_acceptor(void) {
    struct call c = {.fd = t_listen(AF_INET)};
    pthread_t t = blocked(blocked_accept, &c);
    SYS(shutdown(c.fd, SHUT_RDWR));
    t_join(t);
    EQ(c.rc, -1);
    EQ(c.error, EINVAL);
}

static void shutdown_wakes_a_poll(void) {
    int p[2];
    t_pair(p);
    struct call c = {.fd = p[1]};
    pthread_t t = blocked(blocked_poll, &c);
    SYS(shutdown(p[1], SHUT_RDWR));
    t_join(t);
    EQ(c.rc, 1);
    CHECK(c.error & POLLIN);
}

// close() does not wake a reader in Linux: the call goes on, on the connection that it has, until the peer
// says something.
static void close_leaves_a_reader_to_its_call(void) {
    int p[2];
    t_pair(p);
    struct call c = {.fd = p[1]};
    pthread_t t = blocked(blocked_recv, &c);
    SYS(close(p[1]));
    t_sleep_ms(A_WHILE);
    PUT(p[0], 0, 30);
    t_join(t);
    EQ(c.rc, 30);
}

static void close_and_reuse_under_a_reader(void) {
    int p[2], q[2];
    t_pair(p);
    SYS(dup(0));
    struct call c = {.fd = p[1]};
    pthread_t t = blocked(blocked_recv, &c);
    SYS(close(p[1]));
    SYS(pipe(q)); // takes the number
    EQ(q[0], p[1]);
    PUT(p[0], 0, 30);
    t_join(t);
    EQ(c.rc, 30); // from the connection, not from the pipe
    EQ(write(q[1], "abc", 3), 3);
    char b[8];
    EQ(read(q[0], b, 8), 3);
}

static void on_signal(int sig) {
    (void)sig;
}

// How the JDK closes a socket under a blocked reader: shutdown, a dead socket laid over the number, a signal
// to the thread.
static void dup2_and_signal(bool with_shutdown) {
    struct sigaction sa = {.sa_handler = on_signal};
    int p[2], marker[2];
    t_pair(p);
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, marker));
    SYS(close(marker[1]));
    SYS(sigaction(SIGRTMIN + 5, &sa, NULL));
    struct call c = {.fd = p[1]};
    pthread_t t = blocked(blocked_recv, &c);
    if (with_shutdown)
        SYS(shutdown(p[1], SHUT_RDWR));
    EQ(dup2(marker[0], p[1]), p[1]);
    if (!with_shutdown)
        EQ(pthread_kill(t, SIGRTMIN + 5), 0);
    t_join(t);
    if (with_shutdown)
        EQ(c.rc, 0);
    else {
        EQ(c.rc, -1);
        EQ(c.error, EINTR);
    }
    END(p[0]);
    char b;
    EQ(recv(p[1], &b, 1, 0), 0); // the marker's own end
    SYS(close(p[1]));
}

static void jdk_close_by_signal(void) {
    dup2_and_signal(false);
}

static void jdk_close_by_shutdown(void) {
    dup2_and_signal(true);
}

static void jdk_close_of_an_acceptor(void) {
    struct sigaction sa = {.sa_handler = on_signal};
    int marker[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, marker));
    SYS(sigaction(SIGRTMIN + 5, &sa, NULL));
    struct call c = {.fd = t_listen(AF_INET)};
    struct t_addr a = t_local(c.fd);
    pthread_t t = blocked(blocked_accept, &c);
    EQ(dup2(marker[0], c.fd), c.fd);
    EQ(pthread_kill(t, SIGRTMIN + 5), 0);
    t_join(t);
    EQ(c.rc, -1);
    EQ(c.error, EINTR);
    int s = SYS(socket(AF_INET, SOCK_STREAM, 0));
    ERR(connect(s, &a.sa, a.len), ECONNREFUSED);
}

static void *cancelled_recv(void *arg) {
    char b;
    struct call *c = arg;
    c->inside = true;
    recv(c->fd, &b, 1, 0);
    return NULL;
}

static void *cancelled_wait(void *arg) {
    struct call *c = arg;
    struct epoll_event e = {.events = EPOLLIN};
    int ep = epoll_create1(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    c->inside = true;
    epoll_wait(ep, &e, 1, -1);
    return NULL;
}

static void *cancelled_poll(void *arg) {
    struct call *c = arg;
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    c->inside = true;
    poll(&p, 1, -1);
    return NULL;
}

static void *cancelled_accept(void *arg) {
    struct call *c = arg;
    c->inside = true;
    accept(c->fd, NULL, NULL);
    return NULL;
}

static void *cancelled_send(void *arg) {
    static char big[1 << 20];
    struct call *c = arg;
    c->inside = true;
    for (;;)
        if (send(c->fd, big, sizeof big, 0) < 0)
            return NULL;
}

static void cancelled(void *(*fn)(void *), int fd) {
    struct call c = {.fd = fd};
    pthread_t t = blocked(fn, &c);
    EQ(pthread_cancel(t), 0);
    CHECK(t_join(t) == PTHREAD_CANCELED);
}

static void cancellation_ends_the_wait_and_nothing_else(void) {
    int p[2];
    t_pair(p);
    cancelled(cancelled_recv, p[1]);
    cancelled(cancelled_poll, p[1]);
    cancelled(cancelled_wait, p[1]);
    // No lock was left held, no byte lost.
    for (int i = 0; i < 3; i++) {
        PUT(p[0], i * 1000, 1000);
        GET(p[1], i * 1000, 1000);
        PUT(p[1], i * 1000, 1000);
        GET(p[0], i * 1000, 1000);
    }
    cancelled(cancelled_accept, t_listen(AF_INET));
}

static void cancellation_of_a_writer(void) {
    char b[65536];
    ssize_t n;
    int p[2];
    t_pair(p);
    cancelled(cancelled_send, p[0]);
    SYS(shutdown(p[0], SHUT_WR));
    while ((n = SYS(recv(p[1], b, sizeof b, 0))) > 0)
        for (ssize_t i = 0; i < n; i++)
            EQ(b[i], 0);
    PUT(p[1], 0, 100);
    GET(p[0], 0, 100);
}

static void *not_cancelled(void *arg) {
    struct call *c = arg;
    char b[16];
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    c->inside = true;
    c->rc = recv(c->fd, b, sizeof b, 0);
    return NULL;
}

static void cancellation_switched_off(void) {
    int p[2];
    t_pair(p);
    struct call c = {.fd = p[1]};
    pthread_t t = blocked(not_cancelled, &c);
    EQ(pthread_cancel(t), 0);
    PUT(p[0], 0, 16);
    CHECK(t_join(t) == NULL);
    EQ(c.rc, 16);
}

struct three {
    int fd;
    ssize_t got;
    size_t sent;
};

static void *reads_to_the_end(void *arg) {
    struct three *c = arg;
    char b[3000];
    ssize_t n;
    while ((n = recv(c->fd, b, sizeof b, 0)) > 0) {
        SAME(b, c->got, n);
        c->got += n;
    }
    return NULL;
}

static void *writes_until_refused(void *arg) {
    struct three *c = arg;
    char b[5000];
    ssize_t n;
    do {
        t_fill(b, c->sent, sizeof b);
        n = send(c->fd, b, sizeof b, MSG_NOSIGNAL);
        c->sent += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    return NULL;
}

static void *echoes(void *arg) {
    int fd = *(int *)arg;
    char b[4000];
    ssize_t n;
    while ((n = recv(fd, b, sizeof b, 0)) > 0)
        if (send(fd, b, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    close(fd);
    return NULL;
}

// One thread reads, one writes, a third ends it under them: by shutdown, by close and shutdown, by something
// laid over the number. Nobody hangs, and nobody gets a wrong byte.
static void ended_under_a_reader_and_a_writer(void) {
    for (int round = 0; round < 60; round++) {
        int p[2];
        t_pair(p);
        struct three c = {.fd = p[1]};
        pthread_t echo = t_thread(echoes, &p[0]), reader = t_thread(reads_to_the_end, &c),
                  writer = t_thread(writes_until_refused, &c);
        t_sleep_ms(1 + round % 7);
        int also = SYS(dup(p[1]));
        if (round % 3 == 1) {
            SYS(close(p[1]));
        } else if (round % 3 == 2) {
            int dead = SYS(socket(AF_INET, SOCK_STREAM, 0));
            SYS(dup2(dead, p[1]));
            SYS(close(dead));
        }
        SYS(shutdown(also, SHUT_RDWR));
        t_join(reader);
        t_join(writer);
        SYS(close(also));
        t_join(echo);
        if (round % 3 != 1)
            SYS(close(p[1]));
    }
}

static void *connects_to_nobody(void *arg) {
    struct call *c = arg;
    struct t_addr a = t_loopback(AF_INET);
    socklen_t len = sizeof a.ss;
    getsockname(c->fd, &a.sa, &len);
    a.len = len;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    c->inside = true;
    for (;;)
        if (connect(s, &a.sa, a.len) != 0)
            return NULL; // the backlog is full: it waits in here
        else
            s = socket(AF_INET, SOCK_STREAM, 0);
}

static void *cancelled_select(void *arg) {
    struct call *c = arg;
    fd_set r;
    FD_ZERO(&r);
    FD_SET(c->fd, &r);
    c->inside = true;
    select(c->fd + 1, &r, NULL, NULL, NULL);
    return NULL;
}

// Cancelled before a byte has gone either way, and in a connect: the connection can still be used.
static void cancellation_at_the_start(void) {
    int p[2], l = SYS(socket(AF_INET, SOCK_STREAM, 0));
    struct t_addr a = t_loopback(AF_INET);
    t_pair_cold(AF_INET, p);
    cancelled(cancelled_recv, p[1]);
    cancelled(cancelled_poll, p[0]);
    cancelled(cancelled_select, p[1]);
    cancelled(cancelled_wait, p[0]);
    PUT(p[0], 0, 1000);
    GET(p[1], 0, 1000);
    PUT(p[1], 0, 1000);
    GET(p[0], 0, 1000);
    SYS(bind(l, &a.sa, a.len));
    SYS(listen(l, 0));
    cancelled(connects_to_nobody, l);
    PUT(p[0], 0, 1000);
    GET(p[1], 0, 1000);
}

static void *all_on_a_small_stack(void *arg) {
    int *fds = arg, l = t_listen(AF_INET);
    int c = t_dial(t_local(l)), s = SYS(accept(l, NULL, NULL));
    PUT(c, 0, 60000);
    GET(s, 0, 60000);
    PUT(s, 0, 60000);
    GET(c, 0, 60000);
    PUT(fds[0], 0, 60000);
    GET(fds[1], 0, 60000);
    CHECK(!t_wait(fds[1], POLLIN, 5));
    SYS(close(c));
    END(s);
    SYS(close(s));
    SYS(close(l));
    return NULL;
}

static void stack_of_128_kib(void) {
    pthread_attr_t attr;
    pthread_t t;
    int p[2];
    t_pair(p);
    EQ(pthread_attr_init(&attr), 0);
    EQ(pthread_attr_setstacksize(&attr, 128 * 1024), 0);
    for (int i = 0; i < 3; i++) {
        EQ(pthread_create(&t, &attr, all_on_a_small_stack, p), 0);
        t_join(t);
    }
}

static void *connect_and_talk(void *arg) {
    struct t_addr to = *(struct t_addr *)arg;
    for (int i = 0; i < 10; i++) {
        int c = t_dial(to);
        PUT(c, 0, 5000);
        GET(c, 0, 5000);
        SYS(close(c));
    }
    return NULL;
}

static void *accept_and_talk(void *arg) {
    int l = *(int *)arg;
    for (int i = 0; i < 10; i++) {
        int s = SYS(accept(l, NULL, NULL));
        GET(s, 0, 5000);
        PUT(s, 0, 5000);
        END(s);
        SYS(close(s));
    }
    return NULL;
}

static void many_threads_connect_and_accept(void) {
    enum { MANY = 8 };
    int l = t_listen(AF_INET);
    struct t_addr to = t_local(l);
    pthread_t t[2 * MANY];
    for (int i = 0; i < MANY; i++) {
        t[i] = t_thread(accept_and_talk, &l);
        t[MANY + i] = t_thread(connect_and_talk, &to);
    }
    for (int i = 0; i < 2 * MANY; i++)
        t_join(t[i]);
}

static void *first_bytes(void *arg) {
    int fd = *(int *)arg;
    PUT(fd, 0, 100);
    return NULL;
}

// The first use of a connection comes from two threads at once, on both ends.
static void first_use_by_two_threads(void) {
    for (int i = 0; i < 30; i++) {
        int p[2];
        t_pair_cold(AF_INET, p);
        pthread_t a = t_thread(first_bytes, &p[0]), b = t_thread(first_bytes, &p[1]);
        GET(p[0], 0, 100);
        GET(p[1], 0, 100);
        t_join(a);
        t_join(b);
        t_close_pair(p);
    }
}

static void *wait_shared(void *arg) {
    struct epoll_event e;
    return (void *)(intptr_t)epoll_wait(*(int *)arg, &e, 1, 400);
}

static void one_event_wakes_one_thread(void) {
    int p[2], ep = SYS(epoll_create1(0)), woken = 0;
    pthread_t t[4];
    t_pair(p);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET};
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
    for (int i = 0; i < 4; i++)
        t[i] = t_thread(wait_shared, &ep);
    t_sleep_ms(A_WHILE);
    PUT(p[0], 0, 100);
    for (int i = 0; i < 4; i++)
        woken += (int)(intptr_t)t_join(t[i]);
    EQ(woken, 1);
    GET(p[1], 0, 100);
}

static void *wait_forever(void *arg) {
    struct epoll_event e;
    return (void *)(intptr_t)epoll_wait(*(int *)arg, &e, 1, -1);
}

// What a write accepted is on its way, also when its writer never comes back and all other threads sleep.
static void accepted_bytes_leave_while_others_wait(void) {
    int p[2], other[2], ep = SYS(epoll_create1(0));
    static unsigned char b[100000];
    struct epoll_event e = {.events = EPOLLIN};
    struct timeval patience = {5, 0};
    t_pair(p);
    t_pair(other);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, other[1], &e));
    pthread_t t = t_thread(wait_forever, &ep);
    t_sleep_ms(600); // whatever served the beginning is gone by then
    t_nonblock(p[0], true);
    uint64_t sent = 0;
    for (ssize_t n = 1; n > 0; sent += n > 0 ? (uint64_t)n : 0) {
        t_fill(b, sent, sizeof b);
        n = send(p[0], b, sizeof b, 0);
    }
    EQ(errno, EAGAIN);
    pid_t reader = SYS(fork());
    if (reader == 0) { // by itself: a read here would carry the rest along
        SYS(setsockopt(p[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
        for (uint64_t got = 0; got < sent;) {
            ssize_t n = recv(p[1], b, sizeof b, 0);
            if (n <= 0)
                FAIL("%llu of %llu bytes came: %s", (unsigned long long)got, (unsigned long long)sent,
                     strerrorname_np(errno));
            SAME(b, got, n);
            got += (uint64_t)n;
        }
        _exit(0);
    }
    CHILD_END(reader);
    PUT(other[0], 0, 1);
    EQ((intptr_t)t_join(t), 1);
}

// A poller sleeps before there is any connection; what wakes it is what the program registered.
static void *poller(void *arg) {
    int ep = *(int *)arg, left = 3;
    while (left > 0) {
        struct epoll_event got[4];
        int n = epoll_wait(ep, got, 4, 20000);
        if (n < 0 && errno == EINTR)
            continue;
        CHECK(n > 0);
        for (int i = 0; i < n; i++) {
            EQ(got[i].data.u64 >> 32, 77);
            int fd = (int)(uint32_t)got[i].data.u64;
            char c[8];
            ssize_t r = recv(fd, c, sizeof c, MSG_DONTWAIT);
            CHECK(r > 0 || errno == EAGAIN);
            left -= r > 0 ? (int)r : 0;
        }
    }
    return NULL;
}

static void poller_that_slept_before_the_first_connection_sees_its_own_data(void) {
    int ep = SYS(epoll_create1(0));
    pthread_t t;
    EQ(pthread_create(&t, NULL, poller, &ep), 0);
    t_sleep_ms(100);
    int l = t_listen(AF_INET), c = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                             .data.u64 = UINT64_C(77) << 32 | (unsigned)c};
    struct sockaddr_storage to;
    socklen_t n = sizeof to;
    SYS(getsockname(l, (struct sockaddr *)&to, &n));
    CHECK(connect(c, (struct sockaddr *)&to, n) == 0 || errno == EINPROGRESS);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev));
    int a = SYS(accept(l, NULL, NULL));
    for (int i = 0; i < 3; i++) {
        EQ(write(a, "x", 1), 1);
        t_sleep_ms(20);
    }
    EQ(pthread_join(t, NULL), 0);
}

static void *full_of_held_bytes(void *arg) {
    enum { MANY = 64 * 1024 };
    static char bytes[MANY];
    int fd = *(int *)arg;
    t_nonblock(fd, true);
    for (size_t left = 6u << 20; left;) {
        ssize_t n = send(fd, bytes, left < MANY ? left : MANY, MSG_NOSIGNAL);
        CHECK(n > 0 || errno == EAGAIN);
        if (n > 0)
            left -= (size_t)n;
        else
            CHECK(t_wait(fd, POLLOUT, SOON));
    }
    SYS(close(fd));
    return NULL;
}

// The accepting thread brings both ends into being; the sender, asleep until there is room again, learns of
// it.
static void writer_learns_of_room_that_another_thread_made(void) {
    static char b[1 << 16];
    for (int i = 0; i < 40; i++) {
        int l = t_listen(AF_INET), c = t_dial(t_local(l));
        pthread_t t = t_thread(full_of_held_bytes, &c);
        if (i % 2)
            t_sleep_ms(i % 8);
        int a = SYS(accept(l, NULL, NULL));
        size_t in = 0;
        ssize_t n;
        while ((n = recv(a, b, sizeof b, 0)) > 0)
            in += (size_t)n;
        EQ(n, 0);
        EQ(in, 6u << 20);
        t_join(t);
        SYS(close(a));
        SYS(close(l));
    }
}

T_MAIN(T_CASE(writer_learns_of_room_that_another_thread_made),
       T_CASE(poller_that_slept_before_the_first_connection_sees_its_own_data),
       T_CASE(shutdown_wakes_a_reader), T_CASE(shutdown_wakes_an_acceptor), T_CASE(shutdown_wakes_a_poll),
       T_CASE(close_leaves_a_reader_to_its_call), T_CASE(close_and_reuse_under_a_reader),
       T_CASE(jdk_close_by_signal), T_CASE(jdk_close_by_shutdown), T_CASE(jdk_close_of_an_acceptor),
       T_CASE(cancellation_ends_the_wait_and_nothing_else), T_CASE(cancellation_of_a_writer),
       T_CASE(cancellation_switched_off), T_CASE(cancellation_at_the_start),
       T_CASE(ended_under_a_reader_and_a_writer), T_CASE(stack_of_128_kib),
       T_CASE(many_threads_connect_and_accept), T_CASE(first_use_by_two_threads),
       T_CASE(one_event_wakes_one_thread), T_CASE(accepted_bytes_leave_while_others_wait))
