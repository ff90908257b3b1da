/* SPDX-License-Identifier: Apache-2.0
 *
 * System calls of our own, straight to the kernel. The library exports libc's names, so a plain `write` in it would come
 * in again through its own door; these never do, and they work before libc's symbols are looked up. Each returns what
 * the kernel returns: a result >= 0, or -errno. errno is never touched, nothing is a cancellation point, nothing is
 * restarted: the caller sees -EINTR. Structures are glibc's, which on these machines (x86-64, aarch64) have the
 * kernel's layout; signal sets are the kernel's 64 bits. Results go to `ret_x`, last, untouched on failure.
 * Once the process has a seccomp filter of its own (shim/confine.c) a call that it would punish is not made: -EPERM.
 * A system call missing here is one line: mesh_sys3 or mesh_sys6 with its number. Threads: any, signal-safe,
 * usable in a vfork child.
 */
#ifndef MESH_BASE_SYS_H
#define MESH_BASE_SYS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

/* ---- what a filter of the process's own forbids ------------------------------------------------------------- */
enum { MESH_SYS_NUMBERS = 512 };
extern _Atomic bool mesh_sys_filtered __attribute__((visibility("hidden")));
bool mesh_sys_forbids(long nr);
void mesh_sys_forbid(long nr); /* nr < MESH_SYS_NUMBERS */
void mesh_sys_remember_pid(void); /* before a filter comes */
pid_t mesh_sys_pid_before(void); /* this process, as it was remembered */

static inline bool mesh_sys_may(long nr) {
    return !__builtin_expect(atomic_load_explicit(&mesh_sys_filtered, memory_order_relaxed), 0) || !mesh_sys_forbids(nr);
}

/* ---- the call itself -------------------------------------------------------------------------------------- */
#if defined(__x86_64__) && defined(__LP64__)

static inline long mesh_sys3(long nr, long a, long b, long c) {
    long ret;
    if (!mesh_sys_may(nr))
        return -EPERM;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return ret;
}

