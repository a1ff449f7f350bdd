package uploader_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
)

const mem = segment.TargetID("memory:")

var chunked = uploader.Limits{MinChunk: 100, MaxChunk: 1 << 20, MaxChunks: 10_000, Parallel: 4, Growing: true}

// store is a kind of store.
type store struct {
	name string
	l    uploader.Limits
	mute bool          // cannot list chunks
	late time.Duration // lists late
	keep bool          // keeps an upload after its completion
}

var stores = []store{
	{"lists", chunked, false, 0, false},
	{"cannot list", chunked, true, 0, false},
	{"lists late", chunked, false, 1500 * time.Millisecond, false},
	{"keeps what is finished", chunked, false, 0, true},
	{"takes whole segments", uploader.Limits{Parallel: 2}, false, 0, false},
	{"takes whole segments and lists late", uploader.Limits{Parallel: 2}, false, 20 * time.Second, false},
}

// life runs a transport over two segments, one of which is sealed while it runs, through a series of power failures, and
// at last to its end. It gives the number of steps of each run.
func life(t *testing.T, d *disk, c store, failures ...int) (steps []int) {
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		a, b := d.segment(t, "01A", 1, 250), d.segment(t, "01A", 2, 330)
		remote := targettest.NewRemote(c.l)
		if c.mute {
			remote.Mute()
		}
		remote.ListLate(c.late)
		if c.keep {
			remote.Linger()
		}
		seen := &once{remote: remote}
		seen.watch(h.book)
		h.book.add(a, mem)
		h.book.add(opened(b, 220), mem)
		sealed := false
		where := ""
		for _, at := range append(failures, 0) {
			h.book.power = newPower(at)
			remote.Behave(h.book.power.script)
			r := h.start(uploader.Config{Uploads: 2}, remote.Target(mem))
			if !sealed {
				synctest.Wait()
				sealed = true
				h.book.add(b)
				r.in <- segment.Progress{ID: b.ID, Durable: b.Size, Sealed: true}
			}
			if at == 0 {
				r.drain()
			} else {
				select {
				case <-h.book.power.off:
				case <-time.After(10 * time.Minute): // the run had fewer steps
				}
				synctest.Wait() // a step that the power survived is carried out
				r.kill()
				where += h.book.power.last + ", "
			}
			steps = append(steps, h.book.power.n)
		}
		h.whole(remote, mem)
		seen.check(t)
		if n := len(remote.Commits()); n != 2 {
			t.Errorf("%d commits for 2 objects", n)
		}
		if t.Failed() {
			t.Logf("the power failed at %v: %s\nledger: %q", failures, where, h.book.history)
		}
	})
	return steps
}

func TestI3_PowerFailsAtEveryStep(t *testing.T) {
	d := newDisk(t)
	for _, c := range stores {
		t.Run(c.name, func(t *testing.T) {
			n := life(t, d, c)[0]
			if n < 30 {
				t.Fatalf("only %d steps", n)
			}
			for k := 1; k <= n && !t.Failed(); k++ {
				life(t, d, c, k)
			}
		})
	}
}

func TestI3_PowerFailsTwice(t *testing.T) {
	d := newDisk(t)
	n := life(t, d, stores[0])[0]
	stride := 1
	if testing.Short() || raceEnabled {
		stride = 7
	}
	runs := 0
	for k := 1; k <= n; k++ {
		for j := 1 + k%stride; j <= n; j += stride {
			steps := life(t, d, stores[(k+j)%4], k, j)
			runs++
			if t.Failed() {
				t.Fatalf("failed at %d, %d", k, j)
			}
			if steps[1] < j {
				break // the second run had no step j any more
			}
		}
	}
	t.Logf("%d pairs", runs)
}
