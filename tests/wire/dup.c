// SPDX-License-Identifier: Apache-2.0
// One connection under several descriptor numbers, descriptors laid over live connections, and the order of
// closing.
#include "t.h"

#ifndef F_DUPFD_CLOEXEC
#define F_DUPFD_CLOEXEC 1030
#endif

static char big[64];

static int by_dup(int fd) {
    return dup(fd);
}
static int by_dup2(int fd) {
    return dup2(fd, 200);
}
static int by_dup3(int fd) {
    return dup3(fd, 201, O_CLOEXEC);
}
static int by_fcntl(int fd) {
    return fcntl(fd, F_DUPFD, 202);
}
static int by_fcntl_cloexec(int fd) {
    return fcntl(fd, F_DUPFD_CLOEXEC, 203);
}
static int (*const dups[])(int) = {by_dup, by_dup2, by_dup3, by_fcntl, by_fcntl_cloexec};
#define EACH(i) for (size_t i = 0; i < sizeof dups / sizeof *dups; i++)

static void both_numbers_are_one_stream(void) {
    EACH(i) {
        int p[2];
        t_pair(p);
        int d = SYS(dups[i](p[0])), e = SYS(dup(p[1]));
        for (int k = 0; k < 20; k++) {
            PUT(k & 1 ? d : p[0], k * 100, 100);
            GET(k & 2 ? e : p[1], k * 100, 100);
            PUT(k & 2 ? p[1] : e, k * 100, 100);
            GET(k & 1 ? p[0] : d, k * 100, 100);
        }
        SYS(close(d));
        SYS(close(e));
        t_close_pair(p);
    }
}

static void part_of_a_piece_by_each_number(void) {
    int p[2];
    t_pair(p);
    int d = SYS(dup(p[1]));
    PUT(p[0], 0, 1000);
    for (int k = 0; k < 10; k++)
        GET(k & 1 ? d : p[1], k * 100, 100);
}

static void lives_until_the_last_number_is_closed(void) {
    for (int first = 0; first < 2; first++) {
        int p[2];
        t_pair(p);
        int d = SYS(dup(p[0]));
        SYS(close(first ? d : p[0]));
        int left = first ? p[0] : d;
        CHECK(!t_wait(p[1], POLLIN, 20));
        PUT(left, 0, 1000);
        GET(p[1], 0, 1000);
        PUT(p[1], 0, 1000);
        GET(left, 0, 1000);
        SYS(close(left));
        END(p[1]);
        SYS(close(p[1]));
    }
}

static void dup_before_the_first_byte(void) {
    int p[2];
    t_pair_cold(AF_INET, p);
    int d = SYS(dup(p[0])), e = SYS(dup(p[1]));
    t_close_pair(p);
    PUT(d, 0, 3000);
    GET(e, 0, 3000);
    PUT(e, 0, 3000);
    GET(d, 0, 3000);
    SYS(close(d));
    END(e);
}

static void dup_before_connect(void) {
    int l = t_listen(AF_INET), c = SYS(socket(AF_INET, SOCK_STREAM, 0)), d = SYS(dup(c));
    struct t_addr a = t_local(l);
    SYS(connect(d, &a.sa, a.len));
    int s = SYS(accept(l, NULL, NULL));
    PUT(c, 0, 1000);
    GET(s, 0, 1000);
    SYS(close(d));
    PUT(s, 0, 1000);
    GET(c, 0, 1000);
}

static void laid_over_a_live_connection_ends_it(void) {
    int p[2], q[2];
    t_pair(p);
    t_pair(q);
    EQ(dup2(q[0], p[0]), p[0]);
    END(p[1]); // p's connection had no other number
    PUT(p[0], 0, 500);
    GET(q[1], 0, 500);
    SYS(close(q[0]));
    PUT(p[0], 500, 500);
    GET(q[1], 500, 500);
    SYS(close(p[0]));
    END(q[1]);
}

static void a_file_laid_over_a_live_connection(void) {
    int p[2], pipe_[2];
    t_pair(p);
    SYS(pipe(pipe_));
    EQ(dup2(pipe_[1], p[0]), p[0]);
    END(p[1]);
    EQ(write(p[0], "abc", 3), 3);
    EQ(read(pipe_[0], big, 10), 3);
    ERR(send(p[0], "abc", 3, 0), ENOTSOCK);
}

static void laid_over_a_file(void) {
    int p[2], pipe_[2];
    t_pair(p);
    SYS(pipe(pipe_));
    EQ(dup2(p[0], pipe_[1]), pipe_[1]);
    EQ(read(pipe_[0], big, 1), 0); // the pipe has lost its writer
    SYS(close(p[0]));
    PUT(pipe_[1], 0, 500);
    GET(p[1], 0, 500);
}

static void onto_itself(void) {
    int p[2];
    t_pair(p);
    EQ(dup2(p[0], p[0]), p[0]);
    ERR(dup3(p[0], p[0], 0), EINVAL);
    PUT(p[0], 0, 500);
    GET(p[1], 0, 500);
    PUT(p[1], 0, 500);
    GET(p[0], 0, 500);
}

static void wrong_calls(void) {
    int p[2];
    t_pair(p);
    ERR(dup(-1), EBADF);
    ERR(dup2(p[0], -1), EBADF);
    ERR(dup2(555, p[0]), EBADF);
    ERR(dup3(p[0], 300, 12345), EINVAL);
    ERR(fcntl(p[0], F_DUPFD, -1), EINVAL);
    PUT(p[0], 0, 500);
    GET(p[1], 0, 500);
}

