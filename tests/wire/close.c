// SPDX-License-Identifier: Apache-2.0
// How connections end: half-close, end of stream, linger, reset, exit and kill.
#include "t.h"

static char big[300000];

static void half_close_then_reply(void) {
    int p[2];
    t_pair(p);
    for (int end = 0; end < 2; end++) {
        t_pair(p);
        PUT(p[end], 0, 5000);
        SYS(shutdown(p[end], SHUT_WR));
        GET(p[!end], 0, 5000);
        END(p[!end]);
        PUT(p[!end], 0, 50000);
        GET(p[end], 0, 50000);
        SYS(close(p[!end]));
        END(p[end]);
    }
}

static void half_close_as_the_first_thing(void) {
    int p[2];
    t_pair_cold(AF_INET, p);
    SYS(shutdown(p[0], SHUT_WR));
    END(p[1]);
    PUT(p[1], 0, 5000);
    GET(p[0], 0, 5000);
    SYS(close(p[1]));
    END(p[0]);
}

static void both_half_close(void) {
    int p[2];
    t_pair(p);
    SYS(shutdown(p[0], SHUT_WR));
    SYS(shutdown(p[1], SHUT_WR));
    END(p[0]);
    END(p[1]);
    ERR(send(p[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    ERR(send(p[1], "x", 1, MSG_NOSIGNAL), EPIPE);
}

static void end_of_stream_stays(void) {
    int p[2];
    t_pair(p);
    SYS(close(p[0]));
    for (int i = 0; i < 5; i++) {
        CHECK(t_wait(p[1], POLLIN, 10000));
        CHECK(t_wait(p[1], POLLRDHUP, 10000));
        END(p[1]);
    }
}

static void end_is_seen_after_all_data(void) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 40000);
    SYS(close(p[0]));
    CHECK(t_wait(p[1], POLLRDHUP, 10000));
    GET(p[1], 0, 40000);
    END(p[1]);
}

static void read_shutdown_ends_reading_alone(void) {
    int p[2];
    t_pair(p);
    SYS(shutdown(p[1], SHUT_RD));
    EQ(recv(p[1], big, 1, 0), 0);
    EQ(recv(p[1], big, 1, MSG_DONTWAIT), 0);
    CHECK(t_wait(p[1], POLLIN, 10000));
    PUT(p[1], 0, 3000);
    GET(p[0], 0, 3000);
}

// What had come before is still there to be read.
static void read_shutdown_leaves_what_has_come(void) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 50000);
    t_sleep_ms(100);
    GET(p[1], 0, 10);
    SYS(shutdown(p[1], SHUT_RD));
    GET(p[1], 10, 16374);
    GET(p[1], 16384, 33616);
    END(p[1]);
}

static void shutdown_of_both_ways(void) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 100);
    SYS(shutdown(p[0], SHUT_RDWR));
    EQ(recv(p[0], big, 1, 0), 0);
    ERR(send(p[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    GET(p[1], 0, 100);
    END(p[1]);
}

static void shutdown_says_what_is_wrong(void) {
    int p[2], s = SYS(socket(AF_INET, SOCK_STREAM, 0));
    ERR(shutdown(s, SHUT_WR), ENOTCONN);
    ERR(shutdown(-1, SHUT_WR), EBADF);
    ERR(shutdown(0, SHUT_WR), ENOTSOCK);
    t_pair(p);
    ERR(shutdown(p[0], 7), EINVAL);
    SYS(shutdown(p[0], SHUT_WR));
    SYS(shutdown(p[0], SHUT_WR));
    PUT(p[1], 0, 10);
    GET(p[0], 0, 10);
}

static void linger_of_zero_resets(void) {
    struct linger now = {1, 0}, is;
    socklen_t len = sizeof is;
    for (int end = 0; end < 2; end++) {
        int p[2];
        t_pair(p);
        SYS(setsockopt(p[end], SOL_SOCKET, SO_LINGER, &now, sizeof now));
        SYS(getsockopt(p[end], SOL_SOCKET, SO_LINGER, &is, &len));
        EQ(is.l_onoff, 1);
        EQ(is.l_linger, 0);
        SYS(close(p[end]));
        CHECK(t_wait(p[!end], POLLIN, 10000));
        ERR(recv(p[!end], big, 1, 0), ECONNRESET);
        EQ(recv(p[!end], big, 1, 0), 0);
        ERR(send(p[!end], big, 1, MSG_NOSIGNAL), EPIPE);
    }
}

static void linger_of_some_time_delivers(void) {
    struct linger some = {1, 5};
    int p[2];
    t_pair(p);
    SYS(setsockopt(p[0], SOL_SOCKET, SO_LINGER, &some, sizeof some));
    PUT(p[0], 0, 50000);
    SYS(close(p[0]));
    GET(p[1], 0, 50000);
    END(p[1]);
}

// Fills the connection to the brim; returns how much that was.
static uint64_t fill_up(int fd) {
    uint64_t sent = 0;
    for (int idle = 0; idle < 5;) {
        t_fill(big, sent, sizeof big);
        ssize_t n = send(fd, big, sizeof big, MSG_DONTWAIT);
        if (n > 0) {
            sent += (uint64_t)n;
            idle = 0;
            continue;
        }
        EQ(errno, EAGAIN);
        idle++;
        t_sleep_ms(2);
    }
    return sent;
}

static void close_with_unsent_data_delivers_all(void) {
    int p[2];
    t_pair(p);
    uint64_t sent = fill_up(p[0]);
    SYS(close(p[0]));
    GET(p[1], 0, sent);
    END(p[1]);
}

static void shutdown_with_unsent_data_delivers_all(void) {
    int p[2];
    t_pair(p);
    uint64_t sent = fill_up(p[0]);
    SYS(shutdown(p[0], SHUT_WR));
    GET(p[1], 0, sent);
    END(p[1]);
    PUT(p[1], 0, 10);
    GET(p[0], 0, 10);
}

static void close_with_unread_data_resets(void) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 1000);
    CHECK(t_wait(p[1], POLLIN, 10000));
    SYS(close(p[1]));
    CHECK(t_wait(p[0], POLLIN, 10000));
    ERR(recv(p[0], big, 1, 0), ECONNRESET);
}

