# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What administrators use: remote shells and copies, version control, inetd's way of serving.
add git git git; add git_http git git apache2; add git_ssh git git openssh-server openssh-client
add ssh sshd openssh-server openssh-client; add scp scp openssh-server openssh-client; add rsync rsync rsync; add rsync_ssh rsync rsync openssh-server
add inetd xinetd xinetd netcat-openbsd; add lftp lftp lftp; add tnftp tnftp tnftp; add whois whois whois; add telnet_bash bash bash

app_git() { # git's own protocol
  git_repo && serve git 8030 "${X[@]}" git daemon --reuseaddr --listen=127.0.0.1 --port=8030 --base-path="$RUN/git" --export-all --enable=receive-pack || return 1
  git_round "git://$HOST:8030/repo"
}
git_repo() {
  export GIT_CONFIG_GLOBAL=$RUN/gitconfig GIT_TERMINAL_PROMPT=0
  git config --global user.email a@b; git config --global user.name a; git config --global init.defaultBranch main; git config --global --add safe.directory '*'
  git init -q --bare "$RUN/git/repo" && git -C "$RUN/git/repo" config http.receivepack true && git init -q "$RUN/first" && cp "$RUN/www/big" "$RUN/first" &&
    git -C "$RUN/first" add big && git -C "$RUN/first" commit -qm "$SECRET"
}
git_round() { # push and clone
  "${X[@]}" git -C "$RUN/first" push -q "$1" main && "${X[@]}" git clone -q "$1" "$RUN/second" && cmp "$RUN/second/big" "$RUN/www/big" || return 1
  # objects travel deflated: what proves the recording is the message of the commit, asked for as it is
  nginx_up && got curl -sSf "$URL"
}
app_git_http() {
  local m=/usr/lib/apache2/modules
  git_repo || return 1
  chmod -R a+rwX "$RUN/git"
  cat >"$RUN/git.conf" <<C
ServerRoot $RUN
ServerName app
PidFile $RUN/git.pid
ErrorLog $RUN/git.err
Listen 127.0.0.1:8031
LoadModule mpm_prefork_module $m/mod_mpm_prefork.so
LoadModule authz_core_module $m/mod_authz_core.so
LoadModule cgi_module $m/mod_cgi.so
LoadModule alias_module $m/mod_alias.so
LoadModule env_module $m/mod_env.so
$([ "$(id -u)" != 0 ] || printf 'User www-data\nGroup www-data')
DefaultRuntimeDir $RUN
Mutex file:$RUN
SetEnv GIT_PROJECT_ROOT $RUN/git
SetEnv GIT_HTTP_EXPORT_ALL
SetEnv GIT_CONFIG_GLOBAL $RUN/gitconfig
ScriptAlias /git/ /usr/lib/git-core/git-http-backend/
<Directory />
Require all granted
</Directory>
C
  serve httpd 8031 "${X[@]}" setsid apache2 -DFOREGROUND -f "$RUN/git.conf" && git_round "http://$HOST:8031/git/repo"
}

