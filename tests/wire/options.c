// SPDX-License-Identifier: Apache-2.0
// Socket options and ioctls that change how data moves, or report on it.
#include <linux/sockios.h>
#include "t.h"

static char big[100000];

static int pending(int fd) {
    int n = -1;
    SYS(ioctl(fd, FIONREAD, &n));
    return n;
}

static void fionread_counts_what_can_be_read(void) {
    int p[2];
    t_pair(p);
    EQ(pending(p[1]), 0);
    PUT(p[0], 0, 700);
    CHECK(t_wait(p[1], POLLIN, 10000));
    EQ(pending(p[1]), 700);
    GET(p[1], 0, 300);
    EQ(pending(p[1]), 400);
    GET(p[1], 300, 400);
    EQ(pending(p[1]), 0);
}

// How wrk and java.net read: as long as FIONREAD says that there is more, without a wait in between.
static void fionread_leads_to_every_byte(void) {
    enum { ALL = 60000 };
    int p[2];
    size_t done = 0;
    t_pair(p);
    PUT(p[0], 0, ALL);
    while (done < ALL) {
        CHECK(t_wait(p[1], POLLIN, 10000));
        int n = pending(p[1]);
        CHECK(n > 0 && (size_t)n <= ALL - done);
        // What it counts can be had without waiting.
        size_t want = (size_t)n < sizeof big ? (size_t)n : sizeof big;
        EQ(recv(p[1], big, want, MSG_DONTWAIT), want);
        SAME(big, done, want);
        done += want;
    }
    EQ(pending(p[1]), 0);
}

static void fionread_at_the_end_is_nothing(void) {
    int p[2];
    t_pair(p);
    SYS(shutdown(p[0], SHUT_WR));
    CHECK(t_wait(p[1], POLLIN, 10000));
    EQ(pending(p[1]), 0);
    END(p[1]);
}

static void outq_drains(void) {
    int p[2], n = -1;
    t_pair(p);
    PUT(p[0], 0, 1000);
    GET(p[1], 0, 1000);
    for (int i = 0; i < 1000 && n != 0; i++) {
        SYS(ioctl(p[0], SIOCOUTQ, &n));
        CHECK(n >= 0);
        t_sleep_ms(1);
    }
    EQ(n, 0);
}

static void timeout(int fd, int option, int ms) {
    struct timeval want = {ms / 1000, ms % 1000 * 1000}, is;
    socklen_t len = sizeof is;
    SYS(setsockopt(fd, SOL_SOCKET, option, &want, sizeof want));
    SYS(getsockopt(fd, SOL_SOCKET, option, &is, &len));
    EQ(is.tv_sec, want.tv_sec);
    CHECK(is.tv_usec >= want.tv_usec && is.tv_usec <= want.tv_usec + 10000);
}

static void receive_timeout_ends_every_read(void) {
    int p[2];
    char buf[10];
    struct iovec iov = {buf, sizeof buf};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    t_pair(p);
    timeout(p[1], SO_RCVTIMEO, 60);
    long long start = t_now_ms();
    ERR(recv(p[1], buf, 10, 0), EAGAIN);
    CHECK(t_now_ms() - start >= 50);
    ERR(read(p[1], buf, 10), EAGAIN);
    ERR(readv(p[1], &iov, 1), EAGAIN);
    ERR(recvmsg(p[1], &m, 0), EAGAIN);
    ERR(recv(p[1], buf, 10, MSG_PEEK), EAGAIN);
    CHECK(t_now_ms() - start >= 250);
    PUT(p[0], 0, 10);
    GET(p[1], 0, 10);
}

static void receive_timeout_gives_what_came(void) {
    int p[2];
    t_pair(p);
    timeout(p[1], SO_RCVTIMEO, 80);
    PUT(p[0], 0, 30);
    EQ(recv(p[1], big, 100, MSG_WAITALL), 30);
    SAME(big, 0, 30);
    ERR(recv(p[1], big, 100, MSG_WAITALL), EAGAIN);
}

static void receive_timeout_before_the_first_byte(void) {
    int p[2];
    t_pair_cold(AF_INET, p);
    timeout(p[1], SO_RCVTIMEO, 60);
    ERR(recv(p[1], big, 10, 0), EAGAIN);
    PUT(p[0], 0, 10);
    timeout(p[1], SO_RCVTIMEO, 10000);
    GET(p[1], 0, 10);
}

