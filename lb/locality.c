/* SPDX-License-Identifier: Apache-2.0
 *
 * Locality weights, as Envoy's locality_weighted_lb_config and wrr_locality:
 *   eff(L) = weight(L) * min(1, overprovisioning * available(L) / hosts(L))
 * and a member of L gets w / sum(w of L) * eff(L) / sum(eff) of the traffic. A locality without weight gets
 * none; when no locality has any, weights are plain.
 */
#include "lb/ops.h"

static const double WHOLE = 1073741824; /* what the new weights sum to, 2^30 but for rounding */

static double effective(const struct lb_locality *l, uint32_t overprovisioning) {
    double ratio = l->hosts ? overprovisioning / 100.0 * l->n / l->hosts : 0;
    return l->weight * (ratio < 1 ? ratio : 1);
}

/* Takes over one locality's members to position `out`; returns the position after them. */
static uint32_t take(struct lb_locality *l, double share, uint64_t before, uint32_t out,
                     struct lb_member *members, uint64_t *cum) {
    uint64_t sum = cum[l->first + l->n - 1] - before, running = out ? cum[out - 1] : 0, first_weight = 0;
    uint32_t from = l->first;
    l->first = out;
    l->equal = true;
    for (uint32_t i = 0; i < l->n; i++, out++) {
        uint64_t weight = cum[from + i] - before;
        before = cum[from + i];
        if (!i)
            first_weight = weight;
        l->equal = l->equal && weight == first_weight;
        running += (uint64_t)(share * (double)weight / (double)sum * WHOLE) + 1;
        members[out] = members[from + i];
        cum[out] = running;
    }
    return out;
}

uint32_t mesh_lb_localities_apply(struct lb_locality *l, uint32_t *io_n, uint32_t overprovisioning,
                                  struct lb_member *members, uint64_t *cum) {
    double sum = 0;
    uint32_t out = 0, kept = 0;
    uint64_t before = 0;
    for (uint32_t i = 0; i < *io_n; i++)
        sum += effective(&l[i], overprovisioning);
    if (sum <= 0)
        return 0;
    for (uint32_t i = 0; i < *io_n; i++) {
        double share = effective(&l[i], overprovisioning) / sum;
        uint64_t after = cum[l[i].first + l[i].n - 1];
        if (share > 0) {
            out = take(&l[i], share, before, out, members, cum);
            l[kept++] = l[i];
        }
        before = after;
    }
    *io_n = kept;
    return out;
}

/* The pool of the locality whose turn it is, drawn by weight. */
struct lb_pool mesh_lb_locality_draw(struct lb_ask *a, const struct lb_pool *p) {
    uint32_t at = lb_pool_draw(a, p), low = 0, high = p->nlocalities - 1;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (p->localities[mid].first + p->localities[mid].n > at)
            high = mid;
        else
            low = mid + 1;
    }
    const struct lb_locality l = p->localities[low];
    if (l.first >= p->n || !l.n || l.n > p->n - l.first)
        return *p; /* torn */
    struct lb_pool one = *p;
    one.members += l.first;
    one.n = l.n;
    one.base = l.first ? p->cum[l.first - 1] : p->base;
    one.cum = l.equal ? NULL : p->cum + l.first;
    one.nlocalities = 0;
    return one;
}