static inline long mesh_sys6(long nr, long a, long b, long c, long d, long e, long f) {
    long ret;
    if (!mesh_sys_may(nr))
        return -EPERM;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

#elif defined(__aarch64__) && defined(__LP64__)

static inline long mesh_sys6(long nr, long a, long b, long c, long d, long e, long f) {
    if (!mesh_sys_may(nr))
        return -EPERM;
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}

static inline long mesh_sys3(long nr, long a, long b, long c) {
    return mesh_sys6(nr, a, b, c, 0, 0, 0);
}

#else
#error "system calls are written for x86-64 and aarch64"
#endif

/* ---- files ------------------------------------------------------------------------------------------------ */
static inline int mesh_sys_openat(int dir, const char *path, int flags, mode_t mode) {
    return (int)mesh_sys6(SYS_openat, dir, (long)path, flags, (long)mode, 0, 0);
}
static inline int mesh_sys_open(const char *path, int flags, mode_t mode) {
    return mesh_sys_openat(AT_FDCWD, path, flags, mode);
}
static inline int mesh_sys_close(int fd) {
    return (int)mesh_sys3(SYS_close, fd, 0, 0);
}
static inline ssize_t mesh_sys_read(int fd, void *p, size_t n) {
    return mesh_sys3(SYS_read, fd, (long)p, (long)n);
}
static inline ssize_t mesh_sys_write(int fd, const void *p, size_t n) {
    return mesh_sys3(SYS_write, fd, (long)p, (long)n);
}
static inline ssize_t mesh_sys_readv(int fd, const struct iovec *iov, int n) {
    return mesh_sys3(SYS_readv, fd, (long)iov, n);
}
static inline ssize_t mesh_sys_writev(int fd, const struct iovec *iov, int n) {
    return mesh_sys3(SYS_writev, fd, (long)iov, n);
}
static inline ssize_t mesh_sys_pread(int fd, void *p, size_t n, off_t at) {
    return mesh_sys6(SYS_pread64, fd, (long)p, (long)n, at, 0, 0);
}
static inline ssize_t mesh_sys_pwrite(int fd, const void *p, size_t n, off_t at) {
    return mesh_sys6(SYS_pwrite64, fd, (long)p, (long)n, at, 0, 0);
}
static inline off_t mesh_sys_lseek(int fd, off_t at, int whence) {
    return mesh_sys3(SYS_lseek, fd, at, whence);
}
static inline int mesh_sys_fstat(int fd, struct stat *ret_st) {
    return (int)mesh_sys3(SYS_fstat, fd, (long)ret_st, 0);
}
static inline int mesh_sys_fstatat(int dir, const char *path, struct stat *ret_st, int flags) {
    return (int)mesh_sys6(SYS_newfstatat, dir, (long)path, (long)ret_st, flags, 0, 0);
}
static inline int mesh_sys_stat(const char *path, struct stat *ret_st) {
    return mesh_sys_fstatat(AT_FDCWD, path, ret_st, 0);
}
static inline int mesh_sys_ftruncate(int fd, off_t size) {
    return (int)mesh_sys3(SYS_ftruncate, fd, size, 0);
}
static inline int mesh_sys_fallocate(int fd, int mode, off_t at, off_t size) {
    return (int)mesh_sys6(SYS_fallocate, fd, mode, at, size, 0, 0);
}
static inline int mesh_sys_fsync(int fd) {
    return (int)mesh_sys3(SYS_fsync, fd, 0, 0);
}
static inline int mesh_sys_fchmod(int fd, mode_t mode) {
    return (int)mesh_sys3(SYS_fchmod, fd, (long)mode, 0);
}
static inline int mesh_sys_renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return (int)mesh_sys6(SYS_renameat, from_dir, (long)from, to_dir, (long)to, 0, 0);
}
static inline int mesh_sys_rename(const char *from, const char *to) {
    return mesh_sys_renameat(AT_FDCWD, from, AT_FDCWD, to);
}
static inline int mesh_sys_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    return (int)mesh_sys6(SYS_linkat, from_dir, (long)from, to_dir, (long)to, flags, 0);
}
static inline int mesh_sys_unlinkat(int dir, const char *path, int flags) {
    return (int)mesh_sys3(SYS_unlinkat, dir, (long)path, flags);
}
static inline int mesh_sys_unlink(const char *path) {
    return mesh_sys_unlinkat(AT_FDCWD, path, 0);
}
static inline int mesh_sys_rmdir(const char *path) {
    return mesh_sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
static inline int mesh_sys_mkdir(const char *path, mode_t mode) {
    return (int)mesh_sys3(SYS_mkdirat, AT_FDCWD, (long)path, (long)mode);
}
static inline ssize_t mesh_sys_readlink(const char *path, char *ret_text, size_t cap) {
    return mesh_sys6(SYS_readlinkat, AT_FDCWD, (long)path, (long)ret_text, (long)cap, 0, 0);
}
/* Fills `ret_entries` with packed struct dirent64 records (d_reclen each); returns their bytes, 0 at the end. */
static inline ssize_t mesh_sys_getdents64(int fd, void *ret_entries, size_t cap) {
    return mesh_sys3(SYS_getdents64, fd, (long)ret_entries, (long)cap);
}
static inline int mesh_sys_fcntl(int fd, int cmd, long arg) {
    return (int)mesh_sys3(SYS_fcntl, fd, cmd, arg);
}
static inline int mesh_sys_ioctl(int fd, unsigned long request, void *arg) {
    return (int)mesh_sys3(SYS_ioctl, fd, (long)request, (long)arg);
}
static inline int mesh_sys_dup3(int from, int to, int flags) {
    return (int)mesh_sys3(SYS_dup3, from, to, flags);
}

/* ---- memory ----------------------------------------------------------------------------------------------- */
static inline int mesh_sys_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset, void **ret_p) {
    long p = mesh_sys6(SYS_mmap, (long)at, (long)n, prot, flags, fd, offset);
    if (p < 0 && p > -4096)
        return (int)p;
    *ret_p = (void *)p;
    return 0;
}
static inline int mesh_sys_munmap(void *p, size_t n) {
    return (int)mesh_sys3(SYS_munmap, (long)p, (long)n, 0);
}
static inline int mesh_sys_mprotect(void *p, size_t n, int prot) {
    return (int)mesh_sys3(SYS_mprotect, (long)p, (long)n, prot);
}
static inline int mesh_sys_madvise(void *p, size_t n, int advice) {
    return (int)mesh_sys3(SYS_madvise, (long)p, (long)n, advice);
}
static inline int mesh_sys_memfd_create(const char *name, unsigned flags) {
    return (int)mesh_sys3(SYS_memfd_create, (long)name, (long)flags, 0);
}

