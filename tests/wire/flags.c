// SPDX-License-Identifier: Apache-2.0
// MSG_ flags, TCP_CORK, SIGPIPE.
#include "t.h"

static char big[200000];

static void peek_shows_and_leaves(void) {
    int p[2];
    char buf[64];
    t_pair(p);
    PUT(p[0], 0, 50);
    for (int i = 0; i < 3; i++) {
        EQ(recv(p[1], buf, 10, MSG_PEEK), 10);
        SAME(buf, 0, 10);
    }
    EQ(recv(p[1], buf, sizeof buf, MSG_PEEK), 50);
    SAME(buf, 0, 50);
    GET(p[1], 0, 20);
    EQ(recv(p[1], buf, sizeof buf, MSG_PEEK), 30);
    SAME(buf, 20, 30);
    GET(p[1], 20, 30);
    ERR(recv(p[1], buf, 1, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
}

// Waits until a peek shows n bytes; the kernel promises only at least one.
static void peek_until(int fd, size_t n) {
    for (;;) {
        ssize_t got = recv(fd, big, n, MSG_PEEK);
        CHECK(got > 0);
        SAME(big, 0, got);
        if ((size_t)got == n)
            return;
        t_sleep_ms(1);
    }
}

static void peek_beyond_a_record(void) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 50000);
    peek_until(p[1], 50000);
    peek_until(p[1], 17000);
    peek_until(p[1], 50000);
    GET(p[1], 0, 50000);
}

static void peek_grows_with_each_small_piece(void) {
    int p[2];
    t_pair(p);
    for (size_t i = 0; i < 40; i++) {
        PUT(p[0], i * 100, 100);
        peek_until(p[1], (i + 1) * 100);
    }
    GET(p[1], 0, 4000);
}

static void peek_with_vectors_and_recvmsg(void) {
    int p[2];
    char a[7], b[100];
    struct iovec iov[2] = {{a, sizeof a}, {b, sizeof b}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    t_pair(p);
    PUT(p[0], 0, 60);
    EQ(recvmsg(p[1], &m, MSG_PEEK), 60);
    SAME(a, 0, 7);
    SAME(b, 7, 53);
    EQ(readv(p[1], iov, 2), 60);
    SAME(b, 7, 53);
}

static void peek_keeps_the_socket_readable(void) {
    int p[2];
    char c;
    t_pair(p);
    PUT(p[0], 0, 1);
    for (int i = 0; i < 3; i++) {
        CHECK(t_wait(p[1], POLLIN, 10000));
        EQ(recv(p[1], &c, 1, MSG_PEEK), 1);
    }
    EQ(recv(p[1], &c, 1, 0), 1);
    CHECK(!t_wait(p[1], POLLIN, 20));
}

static void peek_at_the_end(void) {
    int p[2];
    char c;
    t_pair(p);
    PUT(p[0], 0, 1);
    SYS(close(p[0]));
    EQ(recv(p[1], &c, 1, MSG_PEEK), 1);
    GET(p[1], 0, 1);
    EQ(recv(p[1], &c, 1, MSG_PEEK), 0);
    EQ(recv(p[1], &c, 1, MSG_PEEK), 0);
    END(p[1]);
}

static void peek_in_a_child_leaves_it_to_the_parent(void) {
    int p[2];
    char buf[300];
    t_pair(p);
    PUT(p[0], 0, 300);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(close(p[0]));
        peek_until(p[1], 300);
        _exit(0);
    }
    CHILD_END(pid);
    EQ(recv(p[1], buf, 300, MSG_WAITALL), 300); // what the child peeked at is still there
    SAME(buf, 0, 300);
}

struct slowly {
    int fd;
    size_t piece, n;
};

static void *send_slowly(void *arg) {
    struct slowly *s = arg;
    for (size_t off = 0; off < s->n; off += s->piece) {
        PUT(s->fd, off, s->piece);
        t_sleep_ms(1);
    }
    return NULL;
}

static void waitall_waits_for_all(void) {
    int p[2];
    t_pair(p);
    struct slowly s = {p[0], 3000, 90000};
    pthread_t t = t_thread(send_slowly, &s);
    EQ(recv(p[1], big, 90000, MSG_WAITALL), 90000);
    SAME(big, 0, 90000);
    t_join(t);
}

static void waitall_ends_with_the_stream(void) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 1234);
    SYS(shutdown(p[0], SHUT_WR));
    EQ(recv(p[1], big, sizeof big, MSG_WAITALL), 1234);
    SAME(big, 0, 1234);
    EQ(recv(p[1], big, sizeof big, MSG_WAITALL), 0);
}

static void waitall_on_a_nonblocking_socket_takes_what_is_there(void) {
    int p[2];
    t_pair(p);
    t_nonblock(p[1], true);
    ERR(recv(p[1], big, 100, MSG_WAITALL), EAGAIN);
    PUT(p[0], 0, 60);
    CHECK(t_wait(p[1], POLLIN, 10000));
    EQ(recv(p[1], big, 100, MSG_WAITALL), 60);
}

