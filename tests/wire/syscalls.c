// SPDX-License-Identifier: Apache-2.0
// The kernel called by number, and forks that run no handlers.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "t.h"

enum { PIECE = 2000 };

static void exchange(int a, int b) {
    PUT(a, 0, PIECE);
    GET(b, 0, PIECE);
    PUT(b, 0, PIECE);
    GET(a, 0, PIECE);
}

static void read_and_write(void) {
    char b[32];
    int p[2];
    t_pair(p);
    EQ(syscall(SYS_write, p[0], T_MARK, 16), 16);
    EQ(syscall(SYS_read, p[1], b, sizeof b), 16);
    EQ(memcmp(b, T_MARK, 16), 0);
    EQ(syscall(SYS_sendto, p[1], T_MARK, 16, 0, NULL, 0), 16);
    EQ(syscall(SYS_recvfrom, p[0], b, sizeof b, 0, NULL, NULL), 16);
    EQ(memcmp(b, T_MARK, 16), 0);
    struct iovec iov = {b, 16};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    EQ(syscall(SYS_writev, p[0], &iov, 1), 16);
    EQ(syscall(SYS_recvmsg, p[1], &m, 0), 16);
    EQ(syscall(SYS_sendmsg, p[1], &m, 0), 16);
    EQ(syscall(SYS_readv, p[0], &iov, 1), 16);
    EQ(memcmp(b, T_MARK, 16), 0);
}

static void whole_life(void) {
    struct t_addr a = t_loopback(AF_INET);
    char b[16];
    int l = SYS(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    SYS(bind(l, &a.sa, a.len));
    SYS(syscall(SYS_listen, l, 5));
    a = t_local(l);
    int c = SYS(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    SYS(syscall(SYS_connect, c, &a.sa, a.len));
    int s = SYS(syscall(SYS_accept4, l, NULL, NULL, SOCK_CLOEXEC));
    EQ(syscall(SYS_write, c, T_MARK, 16), 16);
    EQ(syscall(SYS_read, s, b, sizeof b), 16);
    int d = SYS(syscall(SYS_dup, c)), e = SYS(syscall(SYS_dup3, c, 40, O_CLOEXEC)),
        f = SYS(syscall(SYS_fcntl, c, F_DUPFD, 50));
    SYS(syscall(SYS_close, c));
    SYS(syscall(SYS_close, d));
    EQ(syscall(SYS_write, e, T_MARK, 16), 16);
    EQ(syscall(SYS_read, s, b, sizeof b), 16);
    SYS(syscall(SYS_close, e));
    SYS(syscall(SYS_shutdown, f, SHUT_WR));
    END(s);
    EQ(syscall(SYS_write, s, T_MARK, 16), 16);
    EQ(syscall(SYS_read, f, b, sizeof b), 16);
    EQ(memcmp(b, T_MARK, 16), 0);
}

static void closed_by_number(void) {
    int p[2];
    for (int i = 0; i < 3; i++) {
        t_pair(p);
        int before = t_ended();
        SYS(syscall(SYS_close, p[0]));
        END(p[1]);
        SYS(syscall(SYS_close_range, p[1], p[1], 0));
        if (t_mtls())
            EQ(t_ended(), before + 2);
        int q = SYS(socket(AF_UNIX, SOCK_STREAM, 0)); // on a number of a connection that is gone
        ERR(send(q, "x", 1, MSG_NOSIGNAL), ENOTCONN);
        SYS(close(q));
    }
}

static void io_uring_is_not_there(void) {
    char params[256] = {0};
    long fd = syscall(SYS_io_uring_setup, 4, params);
    if (t_mtls())
        CHECK(fd == -1 && errno == ENOSYS);
    else if (fd >= 0)
        SYS(close((int)fd));
}

/* ---- forks ---- */

static void both_go_on(pid_t pid, int p[2]) {
    if (pid == 0) {
        SYS(close(p[0]));
        GET(p[1], 0, PIECE);
        PUT(p[1], 0, PIECE);
        _exit(0);
    }
    SYS(close(p[1])); // the child has it still: no goodbye
    PUT(p[0], 0, PIECE);
    GET(p[0], 0, PIECE);
    END(p[0]);
    CHILD_END(pid);
    SYS(close(p[0]));
}

static void fork_by_number(void) {
    int p[2];
    for (int i = 0; i < 3; i++) {
        t_pair(p);
        both_go_on((pid_t)SYS(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)), p);
    }
}

static void fork_without_handlers(void) {
    int p[2];
    t_pair(p);
    both_go_on(SYS(_Fork()), p);
}

static int child_of_clone(void *arg) {
    both_go_on(0, arg);
    return 1;
}

static void clone_with_memory_of_its_own(void) {
    static char stack[1 << 16] __attribute__((aligned(16)));
    int p[2];
    t_pair(p);
    both_go_on(SYS(clone(child_of_clone, stack + sizeof stack, SIGCHLD, p)), p);
}

/* Past every name that a library can stand for. */
static long unseen_fork(void) {
    long ret;
#if defined(__x86_64__)
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(SYS_clone), "D"((long)SIGCHLD), "S"(0l), "d"(0l)
                     : "rcx", "r11", "r8", "r10", "memory");
#else
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = SIGCHLD;
    register long x1 __asm__("x1") = 0;
    register long x2 __asm__("x2") = 0;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    ret = x0;
#endif
    return ret;
}

