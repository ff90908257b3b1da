/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/publish.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"

/* A holder that lives but has been silent for so long (stopped, frozen, debugged) is given up. Whole loads
 * take a fraction of a second. */
#define LEASE_SILENCE (10 * MESH_SEC)
enum { PID_BITS = 24, START_BITS = 16 };

static int pid_of(uint64_t word) {
    return (int)(word & ((1u << PID_BITS) - 1));
}

static uint64_t start_bits(int pid) {
    return mesh_process_start(pid) & ((1u << START_BITS) - 1);
}

static uint64_t next_epoch(uint64_t word) {
    return (word >> 40) + 1;
}

bool mesh_lease_lives(uint64_t word) {
    int pid = pid_of(word);
    uint64_t start = word >> PID_BITS & ((1u << START_BITS) - 1);
    if (mesh_sys_kill(pid, 0) == -ESRCH)
        return false;
    uint64_t now = start ? start_bits(pid) : 0;
    return !now || now == start;
}

bool mesh_lease_held(const struct mesh_view *v) {
    uint64_t word = atomic_load(&mesh_view_head(v)->lease.who);
    return pid_of(word) && mesh_lease_lives(word);
}

/* Notes that everything below the present end may still be written by the holder that we are about to give
 * up. */
static struct view_deposed *depose(struct view_head *h, uint64_t word) {
    for (int i = 0; i < VIEW_DEPOSED; i++) {
        uint64_t nobody = 0;
        if (!atomic_compare_exchange_strong(&h->deposed[i].who, &nobody, word))
            continue;
        atomic_store(&h->deposed[i].floor, atomic_load(&h->size) / VIEW_GRANULE);
        return &h->deposed[i];
    }
    return NULL;
}

int mesh_lease_take(struct mesh_view *v, uint64_t now, uint64_t *ret_word) {
    struct view_head *h = mesh_view_head(v);
    struct view_deposed *deposed = NULL;
    uint64_t word = atomic_load(&h->lease.who), mine;
    int pid = mesh_sys_getpid();
    if (pid_of(word) && mesh_lease_lives(word)) {
        uint64_t since = atomic_load(&h->lease.since);
        if (now < since || now - since < LEASE_SILENCE)
            return MESH_E_AGAIN;
        deposed = depose(h, word);
        if (!deposed)
            return MESH_E_AGAIN;
    }
    mine = next_epoch(word) << 40 | start_bits(pid) << PID_BITS | (unsigned)pid;
    if (!atomic_compare_exchange_strong(&h->lease.who, &word, mine)) {
        if (deposed)
            atomic_store(&deposed->who, 0);
        return MESH_E_AGAIN;
    }
    atomic_store(&h->lease.since, now);
    *ret_word = mine;
    return 0;
}

bool mesh_lease_ours(const struct mesh_view *v, uint64_t word) {
    return atomic_load(&mesh_view_head(v)->lease.who) == word;
}

void mesh_lease_renew(struct mesh_view *v, uint64_t now) {
    atomic_store(&mesh_view_head(v)->lease.since, now);
}

void mesh_lease_drop(struct mesh_view *v, uint64_t word) {
    uint64_t nobody = next_epoch(word) << 40;
    atomic_compare_exchange_strong(&mesh_view_head(v)->lease.who, &word, nobody);
}