static void waitall_with_peek(void) {
    int p[2];
    t_pair(p);
    struct slowly s = {p[0], 500, 3000};
    pthread_t t = t_thread(send_slowly, &s);
    EQ(recv(p[1], big, 3000, MSG_WAITALL | MSG_PEEK), 3000);
    SAME(big, 0, 3000);
    t_join(t);
    EQ(recv(p[1], big, 3000, MSG_WAITALL), 3000);
    SAME(big, 0, 3000);
}

static void waitall_with_recvmsg(void) {
    int p[2];
    struct iovec iov[3] = {{big, 1000}, {big + 1000, 20000}, {big + 21000, 9000}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 3};
    t_pair(p);
    struct slowly s = {p[0], 1500, 30000};
    pthread_t t = t_thread(send_slowly, &s);
    EQ(recvmsg(p[1], &m, MSG_WAITALL), 30000);
    SAME(big, 0, 30000);
    t_join(t);
}

static void trunc_discards(void) {
    int p[2];
    char buf[16];
    t_pair(p);
    PUT(p[0], 0, 100);
    memset(buf, 'z', sizeof buf);
    EQ(recv(p[1], buf, 10, MSG_TRUNC), 10);
    for (int i = 0; i < 10; i++)
        EQ(buf[i], 'z'); // counted, not copied
    EQ(recv(p[1], NULL, 20, MSG_TRUNC), 20);
    GET(p[1], 30, 70);
}

static void trunc_discards_beyond_a_record(void) {
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 40000);
    for (size_t left = 39990; left > 0;)
        left -= (size_t)SYS(recv(p[1], NULL, left, MSG_TRUNC));
    GET(p[1], 39990, 10);
}

static void dontwait_never_waits(void) {
    int p[2];
    t_pair(p);
    ERR(recv(p[1], big, 1, MSG_DONTWAIT), EAGAIN);
    size_t sent = 0;
    for (;;) {
        t_fill(big, sent, sizeof big);
        ssize_t n = send(p[0], big, sizeof big, MSG_DONTWAIT);
        if (n < 0)
            break;
        CHECK(n > 0);
        sent += (size_t)n;
    }
    EQ(errno, EAGAIN);
    CHECK(!t_wait(p[0], POLLOUT, 0));
    t_nonblock(p[1], true);
    GET(p[1], 0, sent);
    CHECK(t_wait(p[0], POLLOUT, 10000));
    EQ(fcntl(p[0], F_GETFL) & O_NONBLOCK, 0); // a flag of the call, not of the socket
}

static void more_is_sent_with_the_next(void) {
    int p[2];
    t_pair(p);
    t_fill(big, 0, 3000);
    EQ(send(p[0], big, 1000, MSG_MORE), 1000);
    EQ(send(p[0], big + 1000, 1000, MSG_MORE), 1000);
    EQ(send(p[0], big + 2000, 1000, 0), 1000);
    GET(p[1], 0, 3000);
}

static void more_alone_arrives_in_the_end(void) {
    int p[2];
    t_pair(p);
    t_fill(big, 0, 1000);
    EQ(send(p[0], big, 1000, MSG_MORE), 1000);
    // TCP holds it for some 200 ms at most; nothing else is sent.
    GET(p[1], 0, 1000);
    EQ(send(p[0], big, 1000, MSG_MORE), 1000);
    SYS(close(p[0]));
    GET(p[1], 0, 1000);
    END(p[1]);
}

static void more_then_shutdown(void) {
    int p[2];
    t_pair(p);
    t_fill(big, 0, 1000);
    EQ(send(p[0], big, 1000, MSG_MORE), 1000);
    SYS(shutdown(p[0], SHUT_WR));
    GET(p[1], 0, 1000);
    END(p[1]);
}

static void more_beyond_a_record(void) {
    int p[2];
    t_pair(p);
    t_fill(big, 0, 60000);
    for (size_t off = 0; off < 60000; off += 600)
        EQ(send(p[0], big + off, 600, off + 600 < 60000 ? MSG_MORE : 0), 600);
    GET(p[1], 0, 60000);
}

static void cork_gathers_and_uncork_sends(void) {
    int p[2], on = 1, off = 0, is = 0;
    socklen_t len = sizeof is;
    t_pair(p);
    SYS(setsockopt(p[0], IPPROTO_TCP, TCP_CORK, &on, sizeof on));
    SYS(getsockopt(p[0], IPPROTO_TCP, TCP_CORK, &is, &len));
    EQ(is, 1);
    for (int i = 0; i < 10; i++)
        PUT(p[0], i * 100, 100);
    SYS(setsockopt(p[0], IPPROTO_TCP, TCP_CORK, &off, sizeof off));
    GET(p[1], 0, 1000);
    SYS(setsockopt(p[0], IPPROTO_TCP, TCP_CORK, &on, sizeof on));
    PUT(p[0], 0, 500);
    GET(p[1], 0, 500); // corked for 200 ms at most
    PUT(p[0], 500, 500);
    SYS(close(p[0]));
    GET(p[1], 500, 500);
    END(p[1]);
}

