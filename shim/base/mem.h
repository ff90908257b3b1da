/* SPDX-License-Identifier: Apache-2.0
 *
 * Small memory helpers. Threads: any, signal-safe.
 */
#ifndef MESH_BASE_MEM_H
#define MESH_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

/* Zeroes key material; never optimised away. */
void mesh_zero(void *p, size_t n);
/* 64 random bits for balancing and ids (not for keys): getrandom once, then a mixed counter that the process shares
 * with its fork children: no value comes twice in a process tree. A system call at the first use of a tree only. */
uint64_t mesh_random(void);

#define MESH_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* A word that a lock guards and that some look at without it: who holds the lock writes with mesh_show. */
#define mesh_look(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define mesh_show(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
#define mesh_likely(x) __builtin_expect(!!(x), 1)
#define mesh_unlikely(x) __builtin_expect(!!(x), 0)

#endif
