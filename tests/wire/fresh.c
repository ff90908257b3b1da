// SPDX-License-Identifier: Apache-2.0
// Sockets connected by somebody else than who writes: a child, a parent, a thread with a dup, the receiver of
// a message, a program. Whoever it is, nothing may leave in clear.
#include <spawn.h>
#include "t.h"

extern char **environ;
enum { PIECE = 2000 };

static void exchange(int c, int s) {
    PUT(c, 0, PIECE);
    GET(s, 0, PIECE);
    PUT(s, 0, PIECE);
    GET(c, 0, PIECE);
}

static int tcp(void) {
    return SYS(socket(AF_INET, SOCK_STREAM, 0));
}

static void tell(int fd) {
    EQ(write(fd, "x", 1), 1);
}
static void told(int fd) {
    char c;
    EQ(read(fd, &c, 1), 1);
}

static void child_connects(bool stays) {
    int l = t_listen(AF_INET), c = tcp(), d = SYS(dup(c)), up[2], down[2];
    struct t_addr a = t_local(l);
    SYS(pipe(up));
    SYS(pipe(down));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(connect(c, &a.sa, a.len));
        PUT(c, 0, PIECE);
        if (stays) {
            tell(up[1]);
            told(down[0]);
        }
        _exit(0);
    }
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, PIECE);
    if (stays)
        told(up[0]);
    else
        CHILD_END(pid);
    exchange(c, s);
    exchange(d, s);
    if (stays) {
        tell(down[1]);
        CHILD_END(pid);
        exchange(c, s);
    }
    SYS(close(c));
    CHECK(!t_wait(s, POLLIN, 20)); // the other number has it still
    exchange(d, s);
    int before = t_ended();
    SYS(close(d));
    END(s);
    if (t_mtls())
        EQ(t_ended(), before + 1);
}

static void child_connects_and_stays(void) {
    child_connects(true);
}
static void child_connects_and_goes(void) {
    child_connects(false);
}

static void parent_connects_child_writes_first(void) {
    int l = t_listen(AF_INET), c = tcp(), go[2];
    struct t_addr a = t_local(l);
    SYS(pipe(go));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        told(go[0]);
        struct pollfd p = {.fd = c, .events = POLLOUT};
        EQ(poll(&p, 1, 10000), 1);
        PUT(c, 0, PIECE);
        GET(c, 0, PIECE);
        _exit(0);
    }
    SYS(connect(c, &a.sa, a.len));
    tell(go[1]);
    SYS(close(c));
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, PIECE);
    PUT(s, 0, PIECE);
    END(s);
    CHILD_END(pid);
}

static void child_is_refused_and_parent_connects(void) {
    int l = t_listen(AF_INET), c = tcp();
    struct t_addr a = t_local(l), none = a;
    int closed = t_listen(AF_INET);
    none = t_local(closed);
    SYS(close(closed));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        ERR(connect(c, &none.sa, none.len), ECONNREFUSED);
        _exit(0);
    }
    CHILD_END(pid);
    SYS(connect(c, &a.sa, a.len));
    exchange(c, SYS(accept(l, NULL, NULL)));
}

static void refused_with_a_dup_and_tried_again(void) {
    int l = t_listen(AF_INET), c = tcp(), d = SYS(dup(c)), closed = t_listen(AF_INET), q[2];
    struct t_addr a = t_local(l), none = t_local(closed);
    SYS(close(closed));
    for (int i = 0; i < 3; i++) {
        ERR(connect(i % 2 ? c : d, &none.sa, none.len), ECONNREFUSED);
        t_pair(q); // takes what the failed one gave back
        ERR(send(c, T_MARK, 16, MSG_NOSIGNAL), EPIPE);
        exchange(q[0], q[1]);
        t_close_pair(q);
    }
    SYS(connect(d, &a.sa, a.len));
    int s = SYS(accept(l, NULL, NULL));
    exchange(c, s);
    exchange(d, s);
    SYS(close(d));
    exchange(c, s);
}

