// SPDX-License-Identifier: Apache-2.0
// connect() in all its forms: when it is told, what it is told, and what can be done with the socket next.
#include "t.h"

enum { SOON = 10000 };

static int tcp(int flags) {
    return SYS(socket(AF_INET, SOCK_STREAM | flags, 0));
}

static int error_of(int fd) {
    int e = -1;
    socklen_t len = sizeof e;
    SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len));
    return e;
}

// An address at which nobody listens.
static struct t_addr nobody(void) {
    int l = t_listen(AF_INET);
    struct t_addr a = t_local(l);
    SYS(close(l));
    return a;
}

// A listener whose queue is full: a SYN to it gets no answer.
static struct t_addr silent(void) {
    struct t_addr a = t_loopback(AF_INET);
    int l = tcp(0);
    SYS(bind(l, &a.sa, a.len));
    SYS(listen(l, 0));
    a = t_local(l);
    for (int i = 0; i < 3; i++) {
        int c = tcp(SOCK_NONBLOCK);
        if (connect(c, &a.sa, a.len) != 0)
            EQ(errno, EINPROGRESS);
        t_sleep_ms(20);
    }
    return a;
}

static void begin(int fd, const struct t_addr *a) {
    if (connect(fd, &a->sa, a->len) != 0)
        EQ(errno, EINPROGRESS);
}

static void exchange(int c, int s) {
    PUT(c, 0, 2000);
    GET(s, 0, 2000);
    PUT(s, 0, 2000);
    GET(c, 0, 2000);
}

static void not_blocking_by_poll(void) {
    int l = t_listen(AF_INET), c = tcp(SOCK_NONBLOCK);
    struct t_addr a = t_local(l);
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    CHECK(t_wait(c, POLLOUT, SOON));
    EQ(error_of(c), 0);
    exchange(c, SYS(accept(l, NULL, NULL)));
}

static void not_blocking_by_epoll_registered_after(void) {
    for (int flags = 0; flags < 3; flags++) {
        int l = t_listen(AF_INET), c = tcp(SOCK_NONBLOCK), ep = SYS(epoll_create1(0));
        struct t_addr a = t_local(l);
        struct epoll_event e = {.events = EPOLLOUT | (flags == 1   ? EPOLLET
                                                      : flags == 2 ? EPOLLONESHOT
                                                                   : 0u),
                                .data.fd = c};
        begin(c, &a);
        SYS(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
        EQ(epoll_wait(ep, &e, 1, SOON), 1);
        EQ(e.events, EPOLLOUT);
        EQ(e.data.fd, c);
        EQ(error_of(c), 0);
        if (flags)
            EQ(epoll_wait(ep, &e, 1, 20), 0); // told once
        exchange(c, SYS(accept(l, NULL, NULL)));
        SYS(close(ep));
    }
}

static void not_blocking_while_interested_in_reading_alone(void) {
    int l = t_listen(AF_INET), c = tcp(SOCK_NONBLOCK), ep = SYS(epoll_create1(0));
    struct t_addr a = t_local(l);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = c};
    begin(c, &a);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
    int s = SYS(accept(l, NULL, NULL));
    EQ(epoll_wait(ep, &e, 1, 50), 0);
    PUT(s, 0, 100);
    EQ(epoll_wait(ep, &e, 1, SOON), 1);
    EQ(e.events, EPOLLIN);
    GET(c, 0, 100);
    exchange(c, s);
}

static void second_call_while_under_way(void) {
    struct t_addr a = silent();
    int c = tcp(SOCK_NONBLOCK);
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    ERR(connect(c, &a.sa, a.len), EALREADY);
    ERR(connect(c, &a.sa, a.len), EALREADY);
    CHECK(!t_wait(c, POLLIN | POLLOUT, 50));
    EQ(error_of(c), 0);
    struct t_addr peer = {.len = sizeof peer.ss};
    ERR(getpeername(c, &peer.sa, &peer.len), ENOTCONN);
    SYS(close(c));
}