/* ---- processes, time, waiting ----------------------------------------------------------------------------- */
static inline pid_t mesh_sys_getpid(void) {
    return mesh_sys_may(SYS_getpid) ? (pid_t)mesh_sys3(SYS_getpid, 0, 0, 0) : mesh_sys_pid_before();
}
static inline pid_t mesh_sys_getppid(void) {
    return (pid_t)mesh_sys3(SYS_getppid, 0, 0, 0);
}
static inline pid_t mesh_sys_gettid(void) {
    return (pid_t)mesh_sys3(SYS_gettid, 0, 0, 0);
}
static inline uid_t mesh_sys_getuid(void) {
    return (uid_t)mesh_sys3(SYS_getuid, 0, 0, 0);
}
static inline uid_t mesh_sys_geteuid(void) {
    return (uid_t)mesh_sys3(SYS_geteuid, 0, 0, 0);
}
static inline int mesh_sys_kill(pid_t pid, int sig) {
    return (int)mesh_sys3(SYS_kill, pid, sig, 0);
}
static inline int mesh_sys_tgkill(pid_t pid, pid_t tid, int sig) {
    return (int)mesh_sys3(SYS_tgkill, pid, tid, sig);
}
/* The soft limit of RLIMIT_x; UINT64_MAX: none, or not to be told. */
static inline uint64_t mesh_sys_limit(int resource) {
    uint64_t limit[2];
    return mesh_sys6(SYS_prlimit64, 0, resource, 0, (long)limit, 0, 0) == 0 ? limit[0] : UINT64_MAX;
}
/* `op` with FUTEX_PRIVATE_FLAG only for memory that is not shared; `timeout` relative for FUTEX_WAIT, NULL: for ever. */
static inline int mesh_sys_futex(void *word, int op, uint32_t value, const struct timespec *timeout, void *word2,
                                 uint32_t value3) {
    return (int)mesh_sys6(SYS_futex, (long)word, op, (long)value, (long)timeout, (long)word2, (long)value3);
}
static inline ssize_t mesh_sys_getrandom(void *p, size_t n, unsigned flags) {
    return mesh_sys3(SYS_getrandom, (long)p, (long)n, (long)flags);
}
/* Every signal but the two that libc sends its own threads (32 cancels, 33 makes each of them follow a setuid, which waits
 * for the last): what a thread of ours blocks. */
