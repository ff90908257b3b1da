#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [NAME...]: scenarios with real control planes. Each tests/interop/xds/NAME_test.py runs in a network, mount and process
# namespace of its own, with what tests/mesh has for its cases; the control planes are built before (setup.sh).
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../lib/env.sh"
names=("$@")
[ ${#names[@]} -gt 0 ] || for f in "$here"/*_test.py; do names+=("$(basename "$f" _test.py)"); done
BUILD=$BUILD sh "$here/setup.sh" || exit 1
python=$(python3 -c 'import sys; print(sys.executable)') || exit 1
pki
bad=0
for n in "${names[@]}"; do
  mkdir -p "$RUN/$n"
  "$TOP/tests/lib/netns.sh" timeout -k 5 600 env LIB="$LIB" CTL="$BUILD/meshctl" PKI="$PKI" RUN="$RUN/$n" BUILD="$BUILD" \
    PYTHONDONTWRITEBYTECODE=1 "$python" "$here/${n}_test.py" ${ONLY_CASE:+"$ONLY_CASE"} </dev/null || bad=1
done
exit $bad
