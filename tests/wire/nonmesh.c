// SPDX-License-Identifier: Apache-2.0
// wire: none
// Descriptors that are no TCP connections: Unix sockets, datagrams, pipes, files, event descriptors.
// Everything is as ever.
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include "t.h"

static void unix_streams(void) {
    int p[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
    PUT(p[0], 0, 5000);
    GET(p[1], 0, 5000);
    SYS(shutdown(p[0], SHUT_WR));
    END(p[1]);
    ERR(send(p[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    t_close_pair(p);
}

static void unix_listener(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int l = SYS(socket(AF_UNIX, SOCK_STREAM, 0)), c = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
    socklen_t len =
        (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)sprintf(a.sun_path + 1, "wire-%d", getpid()));
    SYS(bind(l, (struct sockaddr *)&a, len));
    SYS(listen(l, 5));
    SYS(connect(c, (struct sockaddr *)&a, len));
    int s = SYS(accept(l, NULL, NULL));
    PUT(c, 0, 1000);
    GET(s, 0, 1000);
}

static void descriptors_over_unix(void) {
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } u;
    int p[2], q[2], got;
    char c = 'x';
    struct iovec iov = {&c, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.room, .msg_controllen = sizeof u.room};
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
    SYS(pipe(q));
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    *h = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(h), &q[1], sizeof(int));
    EQ(sendmsg(p[0], &m, 0), 1);
    memset(&u, 0, sizeof u);
    EQ(recvmsg(p[1], &m, MSG_CMSG_CLOEXEC), 1);
    h = CMSG_FIRSTHDR(&m);
    CHECK(h && h->cmsg_type == SCM_RIGHTS && h->cmsg_len == CMSG_LEN(sizeof(int)));
    memcpy(&got, CMSG_DATA(h), sizeof(int));
    EQ(fcntl(got, F_GETFD), FD_CLOEXEC);
    EQ(write(got, "abc", 3), 3);
    char b[4];
    EQ(read(q[0], b, 4), 3);
}

static void datagrams(void) {
    for (int family = 0; family < (t_has_ipv6() ? 2 : 1); family++) {
        struct t_addr a = t_loopback(family ? AF_INET6 : AF_INET), from = {.len = sizeof from.ss};
        int s = SYS(socket(a.sa.sa_family, SOCK_DGRAM, 0)), c = SYS(socket(a.sa.sa_family, SOCK_DGRAM, 0));
        char b[64];
        SYS(bind(s, &a.sa, a.len));
        a = t_local(s);
        EQ(sendto(c, "one", 3, 0, &a.sa, a.len), 3);
        EQ(recvfrom(s, b, sizeof b, 0, &from.sa, &from.len), 3);
        EQ(sendto(s, "answer", 6, 0, &from.sa, from.len), 6);
        EQ(recv(c, b, 2, MSG_TRUNC), 6); // the datagram's own length
        ERR(recv(c, b, 1, MSG_DONTWAIT), EAGAIN);
        SYS(connect(c, &a.sa, a.len));
        EQ(send(c, "", 0, 0), 0);
        EQ(recv(s, b, sizeof b, 0), 0);
        struct mmsghdr m[2];
        struct iovec iov[2] = {{"ab", 2}, {"cde", 3}};
        memset(m, 0, sizeof m);
        for (int i = 0; i < 2; i++)
            m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
        EQ(sendmmsg(c, m, 2, 0), 2);
        EQ(recv(s, b, sizeof b, 0), 2);
        EQ(recv(s, b, sizeof b, 0), 3);
    }
}

static void pipes_and_files(void) {
    int q[2], f;
    char path[] = "/tmp/wire-nonmesh.XXXXXX", b[32];
    struct iovec iov[2] = {{b, 3}, {b + 3, 29}};
    SYS(pipe2(q, O_NONBLOCK | O_CLOEXEC));
    ERR(read(q[0], b, 1), EAGAIN);
    EQ(write(q[1], "abcdef", 6), 6);
    EQ(readv(q[0], iov, 2), 6);
    EQ(memcmp(b, "abcdef", 6), 0);
    f = SYS(mkstemp(path));
    SYS(unlink(path));
    EQ(pwrite(f, "0123456789", 10, 0), 10);
    EQ(pread(f, b, 4, 3), 4);
    EQ(memcmp(b, "3456", 4), 0);
    EQ(preadv2(f, iov, 2, 0, 0), 10);
    EQ(lseek(f, 0, SEEK_END), 10);
    off_t off = 2;
    EQ(sendfile(q[1], f, &off, 5), 5);
    EQ(read(q[0], b, 32), 5);
    int d = SYS(dup2(f, 77));
    SYS(close(f));
    EQ(pread(d, b, 1, 0), 1);
    struct stat st;
    SYS(fstat(d, &st));
    EQ(st.st_size, 10);
}

static void event_descriptors(void) {
    int e = SYS(eventfd(0, EFD_NONBLOCK)), t = SYS(timerfd_create(CLOCK_MONOTONIC, 0)),
        ep = SYS(epoll_create1(0));
    uint64_t v = 3;
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 11};
    struct itimerspec it = {.it_value = {0, 5000000}};
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev));
    EQ(epoll_wait(ep, &ev, 1, 5), 0);
    EQ(write(e, &v, 8), 8);
    EQ(epoll_wait(ep, &ev, 1, 1000), 1);
    EQ(ev.data.u64, 11);
    EQ(read(e, &v, 8), 8);
    EQ(v, 3);
    ERR(read(e, &v, 8), EAGAIN);
    SYS(timerfd_settime(t, 0, &it, NULL));
    EQ(read(t, &v, 8), 8);
    EQ(v, 1);
}

static void raw_calls_by_syscall(void) {
    int q[2];
    char b[8];
    EQ(syscall(SYS_getpid), getpid());
    EQ(syscall(SYS_pipe2, q, 0), 0);
    EQ(syscall(SYS_write, q[1], "abc", 3), 3);
    EQ(syscall(SYS_read, q[0], b, 8), 3);
    ERR(syscall(SYS_read, -1, b, 8), EBADF);
    EQ(syscall(SYS_close, q[0]), 0);
    ERR(syscall(SYS_close, q[0]), EBADF);
    ERR(syscall(9999), ENOSYS);
}

static void errors_of_the_lowest_calls(void) {
    char b;
    ERR(close(-1), EBADF);
    ERR(close(900), EBADF);
    ERR(read(900, &b, 1), EBADF);
    ERR(write(900, &b, 1), EBADF);
    ERR(fcntl(900, F_GETFL), EBADF);
    ERR(dup(900), EBADF);
    ERR(listen(900, 1), EBADF);
    ERR(socket(AF_INET, 4242, 0), EINVAL);
    int q[2], n;
    SYS(pipe(q));
    ERR(listen(q[0], 1), ENOTSOCK);
    ERR(setsockopt(q[0], SOL_SOCKET, SO_KEEPALIVE, &n, sizeof n), ENOTSOCK);
    ERR(send(q[0], &b, 1, 0), ENOTSOCK);
}

T_MAIN(T_CASE(unix_streams), T_CASE(unix_listener), T_CASE(descriptors_over_unix), T_CASE(datagrams),
       T_CASE(pipes_and_files), T_CASE(event_descriptors), T_CASE(raw_calls_by_syscall),
       T_CASE(errors_of_the_lowest_calls))
