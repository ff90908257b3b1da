// SPDX-License-Identifier: Apache-2.0
// Connections and exec: through several programs, past failing ones, and into programs that cannot have the
// library.
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "t.h"

extern char **environ;
enum { PIECE = 2000 };

static void ended_well(pid_t pid, int want) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        EQ(errno, EINTR);
    CHECK(WIFEXITED(status));
    EQ(WEXITSTATUS(status), want);
}

static void as_standard(int fd, int other) {
    close(other);
    dup2(fd, 0);
    dup2(fd, 1);
    if (fd > 1)
        close(fd);
}

static void echoes(int fd, uint64_t off) {
    PUT(fd, off, PIECE);
    GET(fd, off, PIECE);
}

static void echoes_to_its_end(int fd, pid_t pid) {
    echoes(fd, 0);
    echoes(fd, PIECE);
    SYS(shutdown(fd, SHUT_WR));
    END(fd);
    ended_well(pid, 0);
}

// env and sh stand between us and cat: each takes the connection over and hands it on.
static void several_programs_deep(void) {
    char *argv[] = {"env", "sh", "-c", "exec nice sh -c 'cat; exit 0'", NULL};
    int p[2];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        as_standard(p[1], p[0]);
        execvp(argv[0], argv);
        _exit(127);
    }
    SYS(close(p[1]));
    echoes_to_its_end(p[0], pid);
}

static void failing_exec(void) {
    char *argv[] = {"x", NULL};
    int p[2];
    t_pair(p);
    SYS(fcntl(p[1], F_SETFD, 0));
    for (int i = 0; i < 5; i++) {
        ERR(execv("/does/not/exist", argv), ENOENT);
        ERR(execv("/etc/passwd", argv), EACCES);
        ERR(execvp("no-such-program-anywhere", argv), ENOENT);
        EQ(fcntl(p[1], F_GETFD), 0);
        PUT(p[0], 0, PIECE);
        GET(p[1], 0, PIECE);
        PUT(p[1], 0, PIECE);
        GET(p[0], 0, PIECE);
    }
}

// A vfork child redirects in its own table, closes by range what lies above, and becomes the program:
// Python's subprocess.
__attribute__((noinline)) static pid_t vfork_on(int fd, char *const argv[]) {
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(fd, 0);
        dup2(fd, 1);
        close_range(3, ~0u, 0);
        execvp(argv[0], argv);
        _exit(127);
    }
    return pid;
}

static void vfork_child_redirects(void) {
    char *argv[] = {"cat", NULL};
    int p[2];
    for (int i = 0; i < 3; i++) {
        t_pair(p);
        pid_t pid = vfork_on(p[1], argv);
        SYS(close(p[1]));
        echoes_to_its_end(p[0], pid);
        SYS(close(p[0]));
    }
}

static void spawn_that_closes_the_rest(void) {
    char *argv[] = {"cat", NULL};
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int p[2];
    t_pair(p);
    EQ(posix_spawn_file_actions_init(&fa), 0);
    EQ(posix_spawn_file_actions_adddup2(&fa, p[1], 0), 0);
    EQ(posix_spawn_file_actions_adddup2(&fa, 0, 1), 0);
    EQ(posix_spawn_file_actions_addclosefrom_np(&fa, 3), 0);
    EQ(posix_spawnp(&pid, "cat", &fa, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    SYS(close(p[1]));
    echoes_to_its_end(p[0], pid);
}

static void shell_writes_to_the_connection(void) {
    int p[2];
    char b[32];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        as_standard(p[1], p[0]);
        _exit(system("read a; echo \"PLAIN-TEXT-MARK! $a\"") >> 8);
    }
    SYS(close(p[1]));
    EQ(send(p[0], "word\n", 5, 0), 5);
    EQ(recv(p[0], b, 22, MSG_WAITALL), 22);
    EQ(memcmp(b, "PLAIN-TEXT-MARK! word\n", 22), 0);
    END(p[0]);
    ended_well(pid, 0);
}

static void popen_beside_a_connection(void) {
    int p[2];
    char b[32] = "";
    t_pair(p);
    SYS(fcntl(p[1], F_SETFD, 0));
    for (int i = 0; i < 3; i++) {
        FILE *f = popen("echo hello", "r");
        CHECK(f && fgets(b, sizeof b, f));
        EQ(strcmp(b, "hello\n"), 0);
        EQ(pclose(f), 0);
        PUT(p[0], 0, PIECE);
        GET(p[1], 0, PIECE);
    }
    CHECK(!getenv("MESHSHIM_TREE"));
}

// The environment was emptied: the library comes back where it was meant to be.
static void emptied_environment(void) {
    char *argv[] = {"cat", NULL}, *none[] = {NULL};
    int p[2];
    if (getenv("LD_PRELOAD") && strchr(getenv("LD_PRELOAD"), ':'))
        SKIP("a sanitizer's runtime would not come back");
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        as_standard(p[1], p[0]);
        execve("/bin/cat", argv, none);
        _exit(127);
    }
    SYS(close(p[1]));
    echoes_to_its_end(p[0], pid);
}

