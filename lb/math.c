/* SPDX-License-Identifier: Apache-2.0 */
#include "lb/math.h"

#include <stdint.h>
#include <string.h>

static const double LN2 = 0.693147180559945309417;

static double scale(double m, int e) { /* m * 2^e, e in the range of normal numbers */
    uint64_t bits = (uint64_t)(e + 1023) << 52;
    double two;
    memcpy(&two, &bits, sizeof two);
    return m * two;
}

double mesh_lb_exp(double x) {
    if (x < -700)
        return 0;
    if (x > 700)
        x = 700;
    int k = (int)(x / LN2 + (x < 0 ? -0.5 : 0.5));
    double r = x - k * LN2, term = 1, sum = 1;
    for (int i = 1; i < 18; i++) { /* |r| <= 0.35: the 18th term is below 1e-23 */
        term *= r / i;
        sum += term;
    }
    return scale(sum, k);
}

static double ln(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int e = (int)(bits >> 52 & 0x7ff) - 1023;
    bits = (bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m /= 2;
        e++;
    }
    double t = (m - 1) / (m + 1), square = t * t, power = t, sum = 0;
    for (int i = 1; i < 30; i += 2) { /* |t| <= 0.172 */
        sum += power / i;
        power *= square;
    }
    return 2 * sum + e * LN2;
}

double mesh_lb_pow(double x, double y) {
    return x <= 0 ? 0 : y == 1 ? x : mesh_lb_exp(y * ln(x));
}
