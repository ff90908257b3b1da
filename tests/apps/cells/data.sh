# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Data bases, caches, brokers, directories.
PG=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
add postgres psql postgresql postgresql-contrib postgresql-client; add pgbench pgbench postgresql-contrib
add mariadb mariadbd mariadb-server mariadb-client; add memcached memcached memcached
add mosquitto mosquitto mosquitto mosquitto-clients; add slapd slapd slapd ldap-utils
add redis_pubsub redis-server redis

# as WHO CMD...: servers that refuse to run as root.
as() { local who=$1; shift; if [ "$(id -u)" = 0 ]; then setpriv --reuid="$who" --regid="$(id -gn "$who")" --init-groups "$@"; else "$@"; fi; }
# Backends of one server are forked from one that has loaded everything, and prove the accept-fork shape.
postgres_up() {
  PG=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
  mkdir -m 700 "$RUN/pg"; [ "$(id -u)" != 0 ] || chown postgres "$RUN/pg"
  mkdir -m 777 "$RUN/pgsock"
  as postgres "$PG/initdb" -D "$RUN/pg/data" -A trust -U app -N >/dev/null || return 1
  serve postgres 8020 as postgres "${X[@]}" MESH_RUN_DIR="$RUN/pg/mesh" "$PG/postgres" -D "$RUN/pg/data" -h 127.0.0.1 -p 8020 -k "$RUN/pgsock" -c fsync=off
}
app_postgres() {
  postgres_up || return 1
  local p=("${X[@]}" psql -h "$HOST" -p 8020 -U app -qAtX postgres)
  for ((i = 0; i < 40; i++)); do "${p[@]}" -c 'select 1' >/dev/null 2>&1 && break; sleep 0.25; done
  "${p[@]}" -c 'create table t (line text)' && "${p[@]}" -c '\copy t from big' && "${p[@]}" -c '\copy t to stdout' | is_big || return 1
  "${p[@]}" -c 'select line from t' | is_big
}
app_pgbench() {
  postgres_up || return 1
  for ((i = 0; i < 40; i++)); do "${X[@]}" psql -h "$HOST" -p 8020 -U app -qAtX postgres -c 'select 1' >/dev/null 2>&1 && break; sleep 0.25; done
  "${X[@]}" pgbench -h "$HOST" -p 8020 -U app -i -q postgres 2>&1 | tail -1 | grep -q done || return 1
  "${X[@]}" pgbench -h "$HOST" -p 8020 -U app -c 8 -j 2 -t 50 postgres | grep -q 'processed: 400/400' || return 1
  "${X[@]}" pgbench -h "$HOST" -p 8020 -U app -C -c 4 -t 10 -S postgres | grep -q 'processed: 40/40' || return 1
  "${X[@]}" psql -h "$HOST" -p 8020 -U app -qAtX postgres -c "select '$SECRET'" | grep -q "$SECRET"
}
app_mariadb() {
  mkdir -m 700 "$RUN/my" && { [ "$(id -u)" != 0 ] || chown mysql "$RUN/my"; }
  as mysql mariadb-install-db --no-defaults --auth-root-authentication-method=normal --datadir="$RUN/my/data" >/dev/null 2>&1 || return 1
  serve mariadb 8021 as mysql "${X[@]}" MESH_RUN_DIR="$RUN/my/mesh" mariadbd --no-defaults --datadir="$RUN/my/data" --bind-address=127.0.0.1 --port=8021 \
    --socket="$RUN/my/sock" --pid-file="$RUN/my/pid" --skip-grant-tables --skip-name-resolve || return 1
  local m=("${X[@]}" mariadb --no-defaults -h "$HOST" -P 8021 --protocol=tcp -N -B --local-infile=1)
  for ((i = 0; i < 40; i++)); do "${m[@]}" -e 'select 1' >/dev/null 2>&1 && break; sleep 0.25; done
  "${m[@]}" -e 'create database d; create table d.t (id int auto_increment primary key, line text); set global local_infile=1' || return 1
  "${m[@]}" -e "load data local infile 'big' into table d.t (line)" && "${m[@]}" -e 'select line from d.t order by id' | is_big
}
app_memcached() {
  serve memcached 8022 "${X[@]}" memcached -u nobody -l 127.0.0.1 -p 8022 -t 2 || return 1
  "${X[@]}" python3 "$src/memcache.py" "$HOST" 8022 "$SECRET"
}
app_mosquitto() {
  printf 'listener 8023 127.0.0.1\nallow_anonymous true\npersistence false\n' >"$RUN/mosquitto.conf"
  serve mosquitto 8023 "${X[@]}" mosquitto -c "$RUN/mosquitto.conf" || return 1
  "${X[@]}" timeout 30 mosquitto_sub -h "$HOST" -p 8023 -t moon -C 3 >"$RUN/sub" &
  local sub=$!
  sleep 1
  for ((i = 0; i < 3; i++)); do "${X[@]}" mosquitto_pub -h "$HOST" -p 8023 -q 1 -t moon -m "$SECRET" || return 1; done
  wait $sub && [ "$(grep -c "^$SECRET$" "$RUN/sub")" = 3 ]
}
app_slapd() {
  mkdir "$RUN/ldap"
  cat >"$RUN/slapd.conf" <<C
modulepath /usr/lib/ldap
moduleload back_mdb
include /etc/ldap/schema/core.schema
pidfile $RUN/slapd.pid
database mdb
suffix "dc=shop"
rootdn "cn=admin,dc=shop"
rootpw secret
directory $RUN/ldap
C
  serve slapd 8024 "${X[@]}" slapd -d 0 -f "$RUN/slapd.conf" -h ldap://127.0.0.1:8024 || return 1
  local l=(-x -H "ldap://$HOST:8024" -D cn=admin,dc=shop -w secret)
  printf 'dn: dc=shop\nobjectClass: dcObject\nobjectClass: organization\ndc: shop\no: %s\n' "$SECRET" | "${X[@]}" ldapadd "${l[@]}" >/dev/null || return 1
  "${X[@]}" ldapsearch "${l[@]}" -LLL -b dc=shop o | grep -q "^o: $SECRET"
}
app_redis_pubsub() { # a connection that is idle until the other end speaks
  serve redis 8039 "${X[@]}" redis-server --port 8039 --bind 127.0.0.1 --save '' --dir "$RUN" || return 1
  "${X[@]}" timeout 8 redis-cli -h "$HOST" -p 8039 --csv subscribe moon >"$RUN/sub" &
  local sub=$!
  sleep 3
  for ((i = 0; i < 3; i++)); do "${X[@]}" redis-cli -h "$HOST" -p 8039 publish moon "$SECRET" | grep -qx 1 || return 1; done
  wait $sub
  [ "$(grep -c "$SECRET" "$RUN/sub")" = 3 ]
}
