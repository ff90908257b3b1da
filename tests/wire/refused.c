// SPDX-License-Identifier: Apache-2.0
// modes: mtls
// env: MESH_CALLERS=spiffe://shop/ns/prod/sa/nobody
//
// A server that refuses us says so when we are connected already (TLS 1.3): from then on every read and write
// is ECONNRESET, without SIGPIPE, whatever the kernel calls it by then, and waits show an error.
#include "t.h"

// A child that serves one connection: it reads as a server does, and what comes of that is an error.
static pid_t refuser(int l, bool unread) {
    pid_t pid = SYS(fork());
    if (pid)
        return pid;
    char b;
    int fd = SYS(accept(l, NULL, NULL));
    if (unread)
        t_sleep_ms(300); // the caller's first data lies behind its certificate by then
    ERR(recv(fd, &b, 1, 0), ECONNRESET);
    SYS(close(fd));
    _exit(0);
}

static int refused(bool unread) {
    int l = t_listen(AF_INET);
    pid_t pid = refuser(l, unread);
    int fd = t_dial(t_local(l));
    if (unread)
        EQ(send(fd, T_MARK, 16, 0), 16);
    CHILD_END(pid);
    t_sleep_ms(50);
    return fd;
}

// Until the refusal is seen a write may still go out, as one after the peer's end does.
static void written_until_it_fails(int fd, int flags) {
    for (int i = 0; i < 100; i++) {
        ssize_t r = send(fd, T_MARK, 16, flags);
        if (r < 0) {
            EQ(errno, ECONNRESET);
            return;
        }
        EQ(r, 16);
        t_sleep_ms(20);
    }
    FAIL("every write succeeds");
}

static void a_send_after_the_refusal(void) {
    written_until_it_fails(refused(false), 0); // a SIGPIPE would end us
}

static void a_send_after_the_reset(void) {
    int fd = refused(true);
    ERR(send(fd, "x", 1, 0), ECONNRESET);
    ERR(send(fd, "x", 1, 0), ECONNRESET);
    char b;
    ERR(recv(fd, &b, 1, 0), ECONNRESET);
}

static void by_write_and_writev(void) {
    int fd = refused(true);
    struct iovec v = {"x", 1};
    ERR(write(fd, "x", 1), ECONNRESET);
    ERR(writev(fd, &v, 1), ECONNRESET);
}

static void a_read_after_the_refusal(void) {
    int fd = refused(false);
    char b;
    ERR(recv(fd, &b, 1, 0), ECONNRESET);
    ERR(send(fd, "x", 1, 0), ECONNRESET);
}

static void told_by_a_wait(void) {
    for (int unread = 0; unread < 2; unread++)
        for (int nonblock = 0; nonblock < 2; nonblock++) {
            int fd = refused(unread), ep = SYS(epoll_create1(0));
            t_nonblock(fd, nonblock);
            struct pollfd p = {.fd = fd, .events = POLLIN};
            struct epoll_event e = {.events = EPOLLIN};
            EQ(poll(&p, 1, 5000), 1);
            EQ(p.revents & (POLLIN | POLLERR | POLLHUP), POLLIN | POLLERR | POLLHUP);
            SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
            EQ(epoll_wait(ep, &e, 1, 5000), 1);
            EQ(e.events & (EPOLLIN | EPOLLERR | EPOLLHUP), EPOLLIN | EPOLLERR | EPOLLHUP);
            ERR(send(fd, "x", 1, 0), ECONNRESET);
        }
}

static void told_to_epoll_first(void) {
    int l = t_listen(AF_INET), ep = SYS(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN};
    pid_t pid = refuser(l, false);
    int fd = t_dial(t_local(l));
    t_nonblock(fd, true);
    SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    EQ(epoll_wait(ep, &e, 1, 5000), 1);
    EQ(e.events & (EPOLLIN | EPOLLERR | EPOLLHUP), EPOLLIN | EPOLLERR | EPOLLHUP);
    int err = 0;
    socklen_t n = sizeof err;
    SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n));
    EQ(err, ECONNRESET);
    ERR(send(fd, "x", 1, 0), ECONNRESET);
    CHILD_END(pid);
}

T_MAIN(T_CASE(a_send_after_the_refusal), T_CASE(a_send_after_the_reset), T_CASE(by_write_and_writev),
       T_CASE(a_read_after_the_refusal), T_CASE(told_by_a_wait), T_CASE(told_to_epoll_first))
