#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [--jobs N] [-v] [NAME...]: scenario tests of what depends on a view, an identity or a port's mode.
#
# Each tests/mesh/NAME_test.py runs in a network, mount and process namespace of its own. ONLY_CASE=TEXT runs the cases
# that have TEXT in their name, SLOW=N gives N times the time, -v prints every case with its duration.
set -u
. "$(dirname "$0")/../lib/env.sh"
here=$TOP/tests/mesh
jobs=2 verbose='' names=()
while [ $# -gt 0 ]; do
  case $1 in
  --jobs) jobs=$2; shift ;;
  -v) verbose=1 ;;
  -*) sed -n '3,6p' "$0" >&2; exit 2 ;;
  *) names+=("$(basename "${1%_test}" _test.py)") ;;
  esac
  shift
done
[ ${#names[@]} -gt 0 ] || for f in "$here"/*_test.py; do names+=("$(basename "$f" _test.py)"); done
# The interpreter itself, not a launcher's script that would come under the library as well.
python=$(python3 -c 'import sys; print(sys.executable)') || { echo "python3 is missing" >&2; exit 1; }
case ${SAN:-} in
address | thread)
  PRELOAD=$(${CC:-cc} -print-file-name="lib${SAN:0:1}san.so"):
  # The programs here are interpreters, which free nothing at their end; mesh.py turns the look at leaks on for meshctl.
  export PRELOAD ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-} TSAN_OPTIONS=die_after_fork=0:${TSAN_OPTIONS:-}
  SLOW=${SLOW:-4} ;;
esac
pki
mkdir -p "$RUN/out"

one() {
  mkdir -p "$RUN/$1"
  # shellcheck disable=SC2086
  "$TOP/tests/lib/netns.sh" timeout -k 5 $((300 * ${SLOW:-1})) env LIB="$LIB" CTL="$BUILD/meshctl" PKI="$PKI" RUN="$RUN/$1" \
    MESH_SLOW="${SLOW:-1}" MESH_TIMES="$verbose" PYTHONDONTWRITEBYTECODE=1 \
    "$python" "$here/$1_test.py" ${ONLY_CASE:+"$ONLY_CASE"} >"$RUN/out/$1" 2>"$RUN/out/$1.err" </dev/null
  echo $? >"$RUN/out/$1.rc"
}

tally() {
  local out=$RUN/out/$1 rc good bad skipped plan
  rc=$(cat "$out.rc" 2>/dev/null || echo 1) plan=$(sed -n 's/^1\.\.//p' "$out")
  good=$(grep -c '^ok ' "$out") bad=$(grep -c '^not ok ' "$out") skipped=$(grep -c '^ok .*# SKIP' "$out")
  [ "$rc" = 0 ] || [ "$bad" -gt 0 ] || bad=1
  [ "${plan:-0}" -gt 0 ] && [ $((good + bad)) = "$plan" ] || bad=$((bad + 1))
  PASSED=$((PASSED + good - skipped)) FAILED=$((FAILED + bad)) SKIPPED=$((SKIPPED + skipped))
  printf '%-10s %3d passed %3d failed\n' "$1" "$((good - skipped))" "$bad"
  if [ -n "$verbose" ]; then grep -E '^(ok|not ok|#)' "$out"; else grep -E '^(not ok|#)' "$out"; fi | sed 's/^/    /'
  if [ "$bad" -gt 0 ]; then tail -5 "$out.err" | sed 's/^/    | /'; fi
}

for name in "${names[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  one "$name" &
done
wait
for name in "${names[@]}"; do tally "$name"; done
finish
