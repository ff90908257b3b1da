/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/link/math.h"

#include <stdint.h>
#include <string.h>

#define LN2 0.69314718055994530942
#define LN2_HIGH 0.69314718036912381649 /* 32 bits: times an exponent it is exact */
#define LN2_LOW 1.90821492927058770002e-10

enum { BIAS = 1023, MANTISSA_BITS = 52, EXP_TERMS = 16, LOG_TERMS = 14 };

static double power_of_two(int n) { /* -1022..1023 */
    uint64_t bits = (uint64_t)(n + BIAS) << MANTISSA_BITS;
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

/* e^x = 2^n * e^r with |r| <= ln 2 / 2, where the series is short. */
double mesh_exp(double x) {
    if (x != x)
        return x;
    if (x > 709)
        return __builtin_inf();
    if (x < -708)
        return 0;
    int n = (int)(x / LN2 + (x < 0 ? -0.5 : 0.5));
    double r = x - n * LN2_HIGH - n * LN2_LOW, sum = 1;
    for (int i = EXP_TERMS; i > 0; i--)
        sum = 1 + sum * r / i;
    return sum * power_of_two(n);
}

/* x = 2^n * m with m between sqrt(1/2) and sqrt(2); ln m = 2 atanh((m - 1) / (m + 1)). */
double mesh_log(double x) {
    if (x == 0)
        return -__builtin_inf();
    if (!(x >= 2.2250738585072014e-308) || x > 1.7976931348623157e308)
        return x > 0 && x > 1 ? x : __builtin_nan("");
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int n = (int)(bits >> MANTISSA_BITS) - BIAS;
    double m = x * power_of_two(n == BIAS ? -BIAS + 1 : -n) * (n == BIAS ? 0.5 : 1);
    if (m > 1.41421356237309504880) {
        m /= 2;
        n++;
    }
    double s = (m - 1) / (m + 1), square = s * s, sum = 0;
    for (int i = LOG_TERMS; i >= 0; i--)
        sum = sum * square + 1.0 / (2 * i + 1);
    return n * LN2_HIGH + (2 * s * sum + n * LN2_LOW);
}

double mesh_pow(double x, double y) {
    if (y == 0 || x == 1)
        return 1;
    if (x == 0)
        return y > 0 ? 0 : __builtin_inf();
    return mesh_exp(y * mesh_log(x));
}
