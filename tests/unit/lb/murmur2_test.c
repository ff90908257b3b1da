/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors: Envoy's test/common/common/hash_test.cc.
 */
#include <criterion/criterion.h>
#include <string.h>
#include "lb/hashing.h"

Test(murmur2, envoys_vectors_hold) {
    const struct {
        const char *text;
        uint64_t hash;
    } v[] = {
        {"foo", UINT64_C(9631199822919835226)},       {"bar", UINT64_C(11474628671133349555)},
        {"foo\nbar", UINT64_C(16306510975912980159)}, {"lyft", UINT64_C(12847078931730529320)},
        {"", UINT64_C(6142509188972423790)},
    };
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        cr_expect_eq(mesh_lb_murmur2(v[i].text, strlen(v[i].text)), v[i].hash, "%s", v[i].text);
}
