# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Much of it: bulk, many connections one after another and at once, long idle ones, slow readers.
add bulk python3 python3; add short_connections python3 python3; add at_once python3 python3; add idle python3 python3; add slow_reader python3 python3

load() { "${X[@]}" timeout 110 python3 "$src/load.py" "$1" "$HOST" "$2" "$SECRET" "${@:3}"; }
app_bulk() { load bulk 8055 "${BULK_MIB:-1024}"; }
app_short_connections() { load short 8056 "${SHORT:-5000}"; }
# Memory is counted in the server's process: what 2,000 idle connections added, a connection.
app_at_once() { ulimit -n 20000; load at_once 8057 "${AT_ONCE:-2000}"; }
app_idle() { load idle 8058 8; }
app_slow_reader() { load slow 8059; }
