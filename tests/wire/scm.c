// SPDX-License-Identifier: Apache-2.0
// Connections in messages between processes: to a worker, to a program of its own, back again.
#include <sys/stat.h>
#include "t.h"

extern char **environ;
enum { PIECE = 2000 };

static void give(int unix_fd, int fd, bool many) {
    char c = 'x';
    struct iovec iov = {&c, 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } u = {.head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct mmsghdr m = {
        .msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof u.room}};
    memcpy(CMSG_DATA(&u.head), &fd, sizeof fd);
    if (many)
        EQ(sendmmsg(unix_fd, &m, 1, 0), 1);
    else
        EQ(sendmsg(unix_fd, &m.msg_hdr, 0), 1);
    EQ(*(int *)(void *)CMSG_DATA(&u.head), fd); // the caller's message is as it was
}

static int take(int unix_fd, int flags) {
    char c;
    int fd;
    struct iovec iov = {&c, 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } u;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof u.room};
    EQ(recvmsg(unix_fd, &m, flags), 1);
    CHECK(m.msg_controllen >= CMSG_LEN(sizeof(int)));
    memcpy(&fd, CMSG_DATA(&u.head), sizeof fd);
    return fd;
}

static void echo(int fd) {
    char buf[8192];
    ssize_t n;
    while ((n = SYS(recv(fd, buf, sizeof buf, 0))) > 0)
        for (ssize_t done = 0; done < n;)
            done += SYS(send(fd, buf + done, (size_t)(n - done), 0));
    SYS(close(fd));
}

static pid_t worker(int pair[2]) {
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(close(pair[0]));
        for (int i = 0; i < 3; i++)
            echo(take(pair[1], 0));
        _exit(0);
    }
    SYS(close(pair[1]));
    return pid;
}

static void echoes_to_its_end(int fd, uint64_t off) {
    PUT(fd, off, PIECE);
    GET(fd, off, PIECE);
    SYS(shutdown(fd, SHUT_WR));
    END(fd);
    SYS(close(fd));
}

static void used_connections_to_a_worker(void) {
    int u[2], p[2], l = t_listen(AF_INET); // the listener is what makes sender and worker one tree
    pid_t pid = worker(u);
    for (int i = 0; i < 3; i++) {
        t_pair(p);
        give(u[0], p[1], i & 1);
        SYS(close(p[1]));
        echoes_to_its_end(p[0], i);
    }
    SYS(close(l));
    CHILD_END(pid);
}

static void untouched_connections_to_a_worker(void) {
    int u[2], p[2], l = t_listen(AF_INET);
    pid_t pid = worker(u);
    for (int i = 0; i < 3; i++) {
        t_pair_cold(AF_INET, p);
        give(u[0], p[1], false);
        SYS(close(p[1]));
        echoes_to_its_end(p[0], i);
    }
    SYS(close(l));
    CHILD_END(pid);
}

static void with_data_waiting(void) {
    int u[2], p[2], l = t_listen(AF_INET);
    pid_t pid = worker(u);
    for (int i = 0; i < 3; i++) {
        t_pair(p);
        PUT(p[0], 0, 10000);
        CHECK(t_wait(p[1], POLLIN, 10000));
        GET(p[1], 0, 3000);
        give(u[0], p[1], false);
        SYS(close(p[1]));
        SYS(shutdown(p[0], SHUT_WR));
        GET(p[0], 3000, 7000);
        END(p[0]);
        SYS(close(p[0]));
    }
    SYS(close(l));
    CHILD_END(pid);
}

static void to_oneself(void) {
    int u[2], p[2];
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, u));
    t_pair(p);
    give(u[0], p[1], false);
    int peeked = take(u[1], MSG_PEEK), fd = take(u[1], MSG_CMSG_CLOEXEC);
    CHECK(fd != p[1] && peeked != fd);
    EQ(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    PUT(p[0], 0, PIECE);
    GET(fd, 0, PIECE);
    SYS(close(p[1]));
    SYS(close(peeked));
    PUT(fd, 0, PIECE);
    GET(p[0], 0, PIECE);
    SYS(close(fd));
    END(p[0]);
}