// inetd's services run as another user: who shakes hands is the program.
static void untouched_into_another_users_program(void) {
    char *argv[] = {"cat", NULL};
    int p[2];
    if (getuid() != 0)
        SKIP("not root");
    t_pair_cold(AF_INET, p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        as_standard(p[1], p[0]);
        if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
            _exit(126);
        execvp(argv[0], argv);
        _exit(127);
    }
    SYS(close(p[1]));
    echoes_to_its_end(p[0], pid);
}

// ---- programs that do not have the library: no byte of theirs reaches the peer, and ours goes on ----

static void peer_hears_nothing(int p[2], pid_t pid) {
    int status;
    char b[64];
    EQ(waitpid(pid, &status, 0), pid);
    if (!t_mtls()) {
        EQ(recv(p[0], b, sizeof b, 0), 17);
        return;
    }
    CHECK(!t_wait(p[0], POLLIN, 50));
    PUT(p[0], 0, PIECE);
    GET(p[1], 0, PIECE);
    PUT(p[1], 0, PIECE);
    GET(p[0], 0, PIECE);
}

static pid_t exec_env_on(int p[2], const char *path, char *const argv[], char *const envp[]) {
    pid_t pid = SYS(fork());
    if (pid == 0) {
        as_standard(p[1], p[0]);
        execve(path, argv, envp);
        _exit(127);
    }
    return pid;
}

static void preload_left_out_on_purpose(void) {
    char *argv[] = {"echo", "PLAIN-TEXT-MARK!", NULL}, *env[] = {"MESH_CAPTURE=127.0.0.0/8", NULL};
    int p[2];
    t_pair(p);
    peer_hears_nothing(p, exec_env_on(p, "/bin/echo", argv, env));
}

static void switched_off(void) {
    char *argv[] = {"env", "MESH_OFF=1", "echo", "PLAIN-TEXT-MARK!", NULL};
    int p[2];
    t_pair(p);
    peer_hears_nothing(p, exec_env_on(p, "/usr/bin/env", argv, environ));
}

