/* SPDX-License-Identifier: Apache-2.0
 *
 * Values are from tables, to 16 digits; between them identities hold.
 */
#include <criterion/criterion.h>
#include <math.h>
#include "lb/power.h"

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-12 * fabs(b) + 1e-13;
}

Test(power, exp2_is_that_of_the_tables) {
    cr_expect(near(mesh_lb_exp2(0.5), 1.4142135623730950));
    cr_expect(near(mesh_lb_exp2(0.1), 1.0717734625362931));
    cr_expect(near(mesh_lb_exp2(-0.25), 0.8408964152537145));
    cr_expect(near(mesh_lb_exp2(10), 1024));
    for (double x = -60; x <= 60; x += 0.0173) {
        cr_assert(near(mesh_lb_exp2(x) * mesh_lb_exp2(-x), 1), "%g", x);
        cr_assert(near(mesh_lb_exp2(x + 1), 2 * mesh_lb_exp2(x)), "%g", x);
        cr_assert(near(mesh_lb_exp2(x / 2) * mesh_lb_exp2(x / 2), mesh_lb_exp2(x)), "%g", x);
    }
}

Test(power, exp2_out_of_range_is_bounded) {
    cr_expect_eq(mesh_lb_exp2(0), 1);
    cr_expect_eq(mesh_lb_exp2(-5000), 0);
    cr_expect_eq(mesh_lb_exp2(5000), mesh_lb_exp2(1000));
    cr_expect_eq(mesh_lb_exp2(NAN), 1);
}

Test(power, log2_is_that_of_the_tables) {
    cr_expect(near(mesh_lb_log2(3), 1.5849625007211562));
    cr_expect(near(mesh_lb_log2(10), 3.3219280948873623));
    cr_expect(near(mesh_lb_log2(0.7), -0.5145731728297583));
    for (double x = -40; x < 40; x += 0.0137)
        cr_assert(near(mesh_lb_log2(mesh_lb_exp2(x)), x), "%g", x);
}

Test(power, log2_of_what_has_none_is_zero) {
    cr_expect_eq(mesh_lb_log2(1), 0);
    cr_expect_eq(mesh_lb_log2(0), 0);
    cr_expect_eq(mesh_lb_log2(-3), 0);
    cr_expect_eq(mesh_lb_log2(INFINITY), 0);
    cr_expect_eq(mesh_lb_log2(NAN), 0);
}

Test(power, pow_and_decay_follow) {
    cr_expect(near(mesh_lb_pow(0.25, 0.5), 0.5));
    cr_expect(near(mesh_lb_pow(5, -3), 0.008));
    cr_expect(near(mesh_lb_decay(1), 0.36787944117144233));
    cr_expect_eq(mesh_lb_decay(0), 1);
}

Test(power, ceil_rounds_up) {
    cr_expect_eq(mesh_lb_ceil(0.1), 1);
    cr_expect_eq(mesh_lb_ceil(3), 3);
    cr_expect_eq(mesh_lb_ceil(3.0001), 4);
    cr_expect_eq(mesh_lb_ceil(-3), 0);
    cr_expect_eq(mesh_lb_ceil(NAN), 0);
    cr_expect_eq(mesh_lb_ceil(1e300), 4294967295.0);
}
