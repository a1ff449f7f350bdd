package hlspull_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/recorder/hlspull"
)

func encrypt(t testing.TB, b, key []byte, iv [16]byte) []byte {
	t.Helper()
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	pad := 16 - len(b)%16
	b = append(bytes.Clone(b), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(c, iv[:]).CryptBlocks(b, b)
	return b
}

func vector128(n int) (iv [16]byte) {
	binary.BigEndian.PutUint64(iv[8:], uint64(n))
	return iv
}

func keyOf(n int) []byte { return fmt.Appendf(nil, "key number %05d", n)[:16] }

// Keys change every three segments; what else happens to them is the case's.
func TestKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		key  func(n int, at time.Duration) reply
		iv   func(n int) int // that segment n is encrypted with
		attr string
		want string
		gap  time.Duration
		why  string
	}{
		{name: "rotation"},
		{name: "key server 500 for 10 s", key: func(n int, at time.Duration) reply {
			if seconds(at, 3, 13) {
				return no(500)
			}
			return ok(keyOf(n))
		}},
		{name: "numbers that are off", iv: func(n int) int { return n + 7 }},
		{name: "said vector", attr: ",IV=0x000000000000000000000000000003E8", iv: func(int) int { return 1000 }},
		{name: "17 bytes", key: func(n int, _ time.Duration) reply {
			if n == 2 {
				return ok(append(keyOf(n), 0))
			}
			return ok(keyOf(n))
		}, want: segs(0, 5) + " " + segs(9, 14), gap: 6 * time.Second, why: "17 bytes"},
		{name: "another key at first", key: func(n int, at time.Duration) reply {
			if n == 3 && at < 12*time.Second {
				return ok(keyOf(77))
			}
			return ok(keyOf(n))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.iv == nil {
				c.iv = func(n int) int { return n + 40 }
			}
			ch := &channel{window: 5, total: 15, msn: 40, head: "#EXT-X-MAP:URI=\"init.mp4\"\n", tag: func(n int) string {
				return fmt.Sprintf("#EXT-X-KEY:METHOD=AES-128,URI=\"key%d\"%s\n", n/3, c.attr)
			}}
			if c.name == "numbers that are off" {
				c.iv = func(n int) int { return n + 47 }
			}
			want := c.want
			if want == "" {
				want = segs(0, 14)
			}
			r := vector(t, ch, hlspull.Config{}, 5*time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
				if _, k, ok2 := strings.Cut(r.URL.Path, "/key"); ok2 {
					n, _ := strconv.Atoi(k)
					if c.key != nil {
						return c.key(n, at)
					}
					return ok(keyOf(n))
				}
				if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
					plain.body = encrypt(t, plain.body, keyOf(n/3), vector128(c.iv(n)))
				}
				return plain
			})
			wantEnd(t, r)
			wantVideo(t, r, want)
			if d, why := r.gaps(); d != c.gap || c.gap > 0 && !strings.Contains(why[0], c.why) {
				t.Errorf("%v missing: %q", d, why)
			}
		})
	}
}

// Keys that stand in the list itself, and initialisation sections that are encrypted: with a vector, or against the rules
// without one.
func TestKeysInside(t *testing.T) {
	for _, c := range []struct {
		name, attr string
		iv         int // of the section
		said       bool
	}{{"said vector", ",IV=0x07", 7, true}, {"none, and it is zero", "", 0, false}, {"none, and it is a number", "", 42, false}} {
		t.Run(c.name, func(t *testing.T) {
			uri := "data:;base64," + base64.StdEncoding.EncodeToString(keyOf(1))
			ch := &channel{window: 5, total: 10, msn: 40, head: fmt.Sprintf("#EXT-X-KEY:METHOD=AES-128,URI=%q%s\n#EXT-X-MAP:URI=\"init.mp4\"\n", uri, c.attr)}
			r := vector(t, ch, hlspull.Config{}, 2*time.Minute, func(r *http.Request, _ time.Duration, plain reply) reply {
				if strings.HasSuffix(r.URL.Path, "init.mp4") {
					plain.body = encrypt(t, plain.body, keyOf(1), vector128(c.iv))
				} else if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
					iv := n + 40
					if c.said {
						iv = 7
					}
					plain.body = encrypt(t, plain.body, keyOf(1), vector128(iv))
				}
				return plain
			})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, 9))
			wantNoGap(t, r)
		})
	}
}

