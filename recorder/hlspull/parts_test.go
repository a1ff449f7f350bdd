package hlspull_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/recorder/hlspull"
)

// An encoder is away inside a segment for so long that its parts are taken, several times; then it goes on. Each frame
// comes once; a part that is torn is left to the segment that comes after all.
func TestPartsOfASegmentThatGoesOn(t *testing.T) {
	for _, part := range []string{"torn", "whole"} {
		t.Run(part, func(t *testing.T) {
			const stands, away = 12 * time.Second, 50 * time.Second
			c := &channel{window: 5, total: 15}
			open := c.last(stands) + 1
			whole := segmentOf(open, vid|aud, 0, 1, 0)
			taken := 0
			r := vector(t, c, hlspull.Config{}, -5*time.Minute, func(r *http.Request, at time.Duration, plain reply) reply {
				live := at
				if at > stands {
					live = max(stands, at-away)
				}
				n := number(r.URL.Path)
				switch {
				case isList(r) && live == stands:
					return ok(append(c.list(live), "#EXT-X-PART:DURATION=1,URI=\"p1\"\n"...))
				case isList(r):
					return ok(c.list(live))
				case strings.HasSuffix(r.URL.Path, "p1"):
					taken++
					if part == "whole" {
						return ok(whole)
					}
					return ok(whole[:len(whole)/2])
				case n >= 0 && n <= c.last(live):
					return ok(segmentOf(n, vid|aud, 0, 1, 0))
				case n >= 0:
					return no(404)
				}
				return plain
			})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, 14))
			wantNoGap(t, r)
			for i, n := range r.sound {
				if i > 0 && n <= r.sound[i-1] {
					t.Fatalf("sound %d comes behind %d", n, r.sound[i-1])
				}
			}
			if taken < 2 {
				t.Errorf("the part was taken %d times", taken)
			}
		})
	}
}