// What comes back untouched, and twice, is one connection.
static void untouched_to_oneself(void) {
    int u[2], p[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, u));
    t_pair_cold(AF_INET, p);
    give(u[0], p[1], false);
    give(u[0], p[1], false);
    int a = take(u[1], 0), b = take(u[1], 0);
    SYS(close(p[1]));
    PUT(p[0], 0, PIECE);
    GET(a, 0, PIECE);
    PUT(b, 0, PIECE);
    SYS(close(b));
    GET(p[0], 0, PIECE);
    SYS(close(a));
    END(p[0]);
}

static void one_that_nobody_picks_up(void) {
    int u[2], p[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, u));
    t_pair(p);
    give(u[0], p[1], false);
    PUT(p[0], 0, PIECE); // the sender's own descriptor goes on
    GET(p[1], 0, PIECE);
    SYS(close(u[0]));
    SYS(close(u[1]));
    SYS(close(p[1]));
    END(p[0]);
}

static void other_descriptors_pass_as_they_are(void) {
    int u[2], v[2], p[2];
    char b[4];
    t_pair(p); // the library has reason to look at every message
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, u));
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, v));
    EQ(send(v[0], "abc", 3, 0), 3);
    give(u[0], v[1], false);
    int fd = take(u[1], 0);
    EQ(recv(fd, b, sizeof b, 0), 3);
    give(u[0], 0, true);
    struct stat x, y;
    SYS(fstat(0, &x));
    SYS(fstat(take(u[1], 0), &y));
    EQ(x.st_ino, y.st_ino);
}

// Another program, another tree: what nobody has touched it may have (a cluster's master hands its
// connections on).
static void accepted_here_served_by_another_program(void) {
    static char number[16];
    char *argv[] = {"python3", "-c",
                    "import socket, sys, array\n"
                    "u = socket.socket(fileno=int(sys.argv[1]))\n"
                    "_, anc, _, _ = u.recvmsg(1, socket.CMSG_SPACE(4))\n"
                    "c = socket.socket(fileno=array.array('i', anc[0][2][:4])[0])\n"
                    "while d := c.recv(4096): c.sendall(d)\n"
                    "c.close()\n",
                    number, NULL};
    int u[2];
    if (access("/usr/bin/python3", X_OK) != 0)
        SKIP("no python3");
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, u));
    snprintf(number, sizeof number, "%d", u[1]);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(fcntl(u[1], F_SETFD, 0));
        execv("/usr/bin/python3", argv);
        _exit(127);
    }
    int p[2];
    t_pair_cold(AF_INET, p);
    give(u[0], p[1], false);
    SYS(close(p[1]));
    echoes_to_its_end(p[0], 0);
    CHILD_END(pid);
}

// A receiver without the library holds nothing that plaintext could be written to.
static void receiver_without_the_library(void) {
    static char number[16];
    char *argv[] = {"python3", "-c",
                    "import socket, sys, array, os\n"
                    "u = socket.socket(fileno=int(sys.argv[1]))\n"
                    "_, anc, _, _ = u.recvmsg(1, socket.CMSG_SPACE(4))\n"
                    "fd = array.array('i', anc[0][2][:4])[0]\n"
                    "try: os.write(fd, b'PLAIN-TEXT-MARK!')\n"
                    "except OSError: pass\n",
                    number, NULL};
    char *env[] = {"MESH_NONE=1", NULL};
    int u[2], p[2];
    if (access("/usr/bin/python3", X_OK) != 0)
        SKIP("no python3");
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, u));
    snprintf(number, sizeof number, "%d", u[1]);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(fcntl(u[1], F_SETFD, 0));
        execve("/usr/bin/python3", argv, env);
        _exit(127);
    }
    t_pair(p);
    give(u[0], p[1], false);
    CHILD_END(pid);
    if (!t_mtls())
        return;
    CHECK(!t_wait(p[0], POLLIN, 50));
    PUT(p[1], 0, PIECE);
    GET(p[0], 0, PIECE);
}

T_MAIN(T_CASE(used_connections_to_a_worker), T_CASE(untouched_connections_to_a_worker),
       T_CASE(with_data_waiting), T_CASE(to_oneself), T_CASE(untouched_to_oneself),
       T_CASE(one_that_nobody_picks_up), T_CASE(other_descriptors_pass_as_they_are),
       T_CASE(accepted_here_served_by_another_program), T_CASE(receiver_without_the_library))
