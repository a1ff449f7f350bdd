package hlspull_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/recorder/hlspull"
)

func TestPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &channel{window: 5, total: 20}
		r := run(t, hlspull.Config{}, &origin{handle: c.serve(t)}, time.Hour)
		wantEnd(t, r)
		wantVideo(t, r, segs(0, 19))
		wantNoGap(t, r)
		if got := runs(r.sound); got != "0-399" {
			t.Errorf("sound %s", got)
		}
		if r.kinds[:4] != "jVAv" && r.kinds[:4] != "jVAa" || r.configs != 2 {
			t.Errorf("begins with %s, %d configs", r.kinds[:8], r.configs)
		}
		for i, s := range r.seams {
			if s.Discontinuity != (i == 0) {
				t.Errorf("seam %d: %+v", i, s)
			}
		}
		if r.count.Junk != 0 || r.count.Partial != 0 || r.count.Tags == 0 {
			t.Errorf("%+v", r.count)
		}
		if n := r.asks.asked(".m3u8"); n > 25 {
			t.Errorf("%d playlists were asked for in %v", n, r.took)
		}
	})
}

// vector runs one stream to its end in a bubble.
func vector(t *testing.T, c *channel, cfg hlspull.Config, limit time.Duration, faults func(r *http.Request, at time.Duration, plain reply) reply) *result {
	t.Helper()
	var r *result
	resume := faults != nil && limit < 0
	limit = max(limit, -limit)
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		serve := c.serve(t)
		c.base = time.Now()
		r = run(t, cfg, &origin{resume: resume, handle: func(req *http.Request, at time.Duration) reply {
			plain := serve(req, at)
			if faults == nil {
				return plain
			}
			return faults(req, at, plain)
		}}, limit)
	})
	return r
}

func isList(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, ".m3u8") }

// seconds reports whether at lies in [a, b).
func seconds(at time.Duration, a, b float64) bool { return at.Seconds() >= a && at.Seconds() < b }

