/* SPDX-License-Identifier: Apache-2.0
 *
 * Random, by weight.
 */
#include "lb/ops.h"

static int by_chance(struct lb_ask *a, const struct lb_pool *p, unsigned draw, struct lb_member *ret) {
    *ret = p->members[lb_pool_draw(a, p)];
    return 0;
}

const struct lb_ops mesh_lb_random = {"random", by_chance};
