#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [SUITE...]: test suites that others wrote, as their Debian packages ship them.
#
# Suites: tornado, socat, openssh, cpython. Each is run three times, in a network namespace of its own:
#   plain         no library: the baseline
#   unconfigured  the library preloaded, no MESH_ variable
#   mtls          both ends under MESH_CAPTURE and MESH_INBOUND=strict
# What counts is a test that passes in the baseline and not with the library; the file `by-nature` names those that mutual
# TLS cannot pass, and why. MODS="test_ssl ..." picks CPython's modules.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/env.sh"
known=(tornado socat openssh cpython)
PYTHON=${PYTHON:-/usr/bin/python3} # Debian's, which the packages' tests belong to
MODS=${MODS:-test_socket test_selectors test_socketserver test_ssl test_asyncio test_subprocess}

# ---- one suite in one mode: X is what the tested programs are started with; writes OUT/pass, one name a line ----

suite_tornado() {
  timeout -k 5 300 "${X[@]}" "$PYTHON" -m tornado.test --verbose >"$OUT/log" 2>&1
  sed -nE 's/^([a-zA-Z0-9_]+) \(([a-zA-Z0-9_.]+)\).* \.\.\. ok$/\2.\1/p' "$OUT/log" >"$OUT/pass"
}

# The script is socat's own; TRACE goes in front of each socat, not of the script.
suite_socat() {
  cp /usr/share/doc/socat/examples/test.sh . || return
  SOCAT=/usr/bin/socat FILAN=/usr/bin/filan PROCAN=/usr/bin/procan TRACE=${X[*]} \
    timeout -k 10 2400 bash ./test.sh -t 0.1 >"$OUT/log" 2>"$OUT/err"
  sed -E 's/\x1b\[[0-9;]*m//g' "$OUT/log" | sed -nE 's/^test +[^ ]+ +([A-Za-z0-9_+-]+):.*\.\.\. *OK.*/\1/p' >"$OUT/pass"
}

suite_openssh() {
  local t r=$PWD/regress
  cp -a /usr/lib/openssh/regress "$r" && mkdir -p /run/sshd || return
  for t in connect transfer reexec multiplex dynamic-forward stderr-data; do
    timeout -k 5 600 "${X[@]}" make -C "$r" .OBJDIR="$r" .CURDIR="$r" BUILDDIR="$r" OBJ="$r" SUDO= TEST_SHELL=sh TEST_SSH_SSH=ssh \
      TEST_SSH_SFTPSERVER=/usr/lib/openssh/sftp-server TEST_SSH_IPV6=yes TEST_SSH_ECC=yes TEST_SSH_UNSAFE_PERMISSIONS=1 \
      SKIP_UNIT=1 LTESTS="$t" t-exec >"$OUT/$t.log" 2>&1 </dev/zero && grep -q '^ok ' "$OUT/$t.log" && echo "$t"
  done >"$OUT/pass"
}

suite_cpython() {
  local m
  for m in $MODS; do
    timeout -k 5 900 "${X[@]}" "$PYTHON" -m test -u all,-network,-urlfetch,-largefile,-gui,-curses,-audio,-tzdata --timeout 300 \
      -i '*VSOCK*' --junit-xml "$OUT/$m.xml" "$m" >"$OUT/$m.log" 2>&1
    python3 - "$OUT/$m.xml" <<'P'
import sys, xml.etree.ElementTree as tree
for case in tree.parse(sys.argv[1]).iter('testcase'):
    bad = [case.find(what) is not None for what in ('failure', 'error', 'skipped')]
    if not any(bad) and case.get('status') != 'notrun' and 'skip' not in (case.get('result') or ''):
        print(case.get('name').replace('\n', ' ').replace(' ', '_'))
P
  done >"$OUT/pass" 2>>"$OUT/err"
}

if [ -n "${IN_SUITE:-}" ]; then
  rm -rf "$RUN"; RUN=$SUITE_RUN PKI=$SUITE_PKI OUT=$SUITE_OUT
  trap - EXIT
  X=(env)
  case $IN_SUITE in
  unconfigured) X+=("LD_PRELOAD=$LIB") ;;
  mtls) read -ra line <<<"$(capture web)"; X+=("${line[@]}") ;;
  esac
  [ ${#X[@]} -gt 1 ] || X+=(A_BASELINE=1)
  export LC_ALL=C.UTF-8
  cd "$RUN" || exit 1
  "suite_$1" </dev/null
  sort -u -o "$OUT/pass" "$OUT/pass"
  exit
fi

# ---- packages ----
declare -A packages=([tornado]=python3-tornado [socat]=socat [openssh]='openssh-tests openssh-server openssh-client make'
  [cpython]=libpython3.11-testsuite)

# ---- all of them ----
[ -n "${T:-}" ] && set -- "${T#suites/}"
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=("${known[@]}")
[ -e "$LIB" ] || { echo "no library at $LIB" >&2; exit 1; }
pki
out=$BUILD/tests/suites
table=$(printf '%-10s %9s  %-13s %8s %7s %9s' suite baseline mode passed failed by-nature)

for suite in "${suites[@]}"; do
  [ -n "${packages[$suite]:-}" ] || { echo "no such suite: $suite" >&2; exit 2; }
  # shellcheck disable=SC2086
  packages_install ${packages[$suite]} || { skip "$suite" "its packages are missing"; continue; }
  passed=0 failed=0
  for mode in plain unconfigured mtls; do
    dir=$RUN/$suite.$mode res=$out/$suite.$mode
    rm -rf "$res"; mkdir -p "$dir" "$res"; chmod 755 "$dir"
    IN_SUITE=$mode SUITE_RUN=$dir SUITE_PKI=$PKI SUITE_OUT=$res LIB=$LIB BUILD=$BUILD "$TOP/tests/lib/netns.sh" bash "$0" "$suite"
    [ -s "$res/pass" ] || : >"$res/pass"
    [ $mode = plain ] && continue
    base=$out/$suite.plain/pass
    : >"$res/excused"
    [ $mode = mtls ] && sed -nE "s/^$suite +([^ ]+) .*/\1/p" "$here/by-nature" | sort -u >"$res/excused"
    comm -23 "$base" "$res/pass" >"$res/lost"
    comm -23 "$res/lost" "$res/excused" >"$res/fail"
    n=$(comm -12 "$base" "$res/pass" | wc -l) f=$(wc -l <"$res/fail") e=$(($(wc -l <"$res/lost") - $(wc -l <"$res/fail")))
    [ -s "$base" ] || { echo "# $suite: the baseline passes nothing: $out/$suite.plain"; f=1; }
    passed=$((passed + n)) failed=$((failed + f)) SKIPPED=$((SKIPPED + e))
    table+=$'\n'$(printf '%-10s %9d  %-13s %8d %7d %9d' "$suite" "$(wc -l <"$base")" "$mode" "$n" "$f" "$e")
    sed "s/^/not ok - $suite, $mode: /" "$res/fail"
  done
  echo "$suite: $passed passed, $failed failed"
  PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))
done
echo "$table"
echo "# logs: $out"
finish
