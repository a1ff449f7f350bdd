package hlspull

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// expiryKeys are the names under which a URL says until when it holds, in seconds since 1970; decimal, those of wsTime
// and txTime in hex.
var expiryKeys = map[string]int{
	"expires": 10, "expire": 10, "exp": 10, "e": 10, "deadline": 10, "expiry": 10, "validto": 10, "expiration": 10, "x-expires": 10,
	"wstime": 16, "txtime": 16, "token_expires": 10, "hls_expires": 10,
}

// expiry is when a URL stops to hold, if it says so: in its query, or in its path as /expire/123/ or /exp=123~…/. Times
// that are past, or more than a month ahead, say something else.
func expiry(raw string, now time.Time) (time.Time, bool) {
	u, err := url.Parse(raw)
	if err != nil {
		return time.Time{}, false
	}
	var best time.Time
	offer := func(key, value string) {
		base, known := expiryKeys[strings.ToLower(key)]
		if !known {
			return
		}
		n, err := strconv.ParseInt(value, base, 64)
		if err != nil {
			return
		}
		if n > 1e12 {
			n /= 1000 // ms
		}
		if t := time.Unix(n, 0); t.After(now) && t.Before(now.Add(31*24*time.Hour)) && (best.IsZero() || t.Before(best)) {
			best = t
		}
	}
	inner := func(s string) { // exp=1~acl=/*~hmac=…
		for f := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '~' || r == '!' || r == ',' || r == ';' }) {
			if k, v, ok := strings.Cut(f, "="); ok {
				offer(k, v)
			}
		}
	}
	for k, vs := range u.Query() {
		for _, v := range vs {
			offer(k, v)
			inner(v)
		}
	}
	if q := u.Query(); q.Get("X-Amz-Date") != "" {
		if t, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date")); err == nil {
			if n, err := strconv.Atoi(q.Get("X-Amz-Expires")); err == nil {
				offer("exp", strconv.FormatInt(t.Unix()+int64(n), 10))
			}
		}
	}
	parts := strings.Split(u.Path, "/")
	for i, p := range parts {
		inner(p)
		if i+1 < len(parts) {
			offer(p, parts[i+1])
		}
	}
	return best, !best.IsZero()
}
