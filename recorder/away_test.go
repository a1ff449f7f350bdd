package recorder_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
)

// The part that a stop closed may be safe and freed before the next start: what the source repeats is recognised all
// the same, and what is missing is told.
func TestStartAgainWithoutTheFile(t *testing.T) {
	for _, c := range []struct {
		pause  time.Duration
		rebase bool // the clock begins anew, so that only the digests can tell
	}{
		{100 * time.Millisecond, false}, {500 * time.Millisecond, false}, {1100 * time.Millisecond, false}, {1900 * time.Millisecond, false},
		{100 * time.Millisecond, true}, {300 * time.Millisecond, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, liveroom.Config{Fault: func(n int) liveroom.Fault { return liveroom.Fault{Rebase: c.rebase && n > 0} }})
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
