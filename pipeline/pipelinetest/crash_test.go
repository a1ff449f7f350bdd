package pipelinetest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pipeline/pipelinetest"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// lives runs the house through a series of power cuts, and at last to its end, and checks everything. It gives the
// number of steps of each life.
func lives(t *testing.T, l uploader.Limits, inMemory bool, seed uint64, cuts ...int) (steps []int) {
	t.Helper()
	return play(t, func(*testing.T) scene { return newShow() }, l, inMemory, seed, cuts...)
}

func play(t *testing.T, set func(t *testing.T) scene, l uploader.Limits, inMemory bool, seed uint64, cuts ...int) (steps []int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, l, seed, set(t))
		if inMemory {
			w.memory = pipelinetest.NewLedger(0, segment.Destination{ID: archive, Required: true})
		}
		where := ""
		for _, at := range append(cuts, 0) {
			n, last := w.life(at)
			steps = append(steps, n)
			where += last + "; "
			time.Sleep(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
		}
		time.Sleep(time.Minute) // what is left of dead processes ends
		w.check(len(cuts))
		if t.Failed() {
			t.Logf("the power was cut at steps %v: %s", cuts, where)
		}
	})
	return steps
}

func TestTheHouseStands(t *testing.T) {
	for _, inMemory := range []bool{true, false} {
		t.Run(fmt.Sprint("ledger in memory ", inMemory), func(t *testing.T) {
			n := lives(t, chunked, inMemory, 1)
			t.Log(n, "steps")
		})
	}
}

// Every row K1 to K13: the power is cut at every step that a run has, on the disk, in the ledger, on the way to the
// store and on the way back.
func TestK_PowerIsCutAtEveryStep(t *testing.T) {
	for _, c := range []struct {
		name     string
		limits   uploader.Limits
		inMemory bool
		stride   int
	}{
		{"ledger on disk, store lists", chunked, false, 3},
		{"ledger in memory, store lists", chunked, true, 1},
		{"ledger in memory, whole parts", uploader.Limits{Parallel: 2}, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := lives(t, c.limits, c.inMemory, 1)[0]
			if n < 100 {
				t.Fatalf("only %d steps", n)
			}
			stride := c.stride
			switch {
			case soak:
				stride = 1
			case raced && !c.inMemory:
				stride *= 8
			}
			first := 1 + rand.IntN(stride)
			t.Logf("every %d. step of %d, from %d on", stride, n, first)
			for k := first; k <= n && !t.Failed(); k += stride {
				lives(t, c.limits, c.inMemory, uint64(k), k)
			}
		})
	}
}

func studioOf(d time.Duration) func(t *testing.T) scene {
	return func(t *testing.T) scene { return newStudio(t, "live", d) }
}

func TestTheRealHouse(t *testing.T) {
	for _, inMemory := range []bool{true, false} {
		t.Run(fmt.Sprint("ledger in memory ", inMemory), func(t *testing.T) {
			n := play(t, studioOf(13*time.Second), line, inMemory, 1)
			t.Log(n, "steps")
		})
	}
}

// The same with the real recorder: the process is killed at steps of the whole chain, and what was received more than a
// second before is in the archive, once, or the hole is in the manifest.
func TestK_TheRealHouseIsKilled(t *testing.T) {
	for _, inMemory := range []bool{true, false} {
		t.Run(fmt.Sprint("ledger in memory ", inMemory), func(t *testing.T) {
			n := play(t, studioOf(13*time.Second), line, inMemory, 1)[0]
			seed := uint64(time.Now().UnixNano())
			t.Logf("%d steps, seed %d", n, seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			for i := 0; i < samples(24) && !t.Failed(); i++ {
				play(t, studioOf(13*time.Second), line, inMemory, seed+uint64(i), 1+rng.IntN(n))
			}
		})
	}
}

// samples is how many of something are tried: n, or many more with the build tag soak.
func samples(n int) int {
	switch {
	case soak:
		return 30 * n
	case testing.Short() || raced:
		return max(1, n/8)
	}
	return n
}

// Two power cuts: the second one at any step of the life that follows the first.
func TestK_PowerIsCutTwice(t *testing.T) {
	for _, c := range []struct {
		name     string
		limits   uploader.Limits
		inMemory bool
		n        int
	}{
		{"ledger in memory, store lists", chunked, true, 400},
		{"ledger in memory, whole parts", uploader.Limits{Parallel: 2}, true, 150},
		{"ledger on disk, store lists", chunked, false, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := lives(t, c.limits, c.inMemory, 1)[0]
			seed := uint64(time.Now().UnixNano())
			t.Logf("%d steps, seed %d", n, seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			for i := 0; i < samples(c.n) && !t.Failed(); i++ {
				lives(t, c.limits, c.inMemory, seed+uint64(i), 1+rng.IntN(n), 1+rng.IntN(n))
			}
		})
	}
}
