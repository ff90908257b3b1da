/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/heavy.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "shim/base/sys.h"
#include "shim/link/deferred.h"
#include "shim/link/private.h"

/* Filled by shim/link/defer.c. volatile: what the compiler sees here is not what is there. */
const volatile struct mesh_deferred mesh_deferred[MESH_DEFERRED_GROUPS] = {0};

/* From the linker; a program that is linked without shim/link/layout.ld has none. */
#define FROM_LINKER __attribute__((visibility("hidden"), weak))
extern char __ehdr_start[] __attribute__((visibility("hidden")));
extern char mesh_rooms_start[] FROM_LINKER, mesh_rooms_relro_end[] FROM_LINKER;
extern char mesh_heavy_start[] FROM_LINKER, mesh_heavy_relro_end[] FROM_LINKER;

/* shim/link/private.c is in the library alone. */
#pragma weak mesh_private_start

/* Each pointer is written as base plus what the table says, whatever was there: doing it twice changes
 * nothing. */
static void relocate(const volatile struct mesh_deferred *d) {
    const uint64_t base = (uint64_t)(uintptr_t)__ehdr_start;
    const uint64_t *words = (const uint64_t *)(__ehdr_start + d->words);
    const uint32_t *addends = (const uint32_t *)(__ehdr_start + d->addends);
    uint64_t *at = NULL;
    for (uint32_t i = 0; i < d->nwords; i++) {
        uint64_t word = words[i];
        if (!(word & 1)) { /* as in DT_RELR: an address */
            at = (uint64_t *)(__ehdr_start + word);
            *at++ = base + *addends++;
            continue;
        }
        for (uint64_t *p = at; word >>= 1; p++) /* or which of the next 63 */
            if (word & 1)
                *p = base + *addends++;
        at += 63;
    }
}

static void load(int group, char *start, char *relro_end) {
    if (!mesh_deferred[group].nwords)
        return;
    relocate(&mesh_deferred[group]);
    /* Some filters forbid it; the pages stay writable then, as they were. */
    (void)mesh_sys_mprotect(start, (size_t)(relro_end - start), PROT_READ);
}

void mesh_rooms_load(void) {
    load(MESH_DEFERRED_ROOMS, mesh_rooms_start, mesh_rooms_relro_end);
}

/* For __builtin_cpu_supports; libgcc's own constructor is not linked. */
static void look_at_processor(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
}

/* COLD, DONE, or the process that is at it. Not a once: a child forked in the middle inherits a loader that
 * it does not have, sees that by the process id and takes its place. */
enum { COLD = 0, DONE = -1 };
static _Atomic int loader;

void mesh_heavy_load(void) {
    int seen = atomic_load_explicit(&loader, memory_order_acquire),
        me = seen == DONE ? 0 : (int)mesh_sys_getpid();
    while (seen != DONE) {
        if (seen == me) {
            sched_yield();
            seen = atomic_load_explicit(&loader, memory_order_acquire);
        } else if (atomic_compare_exchange_weak(&loader, &seen, me)) {
            look_at_processor();
            if (mesh_private_start)
                mesh_private_start();
            load(MESH_DEFERRED_HEAVY, mesh_heavy_start, mesh_heavy_relro_end);
            atomic_store_explicit(&loader, DONE, memory_order_release);
            return;
        }
    }
}
