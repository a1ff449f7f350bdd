//go:build !race

package pipelinetest_test

const raced = false
