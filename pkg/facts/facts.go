// Package facts says what happened: a broadcast began, a part was closed, a part is safe, a broadcast ended, something is
// wrong and is well again. It finds that out by comparing the picture of now with what it told before.
//
// It owns the shapes of facts and the table of troubles: no state that risks media is without one. It is pure: pictures
// and moments are handed in, what it has to remember over a restart is handed out. It never acts on a fact, and whoever
// tells them to the world listens only.
package facts

import (
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// Format is the value of the field "format".
const Format = "liverec-fact/1"

// Kind names what happened, in the words of the config file.
type Kind string

// The kinds.
const (
	BroadcastStart Kind = "broadcast.start"
	PartSealed     Kind = "part.sealed"
	PartSafe       Kind = "part.safe"
	BroadcastEnd   Kind = "broadcast.end"
	TroubleFact    Kind = "trouble"
)

// Fact is one thing that happened. Its JSON is what hooks read.
type Fact struct {
	Format    string     `json:"format"`
	Kind      Kind       `json:"fact"`
	At        string     `json:"at"`
	Room      *Room      `json:"room,omitempty"`
	Broadcast *Broadcast `json:"broadcast,omitempty"`
	Part      *Part      `json:"part,omitempty"`
	Report    *Report    `json:"report,omitempty"`
	Trouble   *Trouble   `json:"trouble,omitempty"`
}

// Room is where it happened.
type Room struct {
	Room string `json:"room"`
	URL  string `json:"url"`
	Site string `json:"site"`
}

// Broadcast is the one it happened in.
type Broadcast struct {
	ID       string `json:"broadcast"`
	Title    string `json:"title"`
	Streamer string `json:"streamer"`
	Name     string `json:"name"` // the folder on every target
	Started  string `json:"started"`
	Ended    string `json:"ended"` // "" while it is live
}

// Part is a part that was closed, or is safe.
type Part struct {
	Seq        uint32 `json:"seq"`
	Name       string `json:"name"` // "P0001.flv"
	Path       string `json:"path"` // where it lies on this disk; it may be gone a moment after it is safe
	Size       int64  `json:"size"`
	SHA256     string `json:"sha256"`
	DurationMS int64  `json:"duration_ms"`
	Started    string `json:"started"`
	Cut        string `json:"cut"`
	Targets    []Copy `json:"targets"`
}

// Copy is a part on one target.
type Copy struct {
	Target   string `json:"target"`
	Required bool   `json:"required"`
	Key      string `json:"key"`
	Verified bool   `json:"verified"`
}

// Report says how a broadcast went.
type Report struct {
	Text        string  `json:"text"`
	Share       float64 `json:"share"` // 0 … 1 of what was sent is here
	RecordedMS  int64   `json:"recorded_ms"`
	MissingMS   int64   `json:"missing_ms"`
	Gaps        int     `json:"gaps"`
	LongestMS   int64   `json:"longest_gap_ms"`
	Parts       int     `json:"parts"`
	Verified    int     `json:"verified"`
	Targets     int     `json:"targets"`
	Parked      int     `json:"parked"`
	UnsafeBytes int64   `json:"unsafe_bytes"`
	Complete    bool    `json:"complete"` // everything is proven and every list is set
}

// Trouble begins and ends.
type Trouble struct {
	Key   string `json:"key"`   // the same at the begin and at the end
	State string `json:"state"` // begins, ends
	Since string `json:"since"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"` // what a person can do
	// Again says that it was over less than an hour ago: it comes and goes, and its end is told only after an hour without it.
	Again bool `json:"again,omitempty"`
}

// The states of a trouble.
const (
	Begins = "begins"
	Ends   = "ends"
)

// Picture is what there is to see at one moment.
type Picture struct {
	Now    time.Time
	Status status.Status
	// Broadcasts are those that are not complete, and those of Teller.Follows. Nothing is concluded from their absence while
	// Ledger is set.
	Broadcasts []segment.Broadcast
	Ledger     error             // why the ledger cannot be written or read; nil
	Config     string            // why the config file was not taken over, with its line; "" if it was
	Names      map[string]string // what the user calls a target, by status.Target.Target
	More       []Condition       // what only the process knows: hooks that are lost, a login that nobody renews
}

// Config of a Teller.
type Config struct {
	Data string // the data folder, for the paths of parts
	// Patience is how long the end of a broadcast waits for its last copies to be proven; default 10 min.
	Patience time.Duration
	// Unsafe is the longest that media may be safe nowhere else without a word; default 3 h.
	Unsafe time.Duration
}

// Teller compares pictures. It belongs to one goroutine.
type Teller struct {
	cfg  Config
	mem  memory
	last time.Time // of the last look
	live map[string]time.Time
	dirt bool // something was remembered since the last State
}

// memory is what has to outlast a restart. It says what was told, and is stored before it is told: a crash between the
// two loses a fact, where the other order would tell it twice and run a hook twice for one part. The ledger knows what
// happened, and cannot know what was told.
type memory struct {
	Broadcasts map[segment.SessionID]*told `json:"broadcasts"`
	Troubles   map[string]*trouble         `json:"troubles"`
}

// told is what was told of a broadcast.
type told struct {
	Sealed uint32   `json:"sealed"`          // of all parts up to this one
	Safe   uint32   `json:"safe"`            // likewise
	Later  []uint32 `json:"later,omitempty"` // parts above Safe that became safe before it
	Ended  bool     `json:"ended,omitempty"`
}
