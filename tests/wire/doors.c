// SPDX-License-Identifier: Apache-2.0
// Every way past recv and send that a program has. Each case is a row of the matrix that `make bypass`
// prints: it says what came of it (`door: served`, `door: refused, ERRNO`), and the wire is recorded.
#include <aio.h>
#include <dlfcn.h>
#include <linux/aio_abi.h>
#include <spawn.h>
#include <sys/sendfile.h>
#include "ring.h"

extern char **environ;
static void arrives(int fd) {
    char b[N];
    EQ(recv(fd, b, N, MSG_WAITALL), N);
    EQ(memcmp(b, T_MARK, N), 0);
}

// What a call on p[0] that sends the mark came to. Refused: not a byte came, and the connection goes on.
static void outcome(int p[2], ssize_t r, int refusal) {
    if (r >= 0) {
        EQ(r, N);
        arrives(p[1]);
        door("served");
    } else {
        int err = errno;
        CHECK(t_mtls() || refusal == 0);
        if (refusal > 0)
            EQ(err, refusal);
        CHECK(!t_wait(p[1], POLLIN, 10));
        door("refused, %s", strerrorname_np(err));
    }
    PUT(p[0], 0, 2000);
    GET(p[1], 0, 2000);
}

static int a_file(void) {
    int f = SYS(memfd_create("mark", MFD_CLOEXEC));
    EQ(write(f, T_MARK, N), N);
    EQ(lseek(f, 0, SEEK_SET), 0);
    return f;
}

static void a_pipe(int q[2]) {
    SYS(pipe(q));
    EQ(write(q[1], T_MARK, N), N);
}

/* ---- streams ---- */

static void stdio_fdopen(void) {
    int p[2];
    t_pair(p);
    FILE *f = fdopen(SYS(dup(p[0])), "w");
    CHECK(f && fputs(T_MARK, f) >= 0);
    EQ(fclose(f), 0);
    outcome(p, N, 0);
}

static void stdio_dprintf(void) {
    int p[2];
    t_pair(p);
    outcome(p, dprintf(p[0], "%s", T_MARK), 0);
}

static void stdio_stdout_after_dup2(void) {
    int p[2];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        SYS(dup2(p[0], 1));
        fputs(T_MARK, stdout);
        exit(0);
    }
    CHILD_END(pid);
    outcome(p, N, 0);
}

// Another file takes the stream's place, and what was buffered goes where it belongs.
static void stdio_freopen(void) {
    int p[2];
    t_pair(p);
    FILE *f = fdopen(SYS(dup(p[0])), "w");
    CHECK(f && fputs(T_MARK, f) >= 0);
    CHECK(freopen("/dev/null", "w", f) == f);
    fputs("not for the peer", f);
    fclose(f);
    outcome(p, N, 0);
}

static void stdio_fdopen_before_connect(void) {
    int p[2], l = t_listen(AF_INET);
    struct t_addr a = t_local(l);
    p[0] = SYS(socket(AF_INET, SOCK_STREAM, 0));
    FILE *f = fdopen(SYS(dup(p[0])), "w");
    SYS(connect(p[0], &a.sa, a.len));
    p[1] = SYS(accept(l, NULL, NULL));
    CHECK(f && fputs(T_MARK, f) >= 0);
    EQ(fclose(f), 0);
    outcome(p, N, 0);
}

/* ---- the kernel moves it ---- */

static void move_sendfile(void) {
    int p[2];
    t_pair(p);
    outcome(p, sendfile(p[0], a_file(), NULL, N), 0);
}

static void move_splice(void) {
    int p[2], q[2];
    t_pair(p);
    a_pipe(q);
    outcome(p, splice(q[0], NULL, p[0], NULL, N, 0), 0);
}

static void move_vmsplice_and_splice(void) {
    int p[2], q[2];
    struct iovec iov = {T_MARK, N};
    t_pair(p);
    SYS(pipe(q));
    EQ(vmsplice(q[1], &iov, 1, 0), N);
    outcome(p, splice(q[0], NULL, p[0], NULL, N, 0), 0);
}

