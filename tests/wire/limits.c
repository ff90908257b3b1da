// SPDX-License-Identifier: Apache-2.0
// Tight quarters: few descriptors, low descriptors closed, a limit on memory, a new root, another user.
#include <grp.h>
#include <malloc.h>
#include <sys/resource.h>
#include "t.h"

static void exchange(int c, int s) {
    PUT(c, 0, 40000);
    GET(s, 0, 40000);
    PUT(s, 0, 40000);
    GET(c, 0, 40000);
}

static void descriptor_limit(rlim_t n) {
    struct rlimit r;
    SYS(getrlimit(RLIMIT_NOFILE, &r));
    r.rlim_cur = n;
    if (r.rlim_max < n)
        SKIP("the hard limit is too low");
    SYS(setrlimit(RLIMIT_NOFILE, &r));
}

static void with_64_descriptors(void) {
    int p[2];
    descriptor_limit(64);
    for (int i = 0; i < 20; i++) {
        t_pair(p);
        exchange(p[0], p[1]);
        t_close_pair(p);
    }
}

static void out_of_descriptors(void) {
    int l, fds[64], n = 0, s;
    descriptor_limit(64);
    l = t_listen(AF_INET);
    int c = t_dial(t_local(l));
    while (n < 64 && (fds[n] = dup(0)) >= 0)
        n++;
    EQ(errno, EMFILE);
    CHECK(n > 40); // the library keeps few for itself
    ERR(accept(l, NULL, NULL), EMFILE);
    ERR(socket(AF_INET, SOCK_STREAM, 0), EMFILE);
    SYS(close(fds[--n]));
    s = SYS(accept(l, NULL, NULL)); // the caller is still there
    exchange(c, s);
}

static void connect_with_the_last_descriptor(void) {
    int l, fds[64], n = 0;
    char b;
    descriptor_limit(64);
    l = t_listen(AF_INET);
    struct t_addr a = t_local(l);
    int c = SYS(socket(AF_INET, SOCK_STREAM, 0));
    while (n < 64 && (fds[n] = dup(0)) >= 0)
        n++;
    // Nothing free at all: the connection may fail with a clear errno, or work; it must not be half of
    // either.
    if (connect(c, &a.sa, a.len) != 0) {
        CHECK(t_mtls() && (errno == EMFILE || errno == EACCES || errno == ENOMEM));
        return;
    }
    SYS(close(fds[--n]));
    int s = SYS(accept(l, NULL, NULL));
    if (send(c, T_MARK, 16, MSG_NOSIGNAL) != 16)
        CHECK(t_mtls());
    else if (recv(s, &b, 1, 0) != 1)
        CHECK(t_mtls());
}

static void a_high_limit(void) {
    int p[2];
    struct rlimit r;
    SYS(getrlimit(RLIMIT_NOFILE, &r));
    descriptor_limit(r.rlim_max < 1000000 ? r.rlim_max : 1000000);
    SYS(getrlimit(RLIMIT_NOFILE, &r));
    t_pair(p);
    int high = SYS(fcntl(p[0], F_DUPFD, (int)r.rlim_cur - 1));
    SYS(close(p[0]));
    exchange(high, p[1]);
    SYS(close(high));
    END(p[1]);
}

static void standard_descriptors_closed(void) {
    int p[2];
    close(0);
    close(1);
    t_pair(p);
    CHECK(p[0] < 5 || p[1] < 5); // low numbers are given out as ever
    exchange(p[0], p[1]);
}

static void lowest_free_number(void) {
    int p[2], q[2];
    t_pair(p);
    int expect = SYS(dup(0));
    SYS(close(expect));
    q[0] = SYS(socket(AF_INET, SOCK_STREAM, 0));
    EQ(q[0], expect); // nobody took a low number meanwhile
    exchange(p[0], p[1]);
}

static void another_user(void) {
    int p[2], l = t_listen(AF_INET);
    if (getuid() != 0)
        SKIP("not root");
    t_pair(p);
    SYS(setgroups(0, NULL));
    SYS(setresgid(65534, 65534, 65534));
    SYS(setresuid(65534, 65534, 65534));
    exchange(p[0], p[1]);
    int c = t_dial(t_local(l)), s = SYS(accept(l, NULL, NULL));
    exchange(c, s);
}

// A server that has forked may have a thread of the library's; libc asks every thread to follow.
static void another_user_after_a_fork(void) {
    int p[2], l = t_listen(AF_INET);
    if (getuid() != 0)
        SKIP("not root");
    pid_t pid = SYS(fork());
    if (pid == 0)
        _exit(0);
    CHILD_END(pid);
    t_pair(p);
    SYS(setresgid(65534, 65534, 65534));
    SYS(setresuid(65534, 65534, 65534));
    exchange(p[0], p[1]);
    SYS(close(l));
}

static void another_root(void) {
    char dir[] = "/tmp/wire-root.XXXXXX";
    int p[2], l = t_listen(AF_INET);
    if (getuid() != 0)
        SKIP("not root");
    CHECK(mkdtemp(dir));
    t_pair(p);
    SYS(chroot(dir));
    SYS(chdir("/"));
    exchange(p[0], p[1]);
    int c = t_dial(t_local(l)), s = SYS(accept(l, NULL, NULL));
    exchange(c, s);
}

