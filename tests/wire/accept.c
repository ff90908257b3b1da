// SPDX-License-Identifier: Apache-2.0
// accept(): flags, addresses, and that no caller can hold up the loop.
#include "raw.h"

enum { SOON = 10000 };

static int flags_of(int fd) {
    return SYS(fcntl(fd, F_GETFL)) & O_NONBLOCK;
}

static void exchange(int c, int s) {
    PUT(c, 0, 2000);
    GET(s, 0, 2000);
    PUT(s, 0, 2000);
    GET(c, 0, 2000);
}

static void flags_are_those_asked_for(void) {
    int l = t_listen(AF_INET), a = t_dial(t_local(l)), b = t_dial(t_local(l)), c = t_dial(t_local(l));
    t_nonblock(l, true);
    int s = SYS(accept(l, NULL, NULL));
    EQ(flags_of(s), 0); // not inherited
    EQ(fcntl(s, F_GETFD), 0);
    exchange(a, s);
    s = SYS(accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    EQ(flags_of(s), O_NONBLOCK);
    EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
    exchange(b, s);
    s = SYS(accept4(l, NULL, NULL, 0));
    EQ(flags_of(s), 0);
    exchange(c, s);
    ERR(accept4(l, NULL, NULL, 0x40000000), EINVAL);
}

static void nobody_there(void) {
    int l = t_listen(AF_INET);
    t_nonblock(l, true);
    ERR(accept(l, NULL, NULL), EAGAIN);
    CHECK(!t_wait(l, POLLIN, 30));
    int c = t_dial(t_local(l));
    CHECK(t_wait(l, POLLIN, SOON));
    exchange(c, SYS(accept(l, NULL, NULL)));
    ERR(accept4(l, NULL, NULL, SOCK_NONBLOCK), EAGAIN);
}

static void receive_timeout_ends_it(void) {
    int l = t_listen(AF_INET);
    struct timeval tv = {0, 80000};
    SYS(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    long long start = t_now_ms();
    ERR(accept(l, NULL, NULL), EAGAIN);
    CHECK(t_now_ms() - start >= 70);
}

static void address_is_the_callers(void) {
    int l = t_listen(AF_INET), c = t_dial(t_local(l));
    struct t_addr own = t_local(c), from = {.len = sizeof from.ss};
    int s = SYS(accept(l, &from.sa, &from.len));
    EQ(from.len, sizeof from.in);
    EQ(memcmp(&own.in, &from.in, sizeof own.in), 0);
    // A short buffer: cut, and the true length told.
    c = t_dial(t_local(l));
    char few[4];
    socklen_t len = sizeof few;
    s = SYS(accept(l, (struct sockaddr *)few, &len));
    EQ(len, sizeof from.in);
    exchange(c, s);
}

static void wrong_calls(void) {
    int p[2], s = SYS(socket(AF_INET, SOCK_STREAM, 0)), d = SYS(socket(AF_INET, SOCK_DGRAM, 0));
    t_pair(p);
    ERR(accept(s, NULL, NULL), EINVAL);
    ERR(accept(p[0], NULL, NULL), EINVAL);
    ERR(accept(d, NULL, NULL), EOPNOTSUPP);
    ERR(accept(-1, NULL, NULL), EBADF);
    ERR(accept(0, NULL, NULL), ENOTSOCK);
    PUT(p[0], 0, 10);
    GET(p[1], 0, 10);
}

static void reset_before_it_was_accepted(void) {
    struct linger now = {1, 0};
    int l = t_listen(AF_INET), c = t_dial(t_local(l));
    char b;
    SYS(setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    SYS(close(c));
    int s = SYS(accept(l, NULL, NULL));
    ERR(recv(s, &b, 1, 0), ECONNRESET);
}

static void in_the_order_of_arrival(void) {
    enum { MANY = 20 };
    int l = t_listen(AF_INET), c[MANY];
    for (int i = 0; i < MANY; i++)
        c[i] = t_dial(t_local(l));
    for (int i = 0; i < MANY; i++) {
        struct t_addr own = t_local(c[i]), from = {.len = sizeof from.ss};
        int s = SYS(accept(l, &from.sa, &from.len));
        EQ(own.in.sin_port, from.in.sin_port);
        PUT(s, i, 100); // and the server speaks first
        GET(c[i], i, 100);
        SYS(close(s));
        END(c[i]);
    }
}

static int silent_caller(struct t_addr to) {
    long fd = raw(SYS_socket, AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        SKIP("no raw system calls here");
    EQ(raw(SYS_connect, fd, (long)&to.sa, to.len), 0);
    return (int)fd;
}

static void *talk_to_server(void *arg) {
    struct t_addr to = *(struct t_addr *)arg;
    for (int i = 0; i < 5; i++) {
        int c = t_dial(to);
        PUT(c, 0, 3000);
        GET(c, 0, 3000);
        SYS(close(c));
    }
    return NULL;
}

// An event loop in one thread; some callers never say a word.
static void silent_callers_do_not_hold_up_a_loop(void) {
    int l = t_listen(AF_INET), ep = SYS(epoll_create1(0)), done = 0;
    struct t_addr to = t_local(l);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = l};
    t_nonblock(l, true);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, l, &e));
    for (int i = 0; i < 4; i++)
        silent_caller(to);
    pthread_t t = t_thread(talk_to_server, &to);
    for (uint64_t off[1024] = {0}; done < 5;) {
        EQ(SYS(epoll_wait(ep, &e, 1, SOON)), 1);
        if (e.data.fd == l) {
            int s = accept4(l, NULL, NULL, SOCK_NONBLOCK);
            if (s < 0) {
                EQ(errno, EAGAIN);
                continue;
            }
            e = (struct epoll_event){.events = EPOLLIN, .data.fd = s};
            SYS(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
            CHECK(s < 1024);
            off[s] = 0;
            continue;
        }
        int s = e.data.fd;
        char buf[4096];
        ssize_t n = recv(s, buf, sizeof buf, 0);
        if (n < 0) {
            EQ(errno, EAGAIN);
        } else if (n == 0) {
            SYS(close(s));
            done++;
        } else {
            SAME(buf, off[s], n);
            PUT(s, off[s], n);
            off[s] += (uint64_t)n;
        }
    }
    t_join(t);
}

static void silent_callers_do_not_hold_up_accept(void) {
    int l = t_listen(AF_INET), s[8];
    struct t_addr to = t_local(l);
    for (int i = 0; i < 4; i++)
        silent_caller(to);
    pthread_t t = t_thread(talk_to_server, &to);
    for (int i = 0; i < 4; i++)
        s[i] = SYS(accept(l, NULL, NULL)); // each returns at once, and nobody reads from these
    for (int i = 0; i < 5; i++) {
        s[4] = SYS(accept(l, NULL, NULL));
        GET(s[4], 0, 3000);
        PUT(s[4], 0, 3000);
        END(s[4]);
        SYS(close(s[4]));
    }
    t_join(t);
}

static void silent_caller_times_out_a_read(void) {
    int l = t_listen(AF_INET);
    struct timeval tv = {0, 80000};
    char b;
    silent_caller(t_local(l));
    int s = SYS(accept(l, NULL, NULL));
    SYS(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    ERR(recv(s, &b, 1, 0), EAGAIN);
    t_nonblock(s, true);
    ERR(recv(s, &b, 1, 0), EAGAIN);
    CHECK(!t_wait(s, POLLIN, 30));
    SYS(close(s));
}

static double cpu_seconds(void) {
    struct timespec ts;
    SYS(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts));
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

// However long nothing is said: it costs nothing, and it is not too late for the one who then speaks.
static void silence_of_eleven_seconds(void) {
    int l = t_listen(AF_INET), ep = SYS(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN};
    silent_caller(t_local(l));
    int silent = SYS(accept(l, NULL, NULL)), late[2];
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, silent, &e));
    late[0] = t_dial(t_local(l));
    late[1] = SYS(accept(l, NULL, NULL));
    PUT(late[0], 0, 100); // nobody looks at it yet
    t_sleep_ms(10500);
    double before = cpu_seconds();
    EQ(SYS(epoll_wait(ep, &e, 1, 500)), 0);
    CHECK(cpu_seconds() - before < 0.2);
    GET(late[1], 0, 100);
    PUT(late[1], 0, 100);
    GET(late[0], 0, 100);
}

static void probe_that_connects_and_closes(void) {
    int l = t_listen(AF_INET);
    struct t_addr to = t_local(l);
    char b;
    for (int i = 0; i < 5; i++) {
        int c = silent_caller(to);
        EQ(raw(SYS_close, c, 0, 0), 0);
        int s = SYS(accept(l, NULL, NULL));
        EQ(recv(s, &b, 1, 0), 0);
        SYS(close(s));
    }
    int c = t_dial(to);
    exchange(c, SYS(accept(l, NULL, NULL)));
}

static void plaintext_caller_in_strict(void) {
    int l = t_listen(AF_INET);
    int c = silent_caller(t_local(l));
    char buf[64];
    ssize_t n;
    EQ(raw(SYS_write, c, (long)"GET / HTTP/1.0\r\n\r\n", 18), 18);
    int s = SYS(accept(l, NULL, NULL));
    if (!t_mtls()) {
        EQ(recv(s, buf, sizeof buf, 0), 18);
        return;
    }
    // Nothing of it reaches the program.
    while ((n = recv(s, buf, sizeof buf, 0)) < 0 && errno == EINTR)
        ;
    CHECK(n <= 0);
    if (n < 0)
        EQ(errno, ECONNRESET);
}

static void inherited_listener_in_a_child(void) {
    int l = t_listen(AF_INET);
    for (int i = 0; i < 3; i++) {
        pid_t pid = SYS(fork());
        if (pid == 0) {
            int s = SYS(accept(l, NULL, NULL));
            GET(s, 0, 2000);
            PUT(s, 0, 2000);
            GET(s, 2000, 100);
            _exit(0);
        }
        int c = t_dial(t_local(l));
        PUT(c, 0, 2000);
        GET(c, 0, 2000);
        PUT(c, 2000, 100);
        END(c);
        CHILD_END(pid);
    }
}

static void listener_accepts_after_dup(void) {
    int l = t_listen(AF_INET), d = SYS(dup(l)), c;
    struct t_addr to = t_local(l);
    SYS(close(l));
    c = t_dial(to);
    exchange(c, SYS(accept(d, NULL, NULL)));
    CHECK(dup2(d, 100) == 100);
    SYS(close(d));
    c = t_dial(to);
    exchange(c, SYS(accept(100, NULL, NULL)));
}

static void listen_again_and_unbound(void) {
    int l = SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(listen(l, 5)); // the kernel binds it to any address and a free port
    SYS(listen(l, 10));
    struct t_addr any = t_local(l), to = t_loopback(AF_INET);
    CHECK(any.in.sin_port != 0);
    to.in.sin_port = any.in.sin_port;
    int c = t_dial(to);
    exchange(c, SYS(accept(l, NULL, NULL)));
}

T_MAIN(T_CASE(flags_are_those_asked_for), T_CASE(nobody_there), T_CASE(receive_timeout_ends_it),
       T_CASE(address_is_the_callers), T_CASE(wrong_calls), T_CASE(reset_before_it_was_accepted),
       T_CASE(in_the_order_of_arrival), T_CASE(silent_callers_do_not_hold_up_a_loop),
       T_CASE(silent_callers_do_not_hold_up_accept), T_CASE(silent_caller_times_out_a_read),
       T_CASE(silence_of_eleven_seconds), T_CASE(probe_that_connects_and_closes),
       T_CASE(plaintext_caller_in_strict), T_CASE(inherited_listener_in_a_child),
       T_CASE(listener_accepts_after_dup), T_CASE(listen_again_and_unbound))