// In a directory of its own, which goes when the case does.
static const char *static_program(void) {
    static char dir[] = "/tmp/wire-static.XXXXXX", path[64], command[512];
    CHECK(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/echo", dir);
    snprintf(command, sizeof command,
             "echo 'int write(int,const void*,unsigned long);int "
             "main(){write(1,\"PLAIN-TEXT-MARK!.\",17);return 0;}'"
             "| cc -static -w -x c -o %s - 2>/dev/null",
             path);
    return system(command) == 0 ? path : NULL;
}

static void static_program_done(const char *path) {
    char dir[64];
    snprintf(dir, sizeof dir, "%s", path);
    unlink(path);
    *strrchr(dir, '/') = 0;
    rmdir(dir);
}

static void static_program_gets_a_dead_descriptor(void) {
    const char *program = static_program();
    char *argv[] = {"echo", NULL};
    int p[2];
    if (!program)
        SKIP("cannot link statically");
    t_pair(p);
    peer_hears_nothing(p, exec_env_on(p, program, argv, environ));
    static_program_done(program);
}

static void static_program_spawned(void) {
    const char *program = static_program();
    char *argv[] = {"echo", NULL};
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int p[2];
    if (!program)
        SKIP("cannot link statically");
    t_pair(p);
    EQ(posix_spawn_file_actions_init(&fa), 0);
    EQ(posix_spawn_file_actions_adddup2(&fa, p[1], 1), 0);
    EQ(posix_spawn_file_actions_addclosefrom_np(&fa, 3), 0);
    EQ(posix_spawn(&pid, program, &fa, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    peer_hears_nothing(p, pid);
    static_program_done(program);
}

// What a library with another idea of the slab left behind is not believed: its connections are dead here.
static void handed_over_by_another_layout(void) {
    static char tree[128];
    char *argv[] = {"sh", "-c", "printf %s PLAIN-TEXT-MARK! 2>/dev/null", NULL}, *env[64] = {tree};
    struct stat st;
    int p[2], n = 1;
    if (!t_mtls())
        return; // there is nobody who hands anything over
    t_pair(p);
    for (char **e = environ; *e && n < 62; e++)
        env[n++] = *e;
    SYS(fstat(p[1], &st));
    snprintf(tree, sizeof tree, "MESHSHIM_TREE=3e8:12345:1:0:1=0.1.%llx,", (unsigned long long)st.st_ino);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        dup2(p[1], 1);
        t_raw3(SYS_execve, (long)"/bin/sh", (long)argv, (long)env);
        _exit(127);
    }
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    CHECK(!t_wait(p[0], POLLIN, 50));
    PUT(p[0], 0, PIECE);
    GET(p[1], 0, PIECE);
    PUT(p[1], 0, PIECE);
    GET(p[0], 0, PIECE);
}

// ---- the library's own descriptor is nobody's ----

static void no_descriptor_of_ours_is_open(void) {
    int p[2];
    t_pair(p);
    for (int fd = 3; fd < 4096; fd++) {
        if (fd == p[0] || fd == p[1])
            continue;
        if (t_mtls() && fcntl(fd, F_GETFD) >= 0) // runs inherit a few from whoever started them
            CHECK(lseek(fd, 0, SEEK_CUR) >= 0 || errno == ESPIPE);
        close(fd);
    }
    PUT(p[0], 0, PIECE);
    GET(p[1], 0, PIECE);
    for (int fd = 900; fd < 1100; fd++)
        ERR(write(fd, "x", 1), EBADF);
}

static void a_number_of_ours_is_wanted(void) {
    char *argv[] = {"cat", NULL};
    int p[2];
    t_pair(p);
    for (int fd = 990; fd < 1020; fd++)
        EQ(dup2(0, fd), fd);
    for (int fd = 990; fd < 1020; fd++)
        SYS(close(fd));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        as_standard(p[1], p[0]);
        execvp(argv[0], argv);
        _exit(127);
    }
    SYS(close(p[1]));
    echoes_to_its_end(p[0], pid);
}

static void started_program_sees_no_descriptor_of_ours(void) {
    char *argv[] = {"sh", "-c", "for f in /proc/$$/fd/*; do readlink $f; done | grep -c memfd", NULL},
         b[8] = "";
    int p[2], out[2];
    t_pair(p);
    SYS(pipe(out));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(dup2(out[1], 1));
        execvp(argv[0], argv);
        _exit(127);
    }
    SYS(close(out[1]));
    CHECK(read(out[0], b, sizeof b) > 0);
    EQ(b[0], '0');
    ended_well(pid, 1);
}

static void few_descriptors(void) {
    struct rlimit r = {100, 100};
    char *argv[] = {"echo", "PLAIN-TEXT-MARK!", NULL};
    int p[2];
    SYS(setrlimit(RLIMIT_NOFILE, &r)); // no room for the slab's: the program gets a dead one
    t_pair(p);
    peer_hears_nothing(p, exec_env_on(p, "/bin/echo", argv, environ));
}

// What another program holds does not keep a connection from ending: those that close on exec are let go.
static void closed_by_exec_is_ended_by_the_other_holder(void) {
    char *argv[] = {"sleep", "3", NULL};
    int p[2];
    long long begun = t_now_ms();
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    t_sleep_ms(300);
    int before = t_ended();
    SYS(close(p[1]));
    END(p[0]);
    CHECK(t_now_ms() - begun < 2500);
    if (t_mtls()) // not left to the kernel because a program that has let go of it still runs
        EQ(t_ended(), before + 1);
    SYS(kill(pid, SIGKILL));
}

