/* SPDX-License-Identifier: Apache-2.0
 *
 * What holds for both consistent-hashing policies.
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

static const uint8_t both[] = {MESH_LB_RING_HASH, MESH_LB_MAGLEV};
enum { KEYS = 5000 };

static struct cluster *hashing(uint32_t n, int which) {
    struct cluster *c = cluster_new(n, both[which]);
    c->policy.table_size = 5003;
    cr_assert_eq(cluster_publish(c), 0);
    return c;
}

static void owners(struct cluster *c, int *owner) {
    for (uint64_t i = 0; i < KEYS; i++)
        owner[i] = cluster_pick_hash(c, mesh_lb_xxh64(&i, sizeof i, 0));
}

Test(hashing, key_stays_whatever_the_random_bits) {
    for (int k = 0; k < 2; k++) {
        int a[KEYS], b[KEYS];
        struct cluster *c = hashing(20, k);
        owners(c, a);
        owners(c, b);
        for (int i = 0; i < KEYS; i++)
            cr_assert_eq(a[i], b[i]);
        cluster_free(c);
    }
}

Test(hashing, ejecting_one_moves_its_keys_alone_and_they_come_back) {
    for (int k = 0; k < 2; k++) {
        int before[KEYS], during[KEYS], after[KEYS];
        struct cluster *c = hashing(20, k);
        owners(c, before);
        cluster_eject(c, 7, c->request.now + MESH_SEC);
        owners(c, during);
        for (int i = 0; i < KEYS; i++) {
            cr_assert(before[i] == 7 || before[i] == during[i]);
            cr_assert_neq(during[i], 7);
        }
        c->request.now += MESH_SEC;
        owners(c, after);
        for (int i = 0; i < KEYS; i++)
            cr_assert_eq(before[i], after[i]);
        cluster_free(c);
    }
}

Test(hashing, keys_of_an_ejected_one_spread_over_many) {
    for (int k = 0; k < 2; k++) {
        int before[KEYS], during[KEYS];
        bool heir[20] = {false};
        int heirs = 0;
        struct cluster *c = hashing(20, k);
        owners(c, before);
        cluster_eject(c, 7, c->request.now + MESH_SEC);
        owners(c, during);
        for (int i = 0; i < KEYS; i++) {
            if (before[i] != 7 || heir[during[i]])
                continue;
            heir[during[i]] = true;
            heirs++;
        }
        cr_expect_gt(heirs, 10, "%d", heirs);
        cluster_free(c);
    }
}

Test(hashing, unhealthy_ones_are_not_on_the_wheel) {
    for (int k = 0; k < 2; k++) {
        int owner[KEYS];
        struct cluster *c = hashing(20, k);
        c->endpoints[3].health = MESH_HEALTH_DRAINING;
        cr_assert_eq(cluster_publish(c), 0);
        owners(c, owner);
        for (int i = 0; i < KEYS; i++)
            cr_assert_neq(owner[i], 3);
        cluster_free(c);
    }
}

Test(hashing, sockets_of_one_family_go_where_both_go_if_they_can) {
    for (int k = 0; k < 2; k++) {
        int dual[KEYS], four[KEYS];
        struct cluster *c = hashing(20, k);
        for (uint32_t i = 0; i < 20; i += 2)
            c->endpoints[i].family = 6;
        cr_assert_eq(cluster_publish(c), 0);
        owners(c, dual);
        c->request.families = 1;
        owners(c, four);
        for (int i = 0; i < KEYS; i++) {
            cr_assert_eq(four[i] % 2, 1, "picked %d", four[i]);
            cr_assert(dual[i] % 2 == 0 || dual[i] == four[i]);
        }
        cluster_free(c);
    }
}

Test(hashing, panic_puts_all_on_the_wheel) { /* 2 of 10 healthy */
    for (int k = 0; k < 2; k++) {
        int owner[KEYS];
        bool seen[10] = {false};
        struct cluster *c = hashing(10, k);
        for (int i = 2; i < 10; i++)
            c->endpoints[i].health = MESH_HEALTH_UNHEALTHY;
        cr_assert_eq(cluster_publish(c), 0);
        owners(c, owner);
        for (int i = 0; i < KEYS; i++)
            seen[owner[i]] = true;
        for (int i = 0; i < 10; i++)
            cr_expect(seen[i]);
        cluster_free(c);
    }
}

Test(hashing,
     each_priority_has_a_wheel_and_the_hash_chooses_it) { /* 1 of 2 healthy: 70 percent, by hash % 100 */
    for (int k = 0; k < 2; k++) {
        struct cluster *c = hashing(4, k);
        c->endpoints[1].health = MESH_HEALTH_UNHEALTHY;
        c->endpoints[2].priority = c->endpoints[3].priority = 1;
        cr_assert_eq(cluster_publish(c), 0);
        cr_expect_eq(cluster_pick_hash(c, 69), 0);
        cr_expect_geq(cluster_pick_hash(c, 70), 2);
        cluster_free(c);
    }
}

Test(hashing, without_a_hash_it_is_random) {
    for (int k = 0; k < 2; k++) {
        struct cluster *c = hashing(4, k);
        uint32_t *count = cluster_count(c, 4000);
        for (int i = 0; i < 4; i++)
            cr_expect_gt(count[i], 600);
        free(count);
        cluster_free(c);
    }
}

Test(hashing, without_a_table_it_still_picks) {
    for (int k = 0; k < 2; k++) {
        struct cluster *c = cluster_new(4, both[k]);
        cr_expect_geq(cluster_pick_hash(c, 1), 0);
        cluster_free(c);
    }
}

Test(hashing, keys_of_ipv6_hosts_are_written_with_brackets) { /* "[::1]:80_0" begins a ring of one */
    struct cluster *c = cluster_new(1, MESH_LB_RING_HASH);
    c->endpoints[0].family = 6;
    memset(c->endpoints[0].addr, 0, 16);
    c->endpoints[0].addr[15] = 1;
    c->policy.ring_min = c->policy.ring_max = 1;
    cr_assert_eq(cluster_publish(c), 0);
    uint64_t position = mesh_lb_xxh64("[::1]:80_0", 10, 0);
    cr_expect_not_null(memmem(c->table, c->view.table_len, &position, sizeof position));
    cluster_free(c);
}

Test(hashing,
     key_stays_even_when_a_scan_has_to_find_its_host) { /* 58 of 60 out: sixteen draws often find nobody */
    for (int k = 0; k < 2; k++) {
        struct cluster *c = hashing(60, k);
        for (uint32_t i = 0; i < 58; i++)
            c->stats[i].ejected_until = c->request.now + MESH_SEC;
        mesh_lb_recount(&c->view, c->request.now);
        for (uint64_t key = 0; key < 50; key++) {
            uint64_t hash = mesh_lb_xxh64(&key, sizeof key, 0);
            int first = cluster_pick_hash(c, hash);
            cr_assert_geq(first, 58);
            for (int i = 0; i < 5; i++)
                cr_assert_eq(cluster_pick_hash(c, hash), first);
        }
        cluster_free(c);
    }
}
