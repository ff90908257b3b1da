/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded behind the library: what the library itself asks for can be refused, what the program asks for
 * never is. A call counts as the library's by the address it comes from, so the library under test is the one
 * that is shipped. memory  malloc, calloc, realloc, strdup, vasprintf: answered here thread  pthread_create:
 * answered here others  system calls, which the library makes itself: a seccomp filter sends them to
 * tests/fault/supervise.c FAULT_PAGE names the file with the counts (struct fault_page), FAULT_LISTENER the
 * socket for the filter's descriptor.
 */
#include "tests/fault/fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static struct fault_page *page;
static uintptr_t lo, hi; /* the library's text */

static int text_of(struct dl_phdr_info *info, size_t size, void *arg) {
    const char *base = strrchr(info->dlpi_name, '/');
    if (!base || strcmp(base, "/libmeshshim.so") != 0)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
            lo = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            hi = lo + info->dlpi_phdr[i].p_memsz;
        }
    return 1;
}

#define CALLER() ((uintptr_t)__builtin_return_address(0))
#define OURS() (page && CALLER() - lo < hi - lo)
/* FAULT_TRAP=1: stops in a debugger where the refusal is. */
static int told(int refused) {
    if (refused && getenv("FAULT_TRAP"))
        __builtin_trap();
    return refused;
}
#define NO_MEMORY() (OURS() && page->kind <= FAULT_EVERY && told(fault_memory(page, CALLER() - lo)))

void *malloc(size_t n) {
    return NO_MEMORY() ? (errno = ENOMEM, NULL) : __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    return NO_MEMORY() ? (errno = ENOMEM, NULL) : __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
    return NO_MEMORY() ? (errno = ENOMEM, NULL) : __libc_realloc(p, n);
}
char *strdup(const char *s) {
    if (NO_MEMORY())
        return errno = ENOMEM, NULL;
    size_t n = strlen(s) + 1;
    char *copy = __libc_malloc(n);
    return copy ? memcpy(copy, s, n) : NULL;
}
int vasprintf(char **ret, const char *format, va_list ap) {
    static int (*next)(char **, const char *, va_list);
    if (NO_MEMORY())
        return errno = ENOMEM, -1;
    if (!next)
        next = (int (*)(char **, const char *, va_list))dlsym(RTLD_NEXT, "vasprintf");
    return next(ret, format, ap);
}

int pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *arg) {
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (OURS() && page->kind == FAULT_THREAD && fault_now(page))
        return EAGAIN;
    if (!next)
        next = (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(
            RTLD_NEXT, "pthread_create");
    return next(ret, attr, run, arg);
}

/* ---- system calls: raw here, since the library looks at a program's own prctl and syscall ---- */
static long raw(long nr, long a, long b, long c, long d) {
    long ret;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return ret;
}

/* Sends what the library's text calls to the listener. The text lies in one stretch of 4 GiB: fault.sh sees
 * to that. */
static int filter_install(void) {
    const uint32_t ip = offsetof(struct seccomp_data, instruction_pointer);
    struct sock_filter f[64] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(lo >> 32), 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)lo, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)hi, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned n = 9;
    for (const struct fault_call *c = fault_calls; c->nr >= 0; c++)
        if ((uint32_t)c->kind == page->kind) {
            f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)c->nr, 0, 1);
            f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
        }
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog prog = {.len = (unsigned short)n, .filter = f};
    raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0);
    return (int)raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, (long)&prog, 0);
}

static void listener_send(int to, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    (void)raw(SYS_sendmsg, to, (long)&m, 0, 0);
}

__attribute__((constructor)) static void start(void) {
    const char *file = getenv("FAULT_PAGE"), *to = getenv("FAULT_LISTENER");
    dl_iterate_phdr(text_of, NULL);
    int fd = file ? (int)raw(SYS_open, (long)file, O_RDWR | O_CLOEXEC, 0, 0) : -1;
    if (fd < 0 || !lo)
        return;
    void *p = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    raw(SYS_close, fd, 0, 0, 0);
    if (p == MAP_FAILED)
        return;
    page = p;
    if (!to || page->kind < FAULT_SYSCALLS)
        return;
    int listener = filter_install(); /* a child under its parent's filter gets none */
    if (listener >= 0) {
        listener_send(atoi(to), listener);
        raw(SYS_close, listener, 0, 0, 0);
    }
}
