/* SPDX-License-Identifier: Apache-2.0
 *
 * For the tests of what goes past recv and send: one write of T_MARK by io_uring. */
#ifndef TESTS_WIRE_RING_H
#define TESTS_WIRE_RING_H

#include <linux/io_uring.h>
#include <sys/mman.h>
#include "t.h"

enum { N = 16 };

/* What came of it, for the matrix. */
T_UNUSED __attribute__((format(printf, 1, 2))) static void door(const char *fmt, ...) {
    char text[128];
    va_list ap;
    va_start(ap, fmt);
    int n = snprintf(text, sizeof text, "# door: ");
    n += vsnprintf(text + n, sizeof text - (size_t)n - 1, fmt, ap);
    va_end(ap);
    text[n++] = '\n';
    (void)!syscall(SYS_write, 2, text, (size_t)n);
}

typedef long caller(long nr, long a, long b, long c, long d, long e, long f);

static ssize_t send_by_ring(caller *call, int fd) {
    struct io_uring_params q = {0};
    int ring = (int)call(SYS_io_uring_setup, 4, (long)&q, 0, 0, 0, 0);
    if (ring < 0)
        return -1;
    char *sq = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *sqe = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    CHECK(sq != MAP_FAILED && sqe != MAP_FAILED && q.features & IORING_FEAT_SINGLE_MMAP);
    sqe[0] = (struct io_uring_sqe){.opcode = IORING_OP_SEND, .fd = fd, .addr = (uintptr_t)T_MARK, .len = N};
    *(uint32_t *)(void *)(sq + q.sq_off.array) = 0;
    __atomic_store_n((uint32_t *)(void *)(sq + q.sq_off.tail), 1, __ATOMIC_RELEASE);
    EQ(call(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0), 1);
    struct io_uring_cqe *cqe = (struct io_uring_cqe *)(void *)(sq + q.cq_off.cqes);
    close(ring);
    return cqe->res;
}

#endif
