#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Instructions that the library adds to a send, recv, poll or epoll_wait on a descriptor that is not mesh: at most LIMIT each.
# Counted by valgrind, as the difference between many and few calls, with and without the library.
set -eu
lib=$(realpath -e "${BUILD:-build}/libmeshshim.so")
limit=${LIMIT:-10}
command -v valgrind >/dev/null || { echo 'valgrind is missing' >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/calls.c" <<'END'
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
int main(int argc, char **argv) {
    int fds[2], ep = epoll_create1(0);
    char c = 'x';
    struct epoll_event ev = {.events = EPOLLOUT};
    if (argc != 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &ev))
        return 2;
    struct pollfd p = {.fd = fds[0], .events = POLLOUT};
    for (int n = atoi(argv[2]); n > 0; n--)
        if (strcmp(argv[1], "poll") == 0 ? poll(&p, 1, 0) != 1
            : strcmp(argv[1], "epoll_wait") == 0 ? epoll_wait(ep, &ev, 1, 0) != 1
                                                 : send(fds[0], &c, 1, 0) != 1 || recv(fds[1], &c, 1, 0) != 1)
            return 1;
    return 0;
}
END
"${CC:-gcc}" -O2 -o "$work/calls" "$work/calls.c"

count() { # count PRELOAD WHAT CALLS
    LD_PRELOAD=$1 valgrind --tool=callgrind --callgrind-out-file="$work/out" "$work/calls" "$2" "$3" >/dev/null 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    awk '/^(summary|totals):/ { print $2; exit }' "$work/out"
}
for what in send_recv:2 poll:1 epoll_wait:1; do
    name=${what%:*}
    bare=$(($(count '' "$name" 6000) - $(count '' "$name" 1000)))
    with=$(($(count "$lib" "$name" 6000) - $(count "$lib" "$name" 1000)))
    added=$(awk -v d=$((with - bare)) -v n="${what#*:}" 'BEGIN { printf "%.2f", d / 5000 / n }')
    echo "  instructions added to $name, a call: $added (limit $limit)"
    awk -v a="$added" -v l="$limit" 'BEGIN { exit !(a > 0 && a <= l) }'
done
