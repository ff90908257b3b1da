#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# netns.sh CMD...: runs CMD in private network, mount and process namespaces with loopback alone: nothing leaves the
# machine, fixed ports clash with nobody, and what CMD leaves behind dies with it. Without the right to make
# namespaces CMD runs as it is; IN_NETNS=1 tells it which of the two happened.
if [ "${IN_NETNS:-}" = 1 ]; then exec "$@"; fi
if ! unshare -n -m -p -f --mount-proc true 2>/dev/null; then exec "$@"; fi
exec unshare -n -m -p -f --kill-child --mount-proc -- env IN_NETNS=1 bash -c '
ip link set lo up 2>/dev/null || ifconfig lo up
hosts=$(mktemp); chmod 644 "$hosts"
printf "127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.0.1 %s\n" "$(hostname)" >"$hosts"
mount --bind "$hosts" /etc/hosts; rm -f "$hosts"
"$@"; exit $?' netns "$@"
