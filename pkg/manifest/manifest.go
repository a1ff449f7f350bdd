// Package manifest is the file that lies beside the parts on every store: format liverec/1.
//
// It owns the shape and the making of it from what the ledger knows. It is pure: it writes nothing anywhere.
package manifest

import "time"

// Format is the value of the field "format".
const Format = "liverec/1"

// Name of the file in the session's folder.
const Name = "manifest.json"

// Manifest tells everything about one broadcast on one target: the parts that are proven there, always a prefix of
// the recording order, and every stretch that is missing.
type Manifest struct {
	Format    string     `json:"format"`
	Site      string     `json:"site"`
	Room      string     `json:"room"`
	Streamer  string     `json:"streamer"`
	Title     string     `json:"title"`
	Broadcast string     `json:"broadcast"`
	Started   time.Time  `json:"started"`
	Ended     *time.Time `json:"ended"` // null while the broadcast is live
	Parts     []Part     `json:"parts"`
	Gaps      []Gap      `json:"gaps"`
	Repairs   []Repair   `json:"repairs"`
	Account   *Account   `json:"account,omitempty"`
}

// Part is one proven file.
type Part struct {
	Seq         uint32    `json:"seq"`
	Name        string    `json:"name"`
	Size        int64     `json:"size"`
	SHA256      string    `json:"sha256"`
	Started     time.Time `json:"started"`
	DurationMS  int64     `json:"duration_ms"`
	VideoFrames int64     `json:"video_frames"`
	AudioFrames int64     `json:"audio_frames"`
	Cut         string    `json:"cut"`
	Content     string    `json:"content,omitempty"` // running hash over (ordinal, digest) of its media, 16 hex digits
}

// Gap is media that was sent and is not here.
type Gap struct {
	AfterSeq uint32    `json:"after_seq"`
	AtMS     int64     `json:"at_ms"`
	At       time.Time `json:"at"`
	Seconds  float64   `json:"seconds"`
	Why      string    `json:"why"`
}

// Repair is something that was put right with nothing missing.
type Repair struct {
	Seq  uint32 `json:"seq"`
	AtMS int64  `json:"at_ms"`
	What string `json:"what"`
}

// Account is the balance of capture: what came in and where it went, and whether the identities hold.
type Account struct {
	Balanced bool   `json:"balanced"`
	Error    string `json:"error,omitempty"`
	Received int64  `json:"received_bytes"`
	Parsed   int64  `json:"parsed"`
	Written  int64  `json:"written"`
	// Dropped is what was left out, by reason: duplicates, pre_roll, headers, scripts, end_marks, invalid,
	// disk_stalled.
	Dropped map[string]int64 `json:"dropped"`
}
