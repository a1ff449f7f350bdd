package hlspull_test

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/mpegts"
	"github.com/liverec/liverec/recorder/hlspull"
)

// tsSegment is segment n as a transport stream of its own. at is added to its clock.
func tsSegment(t testing.TB, n int, at time.Duration, salt byte) []byte {
	t.Helper()
	avcC := append([]byte{1, 0x64, 0, 0x0c, 0xff, 0xe1}, sps(t, 0x0c)...)
	avcC = append(append(avcC, 1, 0, 5), unhex(t, "68ebecb22c")...)
	return tsSegmentOf(t, n, at, salt, &mpegts.Track{Codec: media.AVC, Config: avcC}, &mpegts.Track{Codec: media.AAC, Config: []byte{0x11, 0x90}})
}

// tsSegmentOf is one of these tracks.
func tsSegmentOf(t testing.TB, n int, at time.Duration, salt byte, video, sound *mpegts.Track) []byte {
	t.Helper()
	m, err := mpegts.NewMuxer(mpegts.Config{Video: video, Audio: sound})
	if err != nil {
		t.Fatal(err)
	}
	key, other := []byte{0x65, 0x88, salt}, []byte{0x41, 0x88, salt}
	if video.Codec == media.HEVC {
		key, other = []byte{0x26, 1, 0x88, salt}, []byte{0x02, 1, 0x88, salt}
	}
	b := m.Head()
	per := int(segDur/time.Second) * videoRate
	for i := range per {
		ord := n*per + i
		nal := other
		if i == 0 {
			nal = key
		}
		body := append(nal[:len(nal):len(nal)], fmt.Sprintf("v%08d", ord)...)
		if err := m.Add(mpegts.Sample{Video: true, Key: i == 0, Time: at + time.Duration(ord)*time.Second/videoRate, Data: append(u32(uint32(len(body))), body...)}); err != nil {
			t.Fatal(err)
		}
		for k := range 2 * soundRate / per / 1 {
			a := n*2*soundRate + i*(2*soundRate/per) + k
			if err := m.Add(mpegts.Sample{Key: true, Time: at + time.Duration(a)*time.Second/soundRate, Data: append([]byte{0x21, salt}, fmt.Sprintf("a%08d", a)...)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m.Flush(b)
}

// Rows of the catalogue that no other test names.
func TestRows(t *testing.T) {
	var cookies, conditional int
	for _, c := range []struct {
		name   string
		c      channel
		faults func(t *testing.T, c *channel, r *http.Request, at time.Duration, plain reply) reply
		want   string
		gap    time.Duration
		check  func(t *testing.T, r *result)
	}{
		{name: "P10 target duration of 60 s", c: channel{window: 5, total: 20}, faults: func(_ *testing.T, _ *channel, r *http.Request, _ time.Duration, plain reply) reply {
			plain.body = bytes.Replace(plain.body, []byte("DURATION:2\n"), []byte("DURATION:60\n"), 1)
			return plain
		}},
		{name: "P10 target duration of 0", c: channel{window: 5, total: 20}, faults: func(_ *testing.T, _ *channel, r *http.Request, _ time.Duration, plain reply) reply {
			plain.body = bytes.Replace(plain.body, []byte("DURATION:2\n"), []byte("DURATION:0\n"), 1)
			return plain
		}, check: func(t *testing.T, r *result) {
			if n := r.asks.asked(".m3u8"); n > 40 {
				t.Errorf("%d lists in %v", n, r.took)
			}
		}},
		{name: "P14 redirected to another host, with a cookie", c: channel{window: 5, total: 12}, faults: func(_ *testing.T, _ *channel, r *http.Request, _ time.Duration, plain reply) reply {
			if r.URL.Host == "a.example" {
				return reply{to: "https://edge7.example" + r.URL.Path, header: http.Header{"Set-Cookie": {"s=1; Domain=example; Path=/"}}}
			}
			if isList(r) && plain.header == nil {
				plain.header = http.Header{"Set-Cookie": {"e=2; Path=/"}}
			}
			if strings.Contains(r.Header.Get("Cookie"), "e=2") {
				cookies++
			}
			return plain
		}, check: func(t *testing.T, r *result) {
			if cookies < 12 {
				t.Errorf("the cookie came %d times", cookies)
			}
			if n := r.asks.asked("a.example /live/s"); n > 0 {
				t.Errorf("%d segments were asked at the first host", n)
			}
		}},
		{name: "P15 not modified", c: channel{window: 5, total: 12}, faults: func(_ *testing.T, c *channel, r *http.Request, at time.Duration, plain reply) reply {
			if !isList(r) {
				return plain
			}
			tag := fmt.Sprintf(`"%d"`, c.last(at))
			if r.Header.Get("If-None-Match") != "" {
				conditional++
			}
			if r.Header.Get("If-None-Match") == tag {
				return reply{status: 304}
			}
			plain.header = http.Header{"Etag": {tag}}
			return plain
		}, check: func(t *testing.T, r *result) {
			if conditional == 0 {
				t.Error("no request was conditional")
			}
		}},
		{name: "P13 the playlist instead of a segment, at first", c: channel{window: 5, total: 12}, faults: func(_ *testing.T, c *channel, r *http.Request, at time.Duration, plain reply) reply {
			if number(r.URL.Path) == 6 && at < 5*time.Second {
				return ok(c.list(at))
			}
			return plain
		}},
		{name: "G4 torn at the source for good", c: channel{window: 5, total: 12}, faults: func(t *testing.T, _ *channel, r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
				plain.body = tsSegment(t, n, time.Minute, 0)
				if n == 7 {
					plain.body = plain.body[:len(plain.body)/188/2*188+100]
				}
			}
			return plain
		}, want: "-", gap: -1, check: func(t *testing.T, r *result) {
			if d, why := r.gaps(); d != time.Duration(96-len(r.video))*time.Second/videoRate || why[0] != hlspull.WhyCorrupt {
				t.Errorf("%v missing of %s: %q", d, runs(r.video), why)
			}
			got := runs(r.video)
			if !strings.HasPrefix(got, "0-5") || !strings.HasSuffix(got, " 64-95") || len(r.video) < 89 {
				t.Errorf("video %s", got)
			}
		}},
		{name: "G6 transport stream behind a picture", c: channel{window: 5, total: 12, head: "#\n"}, faults: func(t *testing.T, _ *channel, r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
				plain.body = append(append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 130)...), tsSegment(t, n, time.Minute, 0)...)
			}
			return plain
		}},
		{name: "G11 a transport stream wraps", c: channel{window: 5, total: 12, head: "#\n"}, faults: func(t *testing.T, _ *channel, r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
				plain.body = tsSegment(t, n, (1<<33)*time.Second/90_000-9*time.Second, 0)
			}
			return plain
		}},
		{name: "G12 a transport stream begins its clock anew", c: channel{window: 5, total: 12, head: "#\n", tag: func(n int) string {
			if n == 6 {
				return "#EXT-X-DISCONTINUITY\n"
			}
			return ""
		}}, faults: func(t *testing.T, _ *channel, r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
				plain.body = tsSegment(t, n, time.Hour-time.Duration(n/6)*time.Hour, 0)
			}
			return plain
		}, check: func(t *testing.T, r *result) {
			for i, s := range r.seams[1 : len(r.seams)-1] {
				if s.Discontinuity != (i+1 == 6) {
					t.Errorf("seam %d: %+v", i+1, s.Seam.Discontinuity)
				}
			}
		}},
		{name: "every picture is flagged as a key, or none", c: channel{window: 5, total: 12}, faults: func(t *testing.T, _ *channel, r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
				flag := [...]uint32{0x02000000, 0x01010000, 0}[n%3]
				plain.body = flaggedSegment(n, vid|aud, 0, 1, 0, flag, flag)
			}
			return plain
		}},
		{name: "dates and clock jump together", c: channel{window: 5, total: 12, dates: true}, faults: func(t *testing.T, c *channel, r *http.Request, at time.Duration, plain reply) reply {
			if n := number(r.URL.Path); n >= 6 && plain.status == 200 {
				plain.body = segmentOf(n, vid|aud, 60_000, 1, 0)
			}
			if isList(r) {
				for n := 6; n < 12; n++ {
					was := c.base.Add(time.Duration(n) * segDur)
					plain.body = bytes.ReplaceAll(plain.body, []byte("TIME:"+was.Format(time.RFC3339Nano)), []byte("TIME:"+was.Add(time.Minute).Format(time.RFC3339Nano)))
				}
			}
			return plain
		}, gap: time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			cookies, conditional = 0, 0
			r := vector(t, &c.c, hlspull.Config{}, 5*time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
				return c.faults(t, &c.c, r, at, plain)
			})
			wantEnd(t, r)
			if c.want == "" {
				wantVideo(t, r, segs(0, c.c.total-1))
			}
			if d, why := r.gaps(); c.gap >= 0 && d != c.gap {
				t.Errorf("%v missing: %q", d, why)
			}
			if c.check != nil {
				c.check(t, r)
			}
		})
	}
}

