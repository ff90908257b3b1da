/* SPDX-License-Identifier: Apache-2.0
 *
 * The policies by number and by name, and what holds for a cluster that says nothing.
 */
#include <string.h>
#include "lb/ops.h"
#include "shim/base/mem.h"

static const struct lb_ops *const policies[] = {
    [MESH_LB_ROUND_ROBIN] = &mesh_lb_round_robin, [MESH_LB_LEAST_REQUEST] = &mesh_lb_least_request,
    [MESH_LB_RING_HASH] = &mesh_lb_ring_hash,     [MESH_LB_RANDOM] = &mesh_lb_random,
    [MESH_LB_MAGLEV] = &mesh_lb_maglev,           [MESH_LB_PICK_FIRST] = &mesh_lb_pick_first,
    [MESH_LB_PEAK_EWMA] = &mesh_lb_peak_ewma,
};

const struct lb_ops *mesh_lb_ops_of(uint8_t policy) {
    const struct lb_ops *ops = policy < MESH_ARRAY_LEN(policies) ? policies[policy] : NULL;
    return ops ? ops : &mesh_lb_round_robin;
}

int mesh_lb_policy_parse(const char *name, uint8_t *ret_policy) {
    for (uint8_t i = 0; name && i < MESH_ARRAY_LEN(policies); i++) {
        if (!policies[i] || strcmp(policies[i]->name, name) != 0)
            continue;
        *ret_policy = i;
        return 0;
    }
    return MESH_E_NOTFOUND;
}

const char *mesh_lb_policy_name(uint8_t policy) {
    return mesh_lb_ops_of(policy)->name;
}

void mesh_lb_policy_defaults(struct mesh_policy *p) {
    *p = (struct mesh_policy){
        .policy = MESH_LB_ROUND_ROBIN,
        .panic_percent = 50,
        .choice_count = 2,
        .overprovisioning = 140,
        .table_size = 65537,
        .ring_min = 1024,
        .ring_max = 8388608,
        .active_request_bias = 1.0f,
        .consecutive = 2,
        .consecutive_enforcing = 100,
        .base_ejection_ms = 30000,
        .max_ejection_ms = 300000,
        .interval_ms = 10000,
        .max_ejection_percent = 100,
        .max_connections = UINT32_MAX,
        .max_pending = UINT32_MAX,
        .max_retries = UINT32_MAX,
        .max_host_connections = UINT32_MAX,
        .retry_min = UINT32_MAX,
        .success_volume = 100,
        .success_stdev = 1900,
        .success_hosts = 5,
        .failure_volume = 50,
        .failure_hosts = 5,
        .failure_threshold = 85,
    };
}
