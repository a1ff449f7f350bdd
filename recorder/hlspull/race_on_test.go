//go:build race

package hlspull_test

// raceDetector: everything takes several times as long, so fewer of the random cases are tried, and smaller ones.
const raceDetector = true
