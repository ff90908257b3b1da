#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Threads of 128 KiB call us: no frame of ours is above 8 KiB (gcc's -fstack-usage beside each object), and none grows without
# a bound but exec's, which copy lists that they have measured. tests/fault/prog.c runs the deepest paths on such a stack.
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
for c in shim/*.c shim/base/*.c shim/ctl/*.c resolver/*.c lb/*.c tls/*.c proto/*.c; do
    [ -e "$build/${c%.c}.su" ] || { echo "$c: built without -fstack-usage, please make clean"; exit 1; }
    cat "$build/${c%.c}.su"
done | awk -F'\t' '
    NF < 3 { print; bad = 1; next }
    $2 > 8192 { print $1 ": a frame of " $2 " bytes"; bad = 1 }
    $3 == "dynamic" && $1 !~ /:(call_with|depart_foreign|execl|execlp|execle)$/ { print $1 ": a frame without a bound"; bad = 1 }
    END { exit bad }'
