/* SPDX-License-Identifier: Apache-2.0
 *
 * The balancer over memory that may hold anything, as while a publisher recycles it: policy, endpoints,
 * counters and table are the input's bytes. A pick ends, touches nothing outside its arrays, and answers an
 * index in bounds or an error. With a first byte of odd value the table is first built honestly, then damaged
 * by the input.
 */
#include <stdlib.h>
#include <string.h>
#include "lb/lb.h"
#include "lb/ops.h"

enum { ENDPOINTS_MAX = 200 };

struct input {
    const uint8_t *p;
    size_t n;
};

static void take(struct input *in, void *to, size_t n) {
    size_t got = n < in->n ? n : in->n;
    memset(to, 0, n);
    memcpy(to, in->p, got);
    in->p += got;
    in->n -= got;
}

static void *take_array(struct input *in, size_t count, size_t size) {
    void *p = malloc(count * size + 1); /* exact but for the byte: the sanitizer sees any step outside */
    take(in, p, count * size);
    return p;
}

static const char *no_key(const void *view, uint32_t offset, size_t *ret_len) {
    return NULL;
}

/* What a publisher would write: only then is it time to build a table, and the table is small. */
static void make_plausible(struct mesh_cluster_view *c, struct mesh_policy *p) {
    static const uint32_t primes[] = {2, 7, 17, 251};
    struct mesh_endpoint *e = (struct mesh_endpoint *)c->endpoints;
    p->policy %= MESH_LB_PEAK_EWMA + 1;
    p->overprovisioning = 140;
    p->panic_percent %= 101;
    p->table_size = primes[p->table_size % 4];
    p->ring_max %= 2048;
    p->ring_min %= 2048;
    for (uint32_t i = 0; i < c->n; i++) {
        e[i].family = e[i].family % 4 ? 4 : 6;
        e[i].health %= 6;
        e[i].priority %= 4;
        e[i].locality %= 8;
        e[i].stat = i;
        e[i].weight = e[i].weight % 100 + 1;
    }
}

/* A table for the cluster as it is, then xored with what is left of the input. */
static void build_table(struct mesh_cluster_view *c, struct input *in) {
    size_t size = mesh_lb_table_size(c);
    uint32_t len = 0;
    if (!size || size > (64 << 20))
        return;
    uint8_t *table = malloc(size);
    if (mesh_lb_table_build(c, table, size, &len) < 0)
        len = 0;
    for (; in->n >= 3; in->p += 3, in->n -= 3) {
        size_t at = (size_t)in->p[0] << 8 | in->p[1];
        if (len)
            table[at % len] ^= in->p[2];
    }
    c->table = table;
    c->table_len = len;
}

static void pick_some(const struct mesh_cluster_view *c, struct mesh_lb_request *r) {
    struct mesh_why why;
    uint32_t at = UINT32_MAX;
    for (int i = 0; i < 8; i++) {
        r->random = r->random * UINT64_C(6364136223846793005) + 1;
        int err = mesh_lb_pick(c, r, &at, &why);
        if (!err && at >= c->n)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct mesh_lb_request r;
    struct mesh_policy policy;
    uint8_t head[4];
    struct mesh_cluster_view c = {.hash_key = no_key};
    take(&in, head, sizeof head);
    take(&in, &policy, sizeof policy);
    take(&in, &r, sizeof r);
    *(uint8_t *)&r.has_hash =
        head[2] & 1; /* a bool of another value is undefined before any code of ours runs */
    *(uint8_t *)&r.want_why = head[2] >> 1 & 1;
    c.policy = &policy;
    c.n = head[1] % ENDPOINTS_MAX;
    c.nstats = head[3] % ENDPOINTS_MAX;
    c.endpoints = take_array(&in, c.n, sizeof *c.endpoints);
    c.live = c.limits = take_array(&in, 1, sizeof *c.live);
    c.stats = take_array(&in, c.nstats, sizeof *c.stats);
    if (head[0] & 1) {
        make_plausible(&c, &policy);
        build_table(&c, &in);
    } else {
        c.table_len = (uint32_t)in.n & ~7u;
        c.table = take_array(&in, c.table_len, 1);
    }
    pick_some(&c, &r);
    for (uint32_t i = 0; i < 8; i++)
        mesh_lb_report(&c, i * 31, (enum mesh_lb_outcome)(i % 5), r.now + i, r.hash);
    pick_some(&c, &r);
    free((void *)c.endpoints);
    free(c.live);
    free(c.stats);
    free((void *)c.table);
    return 0;
}
