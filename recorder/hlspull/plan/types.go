package plan

import (
	"time"

	"github.com/liverec/liverec/pkg/media/hls"
)

// ID names a segment of one rendition.
type ID struct {
	Epoch  uint32 `json:"epoch"`
	Number uint64 `json:"n"`
}

// Segment is one place in the numbering.
type Segment struct {
	ID
	// Sequence is the media sequence number as listed: of it, not of Number, the implied initialisation vector is made.
	Sequence uint64
	URL      string // empty: nothing that can be asked (Unseen, or a scheme that is not opened)
	Path     string // of URL, without query
	Range    hls.ByteRange
	Duration time.Duration // as listed; of what is Unseen a guess
	Date     time.Time     // own date or counted on from one before in the same list; zero if there is none
	Dated    bool          // Date is its own
	Title    string
	Period   uint64 // discontinuity sequence number
	Map      *hls.Map
	Keys     []hls.Key
	Parts    []hls.Part

	Discontinuity bool // a tag is there, was in a stretch that was missed, or the epoch is new
	Begins        bool // first of an epoch
	Gap           bool // the server says that it does not have it
	Ad            bool // advertising, as the list says
	Skip          bool // no media and none missing: a placeholder
	// Unseen: it was never listed. URL is a guess by the pattern of the names around it, or empty.
	Unseen bool
	// Count is how many numbers it stands for, from Number on: more than 1 only of what is Unseen.
	Count uint64
	// Lost is media time that lies before the first segment of a new epoch and that no number stands for.
	Lost time.Duration
}

// Snapshot is one list as it was loaded.
type Snapshot struct {
	List *hls.Media
	At   time.Time // when it was asked for
	// Moved: it comes from another place or of another quality than the one before; names mean little, and keys and
	// maps of before do not hold.
	Moved bool
}

// Result is what one snapshot brought.
type Result struct {
	New     []Segment // in order; first those that were missed
	Known   []Segment // listed again, with what the newest list says of them: for what is not fetched yet
	Stale   bool      // an old copy of the list: nothing in it counts
	Empty   bool      // it lists nothing
	Full    bool      // it is a part of a list that does not fit: load all of it
	Doubt   bool      // with Stale: it looks like a new epoch, and the next list, be it the same, decides
	Ended   bool      // it says that nothing will be added
	Changed bool      // it brought something new
	Events  []Event
	// First and Edge are the first and the last number listed, when it is neither Stale nor Empty.
	First, Edge ID
	Window      time.Duration // sum of the durations listed
	Target      time.Duration // time between two reloads: the target duration, made plausible
	Grows       bool          // nothing ever leaves this list (EVENT, VOD)
}

// What tells what an Event is about.
type What uint8

// The kinds of events.
const (
	Jumped    What = iota + 1 // numbers were skipped: Count segments, Length media
	Restarted                 // a new epoch
	Renumber                  // the same segments under other numbers
	Renamed                   // the same segments under other names
	OldCopy                   // a stale list
	Placeless                 // names say nothing: numbers decide alone
)

func (w What) String() string {
	return [...]string{"", "segments were never listed", "the packager began anew", "segments were numbered anew",
		"segments have other names", "an old copy of the playlist", "segment names repeat"}[w]
}

// Event is something that a list did and that people may want to know.
type Event struct {
	What   What
	Count  uint64
	Length time.Duration
}

// Place is what is known of the last segment that was written, to go on behind it in another process.
type Place struct {
	ID
	Sequence uint64        `json:"msn"`
	Path     string        `json:"path"`
	Range    [2]int64      `json:"range,omitzero"` // length, offset
	Date     time.Time     `json:"date,omitzero"`
	Duration time.Duration `json:"lasts"`
	Period   uint64        `json:"period,omitempty"`
	At       time.Time     `json:"at"` // wall clock of the note
}
