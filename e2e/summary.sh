#!/usr/bin/env bash
# The last line of `make test`: how many tests ran, from the logs of `go test -v`.
set -euo pipefail
count() { cat -- "${@:2}" | grep -cE "^ *--- $1:" || true; }
pass=$(count PASS "$@") fail=$(count FAIL "$@") skip=$(count SKIP "$@")
if [ "$skip" != 0 ]; then
	echo "skipped:"
	cat -- "$@" | grep -E '^ *--- SKIP:' | sort | uniq -c
fi
echo "tests run: $((pass + fail)), passed: $pass, failed: $fail, skipped: $skip"
[ "$fail" = 0 ] && [ "$pass" -gt 0 ]
