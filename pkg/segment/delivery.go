package segment

import (
	"encoding/hex"
	"time"
)

// Object names what a segment becomes on a target.
type Object struct {
	ID  ID
	Key string // remote name, "alice/2026-01-02_030405_title/P0001.flv"
	// Local is the absolute path of the file as it is called now; a target on the same file system may link it
	// once the segment is sealed. Everybody else takes the bytes that it is handed.
	Local   string
	Size    int64 // -1 while the segment is open
	MaxSize int64 // what it can grow to at the most; chooses the chunk size
	SHA256  Sum   // zero while the segment is open
	Chunk   int64 // chunk size of this upload: chosen at Open, kept for ever after
}

// Chunk is a byte range of a segment: the unit of upload, retry and resume. S3 calls it a part. Index counts from 0;
// all chunks of an object are equally long but the last.
type Chunk struct {
	Index  int
	Offset int64
	Length int64
}

// Ack says that the target accepted a chunk. It can only be made from a good reply.
type Ack struct {
	Chunk
	Tag string // what the target needs at Commit (S3: the ETag)
	Sum uint32 // CRC-32C of the bytes, as they were sent
}

// Receipt says that the target completed an object. It is a claim, not a proof.
type Receipt struct {
	Key  string
	Size int64
	Tag  string // ETag, inode, cid …
	Sum  string // the target's own checksum of the whole, with its kind in front ("crc32c:…-3")
	// Detail is the target's own note, kept as it is.
	Detail string
}

// Proof is the answer to an independent question after the receipt: the copy is there and whole. Only a proof counts.
type Proof struct {
	Size int64     `json:"size"`
	Sum  string    `json:"sum"`
	How  string    `json:"how"` // "size and SHA-256 read back", "size and CRC-32C of 12 parts by HEAD"
	At   time.Time `json:"at"`
}

// Outcome tells control that a delivery moved. Err nil means verified; otherwise it says why it is parked.
type Outcome struct {
	Target TargetID
	ID     ID
	Err    error
}

// DeliveryState is where a delivery stands.
type DeliveryState string

// The states of a delivery. Committed is not safe; Verified is.
const (
	Due        DeliveryState = "due"        // nothing is known to be there
	Opening    DeliveryState = "opening"    // an upload may have been opened, its token may be lost
	Uploading  DeliveryState = "uploading"  // the token is known
	Committing DeliveryState = "committing" // the object may be complete: ask before repeating
	Committed  DeliveryState = "committed"  // the target says so
	Verified   DeliveryState = "verified"   // we asked anew
	Parked     DeliveryState = "parked"     // waits for a person or a timer; blocks nobody, deletes nothing
)

// next lists the legal transitions. Parked may be entered from anywhere but Verified and left to where it came from.
var next = map[DeliveryState][]DeliveryState{
	Due:        {Opening, Parked},
	Opening:    {Uploading, Due, Parked},
	Uploading:  {Committing, Due, Parked},
	Committing: {Committed, Uploading, Due, Parked},
	Committed:  {Verified, Due, Parked},
	Verified:   {Due}, // `liverec verify` found the copy gone or damaged while ours is still here
	Parked:     {Due, Opening, Uploading, Committing, Committed},
}

// CanBecome reports whether a delivery may go from s to t. Staying is always legal: acts are repeated after a crash.
func (s DeliveryState) CanBecome(t DeliveryState) bool {
	if s == t {
		return true
	}
	for _, n := range next[s] {
		if n == t {
			return true
		}
	}
	return false
}

// Delivery is one segment on its way to one target.
type Delivery struct {
	Segment  Segment
	Target   TargetID
	Required bool
	Key      string
	State    DeliveryState
	Before   DeliveryState // where it stood when it was parked
	Chunk    int64         // chunk size of the upload that is under way, 0 before it was opened
	Token    string        // of the upload that is under way
	Acks     []Ack         // by Index
	Receipt  Receipt
	Instead  Copy // what is sent in the place of the segment's own file; zero: nothing
	// Stored is when transport was told anew that the object is there and whole, on a target where a part counts only
	// once the target's own list shows it: the delivery is Committed until control has seen that. Zero elsewhere.
	Stored time.Time
	Proof  Proof
	Why    string // the last error, for people
	Since  time.Time
}

// Listable reports whether the target has the whole object, so that its list may show it: proven, or stored on a target
// whose list is the proof.
func (d Delivery) Listable() bool {
	return d.State == Verified || d.State == Committed && !d.Stored.IsZero()
}

// Copy is a file that was made from a segment, because a target could do nothing with the segment's own. It lies on our
// disk as long as the segment does, and is never changed.
type Copy struct {
	Path     string        `json:"path"` // below the data folder
	Size     int64         `json:"size"`
	Duration time.Duration `json:"duration"`
	SHA256   string        `json:"sha256"` // hex
}

// Sent is the segment as it goes to the target: with the file and the size of what is sent in its place.
func (d Delivery) Sent() Segment {
	s := d.Segment
	if d.Instead.Path != "" {
		s.Path, s.Size, s.Duration, s.SHA256, s.Content = d.Instead.Path, d.Instead.Size, d.Instead.Duration, Sum{}, 0
		_, _ = hex.Decode(s.SHA256[:], []byte(d.Instead.SHA256[:min(len(d.Instead.SHA256), 2*len(s.SHA256))])) // one that is none compares unequal
	}
	return s
}

// Destination is a target as the ledger knows it.
type Destination struct {
	ID       TargetID
	Spec     string // the DEST to open it again in another process, without secrets
	Required bool
}

// Holding is a sealed segment that still lies on our disk.
type Holding struct {
	Segment
	Keep     time.Duration // how long it stays once it is safe
	Required []TargetID
	Proofs   map[TargetID]Proof
	SafeAt   time.Time // when the last required proof came; zero while one is missing
	Copies   []string  // files that were made from it and go with it
	// Reclaiming says that the intention to remove it is on record: the file may be gone already (K11, K12).
	Reclaiming bool
}

// Safe reports whether every required target has its final proof. A segment that nobody wants is not safe: a
// holding without required targets is never freed.
func (h Holding) Safe() bool {
	if len(h.Required) == 0 || h.SafeAt.IsZero() {
		return false
	}
	for _, t := range h.Required {
		if p, ok := h.Proofs[t]; !ok || p.At.IsZero() || p.Size != h.Size {
			return false
		}
	}
	return true
}

// Publication is the list that a target shows for a session: the manifest of a store, the parts of a submission.
type Publication struct {
	Session  SessionID
	Target   TargetID
	Required bool
	Wanted   string // digest of the list that was last intended, "" if none
	Shown    string // digest of the list that was last confirmed
	Parts    int    // how many parts the confirmed list has; never shrinks (I4)
	Ended    bool   // the confirmed list says that the broadcast is over
	Token    string // what the target calls it
	Why      string // the last error, for people
}

// Broadcast is everything that the ledger knows of one session: what control decides upon, what the manifest, the
// report and status are made from.
type Broadcast struct {
	Session      Session
	Segments     []Segment // by Seq; a last one may be open
	Deliveries   map[TargetID][]Delivery
	Gaps         []Gap
	Repairs      []Repair
	Publications map[TargetID]Publication
	Reclaimed    map[uint32]time.Time // by Seq
}

// Command is what a person may ask of a running room.
type Command struct {
	Room RoomID
	Verb Verb
}

// Verb is the word of a Command.
type Verb string

// The verbs. The disk ladder speaks the same language.
const (
	VerbPause    Verb = "pause"
	VerbContinue Verb = "continue"
	VerbSplit    Verb = "split"
	VerbStop     Verb = "stop"
)
