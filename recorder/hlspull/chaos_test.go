package hlspull_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/recorder/hlspull"
)

// Whatever a server does, frames come once and in order, and what is missing is told: neither more nor less.
func TestChaos(t *testing.T) {
	rounds := uint64(60)
	if testing.Short() || raceDetector {
		rounds = 10
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, v, bad := chaos(t, seed)
				o.resume = true
				r := run(t, hlspull.Config{URL: "http://a.example/room.m3u8"}, o, 10*time.Minute)
				if !errors.Is(r.err, hlspull.ErrEnd) && bad < 0.3 {
					t.Errorf("ended with %v", r.err)
				}
				lost := 0
				for i, n := range r.video {
					if i > 0 && n <= r.video[i-1] {
						t.Fatalf("video %d behind %d: %s", n, r.video[i-1], runs(r.video))
					}
					if i > 0 {
						lost += n - r.video[i-1] - 1
					}
				}
				for i, n := range r.sound {
					if i > 0 && n <= r.sound[i-1] && r.runs == 0 { // what was begun comes again behind a place
						t.Fatalf("sound %d behind %d: %s", n, r.sound[i-1], runs(r.sound))
					}
				}
				if len(r.video) > 0 {
					lost += v.total*8 - 1 - r.video[len(r.video)-1]
				}
				var told time.Duration
				for _, s := range r.seams {
					if s.Missing > 0 && !strings.HasPrefix(s.Why, "sound:") && s.before > 0 {
						told += s.Missing
					}
				}
				if want := time.Duration(lost) * time.Second / videoRate; errors.Is(r.err, hlspull.ErrEnd) && told != want {
					t.Errorf("%v told to be missing, %v are: %s, %d runs", told, want, runs(r.video), r.runs)
				}
				for i, s := range r.seams {
					if s.Discontinuity && i > 0 && len(r.video) > 0 && s.before > 0 {
						t.Errorf("a discontinuity before frame %d of one clock", s.before)
					}
				}
			})
		})
	}
}

// chaos is a server that does a part of what it is asked wrong, in a way that the seed decides.
func chaos(t *testing.T, seed uint64) (*origin, *channel, float64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	bad := rnd.Float64() * 0.4
	v := &channel{window: 4 + rnd.IntN(6), total: 30 + rnd.IntN(20), msn: rnd.IntN(1000), dates: rnd.IntN(2) == 0, base: time.Now()}
	separate := rnd.IntN(3) == 0
	if rnd.IntN(3) == 0 {
		v.tag = func(n int) string {
			if n%9 == 4 {
				return "#EXT-X-DISCONTINUITY\n"
			}
			return ""
		}
	}
	if rnd.IntN(4) == 0 {
		v.head = "#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n"
	}
	a := *v
	a.msn++
	serve := v.serve(t)
	o := &origin{begun: time.Now(), handle: func(r *http.Request, at time.Duration) reply {
		sound := strings.Contains(r.URL.Path, "/sound/")
		plain := serve(r, at)
		switch n := number(r.URL.Path); {
		case strings.HasSuffix(r.URL.Path, "room.m3u8"):
			group, media := "", ""
			if separate {
				group, media = ",AUDIO=\"g\"", "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",NAME=\"x\",DEFAULT=YES,URI=\"sound/index.m3u8\"\n"
			}
			return ok([]byte("#EXTM3U\n" + media + "#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=640x360" + group + "\nhttp://one.example/live/index.m3u8\n" +
				"#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=640x360" + group + "\nhttp://two.example/live/index.m3u8\n"))
		case strings.HasSuffix(r.URL.Path, "init.mp4"):
			if separate && sound {
				plain = ok(initSection(t, aud, 0, 0))
			} else if separate {
				plain = ok(initSection(t, vid, 0, 0x14))
			}
		case isList(r) && sound:
			plain = ok(a.list(at))
		case n >= 0 && plain.status == 200 && separate && sound:
			plain.body = segmentOf(n, aud, 0, 1, 0)
		case n >= 0 && plain.status == 200 && separate:
			plain.body = segmentOf(n, vid, 0, 1, 0)
		}
		if rnd.Float64() >= bad {
			plain.after = time.Duration(rnd.IntN(300)) * time.Millisecond
			return plain
		}
		switch rnd.IntN(10) {
		case 0:
			return no(404)
		case 1:
			return no(500)
		case 2:
			return no(403)
		case 3:
			return reply{status: 429, header: http.Header{"Retry-After": {"1"}}}
		case 4:
			return reply{hang: true}
		case 5:
			plain.cut = max(len(plain.body)/2, 1)
		case 6:
			plain.body = plain.body[:len(plain.body)*3/4]
		case 7:
			plain.after = time.Duration(rnd.IntN(6000)) * time.Millisecond
		case 8:
			return ok([]byte("<html>"))
		case 9:
			if isList(r) {
				return ok(v.span(max(v.last(at)-v.window-3, 0), max(v.last(at)-4, 0), false))
			}
		}
		return plain
	}}
	return o, v, bad
}

// A process that dies goes on behind the last place whose media is durable, and in the end it is the same.
func TestChaosWithDeaths(t *testing.T) {
	rounds := uint64(40)
	if testing.Short() || raceDetector {
		rounds = 10
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, v, bad := chaos(t, seed)
				rnd := rand.New(rand.NewPCG(seed, 2))
				var all result
				var place []byte
				var told time.Duration
				for deaths := 0; ; deaths++ {
					s, err := hlspull.New(hlspull.Config{URL: "http://a.example/room.m3u8", Transport: o, Place: place, Log: zerolog.New(zerolog.NewTestWriter(t))})
					if err != nil {
						t.Fatal(err)
					}
					r := &result{asks: o}
					limit := 10 * time.Minute
					if deaths < 6 {
						limit = time.Duration(1+rnd.IntN(15)) * time.Second
					}
					drive(t, s, r, limit)
					upto := len(r.seams)
					over := errors.Is(r.err, hlspull.ErrEnd) || deaths > 10
					if !over && deaths < 6 { // what came behind the last Join, or the one before, is lost
						upto = max(len(r.seams)-1-rnd.IntN(2), 0)
					}
					frames := len(r.video)
					for _, x := range r.seams[:upto] {
						if !strings.HasPrefix(x.Why, "sound:") && len(all.video)+x.before > 0 {
							told += x.Missing
						}
						if x.Discontinuity && len(all.video) > 0 {
							t.Errorf("a discontinuity before frame %d, after %d deaths", x.before, deaths)
						}
					}
					if upto < len(r.seams) {
						frames = r.seams[upto].before
						if upto > 0 {
							place = r.seams[upto-1].Place
						}
					} else if upto > 0 {
						place = r.place
					}
					all.video = append(all.video, r.video[:frames]...)
					if over {
						if !errors.Is(r.err, hlspull.ErrEnd) {
							if bad < 0.3 {
								t.Errorf("ended with %v", r.err)
							}
							return
						}
						break
					}
				}
				lost := 0
				for i, n := range all.video {
					if i > 0 && n <= all.video[i-1] {
						t.Fatalf("video %d behind %d: %s", n, all.video[i-1], runs(all.video))
					}
					if i > 0 {
						lost += n - all.video[i-1] - 1
					}
				}
				if len(all.video) > 0 {
					lost += v.total*8 - 1 - all.video[len(all.video)-1]
				}
				if want := time.Duration(lost) * time.Second / videoRate; told != want {
					t.Errorf("%v told to be missing, %v are: %s", told, want, runs(all.video))
				}
			})
		})
	}
}
