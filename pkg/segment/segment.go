// Package segment is the vocabulary of liverec: the values that cross the borders between capture, transport,
// control and the ledger, the names of their states, and which step may follow which.
//
// It owns words and never acts: no goroutine, no I/O, no clock, no import but the standard library. A type that
// appears in a stage's Journal or travels on a channel between stages lives here, so that the stages need not know
// one another.
package segment

import (
	"encoding/hex"
	"fmt"
	"time"
)

// RoomID names a room for ever: the site and the room's address in its canonical form ("direct:http://host/live.flv").
// It carries no secret: user info and signatures are cut out before.
type RoomID string

// SessionID names one broadcast. It is a ULID, so sessions sort by the moment at which they were first seen.
// Identity is the room plus "no longer away than the grace", never a date and never a title.
type SessionID string

// TargetID names a place for copies: the destination as the user wrote it, made absolute, without any secret
// ("file:/srv/archive", "s3://bucket/live?endpoint=http://127.0.0.1:9000").
type TargetID string

// ID names a segment. Seq counts from 1 within the session and alone gives the order; clocks never do (I9).
type ID struct {
	Session SessionID
	Seq     uint32
}

func (id ID) String() string { return fmt.Sprintf("%s/P%04d", id.Session, id.Seq) }

// Base is the name of a part without its extension: "P0001".
func (id ID) Base() string { return fmt.Sprintf("P%04d", id.Seq) }

// Cause says why a part ended where it did. The values are those of the manifest.
type Cause string

// The causes of a cut, as in the manifest.
const (
	CutNone      Cause = ""          // still open
	CutTime      Cause = "time"      // --segment is over
	CutSize      Cause = "size"      // --max-size is reached
	CutHeader    Cause = "header"    // the stream changed its codec configuration or size
	CutSplit     Cause = "split"     // somebody asked for it
	CutPause     Cause = "pause"     // the room was paused, by a person or by the disk ladder
	CutStop      Cause = "stop"      // the program was told to stop
	CutEnd       Cause = "end"       // the broadcast is over
	CutRecovered Cause = "recovered" // closed after a crash, the source did not come back as it was
)

// Sum is a SHA-256. The zero value means "not known yet".
type Sum [32]byte

func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// IsZero reports whether the sum is not known yet.
func (s Sum) IsZero() bool { return s == Sum{} }

// Segment is one file that plays alone, begun at a key frame: the unit of order, publication and reclaim. The
// manifest and Bilibili call it a part. Once sealed it never changes.
type Segment struct {
	ID   ID
	Room RoomID
	// Path is where the bytes lie, below the data folder, with slashes ("media/01J…/P0001.flv"). While the segment
	// is open the file is called Path + PartSuffix. For a foreign segment it is an absolute path.
	Path string
	// Foreign marks a file that belongs to the user (liverec upload FILE): it is never removed, moved or changed.
	Foreign bool

	Start    time.Time     // wall clock at the first frame; a label, never an order
	Duration time.Duration // from the first frame to the end of the last one (video; audio where there is no video)
	Size     int64         // bytes; while open: what is durable
	Head     int64         // the first Head bytes may still be patched until the seal; all others never change
	SHA256   Sum           // of the whole file, known from the seal on

	VideoFrames int64
	AudioFrames int64
	Content     uint64 // running hash over (ordinal, digest) of the media in it: the accounting identity of content
	Cut         Cause
	Sealed      bool
}

// PartSuffix ends the name of a file that is still growing.
const PartSuffix = ".part"

// Progress is a doorbell: so much of a segment is durable. Values only grow, so losing or merging one is harmless;
// whoever hears it reads the ledger.
type Progress struct {
	ID      ID
	Durable int64
	Sealed  bool
}

// Extent is what capture knows of the open segment at one durable point.
type Extent struct {
	Durable     int64 // bytes [0, Durable) are fsynced; those above Head never change again
	Duration    time.Duration
	VideoFrames int64
	AudioFrames int64
	At          time.Time // wall clock: when the room was last heard
	// State is capture's own note to itself: what a new process needs to go on in this segment (clock offset,
	// counters, content hash). Only recorder reads it. Nil leaves the former note as it is.
	State []byte
}