// What a multivariant list defines is known in the list that it leads to.
func TestImport(t *testing.T) {
	c := &channel{window: 5, total: 10, head: "#EXT-X-DEFINE:IMPORT=\"token\"\n#EXT-X-MAP:URI=\"init.mp4?t={$token}\"\n",
		name: func(n int) string { return fmt.Sprintf("s%d.m4s?t={$token}", n) }}
	r := vector(t, c, hlspull.Config{URL: "http://a.example/live/all.m3u8"}, time.Minute, func(r *http.Request, _ time.Duration, plain reply) reply {
		switch {
		case strings.HasSuffix(r.URL.Path, "/all.m3u8"):
			return ok([]byte("#EXTM3U\n#EXT-X-DEFINE:NAME=\"token\",VALUE=\"abc\"\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nlist.m3u8\n"))
		case !strings.HasSuffix(r.URL.Path, ".m3u8") && r.URL.Query().Get("t") != "abc":
			return no(403)
		}
		return plain
	})
	wantEnd(t, r)
	wantVideo(t, r, segs(0, 9))
	wantNoGap(t, r)
}

func TestSampleAES(t *testing.T) {
	c := &channel{window: 5, total: 8, tag: func(n int) string {
		if n == 3 {
			return "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://x\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n"
		}
		return ""
	}}
	r := vector(t, c, hlspull.Config{}, time.Minute, nil)
	wantEnd(t, r)
	wantVideo(t, r, segs(0, 2))
	if d, why := r.gaps(); d != 10*time.Second || !strings.Contains(why[0], "SAMPLE-AES") {
		t.Errorf("%v missing: %q", d, why)
	}
}

// One resource grows, and its segments are ranges of it. What the server answers to a range is its own affair.
func TestRanges(t *testing.T) {
	for _, mode := range []string{"206", "200", "wider", "other at first", "no offsets"} {
		t.Run(mode, func(t *testing.T) {
			all := initSection(t, vid|aud, 0, 0x14)
			head := len(all)
			var at []int
			for n := range 20 {
				at = append(at, len(all))
				all = append(all, segmentOf(n, vid|aud, 0, 1, 0)...)
			}
			at = append(at, len(all))
			c := &channel{window: 5, total: 20, head: fmt.Sprintf("#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"%d@0\"\n", head),
				name: func(int) string { return "all.mp4" }}
			c.tag = func(n int) string {
				if mode == "no offsets" && n > 0 && n%7 != 4 {
					return fmt.Sprintf("#EXT-X-BYTERANGE:%d\n", at[n+1]-at[n])
				}
				return fmt.Sprintf("#EXT-X-BYTERANGE:%d@%d\n", at[n+1]-at[n], at[n])
			}
			tries := 0
			r := vector(t, c, hlspull.Config{}, 5*time.Minute, func(r *http.Request, now time.Duration, plain reply) reply {
				if isList(r) {
					return plain
				}
				grown := all[:at[c.last(now)+1]]
				var a, b int
				if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &a, &b); err != nil || b >= len(grown) {
					return no(416)
				}
				tries++
				switch {
				case mode == "200":
					return ok(grown)
				case mode == "wider":
					b, a = min(b+10, len(grown)-1), max(a-5, 0)
				case mode == "other at first" && tries%3 == 1:
					a, b = a+1, b+1
					b = min(b, len(grown)-1)
				}
				return reply{status: 206, body: grown[a : b+1], header: http.Header{"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", a, b, len(grown))}}}
			})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, 19))
			wantNoGap(t, r)
		})
	}
}

