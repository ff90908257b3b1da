/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls past every library, and a relay made of them: a connection whose bytes are let through one by one. */
#ifndef TESTS_WIRE_RAW_H
#define TESTS_WIRE_RAW_H

#include "t.h"

// A connection made past every library: the kernel's own calls, by the instruction.
T_UNUSED static long raw(long nr, long a, long b, long c) {
#if defined(__x86_64__)
    long rc;
    __asm__ volatile("syscall" : "=a"(rc) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return rc;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
#else
    (void)nr, (void)a, (void)b, (void)c;
    return -ENOSYS;
#endif
}

T_UNUSED static int raw_socket(void) {
    long fd = raw(SYS_socket, AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        SKIP("no raw system calls here");
    return (int)fd;
}

struct relay { /* both ends are raw sockets */
    int near, far; /* towards p[0], towards p[1] */
    _Atomic bool open, rests, over;
    pthread_t pump; /* 0: none runs */
};

/* Moves at most n of the bytes that are there; returns how many. */
T_UNUSED static size_t relay_some(int from, int to, size_t n) {
    static _Thread_local char buf[65536];
    int there = 0;
    if (raw(SYS_ioctl, from, FIONREAD, (long)&there) < 0 || there <= 0)
        return 0;
    n = n < (size_t)there ? n : (size_t)there;
    long got = raw(SYS_read, from, (long)buf, (long)(n < sizeof buf ? n : sizeof buf));
    for (long done = 0; done < got;) {
        long r = raw(SYS_write, to, (long)(buf + done), got - done);
        if (r <= 0)
            return (size_t)done;
        done += r;
    }
    return got > 0 ? (size_t)got : 0;
}

/* Moves exactly n bytes, however long they take to come. */
T_UNUSED static void relay_move(int from, int to, size_t n) {
    while (n) {
        size_t k = relay_some(from, to, n);
        if (!k)
            t_sleep_ms(1);
        n -= k;
    }
}

static void *relay_pump(void *arg) {
    struct relay *r = arg;
    while (!r->over) {
        while (!r->open && !r->over) {
            r->rests = true;
            t_sleep_ms(1);
        }
        r->rests = false;
        if (!(relay_some(r->near, r->far, 65536) + relay_some(r->far, r->near, 65536)))
            t_sleep_ms(1);
    }
    return NULL;
}

/* Lets everything through, or (from when it returns) nothing of itself. */
T_UNUSED static void relay_open(struct relay *r, bool open) {
    r->open = open;
    while (!open && !r->rests)
        t_sleep_ms(1);
}

/* A connection by way of a relay that is closed; a byte has gone each way. What the relay moved before it moves no more. */
T_UNUSED static void relay_pair(int p[2], struct relay *r) {
    r->over = true;
    if (r->pump)
        t_join(r->pump);
    r->over = false;
    int l = t_listen(AF_INET), door = raw_socket(), one = 1;
    struct t_addr to = t_local(l), at = t_loopback(AF_INET);
    char c = 'a';
    EQ(raw(SYS_bind, door, (long)&at.sa, at.len), 0);
    EQ(raw(SYS_listen, door, 5, 0), 0);
    EQ(raw(SYS_getsockname, door, (long)&at.sa, (long)&at.len), 0);
    p[0] = t_dial(at);
    r->near = (int)raw(SYS_accept, door, 0, 0);
    r->far = raw_socket();
    EQ(raw(SYS_connect, r->far, (long)&to.sa, to.len), 0);
    r->open = true;
    r->pump = t_thread(relay_pump, r);
    p[1] = SYS(accept(l, NULL, NULL));
    SYS(setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    EQ(send(p[0], &c, 1, 0), 1);
    EQ(recv(p[1], &c, 1, 0), 1);
    EQ(send(p[1], &c, 1, 0), 1);
    EQ(recv(p[0], &c, 1, 0), 1);
    relay_open(r, false);
    raw(SYS_close, door, 0, 0);
    close(l);
}

#endif
