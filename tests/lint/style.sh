#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a reader of the source may rely on: licence line first, files of bounded length, the layout of .clang-format
# (`make format` puts it right), no note of unfinished work, and inside the library calls of shim/symbols.def only as
# real.NAME or a raw system call, never under the exported name.
set -u
cc=${CC:-gcc}
status=0
wrong() {
    echo "$1" >&2
    status=1
}

sources=$(git ls-files -co --exclude-standard '*.c' '*.h' '*.def' '*.sh' '*.proto' Makefile .ci/run)
for f in $sources; do
    [ -f "$f" ] || continue
    head -2 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || wrong "$f: no SPDX line on top"
    case $f in
    *.def | *.proto) ;;
    *) [ "$(wc -l <"$f")" -le 800 ] || wrong "$f: more than 800 lines" ;;
    esac
done
# shellcheck disable=SC2086
grep -nE '\b(TO''DO|FIX''ME|XX''X)\b' $sources >&2 && wrong 'notes of unfinished work'

if command -v clang-format >/dev/null; then
    # shellcheck disable=SC2046
    unformatted=$(for f in $(git ls-files -co --exclude-standard '*.c'); do
        clang-format --dry-run -Werror "$f" 2>/dev/null || echo "$f"
    done)
    # shellcheck disable=SC2086
    [ -z "$unformatted" ] || wrong "not in the layout of .clang-format (make format): $(echo $unformatted)"
fi

# The door's own files expand the table, and meshctl is a program like others.
names=$(sh shim/symbols.sh "$cc" export | grep -v '^__' | paste -sd'|')
inside=$(git ls-files -co --exclude-standard 'shim/*.c' 'resolver/*.c' 'lb/*.c' 'tls/*.c' 'proto/*.c' |
    grep -vE '^shim/(entry|real)\.c$|^shim/(ctl|link)/')
for f in $inside; do
    # without comments and strings; `name(` after nothing that makes it a member or a longer name
    calls=$($cc -fpreprocessed -dD -E -P "$f" 2>/dev/null | sed 's/"[^"]*"//g' |
        grep -E "(^|[^A-Za-z0-9_.>])($names)\(")
    [ -z "$calls" ] || wrong "$f: libc called past real.: $calls"
done

# The library's stdin and stderr are its own and empty until mesh_heavy_load (shim/link/private.c).
for f in $inside; do
    uses=$($cc -fpreprocessed -dD -E -P "$f" 2>/dev/null | sed 's/"[^"]*"//g' |
        grep -E '(^|[^A-Za-z0-9_])(stderr|stdout|stdin|(v?printf|perror|puts) *\()([^A-Za-z0-9_]|$)')
    [ -z "$uses" ] || wrong "$f: stdio of the process used inside the library: $uses"
done
exit $status
