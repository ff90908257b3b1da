/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that a publisher recycles while it is read: words of policy, endpoints, counters and table are
 * replaced by others, and each pick still ends with an index in bounds or an error. To be run with the
 * sanitizers as well; the arrays end where their allocation ends.
 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

static uint32_t word(uint32_t limit) {
    switch (rand() % 6) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
        return UINT32_MAX;
    case 3:
        return (uint32_t)rand() % (limit + 1);
    case 4:
        return UINT32_MAX / 2 + 1;
    default:
        return (uint32_t)rand() * 2654435761u;
    }
}

static void damage(void *at, size_t len, int times, uint32_t limit) {
    for (; len >= 4 && times--;)
        ((uint32_t *)at)[(size_t)rand() % (len / 4)] = word(limit);
}

static void damage_some(struct cluster *c) {
    uint32_t n = c->view.n;
    if (rand() % 3 == 0)
        damage(&c->policy, sizeof c->policy, 3, n);
    if (rand() % 3 == 0)
        damage(c->endpoints, n * sizeof *c->endpoints, 10, n);
    if (rand() % 3 == 0)
        damage(c->live, sizeof *c->live, 3, n);
    if (rand() % 3 == 0)
        damage(c->stats, n * sizeof *c->stats, 10, n);
    uint32_t head = c->view.table_len < 256 ? c->view.table_len : 256;
    damage(c->table, rand() % 2 ? c->view.table_len : head, 1 + rand() % 8, n);
    if (rand() % 4 == 0 && c->view.table_len)
        c->view.table_len = (uint32_t)rand() % c->view.table_len;
}

static struct cluster *some_cluster(int round) {
    struct cluster *c = cluster_new(round % 3 ? 1 + (uint32_t)rand() % 40 : 100 + (uint32_t)rand() % 100,
                                    (uint8_t)(round % 7));
    c->policy.table_size = 251;
    c->policy.ring_max = 2048;
    c->policy.locality_weighted = rand() % 2;
    c->policy.slow_start_ms = rand() % 2 ? 60000 : 0;
    c->policy.hash_balance = rand() % 2 ? 120 : 0;
    for (uint32_t i = 0; i < c->view.n; i++) {
        struct mesh_endpoint *e = &c->endpoints[i];
        e->priority = (uint8_t)(rand() % 3);
        e->locality = (uint16_t)(rand() % 3);
        e->locality_weight = (uint32_t)rand() % 3;
        e->family = rand() % 4 ? 4 : 6;
        e->health = (uint8_t)(rand() % 6);
        e->weight = 1 + (uint32_t)rand() % 3;
    }
    return c;
}

Test(torn, any_damage_ends_with_an_index_in_bounds_or_an_error) {
    srand(3);
    for (int round = 0; round < 7000; round++) {
        struct cluster *c = some_cluster(round);
        cr_assert_eq(cluster_publish(c), 0);
        damage_some(c);
        c->request.families = (uint8_t)(rand() % 4);
        c->request.has_hash = rand() % 2;
        c->request.want_why = rand() % 2;
        for (int i = 0; i < 10; i++) {
            struct mesh_why why;
            uint32_t at = UINT32_MAX;
            c->request.random = c->request.hash = cluster_random(c);
            int err = mesh_lb_pick(&c->view, &c->request, &at, &why);
            cr_assert(err < 0 || at < c->view.n, "round %d: %u", round, at);
            mesh_lb_report(&c->view, word(c->view.n), (enum mesh_lb_outcome)(rand() % 5), c->request.now,
                           MESH_MS);
        }
        cluster_free(c);
    }
}
