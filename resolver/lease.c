/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/publish.h"
#include "shim/base/clock.h"
#include "shim/base/sys.h"

/* A holder that lives but has been silent for so long (stopped, frozen, debugged) is given up. Whole loads
 * take a fraction of a second. */
#define LEASE_SILENCE (10 * MESH_SEC)
/* One that beats (resolver/publisher.h) beats several times a second. */
#define STANDING_SILENCE (900 * MESH_MS)
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

static uint64_t word_of(int pid) {
    return start_bits(pid) << PID_BITS | (unsigned)pid;
}

static bool somebody_comes_first(const struct view_head *h, int pid) {
    uint64_t agent = atomic_load(&((struct view_head *)h)->lease.agent);
    return agent && pid_of(agent) != pid && mesh_lease_lives(agent);
}

static bool is_silent(const struct view_head *h, uint64_t word, uint64_t now) {
    struct view_owner *o = &((struct view_head *)h)->lease;
    uint64_t since = atomic_load(&o->since),
             most = atomic_load(&o->standing) == word ? STANDING_SILENCE : LEASE_SILENCE;
    return now >= since && now - since >= most;
}

int mesh_lease_take(struct mesh_view *v, uint64_t now, uint64_t *ret_word) {
    struct view_head *h = mesh_view_head(v);
    struct view_deposed *deposed = NULL;
    uint64_t word = atomic_load(&h->lease.who), mine;
    int pid = mesh_sys_getpid();
    if (somebody_comes_first(h, pid))
        return MESH_E_AGAIN;
    if (pid_of(word) && mesh_lease_lives(word)) {
        if (!is_silent(h, word, now))
            return MESH_E_AGAIN;
        deposed = depose(h, word);
        if (!deposed)
            return MESH_E_AGAIN;
    }
    mine = next_epoch(word) << 40 | word_of(pid);
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
    struct view_head *h = mesh_view_head(v);
    uint64_t nobody = next_epoch(word) << 40, seen = word;
    if (atomic_compare_exchange_strong(&h->lease.who, &seen, nobody))
        return;
    for (int i = 0; i < VIEW_DEPOSED; i++) { /* given up meanwhile: from here on we write no more */
        uint64_t ours = word;
        atomic_compare_exchange_strong(&h->deposed[i].who, &ours, 0);
    }
}

void mesh_lease_stand(struct mesh_view *v, uint64_t word) {
    atomic_store(&mesh_view_head(v)->lease.standing, word);
}

bool mesh_lease_stands(const struct mesh_view *v, uint64_t now, bool thorough) {
    const struct view_head *h = mesh_view_head(v);
    uint64_t word = atomic_load(&((struct view_head *)h)->lease.who);
    return pid_of(word) && atomic_load(&((struct view_head *)h)->lease.standing) == word &&
           !is_silent(h, word, now) && (!thorough || mesh_lease_lives(word));
}

void mesh_lease_claim(struct mesh_view *v, bool first) {
    _Atomic uint64_t *agent = &mesh_view_head(v)->lease.agent;
    uint64_t mine = word_of(mesh_sys_getpid()), was = mine;
    if (first)
        atomic_store(agent, mine);
    else
        atomic_compare_exchange_strong(agent, &was, 0);
}

bool mesh_lease_yields(const struct mesh_view *v) {
    return somebody_comes_first(mesh_view_head(v), mesh_sys_getpid());
}

int mesh_lease_pid(const struct mesh_view *v) {
    return pid_of(atomic_load(&mesh_view_head(v)->lease.who));
}
