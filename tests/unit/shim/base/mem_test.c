/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shim/base/mem.h"

enum { DRAWS = 2000, CHILDREN = 4 };

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void assert_distinct(uint64_t *v, size_t n) {
    qsort(v, n, sizeof *v, by_value);
    for (size_t i = 1; i < n; i++)
        cr_assert_neq(v[i - 1], v[i]);
}

Test(random, no_value_comes_twice) {
    static uint64_t v[DRAWS];
    for (size_t i = 0; i < DRAWS; i++)
        v[i] = mesh_random();
    assert_distinct(v, DRAWS);
}

Test(random, bits_are_balanced) {
    unsigned ones[64] = {0};
    for (size_t i = 0; i < DRAWS; i++)
        for (uint64_t v = mesh_random(), bit = 0; bit < 64; bit++)
            ones[bit] += v >> bit & 1;
    for (size_t bit = 0; bit < 64; bit++)
        cr_assert(ones[bit] > DRAWS / 2 - 150 && ones[bit] < DRAWS / 2 + 150, "bit %zu: %u", bit, ones[bit]);
}

Test(random, fork_children_draw_other_values) {
    static uint64_t v[(CHILDREN + 1) * 100];
    int fds[2];
    (void)mesh_random(); /* the sequence is begun: children inherit it */
    cr_assert_eq(pipe(fds), 0);
    for (int c = 0; c < CHILDREN; c++)
        if (fork() == 0) {
            for (int i = 0; i < 100; i++) {
                uint64_t mine = mesh_random();
                if (write(fds[1], &mine, sizeof mine) != (ssize_t)sizeof mine)
                    _exit(1);
            }
            _exit(0);
        }
    for (int i = 0; i < 100; i++)
        v[i] = mesh_random();
    for (size_t i = 100; i < sizeof v / sizeof v[0]; i++)
        cr_assert_eq(read(fds[0], &v[i], sizeof v[i]), (ssize_t)sizeof v[i]);
    while (wait(NULL) > 0)
        ;
    assert_distinct(v, sizeof v / sizeof v[0]);
}

Test(zero, every_byte_goes) {
    unsigned char key[33];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = 0xaa;
    mesh_zero(key, 32);
    for (size_t i = 0; i < 32; i++)
        cr_assert_eq(key[i], 0);
    cr_assert_eq(key[32], 0xaa);
}