// Blocking reload brings the same as plain polling; a server that fails at it is polled.
func TestLowLatency(t *testing.T) {
	for _, mode := range []string{"blocks", "503", "hangs", "answers at once", "delta"} {
		t.Run(mode, func(t *testing.T) {
			window := 5
			if mode == "delta" {
				window = 600
			}
			c := &channel{window: window, total: window + 30, head: "#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=24\n"}
			if mode == "delta" {
				c.head = strings.Replace(c.head, "CAN-BLOCK-RELOAD=YES,", "", 1)
			}
			blocked, skipped := 0, 0
			r := vector(t, c, hlspull.Config{}, 5*time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
				if n := number(r.URL.Path); n >= 0 {
					return ok(segmentOf(n, vid, 0, 1, 0))
				}
				if strings.HasSuffix(r.URL.Path, "init.mp4") {
					return ok(initSection(t, vid, 0, 0x14))
				}
				if !isList(r) {
					return plain
				}
				hint := fmt.Sprintf("#EXT-X-PART:DURATION=0.5,URI=\"p%d\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"never\"\n", c.last(at)+1)
				last := c.last(at)
				if r.URL.Query().Get("_HLS_skip") == "YES" {
					skipped++
					list := string(c.span(last-9, last, c.total == last+1))
					list = strings.Replace(list, fmt.Sprintf("SEQUENCE:%d\n", last-9), fmt.Sprintf("SEQUENCE:%d\n#EXT-X-SKIP:SKIPPED-SEGMENTS=%d\n", last-c.window+1, c.window-10), 1)
					return ok([]byte(list))
				}
				if last < c.total-1 {
					plain.body = append(plain.body, hint...)
				}
				msn, err := strconv.Atoi(r.URL.Query().Get("_HLS_msn"))
				if err != nil {
					return plain
				}
				blocked++
				if msn <= last || msn >= c.total {
					return plain
				}
				ready := time.Duration(msn+1-c.window)*segDur - at
				switch mode {
				case "503":
					return reply{status: 503, after: min(ready, time.Second)}
				case "hangs":
					return reply{hang: true}
				case "answers at once":
					return plain
				}
				done := c.list(at + ready)
				return reply{status: 200, body: done, after: ready}
			})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, c.total-1))
			wantNoGap(t, r)
			switch {
			case mode == "blocks" && (blocked < 25 || r.asks.asked(".m3u8") > 40):
				t.Errorf("%d blocking reloads of %d", blocked, r.asks.asked(".m3u8"))
			case mode != "blocks" && mode != "delta" && (blocked == 0 || blocked > 4):
				t.Errorf("%d blocking reloads", blocked)
			case mode == "delta" && skipped < 10:
				t.Errorf("%d deltas", skipped)
			}
			if n := r.asks.asked("never"); n > 0 {
				t.Error("a hint was followed")
			}
		})
	}
}

func TestAds(t *testing.T) {
	for _, keep := range []bool{false, true} {
		c := &channel{window: 6, total: 20, dates: true}
		c.tag = func(n int) string {
			if n == 8 || n == 11 {
				return "#EXT-X-DISCONTINUITY\n"
			}
			return ""
		}
		r := vector(t, c, hlspull.Config{Ads: keep}, 5*time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
			if isList(r) && c.last(at) >= 8 {
				c.head = fmt.Sprintf("#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-DATERANGE:ID=\"stitched-ad-1\",CLASS=\"twitch-stitched-ad\",START-DATE=%q,DURATION=6.0\n",
					c.base.Add(8*segDur).Format(time.RFC3339Nano))
				return ok(c.list(at))
			}
			return plain
		})
		wantEnd(t, r)
		if keep {
			wantVideo(t, r, segs(0, 19))
			wantNoGap(t, r)
			continue
		}
		wantVideo(t, r, segs(0, 7)+" "+segs(11, 19))
		if d, why := r.gaps(); d != 6*time.Second || why[0] != hlspull.WhyAd {
			t.Errorf("%v missing: %q", d, why)
		}
		if n := r.asks.asked("s9.m4s"); n != 0 {
			t.Errorf("advertising was fetched %d times", n)
		}
	}
}

