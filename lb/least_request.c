/* SPDX-License-Identifier: Apache-2.0
 *
 * Least request: connections in flight, counted over all processes of the view.
 *
 * Members of equal weight: `choice_count` draws with replacement, the one with the fewest in flight wins, the
 * first drawn on a tie (Envoy's N_CHOICES, P2C at 2); FULL_SCAN looks at all and breaks ties at random.
 *
 * Unequal weights: Envoy's dynamic weight w / (active + 1)^bias, each member chosen in proportion to it. In a
 * large pool that is done by resampling: EIGHT draws by w, one of them kept in proportion to 1 / (active +
 * 1)^bias.
 *
 * Under locality weights the locality is drawn first, and the rest happens among its members.
 */
#include "lb/ops.h"
#include "lb/power.h"

enum { EIGHT = 8, CHOICES_MAX = 64 };

static uint32_t load_of(const struct lb_ask *a, const struct lb_member *m) {
    return lb_usable(a, m) ? lb_inflight(a, m->stat) : UINT32_MAX;
}

static uint32_t fewest_of_draws(struct lb_ask *a, const struct lb_pool *p) {
    uint32_t choices = a->policy.choice_count < 2 ? 2 : a->policy.choice_count;
    if (choices > CHOICES_MAX)
        choices = CHOICES_MAX;
    uint32_t best = lb_pool_draw(a, p), least = load_of(a, &p->members[best]);
    for (uint32_t i = 1; i < choices; i++) {
        uint32_t at = lb_pool_draw(a, p), load = load_of(a, &p->members[at]);
        if (load >= least)
            continue;
        best = at;
        least = load;
    }
    return best;
}

static uint32_t fewest_of_all(struct lb_ask *a, const struct lb_pool *p) {
    uint32_t best = 0, least = UINT32_MAX, ties = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t load = load_of(a, &p->members[i]);
        if (load > least)
            continue;
        ties = load < least ? 1 : ties + 1;
        least = load;
        if (ties == 1 || lb_scale(lb_random(a), ties) == 0)
            best = i;
    }
    return best;
}

static double damping(const struct lb_ask *a, const struct lb_member *m) {
    uint32_t active = load_of(a, m);
    if (active == UINT32_MAX)
        return 0;
    float bias = a->policy.active_request_bias;
    if (bias == 1.0f)
        return 1.0 / (active + 1.0);
    return bias > 0 ? mesh_lb_pow(active + 1.0, -(double)bias) : 1.0;
}

/* Keeps one of n in proportion to its share. */
static uint32_t keep_one(struct lb_ask *a, const double *share, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += share[i];
    double point = (double)(lb_random(a) >> 11) * 0x1p-53 * sum;
    for (uint32_t i = 0; i + 1 < n; i++) {
        if (point < share[i])
            return i;
        point -= share[i];
    }
    return n - 1;
}

static uint32_t by_dynamic_weight(struct lb_ask *a, const struct lb_pool *p) {
    double share[LB_FEW];
    uint32_t at[EIGHT];
    if (p->n <= LB_FEW) {
        for (uint32_t i = 0; i < p->n; i++) {
            uint64_t before = i ? p->cum[i - 1] : p->base;
            share[i] = (double)(p->cum[i] - before) * damping(a, &p->members[i]);
        }
        return keep_one(a, share, p->n);
    }
    for (uint32_t i = 0; i < EIGHT; i++) {
        at[i] = lb_pool_draw(a, p);
        share[i] = damping(a, &p->members[at[i]]);
    }
    return at[keep_one(a, share, EIGHT)];
}

static int least_request(struct lb_ask *a, const struct lb_pool *p, unsigned draw, struct lb_member *ret) {
    struct lb_pool locality;
    uint32_t at;
    if (p->nlocalities) {
        locality = mesh_lb_locality_draw(a, p);
        p = &locality;
    }
    if (p->cum)
        at = by_dynamic_weight(a, p);
    else if (a->policy.full_scan)
        at = fewest_of_all(a, p);
    else
        at = fewest_of_draws(a, p);
    *ret = p->members[at];
    return 0;
}

const struct lb_ops mesh_lb_least_request = {"least_request", least_request};
