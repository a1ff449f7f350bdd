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
		m = n[name] > 30 ? n[name] - 30 : 0 # its last words, and before them what the test itself says
		for (i = 0; i < m; i++) if (line[name, i] ~ /_test\.go:[0-9]+:/) print "    " substr(line[name, i], 1, 500)
		for (i = m; i < n[name]; i++) print "    " substr(line[name, i], 1, 500)
		next
	}
	/^ *--- / { next }
	/^FAIL\t|^panic:|^fatal error:|^testing: / { print }
	{ line[cur, n[cur]++] = $0 }
'
