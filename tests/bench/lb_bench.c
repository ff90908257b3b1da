/* SPDX-License-Identifier: Apache-2.0
 *
 * Two measurements of the balancer, printed as text:
 *   pick   nanoseconds of one mesh_lb_pick over 10, 1,000 and 10,000 endpoints, all healthy and equal; the
 * goal is 300 tail   p99 response time of a simulated service, in mean service times: 100 exponential
 * servers, 100 clients in 10 hosts of 10 processes, load 0.85, with equal servers and with half of them at
 * half speed. The picks are the library's own: what differs is which processes share counters and turns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "lb/power.h"
#include "tests/unit/lb/cluster.h"

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- pick
 * -----------------------------------------------------------------------------------------------------------
 */
enum { PICKS = 200000, ROUNDS = 7 };

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double pick_ns(struct cluster *c) {
    double round[ROUNDS];
    uint32_t at = 0, sum = 0;
    c->request.has_hash = true;
    for (int k = 0; k < ROUNDS; k++) {
        double start = seconds();
        for (int i = 0; i < PICKS; i++) {
            c->request.random = cluster_random(c);
            c->request.hash = c->request.random;
            if (mesh_lb_pick(&c->view, &c->request, &at, NULL) == 0)
                sum += at;
        }
        round[k] = (seconds() - start) * 1e9 / PICKS;
    }
    if (sum == 1)
        printf(" ");
    qsort(round, ROUNDS, sizeof *round, by_value);
    return round[ROUNDS / 2];
}

static void bench_picks(void) {
    const uint32_t sizes[] = {10, LB_FEW, 1000, 10000};
    printf("%-18s", "pick, ns");
    for (int k = 0; k < 4; k++)
        printf("%10u", sizes[k]);
    printf("\n");
    for (uint8_t policy = MESH_LB_ROUND_ROBIN; policy <= MESH_LB_PEAK_EWMA; policy++) {
        printf("%-18s", mesh_lb_policy_name(policy));
        for (int k = 0; k < 4; k++) {
            struct cluster *c = cluster_new(sizes[k], policy);
            if (cluster_publish(c) < 0)
                abort();
            printf("%10.0f", pick_ns(c));
            cluster_free(c);
        }
        printf("\n");
    }
    printf("%-18s", "weighted rr");
    for (int k = 0; k < 4; k++) {
        struct cluster *c = cluster_new(sizes[k], MESH_LB_ROUND_ROBIN);
        for (uint32_t i = 0; i < sizes[k]; i++)
            c->endpoints[i].weight = 1 + i % 10;
        if (cluster_publish(c) < 0)
            abort();
        printf("%10.0f", pick_ns(c));
        cluster_free(c);
    }
    printf("\n%-18s", "p2c, 1 ejected");
    for (int k = 0; k < 4; k++) {
        struct cluster *c = cluster_new(sizes[k], MESH_LB_LEAST_REQUEST);
        if (cluster_publish(c) < 0)
            abort();
        cluster_eject(c, 3, UINT64_MAX - 1);
        printf("%10.0f", pick_ns(c));
        cluster_free(c);
    }
    printf("\n");
}

/* ---- tail
 * -------------------------------------------------------------------------------------------------------------
 */
enum { SERVERS = 100, CLIENTS = 100, REQUESTS = 1000000, WARM = 100000 };

struct job {
    double end; /* when it leaves its server */
    uint32_t server, group;
};

struct heap { /* jobs by end */
    struct job *at;
    size_t n, cap;
};

static void heap_push(struct heap *h, struct job j) {
    if (h->n == h->cap)
        h->at = realloc(h->at, (h->cap = h->cap ? h->cap * 2 : 1024) * sizeof *h->at);
    size_t i = h->n++;
    for (; i && h->at[(i - 1) / 2].end > j.end; i = (i - 1) / 2)
        h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = j;
}

static struct job heap_pop(struct heap *h) {
    struct job top = h->at[0], last = h->at[--h->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && h->at[child + 1].end < h->at[child].end)
            child++;
        if (h->at[child].end >= last.end)
            break;
        h->at[i] = h->at[child];
    }
    h->at[i] = last;
    return top;
}

static double uniform(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return ((double)(*state >> 11) + 1) * 0x1p-53;
}

/* Exponential with mean 1. */
static double exponential(uint64_t *state) {
    return -0.69314718055994531 * mesh_lb_log2(uniform(state));
}

/* One run: the clients' processes are in `groups` groups that each see one set of counters. FIFO servers. */
static double tail(uint8_t policy, uint32_t groups, bool mixed) {
    struct cluster **c = calloc(groups, sizeof *c);
    struct heap heap = {0};
    double free_at[SERVERS] = {0}, *took = malloc(REQUESTS * sizeof *took), now = 0;
    double capacity = mixed ? SERVERS * 0.75 : SERVERS;
    uint64_t state = 12345;
    for (uint32_t g = 0; g < groups; g++) {
        c[g] = cluster_new(SERVERS, policy);
        c[g]->live->rr = 0;
        c[g]->rng = g * 7919 + 1;
        if (cluster_publish(c[g]) < 0)
            abort();
    }
    for (uint32_t i = 0; i < REQUESTS; i++) {
        now += exponential(&state) / (0.85 * capacity);
        while (heap.n && heap.at[0].end <= now) {
            struct job done = heap_pop(&heap);
            c[done.group]->stats[done.server].inflight--;
        }
        uint32_t client = (uint32_t)(uniform(&state) * CLIENTS) % CLIENTS, group = client % groups;
        uint32_t server = (uint32_t)cluster_pick(c[group]);
        double service = exponential(&state) * (mixed && server % 2 ? 2 : 1);
        double start = free_at[server] > now ? free_at[server] : now;
        free_at[server] = start + service;
        took[i] = free_at[server] - now;
        c[group]->stats[server].inflight++;
        heap_push(&heap, (struct job){free_at[server], server, group});
    }
    qsort(took + WARM, REQUESTS - WARM, sizeof *took, by_value);
    double p99 = took[WARM + (REQUESTS - WARM) / 100 * 99];
    for (uint32_t g = 0; g < groups; g++)
        cluster_free(c[g]);
    free(heap.at);
    free(took);
    free(c);
    return p99;
}

static void bench_tails(void) {
    const struct {
        const char *name;
        uint8_t policy;
        uint32_t groups;
    } row[] = {
        {"random", MESH_LB_RANDOM, 1},
        {"round robin, per process", MESH_LB_ROUND_ROBIN, 100},
        {"round robin, shared by host", MESH_LB_ROUND_ROBIN, 10},
        {"p2c, per process", MESH_LB_LEAST_REQUEST, 100},
        {"p2c, shared by host", MESH_LB_LEAST_REQUEST, 10},
        {"p2c, all share", MESH_LB_LEAST_REQUEST, 1},
    };
    double p99[6][2];
    printf("\n%-30s%10s%10s\n", "p99, mean service times", "equal", "mixed");
    for (int i = 0; i < 6; i++) {
        for (int mixed = 0; mixed < 2; mixed++)
            p99[i][mixed] = tail(row[i].policy, row[i].groups, mixed);
        printf("%-30s%10.1f%10.1f\n", row[i].name, p99[i][0], p99[i][1]);
    }
    printf("shared p2c / per-process round robin, equal: %.2f (goal 0.60)\n", p99[4][0] / p99[1][0]);
    printf("shared p2c / per-process p2c, mixed:         %.2f (goal 0.30)\n", p99[4][1] / p99[3][1]);
}

int main(void) {
    bench_picks();
    bench_tails();
    return 0;
}
