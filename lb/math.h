/* SPDX-License-Identifier: Apache-2.0
 *
 * The two functions of libm that the formulas need, so that the library needs nothing but libc. Relative error below
 * 1e-12 for pow and 1e-13 for exp over the ranges that are used. Threads: any, signal-safe.
 */
#ifndef MESH_LB_MATH_H
#define MESH_LB_MATH_H

/* e to the x. */
double mesh_lb_exp(double x);
/* x to the y, x > 0. */
double mesh_lb_pow(double x, double y);

#endif