static void flags_of_the_numbers(void) {
    int p[2];
    t_pair(p);
    int plain = SYS(fcntl(p[0], F_DUPFD, 210)), closing = SYS(fcntl(p[0], F_DUPFD_CLOEXEC, 210));
    CHECK(plain >= 210 && closing > plain);
    EQ(fcntl(plain, F_GETFD), 0);
    EQ(fcntl(closing, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(dup3(p[0], 220, O_CLOEXEC), F_GETFD), FD_CLOEXEC);
    EQ(fcntl(dup2(p[0], 221), F_GETFD), 0);
    // Status flags belong to the description: set by one number, seen by all.
    t_nonblock(plain, true);
    CHECK(fcntl(p[0], F_GETFL) & O_NONBLOCK);
    ERR(recv(closing, big, 1, 0), EAGAIN);
    t_nonblock(p[0], false);
    PUT(p[1], 0, 10);
    GET(closing, 0, 10);
}

static void watched_under_one_number_read_under_another(void) {
    int p[2], ep = SYS(epoll_create1(0));
    t_pair(p);
    int d = SYS(dup(p[1]));
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = 7};
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, d, &e));
    PUT(p[0], 0, 100);
    EQ(epoll_wait(ep, &e, 1, 10000), 1);
    EQ(e.data.u32, 7);
    GET(p[1], 0, 50);
    EQ(epoll_wait(ep, &e, 1, 10000), 1);
    GET(p[1], 50, 50);
    EQ(epoll_wait(ep, &e, 1, 10), 0);
    // The description stays in the set under a number that is closed, as long as it lives: kernel truth.
    SYS(close(d));
    PUT(p[0], 0, 10);
    EQ(epoll_wait(ep, &e, 1, 10000), 1);
    EQ(e.data.u32, 7);
    GET(p[1], 0, 10);
}

static void shutdown_by_one_number_is_for_all(void) {
    int p[2];
    t_pair(p);
    int d = SYS(dup(p[0]));
    PUT(p[0], 0, 100);
    SYS(shutdown(d, SHUT_WR));
    ERR(send(p[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    GET(p[1], 0, 100);
    END(p[1]);
    PUT(p[1], 0, 100);
    GET(p[0], 0, 100);
}

static void standard_descriptors(void) {
    int p[2];
    t_pair(p);
    for (int fd = 0; fd < 2; fd++) {
        int keep = SYS(dup(fd));
        EQ(dup2(p[1], fd), fd);
        PUT(p[0], 0, 100);
        GET(fd, 0, 100);
        PUT(fd, 0, 100);
        GET(p[0], 0, 100);
        EQ(dup2(keep, fd), fd);
        SYS(close(keep));
    }
    PUT(p[0], 0, 100);
    GET(p[1], 0, 100);
}

static void closed_by_ranges(void) {
    int p[2], q[2];
    t_pair(p);
    t_pair(q);
    int high = SYS(fcntl(p[0], F_DUPFD, 400));
    SYS(close(p[0]));
    if (syscall(SYS_close_range, 400u, 500u, 0u) != 0)
        SKIP("no close_range");
    END(p[1]);
    ERR(recv(high, big, 1, 0), EBADF);
    int other = SYS(fcntl(q[0], F_DUPFD, 400));
    SYS(close(q[0]));
    SYS(close_range(400, 410, 0));
    END(q[1]);
    ERR(recv(other, big, 1, 0), EBADF);
    t_pair(q);
    other = SYS(fcntl(q[0], F_DUPFD, 400));
    SYS(close(q[0]));
    closefrom(390);
    END(q[1]);
}

static void closed_by_the_system_call(void) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 100);
    SYS(syscall(SYS_close, p[0]));
    GET(p[1], 0, 100);
    END(p[1]);
    int f = SYS(open("/dev/null", O_RDONLY));
    EQ(read(f, big, 1), 0); // whatever number it got, nothing is left of the old connection
    t_pair(p);
    PUT(p[0], 0, 100);
    GET(p[1], 0, 100);
}

static void *close_and_open(void *arg) {
    for (int i = 0; i < 300; i++) {
        int fd = SYS(dup(*(int *)arg));
        SYS(close(fd));
    }
    return NULL;
}

static void storm_of_numbers(void) {
    int p[2];
    pthread_t t[4];
    t_pair(p);
    for (int i = 0; i < 4; i++)
        t[i] = t_thread(close_and_open, &p[i & 1]);
    for (int i = 0; i < 200; i++) {
        PUT(p[0], i * 50, 50);
        GET(p[1], i * 50, 50);
        PUT(p[1], i * 50, 50);
        GET(p[0], i * 50, 50);
    }
    for (int i = 0; i < 4; i++)
        t_join(t[i]);
    SYS(close(p[0]));
    END(p[1]);
}

T_MAIN(T_CASE(both_numbers_are_one_stream), T_CASE(part_of_a_piece_by_each_number),
       T_CASE(lives_until_the_last_number_is_closed), T_CASE(dup_before_the_first_byte),
       T_CASE(dup_before_connect), T_CASE(laid_over_a_live_connection_ends_it),
       T_CASE(a_file_laid_over_a_live_connection), T_CASE(laid_over_a_file), T_CASE(onto_itself),
       T_CASE(wrong_calls), T_CASE(flags_of_the_numbers), T_CASE(watched_under_one_number_read_under_another),
       T_CASE(shutdown_by_one_number_is_for_all), T_CASE(standard_descriptors), T_CASE(closed_by_ranges),
       T_CASE(closed_by_the_system_call), T_CASE(storm_of_numbers))
