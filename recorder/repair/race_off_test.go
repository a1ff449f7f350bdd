//go:build !race

package repair_test

const raceDetector = false

func some(int) (first, step int) { return 0, 1 }
