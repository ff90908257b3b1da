#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [--mode MODE]... [PROGRAM...]: real programs, each as they are, in each mode.
#
#   plain         no library
#   unconfigured  the library preloaded, no MESH_ variable
#   mtls          both ends under MESH_CAPTURE and MESH_INBOUND=strict
#   mesh          clients dial a name of a view, whose first backend is dead; identities are replaced all the time
#
# A cell is a function app_PROGRAM below: it runs in a network namespace of its own whose wire is recorded. In the last two
# modes the content that moved must not be on the wire, in mode plain it must. A program that is not installed is skipped.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/env.sh"
SECRET=the-price-of-the-moon-is-42
src=$here/src

# ---- one cell: IN_CELL=MODE, RUN handed down; X is what each program of the cell is started with ----

files() {
  mkdir -p "$RUN/www"; cd "$RUN/www" || exit 1
  chmod 755 .
  echo "$SECRET" >hello
  for ((i = 0; i < 60000; i++)); do echo "$i $SECRET"; done >big
  chmod 644 hello big
}

nginx_conf() { # nginx_conf [DIRECTIVES]
  cat >"$RUN/nginx.conf" <<C
daemon off; worker_processes 2; pid $RUN/nginx.pid; error_log $RUN/nginx.err; $([ "$(id -u)" = 0 ] && echo 'user www-data;')
events { worker_connections 256; }
http {
  access_log off; sendfile on; tcp_nopush on; client_max_body_size 50m; default_type text/plain;
  client_body_temp_path $RUN/b; proxy_temp_path $RUN/p; fastcgi_temp_path $RUN/f; uwsgi_temp_path $RUN/u; scgi_temp_path $RUN/s;
  server { listen 127.0.0.1:8001; root $RUN/www; location /proxied/ { proxy_pass http://$HOST:8001/; }$* }
}
C
}
nginx_up() { nginx_conf "$@" && serve nginx 8001 "${X[@]}" "$(command -v nginx)" -c "$RUN/nginx.conf"; }

is_big() { cmp - big; }
# got CMD...: the client's output is the file.
got() { "${X[@]}" timeout 60 "$@" | is_big; }
# fetched PORT: curl gets the file, small and large, one after another and at once.
fetched() {
  "${X[@]}" curl -sSf "http://$HOST:$1/hello" | cmp - hello || return 1
  "${X[@]}" curl -sSf "http://$HOST:$1/big" | is_big || return 1
  "${X[@]}" curl -sSf -Z --no-progress-meter --parallel-max 8 "http://$HOST:$1/hello?[1-20]" -o "$RUN/o#1" || return 1
  for ((i = 1; i <= 20; i++)); do cmp "$RUN/o$i" hello || return 1; done
}

# add PROGRAM COMMAND PACKAGE...: a row of the table; its cell is app_PROGRAM, in one of the files of cells/. A cell that cannot
# be, by the nature of the program, is named with the reason: nature[PROGRAM.MODE]=REASON.
table=()
declare -A command=() packages=() nature=()
add() {
  local name=$1; table+=("$name"); command[$name]=$2; shift 2
  packages[$name]=$*
}
for file in "$here"/cells/*.sh; do . "$file"; done

# Mode mesh: NAME:PORT of every port that a cell uses, a dead backend in front, and an identity that changes all the time.
mesh_up() {
  local port
  { echo services:
    for port in $(seq 8001 8060) 9000; do
      echo "  app.shop.mesh:$port: {endpoints: ['127.0.0.99:$port', '127.0.0.1:$port'], policy: round_robin}"
    done; } >"$RUN/view.yaml"
  local name
  for name in web reviews ratings; do
    mkdir "$RUN/id.$name" && cp "$PKI/$name-chain.pem" "$RUN/id.$name/cert" && cp "$PKI/$name.key" "$RUN/id.$name/key" || return 1
  done
  chmod 755 "$RUN"/id.*; chmod 644 "$RUN"/id.*/* "$RUN/view.yaml"
  ln -s id.web "$RUN/id"
  while sleep 0.4; do
    for name in web reviews ratings; do ln -s "id.$name" "$RUN/id.new"; mv -T "$RUN/id.new" "$RUN/id"; sleep 0.4; done
  done </dev/null >/dev/null 2>&1 &
  SERVERS+=($!)
  X+=("LD_PRELOAD=$LIB" "MESH_VIEW=$RUN/view.yaml" MESH_INBOUND=strict "MESH_CERT=$RUN/id/cert" "MESH_KEY=$RUN/id/key"
    "MESH_CA=$PKI/ca.pem" "MESH_RUN_DIR=$RUN/mesh" "MESH_TRACE=info:$RUN/trace")
}

if [ -n "${IN_CELL:-}" ]; then
  rm -rf "$RUN"; RUN=$CELL_RUN; PKI=$CELL_PKI
  trap '[ ${#SERVERS[@]} = 0 ] || stop "${SERVERS[@]}"' EXIT
  X=(env) HOST=127.0.0.1
  case $IN_CELL in
  unconfigured) X+=("LD_PRELOAD=$LIB") ;;
  mtls) read -ra line <<<"$(capture web "$RUN/trace")"; X+=("${line[@]}") ;;
  mesh) HOST=app.shop.mesh; mesh_up || exit ;;
  esac
  URL=http://$HOST:8001/big
  files
  set -o pipefail
  [ -z "${DEBUG:-}" ] || set -x
  "app_$1"
  exit
