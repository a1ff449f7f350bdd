//go:build race

package recorder_test

// raceDetector: sync.Pool gives things up at random then, so allocations say nothing.
const raceDetector = true
