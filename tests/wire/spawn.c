// SPDX-License-Identifier: Apache-2.0
// Programs started while connections stream, and connections that cross exec.
#include <spawn.h>
#include "t.h"

extern char **environ;
enum { PIECE = 2000 };

static _Atomic bool over;

static void *stream(void *arg) {
    int *p = arg;
    uint64_t i = 0;
    do {
        PUT(p[0], i * PIECE, PIECE);
        GET(p[1], i * PIECE, PIECE);
        PUT(p[1], i * PIECE, PIECE);
        GET(p[0], i * PIECE, PIECE);
    } while (i++, !over);
    return (void *)(uintptr_t)i;
}

enum { STREAMS = 4 };
static int pairs[STREAMS][2];
static pthread_t streams[STREAMS];

static void streams_start(void) {
    for (int i = 0; i < STREAMS; i++) {
        t_pair(pairs[i]);
        streams[i] = t_thread(stream, pairs[i]);
    }
}

static void streams_end(void) {
    over = true;
    for (int i = 0; i < STREAMS; i++)
        CHECK((uintptr_t)t_join(streams[i]) > 0);
    for (int i = 0; i < STREAMS; i++) {
        SYS(close(pairs[i][0]));
        END(pairs[i][1]);
    }
}

static void ended_well(pid_t pid, int want) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        EQ(errno, EINTR);
    CHECK(WIFEXITED(status));
    EQ(WEXITSTATUS(status), want);
}

// As Python's subprocess: vfork, descriptors shut by range, exec.
__attribute__((noinline)) static pid_t vfork_and_exec(const char *program, char *const argv[]) {
    pid_t pid = vfork();
    if (pid == 0) {
        syscall(SYS_close_range, 3u, ~0u, 0u);
        execv(program, argv);
        _exit(127);
    }
    return pid;
}

static void vfork_with_close_range(void) {
    char *argv[] = {"true", NULL};
    streams_start();
    for (int i = 0; i < 25; i++)
        ended_well(vfork_and_exec("/bin/true", argv), 0);
    streams_end();
}

__attribute__((noinline)) static pid_t vfork_and_close(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        for (int fd = 3; fd < 200; fd++)
            close(fd); // in the child's table, but in our memory
        dup2(0, 3);
        execl("/bin/true", "true", NULL);
        _exit(127);
    }
    return pid;
}

static void vfork_child_closes_each_descriptor(void) {
    streams_start();
    for (int i = 0; i < 25; i++)
        ended_well(vfork_and_close(), 0);
    streams_end();
}

__attribute__((noinline)) static pid_t vfork_and_fail(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/does/not/exist", "x", NULL);
        _exit(errno == ENOENT ? 42 : 1);
    }
    return pid;
}

static void vfork_whose_exec_fails(void) {
    streams_start();
    for (int i = 0; i < 25; i++)
        ended_well(vfork_and_fail(), 42);
    streams_end();
}

static void spawn_with_file_actions(void) {
    char *argv[] = {"sh", "-c", "read x; echo got $x; exit 7", NULL};
    posix_spawn_file_actions_t fa;
    streams_start();
    for (int i = 0; i < 15; i++) {
        int in[2], out[2];
        pid_t pid;
        char b[32] = "";
        SYS(pipe2(in, O_CLOEXEC));
        SYS(pipe2(out, O_CLOEXEC));
        EQ(posix_spawn_file_actions_init(&fa), 0);
        EQ(posix_spawn_file_actions_adddup2(&fa, in[0], 0), 0);
        EQ(posix_spawn_file_actions_adddup2(&fa, out[1], 1), 0);
        EQ(posix_spawn_file_actions_addclosefrom_np(&fa, 3), 0);
        EQ(posix_spawnp(&pid, "sh", &fa, NULL, argv, environ), 0);
        posix_spawn_file_actions_destroy(&fa);
        SYS(close(in[0]));
        SYS(close(out[1]));
        EQ(write(in[1], "word\n", 5), 5);
        EQ(read(out[0], b, sizeof b), 9);
        EQ(strcmp(b, "got word\n"), 0);
        ended_well(pid, 7);
        SYS(close(in[1]));
        SYS(close(out[0]));
    }
    streams_end();
}

