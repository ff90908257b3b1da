#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# setup.sh: the control planes that tests talk to, made once a build directory: BUILD/tests/interop/xds/controlplane
# (go-control-plane) and BUILD/tests/interop/xds/venv (Python with grpcio and the xDS messages). peers.py runs it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${BUILD:-build}/tests/interop/xds
mkdir -p "$out"
out=$(cd "$out" && pwd)
command -v go >/dev/null || sh "$here/../../setup.sh" golang-go
python3 -c 'import ensurepip' 2>/dev/null || sh "$here/../../setup.sh" python3-venv
exec 9>"$out/lock"
flock 9
if [ ! -x "$out/controlplane" ] || [ -n "$(find "$here/go" -newer "$out/controlplane" -type f)" ]; then
    (cd "$here/go" && go build -o "$out/controlplane" .)
fi
if [ ! -e "$out/venv/ready" ]; then
    python3 -m venv "$out/venv"
    "$out/venv/bin/pip" install -q grpcio xds-protos
    touch "$out/venv/ready"
fi
