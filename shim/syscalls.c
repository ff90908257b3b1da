/* SPDX-License-Identifier: Apache-2.0
 *
 * syscall(): programs that call the kernel by number, past libc's names but not past this one. What concerns
 * a marked descriptor goes to the body of the same name, a fork is a fork, io_uring is not there (it would
 * carry plaintext past us; libuv and others fall back), everything else passes. */
#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "shim/base/sys.h"
#include "shim/bodies.h"
#include "shim/confine.h"
#include "shim/door.h"
#include "shim/engine.h"
#include "shim/fd.h"
#include "shim/fresh.h"
#include "shim/proc.h"
#include "shim/real.h"

static long forked(long number, long a, long b, long c, long d, long e, long f) {
    mesh_proc_before_fork();
    long pid = real.syscall(number, a, b, c, d, e, f);
    mesh_proc_after_fork(pid);
    return pid;
}

/* Does the call fork, with memory of the child's own and on the stack that it is made on? */
static bool forks(long number, long a, long b) {
    switch (number) {
#ifdef SYS_fork
    case SYS_fork:
        return true;
#endif
    case SYS_clone:
        return !(a & CLONE_VM) && !b;
    case SYS_clone3: {
        const struct clone_args *args = (const struct clone_args *)a;
        return args && (size_t)b >= CLONE_ARGS_SIZE_VER0 && !(args->flags & CLONE_VM) && !args->stack;
    }
    default:
        return false;
    }
}

/* Calls whose first argument is a descriptor: true when `number` was one of ours to serve. */
static bool on_descriptor(long number, long a, long b, long c, long d, long e, long f, long *ret) {
    int fd = (int)a;
    (void)mesh_fd_shown(&fd);
    switch (number) {
    case SYS_read:
        return *ret = shim_read(fd, (void *)b, (size_t)c), true;
    case SYS_readv:
        return *ret = shim_readv(fd, (void *)b, (int)c), true;
    case SYS_preadv2:
        return *ret = shim_preadv2(fd, (void *)b, (int)c, d, (int)f), true;
    case SYS_recvfrom:
        return *ret = shim_recvfrom(fd, (void *)b, (size_t)c, (int)d, (void *)e, (void *)f), true;
    case SYS_write:
        return *ret = shim_write(fd, (void *)b, (size_t)c), true;
    case SYS_writev:
        return *ret = shim_writev(fd, (void *)b, (int)c), true;
    case SYS_pwritev2:
        return *ret = shim_pwritev2(fd, (void *)b, (int)c, d, (int)f), true;
    case SYS_connect:
        return *ret = shim_connect(fd, (void *)b, (socklen_t)c), true;
    case SYS_accept:
        return *ret = shim_accept4(fd, (void *)b, (void *)c, 0), true;
    case SYS_accept4:
        return *ret = shim_accept4(fd, (void *)b, (void *)c, (int)d), true;
    case SYS_close:
        return *ret = shim_close(fd), true;
    case SYS_shutdown:
        return *ret = shim_shutdown(fd, (int)b), true;
    case SYS_dup:
        return *ret = shim_dup(fd), true;
    case SYS_fcntl:
        return *ret = shim_fcntl(fd, (int)b, c), true;
    case SYS_ioctl:
        return *ret = shim_ioctl(fd, (unsigned long)b, c), true;
    case SYS_getpeername:
        return *ret = shim_getpeername(fd, (void *)b, (void *)c), true;
    case SYS_getsockopt:
        return *ret = shim_getsockopt(fd, (int)b, (int)c, (void *)d, (void *)e), true;
    case SYS_setsockopt:
        return *ret = shim_setsockopt(fd, (int)b, (int)c, (void *)d, (socklen_t)e), true;
    default:
        return false;
    }
}

/* The kernel's own asynchronous I/O writes past us, as POSIX's does. */
static long submit(long context, long n, struct iocb **list) {
    uint32_t slot;
    for (long i = 0; list && i < n; i++)
        if (list[i] && mesh_fd_conn((int)list[i]->aio_fildes, &slot)) {
            errno = EOPNOTSUPP;
            return i ? real.syscall(SYS_io_submit, context, i, (long)list, 0, 0, 0) : -1;
        }
    return real.syscall(SYS_io_submit, context, n, (long)list, 0, 0, 0);
}

static long fetched(int fd) {
    if (fd >= 0) {
        mesh_fd_new(fd);
        mesh_fresh_fetched(fd);
    }
    return fd;
}

