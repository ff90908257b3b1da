#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [--lib PATH] [--mode MODE]... [--jobs N] [-v] [NAME...]: builds and runs the wire tests.
#
# Every tests/wire/NAME.c is one program, run in each mode:
#   plain         no library: what TCP does
#   unconfigured  the library preloaded, no MESH_ variable: the same
#   mtls          both ends under MESH_CAPTURE and MESH_INBOUND=strict: the same again, in mutual TLS
# A program names fewer modes, or variables of its own, in its head: `modes: plain mtls`, `env: NAME=VALUE` (@PKI@ and
# @RUN@ are replaced, one a line). Each run has a network namespace of its own, whose wire is recorded: in mode plain
# the marker of t.h must be on it and in mode mtls must not (`wire: none` in the head where a program sends no marker).
# Without the library only mode plain is run. WIRE_CASE=NAME picks one case, WIRE_SLOW=N gives N times the time,
# WIRE_UNDER=COMMAND runs each program under it.
set -u
. "$(dirname "$0")/../lib/env.sh"
here=$TOP/tests/wire
modes=() names=() jobs=2 verbose=

while [ $# -gt 0 ]; do
  case $1 in
  --lib) LIB=$(realpath -m "$2"); shift ;;
  --mode) modes+=("$2"); shift ;;
  --jobs) jobs=$2; shift ;;
  -v) verbose=1 ;;
  -*) sed -n '3,14p' "$0" >&2; exit 2 ;;
  *) names+=("$(basename "$1" .c)") ;;
  esac
  shift
done
[ ${#names[@]} -gt 0 ] || for f in "$here"/*.c; do names+=("$(basename "$f" .c)"); done
if [ ${#modes[@]} = 0 ]; then
  modes=(plain)
  if [ -e "$LIB" ]; then modes+=(unconfigured mtls); else echo "# no library at $LIB: mode plain alone"; fi
fi

head_of() { sed -n '1,30p' "$here/$1.c" | sed -nE "s|^[ */]*$2: *(.*)|\\1|p" | sed 's| *\*/$||'; }

compile() { # compile NAME: -D_FORTIFY_SOURCE makes the __*_chk entries part of what is tested
  local out=$BUILD/tests/wire/$1
  if [ ! -x "$out" ] || [ "$here/$1.c" -nt "$out" ] || [ "$here/t.h" -nt "$out" ]; then
    ${CC:-cc} -std=gnu11 -D_GNU_SOURCE -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wall -Wextra -Wshadow -pthread \
      -I"$TOP" -I"$BUILD" ${WIRE_CFLAGS:-} -o "$out.$$" "$here/$1.c" && mv "$out.$$" "$out"
  fi
}

# one NAME MODE: leaves TAP in $RUN/out/NAME.MODE and the exit status in .rc
one() {
  local name=$1 mode=$2 out=$RUN/out/$1.$2 vars=(WIRE_MODE="$2") watch=() line
  mkdir -p "$RUN/mesh/$name.$mode"
  case $mode in
  unconfigured) vars+=("LD_PRELOAD=$PRE$LIB$POST") ;;
  mtls)
    # shellcheck disable=SC2207
    vars+=($(capture web "$out.trace") "MESH_RUN_DIR=$RUN/mesh/$name.$mode")
    vars+=("LD_PRELOAD=$PRE$LIB$POST")
    while read -r line; do
      line=${line//@PKI@/$PKI}
      [ -z "$line" ] || vars+=("${line//@RUN@/$RUN}")
    done < <(head_of "$name" env)
    ;;
  esac
  [ -n "$recording" ] && watch=("$RECORD" -r "$out.wire" -m "PLAIN-TEXT-MARK!" --)
  "$TOP/tests/lib/netns.sh" "${watch[@]}" timeout -k 5 $((60 * ${WIRE_SLOW:-1})) env "${vars[@]}" ${WIRE_UNDER:-} "$BUILD/tests/wire/$name" \
    >"$out" 2>"$out.err" </dev/null
  echo $? >"$out.rc"
}

wire_verdict() { # wire_verdict NAME MODE: is what the recording shows right?
  local rep=$RUN/out/$1.$2.wire marks hello
  [ -n "$recording" ] && [ -s "$rep" ] || return 0
  [ "$(head_of "$1" wire)" = none ] && return 0
  [ -z "${WIRE_CASE:-}" ] || return 0
  marks=$(recorded "$rep" marker) hello=$(recorded "$rep" hello)
  case $2 in
  mtls)
    [ "$marks" = 0 ] || { echo "# $1: $marks markers of plaintext on the wire"; return 1; }
    [ "$hello" -gt 0 ] || { echo "# $1: no TLS handshake on the wire"; return 1; } ;;
  *) [ "$marks" -gt 0 ] || { echo "# $1: the recording does not even show plaintext"; return 1; } ;;
  esac
}

tally() { # tally NAME MODE: counts, and prints what is not as it should be
  local out=$RUN/out/$1.$2 rc good bad skipped=0
  rc=$(cat "$out.rc" 2>/dev/null || echo 1)
  if grep -q '^1\.\.' "$out"; then
    good=$(grep -c '^ok ' "$out") bad=$(grep -c '^not ok ' "$out") skipped=$(grep -c '^ok .*# SKIP' "$out")
    [ "$rc" = 0 ] || [ "$rc" = 77 ] || [ "$bad" -gt 0 ] || bad=1
  else
    good=0 bad=0
    case $rc in 0) good=1 ;; 77) good=1 skipped=1 ;; *) bad=1 ;; esac
  fi
  wire_verdict "$1" "$2" || bad=$((bad + 1))
  good=$((good - skipped))
  PASSED=$((PASSED + good)) FAILED=$((FAILED + bad)) SKIPPED=$((SKIPPED + skipped))
  printf '%-12s %-13s %3d passed %3d failed%s\n' "$1" "$2" "$good" "$bad" "$([ "$skipped" = 0 ] || echo " $skipped skipped")"
  if [ "$bad" -gt 0 ] || [ -n "$verbose" ]; then
    [ "$rc" = 124 ] && echo "# $1: out of time"
    grep -hE '^not ok |^# ' "$out" "$out.err" | sed 's/^/    /'
    grep -vhE '^# ' "$out.err" | tail -5 | sed 's/^/    | /'
    if [ "$2" = mtls ] && [ -s "$out.trace" ]; then grep -h ' refused ' "$out.trace" | tail -3 | sed 's/^/    | /'; fi
  fi
}

