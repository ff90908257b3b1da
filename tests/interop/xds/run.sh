#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [NAME [CASE]...]: the tests of this folder that talk to real control planes, NAME_test.py each, in namespaces of their
# own. Which cases a test has says the test; CASE is a part of its name. SLOW=N gives N times the time, KILLS=N and CURLS=N are how many.
# `make interop T=xds`, or T=xds/NAME, runs them too.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../lib/env.sh"
export BUILD
sh "$here/setup.sh" || exit 1 # before the network is left behind
pki
name=${1:-}; [ $# = 0 ] || shift
failed=0
for test in "$here"/${name:-*}_test.py; do
  "$TOP/tests/lib/netns.sh" env PKI="$PKI" LIB="$LIB" CTL="$BUILD/meshctl" RUN="$RUN" MESH_SLOW="${SLOW:-4}" PYTHONDONTWRITEBYTECODE=1 \
    python3 "$test" "$@" || failed=1
done
exit $failed
