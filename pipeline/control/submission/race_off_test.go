//go:build !race

package submission_test

const raceEnabled = false