static void spawn_of_nothing(void) {
    char *argv[] = {"nothing", NULL};
    pid_t pid;
    streams_start();
    EQ(posix_spawn(&pid, "/does/not/exist", NULL, NULL, argv, environ), ENOENT);
    EQ(posix_spawnp(&pid, "no-such-program-anywhere", NULL, NULL, argv, environ), ENOENT);
    streams_end();
}

static void popen_and_system(void) {
    char line[32];
    streams_start();
    for (int i = 0; i < 8; i++) {
        FILE *f = popen("echo hello", "re");
        CHECK(f && fgets(line, sizeof line, f));
        EQ(strcmp(line, "hello\n"), 0);
        EQ(pclose(f), 0);
        EQ(system("exit 3") >> 8, 3);
    }
    streams_end();
}

static void fork_and_exec(void) {
    char *argv[] = {"true", NULL};
    streams_start();
    for (int i = 0; i < 15; i++) {
        pid_t pid = SYS(fork());
        if (pid == 0) {
            closefrom(3);
            execv("/bin/true", argv);
            _exit(127);
        }
        ended_well(pid, 0);
    }
    streams_end();
}

// ---- connections that cross ----

// The child's standard input and output are the connection; the program knows nothing of it.
static pid_t exec_on(int fd, char *const argv[], int other) {
    pid_t pid = SYS(fork());
    if (pid == 0) {
        close(other);
        dup2(fd, 0);
        dup2(fd, 1);
        if (fd > 1)
            close(fd);
        execvp(argv[0], argv);
        _exit(127);
    }
    return pid;
}

static void cat_on_a_used_connection(void) {
    char *argv[] = {"cat", NULL};
    int p[2];
    t_pair(p);
    pid_t pid = exec_on(p[1], argv, p[0]);
    SYS(close(p[1]));
    for (int i = 0; i < 10; i++) {
        PUT(p[0], i * PIECE, PIECE);
        GET(p[0], i * PIECE, PIECE);
    }
    SYS(shutdown(p[0], SHUT_WR));
    END(p[0]);
    ended_well(pid, 0);
}

static void cat_on_a_fresh_connection(void) {
    char *argv[] = {"cat", NULL};
    for (int end = 0; end < 2; end++) {
        int p[2];
        t_pair_cold(AF_INET, p);
        pid_t pid = exec_on(p[end], argv, p[!end]);
        SYS(close(p[end]));
        PUT(p[!end], 0, PIECE);
        GET(p[!end], 0, PIECE);
        SYS(shutdown(p[!end], SHUT_WR));
        END(p[!end]);
        ended_well(pid, 0);
        SYS(close(p[!end]));
    }
}

static void cat_with_data_already_waiting(void) {
    char *argv[] = {"cat", NULL};
    int p[2];
    t_pair(p);
    PUT(p[0], 0, 10000);
    CHECK(t_wait(p[1], POLLIN, 10000));
    GET(p[1], 0, 3000); // the rest is for the program
    pid_t pid = exec_on(p[1], argv, p[0]);
    SYS(close(p[1]));
    SYS(shutdown(p[0], SHUT_WR));
    GET(p[0], 3000, 7000);
    END(p[0]);
    ended_well(pid, 0);
}

static void parent_goes_on_when_the_program_ends(void) {
    char *argv[] = {"head", "-c", "2000", NULL};
    int p[2];
    t_pair(p);
    pid_t pid = exec_on(p[1], argv, p[0]);
    PUT(p[0], 0, PIECE);
    GET(p[0], 0, PIECE);
    ended_well(pid, 0);
    PUT(p[0], 5, PIECE);
    GET(p[1], 5, PIECE);
    PUT(p[1], 5, PIECE);
    GET(p[0], 5, PIECE);
}

