#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The variables of shim/env.def, libmeshshim(7) and README.md are the same; the manual marks the same ones as protecting, and
# its commands are meshctl's own.
cd "$(dirname "$0")/../.." || exit 1
failed=0
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

name='(MESH|GRPC_XDS)_[A-Z_]+[A-Z]'

# compare WHAT FILE_A FILE_B: both sorted lists
compare() {
    sort -u "$2" >"$2.sorted"
    sort -u "$3" >"$3.sorted"
    if ! cmp -s "$2.sorted" "$3.sorted"; then
        echo "$1 disagree:"
        diff "$2.sorted" "$3.sorted" | grep '^[<>]'
        failed=1
    fi
}

sed -n 's/^MESH_ENV(\([A-Z_]*\),.*/\1/p' shim/env.def >"$tmp/def"
[ -s "$tmp/def" ] || { echo "shim/env.def has no variables"; exit 1; }

sed -n 's/^\.It Ev \([A-Z_]*\).*/\1/p' shim/libmeshshim.7 >"$tmp/man"
compare "shim/env.def (<) and shim/libmeshshim.7 (>)" "$tmp/def" "$tmp/man"

# The README's table: rows whose first cell holds names; one cell may hold several.
if [ -f README.md ]; then
    sed -n '/^## Environment/,/^## /p' README.md | grep '^|' | cut -d'|' -f2 | grep -oE "$name" >"$tmp/readme"
    compare "shim/env.def (<) and README.md, Environment (>)" "$tmp/def" "$tmp/readme"
else
    echo "README.md is missing"
    failed=1
fi

sed -n 's/^MESH_ENV(\([A-Z_]*\),[^,]*,[^,]*,[^,]*, true,.*/\1/p' shim/env.def >"$tmp/protects"
sed -n 's/^\.It Ev \([A-Z_]*\).* \*$/\1/p' shim/libmeshshim.7 >"$tmp/stars"
compare "protecting variables of shim/env.def (<) and starred ones of shim/libmeshshim.7 (>)" "$tmp/protects" "$tmp/stars"

sed -n '/^static const struct command {/,/^};/s/{"/\n{"/gp' shim/ctl/args.c | sed -n 's/^{"\([a-z]*\)", [A-Z]*,.*/\1/p' >"$tmp/commands"
sed -n 's/^\.It Cm \([a-z]*\).*/\1/p' shim/ctl/meshctl.1 >"$tmp/documented"
compare "commands of shim/ctl/args.c (<) and shim/ctl/meshctl.1 (>)" "$tmp/commands" "$tmp/documented"
exit $failed
