//go:build !race

package hlspull_test

const raceDetector = false