// The token of a master list dies after 60 s, and changes at each reload of the room.
func TestExpiry(t *testing.T) {
	for _, said := range []bool{true, false} {
		t.Run(fmt.Sprintf("said %v", said), func(t *testing.T) {
			c := &channel{window: 5, total: 100}
			tokens := map[string]time.Duration{}
			var renewals []time.Duration
			r := vector(t, c, hlspull.Config{URL: "http://a.example/room.m3u8"}, 10*time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
				if strings.HasSuffix(r.URL.Path, "room.m3u8") {
					renewals = append(renewals, at)
					token := fmt.Sprintf("t%d", len(renewals))
					tokens[token] = at + time.Minute
					query := "token=" + token
					if said {
						query += fmt.Sprintf("&expires=%d", c.base.Add(at+time.Minute).Unix())
					}
					return ok([]byte("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nlive/index.m3u8?" + query + "\n"))
				}
				token := r.URL.Query().Get("token")
				if isList(r) {
					if at >= tokens[token] {
						return no(403)
					}
					return ok(bytes.ReplaceAll(plain.body, []byte(".m4s"), []byte(".m4s?token="+token)))
				}
				if n := number(r.URL.Path); n >= 0 && at >= tokens[token] {
					return no(403)
				}
				return plain
			})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, 99))
			wantNoGap(t, r)
			if len(renewals) < 4 {
				t.Fatalf("renewed at %v", renewals)
			}
			for i, at := range renewals[1:] {
				if d := at - renewals[i]; said && (d < 47*time.Second || d > 49*time.Second) {
					t.Errorf("renewed after %v", d)
				}
			}
			if n := r.asks.asked("403"); n > 0 {
				t.Error(n)
			}
		})
	}
}

const twoHosts = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=640x360\nhttp://one.example/live/index.m3u8\n" +
	"#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=640x360\nhttp://two.example/live/index.m3u8\n"

// The first of two hosts does what the case says.
func TestHosts(t *testing.T) {
	for _, c := range []struct {
		name string
		one  func(r *http.Request, at time.Duration, plain reply) reply
	}{
		{"lists fail", func(r *http.Request, at time.Duration, plain reply) reply {
			if isList(r) && at > 10*time.Second {
				return no(502)
			}
			return plain
		}},
		{"lists hang", func(r *http.Request, at time.Duration, plain reply) reply {
			if isList(r) && at > 10*time.Second {
				return reply{hang: true}
			}
			return plain
		}},
		{"lists stand still", func(r *http.Request, at time.Duration, plain reply) reply {
			if c := (&channel{window: 10}); isList(r) && at > 10*time.Second {
				return ok(c.list(10 * time.Second))
			}
			return plain
		}},
		{"old copies", func(r *http.Request, at time.Duration, plain reply) reply {
			if c := (&channel{window: 10}); isList(r) && at > 10*time.Second {
				return ok(c.list(at - 8*time.Second))
			}
			return plain
		}},
		{"segments fail", func(r *http.Request, at time.Duration, plain reply) reply {
			if number(r.URL.Path) > 0 && at > 10*time.Second {
				return no(500)
			}
			return plain
		}},
		{"segments come too slowly", func(r *http.Request, at time.Duration, plain reply) reply {
			if number(r.URL.Path) > 0 && at > 10*time.Second {
				plain.rate = len(plain.body) / 8
			}
			return plain
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := &channel{window: 10, total: 45}
			r := vector(t, ch, hlspull.Config{URL: "http://a.example/room.m3u8"}, 5*time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
				if strings.HasSuffix(r.URL.Path, "room.m3u8") {
					return ok([]byte(twoHosts))
				}
				if r.URL.Host == "one.example" {
					return c.one(r, at, plain)
				}
				return plain
			})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, 44))
			wantNoGap(t, r)
			if r.asks.asked("two.example") == 0 {
				t.Error("the second host was not asked")
			}
		})
	}
}

