// SPDX-License-Identifier: Apache-2.0
// Plain echo in every arrangement of the two ends: threads, processes, one thread alone, blocking or not,
// either first.
#include "t.h"

enum { ROUNDS = 20, PIECE = 3000 };

static void talk(int a, int b) {
    for (int i = 0; i < ROUNDS; i++) {
        PUT(a, i * PIECE, PIECE);
        GET(b, i * PIECE, PIECE);
        PUT(b, i * PIECE, PIECE);
        GET(a, i * PIECE, PIECE);
    }
}

static void echo_until_end(int fd) {
    char buf[8192];
    ssize_t n;
    while ((n = SYS(read(fd, buf, sizeof buf))) > 0)
        for (ssize_t done = 0; done < n;)
            done += SYS(write(fd, buf + done, (size_t)(n - done)));
    SYS(close(fd));
}

static void *accept_and_echo(void *arg) {
    int l = *(int *)arg;
    echo_until_end(SYS(accept(l, NULL, NULL)));
    return NULL;
}

static void converse(int fd) {
    for (int i = 0; i < ROUNDS; i++) {
        PUT(fd, i * PIECE, PIECE);
        GET(fd, i * PIECE, PIECE);
    }
    SYS(shutdown(fd, SHUT_WR));
    END(fd);
    SYS(close(fd));
}

static void over(int family) {
    int l = t_listen(family);
    pthread_t t = t_thread(accept_and_echo, &l);
    converse(t_dial(t_local(l)));
    t_join(t);
    close(l);
}

static void two_threads(void) {
    over(AF_INET);
}

static void two_threads_over_ipv6(void) {
    if (!t_has_ipv6())
        SKIP("no IPv6");
    over(AF_INET6);
}

static void serve_in_child(void *arg) {
    echo_until_end(SYS(accept(*(int *)arg, NULL, NULL)));
}

static void two_processes(void) {
    int l = t_listen(AF_INET);
    pid_t pid = t_child(serve_in_child, &l);
    converse(t_dial(t_local(l)));
    CHILD_END(pid);
}

static void one_thread_connects_then_accepts(void) {
    int p[2];
    t_pair_cold(AF_INET, p);
    talk(p[0], p[1]);
    t_close_pair(p);
}

static void one_thread_server_speaks_first(void) {
    int p[2];
    t_pair_cold(AF_INET, p);
    talk(p[1], p[0]);
    t_close_pair(p);
}

static void one_thread_writes_before_accept(void) {
    int l = t_listen(AF_INET), c = t_dial(t_local(l));
    PUT(c, 0, 10000);
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, 10000);
    talk(s, c);
}

static void one_thread_writes_and_closes_before_accept(void) {
    int l = t_listen(AF_INET), c = t_dial(t_local(l));
    PUT(c, 0, 10000);
    SYS(close(c));
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, 10000);
    END(s);
}

static void one_thread_writes_and_shuts_before_accept(void) {
    int l = t_listen(AF_INET), c = t_dial(t_local(l));
    PUT(c, 0, 10000);
    SYS(shutdown(c, SHUT_WR));
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, 10000);
    END(s);
    PUT(s, 0, 500);
    SYS(close(s));
    GET(c, 0, 500);
    END(c);
}

static void one_thread_not_blocking(void) {
    struct t_addr a;
    int l = t_listen(AF_INET), c = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), e = -1;
    socklen_t len = sizeof e;
    a = t_local(l);
    t_nonblock(l, true);
    if (connect(c, &a.sa, a.len) != 0)
        EQ(errno, EINPROGRESS);
    CHECK(t_wait(l, POLLIN, 10000));
    int s = SYS(accept4(l, NULL, NULL, SOCK_NONBLOCK));
    CHECK(t_wait(c, POLLOUT, 10000));
    SYS(getsockopt(c, SOL_SOCKET, SO_ERROR, &e, &len));
    EQ(e, 0);
    ERR(recv(s, &a, 1, 0), EAGAIN);
    ERR(recv(c, &a, 1, 0), EAGAIN);
    talk(c, s);
    talk(s, c);
    SYS(close(c));
    END(s);
}

static void many_connections_one_after_another(void) {
    int l = t_listen(AF_INET);
    for (int i = 0; i < 100; i++) {
        int c = t_dial(t_local(l)), s = SYS(accept(l, NULL, NULL));
        PUT(c, i, 100);
        GET(s, i, 100);
        SYS(close(i & 1 ? c : s));
        END(i & 1 ? s : c);
        SYS(close(i & 1 ? s : c));
    }
}

static void many_connections_at_once(void) {
    enum { MANY = 100 };
    int l = t_listen(AF_INET), c[MANY], s[MANY];
    for (int i = 0; i < MANY; i++) {
        c[i] = t_dial(t_local(l));
        s[i] = SYS(accept(l, NULL, NULL));
    }
    for (int i = 0; i < MANY; i++)
        PUT(c[i], i * 64, 1000);
    for (int i = MANY; i-- > 0;) {
        GET(s[i], i * 64, 1000);
        PUT(s[i], i * 32, 1000);
    }
    for (int i = 0; i < MANY; i++) {
        GET(c[i], i * 32, 1000);
        SYS(close(s[i]));
        END(c[i]);
        SYS(close(c[i]));
    }
}

static void ipv4_mapped_client(void) {
    int l = t_listen(AF_INET);
    struct t_addr v4 = t_local(l), a = {.len = sizeof a.in6};
    if (!t_has_ipv6())
        SKIP("no IPv6");
    memset(&a.in6, 0, sizeof a.in6);
    a.in6.sin6_family = AF_INET6;
    a.in6.sin6_port = v4.in.sin_port;
    SYS(inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.in6.sin6_addr));
    int c = t_dial(a), s = SYS(accept(l, NULL, NULL));
    talk(c, s);
    struct t_addr peer = {.len = sizeof peer.ss};
    SYS(getpeername(c, &peer.sa, &peer.len));
    EQ(peer.sa.sa_family, AF_INET6);
    CHECK(IN6_IS_ADDR_V4MAPPED(&peer.in6.sin6_addr));
}

static void dual_stack_listener(void) {
    struct t_addr any = {.len = sizeof any.in6}, to = t_loopback(AF_INET);
    int l, no = 0;
    if (!t_has_ipv6())
        SKIP("no IPv6");
    memset(&any.in6, 0, sizeof any.in6);
    any.in6.sin6_family = AF_INET6;
    l = SYS(socket(AF_INET6, SOCK_STREAM, 0));
    SYS(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no));
    SYS(bind(l, &any.sa, any.len));
    SYS(listen(l, 5));
    to.in.sin_port = t_local(l).in6.sin6_port;
    int c = t_dial(to), s = SYS(accept(l, NULL, NULL));
    talk(c, s);
    struct t_addr v6 = t_loopback(AF_INET6);
    v6.in6.sin6_port = to.in.sin_port;
    c = t_dial(v6), s = SYS(accept(l, NULL, NULL));
    talk(s, c);
}

T_MAIN(T_CASE(two_threads), T_CASE(two_threads_over_ipv6), T_CASE(two_processes),
       T_CASE(one_thread_connects_then_accepts), T_CASE(one_thread_server_speaks_first),
       T_CASE(one_thread_writes_before_accept), T_CASE(one_thread_writes_and_closes_before_accept),
       T_CASE(one_thread_writes_and_shuts_before_accept), T_CASE(one_thread_not_blocking),
       T_CASE(many_connections_one_after_another), T_CASE(many_connections_at_once),
       T_CASE(ipv4_mapped_client), T_CASE(dual_stack_listener))