static void move_tee_and_splice(void) {
    int p[2], q[2], r[2];
    t_pair(p);
    a_pipe(q);
    SYS(pipe(r));
    EQ(tee(q[0], r[1], N, 0), N);
    outcome(p, splice(r[0], NULL, p[0], NULL, N, 0), 0);
}

static void move_tee(void) {
    int p[2], q[2];
    t_pair(p);
    a_pipe(q);
    ssize_t r = tee(q[0], p[0], N, 0);
    CHECK(r == -1 && errno == EINVAL); // the kernel's own answer
    door("no socket's, EINVAL");
}

static void move_vmsplice(void) {
    int p[2];
    struct iovec iov = {T_MARK, N};
    t_pair(p);
    CHECK(vmsplice(p[0], &iov, 1, 0) == -1 && errno == EBADF);
    door("no socket's, EBADF");
}

static void move_copy_file_range(void) {
    int p[2];
    t_pair(p);
    CHECK(copy_file_range(a_file(), NULL, p[0], NULL, N, 0) == -1 && errno == EINVAL);
    door("no socket's, EINVAL");
}

/* ---- asynchronous ---- */

static void aio_by_posix(void) {
    int p[2];
    struct aiocb cb = {.aio_buf = T_MARK, .aio_nbytes = N};
    const struct aiocb *one = &cb;
    t_pair(p);
    cb.aio_fildes = p[0];
    ssize_t r = aio_write(&cb);
    if (r == 0) {
        while (aio_error(&cb) == EINPROGRESS)
            aio_suspend(&one, 1, NULL);
        r = aio_return(&cb);
    }
    outcome(p, r, r < 0 && !t_mtls() ? 0 : EOPNOTSUPP);
}

static void aio_by_list(void) {
    int p[2];
    struct aiocb cb = {.aio_buf = T_MARK, .aio_nbytes = N, .aio_lio_opcode = LIO_WRITE}, *list[] = {&cb};
    t_pair(p);
    cb.aio_fildes = p[0];
    ssize_t r = lio_listio(LIO_WAIT, list, 1, NULL);
    outcome(p, r == 0 ? aio_return(&cb) : r, r < 0 && !t_mtls() ? 0 : EOPNOTSUPP);
}

static void aio_by_the_kernel(void) {
    int p[2];
    aio_context_t ctx = 0;
    struct io_event ev;
    struct iocb cb = {.aio_lio_opcode = IOCB_CMD_PWRITE,
                      .aio_buf = (uint64_t)(uintptr_t)T_MARK,
                      .aio_nbytes = N},
                *list[] = {&cb};
    t_pair(p);
    cb.aio_fildes = (uint32_t)p[0];
    if (syscall(SYS_io_setup, 4, &ctx) != 0)
        SKIP("no io_setup here");
    ssize_t r = syscall(SYS_io_submit, ctx, 1l, list);
    if (r == 1) {
        EQ(syscall(SYS_io_getevents, ctx, 1l, 1l, &ev, NULL), 1);
        r = ev.res < 0 ? (errno = (int)-ev.res, -1) : (ssize_t)ev.res;
    }
    outcome(p, r, r < 0 && !t_mtls() ? 0 : EOPNOTSUPP);
}

static long by_libc(long nr, long a, long b, long c, long d, long e, long f) {
    return syscall(nr, a, b, c, d, e, f);
}

static void io_uring_by_syscall(void) {
    int p[2];
    t_pair(p);
    ssize_t r = send_by_ring(by_libc, p[0]);
    if (r < 0 && !t_mtls())
        SKIP("no io_uring here");
    outcome(p, r, ENOSYS);
}

/* ---- options and flags ---- */

static void flag_zerocopy(void) {
    int p[2], on = 1;
    t_pair(p);
    bool can = setsockopt(p[0], SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on) == 0;
    CHECK(can || errno == EOPNOTSUPP);
    outcome(p, send(p[0], T_MARK, N, MSG_ZEROCOPY), 0);
}

