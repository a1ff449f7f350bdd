#!/usr/bin/env bash
# The last line of `make test`: how many tests ran, from the logs of `go test -v`.
set -euo pipefail
count() { cat -- "${@:2}" | grep -cE "^ *--- $1:" || true; }
pass=$(count PASS "$@") flaky=$(count FLAKY "$@") fail=$(count FAIL "$@") skip=$(count SKIP "$@")
if [ "$skip" != 0 ]; then
	echo "skipped:"
	cat -- "$@" | grep -E '^ *--- SKIP:' | sort | uniq -c
fi
if [ "$flaky" != 0 ]; then
	echo "passed only when run again:"
	cat -- "$@" | grep -E '^ *--- FLAKY:'
fi
echo "tests run: $((pass + flaky + fail)), passed: $((pass + flaky)), failed: $fail, skipped: $skip"
[ "$fail" = 0 ] && [ "$pass" -gt 0 ]