fi

modes=() programs=()
while [ $# -gt 0 ]; do
  case $1 in
  --mode) modes+=("$2"); shift ;;
  -*) sed -n '3,11p' "$0" >&2; exit 2 ;;
  *) programs+=("${1#apps/}") ;;
  esac
  shift
done
[ -z "${T:-}" ] || programs+=("${T#apps/}")
[ ${#programs[@]} -gt 0 ] || programs=("${table[@]}")
if [ ${#modes[@]} = 0 ]; then
  modes=(plain)
  if [ -e "$LIB" ]; then modes+=(unconfigured mtls mesh); else echo "# no library at $LIB: mode plain alone"; fi
fi
missing=(iproute2 curl nginx)
for program in "${programs[@]}"; do
  # shellcheck disable=SC2206
  have "${command[$program]:-}" || missing+=(${packages[$program]:-})
done
packages_install "${missing[@]}" || echo "# what is missing is skipped"
pki
recording=
if [ "$(id -u)" = 0 ] && recorder; then recording=1; else echo "# the wire is not recorded: no right to"; fi

# cell PROGRAM MODE: prints ok, FAIL or - and leaves the log
cell() {
  local log=$RUN/$1.$2.log dir=$RUN/cell.$1.$2 rc=0 watch=() marks
  mkdir -p "$dir"; chmod 755 "$dir"
  case $2 in mtls | mesh) : >"$dir/trace"; chmod 666 "$dir/trace" ;; esac
  [ -z "$recording" ] || watch=("$RECORD" -r "$dir/wire" -m "$SECRET" --)
  "$TOP/tests/lib/netns.sh" "${watch[@]}" timeout -k 5 120 env IN_CELL="$2" CELL_RUN="$dir" CELL_PKI="$PKI" LIB="$LIB" BUILD="$BUILD" \
    bash "$here/run.sh" "$1" >"$log" 2>&1 </dev/null || rc=$?
  if [ -n "$recording" ] && [ $rc = 0 ]; then
    marks=$(recorded "$dir/wire" marker)
    if [ "$2" = mtls ] || [ "$2" = mesh ]; then
      [ "$marks" = 0 ] && [ "$(recorded "$dir/wire" hello)" -gt 0 ] || { rc=1; echo "# $marks times plaintext on the wire" >>"$log"; }
    elif [ "$marks" = 0 ]; then
      rc=1; echo "# the recording does not even show plaintext" >>"$log"
    fi
  fi
  [ $rc = 0 ] || { [ ! -s "$dir/trace" ] || grep -a ' refused ' "$dir/trace" | tail -3 >>"$log"; }
  [ -n "${KEEP:-}" ] || rm -rf "$dir"
  return $rc
}

reasons=
printf '%-14s' program; printf ' %-13s' "${modes[@]}"; printf '\n'
for program in "${programs[@]}"; do
  printf '%-14s' "$program"
  for mode in "${modes[@]}"; do
    if [ -n "${nature[$program.$mode]:-}" ]; then
      printf ' %-13s' 'by nature'; reasons+="# $program, $mode: ${nature[$program.$mode]}"$'\n'
    elif ! have "${command[$program]:-}"; then
      SKIPPED=$((SKIPPED + 1)); printf ' %-13s' -
    elif cell "$program" "$mode"; then
      PASSED=$((PASSED + 1)); printf ' %-13s' ok
    else
      FAILED=$((FAILED + 1)); printf ' %-13s' FAIL
      failures="${failures:-} $program.$mode"
    fi
  done
  printf '\n'
done
printf '%s' "$reasons"
for f in ${failures:-}; do
  echo "# $f:"; grep -v '^$' "$RUN/$f.log" | tail -6 | cut -c1-200 | sed 's/^/#   /'
done
finish