/* Calls that may concern a descriptor of ours wherever it stands in the arguments, or make one. */
static bool on_any(long number, long a, long b, long c, long d, long e, long f, long *ret) {
    switch (number) {
    case SYS_socket:
        return *ret = shim_socket((int)a, (int)b, (int)c), true;
    case SYS_connect:
        return *ret = shim_connect((int)a, (void *)b, (socklen_t)c), true;
    case SYS_listen:
        return *ret = shim_listen((int)a, (int)b), true;
    case SYS_accept:
        return *ret = shim_accept4((int)a, (void *)b, (void *)c, 0), true;
    case SYS_accept4:
        return *ret = shim_accept4((int)a, (void *)b, (void *)c, (int)d), true;
    case SYS_sendto:
        return *ret = shim_sendto((int)a, (void *)b, (size_t)c, (int)d, (void *)e, (socklen_t)f), true;
    case SYS_sendmsg:
        return *ret = shim_sendmsg((int)a, (void *)b, (int)c), true;
    case SYS_sendmmsg:
        return *ret = shim_sendmmsg((int)a, (void *)b, (unsigned)c, (int)d), true;
    case SYS_recvmsg:
        return *ret = shim_recvmsg((int)a, (void *)b, (int)c), true;
    case SYS_recvmmsg:
        return *ret = shim_recvmmsg((int)a, (void *)b, (unsigned)c, (int)d, (void *)e), true;
    case SYS_sendfile:
        return *ret = shim_sendfile((int)a, (int)b, (void *)c, (size_t)d), true;
    case SYS_splice:
        return *ret = shim_splice((int)a, (void *)b, (int)c, (void *)d, (size_t)e, (unsigned)f), true;
    case SYS_close_range:
        return *ret = shim_close_range((unsigned)a, (unsigned)b, (int)c), true;
#ifdef SYS_dup2
    case SYS_dup2:
        return *ret = shim_dup2((int)a, (int)b), true;
    case SYS_poll:
        return *ret = shim_poll((void *)a, (nfds_t)b, (int)c), true;
    case SYS_epoll_wait:
        return *ret = shim_epoll_wait((int)a, (void *)b, (int)c, (int)d), true;
#endif
    case SYS_dup3:
        return *ret = shim_dup3((int)a, (int)b, (int)c), true;
    case SYS_ppoll:
        return *ret = shim_ppoll((void *)a, (nfds_t)b, (void *)c, (void *)d), true;
    case SYS_epoll_ctl:
        return *ret = shim_epoll_ctl((int)a, (int)b, (int)c, (void *)d), true;
    case SYS_epoll_pwait:
        return *ret = shim_epoll_pwait((int)a, (void *)b, (int)c, (int)d, (void *)e), true;
    case SYS_io_submit:
        return *ret = submit(a, b, (struct iocb **)c), true;
    case SYS_pidfd_getfd:
        return *ret = fetched((int)real.syscall(number, a, b, c, d, e, f)), true;
    case SYS_execve:
        return *ret = shim_execve((void *)a, (void *)b, (void *)c), true;
    case SYS_execveat:
        return *ret = shim_execveat((int)a, (void *)b, (void *)c, (void *)d, (int)e), true;
    default:
        return false;
    }
}

static long confined(long number, long a, long b, long c, long d, long e, long f) {
    unsigned operation = number == SYS_seccomp ? (unsigned)a : (unsigned)b - 1;
    mesh_confine_before(operation);
    long r = real.syscall(number, a, b, c, d, e, f);
    if (r >= 0)
        mesh_confine_after(operation, (const void *)c);
    return r;
}

long shim_syscall(long number, long a, long b, long c, long d, long e, long f) {
    long r;
    if (number == SYS_io_uring_setup) {
        errno = ENOSYS;
        return -1;
    }
    if (number == SYS_seccomp || (number == SYS_prctl && a == PR_SET_SECCOMP))
        return confined(number, a, b, c, d, e, f);
    if (atomic_load(&mesh_armed) && forks(number, a, b) && !mesh_engine_foreign())
        return forked(number, a, b, c, d, e, f);
    if (on_any(number, a, b, c, d, e, f, &r))
        return r;
    if (mesh_fd_get((int)a) && on_descriptor(number, a, b, c, d, e, f, &r))
        return r;
    return real.syscall(number, a, b, c, d, e, f);
}
