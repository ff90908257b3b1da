/* SPDX-License-Identifier: Apache-2.0
 *
 * The view's types that other rooms see: plain data in mapped memory, shared by all processes of a user. Records
 * are immutable once published (struct mesh_endpoint, struct mesh_policy); struct mesh_stat is live and atomic.
 * Integers are in host order, addresses in network order. Sizes are part of the mapped layout: changing one
 * changes MESH_VIEW_LAYOUT in resolver/.
 */
#ifndef MESH_RESOLVER_TYPES_H
#define MESH_RESOLVER_TYPES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* envoy.config.core.v3.HealthStatus */
enum mesh_health {
    MESH_HEALTH_UNKNOWN, MESH_HEALTH_HEALTHY, MESH_HEALTH_UNHEALTHY, MESH_HEALTH_DRAINING, MESH_HEALTH_TIMEOUT,
    MESH_HEALTH_DEGRADED,
};

enum mesh_lb_policy {
    MESH_LB_ROUND_ROBIN, MESH_LB_LEAST_REQUEST, MESH_LB_RING_HASH, MESH_LB_RANDOM, MESH_LB_MAGLEV, MESH_LB_PICK_FIRST,
    MESH_LB_PEAK_EWMA,
};

struct mesh_endpoint { /* 64 bytes */
    uint8_t addr[16];  /* IPv4 in the first 4 bytes */
    uint16_t port;
    uint8_t family;    /* 4 or 6 */
    uint8_t health;    /* enum mesh_health */
    uint8_t priority;  /* 0 is tried first */
    uint8_t transport; /* index into the cluster's transport sockets (transport_socket_matches); 0 is the default */
    uint16_t locality; /* index into the cluster's localities, by (priority, region, zone, sub_zone) */
    uint32_t weight;   /* >= 1 */
    uint32_t locality_weight; /* 0: none given */
    uint32_t stat;     /* index of its struct mesh_stat: the same for one (cluster, address, port) across updates */
    uint32_t hash_key; /* offset in the view of the consistent-hash key text, 0: "ip:port" */
    uint64_t since;    /* mesh_now() when it joined the cluster, for slow start */
    uint64_t spare[2];
};
_Static_assert(sizeof(struct mesh_endpoint) == 64, "part of the mapped layout");

struct mesh_policy { /* how one cluster balances; from lb_policy, load_balancing_policy, outlier_detection, breakers */
    uint8_t policy;             /* enum mesh_lb_policy */
    uint8_t full_scan;          /* least_request FULL_SCAN */
    uint8_t panic_percent;      /* healthy_panic_threshold, default 50 */
    uint8_t locality_weighted;
    uint16_t choice_count;      /* least_request, default 2 */
    uint16_t overprovisioning;  /* percent, default 140 */
    uint32_t table_size;        /* maglev */
    uint32_t ring_min, ring_max;
    float active_request_bias;  /* default 1.0 */
    /* outlier detection; 0 consecutive: detection off */
    uint32_t consecutive;       /* failures in a row (connect, timeout, authentication), default 5; ours: 2 when the cluster says nothing */
    uint32_t base_ejection_ms, max_ejection_ms; /* 30 s, 300 s */
    uint32_t interval_ms;       /* 10 s */
    uint8_t max_ejection_percent; /* default 10; when the cluster says nothing 100, but never all */
    uint8_t always_eject_one;
    uint16_t hash_balance;      /* consistent hashing with bounded load: hash_balance_factor, percent >= 100; 0: off */
    /* circuit breakers; UINT32_MAX: none */
    uint32_t max_connections, max_pending, max_retries;
    uint32_t drop_per_million;  /* drop_overload, all categories combined */
    uint32_t slow_start_ms;
    uint32_t max_ejection_jitter_ms; /* default 0 */
    float slow_start_aggression;      /* 0: 1.0 */
    uint8_t slow_start_least_percent; /* 0: 10 */
    uint8_t murmur;             /* ring_hash: MURMUR_HASH_2 instead of XX_HASH */
    uint8_t shuffle;            /* pick_first: shuffle_address_list */
    uint8_t spare8;
    /* outlier detection by share of successes; 0 enforcing: off */
    uint16_t success_volume;    /* success_rate_request_volume, default 100 */
    uint16_t success_stdev;     /* success_rate_stdev_factor, default 1900 */
    uint16_t failure_volume;    /* failure_percentage_request_volume, default 50 */
    uint8_t success_hosts, success_enforcing;   /* minimum hosts, default 5; percent */
    uint8_t failure_hosts, failure_enforcing;   /* minimum hosts, default 5; percent */
    uint8_t failure_threshold;  /* percent, default 85 */
    uint8_t consecutive_enforcing; /* percent, default 100 */
    /* more breakers */
    uint32_t max_host_connections; /* per_host_thresholds; UINT32_MAX: none */
    uint32_t retry_min;         /* retry_budget: min_retry_concurrency; UINT32_MAX: no budget, max_retries counts */
    uint16_t retry_budget;      /* of the connections in flight, in 1/100 percent */
    uint8_t fail_in_panic;      /* fail_traffic_on_panic: nobody is used then */
    uint8_t spare[5];
};
_Static_assert(sizeof(struct mesh_policy) == 104, "part of the mapped layout");