static void fork_that_nobody_sees(void) {
    int p[2], status;
    t_pair(p);
    for (int i = 0; i < 3; i++) {
        pid_t pid = (pid_t)unseen_fork();
        if (pid == 0) {
            exchange(p[0], p[1]);
            SYS(close(p[0])); // not the last, whatever it looks like from here
            SYS(close(p[1]));
            syscall(SYS_exit, 0);
        }
        EQ(waitpid(pid, &status, 0), pid);
        EQ(status, 0);
        exchange(p[0], p[1]);
    }
}

static void child_that_nobody_saw_goes_on(void) {
    int p[2];
    t_pair(p);
    pid_t pid = (pid_t)unseen_fork();
    if (pid == 0) {
        for (int i = 0; i < 2; i++) {
            GET(p[1], i, PIECE);
            PUT(p[1], i, PIECE);
        }
        syscall(SYS_exit, 0);
    }
    PUT(p[0], 0, PIECE);
    GET(p[0], 0, PIECE);
    SYS(close(p[1])); // by now it is known that another holds it
    PUT(p[0], 1, PIECE);
    GET(p[0], 1, PIECE);
    CHILD_END(pid);
}

// The parent has ended the connection before it could know of the child: what the child writes then reaches
// nobody.
static void unseen_child_comes_too_late(void) {
    int p[2], q[2], go[2];
    char c;
    SYS(pipe(go));
    t_pair(p);
    pid_t pid = (pid_t)unseen_fork();
    if (pid == 0) {
        (void)!read(go[0], &c, 1);
        for (int i = 0; i < 3; i++)
            (void)!send(p[0], T_MARK, 16, MSG_NOSIGNAL);
        syscall(SYS_exit, t_mtls() && send(p[0], T_MARK, 16, MSG_NOSIGNAL) >= 0);
    }
    SYS(close(p[0]));
    SYS(close(p[1]));
    t_pair(q); // in the places of the two
    EQ(write(go[1], "x", 1), 1);
    CHILD_END(pid);
    exchange(q[0], q[1]);
}

static void unseen_child_execs(void) {
    char *argv[] = {"cat", NULL};
    int p[2];
    t_pair(p);
    pid_t pid = (pid_t)unseen_fork();
    if (pid == 0) {
        close(p[0]);
        dup2(p[1], 0);
        dup2(p[1], 1);
        execvp(argv[0], argv);
        _exit(127);
    }
    exchange(p[0], p[0]);
    SYS(kill(pid, SIGKILL));
}

static void daemon_goes_on(void) {
    int p[2], out[2];
    char c;
    SYS(pipe(out));
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(daemon(1, 1));
        exchange(p[0], p[1]);
        EQ(write(out[1], "x", 1), 1);
        _exit(0);
    }
    SYS(close(out[1]));
    EQ(read(out[0], &c, 1), 1);
    CHILD_END(pid);
    exchange(p[0], p[1]);
}

T_MAIN(T_CASE(read_and_write), T_CASE(whole_life), T_CASE(closed_by_number), T_CASE(io_uring_is_not_there),
       T_CASE(fork_by_number), T_CASE(fork_without_handlers), T_CASE(clone_with_memory_of_its_own),
       T_CASE(fork_that_nobody_sees), T_CASE(child_that_nobody_saw_goes_on),
       T_CASE(unseen_child_comes_too_late), T_CASE(unseen_child_execs), T_CASE(daemon_goes_on))
