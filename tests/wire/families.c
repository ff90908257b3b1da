// SPDX-License-Identifier: Apache-2.0
// Every way to write against every way to read: all call families, their fortified entries, vectors of all
// shapes.
#include "t.h"

enum { N = 9000, PIECES = 7 };

typedef ssize_t writer(int fd, const char *buf, size_t n);
typedef ssize_t reader(int fd, char *buf, size_t n);

// A size that the compiler cannot know, so that _FORTIFY_SOURCE calls the checking entry.
static size_t hide(size_t n) {
    __asm__("" : "+r"(n));
    return n;
}

// Cuts [buf, buf + n) into uneven pieces, an empty one among them.
static int cut(struct iovec *iov, char *buf, size_t n) {
    size_t off = 0;
    for (int i = 0; i < PIECES; i++) {
        size_t len = i == 2 ? 0 : i == PIECES - 1 ? n - off : n / (size_t)(3 + i);
        if (len > n - off)
            len = n - off;
        iov[i] = (struct iovec){buf + off, len};
        off += len;
    }
    return PIECES;
}

static ssize_t w_write(int fd, const char *b, size_t n) {
    return write(fd, b, n);
}
static ssize_t w_send(int fd, const char *b, size_t n) {
    return send(fd, b, n, MSG_NOSIGNAL);
}
static ssize_t w_sendto(int fd, const char *b, size_t n) {
    return sendto(fd, b, n, 0, NULL, 0);
}
static ssize_t w_writev(int fd, const char *b, size_t n) {
    struct iovec iov[PIECES];
    return writev(fd, iov, cut(iov, (char *)b, n));
}
static ssize_t w_pwritev2(int fd, const char *b, size_t n) {
    struct iovec iov[PIECES];
    return pwritev2(fd, iov, cut(iov, (char *)b, n), -1, 0);
}
static ssize_t w_sendmsg(int fd, const char *b, size_t n) {
    struct iovec iov[PIECES];
    struct msghdr m = {.msg_iov = iov};
    m.msg_iovlen = (size_t)cut(iov, (char *)b, n);
    return sendmsg(fd, &m, 0);
}
static ssize_t w_sendmmsg(int fd, const char *b, size_t n) {
    struct iovec iov[3];
    struct mmsghdr m[3];
    size_t third = n / 3, sum = 0;
    memset(m, 0, sizeof m);
    for (int i = 0; i < 3; i++) {
        iov[i] = (struct iovec){(char *)b + (size_t)i * third, i == 2 ? n - 2 * third : third};
        m[i].msg_hdr.msg_iov = &iov[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    int got = sendmmsg(fd, m, 3, 0);
    if (got < 0)
        return got;
    for (int i = 0; i < got; i++)
        sum += m[i].msg_len;
    return (ssize_t)sum;
}

static ssize_t r_read(int fd, char *b, size_t n) {
    return read(fd, b, n);
}
static ssize_t r_read_chk(int fd, char *b, size_t n) {
    char own[N];
    ssize_t got = read(fd, own, hide(n < sizeof own ? n : sizeof own));
    if (got > 0)
        memcpy(b, own, (size_t)got);
    return got;
}
static ssize_t r_recv(int fd, char *b, size_t n) {
    return recv(fd, b, n, 0);
}
static ssize_t r_recv_chk(int fd, char *b, size_t n) {
    char own[N];
    ssize_t got = recv(fd, own, hide(n < sizeof own ? n : sizeof own), 0);
    if (got > 0)
        memcpy(b, own, (size_t)got);
    return got;
}
static ssize_t r_recvfrom(int fd, char *b, size_t n) {
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    ssize_t got = recvfrom(fd, b, n, 0, (struct sockaddr *)&from, &len);
    if (got > 0)
        EQ(len, 0); // a stream has no sender to name
    return got;
}
static ssize_t r_recvfrom_chk(int fd, char *b, size_t n) {
    char own[N];
    ssize_t got = recvfrom(fd, own, hide(n < sizeof own ? n : sizeof own), 0, NULL, NULL);
    if (got > 0)
        memcpy(b, own, (size_t)got);
    return got;
}
static ssize_t r_readv(int fd, char *b, size_t n) {
    struct iovec iov[PIECES];
    return readv(fd, iov, cut(iov, b, n));
}
static ssize_t r_preadv2(int fd, char *b, size_t n) {
    struct iovec iov[PIECES];
    return preadv2(fd, iov, cut(iov, b, n), -1, 0);
}
static ssize_t r_recvmsg(int fd, char *b, size_t n) {
    struct iovec iov[PIECES];
    char control[64];
    struct msghdr m = {
        .msg_iov = iov, .msg_control = control, .msg_controllen = sizeof control, .msg_flags = -1};
    m.msg_iovlen = (size_t)cut(iov, b, n);
    ssize_t got = recvmsg(fd, &m, 0);
    if (got >= 0) {
        EQ(m.msg_flags & ~MSG_CMSG_CLOEXEC, 0);
        EQ(m.msg_controllen, 0);
    }
    return got;
}
static ssize_t r_recvmmsg(int fd, char *b, size_t n) {
    struct iovec iov[2] = {{b, n / 2}, {b + n / 2, n - n / 2}};
    struct mmsghdr m[2];
    memset(m, 0, sizeof m);
    for (int i = 0; i < 2; i++) {
        m[i].msg_hdr.msg_iov = &iov[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    int got = recvmmsg(fd, m, 2, MSG_WAITFORONE, NULL);
    if (got < 0)
        return got;
    CHECK(got >= 1 && got <= 2);
    // A first message that is not full leaves a gap in b: only what is before it counts as a read.
    if (got == 2 && m[0].msg_len < iov[0].iov_len)
        memmove(b + m[0].msg_len, iov[1].iov_base, m[1].msg_len);
    return (ssize_t)(m[0].msg_len + (got == 2 ? m[1].msg_len : 0));
}

static const struct {
    const char *name;
    writer *fn;
} writers[] = {{"write", w_write},      {"send", w_send},         {"sendto", w_sendto},
               {"writev", w_writev},    {"pwritev2", w_pwritev2}, {"sendmsg", w_sendmsg},
               {"sendmmsg", w_sendmmsg}};
static const struct {
    const char *name;
    reader *fn;
} readers[] = {{"read", r_read},           {"__read_chk", r_read_chk}, {"recv", r_recv},
               {"__recv_chk", r_recv_chk}, {"recvfrom", r_recvfrom},   {"__recvfrom_chk", r_recvfrom_chk},
               {"readv", r_readv},         {"preadv2", r_preadv2},     {"recvmsg", r_recvmsg},
               {"recvmmsg", r_recvmmsg}};

static void write_all(int fd, writer *w, const char *what, uint64_t off, size_t n) {
    char buf[N];
    t_fill(buf, off, n);
    for (size_t done = 0; done < n;) {
        ssize_t got = w(fd, buf + done, n - done);
        if (got <= 0)
            FAIL("%s: %zd, %s", what, got, strerrorname_np(errno));
        done += (size_t)got;
    }
}

static void read_all(int fd, reader *r, const char *what, uint64_t off, size_t n, size_t step) {
    char buf[N];
    for (size_t done = 0; done < n;) {
        ssize_t got = r(fd, buf, step < n - done ? step : n - done);
        if (got <= 0)
            FAIL("%s: %zd, %s", what, got, strerrorname_np(errno));
        if (t_same(buf, off + done, (size_t)got) != (size_t)got)
            FAIL("%s: wrong bytes at %zu", what, done);
        done += (size_t)got;
    }
}

static void each_writer_with_each_reader(void) {
    static const size_t steps[] = {1000, N};
    int p[2];
    uint64_t off = 0;
    t_pair_cold(AF_INET, p);
    for (size_t w = 0; w < sizeof writers / sizeof *writers; w++)
        for (size_t r = 0; r < sizeof readers / sizeof *readers; r++)
            for (size_t s = 0; s < 2; s++) {
                int from = (int)((w + r) & 1);
                write_all(p[from], writers[w].fn, writers[w].name, off, N);
                read_all(p[!from], readers[r].fn, readers[r].name, off, N, steps[s]);
                off += N;
            }
    SYS(shutdown(p[0], SHUT_WR));
    for (size_t r = 0; r < sizeof readers / sizeof *readers; r++) {
        char buf[64];
        if (readers[r].fn(p[1], buf, sizeof buf) != 0)
            FAIL("%s does not see the end", readers[r].name);
    }
}

static void each_reader_with_nothing_to_read_says_again(void) {
    int p[2];
    char buf[64];
    t_pair(p);
    t_nonblock(p[1], true);
    for (size_t r = 0; r < sizeof readers / sizeof *readers; r++) {
        errno = 0;
        ssize_t got = readers[r].fn(p[1], buf, sizeof buf);
        if (got != -1 || errno != EAGAIN)
            FAIL("%s: %zd, %s", readers[r].name, got, strerrorname_np(errno));
    }
}

static void each_writer_after_shutdown_breaks_the_pipe(void) {
    int p[2];
    t_pair(p);
    signal(SIGPIPE, SIG_IGN);
    SYS(shutdown(p[0], SHUT_WR));
    for (size_t w = 0; w < sizeof writers / sizeof *writers; w++) {
        errno = 0;
        ssize_t got = writers[w].fn(p[0], "abcdef", 6);
        if (got != -1 || errno != EPIPE)
            FAIL("%s: %zd, %s", writers[w].name, got, strerrorname_np(errno));
    }
}

static void offsets_are_refused(void) {
    int p[2];
    char c = 'x';
    struct iovec iov = {&c, 1};
    t_pair(p);
    ERR(pread(p[0], &c, hide(1), 0), ESPIPE);
    ERR(pwrite(p[0], &c, 1, 0), ESPIPE);
    ERR(preadv(p[0], &iov, 1, 0), ESPIPE);
    ERR(pwritev(p[0], &iov, 1, 0), ESPIPE);
    ERR(preadv2(p[0], &iov, 1, 5, 0), ESPIPE);
    ERR(lseek(p[0], 0, SEEK_CUR), ESPIPE);
}

static void nothing_at_all(void) {
    int p[2];
    char c;
    struct iovec none = {&c, 0};
    struct msghdr m = {.msg_iov = &none, .msg_iovlen = 1};
    t_pair(p);
    // Of length zero: no wait, no byte, no end of stream.
    EQ(write(p[0], &c, 0), 0);
    EQ(send(p[0], &c, 0, 0), 0);
    EQ(writev(p[0], &none, 1), 0);
    EQ(writev(p[0], &none, 0), 0);
    EQ(sendmsg(p[0], &m, 0), 0);
    EQ(read(p[1], &c, hide(0)), 0);
    EQ(readv(p[1], &none, 1), 0);
    EQ(readv(p[1], &none, 0), 0);
    // read() of nothing returns at once, recv() of nothing first waits for something: Linux's own difference.
    ERR(recv(p[1], &c, hide(0), MSG_DONTWAIT), EAGAIN);
    ERR(recvmsg(p[1], &m, MSG_DONTWAIT), EAGAIN);
    ERR(recv(p[1], &c, 1, MSG_DONTWAIT), EAGAIN);
    PUT(p[0], 0, 10);
    EQ(recv(p[1], &c, hide(0), 0), 0);
    EQ(recvmsg(p[1], &m, 0), 0);
    EQ(read(p[1], &c, hide(0)), 0);
    GET(p[1], 0, 10);
}

static void vectors_of_1024(void) {
    static char out[IOV_MAX * 13], in[sizeof out];
    struct iovec iov[IOV_MAX];
    int p[2];
    t_pair(p);
    t_fill(out, 0, sizeof out);
    for (size_t i = 0; i < IOV_MAX; i++)
        iov[i] = (struct iovec){out + 13 * i, 13};
    EQ(writev(p[0], iov, IOV_MAX), sizeof out);
    for (size_t i = 0; i < IOV_MAX; i++)
        iov[i].iov_base = in + 13 * i;
    size_t done = 0;
    while (done < sizeof in) {
        ssize_t n = SYS(readv(p[1], iov, IOV_MAX));
        CHECK(n > 0);
        SAME(in, done, n);
        done += (size_t)n;
    }
    for (size_t i = 0; i < IOV_MAX; i++)
        iov[i] = (struct iovec){out + i, 1};
    EQ(writev(p[0], iov, IOV_MAX), IOV_MAX);
    GET(p[1], 0, IOV_MAX);
}

static void vectors_of_1025_are_refused(void) {
    struct iovec iov[IOV_MAX + 1];
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = IOV_MAX + 1};
    char c = 'x';
    int p[2], minus = -(int)hide(1);
    t_pair(p);
    for (size_t i = 0; i <= IOV_MAX; i++)
        iov[i] = (struct iovec){&c, 1};
    ERR(writev(p[0], iov, IOV_MAX + 1), EINVAL);
    ERR(readv(p[0], iov, IOV_MAX + 1), EINVAL);
    ERR(writev(p[0], iov, minus), EINVAL);
    ERR(sendmsg(p[0], &m, 0), EMSGSIZE);
    ERR(recvmsg(p[0], &m, MSG_DONTWAIT), EMSGSIZE);
}

static void sendmmsg_reports_each_length(void) {
    struct iovec iov[3] = {{"abc", 3}, {NULL, 0}, {"defgh", 5}};
    struct mmsghdr m[3];
    char buf[8];
    int p[2];
    t_pair(p);
    memset(m, 0, sizeof m);
    for (int i = 0; i < 3; i++) {
        m[i].msg_hdr.msg_iov = &iov[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    EQ(sendmmsg(p[0], m, 3, 0), 3);
    EQ(m[0].msg_len, 3);
    EQ(m[1].msg_len, 0);
    EQ(m[2].msg_len, 5);
    EQ(recv(p[1], buf, hide(8), MSG_WAITALL), 8);
    EQ(memcmp(buf, "abcdefgh", 8), 0);
}

static void recvmmsg_with_a_timeout_ends(void) {
    struct iovec iov[2];
    struct mmsghdr m[2];
    struct timespec limit = {0, 50 * 1000 * 1000};
    char buf[2][16];
    int p[2];
    t_pair(p);
    memset(m, 0, sizeof m);
    for (int i = 0; i < 2; i++) {
        iov[i] = (struct iovec){buf[i], sizeof buf[i]};
        m[i].msg_hdr.msg_iov = &iov[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    PUT(p[0], 0, 20);
    EQ(recvmmsg(p[1], m, 2, MSG_DONTWAIT, &limit) > 0, 1);
    SAME(buf[0], 0, m[0].msg_len);
}

static void wrong_descriptors_and_buffers(void) {
    char c = 'x';
    int p[2];
    t_pair(p);
    ERR(recv(-1, &c, 1, 0), EBADF);
    ERR(send(-1, &c, 1, 0), EBADF);
    SYS(close(p[1]));
    ERR(recv(p[1], &c, 1, 0), EBADF);
    ERR(send(p[1], &c, 1, 0), EBADF);
    ERR(close(p[1]), EBADF);
    int s = SYS(socket(AF_INET, SOCK_STREAM, 0));
    ERR(recv(s, &c, 1, 0), ENOTCONN);
    ERR(send(s, &c, 1, MSG_NOSIGNAL), EPIPE);
    ERR(recv(0, &c, 1, 0), ENOTSOCK);
}

T_MAIN(T_CASE(each_writer_with_each_reader), T_CASE(each_reader_with_nothing_to_read_says_again),
       T_CASE(each_writer_after_shutdown_breaks_the_pipe), T_CASE(offsets_are_refused),
       T_CASE(nothing_at_all), T_CASE(vectors_of_1024), T_CASE(vectors_of_1025_are_refused),
       T_CASE(sendmmsg_reports_each_length), T_CASE(recvmmsg_with_a_timeout_ends),
       T_CASE(wrong_descriptors_and_buffers))
