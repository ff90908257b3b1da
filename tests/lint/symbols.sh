#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the library shows to the loader: exports equal shim/symbols.def, it needs libc alone and nothing newer than
# glibc 2.34, no symbol of a linked library is visible or asked for, nothing runs at load but our constructor, and what
# is linked in calls none of our exports.
set -eu
lib=${BUILD:-build}/libmeshshim.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
wrong() {
    echo "$lib: $1" >&2
    status=1
}

sh shim/symbols.sh "${CC:-gcc}" export | sort >"$work/table"
nm -D --defined-only "$lib" | awk '{ print $3 }' | sort >"$work/exports"
diff -u "$work/table" "$work/exports" >&2 || wrong 'exports differ from shim/symbols.def'
[ -z "$(uniq -d "$work/table")" ] || wrong "twice in the table: $(uniq -d "$work/table")"

nm -D --defined-only "$lib" | grep '@' >&2 && wrong 'an export has a version: it would interpose nothing'
needed=$(readelf -dW "$lib" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vx 'libc\.so\.6' || true)
[ -z "$needed" ] || wrong "needs $needed"
newest=$(readelf -VW "$lib" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -1)
[ "$(printf '%s\nGLIBC_2.34\n' "$newest" | sort -V | tail -1)" = GLIBC_2.34 ] || wrong "needs $newest"
nm -D "$lib" | grep -E ' (SSL|EVP|CRYPTO|X509|OPENSSL|protobuf_c|yaml|ares|nghttp2)_' >&2 && wrong 'a symbol of a linked library is visible'
readelf -dW "$lib" | grep INIT_ARRAY >&2 && wrong 'something but mesh_init runs at load'
# A table of pointers to libc's functions would be looked up, and its page written, in every program.
readelf -rW "$lib" | grep -E 'R_(X86_64_64|AARCH64_ABS64|X86_64_DTPMOD64|AARCH64_TLS_DTPMOD) ' >&2 && wrong 'has pointers that the loader looks up'
# Linked-in libraries come in through our door by none of its names (PRIVATE_CARES of the Makefile).
for a in "${BUILD:-build}"/libcares.a "${BUILD:-build}"/libnghttp2.a; do
    nm -u "$a" 2>/dev/null | awk 'NF == 2 { print $2 }' | sort -u | comm -12 - "$work/table" >"$work/through"
    [ ! -s "$work/through" ] || wrong "$a calls $(paste -sd' ' "$work/through") of our own"
done
[ -z "$(readelf -dW "$lib" | grep TEXTREL)" ] || wrong 'has text relocations'
readelf -lW "$lib" | grep GNU_STACK | grep -q RWE && wrong 'has an executable stack'
exit $status
