# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# env.sh: sourced by the test runners. Gives TOP (the repository), BUILD, LIB (the library, may be missing), RUN (a
# directory under mktemp, gone at exit together with every server started), and the functions below.
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${BUILD:-$TOP/build}
case $BUILD in /*) ;; *) BUILD=$TOP/$BUILD ;; esac
LIB=${LIB:-$BUILD/libmeshshim.so}
RUN=$(mktemp -d "${TMPDIR:-/tmp}/meshshim-test.XXXXXX")
chmod 755 "$RUN"
SERVERS=()
PASSED=0 FAILED=0 SKIPPED=0
unset LD_PRELOAD "${!MESH_@}"

have() { command -v "$1" >/dev/null 2>&1; }

# pki: the test certificates, made once a run, in $PKI.
pki() {
  PKI=$RUN/pki
  "$TOP/tests/lib/pki.sh" "$PKI"
  chmod 755 "$PKI"; chmod 644 "$PKI"/*
}

# identity NAME: the MESH_ lines of who we are, `pki` made it.
identity() {
  echo "MESH_CERT=$PKI/$1-chain.pem MESH_KEY=$PKI/$1.key MESH_CA=$PKI/ca.pem"
}

# capture NAME [TRACE-FILE]: the lines under which every loopback connection is mutual TLS, as NAME.
capture() {
  echo "LD_PRELOAD=$LIB MESH_CAPTURE=127.0.0.0/8,::1 MESH_INBOUND=strict $(identity "$1") MESH_RUN_DIR=$RUN/mesh" \
    "${2:+MESH_TRACE=info:$2}"
}

# packages_install PACKAGE...: what is missing of them, as setup.sh does it; none of their services is started.
packages_install() {
  local policy=/usr/sbin/policy-rc.d ours= rc=0
  if [ "$(id -u)" = 0 ] && [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && ours=1; fi
  sh "$TOP/tests/setup.sh" "$@" || rc=$?
  [ -z "$ours" ] || rm -f $policy
  return $rc
}

# free_port: a TCP port that nobody holds now. (In a namespace of our own nobody else asks.)
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# listening [ADDRESS:]PORT: someone listens there. Asks the kernel, so that no server sees a probe connection.
listening() {
  local want a b c d
  want=$(printf ':%04X' "${1##*:}")
  case $1 in
  *.*:*) IFS=. read -r a b c d <<<"${1%:*}"; want=$(printf '%02X%02X%02X%02X' "$d" "$c" "$b" "$a")$want ;;
  esac
  awk -v w="$want" '$4 == "0A" && index($2, w) == length($2) - length(w) + 1 { found = 1 } END { exit !found }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# serve NAME [ADDRESS:]PORT CMD...: starts a server, its output in $RUN/NAME.log, and waits until it listens. SERVER is its pid.
serve() {
  local name=$1 at=$2 i; shift 2
  "$@" >"$RUN/$name.log" 2>&1 </dev/null &
  SERVER=$!
  SERVERS+=("$SERVER")
  for ((i = 0; i < 600; i++)); do
    listening "$at" && return 0
    kill -0 "$SERVER" 2>/dev/null || break
    sleep 0.1
  done
  echo "# $name does not listen on $at:" >&2
  tail -5 "$RUN/$name.log" | sed 's/^/#   /' >&2
  return 1
}

# stop PID...: ends servers by their id and waits for them.
stop() {
  local pid i
  for pid; do
    kill "$pid" 2>/dev/null || continue
    for ((i = 0; i < 50; i++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  return 0
}

cleanup() {
  local pids=("${SERVERS[@]}")
  [ ${#pids[@]} = 0 ] || stop "${pids[@]}"
  [ -n "${KEEP:-}" ] && echo "# kept: $RUN" >&2 || rm -rf "$RUN"
}
trap cleanup EXIT

ok() { PASSED=$((PASSED + 1)); echo "ok - $*"; }
not_ok() { FAILED=$((FAILED + 1)); echo "not ok - $*"; }
skip() { SKIPPED=$((SKIPPED + 1)); echo "ok - $1 # SKIP ${2:-}"; }

# check WHAT CMD...: one test. CMD's output is shown only if it fails.
check() {
  local what=$1 rc=0; shift
  "$@" >"$RUN/check.log" 2>&1 </dev/null || rc=$?
  if [ $rc = 0 ]; then ok "$what"; else not_ok "$what"; tail -15 "$RUN/check.log" | sed 's/^/#   /'; fi
  return 0
}

# finish: the last line of every runner, and its exit status.
finish() {
  if [ $SKIPPED -gt 0 ]; then echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"; else echo "$PASSED passed, $FAILED failed"; fi
  [ $FAILED = 0 ] && [ $((PASSED + SKIPPED)) -gt 0 ]
}

# recorder: builds the wire recorder once, RECORD is its path; fails where packets cannot be seen.
recorder() {
  RECORD=$BUILD/tests/record
  mkdir -p "$BUILD/tests"
  if [ ! -x "$RECORD" ] || [ "$TOP/tests/lib/record.c" -nt "$RECORD" ]; then
    ${CC:-cc} -std=gnu11 -D_GNU_SOURCE -O2 -o "$RECORD.$$" "$TOP/tests/lib/record.c" && mv "$RECORD.$$" "$RECORD" || return 1
  fi
  "$RECORD" -r /dev/null -- true 2>/dev/null
}

# recorded FILE NAME: the number that a recording's report has for NAME.
recorded() { awk -v n="$2" '$1 == n { print $2 }' "$1"; }
