/* SPDX-License-Identifier: Apache-2.0
 *
 * Points of a pool's summed weights.
 */
#include "lb/ops.h"

uint32_t mesh_lb_pool_at(const struct lb_pool *p, uint64_t point) {
    if (!p->cum)
        return point < p->n ? (uint32_t)point : p->n - 1;
    uint32_t low = 0, high = p->n - 1;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (p->cum[mid] - p->base > point)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static uint64_t gcd(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

uint64_t mesh_lb_stride(uint64_t total) {
    if (total < 3)
        return 1;
    uint64_t stride = (uint64_t)(((unsigned __int128)total * UINT64_C(0x9e3779b97f4a7c15)) >> 64);
    while (gcd(stride, total) != 1)
        stride++; /* total - 1 is coprime: this ends */
    return stride;
}
