//go:build !race

package ledger

// slowly says that the race detector watches: SQLite takes ten times as long then.
const slowly = false
