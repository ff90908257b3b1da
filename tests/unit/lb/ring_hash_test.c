/* SPDX-License-Identifier: Apache-2.0
 *
 * Expected rings are those in the comments and assertions of Envoy's ring_hash_lb_test.cc, test names in
 * brackets.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include "tests/unit/lb/cluster.h"

static struct cluster *ring(uint32_t n, uint16_t first_port, uint32_t least, uint32_t most) {
    struct cluster *c = cluster_new(n, MESH_LB_RING_HASH);
    cluster_name_ports(c, first_port);
    c->policy.ring_min = least;
    c->policy.ring_max = most;
    return c;
}

struct at {
    uint64_t hash;
    int host;
};

static void expect(struct cluster *c, const struct at *at, size_t n) {
    cr_assert_eq(cluster_publish(c), 0);
    for (size_t i = 0; i < n; i++) {
        cr_expect_eq(cluster_pick_hash(c, at[i].hash), at[i].host, "%zu: %d", i,
                     cluster_pick_hash(c, at[i].hash));
    }
    cluster_free(c);
}

Test(ring_hash, murmur_ring_is_envoys) { /* [BasicWithMurmur2] */
    struct cluster *c = ring(6, 80, 12, 8388608);
    c->policy.murmur = 1;
    const struct at at[] = {
        {0, 5},
        {UINT64_MAX, 5},
        {1358027074129602068u, 5},
        {1358027074129602069u, 3},
        {4361834613929391114u, 3},
        {7224494972555149682u, 4},
        {7701421856454313576u, 1},
        {8649315368077433379u, 2},
        {8739448859063030639u, 4},
        {9887544217113020895u, 1},
        {10150910876324007730u, 2},
        {15168472011420622455u, 3},
        {15427156902705414897u, 0},
        {16375050414328759093u, 5},
        {17613279263364193813u, 0},
        {17613279263364193814u, 5},
    };
    expect(c, at, sizeof at / sizeof at[0]);
}

static const char *two_digits(const void *view, uint32_t offset, size_t *ret_len) {
    if (!offset)
        return NULL;
    *ret_len = 2;
    return (const char *)view + offset;
}

static void name_by_key(struct cluster *c) {
    static const char names[] = "..909192939495";
    c->view.view = names;
    c->view.hash_key = two_digits;
    for (uint32_t i = 0; i < 6; i++)
        c->endpoints[i].hash_key = 2 + 2 * i;
}

Test(ring_hash, ring_of_metadata_keys_is_envoys) { /* [BasicWithMetadataHashKey] */
    struct cluster *c = ring(6, 90, 12, 8388608);
    name_by_key(c);
    const struct at at[] = {
        {0, 5},
        {UINT64_MAX, 5},
        {1975508444536362413u, 5},
        {2376063919839173711u, 5},
        {2386806903309390596u, 3},
        {6749904478991551885u, 4},
        {6803900775736438537u, 3},
        {7225015537174310577u, 2},
        {8787465352164086522u, 0},
        {11282020843382717940u, 2},
        {13723418369486627818u, 1},
        {13776502110861797421u, 0},
        {14338313586354474791u, 1},
        {15364271037087512980u, 4},
    };
    expect(c, at, sizeof at / sizeof at[0]);
}

Test(ring_hash, weights_of_hosts_and_localities_make_envoys_ring) { /* [HostAndLocalityWeightedTinyRing] */
    struct cluster *c = ring(4, 90, 9, 9);
    c->policy.locality_weighted = 1;
    for (uint32_t i = 0; i < 4; i++) {
        c->endpoints[i].weight = 1 + i % 2;
        c->endpoints[i].locality = (uint16_t)(i / 2);
        c->endpoints[i].locality_weight = 1 + i / 2;
    }
    const struct at at[] = {
        {928266305478181108u, 2},   {3851675632748031481u, 3},  {5583722120771150861u, 1},
        {6311230543546372928u, 1},  {7700377290971790572u, 3},  {12559126875973811811u, 3},
        {13444792449719432967u, 2}, {13784988426630141778u, 3}, {16117243373044804889u, 0},
    };
    expect(c, at, sizeof at / sizeof at[0]);
}

