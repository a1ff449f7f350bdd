#!/usr/bin/env bash
# again.sh LOG COMMAND...: after a failed `go test -v` whose output is LOG, runs the failed tests once more, alone, by
# COMMAND (such as go test -race -v). What passes now failed by chance, on a busy machine: it is counted apart and named,
# and is a bug of the test all the same. More than five failures are no chance.
set -euo pipefail
log=$1
shift
list=$(awk '
	/^=== RUN/ { quiet = 0 }
	/^--- FAIL: / { names = names (names == "" ? "" : "|") $3; count++ }
	/^panic:|^fatal error:|WARNING: DATA RACE/ { whole = 1 }
	/^FAIL\t/ {
		if ($3 ~ /build|setup/ || names == "" && !whole) { print "broken", $2; exit }
		print $2, (whole ? "." : "^(" names ")$")
		names = ""; whole = 0
	}
	/^ok  \t/ { names = ""; whole = 0 }
	END { if (count > 5) print "broken", count " tests" }
' "$log")
if [ -z "$list" ] || grep -q '^broken' <<<"$list" || grep -q 'WARNING: DATA RACE' "$log"; then
	exit 1
fi
echo
while read -r pkg run; do
	echo "once more: $pkg $run"
	if ! "$@" -run "$run" "$pkg" >"$log.again" 2>&1; then
		"$(dirname "$0")/failures.sh" "$log.again"
		exit 1
	fi
	grep -q '^--- PASS: ' "$log.again"
done <<<"$list"
grep '^--- FAIL: ' "$log" | sed 's/^--- FAIL/passed only when run again/'
sed -i -E 's/^( *--- )FAIL:/\1FLAKY:/' "$log"
