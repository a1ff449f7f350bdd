//go:build !race

package mp4_test

const raceDetector = false
