// SPDX-License-Identifier: Apache-2.0
// The calls that move data without showing it to the program: sendfile, splice, tee, vmsplice,
// copy_file_range.
#include <sys/sendfile.h>
#include "t.h"

enum { FILE_SIZE = 700000 };

static int a_file(void) {
    static char buf[FILE_SIZE];
    char path[] = "/tmp/wire-sendfile.XXXXXX";
    int fd = SYS(mkstemp(path));
    SYS(unlink(path));
    t_fill(buf, 0, sizeof buf);
    EQ(write(fd, buf, sizeof buf), sizeof buf);
    EQ(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

struct sink {
    int fd;
    uint64_t off, n;
};

static void *get_all(void *arg) {
    struct sink *s = arg;
    GET(s->fd, s->off, s->n);
    return NULL;
}

static void sendfile_of_the_whole(void) {
    int p[2], f = a_file();
    off_t off = 0;
    t_pair(p);
    struct sink s = {p[1], 0, FILE_SIZE};
    pthread_t t = t_thread(get_all, &s);
    while (off < FILE_SIZE) {
        off_t before = off;
        ssize_t n = SYS(sendfile(p[0], f, &off, FILE_SIZE - (size_t)off));
        CHECK(n > 0);
        EQ(off, before + n); // moved by exactly what went
    }
    EQ(sendfile(p[0], f, &off, 100), 0); // the file's end
    EQ(lseek(f, 0, SEEK_CUR), 0);        // with an offset given the file's own stays
    t_join(t);
}

static void sendfile_moves_the_files_own_offset(void) {
    int p[2], f = a_file();
    t_pair(p);
    EQ(sendfile(p[0], f, NULL, 1000), 1000);
    EQ(lseek(f, 0, SEEK_CUR), 1000);
    GET(p[1], 0, 1000);
    EQ(sendfile64(p[0], f, NULL, 500), 500);
    GET(p[1], 1000, 500);
    EQ(lseek(f, FILE_SIZE - 10, SEEK_SET), FILE_SIZE - 10);
    EQ(sendfile(p[0], f, NULL, 1000), 10);
    GET(p[1], FILE_SIZE - 10, 10);
    EQ(sendfile(p[0], f, NULL, 1000), 0);
    EQ(sendfile(p[0], f, NULL, 0), 0);
}

static void sendfile_of_parts(void) {
    int p[2], f = a_file();
    t_pair(p);
    for (int i = 0; i < 100; i++) {
        off_t off = (off_t)(t_mix((uint64_t)i) % (FILE_SIZE - 30000));
        off_t start = off;
        size_t n = 1 + t_mix((uint64_t)i * 7) % 30000;
        EQ(sendfile(p[0], f, &off, n), n);
        EQ(off, start + (off_t)n);
        GET(p[1], start, n);
    }
}

static void sendfile_without_blocking(void) {
    int p[2], f = a_file();
    off_t off = 0;
    uint64_t sent = 0;
    t_pair(p);
    t_nonblock(p[0], true);
    for (;;) {
        off = 0;
        ssize_t n = sendfile(p[0], f, &off, FILE_SIZE);
        EQ(off, n < 0 ? 0 : n);
        if (n < 0)
            break;
        sent += (uint64_t)n;
        if (n < FILE_SIZE)
            break;
    }
    CHECK(sent > 0);
    t_nonblock(p[1], true);
    for (uint64_t got = 0; got < sent;) {
        uint64_t part = sent - got < FILE_SIZE ? sent - got : FILE_SIZE;
        GET(p[1], 0, part);
        got += part;
    }
    CHECK(t_wait(p[0], POLLOUT, 10000));
    off = 100;
    EQ(sendfile(p[0], f, &off, 50), 50);
    GET(p[1], 100, 50);
}

static void sendfile_after_shutdown_breaks_the_pipe(void) {
    int p[2], f = a_file();
    off_t off = 0;
    t_pair(p);
    signal(SIGPIPE, SIG_IGN);
    SYS(shutdown(p[0], SHUT_WR));
    ERR(sendfile(p[0], f, &off, 100), EPIPE);
    EQ(off, 0);
    ERR(sendfile(p[0], 777, &off, 100), EBADF);
    ERR(sendfile(777, f, &off, 100), EBADF);
}

static void sendfile_between_header_and_trailer(void) {
    int p[2], f = a_file(), on = 1, off_ = 0;
    off_t off = 48;
    char head[48], tail[52];
    t_pair(p);
    t_fill(head, 0, sizeof head);
    t_fill(tail, 20048, sizeof tail);
    // As nginx does it: cork, headers, file, uncork.
    SYS(setsockopt(p[0], IPPROTO_TCP, TCP_CORK, &on, sizeof on));
    EQ(send(p[0], head, sizeof head, MSG_MORE), sizeof head);
    EQ(sendfile(p[0], f, &off, 20000), 20000);
    EQ(write(p[0], tail, sizeof tail), sizeof tail);
    SYS(setsockopt(p[0], IPPROTO_TCP, TCP_CORK, &off_, sizeof off_));
    GET(p[1], 0, 20100);
}

static void splice_from_a_pipe(void) {
    int p[2], q[2];
    static char buf[30000];
    t_pair(p);
    SYS(pipe(q));
    t_fill(buf, 0, sizeof buf);
    EQ(write(q[1], buf, sizeof buf), sizeof buf);
    size_t done = 0;
    while (done < sizeof buf) {
        ssize_t n = SYS(splice(q[0], NULL, p[0], NULL, sizeof buf - done, SPLICE_F_MOVE | SPLICE_F_MORE));
        CHECK(n > 0);
        done += (size_t)n;
    }
    GET(p[1], 0, sizeof buf);
    ERR(splice(q[0], NULL, p[0], NULL, 100, SPLICE_F_NONBLOCK), EAGAIN);
    SYS(close(q[1]));
    EQ(splice(q[0], NULL, p[0], NULL, 100, 0), 0);
}

static void splice_into_a_pipe(void) {
    int p[2], q[2];
    char buf[4096];
    t_pair(p);
    SYS(pipe(q));
    PUT(p[0], 0, 10000);
    for (size_t done = 0; done < 10000;) {
        ssize_t n = SYS(splice(p[1], NULL, q[1], NULL, 3000, SPLICE_F_MOVE));
        CHECK(n > 0 && n <= 3000);
        for (ssize_t got = 0; got < n;) {
            ssize_t r = SYS(read(q[0], buf, (size_t)(n - got) < sizeof buf ? (size_t)(n - got) : sizeof buf));
            SAME(buf, done + (size_t)got, r);
            got += r;
        }
        done += (size_t)n;
    }
    t_nonblock(p[1], true);
    ERR(splice(p[1], NULL, q[1], NULL, 100, SPLICE_F_NONBLOCK), EAGAIN);
    SYS(close(p[0]));
    CHECK(t_wait(p[1], POLLIN, 10000));
    EQ(splice(p[1], NULL, q[1], NULL, 100, 0), 0);
}

static void splice_into_a_full_pipe(void) {
    int p[2], q[2];
    static char junk[1 << 20];
    t_pair(p);
    SYS(pipe2(q, O_NONBLOCK));
    while (write(q[1], junk, sizeof junk) > 0)
        ;
    PUT(p[0], 0, 1000);
    CHECK(t_wait(p[1], POLLIN, 10000));
    ERR(splice(p[1], NULL, q[1], NULL, 1000, SPLICE_F_NONBLOCK), EAGAIN);
    GET(p[1], 0, 1000); // nothing was lost on the way
}

struct relay {
    int from, to;
};

// A proxy: socket to pipe to socket.
static void *relay(void *arg) {
    struct relay *r = arg;
    int q[2];
    SYS(pipe(q));
    for (ssize_t n; (n = SYS(splice(r->from, NULL, q[1], NULL, 65536, SPLICE_F_MOVE))) > 0;)
        for (ssize_t done = 0; done < n;)
            done += SYS(splice(q[0], NULL, r->to, NULL, (size_t)(n - done), SPLICE_F_MOVE));
    SYS(shutdown(r->to, SHUT_WR));
    return NULL;
}

static void splice_as_a_proxy(void) {
    enum { ALL = 5000000 };
    int a[2], b[2];
    t_pair(a);
    t_pair(b);
    struct relay r = {a[1], b[0]};
    struct sink s = {b[1], 0, ALL};
    pthread_t t = t_thread(relay, &r), u = t_thread(get_all, &s);
    PUT(a[0], 0, ALL);
    SYS(shutdown(a[0], SHUT_WR));
    t_join(u);
    t_join(t);
    END(b[1]);
}

static void splice_to_a_plain_file(void) {
    int p[2], f = a_file();
    t_pair(p);
    ERR(splice(p[1], NULL, f, NULL, 10, 0), EINVAL); // one side must be a pipe
    loff_t off = 0;
    int q[2];
    SYS(pipe(q));
    PUT(p[0], 0, 10);
    ERR(splice(p[1], &off, q[1], NULL, 10, 0), EINVAL);
    GET(p[1], 0, 10);
}

static void calls_that_no_socket_serves(void) {
    int p[2], f = a_file();
    char c = 'x';
    struct iovec iov = {&c, 1};
    t_pair(p);
    ERR(copy_file_range(f, NULL, p[0], NULL, 100, 0), EINVAL);
    CHECK(tee(p[1], p[0], 10, SPLICE_F_NONBLOCK) == -1 && errno == EINVAL);
    CHECK(vmsplice(p[0], &iov, 1, 0) == -1 && errno == EBADF);
    off_t off = 0;
    CHECK(sendfile(f, p[1], &off, 10) == -1);
    off = -1;
    ERR(sendfile(p[0], f, &off, 10), EINVAL);
    EQ(off, -1);
    PUT(p[0], 0, 10);
    GET(p[1], 0, 10);
}

T_MAIN(T_CASE(sendfile_of_the_whole), T_CASE(sendfile_moves_the_files_own_offset), T_CASE(sendfile_of_parts),
       T_CASE(sendfile_without_blocking), T_CASE(sendfile_after_shutdown_breaks_the_pipe),
       T_CASE(sendfile_between_header_and_trailer), T_CASE(splice_from_a_pipe), T_CASE(splice_into_a_pipe),
       T_CASE(splice_into_a_full_pipe), T_CASE(splice_as_a_proxy), T_CASE(splice_to_a_plain_file),
       T_CASE(calls_that_no_socket_serves))
