//go:build !race

package flv

const raceDetector = false

func some(int) (first, step int) { return 0, 1 }