// Separate sound, numbered one off, with two of its segments missing.
func TestSeparateSound(t *testing.T) {
	for _, c := range []struct {
		name  string
		shift int64 // ms, of the sound's clock
		dates bool
		fail  bool
		anew  int64 // ms, of both clocks from segment 10 on
	}{
		{"one clock", 0, false, false, 0}, {"404 for two segments", 0, false, true, 0}, {"another clock, dates", 500_000, true, false, 0},
		{"another clock, no dates", 700_000, false, false, 0}, {"both begin anew", 100_000, false, false, -20_000}, {"both jump ahead", 0, false, false, 3_600_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := &channel{window: 5, total: 20, msn: 100, dates: c.dates}
			a := &channel{window: 5, total: 20, msn: 101, dates: c.dates, head: "#EXT-X-MAP:URI=\"sound-init.mp4\"\n"}
			if c.anew != 0 {
				v.tag = func(n int) string {
					if n == 10 {
						return "#EXT-X-DISCONTINUITY\n"
					}
					return ""
				}
				a.tag = v.tag
			}
			clock := func(n int) int64 {
				if n >= 10 {
					return c.anew
				}
				return 0
			}
			r := vector(t, v, hlspull.Config{URL: "http://a.example/room.m3u8"}, 5*time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
				a.base = v.base
				n := number(r.URL.Path)
				sound := strings.Contains(r.URL.Path, "/sound/")
				switch {
				case strings.HasSuffix(r.URL.Path, "room.m3u8"):
					return ok([]byte("#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",NAME=\"x\",DEFAULT=YES,URI=\"sound/index.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1000,AUDIO=\"g\"\nlive/index.m3u8\n"))
				case strings.HasSuffix(r.URL.Path, "sound-init.mp4"):
					return ok(initSection(t, aud, 0, 0))
				case strings.HasSuffix(r.URL.Path, "init.mp4"):
					return ok(initSection(t, vid, 0, 0x14))
				case isList(r) && sound:
					return ok(a.list(at))
				case n >= 0 && sound && plain.status == 200:
					if c.fail && (n == 9 || n == 10) {
						return no(404)
					}
					plain.body = segmentOf(n, aud, c.shift+clock(n), 1, 0)
				case n >= 0 && plain.status == 200:
					plain.body = segmentOf(n, vid, clock(n), 1, 0)
				}
				return plain
			})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, 19))
			want, gaps := "0-399", 0
			if c.fail {
				want, gaps = "0-179 220-399", 2
			}
			if got := runs(r.sound); got != want {
				t.Errorf("sound %s, want %s", got, want)
			}
			n := 0
			for _, s := range r.seams {
				if s.Missing > 0 {
					n++
					if s.Missing != segDur || !strings.HasPrefix(s.Why, "sound: expired") || s.before != 72 && s.before != 80 {
						t.Errorf("%+v", s)
					}
				}
			}
			if n != gaps {
				t.Errorf("%d gaps, want %d", n, gaps)
			}
			for i, ord := range r.sound {
				moved := time.Duration(clock(ord/20)) * time.Millisecond
				if d := r.dts[aud][i] - time.Duration(ord)*time.Second/soundRate - moved; d.Abs() > time.Second/soundRate {
					t.Fatalf("sound %d is off by %v", ord, d)
				}
			}
			lag := 0
			for i, k := range r.kinds {
				_ = i
				if k == 'v' {
					lag++
				} else if k == 'a' {
					lag = 0
				}
				if lag > 9 && !c.fail {
					t.Fatalf("not interleaved: %s", r.kinds[max(0, i-40):i])
				}
			}
			if r.configs != 2 {
				t.Errorf("%d configurations", r.configs)
			}
		})
	}
}

