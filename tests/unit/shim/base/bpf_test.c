/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stddef.h>

#include "shim/base/bpf.h"

#define LEN(a) (sizeof(a) / sizeof *(a))
#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))

static uint32_t run(const struct sock_filter *f, unsigned n, int nr, uint64_t arg) {
    struct seccomp_data d = {.nr = nr, .args = {arg}};
    return mesh_bpf_run(f, n, &d);
}

Test(bpf, number_allowed_and_others_killed) {
    const struct sock_filter f[] = {NUMBER, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1),
                                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                                    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL)};
    cr_assert_eq(run(f, LEN(f), 7, 0), SECCOMP_RET_ALLOW);
    cr_assert_eq(run(f, LEN(f), 8, 0), SECCOMP_RET_KILL);
}

Test(bpf, range_and_argument_are_compared) {
    const struct sock_filter f[] = {NUMBER,
                                    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 10, 0, 4),
                                    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
                                    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 4, 0, 1),
                                    BPF_STMT(BPF_RET | BPF_K, 1),
                                    BPF_STMT(BPF_RET | BPF_K, 2),
                                    BPF_STMT(BPF_RET | BPF_K, 3)};
    cr_assert_eq(run(f, LEN(f), 10, 6), 1);
    cr_assert_eq(run(f, LEN(f), 11, 3), 2);
    cr_assert_eq(run(f, LEN(f), 9, 6), 3);
}

Test(bpf, arithmetic_and_memory_give_the_answer) {
    const struct sock_filter f[] = {NUMBER,
                                    BPF_STMT(BPF_ST, 3),
                                    BPF_STMT(BPF_LDX | BPF_MEM, 3),
                                    BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
                                    BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 4),
                                    BPF_STMT(BPF_ALU | BPF_OR | BPF_K, 1),
                                    BPF_STMT(BPF_MISC | BPF_TAX, 0),
                                    BPF_STMT(BPF_MISC | BPF_TXA, 0),
                                    BPF_STMT(BPF_RET | BPF_A, 0)};
    cr_assert_eq(run(f, LEN(f), 5, 0), 161);
}

Test(bpf, broken_programs_kill) {
    const struct sock_filter end[] = {NUMBER}, far[] = {BPF_STMT(BPF_JMP | BPF_JA, 0xffffffff)},
                             outside[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, sizeof(struct seccomp_data)),
                                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
                             memory[] = {BPF_STMT(BPF_ST, BPF_MEMWORDS),
                                         BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)},
                             zero[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0),
                                       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    cr_assert_eq(run(end, LEN(end), 1, 0), SECCOMP_RET_KILL_PROCESS);
    cr_assert_eq(run(far, LEN(far), 1, 0), SECCOMP_RET_KILL_PROCESS);
    cr_assert_eq(run(outside, LEN(outside), 1, 0), SECCOMP_RET_KILL_PROCESS);
    cr_assert_eq(run(memory, LEN(memory), 1, 0), SECCOMP_RET_KILL_PROCESS);
    cr_assert_eq(run(zero, LEN(zero), 1, 0), SECCOMP_RET_KILL_PROCESS);
}
