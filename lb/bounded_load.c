/* SPDX-License-Identifier: Apache-2.0
 *
 * Consistent hashing with bounded load, as Envoy's BoundedLoadHashingLoadBalancer: a host may hold
 *   max(1, ceil(((active_total + 1) * factor + 99) / 100 * weight))
 * connections; when the hashed one holds more, others are tried in an order that std::mt19937 shuffles,
 * seeded with the hash, and the first that is not over its bound is taken, else the least overloaded. One
 * difference: after PROBES hosts that were all over, the search ends.
 */
#include "lb/hashing.h"
#include "lb/power.h"

enum { PROBES = 64, WORDS = 624, SHIFT = 397 };

struct mt { /* MT19937, 32 bit */
    uint32_t state[WORDS], next;
};

static void mt_seed(struct mt *m, uint32_t seed) {
    m->state[0] = seed;
    for (uint32_t i = 1; i < WORDS; i++)
        m->state[i] = 1812433253u * (m->state[i - 1] ^ m->state[i - 1] >> 30) + i;
    m->next = 0;
}

/* Twists one word at a time: few are ever asked for. */
static uint32_t mt_next(struct mt *m) {
    uint32_t i = m->next, y = (m->state[i] & 0x80000000u) | (m->state[(i + 1) % WORDS] & 0x7fffffffu);
    m->state[i] = m->state[(i + SHIFT) % WORDS] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    y = m->state[i];
    m->next = (i + 1) % WORDS;
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* Uniform in [0, k), by Envoy's own rejection. */
static uint32_t mt_below(struct mt *m, uint32_t k) {
    uint64_t bucket = (UINT64_C(1) << 32) / k;
    for (int i = 0; i < 32; i++) {
        uint64_t x = mt_next(m) / bucket;
        if (x < k)
            return (uint32_t)x;
    }
    return 0;
}

struct shuffle { /* the array 0..n-1 under its first PROBES Fisher-Yates swaps, remembered as differences */
    struct mt mt;
    uint32_t n, done, at[PROBES], value[PROBES];
};

static uint32_t value_at(const struct shuffle *s, uint32_t at) {
    for (uint32_t i = s->done; i--;)
        if (s->at[i] == at)
            return s->value[i];
    return at;
}

/* The next element of the order. Position `done` is never looked at again, so one side of the swap is enough.
 */
static uint32_t shuffle_next(struct shuffle *s) {
    uint32_t from = s->done + mt_below(&s->mt, s->n - s->done);
    uint32_t taken = value_at(s, from), left = value_at(s, s->done);
    s->at[s->done] = from;
    s->value[s->done++] = left;
    return taken;
}

static double overload(const struct lb_ask *a, const struct lb_host *h) {
    uint64_t all = atomic_load_explicit(&a->c->limits->inflight, memory_order_relaxed);
    uint64_t slots = ((all + 1) * a->policy.hash_balance + 99) / 100;
    double mine = mesh_lb_ceil((double)slots * h->weight);
    return lb_inflight(a, h->stat) / (mine > 1 ? mine : 1);
}

static uint32_t probe(const struct lb_ask *a, const struct lb_wheel_open *w, uint64_t hash, uint32_t first) {
    struct shuffle s = {.n = w->nhosts};
    uint32_t best = first;
    double least = overload(a, &w->hosts[first]);
    if (least <= 1)
        return first;
    mt_seed(&s.mt, (uint32_t)hash);
    while (s.done < s.n && s.done < PROBES) {
        uint32_t at = shuffle_next(&s);
        double load = at == first || at >= w->nhosts ? least : overload(a, &w->hosts[at]);
        if (load >= least)
            continue;
        best = at;
        least = load;
        if (load <= 1)
            break;
    }
    return best;
}

int mesh_lb_wheel_host(const struct lb_ask *a, const struct lb_wheel_open *w, uint64_t hash, uint32_t slot,
                       struct lb_member *ret) {
    uint32_t at = w->slots[slot];
    if (at >= w->nhosts)
        return MESH_E_NOENDPOINT;
    if (a->policy.hash_balance)
        at = probe(a, w, hash, at);
    *ret = (struct lb_member){w->hosts[at].endpoint, w->hosts[at].stat};
    return 0;
}