#define MESH_SIGNALS_OF_PROGRAM (~(UINT64_C(3) << 31))
/* how: SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK; either mask may be NULL. Bit n-1 is signal n. */
static inline int mesh_sys_sigprocmask(int how, const uint64_t *set, uint64_t *ret_old) {
    return (int)mesh_sys6(SYS_rt_sigprocmask, how, (long)set, (long)ret_old, sizeof(uint64_t), 0, 0);
}
/* `timeout` is updated by the kernel to the time left; NULL: for ever. `mask` NULL: unchanged. */
static inline int mesh_sys_ppoll(struct pollfd *fds, unsigned long n, struct timespec *timeout, const uint64_t *mask) {
#ifdef SYS_poll
    if (!mesh_sys_may(SYS_ppoll))
        return (int)mesh_sys3(SYS_poll, (long)fds, (long)n,
                              timeout ? timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000 : -1);
#endif
    return (int)mesh_sys6(SYS_ppoll, (long)fds, (long)n, (long)timeout, (long)mask, sizeof(uint64_t), 0);
}
/* poll itself where the machine has it: a seccomp filter may know no ppoll. ms < 0: for ever. */
static inline int mesh_sys_poll(struct pollfd *fds, unsigned long n, int ms) {
#ifdef SYS_poll
    if (mesh_sys_may(SYS_poll))
        return (int)mesh_sys3(SYS_poll, (long)fds, (long)n, ms);
#endif
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    return (int)mesh_sys6(SYS_ppoll, (long)fds, (long)n, (long)(ms < 0 ? NULL : &t), 0, sizeof(uint64_t), 0);
}
static inline int mesh_sys_epoll_ctl(int ep, int op, int fd, struct epoll_event *event) {
    return (int)mesh_sys6(SYS_epoll_ctl, ep, op, fd, (long)event, 0, 0);
}
static inline int mesh_sys_epoll_pwait(int ep, struct epoll_event *ret_events, int max, int ms, const uint64_t *mask) {
    return (int)mesh_sys6(SYS_epoll_pwait, ep, (long)ret_events, max, ms, (long)mask, sizeof(uint64_t));
}

/* ---- sockets ---------------------------------------------------------------------------------------------- */
static inline int mesh_sys_socket(int family, int type, int protocol) {
    return (int)mesh_sys3(SYS_socket, family, type, protocol);
}
static inline int mesh_sys_socketpair(int family, int type, int protocol, int ret_fds[2]) {
    return (int)mesh_sys6(SYS_socketpair, family, type, protocol, (long)ret_fds, 0, 0);
}
static inline int mesh_sys_connect(int fd, const struct sockaddr *sa, socklen_t len) {
    return (int)mesh_sys3(SYS_connect, fd, (long)sa, (long)len);
}
static inline int mesh_sys_shutdown(int fd, int how) {
    return (int)mesh_sys3(SYS_shutdown, fd, how, 0);
}
static inline ssize_t mesh_sys_sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *sa, socklen_t len) {
    return mesh_sys6(SYS_sendto, fd, (long)p, (long)n, flags, (long)sa, (long)len);
}
static inline ssize_t mesh_sys_recvfrom(int fd, void *p, size_t n, int flags, struct sockaddr *ret_sa, socklen_t *io_len) {
    return mesh_sys6(SYS_recvfrom, fd, (long)p, (long)n, flags, (long)ret_sa, (long)io_len);
}
static inline ssize_t mesh_sys_sendmsg(int fd, const struct msghdr *msg, int flags) {
    return mesh_sys3(SYS_sendmsg, fd, (long)msg, flags);
}
static inline ssize_t mesh_sys_recvmsg(int fd, struct msghdr *msg, int flags) {
    return mesh_sys3(SYS_recvmsg, fd, (long)msg, flags);
}
static inline int mesh_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    return (int)mesh_sys6(SYS_setsockopt, fd, level, name, (long)value, (long)len, 0);
}
static inline int mesh_sys_getsockopt(int fd, int level, int name, void *ret_value, socklen_t *io_len) {
    return (int)mesh_sys6(SYS_getsockopt, fd, level, name, (long)ret_value, (long)io_len, 0);
}
static inline int mesh_sys_getsockname(int fd, struct sockaddr *ret_sa, socklen_t *io_len) {
    return (int)mesh_sys3(SYS_getsockname, fd, (long)ret_sa, (long)io_len);
}
static inline int mesh_sys_getpeername(int fd, struct sockaddr *ret_sa, socklen_t *io_len) {
    return (int)mesh_sys3(SYS_getpeername, fd, (long)ret_sa, (long)io_len);
}

#endif
