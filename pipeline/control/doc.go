// Package control decides what a broadcast needs and has it done: the order in which parts are shown, the published
// list of every target, the end of a session, and what a person is told.
//
// Decide is pure; Control wakes on outcomes and on a ticker, reads the ledger anew each time, and hands the lists to
// one executor per target. It never touches media and never deletes anything.
//
// I4: the published list is a prefix of the recording order and never shrinks.
package control
