/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/link/math.c"

#include <criterion/criterion.h>
#include <math.h>

static void expect_close(const char *what, double x, double y, double got, double want) {
    if (isnan(want) || isinf(want) || want == 0)
        cr_expect((isnan(want) && isnan(got)) || got == want, "%s(%g, %g): %g, not %g", what, x, y, got,
                  want);
    else
        cr_expect_lt(fabs(got - want) / fabs(want), 1e-13, "%s(%g, %g): %.17g, not %.17g", what, x, y, got,
                     want);
}

Test(math, exp_is_libms_over_the_range_of_results) {
    for (double x = -690; x < 690; x += 0.37)
        expect_close("exp", x, 0, mesh_exp(x), exp(x));
    for (double x = -1; x < 1; x += 0.001)
        expect_close("exp", x, 0, mesh_exp(x), exp(x));
}

Test(math, exp_out_of_range_is_zero_or_infinity) {
    expect_close("exp", 0, 0, mesh_exp(0), 1);
    expect_close("exp", 1e9, 0, mesh_exp(1e9), INFINITY);
    expect_close("exp", -1e9, 0, mesh_exp(-1e9), 0);
    expect_close("exp", NAN, 0, mesh_exp(NAN), NAN);
}

Test(math, log_is_libms) {
    for (double x = 1e-300; x < 1e300; x *= 1.7)
        expect_close("log", x, 0, mesh_log(x), log(x));
    for (double x = 0.5; x < 2; x += 0.001)
        if (fabs(x - 1) > 1e-9)
            expect_close("log", x, 0, mesh_log(x), log(x));
    expect_close("log", 0, 0, mesh_log(0), -INFINITY);
    expect_close("log", -1, 0, mesh_log(-1), NAN);
    expect_close("log", INFINITY, 0, mesh_log(INFINITY), INFINITY);
    expect_close("log", 1.7e308, 0, mesh_log(1.7e308), log(1.7e308));
}

Test(math, pow_is_libms_for_requests_and_slow_start) {
    for (double x = 1; x < 1e6; x *= 1.3)
        for (double y = -3; y <= 3; y += 0.125)
            expect_close("pow", x, y, mesh_pow(x, y), pow(x, y));
    for (double x = 0.001; x <= 1; x += 0.01)
        for (double y = 0.1; y <= 10; y += 0.3)
            expect_close("pow", x, y, mesh_pow(x, y), pow(x, y));
    expect_close("pow", 0, 2, mesh_pow(0, 2), 0);
    expect_close("pow", 0, -2, mesh_pow(0, -2), INFINITY);
    expect_close("pow", 5, 0, mesh_pow(5, 0), 1);
}