static void program_on_a_high_descriptor(void) {
    char *argv[] = {"sh", "-c", "cat <&9 >&9", NULL};
    int p[2];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        close(p[0]);
        dup2(p[1], 9);
        execvp(argv[0], argv);
        _exit(127);
    }
    SYS(close(p[1]));
    PUT(p[0], 0, PIECE);
    GET(p[0], 0, PIECE);
    SYS(shutdown(p[0], SHUT_WR));
    END(p[0]);
    ended_well(pid, 0);
}

static void spawned_on_the_connection(void) {
    char *argv[] = {"cat", NULL};
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int p[2];
    t_pair(p);
    EQ(posix_spawn_file_actions_init(&fa), 0);
    EQ(posix_spawn_file_actions_adddup2(&fa, p[1], 0), 0);
    EQ(posix_spawn_file_actions_adddup2(&fa, p[1], 1), 0);
    EQ(posix_spawnp(&pid, "cat", &fa, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    SYS(close(p[1]));
    PUT(p[0], 0, PIECE);
    GET(p[0], 0, PIECE);
    SYS(shutdown(p[0], SHUT_WR));
    END(p[0]);
    ended_well(pid, 0);
}

static void close_on_exec_ends_it_for_the_child(void) {
    char *argv[] = {"sleep", "1", NULL};
    int p[2];
    t_pair(p); // both ends close on exec
    pid_t pid = SYS(fork());
    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    SYS(close(p[1]));
    END(p[0]); // not held open by the sleeping program
    ended_well(pid, 0);
}

// inetd: the listener's process accepts and never touches the connection; a program serves it.
static void inetd(void) {
    char *argv[] = {"sh", "-c", "read a; echo \"PLAIN-TEXT-MARK! $a\"", NULL};
    char b[64];
    int l = t_listen(AF_INET);
    for (int i = 0; i < 3; i++) {
        int c = t_dial(t_local(l)), s = SYS(accept(l, NULL, NULL));
        pid_t pid = exec_on(s, argv, c);
        SYS(close(s));
        EQ(send(c, "line\n", 5, 0), 5);
        EQ(recv(c, b, sizeof b, MSG_WAITALL), 22);
        EQ(memcmp(b, "PLAIN-TEXT-MARK! line\n", 22), 0);
        SYS(close(c));
        ended_well(pid, 0);
    }
}

// A listener crosses exec: what the new program accepts must be protected as well.
static void listener_crosses_exec(void) {
    char number[16], *argv[] = {"python3", "-c",
                                "import socket, sys\n"
                                "l = socket.socket(fileno=int(sys.argv[1]))\n"
                                "c, _ = l.accept()\n"
                                "d = c.recv(16, socket.MSG_WAITALL)\n"
                                "c.sendall(d)\n",
                                number, NULL};
    int l = t_listen(AF_INET);
    struct t_addr to = t_local(l);
    if (access("/usr/bin/python3", X_OK) != 0)
        SKIP("no python3");
    snprintf(number, sizeof number, "%d", l);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(fcntl(l, F_SETFD, 0));
        execv("/usr/bin/python3", argv);
        _exit(127);
    }
    SYS(close(l));
    int c = t_dial(to);
    PUT(c, 0, 16);
    GET(c, 0, 16);
    END(c);
    ended_well(pid, 0);
}

T_MAIN(T_CASE(vfork_with_close_range), T_CASE(vfork_child_closes_each_descriptor),
       T_CASE(vfork_whose_exec_fails), T_CASE(spawn_with_file_actions), T_CASE(spawn_of_nothing),
       T_CASE(popen_and_system), T_CASE(fork_and_exec), T_CASE(cat_on_a_used_connection),
       T_CASE(cat_on_a_fresh_connection), T_CASE(cat_with_data_already_waiting),
       T_CASE(parent_goes_on_when_the_program_ends), T_CASE(program_on_a_high_descriptor),
       T_CASE(spawned_on_the_connection), T_CASE(close_on_exec_ends_it_for_the_child), T_CASE(inetd),
       T_CASE(listener_crosses_exec))