static void second_call_when_done(void) {
    int l = t_listen(AF_INET), c = tcp(SOCK_NONBLOCK);
    struct t_addr a = t_local(l);
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    CHECK(t_wait(c, POLLOUT, SOON));
    EQ(connect(c, &a.sa, a.len), 0); // the success, told once
    ERR(connect(c, &a.sa, a.len), EISCONN);
    exchange(c, SYS(accept(l, NULL, NULL)));
    ERR(connect(c, &a.sa, a.len), EISCONN);
    int b = t_dial(a);
    ERR(connect(b, &a.sa, a.len), EISCONN);
}

static void spinning_on_connect(void) {
    int l = t_listen(AF_INET), c = tcp(SOCK_NONBLOCK), rc;
    struct t_addr a = t_local(l);
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    long long limit = t_now_ms() + SOON;
    while ((rc = connect(c, &a.sa, a.len)) != 0 && errno == EALREADY && t_now_ms() < limit)
        ;
    CHECK(rc == 0 || errno == EISCONN);
    exchange(c, SYS(accept(l, NULL, NULL)));
}

static void refused(void) {
    struct t_addr a = nobody();
    int c = tcp(0);
    ERR(connect(c, &a.sa, a.len), ECONNREFUSED);
    EQ(error_of(c), 0);
    ERR(send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
}

static void refused_over_ipv6(void) {
    if (!t_has_ipv6())
        SKIP("no IPv6");
    int l = t_listen(AF_INET6), c = SYS(socket(AF_INET6, SOCK_STREAM, 0));
    struct t_addr a = t_local(l);
    SYS(close(l));
    ERR(connect(c, &a.sa, a.len), ECONNREFUSED);
}

static void refused_while_not_blocking(void) {
    struct t_addr a = nobody();
    int c = tcp(SOCK_NONBLOCK);
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    struct pollfd p = {.fd = c, .events = POLLIN | POLLOUT};
    EQ(poll(&p, 1, SOON), 1);
    EQ(p.revents, POLLIN | POLLOUT | POLLERR | POLLHUP);
    EQ(error_of(c), ECONNREFUSED);
    EQ(error_of(c), 0);
}

static void refused_told_by_the_second_call(void) {
    struct t_addr a = nobody();
    int c = tcp(SOCK_NONBLOCK);
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    CHECK(t_wait(c, POLLOUT, SOON));
    ERR(connect(c, &a.sa, a.len), ECONNREFUSED);
}

static void refused_told_by_recv(void) {
    struct t_addr a = nobody();
    int c = tcp(SOCK_NONBLOCK);
    char b;
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    CHECK(t_wait(c, POLLIN, SOON));
    ERR(recv(c, &b, 1, 0), ECONNREFUSED);
}

static void refused_then_tried_elsewhere(void) {
    struct t_addr a = nobody();
    int l = t_listen(AF_INET), c = tcp(0);
    ERR(connect(c, &a.sa, a.len), ECONNREFUSED);
    a = t_local(l);
    SYS(connect(c, &a.sa, a.len));
    exchange(c, SYS(accept(l, NULL, NULL)));
}

static void refused_as_epoll_tells_it(void) {
    struct t_addr a = nobody();
    int c = tcp(SOCK_NONBLOCK), ep = SYS(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLOUT | EPOLLET};
    begin(c, &a);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
    EQ(epoll_wait(ep, &e, 1, SOON), 1);
    EQ(e.events, EPOLLOUT | EPOLLERR | EPOLLHUP);
    EQ(error_of(c), ECONNREFUSED);
}

static void send_timeout_ends_a_blocking_call(void) {
    struct t_addr a = silent();
    struct timeval tv = {0, 150000};
    int c = tcp(0);
    SYS(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
    long long start = t_now_ms();
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    CHECK(t_now_ms() - start >= 140);
    ERR(connect(c, &a.sa, a.len), EALREADY);
}

static void before_there_is_a_connection(void) {
    struct t_addr a = {.len = sizeof a.ss};
    int c = tcp(SOCK_NONBLOCK);
    char b;
    ERR(getpeername(c, &a.sa, &a.len), ENOTCONN);
    ERR(recv(c, &b, 1, 0), ENOTCONN);
    ERR(send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
    a = silent();
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    ERR(recv(c, &b, 1, 0), EAGAIN);
    ERR(send(c, "x", 1, MSG_NOSIGNAL), EAGAIN);
}

static void names_of_both_ends(void) {
    for (int family = 0; family < (t_has_ipv6() ? 2 : 1); family++) {
        int l = t_listen(family ? AF_INET6 : AF_INET);
        struct t_addr to = t_local(l), peer = {.len = sizeof peer.ss}, from = {.len = sizeof from.ss};
        int c = t_dial(to), s = SYS(accept(l, &from.sa, &from.len));
        SYS(getpeername(c, &peer.sa, &peer.len));
        EQ(peer.len, to.len);
        EQ(memcmp(&peer.ss, &to.ss, to.len), 0);
        struct t_addr mine = t_local(c), theirs = t_local(s);
        EQ(mine.len, from.len);
        EQ(memcmp(&mine.ss, &from.ss, from.len), 0);
        EQ(memcmp(&theirs.ss, &to.ss, to.len), 0);
        peer.len = sizeof peer.ss;
        SYS(getpeername(s, &peer.sa, &peer.len));
        EQ(memcmp(&peer.ss, &mine.ss, mine.len), 0);
        // A short buffer gets what fits, and the whole length.
        char few[4];
        socklen_t len = sizeof few;
        SYS(getpeername(c, (struct sockaddr *)few, &len));
        EQ(len, to.len);
        exchange(c, s);
        SYS(shutdown(c, SHUT_WR));
        END(s);
        peer.len = sizeof peer.ss;
        SYS(getpeername(s, &peer.sa, &peer.len));
    }
}

static void own_address_is_kept(void) {
    int l = t_listen(AF_INET), c = tcp(0);
    struct t_addr to = t_local(l), own = t_loopback(AF_INET), from = {.len = sizeof from.ss};
    own.in.sin_addr.s_addr = htonl(0x7f000002);
    SYS(bind(c, &own.sa, own.len));
    own = t_local(c);
    SYS(connect(c, &to.sa, to.len));
    int s = SYS(accept(l, &from.sa, &from.len));
    EQ(memcmp(&own.in, &from.in, sizeof own.in), 0);
    exchange(c, s);
}

static void fast_open(void) {
    int l = t_listen(AF_INET), c = tcp(0), one = 5;
    struct t_addr a = t_local(l);
    char buf[500];
    SYS(setsockopt(l, IPPROTO_TCP, TCP_FASTOPEN, &one, sizeof one));
    t_fill(buf, 0, sizeof buf);
    ssize_t n = sendto(c, buf, sizeof buf, MSG_FASTOPEN, &a.sa, a.len);
    if (n < 0 && errno == EOPNOTSUPP)
        SKIP("no TCP fast open");
    EQ(n, sizeof buf);
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, sizeof buf);
    PUT(s, 0, 100);
    GET(c, 0, 100);
}

static void fast_open_not_blocking(void) {
    int l = t_listen(AF_INET), c = tcp(SOCK_NONBLOCK);
    struct t_addr a = t_local(l);
    ssize_t n = sendto(c, T_MARK, 16, MSG_FASTOPEN | MSG_NOSIGNAL, &a.sa, a.len);
    if (n < 0 && errno == EOPNOTSUPP)
        SKIP("no TCP fast open");
    CHECK(n == 16 || (n == -1 && errno == EINPROGRESS));
    CHECK(t_wait(c, POLLOUT, SOON));
    EQ(error_of(c), 0);
    if (n < 0)
        EQ(send(c, T_MARK, 16, 0), 16);
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, 16);
}

static void fast_open_by_sendmsg(void) {
    int l = t_listen(AF_INET), c = tcp(0);
    struct t_addr a = t_local(l);
    struct iovec iov = {T_MARK, 16};
    struct msghdr m = {.msg_name = &a.sa, .msg_namelen = a.len, .msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = sendmsg(c, &m, MSG_FASTOPEN);
    if (n < 0 && errno == EOPNOTSUPP)
        SKIP("no TCP fast open");
    EQ(n, 16);
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, 16);
    exchange(c, s);
}

static void fast_open_connect(void) {
    int l = t_listen(AF_INET), c = tcp(0), on = 1;
    struct t_addr a = t_local(l);
    if (setsockopt(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on) != 0)
        SKIP("no TCP_FASTOPEN_CONNECT");
    SYS(connect(c, &a.sa, a.len));
    PUT(c, 0, 1000);
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, 1000);
    exchange(c, s);
}

