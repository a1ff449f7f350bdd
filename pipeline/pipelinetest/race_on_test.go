//go:build race

package pipelinetest_test

// raced: SQLite in Go is ten times slower with the race detector.
const raced = true
