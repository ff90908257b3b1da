/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/base/mem.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include "shim/base/clock.h"
#include "shim/base/sys.h"

enum { NONBLOCK = 1 }; /* GRND_NONBLOCK: early in boot an unready pool must not stop the program */

/* One counter for the whole process tree, in a page that fork children share: no value is drawn twice, so
 * children need neither notice that they are children nor ask the kernel for anything. */
struct pool {
    uint64_t seed;
    _Atomic uint64_t drawn;
};

static _Atomic(struct pool *) shared;
static struct pool fallback; /* when there is no memory for a page */

void mesh_zero(void *p, size_t n) {
    memset(p, 0, n);
    __asm__ volatile("" : : "r"(p) : "memory");
}

/* splitmix64's finaliser: a bijection, so distinct counters give distinct values. */
static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t new_seed(void) {
    uint64_t seed;
    if (mesh_sys_getrandom(&seed, sizeof seed, NONBLOCK) == (ssize_t)sizeof seed)
        return seed;
    return mix(mesh_now()) ^ mix((uint64_t)mesh_sys_getpid()) ^ (uint64_t)(uintptr_t)&seed;
}

static struct pool *pool_get(void) {
    struct pool *have = atomic_load_explicit(&shared, memory_order_acquire);
    if (mesh_likely(have != NULL))
        return have;
    void *page;
    struct pool *mine = &fallback;
    if (mesh_sys_mmap(NULL, sizeof *mine, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0, &page) ==
        0) {
        mine = page;
        mine->seed = new_seed();
    }
    if (atomic_compare_exchange_strong(&shared, &have, mine))
        return mine;
    if (mine != &fallback)
        mesh_sys_munmap(mine, sizeof *mine);
    return have;
}

uint64_t mesh_random(void) {
    struct pool *p = pool_get();
    uint64_t at = atomic_fetch_add_explicit(&p->drawn, 1, memory_order_relaxed);
    uint64_t value = mix(p->seed + at * UINT64_C(0x9e3779b97f4a7c15));
    if (mesh_unlikely(p == &fallback)) /* private memory: the clock tells fork children apart */
        value ^= mix(mesh_now());
    return value;
}
