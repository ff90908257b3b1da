/* SPDX-License-Identifier: Apache-2.0
 *
 * MurmurHash2 in its 64-bit form for little-endian machines (MurmurHash64A), with the seed of Envoy's
 * MURMUR_HASH_2, which is that of std::hash in GNU libstdc++.
 */
#include <string.h>
#include "lb/hashing.h"

static const uint64_t MUL = UINT64_C(0xc6a4a7935bd1e995);

uint64_t mesh_lb_murmur2(const void *data, size_t n) {
    const uint8_t *p = data, *end = p + (n & ~(size_t)7);
    uint64_t h = UINT64_C(0xc70f6907) ^ n * MUL, k = 0;
    for (; p < end; p += 8) {
        memcpy(&k, p, 8);
        k *= MUL;
        h = (h ^ (k ^ k >> 47) * MUL) * MUL;
    }
    if (n & 7) {
        k = 0;
        memcpy(&k, p, n & 7);
        h = (h ^ k) * MUL;
    }
    h = (h ^ h >> 47) * MUL;
    return h ^ h >> 47;
}
