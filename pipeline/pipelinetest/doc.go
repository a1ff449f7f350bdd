// Package pipelinetest is the whole house on a test bench: the stages together, virtual time, and a power cut after
// any step.
//
// It owns the in-memory ledger and store that tests of the stages work with, strict about every transition. Its own
// tests put the real ledger, transport and recorder together; only those test files import recorder, uploader and
// pkg/ledger. Nothing in it is part of the program.
package pipelinetest
