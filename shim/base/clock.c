/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/base/clock.h"

#include <time.h>

static struct timespec read_clock(clockid_t id) {
    struct timespec t = {0, 0};
    (void)clock_gettime(id, &t); /* cannot fail: the clock exists and the address is ours */
    return t;
}

static uint64_t in_ns(struct timespec t) {
    return (uint64_t)t.tv_sec * MESH_SEC + (uint64_t)t.tv_nsec;
}

uint64_t mesh_now(void) {
    return in_ns(read_clock(CLOCK_MONOTONIC));
}

uint64_t mesh_now_coarse(void) {
    return in_ns(read_clock(CLOCK_MONOTONIC_COARSE));
}

int64_t mesh_wall(void) {
    return read_clock(CLOCK_REALTIME).tv_sec;
}
