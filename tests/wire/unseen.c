// SPDX-License-Identifier: Apache-2.0
// What no library can see: system calls by instruction. They are on the wire as they are, which the README
// says.

// wire: none
#include "ring.h"

static long by_instruction(long nr, long a, long b, long c, long d, long e, long f) {
    long ret;
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    ret = x0;
#endif
    if (ret < 0 && ret > -4096) {
        errno = (int)-ret;
        return -1;
    }
    return ret;
}

// Nobody can see this; the README says so. What it writes is on the wire, and the peer ends the connection.
static void io_uring_by_instruction(void) {
    int p[2];
    char b[N];
    t_pair(p);
    ssize_t r = send_by_ring(by_instruction, p[0]);
    if (r < 0)
        SKIP("no io_uring here");
    if (!t_mtls()) {
        EQ(recv(p[1], b, N, 0), N);
        door("served");
        return;
    }
    ERR(recv(p[1], b, N, 0), ECONNRESET);
    door("not seen, peer resets");
}

static void write_by_instruction(void) {
    int p[2];
    char b[N];
    t_pair(p);
    EQ(by_instruction(SYS_write, p[0], (long)T_MARK, N, 0, 0, 0), N);
    if (t_mtls()) {
        ERR(recv(p[1], b, N, 0), ECONNRESET);
        door("not seen, peer resets");
    } else {
        EQ(recv(p[1], b, N, 0), N);
        door("served");
    }
}

T_MAIN(T_CASE(io_uring_by_instruction), T_CASE(write_by_instruction))