Test(ring_hash, ring_too_small_for_all_hosts_is_envoys) { /* [LopsidedWeightSmallScale] */
    struct cluster *c = ring(1024, 0, 1024, 1024);
    c->policy.locality_weighted = 1;
    for (uint32_t i = 0; i < 1024; i++) {
        c->endpoints[i].locality = i > 0;
        c->endpoints[i].locality_weight = i ? 1 : 127;
    }
    const struct at at[] = {
        {11664790346325243808u, 1},   {15894554872961148518u, 128}, {13958138884277627155u, 256},
        {15803774069438192949u, 384}, {3829253010855396576u, 512},  {17918147347826565154u, 640},
        {6442769608292299103u, 768},  {5881074926069334434u, 896},
    };
    expect(c, at, sizeof at / sizeof at[0]);
}

static void histogram(struct cluster *c, uint32_t hashes, const uint32_t *expected) {
    uint32_t count[8] = {0};
    cr_assert_eq(cluster_publish(c), 0);
    for (uint32_t i = 0; i < hashes; i++)
        count[cluster_pick_hash(c, i * (UINT64_MAX / hashes))]++;
    for (uint32_t i = 0; i < c->view.n; i++)
        cr_expect_eq(count[i], expected[i], "%u: %u", i, count[i]);
    cluster_free(c);
}

Test(ring_hash, histogram_of_weighted_localities_is_envoys) { /* [LocalityWeightedLargeRing] */
    struct cluster *c = ring(4, 90, 6144, 8388608);
    c->policy.locality_weighted = 1;
    for (uint32_t i = 0; i < 4; i++) {
        c->endpoints[i].locality = (uint16_t)i;
        c->endpoints[i].locality_weight = (i + 1) % 4;
    }
    histogram(c, 6000, (uint32_t[]){987, 1932, 3081, 0});
}

Test(ring_hash, histogram_of_weighted_hosts_is_envoys) { /* [HostAndLocalityWeightedLargeRing] */
    struct cluster *c = ring(4, 90, 9216, 8388608);
    c->policy.locality_weighted = 1;
    for (uint32_t i = 0; i < 4; i++) {
        c->endpoints[i].weight = 1 + i % 2;
        c->endpoints[i].locality = (uint16_t)(i / 2);
        c->endpoints[i].locality_weight = 1 + i / 2;
    }
    histogram(c, 9000, (uint32_t[]){924, 2009, 2053, 4014});
}

Test(ring_hash, odd_ring_is_envoys) { /* [LargeFractionalScale] */
    histogram(ring(2, 90, 1023, 1023), 1023, (uint32_t[]){526, 497});
}

Test(ring_hash,
     ring_is_bounded_whatever_the_weights) { /* 1 of 2^31: Envoy's scale would be its maximum, 8M */
    struct cluster *c = ring(2, 90, 1024, 8388608);
    c->endpoints[1].weight = UINT32_MAX / 2;
    cr_assert_eq(cluster_publish(c), 0);
    cr_expect_lt(c->view.table_len, 16u << 20);
    cr_expect_eq(cluster_pick_hash(c, 77), 1);
    cluster_free(c);
}

Test(ring_hash, redraw_takes_the_next_host_on_the_ring) { /* the ring of metadata keys: 95, 95, 93, 94, ... */
    struct cluster *c = ring(6, 90, 12, 8388608);
    name_by_key(c);
    cr_assert_eq(cluster_publish(c), 0);
    c->request.attempt = c->request.ntried = 1;
    c->request.tried[0] = 5;
    cr_expect_eq(cluster_pick_hash(c, 1975508444536362413u), 3);
    c->request.attempt = c->request.ntried = 2;
    c->request.tried[1] = 3;
    cr_expect_eq(cluster_pick_hash(c, 1975508444536362413u), 4);
    cr_expect_eq(cluster_pick_hash(c, 15364271037087512980u), 4);
    c->request.tried[1] = 4;
    cr_expect_eq(cluster_pick_hash(c, 15364271037087512980u), 3, "past the end: 95, 95, 93");
    cluster_free(c);
}
