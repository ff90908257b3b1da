#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh: the matrix of ways past the library, bypass by mode, in $BUILD/bypass.txt. Every case of tests/wire/doors.c and
# tests/wire/unseen.c is a row, run alone in a namespace of its own whose wire is recorded. A cell is what the program was
# told; in mode mtls `+ PLAINTEXT` is added when the recording shows the marker, which only unseen.c's rows may.
set -u
. "$(dirname "$0")/../lib/env.sh"
[ -e "$LIB" ] || { echo "no library at $LIB" >&2; exit 1; }
"$TOP/tests/lib/netns.sh" true 2>/dev/null && recorder || { echo "the wire cannot be recorded here" >&2; exit 1; }
LIB=$LIB bash "$TOP/tests/wire/run.sh" --mode plain doors unseen >"$RUN/build.log" || { cat "$RUN/build.log"; exit 1; }
pki
table=$BUILD/bypass.txt

cell() { # cell PROGRAM CASE MODE: CELL
  local vars=(WIRE_MODE="$3" WIRE_CASE="$2") out=$RUN/$2.$3 rc marks
  mkdir -p "$RUN/mesh.$2"
  case $3 in
  unconfigured) vars+=("LD_PRELOAD=$LIB") ;;
  mtls) local line; read -ra line <<<"$(capture web "$out.trace")"; vars+=("${line[@]}" "MESH_RUN_DIR=$RUN/mesh.$2") ;;
  esac
  "$TOP/tests/lib/netns.sh" "$RECORD" -r "$out.wire" -m "PLAIN-TEXT-MARK!" -- timeout -k 5 60 \
    env "${vars[@]}" "$BUILD/tests/wire/$1" >"$out" 2>"$out.err" </dev/null
  rc=$?
  CELL=$(sed -n 's/^# door: //p' "$out.err" | tail -1)
  case $rc in
  0) ;;
  77) CELL='cannot be tried here' ;;
  *) CELL=FAILED ;;
  esac
  marks=$(recorded "$out.wire" marker)
  [ "$3" != mtls ] || [ "${marks:-1}" = 0 ] || CELL+=' + PLAINTEXT'
  case $CELL in
  '' | FAILED* | 'cannot be tried here + PLAINTEXT') bad=1 ;;
  *PLAINTEXT) [ "$1" = unseen ] || bad=1 ;;
  esac
}

{
  printf '%-38s %-26s %-26s %s\n' bypass 'without the library' unconfigured 'mutual TLS'
  for program in doors unseen; do
    for name in $(sed -nE '/^T_MAIN/,$ p' "$TOP/tests/wire/$program.c" | grep -oE 'T_CASE\([a-z0-9_]+' | cut -d'(' -f2); do
      row=() bad=
      for mode in plain unconfigured mtls; do cell $program "$name" $mode; row+=("$CELL"); done
      printf '%-38s %-26s %-26s %s\n' "${name//_/ }" "${row[@]}"
      echo "${bad:-0}" >>"$RUN/bad"
    done
  done
} | tee "$table.new"
mv "$table.new" "$table"
FAILED=$(grep -c 1 "$RUN/bad") PASSED=$(grep -c 0 "$RUN/bad")
finish