static volatile sig_atomic_t pipes;
static void count_pipe(int sig) {
    (void)sig;
    pipes++;
}

static void sigpipe_unless_asked_not_to(void) {
    int p[2];
    struct iovec iov = {"x", 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    t_pair(p);
    signal(SIGPIPE, count_pipe);
    SYS(shutdown(p[0], SHUT_WR));
    ERR(send(p[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    ERR(sendmsg(p[0], &m, MSG_NOSIGNAL), EPIPE);
    EQ(pipes, 0);
    ERR(send(p[0], "x", 1, 0), EPIPE);
    EQ(pipes, 1);
    ERR(write(p[0], "x", 1), EPIPE);
    ERR(writev(p[0], &iov, 1), EPIPE);
    ERR(sendmsg(p[0], &m, 0), EPIPE);
    EQ(pipes, 4);
}

static void sigpipe_kills_by_default(void) {
    int p[2], status;
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        signal(SIGPIPE, SIG_DFL);
        SYS(shutdown(p[0], SHUT_WR));
        (void)!write(p[0], "x", 1);
        _exit(1);
    }
    EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

static void write_to_a_gone_peer_breaks_the_pipe(void) {
    int p[2];
    ssize_t n = 0;
    t_pair(p);
    signal(SIGPIPE, count_pipe);
    SYS(close(p[1]));
    // The first write may still be taken; then comes a reset, and after it was told, EPIPE.
    for (int i = 0; i < 1000 && (n = write(p[0], "x", 1)) == 1; i++)
        t_sleep_ms(1);
    EQ(n, -1);
    CHECK(errno == EPIPE || errno == ECONNRESET);
    ERR(write(p[0], "x", 1), EPIPE);
    CHECK(pipes >= 1);
}

static void urgent_data(void) {
    int p[2];
    char c = 0;
    t_pair(p);
    if (t_mtls()) {
        // It cannot travel in TLS: a clear answer, and the stream goes on.
        ERR(send(p[0], "u", 1, MSG_OOB), EOPNOTSUPP);
        CHECK(recv(p[1], &c, 1, MSG_OOB | MSG_DONTWAIT) == -1 && (errno == EINVAL || errno == EOPNOTSUPP));
    } else {
        EQ(send(p[0], "u", 1, MSG_OOB), 1);
        CHECK(t_wait(p[1], POLLPRI, 10000));
        EQ(recv(p[1], &c, 1, MSG_OOB), 1);
        EQ(c, 'u');
    }
    PUT(p[0], 0, 100);
    GET(p[1], 0, 100);
}

static void flags_together(void) {
    int p[2];
    char buf[64];
    t_pair(p);
    PUT(p[0], 0, 30);
    CHECK(t_wait(p[1], POLLIN, 10000));
    EQ(recv(p[1], buf, sizeof buf, MSG_PEEK | MSG_TRUNC), 30);
    EQ(recv(p[1], buf, 10, MSG_DONTWAIT | MSG_WAITALL), 10);
    SAME(buf, 0, 10);
    EQ(recv(p[1], buf, sizeof buf, MSG_NOSIGNAL | MSG_CMSG_CLOEXEC), 20);
    SAME(buf, 10, 20);
    ERR(recv(p[1], buf, 1, MSG_ERRQUEUE), EAGAIN);
    EQ(send(p[0], "x", 1, MSG_EOR | MSG_DONTROUTE | MSG_CONFIRM), 1);
    EQ(recv(p[1], buf, sizeof buf, 0), 1);
}

T_MAIN(T_CASE(peek_shows_and_leaves), T_CASE(peek_beyond_a_record), T_CASE(peek_grows_with_each_small_piece),
       T_CASE(peek_with_vectors_and_recvmsg), T_CASE(peek_keeps_the_socket_readable), T_CASE(peek_at_the_end),
       T_CASE(peek_in_a_child_leaves_it_to_the_parent), T_CASE(waitall_waits_for_all),
       T_CASE(waitall_ends_with_the_stream), T_CASE(waitall_on_a_nonblocking_socket_takes_what_is_there),
       T_CASE(waitall_with_peek), T_CASE(waitall_with_recvmsg), T_CASE(trunc_discards),
       T_CASE(trunc_discards_beyond_a_record), T_CASE(dontwait_never_waits),
       T_CASE(more_is_sent_with_the_next), T_CASE(more_alone_arrives_in_the_end), T_CASE(more_then_shutdown),
       T_CASE(more_beyond_a_record), T_CASE(cork_gathers_and_uncork_sends),
       T_CASE(sigpipe_unless_asked_not_to), T_CASE(sigpipe_kills_by_default),
       T_CASE(write_to_a_gone_peer_breaks_the_pipe), T_CASE(urgent_data), T_CASE(flags_together))
