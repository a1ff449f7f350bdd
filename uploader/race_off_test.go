//go:build !race

package uploader_test

const raceEnabled = false
