#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Instructions of one pick among 10,000 endpoints, each policy, undisturbed and with one of them ejected: at most LIMIT.
# Counted by valgrind, as the difference between many and few picks. 300 ns are 1,000 instructions on a core that does one a cycle.
set -eu
build=$(realpath -e "${BUILD:-build}")
limit=${LIMIT:-1000}
command -v valgrind >/dev/null || { echo 'valgrind is missing' >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/picks.c" <<'END'
#include "tests/unit/lb/cluster.h"
int main(int argc, char **argv) { /* POLICY PICKS EJECTED */
    uint8_t policy;
    uint32_t at = 0;
    if (argc != 4 || mesh_lb_policy_parse(argv[1], &policy))
        return 2;
    struct cluster *c = cluster_new(10000, policy);
    c->policy.table_size = 20011; /* building a large one is what would be counted */
    if (cluster_publish(c))
        return 1;
    if (atoi(argv[3]))
        cluster_eject(c, 3, UINT64_MAX - 1);
    for (int n = atoi(argv[2]); n > 0; n--) {
        c->request.random = cluster_random(c);
        c->request.hash = c->request.random;
        c->request.has_hash = true;
        if (mesh_lb_pick(&c->view, &c->request, &at, NULL))
            return 1;
    }
    return 0;
}
END
"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O2 -I. -o "$work/picks" "$work/picks.c" "$build"/lb/*.o "$build"/shim/base/*.o -lpthread

count() { # count POLICY PICKS EJECTED
    valgrind --tool=callgrind --callgrind-out-file="$work/out" "$work/picks" "$@" >/dev/null 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    awk '/^(summary|totals):/ { print $2; exit }' "$work/out"
}
failed=0
for policy in round_robin random least_request peak_ewma ring_hash maglev pick_first; do
    for ejected in 0 1; do
        few=$(count $policy 200 $ejected)
        each=$((($(count $policy 2200 $ejected) - few) / 2000))
        [ "$ejected" = 0 ] && plain=$each
        [ "$each" -gt 0 ] && [ "$each" -le "$limit" ] || failed=1
    done
    line="${line:-}${line:+, }$policy $plain/$each"
done
echo "  instructions a pick of 10,000, nobody/one ejected (limit $limit): $line"
exit $failed
