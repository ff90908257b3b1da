/* SPDX-License-Identifier: Apache-2.0
 *
 * What the wire tests share. Each test is an ordinary program: no arguments, port 0 on loopback, the same
 * expectation with and without the library. It lists cases; every case runs in a child of its own, so that
 * one that hangs or dies spoils no other. Output is TAP (`ok N - case`, `not ok N - case`), exit status 0, 1
 * or 77 (all skipped).
 *
 *     static void reads_what_was_written(void) { ... EQ(read(fd, buf, 4), 4); ... }
 *     T_MAIN(T_CASE(reads_what_was_written), ...)
 *
 * Environment: WIRE_MODE (plain, unconfigured, mtls) selects the documented expectation where TLS must
 * differ; WIRE_CASE=NAME runs one case in the program itself, for a debugger; WIRE_SLOW=N multiplies the time
 * a case may take. (None is called MESH_: an unknown MESH_ variable is itself something the library reacts
 * to.)
 *
 * Data sent is a function of its offset in the stream and holds T_MARK every 64 bytes, so that a receiver can
 * check it anywhere and a recording of the wire can be searched for plaintext.
 */
#ifndef TESTS_WIRE_T_H
#define TESTS_WIRE_T_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define T_UNUSED __attribute__((unused))
#define T_MARK "PLAIN-TEXT-MARK!"

/* ---- saying no ---- */

static const char *t_name = "?"; /* the running case */

