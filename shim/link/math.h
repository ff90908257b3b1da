/* SPDX-License-Identifier: Apache-2.0
 *
 * exp, pow and sqrt for the library's link, hidden under libm's names: libm itself would be a second library that
 * every program maps (60 us an exec), and its static form cannot go into a shared object. Relative error below 1e-13
 * for what balancing asks: x > 0 and finite, results between 1e-300 and 1e300; outside of that 0, infinity or NaN as
 * libm, without errno. No state. Threads: any, signal-safe.
 */
#ifndef MESH_SHIM_LINK_MATH_H
#define MESH_SHIM_LINK_MATH_H

double mesh_exp(double x);
double mesh_log(double x);           /* x > 0 and normal; otherwise NaN, or minus infinity for 0 */
double mesh_pow(double x, double y); /* x >= 0 */

#endif
