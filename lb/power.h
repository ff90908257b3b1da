/* SPDX-License-Identifier: Apache-2.0
 *
 * The few real functions that the formulas need, without libm: the library must not bring another dependency
 * into every program. Relative error below 1e-12 in the ranges used. Never trap: what is out of range ends at
 * 0, 1 or a large finite number. Threads: any, signal-safe.
 */
#ifndef MESH_LB_POWER_H
#define MESH_LB_POWER_H

/* 2^x; 0 below -1000, 2^1000 above 1000, 1 for NaN. */
double mesh_lb_exp2(double x);
/* log2 of a positive finite number; 0 for anything else. */
double mesh_lb_log2(double x);
/* x^y for positive x. */
static inline double mesh_lb_pow(double x, double y) {
    return mesh_lb_exp2(y * mesh_lb_log2(x));
}
/* e^-x */
static inline double mesh_lb_decay(double x) {
    return mesh_lb_exp2(-x * 1.4426950408889634);
}
/* The least whole number that is not below x; UINT32_MAX at most, 0 for what is negative or NaN. */
static inline double mesh_lb_ceil(double x) {
    if (!(x > 0))
        return 0;
    if (x >= 4294967295.0)
        return 4294967295.0;
    double whole = (double)(unsigned long long)x;
    return whole < x ? whole + 1 : whole;
}

#endif
