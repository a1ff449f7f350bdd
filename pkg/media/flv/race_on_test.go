//go:build race

package flv

import (
	"flag"
	"math/rand/v2"
)

// raceDetector: everything takes several times as long, so fewer of the steps are tried: others each time, and all of
// them without it. Allocations are counted without it only.
const raceDetector = true

// some thins a loop out: one step in n, from a place that differs each time.
func some(n int) (first, step int) { return rand.IntN(n), n }

// A property is tried with fewer random cases too.
var _ = flag.Set("rapid.checks", "25")