static void flag_urgent(void) {
    int p[2];
    char c = 0;
    t_pair(p);
    if (t_mtls()) {
        ERR(send(p[0], T_MARK, N, MSG_OOB), EOPNOTSUPP);
        ERR(recv(p[1], &c, 1, MSG_OOB), EINVAL);
        errno = EOPNOTSUPP;
        outcome(p, -1, EOPNOTSUPP);
        return;
    }
    EQ(send(p[0], T_MARK, N, MSG_OOB), N);
    door("served");
}

static void option(int level, int name, const void *value, socklen_t len, int refusal) {
    int p[2];
    t_pair(p);
    int r = setsockopt(p[0], level, name, value, len);
    if (t_mtls()) {
        CHECK(r == -1);
        EQ(errno, refusal);
    }
    if (r != 0)
        door("refused, %s", strerrorname_np(errno));
    else
        door("served");
    if (t_mtls()) {
        PUT(p[0], 0, 2000);
        GET(p[1], 0, 2000);
    }
}

static void option_ulp(void) {
    option(IPPROTO_TCP, 31 /* TCP_ULP */, "tls", 3, ENOPROTOOPT);
}
static void option_peek_offset(void) {
    int zero = 0;
    option(SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof zero, EOPNOTSUPP);
}
static void option_repair(void) {
    int one = 1;
    option(IPPROTO_TCP, TCP_REPAIR, &one, sizeof one, EOPNOTSUPP);
}

/* ---- other ways to libc ---- */

typedef ssize_t sender(int, const void *, size_t, int);

static void by_pointer(void *f) {
    int p[2];
    CHECK(f);
    t_pair(p);
    outcome(p, ((sender *)f)(p[0], T_MARK, N, 0), 0);
}

static void dlsym_default(void) {
    by_pointer(dlsym(RTLD_DEFAULT, "send"));
}
static void dlsym_next(void) {
    by_pointer(dlsym(RTLD_NEXT, "send"));
}
static void dlsym_of_libc(void) {
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_LOCAL);
    CHECK(libc && dlsym(libc, "qsort") && !dlsym(libc, "no_such_function"));
    by_pointer(dlsym(libc, "send"));
    EQ(dlclose(libc), 0);
}
static void dlsym_of_libc_that_is_there(void) {
    by_pointer(dlsym(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), "send"));
}
static void dlvsym_of_a_version(void) {
#if defined(__x86_64__)
    by_pointer(dlvsym(RTLD_DEFAULT, "send", "GLIBC_2.2.5"));
#else
    by_pointer(dlvsym(RTLD_DEFAULT, "send", "GLIBC_2.17"));
#endif
}

static const char *plugin(void) {
    static char dir[] = "/tmp/wire-plugin.XXXXXX", path[64], command[512];
    CHECK(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/plugin.so", dir);
    snprintf(command, sizeof command,
             "echo '#include <sys/socket.h>\nlong plugin_send(int fd,const void*p,unsigned long n,int f)"
             "{return send(fd,p,n,f);}' | cc -shared -fPIC -w -x c -o %s - 2>/dev/null",
             path);
    return system(command) == 0 ? path : NULL;
}

static void plugin_done(const char *path) {
    char dir[64];
    snprintf(dir, sizeof dir, "%s", path);
    unlink(path);
    *strrchr(dir, '/') = 0;
    rmdir(dir);
}

static void plugin_bound_deep(void) {
    const char *path = plugin();
    if (!path)
        SKIP("cannot make a plug-in");
    if (getenv("ASAN_OPTIONS") || getenv("TSAN_OPTIONS")) {
        plugin_done(path);
        SKIP("the sanitizers end a program that asks for RTLD_DEEPBIND");
    }
    void *h = dlopen(path, RTLD_NOW | RTLD_DEEPBIND);
    plugin_done(path);
    CHECK(h);
    by_pointer(dlsym(h, "plugin_send"));
}

static void plugin_in_a_namespace(void) {
    const char *path = plugin();
    int p[2];
    if (!path)
        SKIP("cannot make a plug-in");
    void *h = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
    plugin_done(path);
    t_pair(p);
    if (!t_mtls()) {
        CHECK(h);
        outcome(p, ((sender *)dlsym(h, "plugin_send"))(p[0], T_MARK, N, 0), 0);
        return;
    }
    CHECK(!h && strstr(dlerror(), "meshshim"));
    door("refused, dlerror");
}

/* ---- numbers ---- */

static void by_number(void) {
    int p[2];
    t_pair(p);
    outcome(p, syscall(SYS_write, p[0], T_MARK, N), 0);
}

static void got_by_pidfd(void) {
    int p[2];
    t_pair(p);
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, p[0], 0);
    if (fd < 0)
        SKIP("no pidfd_getfd here");
    outcome(p, write(fd, T_MARK, N), 0);
}

