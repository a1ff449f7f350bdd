package mpegts

import (
	"errors"
	"io"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// Track is what a muxer must know of one stream.
type Track struct {
	Codec  media.Codec
	Config []byte // record as media.Packet.Payload of a config packet; nil for MP3
}

// Config says what a file holds. nil: no such track.
type Config struct{ Video, Audio *Track }

// Sample is one access unit or frame of sound, as media.Packet.Payload has it.
type Sample struct {
	Video, Key bool
	Time       time.Duration // DTS from the begin of the part
	Shift      time.Duration // PTS - DTS
	Data       []byte
}

// ErrCodec says that a transport stream cannot carry a codec, or that it is not written here.
var ErrCodec = errors.New("not for a transport stream")

// Muxer writes one .ts file. Nothing that was written is ever changed.
type Muxer struct{}

// NewMuxer refuses by name what it cannot carry: the error wraps ErrCodec, or codec.ErrBad for a record that is unusable.
func NewMuxer(cfg Config) (*Muxer, error) { return nil, ErrCodec }

// Head is what a new file begins with: PAT and PMT.
func (m *Muxer) Head() []byte { return nil }

// Add takes a copy of s.Data. The error wraps codec.ErrBad: the sample cannot be written, nothing was taken.
func (m *Muxer) Add(s Sample) error { return nil }

// Pending is the bytes and the media time that wait for Flush.
func (m *Muxer) Pending() (int, time.Duration) { return 0, 0 }

// Flush appends all that was added to dst, as whole packets. What is in the file then survives a cut there.
func (m *Muxer) Flush(dst []byte) []byte { return dst }

// Size is of the file if it were flushed and closed now; Written is head and all that was flushed.
func (m *Muxer) Size() int64    { return 0 }
func (m *Muxer) Written() int64 { return 0 }

// Duration is how far the flushed samples reach; Frames how many there are.
func (m *Muxer) Duration() time.Duration      { return 0 }
func (m *Muxer) Frames() (video, audio int64) { return 0, 0 }

// Content is media.Chain over the flushed samples in file order. The sum of a sample is XXH64 of a type byte (9 video,
// 8 sound) and its data as it was handed in.
func (m *Muxer) Content() uint64 { return 0 }

// Scanned is what Scan found.
type Scanned struct {
	Cut   int64  // length of the file after its last whole sample: truncate it to this
	Muxer *Muxer // goes on from there, Head excepted
}

// ScanConfig is what Scan needs.
type ScanConfig struct {
	Config                                      // as it was given to NewMuxer
	Sample func(s Sample, at int64, sum uint64) // each whole sample in file order; s.Data is valid during the call; may be nil
}

// Scan reads a file that a Muxer wrote and finds the end of its last whole sample. The error is one of reading, or
// codec.ErrBad if the file was not written with this Config.
func Scan(r io.ReaderAt, size int64, cfg ScanConfig) (*Scanned, error) { return nil, ErrCodec }
