package hlspull_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/recorder/hlspull"
)

// line is one line that all transfers share: so many bytes a second.
type line struct {
	mu   sync.Mutex
	free time.Time // when it is free again
	rate func(at time.Duration) float64
}

// carry is how long n bytes take from now on.
func (l *line) carry(n int, at time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.rate(at) * float64(time.Second)))
	return l.free.Sub(now)
}

// The line has 0.7 of what the best form needs: a lower one is taken within three segments and nothing is lost; later
// the line has room again.
func TestQualityFollowsTheLine(t *testing.T) {
	for _, quality := range []string{"auto", "best"} {
		t.Run(quality, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const best = 1 << 20 // bytes of a segment
				c := &channel{window: 5, total: 150}
				l := &line{rate: func(at time.Duration) float64 {
					if at < 2*time.Minute {
						return 0.7 * best / segDur.Seconds()
					}
					return 10 * best / segDur.Seconds()
				}}
				serve := c.serve(t)
				o := &origin{handle: func(r *http.Request, at time.Duration) reply {
					if strings.HasSuffix(r.URL.Path, "room.m3u8") {
						return ok(fmt.Appendf(nil, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=%d,RESOLUTION=1920x1080\nhigh/index.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=%d,RESOLUTION=640x360\nlow/index.m3u8\n", best*4, best))
					}
					plain := serve(r, at)
					low := strings.Contains(r.URL.Path, "/low/")
					if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
						size, salt := best, byte('h')
						if low {
							size, salt = best/4, 'l'
						}
						plain.body = segmentOf(n, vid|aud, 0, 1, salt)
						plain.body = append(plain.body, box("free", make([]byte, size-len(plain.body)-8))...)
						plain.line = l
					} else if strings.HasSuffix(r.URL.Path, "init.mp4") && low {
						plain.body = initSection(t, vid|aud, 0, 0x1e)
					}
					return plain
				}}
				r := run(t, hlspull.Config{URL: "http://a.example/room.m3u8", Quality: quality}, o, 10*time.Minute)
				if quality == "best" {
					if strings.ContainsRune(string(r.salts), 'l') {
						t.Error("the quality was changed")
					}
					return
				}
				wantEnd(t, r)
				wantVideo(t, r, segs(0, 149))
				wantNoGap(t, r)
				var steps []string
				for i, s := range r.salts {
					if i == 0 || r.salts[i-1] != s {
						steps = append(steps, fmt.Sprintf("%c@%d", s, i/8))
					}
				}
				if len(steps) != 3 || steps[0] != "h@0" || steps[1][0] != 'l' || steps[2][0] != 'h' {
					t.Fatalf("steps: %v", steps)
				}
				// The name is that of the lists in use; the first step may be decided before the first batch is looked at.
				if g := strings.Join(r.grades, " "); strings.TrimPrefix(g, "1080p ") != "360p 1080p" {
					t.Errorf("it was called %s", g)
				}
				var down, up int
				fmt.Sscanf(steps[1], "l@%d", &down)
				fmt.Sscanf(steps[2], "h@%d", &up)
				if down > 9 || up < 55 || up > 120 {
					t.Errorf("steps: %v", steps)
				}
			})
		})
	}
}
