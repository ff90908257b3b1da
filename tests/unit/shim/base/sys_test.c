/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "shim/base/sys.h"

Test(sys, failure_is_the_result_and_errno_stays) {
    struct stat st;
    errno = EDOM;
    cr_assert_eq(mesh_sys_stat("/nonexistent/file", &st), -ENOENT);
    cr_assert_eq(mesh_sys_close(-1), -EBADF);
    void *p = &st;
    cr_assert_eq(mesh_sys_mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &p), -EINVAL);
    cr_assert_eq(p, &st);
    cr_assert_eq(errno, EDOM);
}

Test(sys, file_is_written_sized_renamed_and_removed) {
    char from[] = "sys_test_a.tmp", to[] = "sys_test_b.tmp", text[8] = "";
    struct stat st;
    int fd = mesh_sys_open(from, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(mesh_sys_write(fd, "abc", 3), 3);
    cr_assert_eq(mesh_sys_pwrite(fd, "Z", 1, 1), 1);
    cr_assert_eq(mesh_sys_pread(fd, text, sizeof text, 1), 2);
    cr_assert_str_eq(text, "Zc");
    cr_assert_eq(mesh_sys_ftruncate(fd, 4096), 0);
    cr_assert_eq(mesh_sys_fallocate(fd, 0, 0, 8192), 0);
    cr_assert_eq(mesh_sys_fstat(fd, &st), 0);
    cr_assert_eq(st.st_size, 8192);
    cr_assert_eq(st.st_mode & 0777, 0600);
    cr_assert_eq(mesh_sys_rename(from, to), 0);
    cr_assert_eq(mesh_sys_stat(from, &st), -ENOENT);
    cr_assert_eq(mesh_sys_unlink(to), 0);
    cr_assert_eq(mesh_sys_unlink(to), -ENOENT);
    cr_assert_eq(mesh_sys_close(fd), 0);
}

Test(sys, directory_is_made_read_and_removed) {
    char entries[1024], dir[] = "sys_test.dir";
    cr_assert_eq(mesh_sys_mkdir(dir, 0700), 0);
    int fd = mesh_sys_open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    ssize_t n = mesh_sys_getdents64(fd, entries, sizeof entries);
    int names = 0;
    for (ssize_t at = 0; at < n; at += ((struct dirent64 *)(entries + at))->d_reclen)
        names++;
    cr_assert_eq(names, 2); /* . and .. */
    cr_assert_eq(mesh_sys_close(fd), 0);
    cr_assert_eq(mesh_sys_rmdir(dir), 0);
}

Test(sys, shared_memory_is_seen_through_two_mappings) {
    void *a = NULL, *b = NULL;
    int fd = mesh_sys_memfd_create("test", 1);
    cr_assert_geq(fd, 0);
    cr_assert_eq(mesh_sys_ftruncate(fd, 4096), 0);
    cr_assert_eq(mesh_sys_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &a), 0);
    cr_assert_eq(mesh_sys_mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0, &b), 0);
    *(volatile char *)a = 7;
    cr_assert_eq(*(volatile char *)b, 7);
    cr_assert_eq(mesh_sys_munmap(a, 4096), 0);
    cr_assert_eq(mesh_sys_munmap(b, 4096), 0);
}

Test(sys, sockets_carry_bytes_and_wait) {
    int fds[2];
    char text[8] = "";
    cr_assert_eq(mesh_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    struct pollfd p = {fds[1], POLLIN, 0};
    cr_assert_eq(mesh_sys_poll(&p, 1, 0), 0);
    cr_assert_eq(mesh_sys_sendto(fds[0], "hi", 2, MSG_NOSIGNAL, NULL, 0), 2);
    cr_assert_eq(mesh_sys_poll(&p, 1, 1000), 1);
    struct timespec t = {1, 0};
    cr_assert_eq(mesh_sys_ppoll(&p, 1, &t, NULL), 1);
    struct iovec iov = {text, sizeof text};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    cr_assert_eq(mesh_sys_recvmsg(fds[1], &m, 0), 2);
    cr_assert_str_eq(text, "hi");
    int type = 0;
    socklen_t len = sizeof type;
    cr_assert_eq(mesh_sys_getsockopt(fds[0], SOL_SOCKET, SO_TYPE, &type, &len), 0);
    cr_assert_eq(type, SOCK_STREAM);
}

Test(sys, epoll_reports_what_was_registered) {
    int fds[2], ep = epoll_create1(0);
    struct epoll_event want = {.events = EPOLLIN, .data.u64 = 0x1122334455667788}, got = {0};
    cr_assert_eq(mesh_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    cr_assert_eq(mesh_sys_epoll_ctl(ep, EPOLL_CTL_ADD, fds[1], &want), 0);
    cr_assert_eq(mesh_sys_write(fds[0], "x", 1), 1);
    cr_assert_eq(mesh_sys_epoll_pwait(ep, &got, 1, 1000, NULL), 1);
    cr_assert_eq(got.data.u64, want.data.u64);
}

Test(sys, masks_futexes_and_ids_agree_with_libc) {
    uint64_t old = 0, block = UINT64_C(1) << (SIGUSR1 - 1);
    sigset_t now;
    cr_assert_eq(mesh_sys_sigprocmask(SIG_BLOCK, &block, &old), 0);
    sigprocmask(SIG_BLOCK, NULL, &now);
    cr_assert_eq(sigismember(&now, SIGUSR1), 1);
    cr_assert_eq(mesh_sys_sigprocmask(SIG_SETMASK, &old, NULL), 0);
    uint32_t word = 1;
    struct timespec t = {0, 1000000};
    cr_assert_eq(mesh_sys_futex(&word, FUTEX_WAIT, 2, &t, NULL, 0), -EAGAIN);
    cr_assert_eq(mesh_sys_futex(&word, FUTEX_WAIT, 1, &t, NULL, 0), -ETIMEDOUT);
    cr_assert_eq(mesh_sys_getpid(), getpid());
    cr_assert_eq(mesh_sys_geteuid(), geteuid());
    cr_assert_eq(mesh_sys_kill(getpid(), 0), 0);
}
