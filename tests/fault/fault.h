/* SPDX-License-Identifier: Apache-2.0
 *
 * What the injector, its supervisor and the program under test share: the page in which every process counts.
 */
#ifndef TESTS_FAULT_H
#define TESTS_FAULT_H

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>

enum fault_kind {
    FAULT_NONE,
    FAULT_MEMORY, /* of each place that allocates: its 1st, 2nd, 4th, 8th ... call and each 64th */
    FAULT_EVERY,  /* every allocation */
    FAULT_THREAD,
    FAULT_SYSCALLS,
    FAULT_DESCRIPTOR = FAULT_SYSCALLS,
    FAULT_MAP,
    FAULT_DISK
};
enum { FAULT_PLACES = 1 << 16 };

struct fault_page {
    uint32_t kind;                /* enum fault_kind */
    uint32_t many;                /* how many are refused */
    uint64_t at;                  /* the first that is refused, from 1; 0: none */
    uint64_t seen;                /* calls so far, in all processes */
    uint64_t given;               /* refusals so far */
    uint32_t calls[FAULT_PLACES]; /* of each place, by its address */
};

/* Counts one call. Is it to be refused? */
static inline int fault_now(struct fault_page *p) {
    uint64_t n = __atomic_add_fetch(&p->seen, 1, __ATOMIC_RELAXED);
    if (p->at == 0 || n < p->at || n >= p->at + p->many)
        return 0;
    __atomic_add_fetch(&p->given, 1, __ATOMIC_RELAXED);
    return 1;
}

/* The same for an allocation that comes from `place`. */
static inline int fault_memory(struct fault_page *p, uint64_t place) {
    uint32_t *calls = &p->calls[place * 0x9e3779b97f4a7c15u >> 48];
    uint32_t n = __atomic_add_fetch(calls, 1, __ATOMIC_RELAXED);
    return (p->kind == FAULT_EVERY || (n & (n - 1)) == 0 || n % 64 == 0) && fault_now(p);
}

struct fault_call {
    int nr, kind, error;
};
__attribute__((unused)) static const struct fault_call fault_calls[] = {
    {SYS_openat, FAULT_DESCRIPTOR, EMFILE},
    {SYS_socket, FAULT_DESCRIPTOR, EMFILE},
    {SYS_socketpair, FAULT_DESCRIPTOR, EMFILE},
    {SYS_memfd_create, FAULT_DESCRIPTOR, EMFILE},
    {SYS_dup3, FAULT_DESCRIPTOR, EMFILE},
    {SYS_dup, FAULT_DESCRIPTOR, EMFILE},
    {SYS_pipe2, FAULT_DESCRIPTOR, EMFILE},
    {SYS_eventfd2, FAULT_DESCRIPTOR, EMFILE},
    {SYS_epoll_create1, FAULT_DESCRIPTOR, EMFILE},
    {SYS_pidfd_open, FAULT_DESCRIPTOR, EMFILE},
    {SYS_fcntl, FAULT_DESCRIPTOR, EMFILE}, /* F_DUPFD and F_DUPFD_CLOEXEC alone: the supervisor looks */
    {SYS_mmap, FAULT_MAP, ENOMEM},
    {SYS_mremap, FAULT_MAP, ENOMEM},
    {SYS_mprotect, FAULT_MAP, ENOMEM},
    {SYS_fallocate, FAULT_DISK, ENOSPC},
    {SYS_ftruncate, FAULT_DISK, ENOSPC},
    {SYS_write, FAULT_DISK, ENOSPC},
    {SYS_pwrite64, FAULT_DISK, ENOSPC},
    {SYS_mkdirat, FAULT_DISK, ENOSPC},
    {SYS_renameat, FAULT_DISK, ENOSPC},
    {SYS_linkat, FAULT_DISK, ENOSPC},
    {-1, 0, 0},
};

#endif