static void address_given_to_send(void) {
    int l = t_listen(AF_INET), c = tcp(0);
    struct t_addr a = t_local(l);
    ERR(sendto(c, "x", 1, MSG_NOSIGNAL, &a.sa, a.len), EPIPE); // not connected: no implied connect
    SYS(connect(c, &a.sa, a.len));
    int s = SYS(accept(l, NULL, NULL));
    EQ(sendto(c, T_MARK, 16, 0, &a.sa, a.len), 16); // connected: ignored
    GET(s, 0, 16);
}

static void dissolved_by_unspec(void) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct t_addr peer = {.len = sizeof peer.ss};
    int l = t_listen(AF_INET), p[2];
    char b;
    t_pair(p);
    SYS(connect(p[0], &none, sizeof none));
    ERR(getpeername(p[0], &peer.sa, &peer.len), ENOTCONN);
    CHECK(t_wait(p[1], POLLIN, SOON));
    ERR(recv(p[1], &b, 1, 0), ECONNRESET);
    EQ(error_of(p[0]), ECONNRESET); // so Linux tells the end that did it
    ERR(recv(p[0], &b, 1, 0), ENOTCONN);
    struct t_addr a = t_local(l);
    SYS(connect(p[0], &a.sa, a.len));
    int s = SYS(accept(l, NULL, NULL));
    exchange(p[0], s);
}