sshd_up() {
  mkdir -p /run/sshd -m 755; mkdir -m 700 "$RUN/ssh"
  ssh-keygen -q -t ed25519 -N '' -f "$RUN/ssh/host" && ssh-keygen -q -t ed25519 -N '' -f "$RUN/ssh/user" && cp "$RUN/ssh/user.pub" "$RUN/ssh/authorized" || return 1
  cat >"$RUN/ssh/sshd_config" <<C
Port 8032
ListenAddress 127.0.0.1
HostKey $RUN/ssh/host
AuthorizedKeysFile $RUN/ssh/authorized
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
PermitRootLogin yes
AcceptEnv GIT_PROTOCOL
C
  cat >"$RUN/ssh/ssh_config" <<C
Host $HOST
Port 8032
IdentityFile $RUN/ssh/user
IdentitiesOnly yes
UserKnownHostsFile /dev/null
StrictHostKeyChecking no
LogLevel ERROR
C
  serve sshd 8032 "${X[@]}" "$(command -v sshd || echo /usr/sbin/sshd)" -D -e -f "$RUN/ssh/sshd_config"
}
# ssh has its own encryption: the marker is carried by a plain request at the end, so that the recording is proved.
app_ssh() {
  sshd_up && "${X[@]}" ssh -F "$RUN/ssh/ssh_config" "$HOST" cat "$RUN/www/big" | is_big || return 1
  "${X[@]}" ssh -F "$RUN/ssh/ssh_config" "$HOST" 'cat | sha256sum' <big | grep -q "$(sha256sum <big | cut -d' ' -f1)" || return 1
  nginx_up || return 1
  "${X[@]}" ssh -F "$RUN/ssh/ssh_config" -N -L 127.0.0.1:8033:"$HOST":8001 "$HOST" & SERVERS+=($!)
  for ((i = 0; i < 50; i++)); do listening 8033 && break; sleep 0.1; done
  got curl -sSf "http://$HOST:8033/big" && got curl -sSf "$URL"
}
app_scp() {
  sshd_up && "${X[@]}" scp -q -F "$RUN/ssh/ssh_config" big "$HOST:$RUN/copy" && cmp big "$RUN/copy" &&
    "${X[@]}" scp -q -F "$RUN/ssh/ssh_config" "$HOST:$RUN/www/big" "$RUN/back" && cmp big "$RUN/back" && nginx_up && got curl -sSf "$URL"
}
app_git_ssh() {
  git_repo && sshd_up || return 1
  export GIT_SSH_COMMAND="ssh -F $RUN/ssh/ssh_config"
  git_round "ssh://$HOST:8032$RUN/git/repo"
}
app_rsync() {
  printf 'use chroot = no\nport = 8034\naddress = 127.0.0.1\n[www]\npath = %s\nread only = no\nuid = %s\ngid = %s\n' "$RUN/www" "$(id -u)" "$(id -g)" >"$RUN/rsyncd.conf"
  serve rsync 8034 "${X[@]}" rsync --daemon --no-detach --config="$RUN/rsyncd.conf" || return 1
  "${X[@]}" rsync -a "rsync://$HOST:8034/www/" "$RUN/copy/" && cmp "$RUN/copy/big" big || return 1
  head -c 500000 big >"$RUN/copy/part" && "${X[@]}" rsync -a "$RUN/copy/" "rsync://$HOST:8034/www/" && cmp "$RUN/copy/part" part
}
app_rsync_ssh() {
  sshd_up && "${X[@]}" rsync -a -e "ssh -F $RUN/ssh/ssh_config" "$HOST:$RUN/www/" "$RUN/copy/" && cmp "$RUN/copy/big" big && nginx_up && got curl -sSf "$URL"
}
# (openbsd-inetd takes LD_ variables out of its environment and leaves MESH_ ones: as if on purpose.)
app_inetd() { # forks and execs a program for each connection, on descriptors 0 to 2
  printf '#!/bin/bash\nread -r x; exec cat "%s/www/$x"\n' "$RUN" >"$RUN/fetch"; chmod 755 "$RUN/fetch"
  local p='protocol = tcp\nsocket_type = stream\nwait = no\ntype = UNLISTED\nbind = 127.0.0.1\n'
  { printf 'service cat\n{\nport = 8035\nuser = %s\nserver = /bin/cat\n'"$p"'}\n' "$(id -un)"
    printf 'service fetch\n{\nport = 8036\nuser = %s\nserver = %s\n'"$p"'}\n' "$(id -un)" "$RUN/fetch"; } >"$RUN/inetd.conf"
  serve inetd 8036 "${X[@]}" xinetd -dontfork -f "$RUN/inetd.conf" -pidfile "$RUN/inetd.pid" -filelog "$RUN/inetd.txt" || return 1
  for ((i = 0; i < 3; i++)); do
    "${X[@]}" timeout 60 nc -N "$HOST" 8035 <big | is_big || return 1
    echo big | "${X[@]}" timeout 60 nc "$HOST" 8036 | is_big || return 1
  done
}
app_lftp() { nginx_up && "${X[@]}" timeout 60 lftp -c "set net:max-retries 1; cat http://$HOST:8001/big" | is_big; }
app_tnftp() { nginx_up && "${X[@]}" timeout 60 tnftp -V -o "$RUN/out" "$URL" >/dev/null 2>&1 && cmp "$RUN/out" big; }
app_whois() {
  serve whoisd 8037 "${X[@]}" socat TCP-LISTEN:8037,bind=127.0.0.1,fork,reuseaddr "SYSTEM:read x; cat $RUN/www/hello" || return 1
  "${X[@]}" timeout 60 whois -h "$HOST" -p 8037 moon | grep -q "$SECRET"
}
app_telnet_bash() { # a server that is a shell script's child: the connection is standard input and output
  printf '#!/bin/bash\nwhile read -r line; do echo "said $line"; done\n' >"$RUN/say"; chmod 755 "$RUN/say"
  serve shell 8038 "${X[@]}" socat TCP-LISTEN:8038,bind=127.0.0.1,fork,reuseaddr EXEC:"$RUN/say" || return 1
  printf 'one\n%s\n' "$SECRET" | "${X[@]}" timeout 60 nc -N "$HOST" 8038 | grep -q "^said $SECRET"
}