// Gap is media that was sent and is not here. It is known by the part that holds the last frame before it.
type Gap struct {
	Session  SessionID
	AfterSeq uint32        // 0: before the first part
	At       time.Time     // wall clock at the last frame before it
	AtMedia  time.Duration // the place in part AfterSeq
	Length   time.Duration // media time that is missing
	Why      string
}

// Repair is something wrong in the stream that was put right with nothing missing.
type Repair struct {
	Session SessionID
	Seq     uint32
	AtMedia time.Duration // the place in part Seq
	What    string        // "clock jumped ahead by 90 s"
}

// Account is the balance of one session's capture (the accounting identities): what came in and where it went. All
// counts are of the whole session, over restarts.
type Account struct {
	ReceivedBytes int64 `json:"received_bytes"`
	HeaderBytes   int64 `json:"header_bytes"`
	TagBytes      int64 `json:"tag_bytes"` // whole tags, with their 11-byte header and 4-byte trailer
	JunkBytes     int64 `json:"junk_bytes"`
	PartialBytes  int64 `json:"partial_bytes"`

	Parsed      int64 `json:"parsed"` // tags
	Written     int64 `json:"written"`
	Duplicates  int64 `json:"duplicates"`
	PreRoll     int64 `json:"pre_roll"` // before the first key frame
	Headers     int64 `json:"headers"`  // sequence headers, repeated or taken into the head
	Scripts     int64 `json:"scripts"`
	EndMarks    int64 `json:"end_marks"`
	Invalid     int64 `json:"invalid"`
	Dropped     int64 `json:"dropped"` // given up because the disk stood still; each stretch is a gap
	Held        int64 `json:"held"`    // 0 at the end
	Connections int64 `json:"connections"`
}

// Add sums two accounts of one session.
func (a Account) Add(b Account) Account {
	a.ReceivedBytes += b.ReceivedBytes
	a.HeaderBytes += b.HeaderBytes
	a.TagBytes += b.TagBytes
	a.JunkBytes += b.JunkBytes
	a.PartialBytes += b.PartialBytes
	a.Parsed += b.Parsed
	a.Written += b.Written
	a.Duplicates += b.Duplicates
	a.PreRoll += b.PreRoll
	a.Headers += b.Headers
	a.Scripts += b.Scripts
	a.EndMarks += b.EndMarks
	a.Invalid += b.Invalid
	a.Dropped += b.Dropped
	a.Held += b.Held
	a.Connections += b.Connections
	return a
}

// Check returns an error that names the identity which does not hold, or nil.
func (a Account) Check() error {
	if got := a.HeaderBytes + a.TagBytes + a.JunkBytes + a.PartialBytes; got != a.ReceivedBytes {
		return fmt.Errorf("bytes do not balance: received %d, accounted for %d", a.ReceivedBytes, got)
	}
	if got := a.Written + a.Duplicates + a.PreRoll + a.Headers + a.Scripts + a.EndMarks + a.Invalid + a.Dropped + a.Held; got != a.Parsed {
		return fmt.Errorf("tags do not balance: parsed %d, accounted for %d", a.Parsed, got)
	}
	return nil
}

// Room is what is known of a configured thing to watch.
type Room struct {
	ID   RoomID
	URL  string // as the user wrote it, for showing (query values of signatures cut out)
	Name string // what the user calls it; by default made from the URL
	Site string // "direct", "bilibili", …
}

// Session is one broadcast.
type Session struct {
	ID       SessionID
	Room     Room
	Streamer string
	Title    string
	Name     string    // the folder on every target, made safe, unique in this ledger
	Started  time.Time // UTC
	Heard    time.Time // when the room was last heard
	Ended    time.Time // zero while it is live, or while nobody knows
	Complete bool      // ended, proven and published on every required target
	Account  Account
}

// Entry is the answer to "a room is live: where do I go on?".
type Entry struct {
	Session Session
	Resumed bool   // the session was there before
	NextSeq uint32 // of the next part to begin
	// Open is the part that was begun last if it is not sealed: a crash left it open. Nil if there is none.
	Open *Segment
	// Left are the parts before Open that are not sealed either, by Seq: the crash came between the Begin of the next
	// part and their Seal.
	Left []Segment
	// State is the session's last note (Extent.State of the newest part that has one), also if no part is open.
	State []byte
}
