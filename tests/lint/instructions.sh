#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Instructions that the library adds to one send and one recv on a descriptor that is not mesh: at most LIMIT.
# Counted by valgrind, as the difference between many and few calls, with and without the library.
set -eu
lib=$(realpath -e "${BUILD:-build}/libmeshshim.so")
limit=${LIMIT:-10}
command -v valgrind >/dev/null || { echo 'valgrind is missing' >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/calls.c" <<'END'
#include <stdlib.h>
#include <sys/socket.h>
int main(int argc, char **argv) {
    int fds[2];
    char c = 'x';
    if (argc != 2 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        return 2;
    for (int n = atoi(argv[1]); n > 0; n--)
        if (send(fds[0], &c, 1, 0) != 1 || recv(fds[1], &c, 1, 0) != 1)
            return 1;
    return 0;
}
END
"${CC:-gcc}" -O2 -o "$work/calls" "$work/calls.c"

count() { # count PRELOAD CALLS
    LD_PRELOAD=$1 valgrind --tool=callgrind --callgrind-out-file="$work/out" "$work/calls" "$2" >/dev/null 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    awk '/^(summary|totals):/ { print $2; exit }' "$work/out"
}
bare=$(($(count '' 6000) - $(count '' 1000)))
with=$(($(count "$lib" 6000) - $(count "$lib" 1000)))
added=$(awk -v d=$((with - bare)) 'BEGIN { printf "%.2f", d / 5000 / 2 }')
echo "  instructions added a call: $added (limit $limit)"
awk -v a="$added" -v l="$limit" 'BEGIN { exit !(a > 0 && a <= l) }'
