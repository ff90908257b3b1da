#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [KIND...]: a program that is client and server of a mesh, with each request of the library's refused in turn:
#   memory      malloc and the like, OpenSSL's, protobuf-c's and libyaml's as well: each place's 1st, 2nd, 4th, 8th ...
#               call and each 64th
#   thread      a thread
#   descriptor  EMFILE
#   map         mmap and the like
#   disk        ENOSPC
# One refusal must never be more than a clear errno and a line of trace, and the next try must work. Then from the Nth on for
# a while. Of memory each 9th is tried, FAULT_STEP=1: all of them. KIND every: every single allocation (hours).
set -u
. "$(dirname "$0")/../lib/env.sh"
here=$TOP/tests/fault
export LIB FAULT=$BUILD/tests/fault
[ $# -gt 0 ] || set -- memory thread descriptor map disk
mkdir -p "$FAULT"
flags=(-std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Wno-unused-parameter -I"$TOP")
for p in prog supervise; do ${CC:-cc} "${flags[@]}" -o "$FAULT/$p" "$here/$p.c" -lpthread || exit 1; done
${CC:-cc} "${flags[@]}" -shared -fPIC -o "$FAULT/inject.so" "$here/inject.c" -ldl || exit 1

pki
cat >"$RUN/view.yaml" <<'V'
services:
  reviews.shop.mesh:19080:
    endpoints: [127.0.0.1:19080]
V
export MESH_VIEW=$RUN/view.yaml MESH_INBOUND=strict MESH_DOMAINS=shop.mesh
# shellcheck disable=SC2046
export $(identity web)

one() { "$TOP/tests/lib/netns.sh" "$here/loop.sh" "$1" "$2" "$3" "$4" "$RUN/$1.$2.$4"; }
for kind; do
  step=${FAULT_STEP:-1}
  [ "$kind" != memory ] || step=${FAULT_STEP:-9}
  for many in 1 8; do
    one "$kind" 1 $((2 * step)) $many & other=$!
    one "$kind" $((1 + step)) $((2 * step)) $many
    wait $other
    runs=0 failures=0
    for d in "$RUN/$kind".*."$many"; do
      read -r _ r _ f <"$d/result"
      runs=$((runs + r)) failures=$((failures + f))
    done
    what="$kind, $many refused: $runs runs, $failures told so"
    if [ -s "$RUN/$kind.1.$many/wrong" ] || [ -s "$RUN/$kind.$((1 + step)).$many/wrong" ]; then
      not_ok "$what"; cat "$RUN/$kind".*."$many"/wrong | sed 's/^/#   /'
    else ok "$what"; fi
  done
done
finish
