#!/usr/bin/env bash
# After a failed run: what each failed test said, last, from the logs of `go test -v`. Whoever sees only the end of the
# output sees why.
set -euo pipefail
echo
echo "failed:"
cat -- "$@" | awk '
	/^=== (RUN|NAME|CONT|PAUSE)/ { cur = $3; next }
	/^ *--- FAIL: / {
		name = $3
		print
		for (i = (n[name] > 60 ? n[name] - 60 : 0); i < n[name]; i++) print "    " line[name, i]
		next
	}
	/^ *--- / { next }
	/^FAIL\t|^panic:|^fatal error:|^testing: / { print }
	{ line[cur, n[cur]++] = $0 }
'