mkdir -p "$BUILD/tests/wire" "$RUN/out"
recording=
if [ "$(id -u)" = 0 ] && "$TOP/tests/lib/netns.sh" true 2>/dev/null && recorder; then recording=1; else echo "# the wire is not recorded: no right to"; fi
# ASan's runtime must come first. TSan's comes behind the library: inside its own poll, connect and the like it looks at no
# lock, and the library would run there.
PRE= POST=
case ${SAN:-} in
address)
  PRE=$(${CC:-cc} -print-file-name=libasan.so):
  export ASAN_OPTIONS=detect_leaks=0:suppressions=$TOP/tests/asan.supp:${ASAN_OPTIONS:-}
  ;;
thread)
  WIRE_CFLAGS="${WIRE_CFLAGS:-} -fsanitize=thread" # its runtime is started by the program's own start files
  POST=:$(${CC:-cc} -print-file-name=libtsan.so)
  export TSAN_OPTIONS=die_after_fork=0:report_thread_leaks=0:suppressions=$TOP/tests/tsan.supp:${TSAN_OPTIONS:-}
  ;;
esac
[ -z "${SAN:-}" ] || export WIRE_SLOW=${WIRE_SLOW:-4}
pki
# Some programs run as another user, who may not be let into the checkout.
if [ -e "$LIB" ]; then install -m 755 "$LIB" "$RUN/libmeshshim.so" && LIB=$RUN/libmeshshim.so; fi
built=()
for name in "${names[@]}"; do
  if [ ! -e "$here/$name.c" ]; then not_ok "$name: no such test"; elif compile "$name"; then built+=("$name"); else not_ok "$name does not compile"; fi
done
for mode in "${modes[@]}"; do
  for name in "${built[@]}"; do
    wanted=$(head_of "$name" modes)
    case " ${wanted:-plain unconfigured mtls} " in *" $mode "*) ;; *) continue ;; esac
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    one "$name" "$mode" &
  done
done
wait
for name in "${built[@]}"; do
  for mode in "${modes[@]}"; do
    if [ -e "$RUN/out/$name.$mode.rc" ]; then tally "$name" "$mode"; fi
  done
done
finish