static void dissolved_and_connected_again(void) {
    int l = t_listen(AF_INET), c = tcp();
    struct t_addr a = t_local(l);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    int d = SYS(dup(c));
    for (int i = 0; i < 3; i++) {
        SYS(connect(c, &a.sa, a.len));
        int s = SYS(accept(l, NULL, NULL));
        exchange(d, s);
        SYS(connect(i % 2 ? d : c, &none, sizeof none));
        EQ(send(c, T_MARK, 16, MSG_NOSIGNAL), -1);
        char b;
        CHECK(recv(s, &b, 1, 0) <= 0);
        SYS(close(s));
    }
}

struct writer {
    int fd;
    _Atomic bool stop;
};

// Writes as soon as it can, and often before.
static void *write_early(void *arg) {
    struct writer *w = arg;
    while (!w->stop && send(w->fd, T_MARK, 16, MSG_NOSIGNAL) < 0)
        ;
    return NULL;
}

static void a_thread_writes_while_another_connects(void) {
    int l = t_listen(AF_INET);
    struct t_addr a = t_local(l);
    char b[16];
    for (int i = 0; i < 40; i++) {
        int c = tcp();
        struct writer w = {.fd = i % 2 ? c : SYS(dup(c))};
        if (i % 4 == 3)
            t_nonblock(c, true);
        pthread_t t = t_thread(write_early, &w);
        if (connect(c, &a.sa, a.len) != 0)
            EQ(errno, EINPROGRESS);
        int s = SYS(accept(l, NULL, NULL));
        EQ(recv(s, b, sizeof b, MSG_WAITALL), 16);
        EQ(memcmp(b, T_MARK, 16), 0);
        w.stop = true;
        t_join(t);
        SYS(close(s));
        SYS(close(c));
        if (w.fd != c)
            SYS(close(w.fd));
    }
}

static void dup_while_another_thread_connects(void) {
    int l = t_listen(AF_INET);
    struct t_addr a = t_local(l);
    for (int i = 0; i < 20; i++) {
        int c = tcp(), d = SYS(dup(c)), e = SYS(fcntl(d, F_DUPFD, 100)), f = 200;
        SYS(dup2(e, f));
        SYS(connect(e, &a.sa, a.len));
        int s = SYS(accept(l, NULL, NULL));
        exchange(c, s);
        exchange(d, s);
        exchange(f, s);
        SYS(close(c));
        SYS(close(d));
        SYS(close(e));
        exchange(f, s);
        SYS(close(f));
        END(s);
        SYS(close(s));
    }
}

static void stream_made_before_connect(void) {
    int l = t_listen(AF_INET), c = tcp();
    struct t_addr a = t_local(l);
    FILE *f = fdopen(c, "w");
    CHECK(f);
    SYS(connect(c, &a.sa, a.len));
    int s = SYS(accept(l, NULL, NULL));
    EQ(fprintf(f, "%s", T_MARK), 16);
    EQ(fflush(f), 0);
    GET(s, 0, 16);
    EQ(fclose(f), 0);
    END(s);
}

// Bound here, made to listen by a child, accepted from by both.
static void child_listens(void) {
    int l = tcp();
    struct t_addr a = t_loopback(AF_INET);
    SYS(bind(l, &a.sa, a.len));
    a = t_local(l);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(listen(l, 10));
        _exit(0);
    }
    CHILD_END(pid);
    for (int i = 0; i < 2; i++) {
        int c = t_dial(a), s = SYS(accept(l, NULL, NULL));
        exchange(c, s);
        SYS(close(c));
        END(s);
    }
}

/* ---- messages ---- */

static void give(int unix_fd, int fd) {
    char c = 'x';
    struct iovec iov = {&c, 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } u = {.head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof u.room};
    memcpy(CMSG_DATA(&u.head), &fd, sizeof fd);
    EQ(sendmsg(unix_fd, &m, 0), 1);
}