// The reset does not wait for what is still unsent.
static void close_with_unread_and_unsent_data_resets(void) {
    int p[2];
    t_pair(p);
    t_nonblock(p[0], true);
    while (send(p[0], big, sizeof big, 0) > 0)
        ;
    PUT(p[1], 0, 1000);
    CHECK(t_wait(p[0], POLLIN, 5000));
    SYS(close(p[0]));
    struct pollfd f = {.fd = p[1]};
    EQ(poll(&f, 1, 5000), 1);
    CHECK(f.revents & POLLHUP);
}

// Nor does it when the peer, who cannot read for writing, sends after the close.
static void data_after_a_close_with_unsent_data_resets(void) {
    int p[2];
    uint64_t sent;
    t_pair(p);
    sent = fill_up(p[0]);
    SYS(close(p[0]));
    t_nonblock(p[1], true);
    for (int i = 0; i < 500; i++) { // and does not read before that
        ssize_t n = send(p[1], "x", 1, MSG_NOSIGNAL);
        if (n < 0)
            break;
        t_sleep_ms(10);
    }
    CHECK(errno == ECONNRESET || errno == EPIPE);
    CHECK(sent > 0);
}

static void close_with_half_read_data_resets(void) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 10000);
    CHECK(t_wait(p[1], POLLIN, 10000));
    GET(p[1], 0, 5000);
    SYS(close(p[1]));
    CHECK(t_wait(p[0], POLLIN, 10000));
    ERR(recv(p[0], big, 1, 0), ECONNRESET);
}

// A client that never reads: nothing that the connection itself needs may be left unread and turn its close
// into a reset.
static void writer_that_never_reads_ends_well(void) {
    for (int i = 0; i < 20; i++) {
        int p[2];
        t_pair_cold(AF_INET, p);
        PUT(p[0], 0, 3000);
        GET(p[1], 0, 3000);
        SYS(close(p[0]));
        END(p[1]);
        SYS(close(p[1]));
    }
}

static void server_that_closes_at_once(void) {
    for (int i = 0; i < 20; i++) {
        int p[2];
        t_pair_cold(AF_INET, p);
        SYS(close(p[1]));
        END(p[0]);
        SYS(close(p[0]));
    }
}

static void client_that_closes_at_once(void) {
    for (int i = 0; i < 20; i++) {
        int p[2];
        t_pair_cold(AF_INET, p);
        SYS(close(p[0]));
        END(p[1]);
        SYS(close(p[1]));
    }
}

static void server_that_answers_and_closes_unasked(void) {
    for (int i = 0; i < 20; i++) {
        int p[2];
        t_pair_cold(AF_INET, p);
        PUT(p[1], 0, 2000);
        SYS(close(p[1]));
        GET(p[0], 0, 2000);
        END(p[0]);
        SYS(close(p[0]));
    }
}

static void write_then_exit(void *arg) {
    PUT(*(int *)arg, 0, 200000);
}

static void serve(int how) {
    int l = t_listen(AF_INET), status;
    pid_t pid = SYS(fork());
    if (pid == 0) {
        int s = SYS(accept(l, NULL, NULL));
        close(l);
        write_then_exit(&s);
        if (how == 2)
            for (;;)
                pause();
        if (how == 1)
            exit(0);
        _exit(0); // without a close
    }
    int c = t_dial(t_local(l));
    SYS(close(l));
    GET(c, 0, 200000);
    if (how == 2)
        SYS(kill(pid, SIGKILL));
    END(c);
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, how == 2 ? SIGKILL : 0);
}

