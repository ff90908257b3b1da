#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh: the table of ratios, and build/bench.json. ROW=6 or ROW=6a measures one row or its variants alone, PAIRS=n sets how
# many pairs a row takes (7). Started by `make bench`, which builds the programs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/env.sh"
if [ "${IN_NETNS:-}" != 1 ]; then
  sh "$TOP/tests/setup.sh" nginx libnginx-mod-stream wrk redis-server redis-tools haproxy valgrind python3 openssl libssl-dev procps
  [ -e "$LIB" ] || { echo "$LIB is missing: make it first" >&2; exit 1; }
  "$TOP/tests/lib/netns.sh" env LIB="$LIB" BUILD="$BUILD" ROW="${ROW:-}" KEEP="${KEEP:-}" bash "$here/run.sh"
  exit
fi
ulimit -n "$(ulimit -Hn)"
pki
chmod 711 "$RUN"
BUILD="$BUILD" PYTHONDONTWRITEBYTECODE=1 python3 "$here/bench.py" "$RUN" "$PKI" "$BUILD/bench.json" ${ROW:+"$ROW"}