T_UNUSED __attribute__((format(printf, 3, 4), noreturn)) static void t_fail(const char *file, int line,
                                                                            const char *fmt, ...) {
    char what[512], text[768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    int n = snprintf(text, sizeof text, "# %s: %s:%d: %s\n", t_name, file, line, what);
    /* One call, past stdio: a failing case may have a broken stdout of its own. */
    if (n > 0)
        (void)!syscall(SYS_write, 2, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    syscall(SYS_exit_group, 1);
    __builtin_unreachable();
}

#define FAIL(...) t_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            FAIL("%s (errno %s)", #cond, strerrorname_np(errno));                                            \
    } while (0)
#define EQ(got, want)                                                                                        \
    do {                                                                                                     \
        long long got_ = (long long)(got), want_ = (long long)(want);                                        \
        if (got_ != want_)                                                                                   \
            FAIL("%s is %lld, not %lld (errno %s)", #got, got_, want_, strerrorname_np(errno));              \
    } while (0)
/* Evaluates to the call's value; fails on -1. */
#define SYS(call)                                                                                            \
    __extension__({                                                                                          \
        __typeof__(call) value_ = (call);                                                                    \
        if (value_ == (__typeof__(value_))-1)                                                                \
            FAIL("%s: %s", #call, strerrorname_np(errno));                                                   \
        value_;                                                                                              \
    })
#define ERR(call, want)                                                                                      \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        long long value_ = (long long)(call);                                                                \
        if (value_ != -1 || errno != (want))                                                                 \
            FAIL("%s is %lld with %s, not -1 with %s", #call, value_,                                        \
                 errno ? strerrorname_np(errno) : "no errno", strerrorname_np(want));                        \
    } while (0)
#define SKIP(why)                                                                                            \
    do {                                                                                                     \
        fprintf(stderr, "# %s: skipped: %s\n", t_name, why);                                                 \
        _exit(77);                                                                                           \
    } while (0)

T_UNUSED static bool t_mtls(void) {
    const char *mode = getenv("WIRE_MODE");
    return mode && strcmp(mode, "mtls") == 0;
}

/* ThreadSanitizer runs a handler when the thread next calls what it knows, select and pselect not being among
 * that. */
T_UNUSED static void t_prompt_signals(void) {
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer holds signals back");
#endif
}

T_UNUSED static int t_slow(void) {
    const char *slow = getenv("WIRE_SLOW");
    int n = slow ? atoi(slow) : 1;
    return n > 0 ? n : 1;
}

/* ---- cases ---- */

struct t_case {
    const char *name;
    void (*run)(void);
};
#define T_CASE(fn)                                                                                           \
    { #fn, fn }
#define T_MAIN(...)                                                                                          \
    static const struct t_case t_cases[] = {__VA_ARGS__};                                                    \
    int main(void) {                                                                                         \
        return t_run(t_cases, sizeof t_cases / sizeof *t_cases);                                             \
    }

T_UNUSED static long long t_now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

T_UNUSED static void t_sleep_ms(int ms) {
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000l};
    while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
        ;
}

/* Waits for a case; kills its process group when its time is over. Returns a wait status, or -1 for that. */
T_UNUSED static int t_reap(pid_t pid, long long deadline) {
    int status;
    for (int pause = 1;; pause = pause < 10 ? pause + 1 : pause) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            return status;
        if (t_now_ms() > deadline) {
            kill(-pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        t_sleep_ms(pause);
    }
}

T_UNUSED static int t_one(const struct t_case *c, size_t number) {
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        return 1;
    }
    if (pid == 0) {
        t_name = c->name;
        setpgid(0, 0);
        c->run();
        exit(0);
    }
    setpgid(pid, pid);
    int status = t_reap(pid, t_now_ms() + 20000ll * t_slow());
    kill(-pid, SIGKILL); /* whatever it left behind */
    if (status == 0 || (status > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 77)) {
        printf("ok %zu - %s%s\n", number, c->name, status ? " # SKIP" : "");
        return status ? 77 : 0;
    }
    if (status < 0)
        printf("not ok %zu - %s # hangs\n", number, c->name);
    else if (WIFSIGNALED(status))
        printf("not ok %zu - %s # %s\n", number, c->name, strsignal(WTERMSIG(status)));
    else
        printf("not ok %zu - %s\n", number, c->name);
    return 1;
}

T_UNUSED static int t_run(const struct t_case *cases, size_t n) {
    const char *only = getenv("WIRE_CASE");
    size_t failed = 0, skipped = 0;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (only) {
        for (size_t i = 0; i < n; i++)
            if (strcmp(cases[i].name, only) == 0) {
                t_name = only;
                cases[i].run();
                printf("1..1\nok 1 - %s\n", only);
                return 0;
            }
        fprintf(stderr, "no case %s\n", only);
        return 1;
    }
    printf("1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        int rc = t_one(&cases[i], i + 1);
        failed += rc == 1;
        skipped += rc == 77;
    }
    return failed ? 1 : skipped == n ? 77 : 0;
}

/* ---- bytes ---- */

T_UNUSED static uint64_t t_mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* The eight bytes of the stream at offset 8 * i. */
T_UNUSED static uint64_t t_word(uint64_t i) {
    uint64_t w;
    if ((i & 7) > 1)
        return t_mix(i);
    memcpy(&w, T_MARK + (i & 7) * 8, 8);
    return w;
}

T_UNUSED static void t_fill(void *buf, uint64_t off, size_t n) {
    unsigned char *p = buf;
    while (n > 0) {
        uint64_t w = t_word(off >> 3);
        size_t skip = off & 7, len = 8 - skip < n ? 8 - skip : n;
        memcpy(p, (unsigned char *)&w + skip, len);
        p += len, off += len, n -= len;
    }
}

/* Number of leading bytes that are as t_fill would have made them. */
T_UNUSED static size_t t_same(const void *buf, uint64_t off, size_t n) {
    const unsigned char *p = buf;
    for (size_t done = 0; done < n;) {
        uint64_t w = t_word(off >> 3);
        size_t skip = off & 7, len = 8 - skip < n - done ? 8 - skip : n - done;
        if (memcmp(p + done, (unsigned char *)&w + skip, len) != 0) {
            while (p[done] == ((unsigned char *)&w)[skip])
                done++, skip++;
            return done;
        }
        done += len, off += len;
    }
    return n;
}

#define SAME(buf, off, n)                                                                                    \
    do {                                                                                                     \
        size_t n_ = (size_t)(n), same_ = t_same(buf, (uint64_t)(off), n_);                                   \
        if (same_ != n_)                                                                                     \
            FAIL("byte %zu of %zu at offset %llu is wrong", same_, n_, (unsigned long long)(off));           \
    } while (0)

T_UNUSED static bool t_wait(int fd, short events, int ms) {
    struct pollfd p = {.fd = fd, .events = events};
    int rc;
    while ((rc = poll(&p, 1, ms)) < 0 && errno == EINTR)
        ;
    return rc > 0;
}

/* Sends n bytes of the stream from `off`, however long that takes. */
T_UNUSED static void t_put_at(const char *file, int line, int fd, uint64_t off, size_t n) {
    unsigned char buf[16384];
    while (n > 0) {
        size_t want = n < sizeof buf ? n : sizeof buf;
        t_fill(buf, off, want);
        ssize_t got = send(fd, buf, want, MSG_NOSIGNAL);
        if (got < 0 && errno == EAGAIN) {
            t_wait(fd, POLLOUT, 1000);
            continue;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            t_fail(file, line, "send at offset %llu: %zd, %s", (unsigned long long)off, got,
                   strerrorname_np(errno));
        off += (uint64_t)got, n -= (size_t)got;
    }
}
#define PUT(fd, off, n) t_put_at(__FILE__, __LINE__, fd, (uint64_t)(off), (size_t)(n))

/* Receives n bytes and checks that they are the stream's from `off`. */
T_UNUSED static void t_get_at(const char *file, int line, int fd, uint64_t off, size_t n) {
    unsigned char buf[16384];
    while (n > 0) {
        ssize_t got = recv(fd, buf, n < sizeof buf ? n : sizeof buf, 0);
        if (got < 0 && errno == EAGAIN) {
            t_wait(fd, POLLIN, 1000);
            continue;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            t_fail(file, line, "recv at offset %llu, %zu to go: %zd, %s", (unsigned long long)off, n, got,
                   strerrorname_np(errno));
        size_t same = t_same(buf, off, (size_t)got);
        if (same != (size_t)got)
            t_fail(file, line, "byte at offset %llu is wrong", (unsigned long long)(off + same));
        off += (uint64_t)got, n -= (size_t)got;
    }
}
#define GET(fd, off, n) t_get_at(__FILE__, __LINE__, fd, (uint64_t)(off), (size_t)(n))

/* The peer is done: recv gives 0, now or when it comes. */
T_UNUSED static void t_end_at(const char *file, int line, int fd) {
    char c;
    ssize_t got;
    while ((got = recv(fd, &c, 1, 0)) < 0 && (errno == EAGAIN || errno == EINTR))
        t_wait(fd, POLLIN, 1000);
    if (got != 0)
        t_fail(file, line, "recv is %zd (%s), not the end", got, strerrorname_np(errno));
}
#define END(fd) t_end_at(__FILE__, __LINE__, fd)

/* ---- sockets ---- */

struct t_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_storage ss;
    };
    socklen_t len;
};

T_UNUSED static struct t_addr t_loopback(int family) {
    struct t_addr a;
    memset(&a, 0, sizeof a);
    a.sa.sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a.len = sizeof a.in;
    } else {
        a.in6.sin6_addr = in6addr_loopback;
        a.len = sizeof a.in6;
    }
    return a;
}

T_UNUSED static struct t_addr t_local(int fd) {
    struct t_addr a = {.len = sizeof a.ss};
    SYS(getsockname(fd, &a.sa, &a.len));
    return a;
}

T_UNUSED static bool t_has_ipv6(void) {
    struct t_addr a = t_loopback(AF_INET6);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool can = fd >= 0 && bind(fd, &a.sa, a.len) == 0;
    if (fd >= 0)
        close(fd);
    return can;
}

/* A listener on loopback; its address by t_local(). */
T_UNUSED static int t_listen(int family) {
    struct t_addr a = t_loopback(family);
    int fd = SYS(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(bind(fd, &a.sa, a.len));
    SYS(listen(fd, 128));
    return fd;
}

T_UNUSED static int t_dial(struct t_addr to) {
    int fd = SYS(socket(to.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(connect(fd, &to.sa, to.len));
    return fd;
}

T_UNUSED static void t_nonblock(int fd, bool on) {
    int flags = SYS(fcntl(fd, F_GETFL));
    SYS(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

/* Both ends in one thread, connect before accept; nothing has been sent yet. p[0] connected, p[1] was
 * accepted. */
T_UNUSED static void t_pair_cold(int family, int p[2]) {
    int l = t_listen(family);
    p[0] = t_dial(t_local(l));
    p[1] = SYS(accept4(l, NULL, NULL, SOCK_CLOEXEC));
    close(l);
}

/* The same after a byte went each way: whatever the connection needs at its start lies behind. */
T_UNUSED static void t_pair(int p[2]) {
    char c = 'a';
    t_pair_cold(AF_INET, p);
    EQ(send(p[0], &c, 1, 0), 1);
    EQ(recv(p[1], &c, 1, 0), 1);
    EQ(send(p[1], &c, 1, 0), 1);
    EQ(recv(p[0], &c, 1, 0), 1);
}

T_UNUSED static void t_close_pair(int p[2]) {
    SYS(close(p[0]));
    SYS(close(p[1]));
}

/* How many connections this process has ended, as the library tells in its trace (mode mtls). */
T_UNUSED static int t_ended(void) {
    const char *trace = getenv("MESH_TRACE");
    char line[1024], mine[64];
    int n = 0;
    FILE *f = trace && strchr(trace, ':') ? fopen(strchr(trace, ':') + 1, "re") : NULL;
    snprintf(mine, sizeof mine, "meshshim[%d] info closed ", getpid());
    while (f && fgets(line, sizeof line, f))
        n += strncmp(line, mine, strlen(mine)) == 0;
    if (f)
        fclose(f);
    return n;
}

/* ---- past every name that a library can stand for: -errno ---- */

T_UNUSED static long t_raw3(long nr, long a, long b, long c) {
#if defined(__x86_64__)
    long ret;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return ret;
#else
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
#endif
}

/* ---- threads and processes ---- */

T_UNUSED static pthread_t t_thread(void *(*run)(void *), void *arg) {
    pthread_t t;
    EQ(pthread_create(&t, NULL, run, arg), 0);
    return t;
}

T_UNUSED static void *t_join(pthread_t t) {
    void *value;
    EQ(pthread_join(t, &value), 0);
    return value;
}

/* A child that runs fn(arg) and exits 0; what fails in it fails the case at t_child_end(). */
T_UNUSED static pid_t t_child(void (*fn)(void *), void *arg) {
    pid_t pid = SYS(fork());
    if (pid == 0) {
        fn(arg);
        _exit(0);
    }
    return pid;
}

T_UNUSED static void t_child_end_at(const char *file, int line, pid_t pid) {
    int status;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
        ;
    if (got != pid || status != 0)
        t_fail(file, line, "child %d: status 0x%x", (int)pid, status);
}
#define CHILD_END(pid) t_child_end_at(__FILE__, __LINE__, pid)

#endif
