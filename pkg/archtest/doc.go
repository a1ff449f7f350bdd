// Package archtest holds the floor plan: who may import whom, which calls stand where, and that every package says
// what it owns. It consists of tests only and never becomes part of the program.
package archtest
