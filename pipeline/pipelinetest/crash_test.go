package pipelinetest_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
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
		steps = playIn(t, newWorld(t, l, seed, set(t)), inMemory, cuts...)
	})
	return steps
}

// playIn is play in a world that is there already, in its bubble.
func playIn(t *testing.T, w *world, inMemory bool, cuts ...int) (steps []int) {
	t.Helper()
	if inMemory {
		w.memory = pipelinetest.NewLedger(0, segment.Destination{ID: archive, Required: true})
	}
	where := ""
	defer func() { // also after a Fatal
		if t.Failed() {
			t.Logf("the power was cut at steps %v: %s", cuts, where)
		}
	}()
	for _, at := range append(cuts, 0) {
		n, last := w.life(at)
		steps = append(steps, n)
		where += last + "; "
		pause := time.Duration(w.rng.IntN(3000)) * time.Millisecond
		if len(w.pauses) > 0 {
			pause, w.pauses = w.pauses[0], w.pauses[1:]
		}
		time.Sleep(pause)
	}
	time.Sleep(time.Minute) // what is left of dead processes ends
	w.check(len(cuts))
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
			seed := newSeed(t)
			t.Logf("%d steps, seed %d", n, seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			for i := 0; i < samples(24) && !t.Failed(); i++ {
				play(t, studioOf(13*time.Second), line, inMemory, seed+uint64(i), 1+rng.IntN(n))
			}
		})
	}
}

// A power cut instead of a kill: what the disk had not synced may be gone, of each open file another stretch. The tail of
// part k must not vanish without a gap while something of part k+1 stays.
func TestK_ThePowerOfTheRealHouseIsCut(t *testing.T) {
	seed := newSeed(t)
	var names []string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, line, 1, newStudio(t, "live", 13*time.Second))
		playIn(t, w, true)
		names = w.steps
	})
	// Most of it around the cuts: from the creation of the next part to the seal of the one before.
	near := map[int]bool{}
	for i, name := range names {
		if strings.HasPrefix(name, "create media/") {
			for k := i; k < min(i+30, len(names)); k++ {
				near[k+1] = true
			}
		}
	}
	places := slices.Sorted(maps.Keys(near))
	t.Logf("%d steps, %d of them near a cut, seed %d", len(names), len(places), seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i < samples(40) && !t.Failed(); i++ {
		at := places[rng.IntN(len(places))]
		if i%4 == 3 {
			at = 1 + rng.IntN(len(names))
		}
		synctest.Test(t, func(t *testing.T) {
			scene := newStudio(t, "live", 13*time.Second)
			scene.cuts = true
			w := newWorld(t, line, seed+uint64(i), scene)
			w.ways = []bool{true}
			playIn(t, w, true, at)
		})
	}
}

// Two ends with the real recorder, each a kill or a power cut: the second one at any step of the life that follows the
// first, half of them within its first 40 steps, where recovery is.
func TestK_TheRealHouseEndsTwice(t *testing.T) {
	n := play(t, studioOf(13*time.Second), line, true, 1)[0]
	seed := newSeed(t)
	t.Logf("%d steps, seed %d", n, seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i < samples(32) && !t.Failed(); i++ {
		first, second := 1+rng.IntN(n), 1+rng.IntN(n)
		if i%2 == 0 {
			second = 1 + rng.IntN(40)
		}
		ways := []bool{rng.IntN(3) == 0, rng.IntN(3) == 0}
		synctest.Test(t, func(t *testing.T) {
			scene := newStudio(t, "live", 13*time.Second)
			scene.cuts = true
			w := newWorld(t, line, seed+uint64(i), scene)
			w.ways = ways
			playIn(t, w, i%8 != 7, first, second) // the real ledger takes longer
		})
	}
}

// newSeed is that of a random series: another one each time, or the one of LIVEREC_SEED to see an earlier series again.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv("LIVEREC_SEED")
	if s == "" {
		return uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("LIVEREC_SEED: %v", err)
	}
	return seed
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
			seed := newSeed(t)
			t.Logf("%d steps, seed %d", n, seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			for i := 0; i < samples(c.n) && !t.Failed(); i++ {
				lives(t, c.limits, c.inMemory, seed+uint64(i), 1+rng.IntN(n), 1+rng.IntN(n))
			}
		})
	}
}

