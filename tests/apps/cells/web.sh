# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Web servers, proxies and what speaks HTTP/2.
add httpd apache2 apache2; add httpd_prefork apache2 apache2; add httpd_graceful apache2 apache2
add nginx_upgrade nginx nginx; add upload python3 python3
add haproxy haproxy haproxy; add haproxy_reload haproxy haproxy
add varnish varnishd varnish gcc libc6-dev; add h2 nghttpd nghttp2-server nghttp2-client; add h2_proxy nghttpx nghttp2-proxy
add wrk wrk wrk; add ab ab apache2-utils; add iperf iperf3 iperf3; add ncat ncat ncat
nature[ncat.mesh]='it looks names up for datagrams, which go to libc'
 add stunnel stunnel4 stunnel4 openssl

httpd_up() { # httpd_up MPM
  local m=/usr/lib/apache2/modules
  cat >"$RUN/httpd.conf" <<C
ServerRoot $RUN
ServerName app
PidFile $RUN/httpd.pid
ErrorLog $RUN/httpd.err
Listen 127.0.0.1:8010
LoadModule mpm_$1_module $m/mod_mpm_$1.so
LoadModule authz_core_module $m/mod_authz_core.so
LoadModule proxy_module $m/mod_proxy.so
LoadModule proxy_http_module $m/mod_proxy_http.so
$([ "$(id -u)" != 0 ] || printf 'User www-data\nGroup www-data')
DocumentRoot $RUN/www
DefaultRuntimeDir $RUN
Mutex file:$RUN
<Directory />
Require all granted
</Directory>
ProxyPass /proxied/ http://$HOST:8010/
C
  serve httpd 8010 "${X[@]}" setsid apache2 -DFOREGROUND -f "$RUN/httpd.conf"
}
app_httpd() { httpd_up event && fetched 8010 && "${X[@]}" curl -sSf "http://$HOST:8010/proxied/big" | is_big; }
app_httpd_prefork() { httpd_up prefork && fetched 8010; }
app_httpd_graceful() { httpd_up event && fetched 8010 && kill -USR1 "$SERVER" && sleep 1 && fetched 8010; }

