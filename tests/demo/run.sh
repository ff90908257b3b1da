#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh: the main job, shown on real programs. Backends are nginx, clients are whatever people write in; none of them
# knows of the mesh. Ends with status 1 when a step is not as told.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/env.sh"
if [ "${IN_NETNS:-}" != 1 ]; then
  packages=()
  for pair in nginx:nginx curl:curl wget:wget python3:python3 node:nodejs ruby:ruby perl:perl java:default-jdk-headless \
    javac:default-jdk-headless openssl:openssl ip:iproute2 cc:gcc unshare:util-linux; do
    have "${pair%%:*}" || packages+=("${pair#*:}")
  done
  [ ${#packages[@]} = 0 ] || sh "$TOP/tests/setup.sh" "${packages[@]}" || exit 1
  [ -e "$LIB" ] || { echo "$LIB is missing: make it first" >&2; exit 1; }
  "$TOP/tests/lib/netns.sh" env LIB="$LIB" BUILD="$BUILD" KEEP="${KEEP:-}" bash "$here/run.sh"
  exit
fi

if [ -t 1 ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' blue=$'\e[36m' plain=$'\e[0m'
else
  bold='' dim='' green='' red='' blue='' plain=''
fi
SECRET=the-price-of-the-moon-is-42

chapter() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }
shown() { printf '  %s$ %s%s\n' "$blue" "$*" "$plain"; }
told() { PASSED=$((PASSED + 1)); printf '  %s✓%s %s\n' "$green" "$plain" "$*"; }
not_told() {
  FAILED=$((FAILED + 1)); printf '  %s✗ %s%s\n' "$red" "$*" "$plain"
  [ -s "$RUN/said" ] && tail -4 "$RUN/said" | sed "s/^/      /"
  return 0
}
field() { sed -nE "s/.* $2=\"?([^ \"]*).*/\\1/p" <<<"$1" | tail -1; }
last() { grep -hs " $2 " "$1" | tail -1; }
short() { sed 's|spiffe://||' <<<"$1"; }

# backend NAME ADDRESS IDENTITY: an nginx that answers who it is.
backend() {
  cat >"$RUN/$1.conf" <<C
daemon off; worker_processes 1; pid $RUN/$1.pid; error_log $RUN/$1.err; $([ "$(id -u)" = 0 ] && echo 'user www-data;')
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path $RUN/$1.b; proxy_temp_path $RUN/$1.p; fastcgi_temp_path $RUN/$1.f;
  uwsgi_temp_path $RUN/$1.u; scgi_temp_path $RUN/$1.s; default_type text/plain;
  server { listen $2:8080; location / { return 200 "backend $1: $SECRET\n"; } }
  server { listen $2:8081; location / { return 200 "backend $1: $SECRET\n"; } }
}
C
  # shellcheck disable=SC2046
  serve "$1" "$2:8080" env LD_PRELOAD="$LIB" $(identity "$3") MESH_INBOUND=8080=strict MESH_RUN_DIR="$RUN/run-$1" \
    MESH_TRACE="info:$RUN/$1.trace" nginx -c "$RUN/$1.conf"
}

# in_mesh IDENTITY TRACE CMD...: a program as a container would start it.
in_mesh() {
  local id=$1 trace=$2; shift 2
  # shellcheck disable=SC2046
  timeout 60 env LD_PRELOAD="$LIB" MESH_VIEW="$RUN/view.yaml" $(identity "$id") MESH_RUN_DIR="$RUN/run-$id" \
    MESH_TRACE="info:$trace" "$@" 2>"$RUN/errors"
}

URL=http://reviews.shop.mesh:9080/

# request LANGUAGE CMD...: a client's request, and what both ends say of it.
request() {
  local lang=$1 c s who; shift
  : >"$RUN/client.trace"
  in_mesh web "$RUN/client.trace" "$@" >"$RUN/said"
  who=$(sed -nE "s/^backend ([a-z]+): $SECRET.*/\\1/p" "$RUN/said" | head -1)
  cat "$RUN/errors" >>"$RUN/said"
  c=$(last "$RUN/client.trace" connected) s=$(last "$RUN/${who:-none}.trace" accepted)
  if [ -n "$who" ] && [ -n "$(field "$c" cipher)" ] && [ "$(field "$c" peer)" = spiffe://shop/ns/prod/sa/reviews ] &&
    [ "$(field "$s" peer)" = spiffe://shop/ns/prod/sa/web ]; then
    told "$(printf '%-8s -> %sbackend %-4s%s %s -> %s  TLS %s %s' "$lang" "$bold" "$who" "$plain" "$(short "$(field "$s" peer)")" \
      "$(short "$(field "$c" peer)")" "$(field "$c" tls)" "$(field "$c" cipher)")"
  else
    not_told "$lang: backend '${who:-none}', client's line: ${c:-none}, server's line: ${s:-none}"
  fi
}

# refused WHAT TRACE CMD...: must fail, learn nothing, and leave a line with the reason in TRACE.
refused() {
  local what=$1 trace=$2 rc=0 why before; shift 2
  before=$(grep -acs ' refused ' "$trace")
  timeout 60 "$@" >"$RUN/said" 2>&1 || rc=$?
  why=$(grep -as ' refused ' "$trace" | tail -n "+$((${before:-0} + 1))" | sed -nE 's/.* why=("([^"]*)"|([^ ]*)).*/\2\3/p' | tail -1)
  if [ $rc != 0 ] && ! grep -q "$SECRET" "$RUN/said" && [ -n "$why" ]; then
    told "$what $dim(exit $rc; $why)$plain"
  else
    not_told "$what: exit $rc, reason in the trace: ${why:-none}"
  fi
}

pki
mkdir -p "$RUN/src"
# Workers of nginx write here as another user.
for t in one two three client foreign imposed; do : >"$RUN/$t.trace"; chmod 666 "$RUN/$t.trace"; done
cat >"$RUN/view.yaml" <<'V'
services:
  reviews.shop.mesh:9080:
    endpoints: [127.0.0.11:8080, 127.0.0.12:8080]
    peers: [spiffe://shop/ns/prod/sa/reviews]
  ratings.shop.mesh:9080:
    endpoints: [127.0.0.13:8080]
    peers: [spiffe://shop/ns/prod/sa/ratings]
V
cat >"$RUN/src/get.py" <<'P'
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1]).read().decode(), end="")
P
cat >"$RUN/src/get.js" <<'J'
require("http").get(process.argv[2], r => { let s = ""; r.on("data", d => s += d); r.on("end", () => { process.stdout.write(s); process.exit(0); }); })
  .on("error", e => { console.error(e.message); process.exit(1); });
J
cat >"$RUN/src/Get.java" <<'J'
import java.net.URI;
import java.net.http.*;
public class Get {
  public static void main(String[] a) throws Exception {
    HttpRequest q = HttpRequest.newBuilder(URI.create(a[0])).version(HttpClient.Version.HTTP_1_1).build();
    System.out.print(HttpClient.newHttpClient().send(q, HttpResponse.BodyHandlers.ofString()).body());
  }
}
J
cat >"$RUN/src/get.rb" <<'R'
require "net/http"
print Net::HTTP.get(URI(ARGV[0]))
R
cat >"$RUN/src/get.pl" <<'P'
use HTTP::Tiny;
my $r = HTTP::Tiny->new->get($ARGV[0]);
die "$r->{status} $r->{content}" unless $r->{success};
print $r->{content};
P

recording=
if recorder; then
  "$RECORD" -r "$RUN/wire" -m "$SECRET" -m "GET / HTTP" >"$RUN/record.log" 2>&1 &
  recording=$!
fi

chapter "1. A mesh of unmodified programs"
say "Two nginx servers; all they got is LD_PRELOAD, a certificate and MESH_INBOUND=8080=strict."
backend one 127.0.0.11 reviews || not_told "backend one does not start"
backend two 127.0.0.12 reviews || not_told "backend two does not start"
two=$SERVER
say "And one file that says who is where:"
sed "s/^/      $dim/; s/\$/$plain/" "$RUN/view.yaml"

chapter "2. Clients in many languages ask for $URL"
shown "LD_PRELOAD=libmeshshim.so MESH_VIEW=view.yaml MESH_CERT=web.pem ... curl $URL"
request curl curl -sS "$URL"
request wget wget -qO- "$URL"
request python python3 "$RUN/src/get.py" "$URL"
request node node "$RUN/src/get.js" "$URL"
request java java "$RUN/src/Get.java" "$URL"
request ruby ruby "$RUN/src/get.rb" "$URL"
request perl perl "$RUN/src/get.pl" "$URL"

chapter "3. Requests are balanced"
: >"$RUN/said"
for ((i = 0; i < 12; i++)); do in_mesh web "$RUN/client.trace" curl -sS "$URL" >>"$RUN/said"; done
ones=$(grep -c 'backend one' "$RUN/said") twos=$(grep -c 'backend two' "$RUN/said")
if [ $((ones + twos)) = 12 ] && [ "$ones" -gt 0 ] && [ "$twos" -gt 0 ]; then
  told "of twelve, backend one answered $ones and backend two $twos"
else
  not_told "of twelve, backend one answered $ones and backend two $twos"
fi

chapter "4. Who is not who they must be gets nothing"
refused "a client in plaintext is refused" "$RUN/one.trace" curl -sS --max-time 20 http://127.0.0.11:8080/in-plaintext
# The foreign client trusts our root, so that it is the server that has to say no.
# shellcheck disable=SC2046
refused "a client of another trust domain is refused" "$RUN/foreign.trace" env LD_PRELOAD="$LIB" MESH_VIEW="$RUN/view.yaml" \
  $(identity foreign) MESH_RUN_DIR="$RUN/run-foreign" MESH_TRACE="info:$RUN/foreign.trace" curl -sS --max-time 20 "$URL"
backend three 127.0.0.13 stranger || not_told "backend three does not start"
# shellcheck disable=SC2046
refused "a server that is not the service asked for is refused" "$RUN/imposed.trace" env LD_PRELOAD="$LIB" MESH_VIEW="$RUN/view.yaml" \
  $(identity web) MESH_RUN_DIR="$RUN/run-web" MESH_TRACE="info:$RUN/imposed.trace" curl -sS --max-time 20 http://ratings.shop.mesh:9080/

chapter "5. A dead backend is skipped"
shown "kill -9 (backend two)"
# shellcheck disable=SC2046
kill -9 "$two" $(cat "/proc/$two/task/$two/children"); wait "$two" 2>/dev/null
: >"$RUN/said" >"$RUN/client.trace"
for ((i = 0; i < 8; i++)); do in_mesh web "$RUN/client.trace" curl -sS --max-time 20 "$URL" >>"$RUN/said"; done
ones=$(grep -c 'backend one' "$RUN/said")
if [ "$ones" = 8 ]; then
  told "eight of eight requests were answered, all by backend one"
else
  cat "$RUN/errors" >>"$RUN/said"
  not_told "$ones of eight requests were answered by backend one"
fi

chapter "6. What the wire has seen of it"
: >"$RUN/said"
if [ -n "$recording" ]; then
  kill "$recording"; wait "$recording"
  "$RECORD" -r "$RUN/control" -m "$SECRET" -m "GET / HTTP" -- curl -sS -o /dev/null http://127.0.0.11:8081/
  marks=$(recorded "$RUN/wire" marker) control=$(recorded "$RUN/control" marker) data=$(recorded "$RUN/wire" data)
  lost=$(recorded "$RUN/wire" dropped)
  if [ "$marks" = 0 ] && [ "$data" -gt 0 ] && [ "$lost" = 0 ]; then
    told "$(recorded "$RUN/wire" packets) packets, $(recorded "$RUN/wire" bytes) bytes, $data segments of TLS data: not one request or answer readable"
  else
    not_told "$marks requests or answers were readable, $data segments of TLS data, $lost packets missed"
  fi
  if [ "$control" = 2 ]; then
    told "the same without the mesh, for comparison: request and answer are there to read"
  else
    not_told "the recorder finds $control of 2 markers in plaintext: it proves nothing"
  fi
else
  say "not recorded: that takes root"
fi

printf '\n'
finish
