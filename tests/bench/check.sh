#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check.sh [NEW]: instructions, counted by valgrind, of what a program does most under the library, against the committed
# ones of tests/bench/instructions: one that needs a tenth more fails. NEW=1 writes the file anew. OpenSSL chooses its code by
# the processor: on another model than the one that the file was counted on the numbers are shown and not judged.
set -eu
. "$(dirname "$0")/../lib/env.sh"
here=$TOP/tests/bench
known=$here/instructions
if [ "${IN_NETNS:-}" != 1 ]; then
  command -v valgrind >/dev/null || { echo 'valgrind is missing' >&2; exit 1; }
  exec "$TOP/tests/lib/netns.sh" env LIB="$LIB" BUILD="$BUILD" NEW="${NEW:-}" bash "$here/check.sh"
fi
pki
mkdir -m 700 "$RUN/run"
{
  printf 'services:\n  reviews.shop.mesh:9080:\n    endpoints: [127.0.0.1:29080]\n'
  printf '  plain.shop.mesh:9080:\n    tls: off\n    endpoints: [127.0.0.1:29080'
  printf ', 127.0.0.%d:29080' $(seq 2 2 60 | sed 's/.*/1/')
  printf ']\n'
} >"$RUN/view.yaml"
# shellcheck disable=SC2046
export $(identity reviews) MESH_VIEW=$RUN/view.yaml MESH_RUN_DIR=$RUN/run MESH_INBOUND=29080=permissive

once() { # once PRELOAD PROGRAM WHAT N, with nothing left of the run before
  rm -rf "$RUN"/run/*
  LD_PRELOAD=$1 valgrind --tool=callgrind --callgrind-out-file="$RUN/out" "$BUILD/tests/bench/$2" "$3" "$4" >"$RUN/log" 2>&1 ||
    { cat "$RUN/log" >&2; exit 1; }
  awk '/^(summary|totals):/ { print $2; exit }' "$RUN/out"
}
each() { # each PRELOAD PROGRAM WHAT FEW MANY: of one, from what many cost more than few
  local few many
  few=$(once "$1" "$2" "$3" "$4")
  many=$(once "$1" "$2" "$3" "$5")
  echo $(((many - few) / ($5 - $4)))
}

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1 | tr ' ' _)
status=0 fresh="cpu $model"$'\n'
judged=1
[ "$(awk '$1 == "cpu" { print $2 }' "$known" 2>/dev/null)" = "$model" ] || { judged=; echo "  counted on another processor: shown, not judged"; }
while read -r name preload program what few many; do
  [ "$preload" = lib ] && preload=$LIB || preload=
  got=$(each "$preload" "$program" "$what" "$few" "$many")
  fresh+="$name $got"$'\n'
  was=$(awk -v n="$name" '$1 == n { print $2 }' "$known" 2>/dev/null || true)
  echo "  instructions of a $name: $got (committed: ${was:-none})"
  [ -n "${NEW:-}" ] || [ -z "$judged" ] || { [ -n "$was" ] && [ $((got * 10)) -le $((was * 11)) ]; } || { echo "  a $name costs a tenth more" >&2; status=1; }
done <<'END'
record lib counted record 200 2200
control lib counted control 200 2200
resolve lib counted resolve 200 2200
connect lib counted connect 50 250
handshake - handshake_bench again 5 25
handshake-resumed - handshake_bench resumed 5 25
END
[ -z "${NEW:-}" ] || printf '%s' "$fresh" >"$known"
exit $status