# The new binary takes the listening sockets over, the old one ends; requests go on all the time.
app_nginx_upgrade() {
  local old i
  nginx_conf && sed -i 's/daemon off;/daemon on;/' "$RUN/nginx.conf" && "${X[@]}" "$(command -v nginx)" -c "$RUN/nginx.conf" || return 1
  for ((i = 0; i < 100; i++)); do [ -s "$RUN/nginx.pid" ] && listening 8001 && break; sleep 0.1; done
  old=$(cat "$RUN/nginx.pid"); SERVERS+=("$old")
  fetched 8001 || return 1
  kill -USR2 "$old"
  for ((i = 0; i < 100; i++)); do [ -s "$RUN/nginx.pid.oldbin" ] && [ -s "$RUN/nginx.pid" ] && break; sleep 0.1; done
  fetched 8001 || return 1
  SERVERS+=("$(cat "$RUN/nginx.pid")")
  kill -WINCH "$old"; sleep 0.5
  fetched 8001 || return 1
  kill -QUIT "$old"
  for ((i = 0; i < 100; i++)); do kill -0 "$old" 2>/dev/null || break; sleep 0.1; done
  fetched 8001
}
app_upload() {
  serve sink 8002 "${X[@]}" python3 "$src/sink.py" 8002 || return 1
  for ((i = 0; i < 3; i++)); do [ "$("${X[@]}" curl -sSf -T big "http://$HOST:8002/up")" = "$(sha256sum <big | cut -d' ' -f1)" ] || return 1; done
}

haproxy_up() {
  cat >"$RUN/haproxy.cfg" <<C
global
  stats socket $RUN/haproxy.sock mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend in
  bind 127.0.0.1:8011
  default_backend out
backend out
  server one $HOST:8001
frontend tcp
  mode tcp
  bind 127.0.0.1:8012
  default_backend tcpout
backend tcpout
  mode tcp
  server one $HOST:8001
C
  serve haproxy 8011 "${X[@]}" haproxy -W -db -f "$RUN/haproxy.cfg" -p "$RUN/haproxy.pid"
}
app_haproxy() { nginx_up && haproxy_up && fetched 8011 && fetched 8012; }
app_haproxy_reload() {
  nginx_up && haproxy_up && fetched 8011 || return 1
  kill -USR2 "$SERVER"; sleep 1
  fetched 8011 && kill -USR2 "$SERVER" && sleep 1 && fetched 8012
}
app_varnish() {
  nginx_up || return 1
  mkdir -m 755 "$RUN/varnish"
  serve varnish 8013 "${X[@]}" varnishd -j none -F -n "$RUN/varnish" -a 127.0.0.1:8013 -b "$HOST:8001" -s malloc,64m -T none -p feature=+http2 || return 1
  fetched 8013
}
app_h2() {
  serve nghttpd 8014 "${X[@]}" nghttpd --no-tls -a 127.0.0.1 -d "$RUN/www" 8014 || return 1
  got curl -sSf --http2-prior-knowledge "http://$HOST:8014/big" || return 1
  got nghttp "http://$HOST:8014/big" || return 1
  "${X[@]}" h2load -n 500 -c 10 -m 8 "http://$HOST:8014/hello" | grep -q ' 500 succeeded, 0 failed'
}
app_h2_proxy() {
  nginx_up && serve nghttpx 8015 "${X[@]}" nghttpx -f '127.0.0.1,8015;no-tls' -b "$HOST,8001" --conf=/dev/null --workers=2 || return 1
  got curl -sSf --http2-prior-knowledge "http://$HOST:8015/big" && fetched 8015
}
app_wrk() { nginx_up && "${X[@]}" wrk -t2 -c20 -d2s "http://$HOST:8001/hello" >"$RUN/wrk.out" && ! grep -E 'Socket errors|Non-2xx' "$RUN/wrk.out" && "${X[@]}" curl -sSf "$URL" | is_big; }
app_ab() {
  nginx_up && "${X[@]}" ab -q -n 2000 -c 20 "http://$HOST:8001/hello" >"$RUN/ab.out" || return 1
  "${X[@]}" ab -q -k -n 2000 -c 20 "http://$HOST:8001/hello" >>"$RUN/ab.out" || return 1
  [ "$(grep -c '^Failed requests: *0$' "$RUN/ab.out")" = 2 ] && [ "$(grep -c '^Complete requests: *2000$' "$RUN/ab.out")" = 2 ]
}
# iperf3 moves bytes of its own making: what it moved is judged by its own report.
app_iperf() {
  serve iperf 8016 "${X[@]}" iperf3 -s -B 127.0.0.1 -p 8016 || return 1
  "${X[@]}" iperf3 -c "$HOST" -p 8016 -n 64M -P 2 >"$RUN/iperf.out" || { cat "$RUN/iperf.out"; return 1; }
  "${X[@]}" iperf3 -c "$HOST" -p 8016 -n 64M -R >>"$RUN/iperf.out" || { cat "$RUN/iperf.out"; return 1; }
  nginx_up && got curl -sSf "$URL"
}
app_ncat() {
  serve ncat 8017 "${X[@]}" ncat -l -k 127.0.0.1 8017 --sh-exec cat || return 1
  for ((i = 0; i < 3; i++)); do { cat hello; sleep 1; } | "${X[@]}" timeout 60 ncat "$HOST" 8017 | cmp - hello || return 1; done
}
# A program with TLS of its own inside the mesh's.
app_stunnel() {
  cat "$PKI/web-chain.pem" "$PKI/web.key" >"$RUN/stunnel.pem"; chmod 600 "$RUN/stunnel.pem"
  printf 'foreground=yes\npid=\nsyslog=no\n[in]\naccept=127.0.0.1:8018\nconnect=%s:8001\ncert=%s\n' "$HOST" "$RUN/stunnel.pem" >"$RUN/stunnel.conf"
  nginx_up && serve stunnel 8018 "${X[@]}" stunnel4 "$RUN/stunnel.conf" || return 1
  got curl -sSfk "https://$HOST:8018/big" && got curl -sSf "$URL"
}
