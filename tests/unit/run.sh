#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh BINARY...: runs unit test binaries one after the other; quiet about what passes.
export TSAN_OPTIONS="suppressions=$(dirname "$0")/../tsan.supp:${TSAN_OPTIONS:-}"
[ -z "${SAN:-}" ] || slow=4
failed=0 passed=0
for t in "$@"; do
    name=${t#*tests/unit/}
    if out=$(timeout $((300 * ${slow:-1})) "$t" --short-filename -j2 2>&1); then
        passed=$((passed + 1))
        printf '  %-6s %s %s\n' ok "${name%_test}" "$(printf '%s\n' "$out" | sed -n 's/.*Tested: \([0-9]*\).*/(\1 cases)/p')"
        printf '%s\n' "$out" | sed -n 's/^skipped: /         skipped: /p'
    else
        failed=$((failed + 1))
        printf '  %-6s %s\n%s\n' FAILED "${name%_test}" "$out"
    fi
done
echo "unit: $passed passed, $failed failed"
[ $failed = 0 ]