static void hundreds_of_connections(void) {
    enum { MANY = 400 };
    static int c[MANY], s[MANY];
    int l;
    descriptor_limit(2048);
    l = t_listen(AF_INET);
    for (int i = 0; i < MANY; i++) {
        c[i] = t_dial(t_local(l));
        s[i] = SYS(accept(l, NULL, NULL));
        PUT(c[i], i, 100);
        GET(s[i], i, 100);
    }
    for (int i = 0; i < MANY; i++) {
        PUT(s[i], i, 100);
        GET(c[i], i, 100);
        SYS(close(c[i]));
        END(s[i]);
        SYS(close(s[i]));
    }
}

// Connections on which the server never says a word cost their client next to nothing.
static void hundreds_of_quiet_connections(void) {
    enum { MANY = 400, EACH = 1024, OF_PASSAGE = 3 << 20 };
    static int c[MANY];
    int all[2];
    char b;
    descriptor_limit(2048);
    SYS(pipe(all));
    int l = t_listen(AF_INET);
    size_t before = mallinfo2().uordblks;
    pid_t server = SYS(fork());
    if (server == 0) {
        for (int i = 0; i < MANY; i++)
            GET(SYS(accept(l, NULL, NULL)), i, 100);
        EQ(write(all[1], "", 1), 1);
        pause();
    }
    for (int i = 0; i < MANY; i++) {
        c[i] = t_dial(t_local(l));
        PUT(c[i], i, 100);
    }
    EQ(read(all[0], &b, 1), 1);
    CHECK(mallinfo2().uordblks < before + MANY * EACH + OF_PASSAGE);
    SYS(kill(server, SIGKILL));
}

static rlim_t memory_limit(size_t more) {
    struct rlimit r;
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    CHECK(f && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    if (pages > 1ul << 28)
        SKIP("a sanitizer has mapped the address space");
    SYS(getrlimit(RLIMIT_AS, &r));
    rlim_t was = r.rlim_cur;
    r.rlim_cur = pages * 4096 + more;
    SYS(setrlimit(RLIMIT_AS, &r));
    return was;
}

static void memory_unlimited(rlim_t was) {
    struct rlimit r;
    SYS(getrlimit(RLIMIT_AS, &r));
    r.rlim_cur = was;
    SYS(setrlimit(RLIMIT_AS, &r));
}

// Callers that nobody accepts hold as much as they may of what the library keeps unsent bytes in.
static int hold_all(struct t_addr to, int *fds, int most) {
    static char buf[65536];
    for (int i = 0; i < most; i++) {
        struct linger l = {1, 0};
        fds[i] = SYS(socket(AF_INET, SOCK_STREAM, 0));
        if (connect(fds[i], &to.sa, to.len) != 0)
            return i + 1;
        SYS(setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &l, sizeof l));
        t_nonblock(fds[i], true);
        ssize_t r, got = 0;
        for (size_t n = sizeof buf; n; n /= 2)
            while ((r = send(fds[i], buf, n, MSG_NOSIGNAL)) > 0)
                got += r;
        if (got < 16384)
            return i + 1;
    }
    return most;
}

// A stream whose rest finds no room is whole up to where it ends, and then it has ended.
static void no_room_for_what_waits(void) {
    enum { PIECE = 65536, HOLDERS = 24 };
    static char buf[PIECE];
    int p[2], holders[HOLDERS], small = 4096;
    rlim_t was = memory_limit(48 << 20); // the library makes its own room at listen()
    int l = t_listen(AF_INET);
    memory_unlimited(was);
    t_pair(p);
    SYS(setsockopt(p[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    t_nonblock(p[0], true);
    int n = hold_all(t_local(l), holders, HOLDERS);
    uint64_t off = 0, got = 0;
    ssize_t r;
    for (;; off += (uint64_t)r) {
        t_fill(buf, off, PIECE);
        if ((r = send(p[0], buf, PIECE, MSG_NOSIGNAL)) < 0)
            break;
    }
    bool ended = errno != EAGAIN;
    CHECK(!ended || errno == ECONNRESET);
    EQ(ended, t_mtls());
    while (n > 0)
        SYS(close(holders[--n]));
    if (ended)
        ERR(send(p[0], buf, 1, MSG_NOSIGNAL), ECONNRESET);
    else
        SYS(shutdown(p[0], SHUT_WR));
    for (; (r = recv(p[1], buf, PIECE, 0)) > 0; got += (uint64_t)r)
        SAME(buf, got, r);
    EQ(r, ended ? -1 : 0);
    CHECK(!ended || errno == ECONNRESET);
    CHECK(ended || got == off);
}

T_MAIN(T_CASE(no_room_for_what_waits), T_CASE(with_64_descriptors), T_CASE(out_of_descriptors),
       T_CASE(connect_with_the_last_descriptor), T_CASE(a_high_limit), T_CASE(standard_descriptors_closed),
       T_CASE(lowest_free_number), T_CASE(another_user), T_CASE(another_user_after_a_fork),
       T_CASE(another_root), T_CASE(hundreds_of_connections), T_CASE(hundreds_of_quiet_connections))
