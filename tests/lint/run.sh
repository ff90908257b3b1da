#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every lint of this folder; each prints what is wrong and fails.
cd "$(dirname "$0")/../.." || exit 1
failed=0 passed=0
for l in tests/lint/*.sh; do
    [ "$l" = tests/lint/run.sh ] && continue
    name=$(basename "$l" .sh)
    if sh "$l"; then
        passed=$((passed + 1))
        printf '  %-6s lint/%s\n' ok "$name"
    else
        failed=$((failed + 1))
        printf '  %-6s lint/%s\n' FAILED "$name"
    fi
done
echo "lint: $passed passed, $failed failed"
[ $failed = 0 ]
