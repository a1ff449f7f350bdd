package pipelinetest_test

import (
	"fmt"
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
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, l, seed)
		if inMemory {
			w.memory = pipelinetest.NewLedger(0, segment.Destination{ID: archive, Required: true})
		}
		where := ""
		for _, at := range append(cuts, 0) {
			n, last := w.life(at)
			steps = append(steps, n)
			where += last + "; "
			time.Sleep(time.Duration(w.rng.IntN(5)) * time.Second)
		}
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
		{"ledger on disk, store lists", chunked, false, 1},
		{"ledger in memory, store lists", chunked, true, 1},
		{"ledger in memory, whole parts", uploader.Limits{Parallel: 2}, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := lives(t, c.limits, c.inMemory, 1)[0]
			if n < 100 {
				t.Fatalf("only %d steps", n)
			}
			for k := 1; k <= n && !t.Failed(); k += c.stride {
				lives(t, c.limits, c.inMemory, uint64(k), k)
			}
		})
	}
}
