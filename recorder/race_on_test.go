//go:build race

package recorder_test

// raceDetector: sync.Pool gives things up at random then, so allocations say nothing. And everything takes several times
// as long, so fewer of the steps are tried: others each time, and all of them without it.
const raceDetector = true