// ---- many at once ----

enum { MANY = 300 };
static int many[2][MANY];

static void connect_many(void) {
    struct rlimit r;
    SYS(getrlimit(RLIMIT_NOFILE, &r));
    r.rlim_cur = r.rlim_max < 4096 ? r.rlim_max : 4096;
    SYS(setrlimit(RLIMIT_NOFILE, &r));
    int l = t_listen(AF_INET);
    struct t_addr a = t_local(l);
    for (int i = 0; i < MANY; i++) {
        many[0][i] = t_dial(a);
        many[1][i] = SYS(accept4(l, NULL, NULL, SOCK_CLOEXEC));
        PUT(many[0][i], 0, 16);
        GET(many[1][i], 0, 16);
    }
    SYS(close(l));
}

// A shell that reads a word from each of them and writes it back.
static char *echo_script(void) {
    static char script[32 * MANY + 200];
    char *at = script;
    at += sprintf(at, "for f in");
    for (int i = 0; i < MANY; i++)
        at += sprintf(at, " %d", many[1][i]);
    sprintf(at, "; do read -r -u $f w; echo \"$w\" >&$f; done");
    return script;
}

static void echoes_on_each(void) {
    char b[17] = "";
    for (int i = 0; i < MANY; i++)
        EQ(send(many[0][i], "PLAIN-TEXT-MARK\n", 16, 0), 16);
    for (int i = 0; i < MANY; i++) {
        EQ(recv(many[0][i], b, 16, MSG_WAITALL), 16);
        EQ(strcmp(b, "PLAIN-TEXT-MARK\n"), 0);
    }
}

static void many_cross_exec(void) {
    connect_many();
    char *argv[] = {"bash", "-c", echo_script(), NULL};
    pid_t pid = SYS(fork());
    if (pid == 0) {
        for (int i = 0; i < MANY; i++)
            fcntl(many[1][i], F_SETFD, 0);
        ERR(execv("/does/not/exist", argv), ENOENT);
        for (int i = 0; i < MANY; i++)
            EQ(fcntl(many[1][i], F_GETFD), 0);
        execvp(argv[0], argv);
        _exit(127);
    }
    echoes_on_each();
    ended_well(pid, 0);
}

static void many_cross_spawn(void) {
    connect_many();
    char *argv[] = {"bash", "-c", echo_script(), NULL};
    pid_t pid;
    for (int i = 0; i < MANY; i++)
        SYS(fcntl(many[1][i], F_SETFD, 0));
    EQ(posix_spawnp(&pid, "bash", NULL, NULL, argv, environ), 0);
    echoes_on_each();
    ended_well(pid, 0);
}

static void many_are_dead_in_a_program_without_the_library(void) {
    connect_many();
    char *argv[] = {"bash", "-c", echo_script(), NULL}, *env[] = {"MESH_NONE=1", "PATH=/usr/bin:/bin", NULL};
    int status;
    if (!t_mtls())
        return;
    pid_t pid = SYS(fork());
    if (pid == 0) {
        close(2);
        for (int i = 0; i < MANY; i++)
            fcntl(many[1][i], F_SETFD, 0);
        char *none[] = {"x", NULL};
        EQ(execve("/etc/passwd", none, env), -1);
        for (int i = 0; i < MANY; i++) {
            EQ(fcntl(many[1][i], F_GETFD), 0);
            PUT(many[1][i], 0, 16);
        }
        execve("/bin/bash", argv, env);
        _exit(127);
    }
    EQ(waitpid(pid, &status, 0), pid);
    for (int i = 0; i < MANY; i++) {
        GET(many[0][i], 0, 16);
        CHECK(!t_wait(many[0][i], POLLIN, 0));
        PUT(many[0][i], 0, 16);
        GET(many[1][i], 0, 16);
    }
}

__attribute__((noinline)) static pid_t vfork_exec(char *const argv[]) {
    pid_t pid = vfork();
    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    return pid;
}

static void many_cross_vfork(void) {
    connect_many();
    char *argv[] = {"bash", "-c", echo_script(), NULL};
    for (int i = 0; i < MANY; i++)
        SYS(fcntl(many[1][i], F_SETFD, 0));
    pid_t pid = vfork_exec(argv);
    echoes_on_each();
    ended_well(pid, 0);
}

