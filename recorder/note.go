package recorder

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// noteVersion is raised when an old liverec must not take a note for one of its own: since 2 a part may be something else
// than FLV. Notes from oldestNote on can be read. A note that cannot be read is no harm: the part is sealed as it is.
const (
	noteVersion = 2
	oldestNote  = 1
)

// note is capture's message to its next process: Extent.State. It is true for the file up to Size, and whatever was
// written behind that is read back from the file.
type note struct {
	Version int    `json:"v"`
	Seq     uint32 `json:"seq"` // of the part that Base, Size, Frames and Content are of
	Head    int64  `json:"head"`
	Base    int64  `json:"base"` // output time of the file's time 0, ms
	Size    int64  `json:"size"` // bytes of the file
	Frames  int64  `json:"frames"`
	Content uint64 `json:"content"`
	// Samples says that the Repairer was told to know frames by their data alone. See note.data.
	Samples bool `json:"samples,omitempty"`
	// File is what is to be known of a part that is not FLV.
	File noteFile `json:"file,omitzero"`
	// Closed says that the part will not grow any more, and why; Place is its duration then, in ms.
	Closed segment.Cause `json:"closed,omitempty"`
	Place  int64         `json:"place,omitempty"`

	// Cuts says why the newest parts before this one ended; a crash may have come before their seal.
	Cuts map[uint32]segment.Cause `json:"cuts,omitempty"`

	// Ends says how much was in the newest parts when they were closed. What is less once they are sealed was lost with the
	// power.
	Ends map[uint32]partEnd `json:"ends,omitempty"`

	Repair repair.State    `json:"repair"`
	Adjust segment.Account `json:"adjust"` // what the Segmenter and the reader know beyond the Repairer's account

	Gaps    int   `json:"gaps"`
	GapTime int64 `json:"gap_ms"`
	// Gap is the last one. A next process says it again: the crash may have come before it was in the ledger.
	Gap segment.Gap `json:"gap"`
}

// partEnd is what was in a part when it was closed.
type partEnd struct {
	Frames int64 `json:"frames"`
	Place  int64 `json:"place"` // ms
}

// noteFile is what the file of a part does not tell, or not if it is torn.
type noteFile struct {
	Container Container      `json:"container"`
	Exact     time.Duration  `json:"exact"` // note.Base, in ns
	Head      []byte         `json:"head,omitempty"`
	Codec     [2]media.Codec `json:"codec"`
	Record    [2][]byte      `json:"record"`
}

// tracks are the configurations of a part; own is false if the note is of another one.
func (n note) tracks(seq uint32) (c configs, own bool) {
	f := n.File
	return configs{video: f.Record[vid], audio: f.Record[aud], codec: f.Codec}, n.Seq == seq && f.Container != ""
}

// data reports whether the Repairer knows frames by their data alone, and not with the header of their FLV tag.
func (n note) data() bool {
	r := n.Repair
	return n.Samples || r.VideoForm != nil || r.AudioForm != nil || len(r.Numbered) > 0
}

// last is the output time of the last frame of each track that the note knows.
func (n note) last() [2]int64 {
	if n.Repair.Version == 0 {
		return [2]int64{-1, -1}
	}
	return n.Repair.Last
}

func (n note) encode() []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("recorder: a note of plain numbers cannot be written: %v", err))
	}
	return b
}

// readNote reads a note; ok is false if there is none that can be used.
func readNote(b []byte) (n note, ok bool) {
	if len(b) == 0 || json.Unmarshal(b, &n) != nil || n.Version < oldestNote || n.Version > noteVersion {
		return note{}, false
	}
	return n, true
}

func ms(v int64) time.Duration { return time.Duration(v) * time.Millisecond }
