#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lists of shim/symbols.def: `symbols.sh CC export` exported names, `map` the linker map, `hash` the GNU hashes of the
# names that have a pointer, in the table's order.
set -eu
cc=$1 what=$2
table=$(dirname "$0")/symbols.def

names() { # $1 export | real
    {
        echo '#define VOID(family, name, params, args) @export name @real name'
        echo '#define NORETURN(family, name, params, args) @export name @real name'
        echo '#define CALL(family, lacks, ret, name, params, args) @export name @real name'
        echo '#define FIXED(family, lacks, ret, name, type, params, args) @export name @real name'
        echo '#define ALIAS(family, ret, alias, name, params, args) @export alias'
        echo '#define FIXED_ALIAS(family, ret, alias, name, type, params, args) @export alias'
        echo '#define CHECKED(family, ret, name, params, args, overrun, call, call_args) @export name @real name'
        echo '#define OWN(name) @export name'
        echo '#define POINTER(lacks, ret, name, params, args) @real name'
        cat "$table"
    } | $cc -E -P -x c - | tr -s ' \n' '\n\n' | awk -v want="@$1" 'take { print; take = 0 } $0 == want { take = 1 }'
}

case $what in
export)
    names export
    ;;
map)
    # Anonymous: a named version would never satisfy a versioned reference, and nothing would be interposed.
    echo '{ global:'
    names export | sed 's/.*/    &;/'
    echo '  local: *; };'
    ;;
hash)
    names real | awk '
        BEGIN { for (i = 1; i < 128; i++) code[sprintf("%c", i)] = i }
        {
            h = 5381
            for (i = 1; i <= length($0); i++) {
                h = h * 33 + code[substr($0, i, 1)]
                h -= int(h / 4294967296) * 4294967296
            }
            printf "%.0fu, /* %s */\n", h, $0
        }'
    ;;
esac
