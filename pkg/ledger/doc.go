// Package ledger is the durable truth of liverec: an SQLite file that says which broadcasts, parts, deliveries, gaps
// and published lists there are, and how far each has come.
//
// It owns ledger.db with its companions, the lock of the data folder and the reserve space. One goroutine writes, in
// groups; whoever records something waits until it is durable. A second process may read meanwhile. It never touches
// media, never asks a remote, and never concludes anything from silence: it keeps what it is told, and refuses what
// cannot follow from what it knows.
//
// I3: the intention is on record before the act, and after a crash one asks before repeating. Each intention (Begin,
// Opening, Committing, Publishing, Reclaiming) has its own state here, and the result (Seal, Opened, Committed,
// Published, Reclaimed) is refused without it.
//
// I1 is kept once more, in the transaction that allows a removal: Reclaiming reads the proofs in the same transaction
// that records it.
//
// An error that is not a refusal means "not known to be durable". All records may be repeated.
//
// The tables are explained in SCHEMA.md.
package ledger