static int take(int unix_fd) {
    char c;
    int fd;
    struct iovec iov = {&c, 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } u;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof u.room};
    EQ(recvmsg(unix_fd, &m, 0), 1);
    memcpy(&fd, CMSG_DATA(&u.head), sizeof fd);
    return fd;
}

static void sent_unconnected(bool receiver_connects) {
    int l = t_listen(AF_INET), u[2];
    struct t_addr a = t_local(l);
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, u));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        int c = take(u[1]);
        if (receiver_connects)
            SYS(connect(c, &a.sa, a.len));
        tell(u[1]);
        told(u[1]);
        PUT(c, 0, PIECE);
        tell(u[1]);
        told(u[1]);
        _exit(0);
    }
    int c = tcp();
    give(u[0], c);
    told(u[0]);
    if (!receiver_connects)
        SYS(connect(c, &a.sa, a.len));
    int s = SYS(accept(l, NULL, NULL));
    tell(u[0]);
    GET(s, 0, PIECE);
    told(u[0]);
    exchange(c, s);
    tell(u[0]);
    CHILD_END(pid);
    exchange(c, s);
}

static void sent_unconnected_and_connected_there(void) {
    sent_unconnected(true);
}
static void sent_unconnected_and_connected_here(void) {
    sent_unconnected(false);
}

static const char *const PYTHON = "/usr/bin/python3";

// Another program that knows nothing of ours: what it has connected is not ours to write to.
static void connected_by_another_tree(void) {
    static char number[16], port[16];
    char *argv[] = {"python3",
                    "-c",
                    "import socket, sys, array\n"
                    "u = socket.socket(fileno=int(sys.argv[1]))\n"
                    "_, anc, _, _ = u.recvmsg(1, socket.CMSG_SPACE(4))\n"
                    "c = socket.socket(fileno=array.array('i', anc[0][2][:4])[0])\n"
                    "c.connect(('127.0.0.1', int(sys.argv[2])))\n"
                    "c.send(b'PLAIN-TEXT-MARK!')\n"
                    "u.send(b'x'); u.recv(1)\n",
                    number,
                    port,
                    NULL};
    int u[2];
    if (access(PYTHON, X_OK) != 0)
        SKIP("no python3");
    int c = tcp();
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, u));
    pid_t pid = SYS(fork());
    if (pid == 0) { // no listener yet: there is no slab that it could share
        SYS(close(c));
        SYS(fcntl(u[1], F_SETFD, 0));
        snprintf(number, sizeof number, "%d", u[1]);
        char b[8] = "";
        EQ(read(u[1], b, 6), 6);
        snprintf(port, sizeof port, "%s", b);
        execv(PYTHON, argv);
        _exit(127);
    }
    int l = t_listen(AF_INET);
    char b[8];
    snprintf(b, sizeof b, "%06d", ntohs(t_local(l).in.sin_port));
    EQ(write(u[0], b, 6), 6);
    give(u[0], c);
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, 16);
    told(u[0]);
    struct iovec iov = {T_MARK, 16};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = sendmsg(c, &m, MSG_NOSIGNAL);
    EQ(n, t_mtls() ? -1 : 16);
    EQ(send(c, T_MARK, 16, MSG_NOSIGNAL), t_mtls() ? -1 : 16);
    tell(u[0]);
    CHILD_END(pid);
}

/* ---- programs ---- */

static void inherited_by_a_program(bool spawned) {
    static char script[64];
    char *argv[] = {"sh", "-c", script, NULL};
    int l = t_listen(AF_INET), c = tcp(), go[2], in = 60, back[2];
    struct t_addr a = t_local(l);
    pid_t pid;
    SYS(dup2(c, 70));
    SYS(close(c));
    c = 70;
    SYS(pipe(go));
    SYS(pipe(back));
    SYS(dup2(go[0], in));
    SYS(fcntl(go[1], F_SETFD, FD_CLOEXEC));
    snprintf(script, sizeof script, "read a <&60; printf %s >&70; read a <&60", T_MARK);
    if (spawned) {
        EQ(posix_spawnp(&pid, "bash", NULL, NULL, argv, environ), 0);
    } else if ((pid = SYS(fork())) == 0) {
        execvp("bash", argv);
        _exit(127);
    }
    SYS(connect(c, &a.sa, a.len));
    EQ(write(go[1], "go\n", 3), 3);
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, 16);
    EQ(write(go[1], "go\n", 3), 3);
    CHILD_END(pid);
    exchange(c, s);
}