// A process is killed after it has made or renamed a part and before the folder is synced. The next one sees the file,
// and must not build on its name: right after, the power is cut, and the disk has forgotten it.
func TestK_PowerIsCutAfterAKillBeforeTheFolderWasSynced(t *testing.T) {
	for _, l := range []uploader.Limits{chunked, {Parallel: 2}} {
		t.Run(fmt.Sprint("whole parts ", l.MinChunk == 0), func(t *testing.T) {
			var names []string
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, l, 1, newShow())
				playIn(t, w, true)
				names = w.steps
			})
			seed, syncs := newSeed(t), 0
			t.Logf("seed %d", seed)
			for i, name := range names {
				if !strings.HasPrefix(name, "syncdir media/") {
					continue
				}
				syncs++
				for second := 1; second <= 40 && !t.Failed(); second++ {
					if raced && !soak && (second+syncs)%4 != 0 {
						continue
					}
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, l, seed+uint64(second), newShow())
						w.ways = []bool{false, true}
						playIn(t, w, true, i+1, second)
					})
				}
			}
			if syncs < 9 { // three parts are made, renamed and removed
				t.Errorf("the folder was synced %d times", syncs)
			}
		})
	}
}

// The same with the real recorder: a seal vouches for the name of the file, also where an earlier process gave it.
func TestK4_TheFolderIsSyncedBeforeASeal(t *testing.T) {
	var names []string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, line, 1, newStudio(t, "live", 13*time.Second))
		playIn(t, w, true)
		names = w.steps
	})
	syncdir := func(name string) bool { return strings.HasPrefix(name, "syncdir media/") }
	seals := 0
	for i, name := range names {
		if !syncdir(name) {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, line, 1, newStudio(t, "live", 13*time.Second))
			w.ways = []bool{false}
			playIn(t, w, true, i+1)
			if seal := slices.Index(w.steps, "seal"); seal >= 0 {
				seals++
				if !slices.ContainsFunc(w.steps[:seal], syncdir) {
					t.Errorf("killed at step %d: the next process seals a part and has not synced its folder: %q", i+1, w.steps[:seal])
				}
			}
		})
	}
	if seals == 0 {
		t.Error("no part was sealed by a second process")
	}
}

// A process dies, the next one finds a hole behind its part, begins another part behind it, and dies at any of its steps:
// what the third one finds missing is not the first hole once more, and it knows what stands behind the hole. The groups of
// the room last 2 s: who comes back at 5 s misses what came before 4 s, and gets more than a second at once.
func TestK_AHoleAtACutIsToldOnce(t *testing.T) {
	var ages []time.Duration
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, line, 1, newStudio(t, "live", 13*time.Second))
		playIn(t, w, true)
		ages = w.ages
	})
	for _, c := range []struct {
		name   string
		end    time.Duration // of the first life
		pauses []time.Duration
	}{
		{"too short to be closed in the clock, and another one", 3500 * time.Millisecond, []time.Duration{1600 * time.Millisecond, 1500 * time.Millisecond}},
		{"closed in the clock, and none", 3950 * time.Millisecond, []time.Duration{2200 * time.Millisecond, 500 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := 1
			for first < len(ages) && ages[first-1] < c.end {
				first++
			}
			for second := 1; second <= 45 && !t.Failed(); second++ {
				if raced && second%6 != 1 {
					continue
				}
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, line, uint64(second), newStudio(t, "live", 13*time.Second))
					w.ways, w.pauses = []bool{false, false}, slices.Clone(c.pauses)
					playIn(t, w, true, first, second)
				})
			}
		})
	}
}
