# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Languages and their servers beyond the basic ones.
add php php php-cli; add php_curl php php-cli php-curl; add php_serve php php-cli; add php_fpm php-fpm8.2 php-fpm; command[php_fpm]=$(ls /usr/sbin/php-fpm* 2>/dev/null | head -1)
add requests /usr/bin/python3 python3-requests; add aiohttp /usr/bin/python3 python3-aiohttp; add gunicorn gunicorn gunicorn; add uvicorn /usr/bin/python3 python3-uvicorn
add multiprocessing python3 python3; add pass_fd python3 python3; add grpc /usr/bin/python3 python3-grpcio
add node_undici node nodejs; add node_net node nodejs; add node_send node nodejs; add puma puma puma
add java_http java default-jdk-headless; add java_nio java default-jdk-headless; add jetty java default-jdk-headless libjetty9-java libservlet-api-java; add netty java default-jdk-headless libnetty-java
add erlang erl erlang-base erlang-inets; add elixir elixir elixir erlang-inets; add mono mcs mono-mcs mono-runtime
add rust rustc rustc; add go_refused go golang

app_php() { nginx_up && got php -r 'echo file_get_contents($argv[1]);' "$URL"; }
# PHP opens its extensions with RTLD_DEEPBIND: their calls go past the usual order of look-up.
app_php_curl() { nginx_up && got php -r '$c = curl_init($argv[1]); curl_setopt($c, CURLOPT_FAILONERROR, true); exit(curl_exec($c) ? 0 : 1);' "$URL"; }
app_php_serve() { serve php 8040 "${X[@]}" PHP_CLI_SERVER_WORKERS=3 php -S 127.0.0.1:8040 -t "$RUN/www" && fetched 8040; }
app_php_fpm() {
  # shellcheck disable=SC2016
  echo '<?php readfile($_SERVER["DOCUMENT_ROOT"] . "/" . $_GET["f"]);' >"$RUN/www/f.php"; chmod 644 "$RUN/www/f.php"
  printf '[global]\nerror_log=%s/fpm.err\ndaemonize=no\n[www]\n%slisten=127.0.0.1:9000\npm=static\npm.max_children=3\nclear_env=no\n' "$RUN" \
    "$([ "$(id -u)" != 0 ] || printf 'user=www-data\ngroup=www-data\n')"$'\n' >"$RUN/fpm.conf"
  serve fpm 9000 "${X[@]}" "${command[php_fpm]}" -F -y "$RUN/fpm.conf" -c /dev/null -R || return 1
  nginx_up "location ~ [.]php\$ { include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME $RUN/www/f.php; fastcgi_pass $HOST:9000; }" || return 1
  for ((i = 0; i < 3; i++)); do got curl -sSf "http://$HOST:8001/f.php?f=big" || return 1; done
}
app_requests() { nginx_up && got /usr/bin/python3 -c 'import requests, sys; s = requests.Session(); s.get(sys.argv[1]); sys.stdout.buffer.write(s.get(sys.argv[1]).content)' "$URL"; }
app_aiohttp() { nginx_up && got /usr/bin/python3 "$src/get_aiohttp.py" "$URL"; }
app_gunicorn() { # prefork: the workers inherit a listening socket
  cp "$src/wsgi.py" "$RUN/wsgi.py"
  serve gunicorn 8041 "${X[@]}" gunicorn --chdir "$RUN" -w 3 -b 127.0.0.1:8041 wsgi:app || return 1
  fetched 8041 && kill -HUP "$SERVER" && sleep 1 && fetched 8041
}
app_uvicorn() { serve uvicorn 8042 "${X[@]}" /usr/bin/python3 -m uvicorn --app-dir "$src" --port 8042 --log-level error asgi:app && fetched 8042; }
app_multiprocessing() { "${X[@]}" timeout 60 python3 "$src/managers.py" "$HOST" 8043 "$SECRET"; }
app_pass_fd() { "${X[@]}" timeout 60 python3 "$src/pass_fd.py" "$HOST" 8044 "$SECRET"; }
# (Its default resolver speaks DNS itself; the mesh is asked through libc.)
app_grpc() { "${X[@]}" GRPC_DNS_RESOLVER=native timeout 60 /usr/bin/python3 "$src/grpc_echo.py" "$HOST" 8045 "$SECRET"; }
app_node_undici() { nginx_up && got node -e 'fetch(process.argv[1]).then(r => r.arrayBuffer()).then(b => process.stdout.write(Buffer.from(b)))' "$URL"; }
app_node_net() { "${X[@]}" timeout 60 node "$src/net.js" "$HOST" 8046 "$SECRET"; }
app_node_send() { "${X[@]}" timeout 60 node "$src/send.js" "$HOST" 8047 "$SECRET"; }
app_puma() {
  cp "$src/config.ru" "$RUN/config.ru"
  serve puma 8048 "${X[@]}" puma -w 2 -t 2:4 -b tcp://127.0.0.1:8048 "$RUN/config.ru" && fetched 8048
}
app_java_http() { nginx_up && got java "$src/HttpGet.java" "$URL"; }
app_java_nio() { "${X[@]}" timeout 60 java "$src/NioEcho.java" "$HOST" 8049 "$SECRET"; }
jars() { printf '%s:' /usr/share/java/"$1"*.jar; }
app_jetty() { serve jetty 8050 "${X[@]}" java -cp "$(jars jetty9-)$(jars servlet-api)" "$src/JettyServe.java" 8050 "$RUN/www" && fetched 8050; }
app_netty() { "${X[@]}" timeout 60 java -cp "$(jars netty)" "$src/NettyEcho.java" "$HOST" 8051 "$SECRET"; }
app_erlang() {
  nginx_up && "${X[@]}" timeout 60 erl -noshell -eval 'inets:start(), [U] = init:get_plain_arguments(),
    {ok, {{_, 200, _}, _, B}} = httpc:request(get, {U, []}, [], [{body_format, binary}]), ok = file:write_file("../out", B), halt().' -extra "$URL" && cmp "$RUN/out" big || return 1
  "${X[@]}" timeout 60 escript "$src/echo.escript" "$HOST" 8052 "$SECRET"
}
app_elixir() {
  nginx_up && "${X[@]}" timeout 60 elixir -e '[u] = System.argv(); :inets.start(); {:ok, {{_, 200, _}, _, b}} = :httpc.request(:get, {String.to_charlist(u), []}, [], body_format: :binary); File.write!("../out", b)' "$URL" && cmp "$RUN/out" big
}
app_mono() { nginx_up && mcs -out:"$RUN/get.exe" "$src/Get.cs" && got mono "$RUN/get.exe" "$HOST" 8001; }
app_rust() { rustc -O -o "$RUN/echo" "$src/echo.rs" 2>/dev/null && "${X[@]}" timeout 60 "$RUN/echo" "$HOST" 8053 "$SECRET"; }
# A Go program makes its system calls itself. Found out and named: `meshctl check --procs` says static, a strict server refuses it.
app_go_refused() {
  (cd "$RUN" && GOCACHE=$RUN/gocache GO111MODULE=off CGO_ENABLED=0 go build -o "$RUN/get" "$src/get.go") && nginx_up || return 1
  case $IN_CELL in
  plain | unconfigured) got "$RUN/get" "$URL" ;;
  *) ! "${X[@]}" timeout 60 "$RUN/get" "$URL" >"$RUN/out" 2>&1 && ! grep -q "$SECRET" "$RUN/out" && got curl -sSf "$URL" ;;
  esac
}