static void dissolved_while_under_way(void) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct t_addr a = silent();
    int l = t_listen(AF_INET), c = tcp(SOCK_NONBLOCK);
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    SYS(connect(c, &none, sizeof none));
    a = t_local(l);
    ERR(connect(c, &a.sa, a.len), EINPROGRESS);
    CHECK(t_wait(c, POLLOUT, SOON));
    exchange(c, SYS(accept(l, NULL, NULL)));
}

static void datagrams_are_left_alone(void) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct t_addr a = t_loopback(AF_INET);
    int s = SYS(socket(AF_INET, SOCK_DGRAM, 0)), c = SYS(socket(AF_INET, SOCK_DGRAM, 0));
    char b[32];
    SYS(bind(s, &a.sa, a.len));
    a = t_local(s);
    SYS(connect(c, &a.sa, a.len));
    EQ(send(c, "datagram", 8, 0), 8);
    EQ(recv(s, b, sizeof b, 0), 8);
    SYS(connect(c, &none, sizeof none));
    ERR(send(c, "datagram", 8, 0), EDESTADDRREQ);
    EQ(sendto(c, "datagram", 8, 0, &a.sa, a.len), 8);
    EQ(recv(s, b, sizeof b, 0), 8);
}

static void wrong_calls(void) {
    int l = t_listen(AF_INET), c = tcp(0), p[2];
    struct t_addr a = t_local(l), six = t_loopback(AF_INET6);
    ERR(connect(-1, &a.sa, a.len), EBADF);
    ERR(connect(c, &a.sa, 3), EINVAL);
    ERR(connect(c, &six.sa, six.len), EAFNOSUPPORT);
    ERR(connect(l, &a.sa, a.len), EISCONN);
    SYS(pipe(p));
    ERR(connect(p[0], &a.sa, a.len), ENOTSOCK);
    SYS(connect(c, &a.sa, a.len));
    exchange(c, SYS(accept(l, NULL, NULL)));
}