// Nothing is stuck, and memory stays bounded, while the receiver stands still and while the oldest segment is not to be
// had: large segments wait at the server.
func TestMemory(t *testing.T) {
	for _, mode := range []string{"receiver stands still", "oldest is missing"} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &channel{window: 12, total: 24}
				pad := box("free", make([]byte, 7<<20))
				serve := c.serve(t)
				o := &origin{begun: time.Now(), handle: func(r *http.Request, at time.Duration) reply {
					plain := serve(r, at)
					n := number(r.URL.Path)
					if n == 2 && mode == "oldest is missing" {
						return no(404)
					}
					if n >= 0 && plain.status == 200 {
						plain.body = append(plain.body, pad...)
					}
					return plain
				}}
				s, err := hlspull.New(hlspull.Config{URL: "http://a.example/live/index.m3u8", Transport: o})
				if err != nil {
					t.Fatal(err)
				}
				out := make(chan *media.Batch)
				res := &result{asks: o}
				done := make(chan struct{})
				go func() {
					defer close(done)
					if mode == "receiver stands still" {
						time.Sleep(20 * time.Second)
					}
					for b := range out {
						res.take(t, b)
						b.Release()
					}
				}()
				go func() {
					time.Sleep(19 * time.Second)
					runtime.GC()
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					if held := int64(m.HeapAlloc) - int64(len(pad)); held > hlspull.MaxMemory+hlspull.MaxHeld {
						t.Errorf("%d MiB of heap", held>>20)
					}
				}()
				res.err = s.Run(t.Context(), out)
				close(out)
				<-done
				wantEnd(t, res)
				want := segs(0, 23)
				if mode == "oldest is missing" {
					want = segs(0, 1) + " " + segs(3, 23)
				}
				wantVideo(t, res, want)
			})
		})
	}
}
