//go:build race

package mp4_test

// raceDetector: everything takes several times as long, so fewer of the places are tried.
const raceDetector = true