// ---- the slab is for those alone that connections cross to ----

static _Atomic bool enough;

static void *start_programs(void *arg) {
    char *argv[] = {"sh", "-c",
                    "for f in /proc/$$/fd/*; do readlink $f; done | grep -q memfd && echo seen; exit 0",
                    NULL},
         *env[] = {"MESH_NONE=1", "PATH=/usr/bin:/bin", NULL};
    int how = (int)(intptr_t)arg;
    for (int i = 0; !enough; i++) {
        pid_t pid;
        int out[2];
        char b[8];
        SYS(pipe2(out, O_CLOEXEC));
        if (how == 0) {
            posix_spawn_file_actions_t fa;
            EQ(posix_spawn_file_actions_init(&fa), 0);
            EQ(posix_spawn_file_actions_adddup2(&fa, out[1], 1), 0);
            EQ(posix_spawn(&pid, "/bin/sh", &fa, NULL, argv, env), 0);
            posix_spawn_file_actions_destroy(&fa);
        } else if ((pid = how == 1 ? SYS(fork()) : SYS(_Fork())) == 0) {
            dup2(out[1], 1);
            execve("/bin/sh", argv, env);
            _exit(127);
        }
        SYS(close(out[1]));
        EQ(read(out[0], b, sizeof b), 0);
        SYS(close(out[0]));
        ended_well(pid, 0);
    }
    return NULL;
}

static void other_threads_programs_do_not_see_the_slab(void) {
    int p[2];
    t_pair(p);
    SYS(fcntl(p[1], F_SETFD, 0));
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        t[i] = t_thread(start_programs, (void *)(intptr_t)i);
    for (int i = 0; i < 40; i++) {
        FILE *f = popen("sleep 0.01", "r");
        CHECK(f);
        EQ(pclose(f), 0);
        EQ(system("exit 3") >> 8, 3);
    }
    enough = true;
    for (int i = 0; i < 3; i++)
        t_join(t[i]);
    PUT(p[0], 0, PIECE);
    GET(p[1], 0, PIECE);
}

static volatile sig_atomic_t interrupted;
static void on_interrupt(int sig) {
    interrupted = sig;
}

// What system() promises of signals, also when a connection crosses to its shell.
static void system_and_signals(void) {
    int p[2];
    struct sigaction a = {.sa_handler = on_interrupt}, old;
    sigset_t now;
    t_pair(p);
    SYS(fcntl(p[1], F_SETFD, 0));
    SYS(sigaction(SIGINT, &a, NULL));
    EQ(system("kill -INT $PPID; exit 0"), 0);
    EQ(interrupted, 0);
    SYS(sigaction(SIGINT, NULL, &old));
    CHECK(old.sa_handler == on_interrupt);
    SYS(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK(!sigismember(&now, SIGCHLD));
    EQ(system("kill -INT $$; exit 0") & 127, SIGINT);
    EQ(system("exit 7") >> 8, 7);
    CHECK(system(NULL) != 0);
    PUT(p[0], 0, PIECE);
    GET(p[1], 0, PIECE);
}

T_MAIN(T_CASE(several_programs_deep), T_CASE(failing_exec), T_CASE(vfork_child_redirects),
       T_CASE(spawn_that_closes_the_rest), T_CASE(shell_writes_to_the_connection),
       T_CASE(popen_beside_a_connection), T_CASE(emptied_environment),
       T_CASE(untouched_into_another_users_program), T_CASE(preload_left_out_on_purpose),
       T_CASE(switched_off), T_CASE(static_program_gets_a_dead_descriptor), T_CASE(static_program_spawned),
       T_CASE(no_descriptor_of_ours_is_open), T_CASE(a_number_of_ours_is_wanted),
       T_CASE(started_program_sees_no_descriptor_of_ours), T_CASE(few_descriptors),
       T_CASE(closed_by_exec_is_ended_by_the_other_holder), T_CASE(handed_over_by_another_layout),
       T_CASE(many_cross_exec), T_CASE(many_cross_spawn), T_CASE(many_cross_vfork),
       T_CASE(many_are_dead_in_a_program_without_the_library),
       T_CASE(other_threads_programs_do_not_see_the_slab), T_CASE(system_and_signals))