struct mesh_stat { /* live counters of one (cluster, address, port): 64 bytes, one cache line, shared by all processes */
    _Atomic uint32_t inflight;       /* connections, dials included; settled against the ledger after a kill -9 */
    _Atomic uint32_t failures_in_row;
    _Atomic uint32_t ejections;      /* multiplier of the ejection time: grows by ejection, falls by healthy interval */
    _Atomic uint32_t latency_us;     /* connect + handshake, EWMA */
    _Atomic uint64_t ejected_until;  /* mesh_now(); 0: not ejected */
    _Atomic uint64_t latency_at;
    _Atomic uint64_t connects, failures;
    _Atomic uint32_t row_before;     /* failures_in_row as the last success found it: lb/report.c */
    /* successes and failures of two intervals, the even and the odd ones: lb/success_rate.c */
    _Atomic uint32_t window;         /* the newer interval's number: its start / interval_ms */
    _Atomic uint16_t window_good[2], window_bad[2];
};
_Static_assert(sizeof(struct mesh_stat) == 64, "part of the mapped layout");

struct mesh_cluster_stat { /* live counters of one cluster */
    _Atomic uint32_t rr;             /* round robin position */
    _Atomic uint32_t ejected;        /* endpoints ejected now (approximate between picks) */
    _Atomic uint32_t inflight, pending, retries;
    _Atomic uint32_t overflow;       /* breaker trips */
    _Atomic uint32_t marks;          /* changes of any ejected_until: a recount that saw it move starts over */
    _Atomic uint32_t first;          /* pick_first: endpoint index + 1 in use, 0: none yet */
    _Atomic uint64_t recount_at;     /* mesh_now() when `ejected` must be counted anew (an ejection ends) */
    _Atomic uint32_t window;         /* the interval whose predecessor was judged (success rate) */
    _Atomic uint16_t out_healthy[5], out_degraded[5]; /* ejected by priority, the first five */
};
_Static_assert(sizeof(struct mesh_cluster_stat) == 64, "part of the mapped layout");

struct mesh_cluster_view { /* one cluster as a reader sees it: borrowed pointers into the view, valid while its sequence holds */
    const struct mesh_policy *policy;
    const struct mesh_endpoint *endpoints;
    uint32_t n;                      /* endpoints */
    struct mesh_stat *stats;         /* the whole table of the view */
    uint32_t nstats;
    struct mesh_cluster_stat *live;  /* of these endpoints: turns, ejections */
    struct mesh_cluster_stat *limits; /* of the whole cluster: connections, dials, marks; `live` but for a subset */
    const void *table;               /* prebuilt ring or maglev table, or NULL */
    uint32_t table_len;              /* bytes */
    /* text of mesh_endpoint.hash_key; NULL when the offset is out of bounds */
    const char *(*hash_key)(const void *view, uint32_t offset, size_t *ret_len);
    const void *view;
};

#endif
