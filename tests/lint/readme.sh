#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What README.md says of the source is so: its table of variables is shim/env.def's (`readme.sh table` prints that table),
# each function of `The life of a connect()` is defined, each path of `Layout` exists, each make target that it names.
cd "$(dirname "$0")/../.." || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0
wrong() {
    echo "README.md: $1"
    failed=1
}

# One row a variable; a star marks those that protect.
table() {
    {
        echo '#define MESH_ENV(name, parser, field, bad, protects, value, def, sentence) @#name@protects@value@def@sentence@'
        cat shim/env.def
    } | "${CC:-gcc}" -E -P -x c - | sed 's/@/\n@/g' | awk '
        function text(s) { gsub(/" *"/, "", s); gsub(/^[ "]+|[ "]+$/, "", s); gsub(/[|]/, "\\|", s); return s }
        /^@/ {
            cell[n++] = text(substr($0, 2))
            if (n == 6) {
                printf "| `%s`%s | `%s` | %s | %s |\n", cell[0], cell[1] == "true" ? " *" : "", cell[2], cell[4], cell[3]
                n = 0
            }
        }'
}
[ "${1:-}" = table ] && { table; exit; }

section() { # section TITLE: its text
    awk -v title="## $1" '/^## / { on = $0 == title; next } on' README.md
}

[ -f README.md ] || { wrong missing; exit 1; }

table >"$tmp/table"
[ -s "$tmp/table" ] || wrong 'shim/env.def gives no table'
section Environment | grep '^| `' >"$tmp/readme"
cmp -s "$tmp/table" "$tmp/readme" || {
    wrong 'Environment is not the table of shim/env.def (<); sh tests/lint/readme.sh table'
    diff "$tmp/table" "$tmp/readme"
}

sh shim/symbols.sh "${CC:-gcc}" export >"$tmp/exports"
section 'The life of a connect()' | grep -oE '`[a-z_0-9]+\(\)`' | tr -d '`()' | sort -u >"$tmp/names"
[ -s "$tmp/names" ] || wrong 'The life of a connect() names no function'
while read -r name; do
    grep -qx "$name" "$tmp/exports" && continue
    grep -qE "^[a-z].*[ *]$name\(" shim/*.c resolver/*.c lb/*.c tls/*.c || wrong "there is no function $name()"
done <"$tmp/names"

section Layout | sed -n 's/^| `\([^`]*\)`.*/\1/p' >"$tmp/paths"
[ -s "$tmp/paths" ] || wrong 'Layout names no path'
while read -r path; do
    [ -e "$path" ] || wrong "there is no $path"
done <"$tmp/paths"

grep -oE '`make [a-z]+' README.md | sed 's/.* //' | sort -u >"$tmp/targets"
while read -r target; do
    grep -qE "^([a-z-]+ )*$target( [a-z-]+)*:" Makefile || wrong "there is no make $target"
    case $target in
    demo | apps | suites | interop | bench) [ -f "tests/$target/run.sh" ] || wrong "make $target has nothing to run" ;;
    esac
done <"$tmp/targets"
exit $failed
