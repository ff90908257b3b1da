# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The common languages and tools, as clients of nginx and as servers of curl.
for name in curl wget ruby perl bash gawk nginx; do add $name $name $name; done
add python python3 python3; add asyncio python3 python3; add python_serve python3 python3
add node node nodejs; add node_serve node nodejs; add node_cluster node nodejs
add java java default-jdk-headless; add java_serve java default-jdk-headless; add ruby_serve ruby ruby
add nc nc netcat-openbsd; add nc_listen nc netcat-openbsd
for name in socat socat_exec socat_relay; do add $name socat socat; done
for name in nginx_proxy nginx_reload nginx_rotation; do add $name nginx nginx; done
add redis redis-server redis

app_curl() { nginx_up && got curl -sSf "$URL"; }
app_wget() { nginx_up && got wget -qO- "$URL"; }
app_python() { nginx_up && got python3 "$src/get.py" "$URL"; }
app_asyncio() { nginx_up && got python3 "$src/get_asyncio.py" "$URL"; }
app_node() { nginx_up && got node "$src/get.js" "$URL"; }
app_ruby() { nginx_up && got ruby "$src/get.rb" "$URL"; }
app_perl() { nginx_up && got perl "$src/get.pl" "$URL"; }
app_java() { nginx_up && got java "$src/Get.java" "$URL"; }
app_bash() {
  # shellcheck disable=SC2016
  nginx_up && got bash -c 'exec 3<>/dev/tcp/$0/8001; printf "GET /big HTTP/1.0\r\n\r\n" >&3; sed "1,/^\r*$/d" <&3' "$HOST"
}
app_gawk() {
  # shellcheck disable=SC2016
  nginx_up && got gawk -v host="$HOST" 'BEGIN { s = "/inet/tcp/0/" host "/8001"; printf "GET /big HTTP/1.0\r\n\r\n" |& s
    while ((s |& getline line) > 0) { if (body) print line; if (line == "\r") body = 1 } }'
}
app_nc() {
  nginx_up && printf 'GET /big HTTP/1.0\r\n\r\n' | "${X[@]}" timeout 60 nc "$HOST" 8001 | sed '1,/^\r*$/d' | is_big
}
app_nc_listen() {
  serve nc 8002 "${X[@]}" nc -l -N 127.0.0.1 8002 || return 1
  "${X[@]}" timeout 60 nc -N "$HOST" 8002 <big || return 1
  wait "$SERVER"; cmp "$RUN/nc.log" big
}
app_socat() { nginx_up && printf 'GET /big HTTP/1.0\r\n\r\n' | "${X[@]}" timeout 60 socat -t 5 - TCP:$HOST:8001 | sed '1,/^\r*$/d' | is_big; }
app_socat_exec() { # inetd's way: a program with the connection on its standard descriptors
  serve socat 8003 "${X[@]}" socat TCP-LISTEN:8003,bind=127.0.0.1,fork,reuseaddr EXEC:cat,nofork || return 1
  for ((i = 0; i < 3; i++)); do "${X[@]}" timeout 60 socat -t 5 - "TCP:$HOST:8003" <big | is_big || return 1; done
}
app_socat_relay() {
  nginx_up && serve relay 8004 "${X[@]}" socat TCP-LISTEN:8004,bind=127.0.0.1,fork,reuseaddr "TCP:$HOST:8001" &&
    "${X[@]}" curl -sSf "http://$HOST:8004/big" | is_big
}
app_nginx() { nginx_up && fetched 8001; }
app_nginx_proxy() { nginx_up && "${X[@]}" curl -sSf "http://$HOST:8001/proxied/big" | is_big; }
app_nginx_reload() {
  nginx_up && fetched 8001 && kill -HUP "$SERVER" && sleep 1 && fetched 8001
}
# Workers that may not read the key: what root's master reads in their place reaches them without a reload.
app_nginx_rotation() {
  local id=$RUN/rotating name seen i
  become() { # become NAME: the identity's files are replaced, as a rotation replaces them
    install -m 400 "$PKI/$1-chain.pem" "$id/cert.new" && install -m 400 "$PKI/$1.key" "$id/key.new" &&
      mv "$id/cert.new" "$id/cert" && mv "$id/key.new" "$id/key"
  }
  served_by() { # served_by NAME: within ten seconds the workers are NAME, each of several in a row
    for ((i = 0, seen = 0; i < 100 && seen < 6; i++)); do
      : >"$RUN/client.trace"
      "${X[@]}" MESH_TRACE="info:$RUN/client.trace" curl -sSf "http://$HOST:8001/hello" | cmp - hello || return 1
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
app_node_serve() { serve node 8006 "${X[@]}" node "$src/serve.js" 8006 && got curl -sSf "http://$HOST:8006/big" && got curl -sSf "http://$HOST:8006/big"; }
app_node_cluster() { CLUSTER=1 serve node 8006 "${X[@]}" node "$src/serve.js" 8006 && for i in 1 2 3 4; do got curl -sSf "http://$HOST:8006/big" || return 1; done; }
app_ruby_serve() { serve ruby 8007 "${X[@]}" ruby "$src/serve.rb" 8007 && got curl -sSf "http://$HOST:8007/big"; }
app_java_serve() { serve java 8008 "${X[@]}" java "$src/Serve.java" 8008 && fetched 8008; }
app_redis() {
  serve redis 8039 "${X[@]}" redis-server --port 8039 --bind 127.0.0.1 --save '' --dir "$RUN" || return 1
  "${X[@]}" redis-cli -h "$HOST" -p 8039 -x set file <big | grep -qx OK || return 1
  "${X[@]}" redis-cli -h "$HOST" -p 8039 get file | sed '$d' | cmp - <(cat big) || return 1
  # shellcheck disable=SC2016
  "${X[@]}" redis-benchmark -h "$HOST" -p 8039 -n 5000 -c 20 -P 4 -q --csv -t set,get | grep -c '^"[SG]ET' | grep -qx 2
}

