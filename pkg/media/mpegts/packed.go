package mpegts

// Packed takes packed audio segments apart: ADTS, MP3, AC-3 or E-AC-3 frames behind an ID3 tag that holds the time of
// the first one.
type Packed struct{}

// NewPacked starts nothing. Of cfg, Unit and DropCorrupt count.
func NewPacked(cfg DemuxerConfig) *Packed { return &Packed{} }

// IsPacked reports whether a segment begins as packed audio does. 10 bytes are enough.
func IsPacked(b []byte) bool { return false }

// IsTS reports whether a segment begins as a transport stream does: sync bytes at 0, 188, 376 as far as b reaches.
func IsTS(b []byte) bool { return false }

// Segment takes one whole segment. Frames get their time from its ID3 tag, and count on from it; without one from the
// frame before, and from 0 if there is none.
func (p *Packed) Segment(b []byte) error { return nil }

// Break and Near are as for Demuxer.
func (p *Packed) Break()       {}
func (p *Packed) Near(t int64) {}

// Count is what was seen so far: Received = frames and tags (Packets is 0) + Junk.
func (p *Packed) Count() Count { return Count{} }