static void inherited_over_exec(void) {
    inherited_by_a_program(false);
}
static void inherited_over_spawn(void) {
    inherited_by_a_program(true);
}

/* ---- behind our back ---- */

__attribute__((noinline)) static pid_t vfork_that_opens(int fd) {
    pid_t pid = vfork();
    if (pid == 0) {
        close(fd);
        int p[2], f = open("/dev/null", O_RDWR), g = socket(AF_INET, SOCK_STREAM, 0);
        _exit(f < 0 || g < 0 || pipe(p) != 0 || dup(f) < 0 || fcntl(f, F_DUPFD, fd) < 0);
    }
    return pid;
}

static void vfork_child_opens_on_our_numbers(void) {
    int p[2];
    t_pair(p);
    CHILD_END(vfork_that_opens(p[0]));
    exchange(p[0], p[1]);
    SYS(close(p[0]));
    END(p[1]);
}

// Closed and used for a pipe by instructions that no library sees: the pipe is a pipe.
static void closed_unseen_and_reused(void) {
    int p[2], q[2];
    char b[16];
    t_pair(p);
    SYS(pipe(q));
    EQ(t_raw3(SYS_close, p[0], 0, 0), 0);
    EQ(t_raw3(SYS_dup3, q[1], p[0], 0), p[0]);
    EQ(write(p[0], "a pipe", 6), 6);
    EQ(read(q[0], b, sizeof b), 6);
    EQ(memcmp(b, "a pipe", 6), 0);
    EQ(t_raw3(SYS_close, p[1], 0, 0), 0);
    EQ(t_raw3(SYS_dup3, q[0], p[1], 0), p[1]);
    EQ(write(p[0], "again", 5), 5);
    EQ(read(p[1], b, sizeof b), 5);
    EQ(memcmp(b, "again", 5), 0);
    SYS(close(p[0]));
    SYS(close(p[1]));
}

static void connected_by_an_unseen_child(void) {
    int l = t_listen(AF_INET), c = tcp(), up[2], status;
    struct t_addr a = t_local(l);
    SYS(pipe(up));
    pid_t pid = (pid_t)t_raw3(SYS_clone, SIGCHLD, 0, 0);
    if (pid == 0) {
        SYS(connect(c, &a.sa, a.len));
        PUT(c, 0, PIECE);
        tell(up[1]);
        t_sleep_ms(200);
        syscall(SYS_exit, 0);
    }
    int s = SYS(accept(l, NULL, NULL));
    GET(s, 0, PIECE);
    told(up[0]);
    exchange(c, s);
    EQ(waitpid(pid, &status, 0), pid);
    exchange(c, s);
}

T_MAIN(T_CASE(child_connects_and_stays), T_CASE(child_connects_and_goes),
       T_CASE(parent_connects_child_writes_first), T_CASE(child_is_refused_and_parent_connects),
       T_CASE(refused_with_a_dup_and_tried_again), T_CASE(dissolved_and_connected_again),
       T_CASE(a_thread_writes_while_another_connects), T_CASE(dup_while_another_thread_connects),
       T_CASE(stream_made_before_connect), T_CASE(child_listens),
       T_CASE(sent_unconnected_and_connected_there), T_CASE(sent_unconnected_and_connected_here),
       T_CASE(connected_by_another_tree), T_CASE(inherited_over_exec), T_CASE(inherited_over_spawn),
       T_CASE(vfork_child_opens_on_our_numbers), T_CASE(closed_unseen_and_reused),
       T_CASE(connected_by_an_unseen_child))
