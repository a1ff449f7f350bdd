package hlspull_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/recorder/hlspull"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
)

// The packager begins anew at segment 20: numbers, names or the clock start again.
func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name  string
		names string // of the second life
		dates bool
		clock bool // the clock begins anew too
	}{
		{"new names", "r%d.m4s", false, true},
		{"new names, same clock", "r%d.m4s", false, false},
		{"same names, dates", "s%d.m4s", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := &channel{window: 5, total: 40, dates: c.dates}
			second := func(n int) int { return n - 20 }
			ch.name = func(n int) string {
				if n >= 20 {
					return fmt.Sprintf(c.names, second(n))
				}
				return fmt.Sprintf("s%d.m4s", n)
			}
			r := vector(t, ch, hlspull.Config{}, 5*time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
				last := ch.last(at)
				if isList(r) {
					if last < 20 {
						return plain
					}
					list := ch.span(max(last-4, 20), last, last == ch.total-1)
					return ok(bytes.Replace(list, fmt.Appendf(nil, "SEQUENCE:%d\n", max(last-4, 20)), fmt.Appendf(nil, "SEQUENCE:%d\n", second(max(last-4, 20))), 1))
				}
				if strings.HasSuffix(r.URL.Path, "init.mp4") {
					return plain
				}
				n := number(strings.Replace(r.URL.Path, "/r", "/s", 1))
				clock := int64(0)
				if n >= 0 && last >= 20 && (strings.Contains(r.URL.Path, "/r") || c.names == "s%d.m4s" && n < 20) {
					n += 20
					if c.clock {
						clock = -40_000
					}
				}
				if n < 0 || n > last {
					return no(404)
				}
				return ok(segmentOf(n, vid|aud, clock, 1, 0))
			})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, 39))
			wantNoGap(t, r)
			var at []int
			for _, s := range r.seams[1:] {
				if s.Discontinuity {
					at = append(at, s.before)
				}
			}
			want := "[]"
			if c.clock {
				want = "[160]"
			}
			if got := fmt.Sprint(at); got != want {
				t.Errorf("discontinuities at %s, want %s", got, want)
			}
		})
	}
}

// How a stay ends when there is nothing more.
func TestEndings(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults func(r *http.Request, at time.Duration, plain reply) reply
		is     error
		code   int
		after  float64 // s
		before float64
	}{
		{"list stands still", func(r *http.Request, at time.Duration, plain reply) reply {
			if c := (&channel{window: 5}); isList(r) {
				return ok(c.list(min(at, 10*time.Second)))
			}
			return plain
		}, hlspull.ErrStill, 0, 20, 26},
		{"list stays empty", func(r *http.Request, at time.Duration, plain reply) reply {
			if isList(r) && at > 10*time.Second {
				return ok([]byte("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-ENDLIST\n"))
			}
			return plain
		}, hlspull.ErrEmpty, 0, 68, 80},
		{"all is gone", func(r *http.Request, at time.Duration, plain reply) reply {
			if at > 10*time.Second {
				return no(404)
			}
			return plain
		}, nil, 404, 13, 18},
		{"list fails", func(r *http.Request, at time.Duration, plain reply) reply {
			if isList(r) && at > 10*time.Second {
				return no(500)
			}
			return plain
		}, hlspull.ErrStill, 500, 20, 26},
		{"not there from the beginning", func(r *http.Request, at time.Duration, plain reply) reply { return no(404) }, nil, 404, 0, 1},
		{"a page from the beginning", func(r *http.Request, at time.Duration, plain reply) reply { return ok([]byte("<html>")) }, nil, 0, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := vector(t, &channel{window: 5, total: 0}, hlspull.Config{}, 5*time.Minute, c.faults)
			if errors.Is(r.err, hlspull.ErrEnd) || r.err == nil || c.is != nil && !errors.Is(r.err, c.is) {
				t.Errorf("ended with %v", r.err)
			}
			if s, ok := errors.AsType[*fetch.StatusError](r.err); c.code > 0 && (!ok || s.Code != c.code) {
				t.Errorf("ended with %v", r.err)
			}
			if r.took.Seconds() < c.after || r.took.Seconds() > c.before {
				t.Errorf("ended after %v", r.took)
			}
			if strings.Contains(r.err.Error(), "example") {
				t.Errorf("an address is told: %v", r.err)
			}
		})
	}
}

// Parts of a segment that was open when the stream ended are its only copy.
func TestPartsAtTheEnd(t *testing.T) {
	c := &channel{window: 5, total: 10}
	whole := segmentOf(10, vid|aud, 0, 1, 0)
	r := vector(t, c, hlspull.Config{}, time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
		if isList(r) && c.last(at) == 9 {
			plain.body = append(plain.body, "#EXT-X-PART:DURATION=1,URI=\"p1\"\n#EXT-X-PART:DURATION=1,URI=\"p2\"\n"...)
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "p1"):
			return ok(whole[:len(whole)/2])
		case strings.HasSuffix(r.URL.Path, "p2"):
			return ok(whole[len(whole)/2:])
		}
		return plain
	})
	wantEnd(t, r)
	wantVideo(t, r, segs(0, 10))
}
