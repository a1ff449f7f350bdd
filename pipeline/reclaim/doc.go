// Package reclaim frees disk. It is the only package that removes media.
//
// Victims is pure and says what may go: the policy's wish cut with the proofs that are on record. Reclaimer does it,
// one segment after the other, with the intention on record before and the proofs read once more in between.
//
// I1: no byte of media is removed before every required final proof is durable. Not under pressure of a full disk,
// not at a stop, and never a file that belongs to the user.
package reclaim
