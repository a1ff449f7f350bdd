package metrics

// Numbers is what a running process counts beside its status.Status. A number that ends in Total only grows while the
// process runs; a scrape takes a fall for a restart. Making Numbers costs no question to the ledger per part: they are
// counted as things happen, or read at most every few seconds.
type Numbers struct {
	Rooms   []Room
	Targets []Target
	// Parts counts parts by state: Open, Unsafe, Safe, Freed. States that are left out are 0.
	Parts map[PartState]int64
}

// PartState is the label state of liverec_parts.
type PartState string

// The states of a part. Each part is in one of them.
const (
	Open   PartState = "open"      // is being recorded
	Unsafe PartState = "unsafe"    // closed, and a required proof is missing
	Safe   PartState = "safe"      // every required proof is there, the file still lies on the disk
	Freed  PartState = "reclaimed" // safe, and gone from the disk
)

// Room is what is counted of a room.
type Room struct {
	Room          string             // status.Room.Room
	OldestUnsafe  float64            // seconds since the oldest part began that is safe nowhere else; 0 if all are
	ReceivedTotal int64              // bytes from the source
	MissingTotal  map[string]float64 // seconds of media that are gaps, by the reason of the gap
}

// Target is what is counted of a target.
type Target struct {
	Target        string // status.Target.Target
	UploadedTotal int64  // bytes in acknowledged chunks
	// RetriesTotal counts what was tried again, by what was wrong: failure.Kind.String().
	RetriesTotal map[string]int64
}
