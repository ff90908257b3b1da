/* SPDX-License-Identifier: Apache-2.0
 *
 * Peak EWMA (Finagle's): quick to see that an endpoint became slow, slow to believe that it is fast again.
 */
#include "lb/ops.h"
#include "lb/power.h"

static const double DECAY_NS = 10e9; /* Envoy's and Finagle's default: 10 s */

uint32_t mesh_lb_latency_after(uint32_t average, uint32_t sample, uint64_t elapsed_ns) {
    if (sample >= average)
        return sample;
    double keep = mesh_lb_decay((double)elapsed_ns / DECAY_NS);
    return (uint32_t)(average * keep + sample * (1 - keep) + 0.5);
}