func TestVectors(t *testing.T) {
	type vectorCase struct {
		name    string
		c       channel
		cfg     hlspull.Config
		faults  func(r *http.Request, at time.Duration, plain reply) reply
		want    string        // video; "": all of it
		gap     time.Duration // missing in all
		why     string        // a part of the first reason
		disc    int           // discontinuities behind the first Join
		configs int           // 0: 2
		err     string        // "": ErrEnd
		resume  bool
		check   func(t *testing.T, r *result)
	}
	tries := func() map[string]int { return map[string]int{} }
	var seen map[string]int
	for _, c := range []vectorCase{
		{name: "alternating edges", c: channel{window: 5, total: 20}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if c := (&channel{window: 5, total: 0}); isList(r) && int(at.Seconds()/0.7)%2 == 1 && at < 30*time.Second {
				return ok(c.list(max(at-4*time.Second, 0)))
			}
			return plain
		}},
		{name: "segment 404 for 3 s", c: channel{window: 5, total: 15}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n == 7 && at < 8*time.Second {
				return no(404)
			}
			return plain
		}},
		{name: "segment 404 for good", c: channel{window: 5, total: 15}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if number(r.URL.Path) == 7 {
				return no(404)
			}
			return plain
		}, want: segs(0, 6) + " " + segs(8, 14), gap: 2 * time.Second, why: "expired"},
		{name: "segment cut off twice", c: channel{window: 5, total: 12}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 5 && plain.status == 200 {
				if seen[r.URL.Path]++; seen[r.URL.Path] <= 2 {
					plain.cut = len(plain.body) * (n - 4) / 8
				}
			}
			return plain
		}},
		{name: "segment short with an honest length", c: channel{window: 5, total: 12}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 5 && plain.status == 200 {
				if seen[r.URL.Path]++; seen[r.URL.Path] <= 1 {
					plain.body = plain.body[:len(plain.body)-3]
				}
			}
			return plain
		}},
		{name: "a page instead of a segment", c: channel{window: 5, total: 12}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n == 6 && at < 6*time.Second {
				return ok([]byte("<html>no</html>"))
			} else if n == 7 && at < 6*time.Second {
				return ok(nil)
			} else if n == 8 && at < 9*time.Second {
				return no(500)
			}
			return plain
		}},
		{name: "checksum in the title", c: channel{window: 5, total: 12, tag: nil}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if isList(r) {
				for n := range 12 {
					b := segmentOf(n, vid|aud, 0, 1, 0)
					plain.body = bytes.ReplaceAll(plain.body, fmt.Appendf(nil, "2.0,\ns%d.m4s", n), fmt.Appendf(nil, "2.0,%x|%x\ns%d.m4s", len(b), crc32.ChecksumIEEE(b), n))
				}
			} else if n := number(r.URL.Path); n > 0 && n%3 == 0 {
				if seen[r.URL.Path]++; seen[r.URL.Path] <= 1 {
					plain.body[len(plain.body)-1] ^= 1
				}
			}
			return plain
		}},
		{name: "compressed without being asked", c: channel{window: 5, total: 10}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			plain.body = zip(plain.body)
			return plain
		}},
		{name: "reload blocked, numeric names", c: channel{window: 5, total: 60}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if isList(r) && seconds(at, 10, 60) {
				return no(500)
			}
			if n := number(r.URL.Path); n >= 0 && n <= int(at/segDur)+4 {
				return ok(segmentOf(n, vid|aud, 0, 1, 0)) // old files stay
			}
			return plain
		}, resume: true, configs: 4},
		{name: "list empty, and ended, for one reload", c: channel{window: 5, total: 20}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if isList(r) && seconds(at, 9, 12) {
				return ok([]byte("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-ENDLIST\n"))
			}
			return plain
		}},
		{name: "pages, huge lists, blank lines, marks and CR", c: channel{window: 6, total: 20}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if !isList(r) {
				return plain
			}
			switch int(at/segDur) % 6 {
			case 1:
				return ok([]byte("<html>"))
			case 2:
				return ok(bytes.Repeat([]byte("#EXTM3U\n#EXT-X-KEY:METHOD=NONE\n\n\n"), 700_000))
			case 3:
				return ok(append([]byte("\xef\xbb\xbf"), bytes.ReplaceAll(plain.body, []byte("\n"), []byte("\r"))...))
			case 4:
				return ok(bytes.ReplaceAll(plain.body, []byte("\n"), []byte("\n\n")))
			}
			return plain
		}},
		{name: "redirects in a circle, then not", c: channel{window: 5, total: 12}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if number(r.URL.Path) == 6 && at < 5*time.Second {
				return reply{to: r.URL.String()}
			}
			return plain
		}},
		{name: "stalled bodies and silent servers", c: channel{window: 8, total: 14}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 9 && n < 11 {
				if seen[r.URL.Path]++; seen[r.URL.Path] == 1 {
					plain.hang = n == 9
					plain.rate = 0
					if n == 10 {
						plain.rate = 1
					}
				}
			}
			return plain
		}},
		{name: "throttled", c: channel{window: 8, total: 14}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 8 && n%2 == 0 {
				if seen[r.URL.Path]++; seen[r.URL.Path] <= 2 {
					return reply{status: 429, header: http.Header{"Retry-After": {"2"}}}
				}
			}
			return plain
		}},
		{name: "discontinuity without a jump", c: channel{window: 5, total: 12, tag: func(n int) string {
			if n%3 == 0 {
				return "#EXT-X-DISCONTINUITY\n"
			}
			return ""
		}}},
		{name: "clock jumps without a tag", c: channel{window: 5, total: 12}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 6 && plain.status == 200 {
				plain.body = segmentOf(n, vid|aud, 3_600_000, 1, 0)
			}
			return plain
		}, disc: 1},
		{name: "32-bit clock wraps", c: channel{window: 5, total: 12}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
				plain.body = segmentOf(n, vid|aud, 1<<32-9_000, 0, 0)
			}
			return plain
		}, check: func(t *testing.T, r *result) {
			for i, d := range r.dts[vid][1:] {
				if step := d - r.dts[vid][i]; step != 250*time.Millisecond {
					t.Errorf("frame %d: %v", i+1, step)
				}
			}
		}},
		{name: "segment declared missing", c: channel{window: 5, total: 12, tag: func(n int) string {
			if n == 7 {
				return "#EXT-X-GAP\n"
			}
			return ""
		}}, want: segs(0, 6) + " " + segs(8, 11), gap: 2 * time.Second, why: "declared"},
		{name: "places that nobody may be led to", c: channel{window: 5, total: 12, name: func(n int) string {
			switch n {
			case 6:
				return "file:///etc/passwd"
			case 7:
				return "http://127.0.0.1/s7.m4s"
			case 8:
				return "http://10.1.2.3/s8.m4s"
			case 9:
				return "http://[::1]/s9.m4s"
			}
			return fmt.Sprintf("s%d.m4s", n)
		}}, want: segs(0, 5) + " " + segs(10, 11), gap: 8 * time.Second, why: "not asked", check: func(t *testing.T, r *result) {
			for _, host := range []string{"127.0.0.1", "10.1.2.3", "::1"} {
				if r.asks.asked(host) > 0 {
					t.Errorf("%s was asked", host)
				}
			}
		}},
		{name: "a segment that never ends", c: channel{window: 5, total: 12}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if number(r.URL.Path) == 7 {
				plain.length = 1 << 40
			}
			return plain
		}, want: segs(0, 6) + " " + segs(8, 11), gap: 2 * time.Second, why: "larger"},
		{name: "a bomb", c: channel{window: 5, total: 12}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if number(r.URL.Path) == 7 {
				return ok(bomb())
			}
			return plain
		}, want: segs(0, 6) + " " + segs(8, 11), gap: 2 * time.Second, why: "larger"},
		{name: "init is corrupt at first", c: channel{window: 5, total: 12}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if strings.HasSuffix(r.URL.Path, "init.mp4") && at < 2*time.Second {
				return ok(bytes.ReplaceAll(plain.body, []byte("stsd"), []byte("stsx")))
			}
			return plain
		}},
		{name: "init sent again with another time", c: channel{window: 5, total: 12, head: "#EXT-X-INDEPENDENT-SEGMENTS\n", tag: func(n int) string {
			return fmt.Sprintf("#EXT-X-MAP:URI=\"init.mp4?%d\"\n", n)
		}}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if strings.HasSuffix(r.URL.Path, "init.mp4") {
				return ok(initSection(nil, vid|aud, uint32(at/time.Second)+7, 0x14))
			}
			return plain
		}},
		{name: "init changes", c: channel{window: 5, total: 12, head: "#EXT-X-INDEPENDENT-SEGMENTS\n", tag: func(n int) string {
			return fmt.Sprintf("#EXT-X-MAP:URI=\"%d/init.mp4\"\n", n/6)
		}}, faults: func(r *http.Request, at time.Duration, plain reply) reply {
			if strings.HasSuffix(r.URL.Path, "1/init.mp4") {
				return ok(initSection(nil, vid|aud, 0, 0x1e))
			}
			return plain
		}, configs: 3},
		{name: "same content under two names", c: channel{window: 5, total: 12, name: func(n int) string {
			if n == 7 {
				n = 6
			}
			return fmt.Sprintf("x%d/s%d.m4s", n, n)
		}}, want: segs(0, 6) + " " + segs(8, 11), disc: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen = tries()
			limit := 5 * time.Minute
			if c.resume {
				limit = -limit
			}
			r := vector(t, &c.c, c.cfg, limit, c.faults)
			switch c.err {
			case "":
				wantEnd(t, r)
			case "-":
			default:
				if r.err == nil || !strings.Contains(r.err.Error(), c.err) {
					t.Errorf("ended with %v", r.err)
				}
			}
			want := c.want
			if want == "" {
				want = segs(0, c.c.total-1)
			}
			wantVideo(t, r, want)
			d, why := r.gaps()
			if d != c.gap || c.gap > 0 && !strings.Contains(why[0], c.why) {
				t.Errorf("%v missing, want %v: %q", d, c.gap, why)
			}
			disc := -1
			for _, s := range r.seams {
				if s.Discontinuity {
					disc++
				}
			}
			if c.disc >= 0 && disc != c.disc {
				t.Errorf("%d discontinuities, want %d", disc, c.disc)
			}
			if n := max(c.configs, 2); r.configs != n {
				t.Errorf("%d configurations, want %d", r.configs, n)
			}
			if c.check != nil {
				c.check(t, r)
			}
		})
	}
}

// bomb is little that becomes 40 MiB.
var bomb = sync.OnceValue(func() []byte { return zip(make([]byte, 40<<20)) })

func zip(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}
