package recorder_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

// The part that a stop closed may be safe and freed before the next start: what the source repeats is recognised all
// the same, and what is missing is told.
func TestStartAgainWithoutTheFile(t *testing.T) { inEach(t, startAgainWithoutTheFile) }

func startAgainWithoutTheFile(t *testing.T, kind recorder.Container) {
	for _, c := range []struct {
		pause  time.Duration
		rebase bool // the clock begins anew, so that only the digests can tell
	}{
		{100 * time.Millisecond, false}, {500 * time.Millisecond, false}, {1100 * time.Millisecond, false}, {1900 * time.Millisecond, false},
		{100 * time.Millisecond, true}, {300 * time.Millisecond, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, liveroom.Config{Fault: func(n int) liveroom.Fault { return liveroom.Fault{Rebase: c.rebase && n > 0} }})
			r.cfg.Container = kind
			r.cfg.Segment = time.Hour
			r.room.Start(t.Context())
			r.start()
			time.Sleep(7300 * time.Millisecond)
			r.halt()
			first := r.session().Segments()[0]
			numbers := r.check(r.session())
			if err := r.dir.Rename(first.Path, "kept"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.pause)
			r.start()
			time.Sleep(8 * time.Second)
			r.halt()
			if err := r.dir.Rename("kept", first.Path); err != nil {
				t.Fatal(err)
			}
			s := r.session()
			stopped := len(numbers)
			numbers = r.check(s)
			once(t, numbers)
			missing := time.Duration(numbers[len(numbers)-1]-numbers[0]+1-uint64(len(numbers))) * time.Second / 30
			told := time.Duration(0)
			for _, g := range s.Gaps {
				told += g.Length
			}
			if (missing - told).Abs() > 40*time.Millisecond {
				t.Errorf("%+v: stopped at %d, goes on at %d, %v are missing, %v are said to be: %v", c, numbers[stopped-1], numbers[stopped], missing, told, s.Gaps)
			}
		})
	}
}

// Where the source confirms its clean end, the part is closed at once, not after the rest of the ten seconds: its last
// chunks are on their way by then. A source that comes back in time goes on in the same broadcast, in a new part; one
// that had hardly begun goes on in the same part.
func TestConfirmedEndClosesThePartAtOnce(t *testing.T) {
	for _, c := range []struct {
		name         string
		live, away   time.Duration
		closed       bool // at once
		parts, takes int
	}{
		{"over", 7 * time.Second, 0, true, 1, 1},
		{"over right behind a cut", 33 * time.Second, 0, true, 2, 1},
		{"back in time", 7 * time.Second, 5 * time.Second, true, 2, 1},
		{"back too late", 7 * time.Second, 15 * time.Second, true, 1, 2},
		{"hardly begun", 3 * time.Second, 5 * time.Second, false, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{})
				r.cfg.Segment = 31 * time.Second
				r.room.Start(t.Context())
				r.start()
				time.Sleep(c.live)
				r.room.End()
				time.Sleep(time.Second)
				s := r.session()
				if last := s.Segments()[len(s.Segments())-1]; last.Sealed != c.closed || c.closed && last.Cut != segment.CutEnd {
					t.Errorf("a second after the end: sealed %v, cut %q", last.Sealed, last.Cut)
				}
				if s.Left {
					t.Error("the broadcast is over a second after the end")
				}
				if c.away > 0 {
					r.again(c.away - time.Second)
					time.Sleep(7 * time.Second)
					r.room.End()
				}
				time.Sleep(12 * time.Second)
				r.halt()
				ss := r.journal.Sessions()
				if len(ss) != c.takes {
					t.Fatalf("%d broadcasts, want %d", len(ss), c.takes)
				}
				if got := ss[0].Segments(); len(got) != c.parts {
					t.Errorf("%d parts, want %d: %v", len(got), c.parts, got)
				}
				var numbers []uint64
				for _, s := range ss {
					if !s.Left {
						t.Error("a broadcast is not over twelve seconds after the end")
					}
					numbers = append(numbers, r.check(s)...)
				}
				once(t, numbers)
				if sent := r.sent(); len(numbers) != len(sent) {
					t.Errorf("%d of %d pictures are here", len(numbers), len(sent))
				}
			})
		})
	}
}
