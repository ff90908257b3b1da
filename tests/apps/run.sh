#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [--mode MODE]... [PROGRAM...]: real programs, each as they are, in each mode.
#
#   plain         no library
#   unconfigured  the library preloaded, no MESH_ variable
#   mtls          both ends under MESH_CAPTURE and MESH_INBOUND=strict
#
# A cell is a function app_PROGRAM below: it runs in a network namespace of its own whose wire is recorded. In mode mtls
# the content that moved must not be on the wire, in mode plain it must. A program that is not installed is skipped.
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

nginx_up() { # nginx_up [DIRECTIVES]
  cat >"$RUN/nginx.conf" <<C
daemon off; worker_processes 2; pid $RUN/nginx.pid; error_log $RUN/nginx.err; $([ "$(id -u)" = 0 ] && echo 'user www-data;')
events { worker_connections 256; }
http {
  access_log off; sendfile on; tcp_nopush on; client_max_body_size 50m; default_type text/plain;
  client_body_temp_path $RUN/b; proxy_temp_path $RUN/p; fastcgi_temp_path $RUN/f; uwsgi_temp_path $RUN/u; scgi_temp_path $RUN/s;
  server { listen 127.0.0.1:8001; root $RUN/www; location /proxied/ { proxy_pass http://127.0.0.1:8001/; } }
}
C
  serve nginx 8001 "${X[@]}" nginx -c "$RUN/nginx.conf"
}
URL=http://127.0.0.1:8001/big

is_big() { cmp - big; }
# got CMD...: the client's output is the file.
got() { "${X[@]}" timeout 60 "$@" | is_big; }
# fetched PORT: curl gets the file, small and large, one after another and at once.
fetched() {
  "${X[@]}" curl -sSf "http://127.0.0.1:$1/hello" | cmp - hello || return 1
  "${X[@]}" curl -sSf "http://127.0.0.1:$1/big" | is_big || return 1
  "${X[@]}" curl -sSf -Z --parallel-max 8 "http://127.0.0.1:$1/hello?[1-20]" -o "$RUN/o#1" || return 1
  for ((i = 1; i <= 20; i++)); do cmp "$RUN/o$i" hello || return 1; done
}

app_curl() { nginx_up && got curl -sSf $URL; }
app_wget() { nginx_up && got wget -qO- $URL; }
app_python() { nginx_up && got python3 "$src/get.py" $URL; }
app_asyncio() { nginx_up && got python3 "$src/get_asyncio.py" $URL; }
app_node() { nginx_up && got node "$src/get.js" $URL; }
app_ruby() { nginx_up && got ruby "$src/get.rb" $URL; }
app_perl() { nginx_up && got perl "$src/get.pl" $URL; }
app_java() { nginx_up && got java "$src/Get.java" $URL; }
app_bash() {
  # shellcheck disable=SC2016
  nginx_up && got bash -c 'exec 3<>/dev/tcp/127.0.0.1/8001; printf "GET /big HTTP/1.0\r\n\r\n" >&3; sed "1,/^\r*$/d" <&3'
}
app_gawk() {
  # shellcheck disable=SC2016
  nginx_up && got gawk 'BEGIN { s = "/inet/tcp/0/127.0.0.1/8001"; printf "GET /big HTTP/1.0\r\n\r\n" |& s
    while ((s |& getline line) > 0) { if (body) print line; if (line == "\r") body = 1 } }'
}
app_nc() {
  nginx_up && printf 'GET /big HTTP/1.0\r\n\r\n' | "${X[@]}" timeout 60 nc 127.0.0.1 8001 | sed '1,/^\r*$/d' | is_big
}
app_nc_listen() {
  serve nc 8002 "${X[@]}" nc -l -N 127.0.0.1 8002 || return 1
  "${X[@]}" timeout 60 nc -N 127.0.0.1 8002 <big || return 1
  wait "$SERVER"; cmp "$RUN/nc.log" big
}
app_socat() { nginx_up && printf 'GET /big HTTP/1.0\r\n\r\n' | "${X[@]}" timeout 60 socat -t 5 - TCP:127.0.0.1:8001 | sed '1,/^\r*$/d' | is_big; }
app_socat_exec() { # inetd's way: a program with the connection on its standard descriptors
  serve socat 8003 "${X[@]}" socat TCP-LISTEN:8003,bind=127.0.0.1,fork,reuseaddr EXEC:cat,nofork || return 1
  for ((i = 0; i < 3; i++)); do "${X[@]}" timeout 60 socat -t 5 - TCP:127.0.0.1:8003 <big | is_big || return 1; done
}
app_socat_relay() {
  nginx_up && serve relay 8004 "${X[@]}" socat TCP-LISTEN:8004,bind=127.0.0.1,fork,reuseaddr TCP:127.0.0.1:8001 &&
    "${X[@]}" curl -sSf http://127.0.0.1:8004/big | is_big
}
app_nginx() { nginx_up && fetched 8001; }
app_nginx_proxy() { nginx_up && "${X[@]}" curl -sSf http://127.0.0.1:8001/proxied/big | is_big; }
app_nginx_reload() {
  nginx_up && fetched 8001 && kill -HUP "$SERVER" && sleep 1 && fetched 8001
}
# Workers that may not read the key: what root's master reads in their place reaches them without a reload.
app_nginx_rotation() {
  local id=$RUN/id name seen i
  become() { # become NAME: the identity's files are replaced, as a rotation replaces them
    install -m 400 "$PKI/$1-chain.pem" "$id/cert.new" && install -m 400 "$PKI/$1.key" "$id/key.new" &&
      mv "$id/cert.new" "$id/cert" && mv "$id/key.new" "$id/key"
  }
  served_by() { # served_by NAME: within ten seconds the workers are NAME, each of several in a row
    for ((i = 0, seen = 0; i < 100 && seen < 6; i++)); do
      : >"$RUN/client.trace"
      "${X[@]}" MESH_TRACE="info:$RUN/client.trace" curl -sSf http://127.0.0.1:8001/hello | cmp - hello || return 1
      if grep -q "peer=spiffe://shop/ns/prod/sa/$1 " "$RUN/client.trace"; then seen=$((seen + 1)); else seen=0; sleep 0.1; fi
    done
    [ "$seen" = 6 ] || { echo "not served by $1:"; cat "$RUN/client.trace" "$RUN/trace"; return 1; }
  }
  mkdir -m 700 "$id" && become reviews || return 1
  [ "$IN_CELL" != mtls ] || X+=("MESH_CERT=$id/cert" "MESH_KEY=$id/key")
  nginx_up && fetched 8001 || return 1
  if [ "$IN_CELL" != mtls ] || [ "$(id -u)" != 0 ]; then return 0; fi
  for name in reviews ratings details; do become $name && served_by $name || return 1; done
}
app_python_serve() { serve py 8005 "${X[@]}" python3 "$src/serve.py" 8005 && fetched 8005; }
app_node_serve() { serve node 8006 "${X[@]}" node "$src/serve.js" 8006 && got curl -sSf http://127.0.0.1:8006/big && got curl -sSf http://127.0.0.1:8006/big; }
app_node_cluster() { CLUSTER=1 serve node 8006 "${X[@]}" node "$src/serve.js" 8006 && for i in 1 2 3 4; do got curl -sSf http://127.0.0.1:8006/big || return 1; done; }
app_ruby_serve() { serve ruby 8007 "${X[@]}" ruby "$src/serve.rb" 8007 && got curl -sSf http://127.0.0.1:8007/big; }
app_java_serve() { serve java 8008 "${X[@]}" java "$src/Serve.java" 8008 && fetched 8008; }
app_redis() {
  serve redis 6399 "${X[@]}" redis-server --port 6399 --bind 127.0.0.1 --save '' --dir "$RUN" || return 1
  "${X[@]}" redis-cli -p 6399 -x set file <big | grep -qx OK || return 1
  "${X[@]}" redis-cli -p 6399 get file | sed '$d' | cmp - <(cat big) || return 1
  # shellcheck disable=SC2016
  "${X[@]}" redis-benchmark -p 6399 -n 5000 -c 20 -P 4 -q --csv -t set,get | grep -c '^"[SG]ET' | grep -qx 2
}

# program, the function's name, and the commands that it takes
table='curl:curl wget:wget python:python3 asyncio:python3 node:node ruby:ruby perl:perl java:java bash:bash gawk:gawk nc:nc
nc_listen:nc socat:socat socat_exec:socat socat_relay:socat nginx:nginx nginx_proxy:nginx nginx_reload:nginx nginx_rotation:nginx python_serve:python3
node_serve:node node_cluster:node ruby_serve:ruby java_serve:java redis:redis-server'

if [ -n "${IN_CELL:-}" ]; then
  rm -rf "$RUN"; RUN=$CELL_RUN; PKI=$CELL_PKI
  trap '[ ${#SERVERS[@]} = 0 ] || stop "${SERVERS[@]}"' EXIT
  X=(env)
  case $IN_CELL in
  unconfigured) X+=("LD_PRELOAD=$LIB") ;;
  mtls) read -ra line <<<"$(capture web "$RUN/trace")"; X+=("${line[@]}") ;;
  esac
  files
  set -o pipefail
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
[ ${#programs[@]} -gt 0 ] || for entry in $table; do programs+=("${entry%%:*}"); done
if [ ${#modes[@]} = 0 ]; then
  modes=(plain)
  if [ -e "$LIB" ]; then modes+=(unconfigured mtls); else echo "# no library at $LIB: mode plain alone"; fi
fi
packages=()
for pair in curl:curl wget:wget nginx:nginx socat:socat nc:netcat-openbsd gawk:gawk ip:iproute2 redis-server:redis; do
  have "${pair%%:*}" || packages+=("${pair#*:}")
done
[ ${#packages[@]} = 0 ] || sh "$TOP/tests/setup.sh" "${packages[@]}" || echo "# what is missing is skipped"
pki
recording=
if [ "$(id -u)" = 0 ] && recorder; then recording=1; else echo "# the wire is not recorded: no right to"; fi

# cell PROGRAM MODE: prints ok, FAIL or - and leaves the log
cell() {
  local log=$RUN/$1.$2.log dir=$RUN/cell.$1.$2 rc=0 watch=() marks
  mkdir -p "$dir"; chmod 755 "$dir"
  [ "$2" != mtls ] || { : >"$dir/trace"; chmod 666 "$dir/trace"; }
  [ -z "$recording" ] || watch=("$RECORD" -r "$dir/wire" -m "$SECRET" --)
  "$TOP/tests/lib/netns.sh" "${watch[@]}" timeout -k 5 120 env IN_CELL="$2" CELL_RUN="$dir" CELL_PKI="$PKI" LIB="$LIB" BUILD="$BUILD" \
    bash "$here/run.sh" "$1" >"$log" 2>&1 </dev/null || rc=$?
  if [ -n "$recording" ] && [ $rc = 0 ]; then
    marks=$(recorded "$dir/wire" marker)
    if [ "$2" = mtls ]; then
      [ "$marks" = 0 ] && [ "$(recorded "$dir/wire" hello)" -gt 0 ] || { rc=1; echo "# $marks times plaintext on the wire" >>"$log"; }
    elif [ "$marks" = 0 ]; then
      rc=1; echo "# the recording does not even show plaintext" >>"$log"
    fi
  fi
  [ $rc = 0 ] || { [ ! -s "$dir/trace" ] || grep -a ' refused ' "$dir/trace" | tail -3 >>"$log"; }
  rm -rf "$dir"
  return $rc
}

printf '%-14s' program; printf ' %-13s' "${modes[@]}"; printf '\n'
for program in "${programs[@]}"; do
  need=$(tr ' ' '\n' <<<"$table" | sed -n "s/^$program://p")
  printf '%-14s' "$program"
  for mode in "${modes[@]}"; do
    if [ -z "$need" ] || ! have "$need"; then
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
for f in ${failures:-}; do
  echo "# $f:"; grep -v '^$' "$RUN/$f.log" | tail -6 | cut -c1-200 | sed 's/^/#   /'
done
finish
