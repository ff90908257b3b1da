#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the library shows to the loader: exports equal shim/symbols.def, it needs libc alone and nothing newer than
# glibc 2.34, no symbol of a linked library is visible or asked for, nothing runs at load but our constructor.
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
needed=$(readelf -dW "$lib" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc\.so\.6|ld-linux.*)$' || true)
[ -z "$needed" ] || wrong "needs $needed"
newest=$(readelf -VW "$lib" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -1)
[ "$(printf '%s\nGLIBC_2.34\n' "$newest" | sort -V | tail -1)" = GLIBC_2.34 ] || wrong "needs $newest"
nm -D "$lib" | grep -E ' (SSL|EVP|CRYPTO|X509|OPENSSL|protobuf_c|yaml)_' >&2 && wrong 'a symbol of a linked library is visible'
readelf -dW "$lib" | grep INIT_ARRAY >&2 && wrong 'something but mesh_init runs at load'
[ -z "$(readelf -dW "$lib" | grep TEXTREL)" ] || wrong 'has text relocations'
readelf -lW "$lib" | grep GNU_STACK | grep -q RWE && wrong 'has an executable stack'
exit $status
