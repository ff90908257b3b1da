/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "tests/unit/lb/cluster.h"

Test(policy, names_go_there_and_back) {
    const char *names[] = {"round_robin", "least_request", "random"};
    for (int i = 0; i < 3; i++) {
        uint8_t policy = 255;
        cr_expect_eq(mesh_lb_policy_parse(names[i], &policy), 0);
        cr_expect_str_eq(mesh_lb_policy_name(policy), names[i]);
    }
}

Test(policy, unknown_name_is_notfound) {
    uint8_t policy = 9;
    cr_expect_eq(mesh_lb_policy_parse("fastest", &policy), MESH_E_NOTFOUND);
    cr_expect_eq(mesh_lb_policy_parse("", &policy), MESH_E_NOTFOUND);
    cr_expect_eq(mesh_lb_policy_parse(NULL, &policy), MESH_E_NOTFOUND);
    cr_expect_eq(policy, 9);
}

Test(policy, unknown_number_is_round_robin) {
    cr_expect_str_eq(mesh_lb_policy_name(200), "round_robin");
}

Test(policy, defaults_are_those_of_envoy_but_for_ejection) {
    struct mesh_policy p;
    mesh_lb_policy_defaults(&p);
    cr_expect_eq(p.policy, 0);
    cr_expect_eq(p.overprovisioning, 140);
    cr_expect_eq(p.panic_percent, 50);
    cr_expect_eq(p.consecutive, 2);
    cr_expect_eq(p.max_ejection_percent, 100);
    cr_expect_eq(p.max_connections, UINT32_MAX);
}
