// SPDX-License-Identifier: Apache-2.0
// modes: plain mtls
//
// Protocols that are not plain TCP. A datagram has no way through the mesh: to a virtual address it is EACCES
// (mode mtls; without the library the kernel says that there is no such network), to any other it goes as
// ever. Multipath TCP is TCP.
#include "t.h"
#include <netinet/ip_icmp.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static struct t_addr virtual_address(int family) {
    struct t_addr a = t_loopback(family);
    if (family == AF_INET) {
        EQ(inet_pton(AF_INET, "241.1.2.3", &a.in.sin_addr), 1);
        a.in.sin_port = htons(9);
    } else {
        EQ(inet_pton(AF_INET6, "fd6d:6573:6800::7", &a.in6.sin6_addr), 1);
        a.in6.sin6_port = htons(9);
    }
    return a;
}

static struct t_addr mapped(struct t_addr four) {
    struct t_addr a = t_loopback(AF_INET6);
    memset(&a.in6.sin6_addr, 0, 16);
    a.in6.sin6_addr.s6_addr[10] = a.in6.sin6_addr.s6_addr[11] = 0xff;
    memcpy(a.in6.sin6_addr.s6_addr + 12, &four.in.sin_addr, 4);
    a.in6.sin6_port = four.in.sin_port;
    return a;
}

#define REFUSED(call)                                                                                        \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        EQ(call, -1);                                                                                        \
        if (t_mtls())                                                                                        \
            EQ(errno, EACCES);                                                                               \
        else                                                                                                 \
            CHECK(errno != EACCES);                                                                          \
    } while (0)

static void every_way(int fd, struct t_addr to) {
    struct iovec v = {T_MARK, 16};
    struct msghdr m = {.msg_name = &to.sa, .msg_namelen = to.len, .msg_iov = &v, .msg_iovlen = 1};
    struct mmsghdr mm[2] = {{.msg_hdr = m}, {.msg_hdr = m}};
    REFUSED(sendto(fd, T_MARK, 16, 0, &to.sa, to.len));
    REFUSED(sendmsg(fd, &m, 0));
    REFUSED(sendmmsg(fd, mm, 2, 0));
    REFUSED(syscall(SYS_sendto, fd, T_MARK, 16, 0, &to.sa, to.len));
    REFUSED(connect(fd, &to.sa, to.len));
}

// The last resort of a namespace without routes: the address does not reach the kernel's own "no network".
static void datagrams_to_a_virtual_address(void) {
    int fd = SYS(socket(AF_INET, SOCK_DGRAM, 0)), copy = SYS(dup(fd));
    every_way(fd, virtual_address(AF_INET));
    every_way(copy, virtual_address(AF_INET));
}

static void over_ipv6(void) {
    if (!t_has_ipv6())
        SKIP("no IPv6");
    int fd = SYS(socket(AF_INET6, SOCK_DGRAM, 0));
    every_way(fd, virtual_address(AF_INET6));
    every_way(fd, mapped(virtual_address(AF_INET)));
}

static void raw_sockets(void) {
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    if (fd < 0)
        SKIP("no right to raw sockets");
    struct t_addr to = virtual_address(AF_INET);
    struct icmphdr echo = {.type = ICMP_ECHO};
    REFUSED(sendto(fd, &echo, sizeof echo, 0, &to.sa, to.len));
}

// Of several messages those in front of the first that is refused go out.
static void some_of_several(void) {
    struct t_addr a = t_loopback(AF_INET), to = virtual_address(AF_INET);
    int s = SYS(socket(AF_INET, SOCK_DGRAM, 0)), c = SYS(socket(AF_INET, SOCK_DGRAM, 0));
    SYS(bind(s, &a.sa, a.len));
    a = t_local(s);
    struct iovec v = {T_MARK, 16};
    struct mmsghdr mm[3] = {
        {.msg_hdr = {.msg_name = &a.sa, .msg_namelen = a.len, .msg_iov = &v, .msg_iovlen = 1}}};
    mm[1] = mm[2] = mm[0];
    mm[1].msg_hdr.msg_name = &to.sa;
    EQ(sendmmsg(c, mm, 3, 0), 1);
    char b[64];
    EQ(recv(s, b, sizeof b, 0), 16);
    ERR(recv(s, b, sizeof b, MSG_DONTWAIT), EAGAIN);
    REFUSED(sendmmsg(c, mm + 1, 2, 0));
}

static void to_any_other_address(void) {
    struct t_addr a = t_loopback(AF_INET);
    int s = SYS(socket(AF_INET, SOCK_DGRAM, 0)), c = SYS(socket(AF_INET, SOCK_DGRAM, 0));
    char b[64];
    SYS(bind(s, &a.sa, a.len));
    a = t_local(s);
    EQ(sendto(c, T_MARK, 16, 0, &a.sa, a.len), 16);
    EQ(recv(s, b, sizeof b, 0), 16);
    SYS(connect(c, &a.sa, a.len));
    EQ(send(c, T_MARK, 16, 0), 16);
    EQ(recv(s, b, sizeof b, 0), 16);
}

static void bad_addresses_are_the_kernels(void) {
    int fd = SYS(socket(AF_INET, SOCK_DGRAM, 0));
    struct t_addr to = virtual_address(AF_INET);
    ERR(sendto(fd, "x", 1, 0, &to.sa, 4), EINVAL);
    to.sa.sa_family = AF_UNIX;
    ERR(sendto(fd, "x", 1, 0, &to.sa, to.len), EAFNOSUPPORT);
}

// A TCP socket pays no heed to the address of a send.
static void a_connection_ignores_it(void) {
    struct t_addr to = virtual_address(AF_INET);
    int p[2];
    t_pair(p);
    EQ(sendto(p[0], T_MARK, 16, 0, &to.sa, to.len), 16);
    char b[16];
    EQ(recv(p[1], b, 16, MSG_WAITALL), 16);
}

static void multipath_tcp(void) {
    struct t_addr a = t_loopback(AF_INET);
    int l = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP), c = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
    if (l < 0 || c < 0)
        SKIP("no MPTCP");
    SYS(bind(l, &a.sa, a.len));
    SYS(listen(l, 5));
    a = t_local(l);
    SYS(connect(c, &a.sa, a.len)); // multipath on both sides
    int s = SYS(accept(l, NULL, NULL));
    PUT(c, 0, 100000);
    GET(s, 0, 100000);
    PUT(s, 0, 100000);
    GET(c, 0, 100000);
    int plain = t_dial(a); // TCP calls
    int t = SYS(accept(l, NULL, NULL));
    PUT(plain, 0, 1000);
    GET(t, 0, 1000);
    SYS(close(plain));
    END(t);
}

T_MAIN(T_CASE(datagrams_to_a_virtual_address), T_CASE(over_ipv6), T_CASE(raw_sockets),
       T_CASE(some_of_several), T_CASE(to_any_other_address), T_CASE(bad_addresses_are_the_kernels),
       T_CASE(a_connection_ignores_it), T_CASE(multipath_tcp))
