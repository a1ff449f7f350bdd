//go:build race

package config

// raceFactor is how much slower the race detector may be.
const raceFactor = 10
