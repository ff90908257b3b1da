// SPDX-License-Identifier: Apache-2.0
// A seccomp filter that ends the process at the first call that it does not know: a connection goes on both
// ways.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include "t.h"

enum { PIECE = 2000, BULK = 300000 };

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif
#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

enum { NO_CALL = 0xffff };
static struct sock_filter strict[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    ALLOW(SYS_read),
    ALLOW(SYS_write),
#ifdef SYS_poll
    ALLOW(SYS_poll),
#else
    ALLOW(SYS_ppoll),
#endif
    ALLOW(SYS_close),
    ALLOW(SYS_exit_group),
    ALLOW(SYS_rt_sigreturn),
    ALLOW(SYS_futex),
    ALLOW(NO_CALL),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

static void confine(bool by_number) {
    struct sock_fprog p = {sizeof strict / sizeof *strict, strict};
    if (getenv("ASAN_OPTIONS"))
        strict[p.len - 3].k = SYS_mmap; // what a malloc of the sanitizer's may need, in place of NO_CALL
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (by_number)
        SYS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p));
    else
        SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
}

// Both sides of a fork are under its runtime, which calls the kernel at a close and at exit.
static void not_under_tsan(void) {
    if (getenv("TSAN_OPTIONS"))
        SKIP("ThreadSanitizer makes calls of its own");
}

static void write_all(int fd, uint64_t off, size_t n) {
    static char buf[BULK];
    t_fill(buf, off, n);
    for (size_t done = 0; done < n;) {
        ssize_t w = write(fd, buf + done, n - done);
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (w > 0)
            done += (size_t)w;
        else if (errno != EAGAIN || poll(&p, 1, 10000) != 1)
            _exit(10);
    }
}

// Small reads as well: what is left of a record is told by poll.
static void read_all(int fd, uint64_t off, size_t n, size_t step) {
    static char buf[BULK];
    for (size_t done = 0; done < n;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 10000) != 1 || !(p.revents & POLLIN))
            _exit(11);
        ssize_t r = read(fd, buf, n - done < step ? n - done : step);
        if (r <= 0 || t_same(buf, off + done, (size_t)r) != (size_t)r)
            _exit(12);
        done += (size_t)r;
    }
}

static void converse_confined(int p[2], bool client, bool by_number, bool nonblock) {
    int mine = p[client ? 0 : 1], theirs = p[client ? 1 : 0];
    pid_t pid = SYS(fork());
    if (pid == 0) {
        close(theirs);
        t_nonblock(mine, nonblock);
        confine(by_number);
        read_all(mine, 0, PIECE, PIECE);
        write_all(mine, 0, PIECE);
        read_all(mine, 0, PIECE, 300);
        write_all(mine, 0, BULK);
        read_all(mine, 0, BULK, 5000);
        char c;
        struct pollfd q = {.fd = mine, .events = POLLIN};
        if (poll(&q, 1, 10000) != 1 || read(mine, &c, 1) != 0)
            _exit(13);
        close(mine);
        _exit(0);
    }
    SYS(close(mine));
    PUT(theirs, 0, PIECE);
    GET(theirs, 0, PIECE);
    PUT(theirs, 0, PIECE);
    GET(theirs, 0, BULK);
    PUT(theirs, 0, BULK);
    SYS(shutdown(theirs, SHUT_WR));
    END(theirs);
    CHILD_END(pid);
}

static void each_way(bool nonblock) {
    not_under_tsan();
    for (int i = 0; i < 4; i++) {
        int p[2];
        t_pair(p);
        converse_confined(p, i & 1, i & 2, nonblock);
    }
}

static void blocking(void) {
    each_way(false);
}
static void not_blocking(void) {
    each_way(true);
}

// Nothing has been said yet when the filter comes.
static void connected_and_never_used(void) {
    int p[2];
    not_under_tsan();
    t_pair_cold(AF_INET, p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(close(p[0]));
        GET(p[1], 0, PIECE);
        PUT(p[1], 0, PIECE);
        END(p[1]);
        _exit(0);
    }
    SYS(close(p[1]));
    pid_t other = SYS(fork());
    if (other == 0) {
        confine(false);
        write_all(p[0], 0, PIECE);
        read_all(p[0], 0, PIECE, 100);
        close(p[0]);
        _exit(0);
    }
    SYS(close(p[0]));
    CHILD_END(other);
    CHILD_END(pid);
}

// Strict mode knows read, write and exit; the peer's side and the bytes are as ever.
static void strict_mode(void) {
    int p[2], status;
    not_under_tsan();
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        static char buf[PIECE];
        close(p[0]);
        t_fill(buf, 0, PIECE);
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
            _exit(1);
        ssize_t n = write(p[1], buf, PIECE);
        syscall(SYS_exit, n != PIECE);
    }
    SYS(close(p[1]));
    GET(p[0], 0, PIECE);
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
}

// A filter that forbids little changes nothing: new connections are made under it.
static void permissive(void) {
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = {sizeof f / sizeof *f, f};
    int q[2];
    t_pair(q);
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
    PUT(q[0], 0, PIECE);
    GET(q[1], 0, PIECE);
    t_close_pair(q);
    t_pair(q);
    PUT(q[0], 0, PIECE);
    GET(q[1], 0, PIECE);
}

T_MAIN(T_CASE(blocking), T_CASE(not_blocking), T_CASE(connected_and_never_used), T_CASE(strict_mode),
       T_CASE(permissive))