static void many_under_way_at_once(void) {
    enum { MANY = 50 };
    int l = t_listen(AF_INET), c[MANY], s[MANY];
    struct t_addr a = t_local(l);
    for (int i = 0; i < MANY; i++)
        begin(c[i] = tcp(SOCK_NONBLOCK), &a);
    for (int i = 0; i < MANY; i++)
        s[i] = SYS(accept(l, NULL, NULL));
    for (int i = 0; i < MANY; i++) {
        CHECK(t_wait(c[i], POLLOUT, SOON));
        EQ(error_of(c[i]), 0);
    }
    for (int i = 0; i < MANY; i++) {
        // Which of the accepted ones is it? The one whose peer is our own name.
        struct t_addr own = t_local(c[i]);
        for (int k = 0; k < MANY; k++) {
            struct t_addr peer = {.len = sizeof peer.ss};
            SYS(getpeername(s[k], &peer.sa, &peer.len));
            if (peer.in.sin_port == own.in.sin_port)
                exchange(c[i], s[k]);
        }
    }
}

// The first bytes of each side leave at once, whoever speaks first: nothing of ours is in Nagle's way.
static void first_bytes_are_not_held_back(void) {
    enum { TIMES = 20 };
    for (int server_first = 0; server_first < 2; server_first++) {
        int l = t_listen(AF_INET);
        pid_t server = SYS(fork());
        if (server == 0) {
            for (int i = 0; i < TIMES; i++) {
                int s = SYS(accept(l, NULL, NULL));
                if (server_first)
                    PUT(s, 0, 10);
                GET(s, 0, 10);
                PUT(s, 0, 10);
                END(s);
                SYS(close(s));
            }
            _exit(0);
        }
        long long began = t_now_ms();
        for (int i = 0; i < TIMES; i++) {
            int c = t_dial(t_local(l));
            if (server_first)
                GET(c, 0, 10);
            PUT(c, 0, 10);
            GET(c, 0, 10);
            SYS(close(c));
        }
        CHECK(t_now_ms() - began < 20 * TIMES * t_slow());
        CHILD_END(server);
        SYS(close(l));
    }
}

T_MAIN(T_CASE(not_blocking_by_poll), T_CASE(not_blocking_by_epoll_registered_after),
       T_CASE(not_blocking_while_interested_in_reading_alone), T_CASE(second_call_while_under_way),
       T_CASE(second_call_when_done), T_CASE(spinning_on_connect), T_CASE(refused), T_CASE(refused_over_ipv6),
       T_CASE(refused_while_not_blocking), T_CASE(refused_told_by_the_second_call),
       T_CASE(refused_told_by_recv), T_CASE(refused_then_tried_elsewhere), T_CASE(refused_as_epoll_tells_it),
       T_CASE(send_timeout_ends_a_blocking_call), T_CASE(before_there_is_a_connection),
       T_CASE(names_of_both_ends), T_CASE(own_address_is_kept), T_CASE(fast_open),
       T_CASE(fast_open_not_blocking), T_CASE(fast_open_by_sendmsg), T_CASE(fast_open_connect),
       T_CASE(address_given_to_send), T_CASE(dissolved_by_unspec), T_CASE(dissolved_while_under_way),
       T_CASE(datagrams_are_left_alone), T_CASE(wrong_calls), T_CASE(many_under_way_at_once),
       T_CASE(first_bytes_are_not_held_back))