/* ---- programs ---- */

static void program_with_the_library(void) {
    char *argv[] = {"printf", "%s", T_MARK, NULL};
    int p[2];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        dup2(p[0], 1);
        execvp("printf", argv);
        _exit(127);
    }
    CHILD_END(pid);
    outcome(p, N, 0);
}

// The program writes to a dead socket, and the connection goes on.
static void writes_to_nobody(int p[2], pid_t pid) {
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    if (!t_mtls()) {
        outcome(p, N, 0);
        return;
    }
    CHECK(!t_wait(p[1], POLLIN, 10));
    PUT(p[0], 0, 2000);
    GET(p[1], 0, 2000);
    door("dead socket");
}

static void program_without_the_library(void) {
    char *argv[] = {"sh", "-c", "printf %s PLAIN-TEXT-MARK! 2>/dev/null", NULL},
         *env[] = {"MESH_NONE=1", "PATH=/usr/bin:/bin", NULL};
    int p[2];
    t_pair(p);
    pid_t pid = SYS(fork());
    if (pid == 0) {
        dup2(p[0], 1);
        execve("/bin/sh", argv, env);
        _exit(127);
    }
    writes_to_nobody(p, pid);
}

static void program_spawned_without_the_library(void) {
    char *argv[] = {"sh", "-c", "printf %s PLAIN-TEXT-MARK! 2>/dev/null", NULL},
         *env[] = {"MESH_NONE=1", "PATH=/usr/bin:/bin", NULL};
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int p[2];
    t_pair(p);
    EQ(posix_spawn_file_actions_init(&fa), 0);
    EQ(posix_spawn_file_actions_adddup2(&fa, p[0], 1), 0);
    EQ(posix_spawn(&pid, "/bin/sh", &fa, NULL, argv, env), 0);
    posix_spawn_file_actions_destroy(&fa);
    writes_to_nobody(p, pid);
}

T_MAIN(T_CASE(stdio_fdopen), T_CASE(stdio_fdopen_before_connect), T_CASE(stdio_dprintf),
       T_CASE(stdio_stdout_after_dup2), T_CASE(stdio_freopen), T_CASE(move_sendfile), T_CASE(move_splice),
       T_CASE(move_vmsplice_and_splice), T_CASE(move_tee_and_splice), T_CASE(move_tee), T_CASE(move_vmsplice),
       T_CASE(move_copy_file_range), T_CASE(aio_by_posix), T_CASE(aio_by_list), T_CASE(aio_by_the_kernel),
       T_CASE(io_uring_by_syscall), T_CASE(flag_zerocopy), T_CASE(flag_urgent), T_CASE(option_ulp),
       T_CASE(option_peek_offset), T_CASE(option_repair), T_CASE(dlsym_default), T_CASE(dlsym_next),
       T_CASE(dlsym_of_libc), T_CASE(dlsym_of_libc_that_is_there), T_CASE(dlvsym_of_a_version),
       T_CASE(plugin_bound_deep), T_CASE(plugin_in_a_namespace), T_CASE(by_number), T_CASE(got_by_pidfd),
       T_CASE(program_with_the_library), T_CASE(program_without_the_library),
       T_CASE(program_spawned_without_the_library))