static void send_timeout_gives_what_went(void) {
    int p[2];
    ssize_t n;
    uint64_t sent = 0;
    t_pair(p);
    timeout(p[0], SO_SNDTIMEO, 60);
    for (;;) {
        t_fill(big, sent, sizeof big);
        errno = 0;
        if ((n = send(p[0], big, sizeof big, 0)) < 0)
            break;
        sent += (uint64_t)n;
    }
    EQ(errno, EAGAIN);
    t_nonblock(p[1], true);
    GET(p[1], 0, sent); // no byte lost, none twice
    ERR(recv(p[1], big, 1, 0), EAGAIN);
    PUT(p[0], sent, 1000);
    GET(p[1], sent, 1000);
}

static void low_water_mark_is_kept(void) {
    int p[2], low = 100, is = 0;
    socklen_t len = sizeof is;
    t_pair(p);
    SYS(getsockopt(p[1], SOL_SOCKET, SO_RCVLOWAT, &is, &len));
    EQ(is, 1);
    SYS(setsockopt(p[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    PUT(p[0], 0, 60);
    SYS(getsockopt(p[1], SOL_SOCKET, SO_RCVLOWAT, &is, &len));
    EQ(is, 100);
    if (!t_mtls()) // there it is honoured as well as records allow
        CHECK(!t_wait(p[1], POLLIN, 30));
    PUT(p[0], 60, 60);
    CHECK(t_wait(p[1], POLLIN, 10000));
    EQ(recv(p[1], big, 60, MSG_DONTWAIT), 60);
    EQ(recv(p[1], big, 1000, MSG_DONTWAIT), 60);
    SYS(getsockopt(p[1], SOL_SOCKET, SO_RCVLOWAT, &is, &len));
    EQ(is, 100);
    SYS(shutdown(p[0], SHUT_WR)); // the end counts as readable below the mark too
    CHECK(t_wait(p[1], POLLIN, 10000));
    END(p[1]);
}

static void *send_two_halves(void *arg) {
    int fd = *(int *)arg;
    PUT(fd, 0, 60);
    t_sleep_ms(50);
    PUT(fd, 60, 60);
    return NULL;
}

static void low_water_mark_makes_recv_wait(void) {
    int p[2], low = 100, on = 1;
    t_pair(p);
    SYS(setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    SYS(setsockopt(p[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    pthread_t t = t_thread(send_two_halves, &p[0]);
    /* A recv that took the first half already would not be woken for the second, which is below the mark:
     * Linux's own way. So the wait comes first. */
    CHECK(t_wait(p[1], POLLIN, 10000));
    ssize_t n = SYS(recv(p[1], big, sizeof big, 0));
    if (!t_mtls())
        EQ(n, 120);
    SAME(big, 0, n);
    low = 1;
    SYS(setsockopt(p[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    if (n < 120)
        GET(p[1], n, 120 - n);
    t_join(t);
}

static int option_of(int fd, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    SYS(getsockopt(fd, level, name, &value, &len));
    return value;
}

static void what_the_kernel_says_of_a_connection(void) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    int p[2];
    t_pair(p);
    for (int i = 0; i < 2; i++) {
        EQ(option_of(p[i], SOL_SOCKET, SO_TYPE), SOCK_STREAM);
        EQ(option_of(p[i], SOL_SOCKET, SO_DOMAIN), AF_INET);
        EQ(option_of(p[i], SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
        EQ(option_of(p[i], SOL_SOCKET, SO_ACCEPTCONN), 0);
        EQ(option_of(p[i], SOL_SOCKET, SO_ERROR), 0);
        SYS(getsockopt(p[i], IPPROTO_TCP, TCP_INFO, &info, &len));
        EQ(info.tcpi_state, TCP_ESTABLISHED);
    }
    ERR(getsockopt(p[0], SOL_SOCKET, 4242, &info, &len), ENOPROTOOPT);
    ERR(setsockopt(p[0], SOL_SOCKET, 4242, &len, sizeof len), ENOPROTOOPT);
}

static void options_set_are_options_read(void) {
    static const struct {
        int level, name, value;
    } opts[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},         {SOL_SOCKET, SO_REUSEADDR, 1},   {SOL_SOCKET, SO_PRIORITY, 3},
        {IPPROTO_TCP, TCP_NODELAY, 1},         {IPPROTO_TCP, TCP_KEEPIDLE, 77}, {IPPROTO_TCP, TCP_KEEPCNT, 5},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, 9000}, {IPPROTO_TCP, TCP_QUICKACK, 1},  {IPPROTO_IP, IP_TOS, 0x10}};
    int p[2];
    t_pair(p);
    for (size_t i = 0; i < sizeof opts / sizeof *opts; i++)
        for (int end = 0; end < 2; end++) {
            SYS(setsockopt(p[end], opts[i].level, opts[i].name, &opts[i].value, sizeof(int)));
            if (opts[i].name != TCP_QUICKACK)
                EQ(option_of(p[end], opts[i].level, opts[i].name), opts[i].value);
        }
    PUT(p[0], 0, 5000);
    GET(p[1], 0, 5000);
}

static void buffers_resized_under_way(void) {
    int p[2], sizes[] = {65536, 262144, 32768};
    uint64_t off = 0;
    t_pair(p);
    t_nonblock(p[0], true);
    for (int i = 0; i < 3; i++) {
        SYS(setsockopt(p[0], SOL_SOCKET, SO_SNDBUF, &sizes[i], sizeof(int)));
        SYS(setsockopt(p[1], SOL_SOCKET, SO_RCVBUF, &sizes[i], sizeof(int)));
        for (int j = 0; j < 20; j++) {
            t_fill(big, off, 40000);
            ssize_t n = send(p[0], big, 40000, 0);
            if (n < 0) {
                EQ(errno, EAGAIN);
                continue;
            }
            GET(p[1], off, n);
            off += (uint64_t)n;
        }
    }
    CHECK(off > 50000);
}

static void error_is_read_and_cleared(void) {
    int p[2];
    struct linger now = {1, 0};
    t_pair(p);
    SYS(setsockopt(p[0], SOL_SOCKET, SO_LINGER, &now, sizeof now));
    SYS(close(p[0]));
    CHECK(t_wait(p[1], POLLIN, 10000));
    EQ(option_of(p[1], SOL_SOCKET, SO_ERROR), ECONNRESET);
    EQ(option_of(p[1], SOL_SOCKET, SO_ERROR), 0);
    EQ(recv(p[1], big, 1, 0), 0);
    ERR(send(p[1], big, 1, MSG_NOSIGNAL), EPIPE);
}

static void fionbio_is_o_nonblock(void) {
    int p[2], on = 1, off = 0;
    t_pair(p);
    SYS(ioctl(p[0], FIONBIO, &on));
    CHECK(fcntl(p[0], F_GETFL) & O_NONBLOCK);
    ERR(recv(p[0], big, 1, 0), EAGAIN);
    SYS(ioctl(p[0], FIONBIO, &off));
    CHECK(!(fcntl(p[0], F_GETFL) & O_NONBLOCK));
    PUT(p[1], 0, 1);
    GET(p[0], 0, 1);
}

static volatile sig_atomic_t ios;
static void count_io(int sig) {
    (void)sig;
    ios++;
}

static void sigio_tells_of_data(void) {
    int p[2];
    t_pair(p);
    signal(SIGIO, count_io);
    SYS(fcntl(p[1], F_SETOWN, getpid()));
    SYS(fcntl(p[1], F_SETFL, O_ASYNC | O_NONBLOCK));
    PUT(p[0], 0, 10);
    for (int i = 0; i < 1000 && ios == 0; i++)
        t_sleep_ms(5);
    CHECK(ios > 0);
    GET(p[1], 0, 10);
}

// Options by which data would leave or arrive past the reader and the writer; each may be refused, none may
// leak.
static void options_that_would_bypass(void) {
    int p[2], on = 1, is = -1;
    socklen_t len = sizeof is;
    t_pair(p);
    if (setsockopt(p[0], SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on) != 0)
        CHECK(t_mtls() && errno == EOPNOTSUPP);
    else
        SYS(getsockopt(p[0], SOL_SOCKET, SO_ZEROCOPY, &is, &len));
    if (setsockopt(p[0], IPPROTO_TCP, TCP_ULP, "tls", 3) != 0)
        CHECK(errno == ENOENT || (t_mtls() && errno == ENOPROTOOPT));
    PUT(p[0], 0, 4000);
    GET(p[1], 0, 4000);
    t_fill(big, 4000, 4000);
    ssize_t n = send(p[0], big, 4000, MSG_ZEROCOPY | MSG_DONTWAIT);
    if (n < 0)
        CHECK(t_mtls() && errno == EOPNOTSUPP);
    else
        GET(p[1], 4000, n);
}

T_MAIN(T_CASE(fionread_counts_what_can_be_read), T_CASE(fionread_leads_to_every_byte),
       T_CASE(fionread_at_the_end_is_nothing), T_CASE(outq_drains), T_CASE(receive_timeout_ends_every_read),
       T_CASE(receive_timeout_gives_what_came), T_CASE(receive_timeout_before_the_first_byte),
       T_CASE(send_timeout_gives_what_went), T_CASE(low_water_mark_is_kept),
       T_CASE(low_water_mark_makes_recv_wait), T_CASE(what_the_kernel_says_of_a_connection),
       T_CASE(options_set_are_options_read), T_CASE(buffers_resized_under_way),
       T_CASE(error_is_read_and_cleared), T_CASE(fionbio_is_o_nonblock), T_CASE(sigio_tells_of_data),
       T_CASE(options_that_would_bypass))
