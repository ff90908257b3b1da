/* SPDX-License-Identifier: Apache-2.0
 *
 * Series after the exponent is split off: exp over [-0.35, 0.35], atanh over [-0.172, 0.172].
 */
#include "lb/power.h"
#include <stdint.h>
#include <string.h>

static const double LN2 = 0.69314718055994531, SQRT2 = 1.4142135623730951;

static double scale(double x, int exponent) { /* x * 2^exponent, -1022..1023 */
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return x * power;
}

double mesh_lb_exp2(double x) {
    if (x != x)
        return 1;
    if (x < -1000)
        return 0;
    if (x > 1000)
        x = 1000;
    int whole = (int)(x < 0 ? x - 0.5 : x + 0.5);
    double y = (x - whole) * LN2, sum = 1;
    for (int i = 14; i > 0; i--)
        sum = 1 + sum * y / i;
    return scale(sum, whole);
}

double mesh_lb_log2(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    if (!(x > 0) || exponent == 1024 || exponent == -1023)
        return 0; /* no number, no finite one, or next to nothing */
    double m = scale(x, -exponent > 1023 ? 1023 : -exponent);
    if (m > SQRT2) {
        m /= 2;
        exponent++;
    }
    double z = (m - 1) / (m + 1), square = z * z, sum = 0;
    for (int i = 17; i > 0; i -= 2)
        sum = 1.0 / i + square * sum;
    return exponent + 2 * z * sum / LN2;
}
