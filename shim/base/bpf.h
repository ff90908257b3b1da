/* SPDX-License-Identifier: Apache-2.0
 *
 * What a seccomp filter says of a system call: classic BPF, run here over what the kernel would show it. Bounded: jumps
 * lead forward only. Knows seccomp's subset (seccomp(2)): absolute word loads, arithmetic, jumps, scratch memory, returns.
 */
#ifndef MESH_BASE_BPF_H
#define MESH_BASE_BPF_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>

/* The filter's answer (SECCOMP_RET_). A program that the kernel would not take answers SECCOMP_RET_KILL_PROCESS. */
uint32_t mesh_bpf_run(const struct sock_filter *f, unsigned n, const struct seccomp_data *d);

#endif