static void exit_without_close_delivers_all(void) {
    serve(0);
    serve(1);
}

static void killed_peer_is_an_end(void) {
    serve(2);
}

static void write_after_the_peers_close_goes_out_once(void) {
    int p[2];
    t_pair(p);
    SYS(close(p[1]));
    CHECK(t_wait(p[0], POLLIN, 10000));
    EQ(send(p[0], "x", 1, MSG_NOSIGNAL), 1); // TCP cannot know yet
    CHECK(t_wait(p[0], POLLHUP, 10000));
    ssize_t n = send(p[0], "x", 1, MSG_NOSIGNAL);
    CHECK(n == -1 && (errno == EPIPE || errno == ECONNRESET));
}

static void descriptor_numbers_are_reused(void) {
    int p[2], q[2];
    t_pair(p);
    SYS(dup(0)); // takes the number that the listener left free
    int was = p[0];
    SYS(close(p[0]));
    END(p[1]);
    q[0] = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
    EQ(q[0], was); // the lowest free one, as ever
    ERR(recv(q[0], big, 1, MSG_DONTWAIT), EINVAL);
    SYS(close(q[0]));
    SYS(pipe(q));
    EQ(q[0], was);
    EQ(write(q[1], "abc", 3), 3);
    EQ(read(q[0], big, 10), 3);
    SYS(close(q[0]));
    SYS(close(q[1]));
    t_pair(q);
    PUT(q[0], 0, 1000);
    GET(q[1], 0, 1000);
}

// What we still have to send goes on without the program: it has given the descriptor's data back by then.
static void closed_with_unsent_data_is_gone_from_epoll(void) {
    int p[2], ep = SYS(epoll_create1(0));
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.u64 = 7}, got;
    t_pair(p);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
    uint64_t sent = fill_up(p[0]);
    SYS(close(p[0]));
    EQ(epoll_wait(ep, &got, 1, 0), 0);
    GET(p[1], 0, sent);
    PUT(p[1], 0, 10);
    EQ(epoll_wait(ep, &got, 1, 300), 0);
}

// A listener that does not accept: the connection was told, is closed, and shakes hands without the program.
static void closed_before_it_was_accepted_is_gone_from_epoll(void) {
    int ep = SYS(epoll_create1(0)), l = t_listen(AF_INET),
        c = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.u64 = 7}, got;
    struct sockaddr_storage to;
    socklen_t n = sizeof to;
    SYS(getsockname(l, (struct sockaddr *)&to, &n));
    CHECK(connect(c, (struct sockaddr *)&to, n) == 0 || errno == EINPROGRESS);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev));
    EQ(epoll_wait(ep, &got, 1, 10000), 1);
    EQ(got.events & EPOLLOUT, EPOLLOUT);
    PUT(c, 0, 1000);
    SYS(close(c));
    int a = SYS(accept(l, NULL, NULL));
    GET(a, 0, 1000);
    END(a);
    PUT(a, 0, 10);
    EQ(epoll_wait(ep, &got, 1, 300), 0);
}

T_MAIN(T_CASE(closed_with_unsent_data_is_gone_from_epoll),
       T_CASE(closed_before_it_was_accepted_is_gone_from_epoll), T_CASE(half_close_then_reply),
       T_CASE(half_close_as_the_first_thing), T_CASE(both_half_close), T_CASE(end_of_stream_stays),
       T_CASE(end_is_seen_after_all_data), T_CASE(read_shutdown_ends_reading_alone),
       T_CASE(read_shutdown_leaves_what_has_come), T_CASE(shutdown_of_both_ways),
       T_CASE(shutdown_says_what_is_wrong), T_CASE(linger_of_zero_resets),
       T_CASE(linger_of_some_time_delivers), T_CASE(close_with_unsent_data_delivers_all),
       T_CASE(shutdown_with_unsent_data_delivers_all), T_CASE(close_with_unread_data_resets),
       T_CASE(close_with_unread_and_unsent_data_resets), T_CASE(data_after_a_close_with_unsent_data_resets),
       T_CASE(close_with_half_read_data_resets), T_CASE(writer_that_never_reads_ends_well),
       T_CASE(server_that_closes_at_once), T_CASE(client_that_closes_at_once),
       T_CASE(server_that_answers_and_closes_unasked), T_CASE(exit_without_close_delivers_all),
       T_CASE(killed_peer_is_an_end), T_CASE(write_after_the_peers_close_goes_out_once),
       T_CASE(descriptor_numbers_are_reused))