// The server keeps what has left the list for so long only: that much is fetched, and what is older is asked for in vain
// a few times at most.
func TestBackfillUntilItIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ch := &channel{window: 5, total: 900}
		serve := ch.serve(t)
		vain := 0
		o := &origin{begun: time.Now(), handle: func(r *http.Request, at time.Duration) reply {
			plain := serve(r, at)
			if n := number(r.URL.Path); n >= 0 {
				if n > ch.last(at) || n < ch.last(at)-100 {
					vain++
					return no(404)
				}
				return ok(segmentOf(n, vid|aud, 0, 1, 0))
			}
			return plain
		}}
		res := &result{asks: o}
		for i, limit := range []time.Duration{11 * time.Second, time.Hour} {
			s, err := hlspull.New(hlspull.Config{URL: "http://a.example/live/index.m3u8", Transport: o, Place: res.place})
			if err != nil {
				t.Fatal(err)
			}
			drive(t, s, res, limit)
			if i == 0 {
				time.Sleep(1000 * time.Second) // 500 segments
			}
		}
		wantEnd(t, res)
		var a, b, c, d int
		fmt.Sscanf(runs(res.video), "%d-%d %d-%d", &a, &b, &c, &d)
		if a != 0 || b != 79 || d != 7199 || (c/8 < 409-2 || c/8 > 411) {
			t.Errorf("video %s", runs(res.video))
		}
		if gap, _ := res.gaps(); gap != time.Duration(c/8-10)*segDur {
			t.Errorf("%v missing", gap)
		}
		if vain > 20 {
			t.Errorf("%d requests in vain", vain)
		}
	})
}

// A restart goes on behind its place: what is written is not fetched again, what was missed is fetched by its name.
func TestResume(t *testing.T) {
	for _, c := range []struct {
		name  string
		away  time.Duration
		names bool // numeric
		dates bool
		gap   time.Duration
	}{
		{"inside the window", 4 * time.Second, true, false, 0},
		{"beyond it, numeric names", 40 * time.Second, true, false, 0},
		{"beyond it, other names, dates", 40 * time.Second, false, true, 30 * time.Second},
		{"beyond it, other names", 40 * time.Second, false, false, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ch := &channel{window: 5, total: 60, dates: c.dates, base: time.Now()}
				if !c.names {
					ch.name = func(n int) string { return fmt.Sprintf("%x/s%d.m4s", n*7919%4096, n) }
				}
				serve := ch.serve(t)
				o := &origin{begun: time.Now(), handle: func(r *http.Request, at time.Duration) reply {
					if n := number(r.URL.Path); n >= 0 && n <= ch.last(at) {
						return ok(segmentOf(n, vid|aud, 0, 1, 0))
					}
					return serve(r, at)
				}}
				res := &result{asks: o}
				begin := func(place []byte) *hlspull.Source {
					s, err := hlspull.New(hlspull.Config{URL: "http://a.example/live/index.m3u8", Transport: o, Place: place})
					if err != nil {
						t.Fatal(err)
					}
					return s
				}
				drive(t, begin(nil), res, 11*time.Second)
				if !errors.Is(res.err, context.DeadlineExceeded) {
					t.Fatal(res.err)
				}
				wantVideo(t, res, segs(0, 9))
				time.Sleep(c.away)
				joins := len(res.seams)
				drive(t, begin(res.place), res, 5*time.Minute)
				wantEnd(t, res)
				want := segs(0, 59)
				if c.gap > 0 {
					want = segs(0, 9) + " " + segs(25, 59)
				}
				wantVideo(t, res, want)
				if d, why := res.gaps(); d != c.gap {
					t.Errorf("%v missing: %q", d, why)
				}
				for _, s := range res.seams[joins:] {
					if s.Discontinuity {
						t.Errorf("a discontinuity after %d frames", s.before)
					}
				}
				for n := range 10 {
					if asked := o.asked(fmt.Sprintf("s%d.m4s", n)); asked > 1 {
						t.Errorf("segment %d was fetched %d times", n, asked)
					}
				}
			})
		})
	}
}
