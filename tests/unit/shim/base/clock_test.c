/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <time.h>
#include <unistd.h>
#include "shim/base/clock.h"

Test(clock, monotonic_measures_a_sleep) {
    uint64_t before = mesh_now();
    usleep(20000);
    uint64_t took = mesh_now() - before;
    cr_assert(took >= 20 * MESH_MS && took < 10 * MESH_SEC, "%llu", (unsigned long long)took);
}

Test(clock, coarse_follows_the_fine_one) {
    uint64_t coarse = mesh_now_coarse(), fine = mesh_now();
    cr_assert(coarse <= fine && fine - coarse < MESH_SEC);
}

Test(clock, wall_is_the_calendar) {
    int64_t before = time(NULL), wall = mesh_wall();
    cr_assert(wall >= before && wall <= before + 2);
}
