//go:build !soak

package pipelinetest_test

const soak = false
