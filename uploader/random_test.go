package uploader_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
	"github.com/liverec/liverec/uploader/wrap"
)

// notes keeps the failures of a bubble for whoever shrinks them.
type notes struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (n *notes) Errorf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said = append(n.said, fmt.Sprintf(format, args...))
}

// weather is a store and a line that go wrong at random for a while. Lies that make the store lose what it had are only
// told when forgetful.
func weather(remote *targettest.Remote, rng *rand.Rand, until time.Time, forgetful bool) wrap.Script {
	var mu sync.Mutex
	return func(c wrap.Call) wrap.Fate {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().After(until) {
			return wrap.Fate{}
		}
		f := wrap.Fate{Wait: time.Duration(rng.IntN(500)) * time.Millisecond}
		switch n := rng.IntN(100); {
		case n < 6:
			f.Err = errRefused
		case n < 12:
			f.Lost = true
		case n < 14:
			f.Hang = true
		case n < 18:
			f.Cut = true
		case n < 22:
			f.Flip = true
		case n < 24:
			f.Err = &failure.Error{Op: string(c.Op), Kind: failure.Throttled, RetryAfter: time.Duration(rng.IntN(5000)) * time.Millisecond}
		case n < 25 && c.Op != wrap.OpAbort:
			f.Err, f.Lost = &failure.Error{Op: string(c.Op), Kind: failure.NeedsHuman, Hint: "Look."}, rng.IntN(2) == 0
		case n < 26 && c.Op != wrap.OpCheck && c.Op != wrap.OpAbort:
			f.Err = &failure.Error{Op: string(c.Op), Kind: failure.Permanent}
		case n < 27 && forgetful:
			remote.Forget()
		case n < 28 && forgetful:
			remote.ForgetChunk(c.Key, rng.IntN(5))
		case n < 29 && forgetful:
			remote.Damage(c.Key)
		case n < 30 && forgetful:
			remote.Lose(c.Key)
		}
		return f
	}
}

func TestRandomWeatherAndRestarts(t *testing.T) {
	d := newDisk(t)
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		forgetful := rapid.Bool().Draw(rt, "forgetful")
		mute := rapid.Bool().Draw(rt, "mute")
		whole := rapid.IntRange(0, 5).Draw(rt, "whole") == 0
		late := time.Duration(rapid.IntRange(0, 3).Draw(rt, "late")) * 500 * time.Millisecond
		uploads := rapid.IntRange(1, 4).Draw(rt, "uploads")
		restarts := rapid.SliceOfN(rapid.IntRange(1, 200), 0, 6).Draw(rt, "restarts")
		var said []string
		synctest.Test(t, func(t *testing.T) {
			n := &notes{TB: t}
			defer func() { said = n.said }()
			h := d.house(n)
			l := chunked
			if whole {
				l = uploader.Limits{Parallel: 2}
			}
			remote := targettest.NewRemote(l)
			if mute {
				remote.Mute()
			}
			remote.ListLate(late)
			rng := rand.New(rand.NewPCG(seed, 1))
			remote.Behave(weather(remote, rng, time.Now().Add(10*time.Minute), forgetful))
			seen := &once{remote: remote}
			seen.watch(h.book)

			segs := []segment.Segment{d.segment(t, "01X", 1, 555), d.segment(t, "01X", 2, 90), d.segment(t, "01Y", 1, 700)}
			var mu sync.Mutex
			now := h.start(uploader.Config{Uploads: uploads}, wrap.NoProgress(remote.Target(mem), 0))
			ring := func(p segment.Progress) {
				mu.Lock()
				defer mu.Unlock()
				select {
				case now.in <- p:
				default:
				}
			}
			var capture sync.WaitGroup
			for _, s := range segs {
				capture.Go(func() {
					h.book.add(opened(s, 0), mem)
					for at := int64(0); at < s.Size; at += 20 {
						h.book.add(opened(s, at))
						ring(segment.Progress{ID: s.ID, Durable: at})
						time.Sleep(time.Second)
					}
					h.book.add(s)
					ring(segment.Progress{ID: s.ID, Durable: s.Size, Sealed: true})
				})
			}
			for _, after := range restarts {
				time.Sleep(time.Duration(after) * 100 * time.Millisecond)
				now.kill()
				next := h.start(uploader.Config{Uploads: uploads}, wrap.NoProgress(remote.Target(mem), 0))
				mu.Lock()
				now = next
				mu.Unlock()
			}
			capture.Wait()
			// A part that was parked for good is tried once more each hour.
			for i := 0; i < 8 && h.book.count(segment.Verified) < len(segs); i++ {
				time.Sleep(time.Hour)
			}
			now.drain()
			if !forgetful || h.book.count(segment.Verified) < len(segs) {
				h.whole(remote, mem) // a forgetful store may lose what it had proven before
			}
			h.legal()
			if !forgetful {
				seen.check(n)
			}
			if pending := remote.Pending(); pending != 0 {
				n.Errorf("%d uploads were left open at the end, ledger %q", pending, h.book.history)
			}
		})
		if len(said) > 0 {
			rt.Fatalf("seed %d: %q", seed, said)
		}
	})
}
