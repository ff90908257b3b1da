/* SPDX-License-Identifier: Apache-2.0
 *
 * XXH64, from the algorithm's published description (xxHash specification 0.1.1).
 */
#include <string.h>
#include "lb/lb.h"

static const uint64_t P1 = UINT64_C(0x9e3779b185ebca87), P2 = UINT64_C(0xc2b2ae3d27d4eb4f),
                      P3 = UINT64_C(0x165667b19e3779f9), P4 = UINT64_C(0x85ebca77c2b2ae63),
                      P5 = UINT64_C(0x27d4eb2f165667c5);

static uint64_t rotl(uint64_t x, int r) {
    return x << r | x >> (64 - r);
}
static uint64_t read64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static uint32_t read32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static uint64_t lane(uint64_t acc, uint64_t input) {
    return rotl(acc + input * P2, 31) * P1;
}
static uint64_t merge(uint64_t acc, uint64_t value) {
    return (acc ^ lane(0, value)) * P1 + P4;
}

/* Whole stripes of 32 bytes; *io_p stops at the first byte after them. */
static uint64_t stripes(const uint8_t **io_p, const uint8_t *end, uint64_t seed) {
    uint64_t v[4] = {seed + P1 + P2, seed + P2, seed, seed - P1};
    const uint8_t *p = *io_p;
    for (; end - p >= 32; p += 32)
        for (int i = 0; i < 4; i++)
            v[i] = lane(v[i], read64(p + 8 * i));
    *io_p = p;
    uint64_t h = rotl(v[0], 1) + rotl(v[1], 7) + rotl(v[2], 12) + rotl(v[3], 18);
    for (int i = 0; i < 4; i++)
        h = merge(h, v[i]);
    return h;
}

static uint64_t rest(uint64_t h, const uint8_t *p, const uint8_t *end) {
    for (; end - p >= 8; p += 8)
        h = rotl(h ^ lane(0, read64(p)), 27) * P1 + P4;
    for (; end - p >= 4; p += 4)
        h = rotl(h ^ read32(p) * P1, 23) * P2 + P3;
    for (; p < end; p++)
        h = rotl(h ^ *p * P5, 11) * P1;
    return h;
}

uint64_t mesh_lb_xxh64(const void *data, size_t n, uint64_t seed) {
    const uint8_t *p = data, *end = p + n;
    uint64_t h = n >= 32 ? stripes(&p, end, seed) : seed + P5;
    h = rest(h + n, p, end);
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}
