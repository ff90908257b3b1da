/* SPDX-License-Identifier: Apache-2.0
 *
 * Many processes that pick at once over one cluster's counters: what each policy promises must hold for all
 * of them together, and every connection that is counted is given back.
 */
#include <criterion/criterion.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/unit/lb/cluster.h"

enum { PROCESSES = 64, PICKS = 500, ENDPOINTS = 8 };

struct tally {
    _Atomic uint32_t picked[ENDPOINTS];
};

/* Picks, holds a few connections as a program does, and gives them back. */
static void pick_all(struct cluster *c, struct tally *t, uint64_t seed) {
    uint32_t held[4] = {0}, n = 0;
    c->rng = seed * 7919 + 1;
    for (int i = 0; i < PICKS; i++) {
        int at = cluster_pick(c);
        if (at < 0)
            _exit(1);
        atomic_fetch_add(&t->picked[at], 1);
        atomic_fetch_add(&c->stats[at].inflight, 1);
        atomic_fetch_add(&c->live->inflight, 1);
        if (n == 4) {
            atomic_fetch_sub(&c->stats[held[i % 4]].inflight, 1);
            atomic_fetch_sub(&c->live->inflight, 1);
            held[i % 4] = (uint32_t)at;
        } else {
            held[n++] = (uint32_t)at;
        }
        mesh_lb_report(&c->view, (uint32_t)at, MESH_LB_CONNECTED, c->request.now, 1000);
    }
    for (uint32_t i = 0; i < n; i++) {
        atomic_fetch_sub(&c->stats[held[i]].inflight, 1);
        atomic_fetch_sub(&c->live->inflight, 1);
    }
    _exit(0);
}

static struct tally *run(struct cluster *c) {
    struct tally *t = cluster_shared(sizeof *t);
    int status;
    cr_assert_eq(cluster_publish(c), 0);
    for (uint64_t i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            pick_all(c, t, i);
    for (int i = 0; i < PROCESSES; i++) {
        cr_assert(wait(&status) > 0);
        cr_assert_eq(status, 0);
    }
    return t;
}

static void expect_conserved(const struct cluster *c, const struct tally *t) {
    uint32_t picked = 0, connects = 0;
    for (int i = 0; i < ENDPOINTS; i++) {
        picked += t->picked[i];
        connects += (uint32_t)c->stats[i].connects;
        cr_expect_eq(c->stats[i].inflight, 0);
    }
    cr_expect_eq(picked, PROCESSES * PICKS);
    cr_expect_eq(connects, PROCESSES * PICKS, "no report is lost");
    cr_expect_eq(c->live->inflight, 0);
}

Test(shared, counts_are_conserved_and_nobody_starves_under_each_policy, .timeout = 120) {
    for (uint8_t policy = 0; policy <= MESH_LB_PEAK_EWMA; policy++) {
        struct cluster *c = cluster_new(ENDPOINTS, policy);
        struct tally *t = run(c);
        expect_conserved(c, t);
        bool spreads = policy != MESH_LB_PICK_FIRST;
        for (int i = 0; i < ENDPOINTS; i++)
            if (spreads) /* a quarter of an even share; hashing without a hash draws at random by weight */
                cr_expect_geq(t->picked[i], PROCESSES * PICKS / ENDPOINTS / 4, "%s: endpoint %d",
                              mesh_lb_policy_name(policy), i);
        cluster_free(c);
    }
}

Test(shared, round_robin_of_all_processes_takes_even_turns,
     .timeout = 60) { /* one counter: exact, whoever picks */
    struct cluster *c = cluster_new(ENDPOINTS, MESH_LB_ROUND_ROBIN);
    struct tally *t = run(c);
    for (int i = 0; i < ENDPOINTS; i++)
        cr_expect_eq(t->picked[i], PROCESSES * PICKS / ENDPOINTS);
    cluster_free(c);
}

Test(shared, weighted_round_robin_of_all_processes_is_exact,
     .timeout = 60) { /* 1 to 8 of 36, turns in whole rounds and a part */
    struct cluster *c = cluster_new(ENDPOINTS, MESH_LB_ROUND_ROBIN);
    for (uint32_t i = 0; i < ENDPOINTS; i++)
        c->endpoints[i].weight = i + 1;
    struct tally *t = run(c);
    for (uint32_t i = 0; i < ENDPOINTS; i++) {
        uint32_t rounds = PROCESSES * PICKS / 36;
        cr_expect_geq(t->picked[i], rounds * (i + 1));
        cr_expect_leq(t->picked[i], (rounds + 1) * (i + 1));
    }
    cluster_free(c);
}

Test(shared, hashing_moves_only_who_was_on_the_removed_one) {
    static const uint8_t policies[] = {MESH_LB_RING_HASH, MESH_LB_MAGLEV};
    for (int k = 0; k < 2; k++) {
        struct cluster *all = cluster_new(100, policies[k]), *less = cluster_new(99, policies[k]);
        uint32_t moved = 0;
        for (uint32_t i = 50; i < 99; i++)
            memcpy(less->endpoints[i].addr, all->endpoints[i + 1].addr, sizeof less->endpoints[i].addr);
        cr_assert_eq(cluster_publish(all), 0);
        cr_assert_eq(cluster_publish(less), 0);
        for (uint64_t i = 0; i < 10000; i++) {
            uint64_t hash = mesh_lb_xxh64(&i, sizeof i, 0);
            int before = cluster_pick_hash(all, hash), after = cluster_pick_hash(less, hash);
            moved += before != 50 && after + (after >= 50) != before;
        }
        /* ketama moves nobody else but where the smallest weight scales the ring anew; Maglev some of a
         * percent */
        cr_expect_leq(moved, policies[k] == MESH_LB_MAGLEV ? 400u : 10u, "%s: %u",
                      mesh_lb_policy_name(policies[k]), moved);
        cluster_free(all);
        cluster_free(less);
    }
}
