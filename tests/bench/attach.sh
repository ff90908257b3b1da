#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# attach.sh [PAIRS]: what preloading the unconfigured library costs an exec of /bin/true, against none and against a
# library that gcc makes of nothing. Fails when the ratio of the medians is above LIMIT (1.12).
set -eu
cd "$(dirname "$0")/../.."
lib=$(realpath -e "${BUILD:-build}/libmeshshim.so")
cc=${CC:-gcc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
$cc -std=gnu11 -D_GNU_SOURCE -O2 -o "$work/attach" tests/bench/attach.c
echo 'int nothing;' >"$work/empty.c"
$cc -shared -fPIC -o "$work/empty.so" "$work/empty.c"
"$work/attach" "${1:-2000}" /bin/true "$lib" "$work/empty.so" | tee "$work/result"
awk -v limit="${LIMIT:-1.12}" 'NR == 2 { exit !($8 <= limit) }' "$work/result"
