package mp4

import (
	"errors"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// ErrUnsupported says that MP4, or this package, cannot carry a codec, or not with that configuration.
var ErrUnsupported = errors.New("MP4 cannot carry it")

// ErrFull says that the open fragment must be flushed before more can be added.
var ErrFull = errors.New("the open fragment is full")

// Track is what the head of a part says of one track.
type Track struct {
	Codec media.Codec
	// Config is the configuration record as in the payload of a media.VideoConfig or media.AudioConfig: avcC, hvcC, av1C,
	// vpcC; AudioSpecificConfig, dOps (or an OpusHead), dac3, dec3, dfLa (or fLaC and STREAMINFO). vpcC and dfLa are meant
	// without version and flags, but are taken with them as well. Nothing for MP3 and G.711.
	Config        []byte
	Width, Height int // of video
	SampleRate    int // of sound; 0: what the record says
	Channels      int // of sound; 0: what the record says
	// Timescale is ticks per second. 0: 90 000 for video, the sample rate for sound.
	Timescale uint32
}

// Config is what a Writer begins with. A track that is nil does not exist.
type Config struct{ Video, Audio *Track }

// Sample is one access unit or sound frame.
type Sample struct {
	Video, Key bool
	Time       time.Duration // DTS, from the begin of the part
	Shift      time.Duration // PTS - DTS; may be negative
	Lasts      time.Duration // how long a frame of this track usually lasts; 0: not known
	Data       []byte        // copied
	// Sum is the XXH64 of the type byte (9 video, 8 sound) and Data, where the caller knows it: media.Packet.Sum of a packet
	// that is not from FLV. 0: not known.
	Sum uint64
}

// Writer makes the bytes of one hybrid MP4 file. It does no I/O.
type Writer struct{}

// NewWriter refuses with ErrUnsupported, by name, what MP4 cannot carry.
func NewWriter(cfg Config) (*Writer, error) { return &Writer{}, nil }

// Head is what a new file begins with: HeadLen bytes. It should be called when the first frame of each track was added,
// and before the bytes of the first Flush are written; from the first call on, or from the first Flush, it stays the
// same. Valid as long as the Writer is.
func (w *Writer) Head() []byte { return nil }

// HeadLen is the length of the head, known from the begin. The first HeadLen bytes of a file may still be patched;
// everything behind them is only appended to.
func (w *Writer) HeadLen() int64 { return 0 }

// Add takes a sample into the open fragment. Times that do not rise within a track are moved to the next tick. Errors:
// ErrFull, a track that does not exist, a sample that is empty or more than 1 GiB, a gap of more than 2³² ticks. After an
// error the sample is not part of the file; the Writer goes on.
func (w *Writer) Add(s Sample) error { return nil }

// Pending is how many bytes of media and how much media time wait in the open fragment.
func (w *Writer) Pending() (int, time.Duration) { return 0, 0 }

// Flush appends the open fragment, moof and mdat, to dst; nothing if it is empty.
func (w *Writer) Flush(dst []byte) []byte { return dst }

// Size is how large the file will be if it is closed now: head, fragments, the open fragment and the index.
func (w *Writer) Size() int64 { return 0 }

// Written is the head and all fragments that were flushed: what must be in the file now.
func (w *Writer) Written() int64 { return 0 }

// Duration is from the first frame to the end of the last one, of video if there is some, else of sound.
func (w *Writer) Duration() time.Duration { return 0 }

// Frames counts the samples that were added.
func (w *Writer) Frames() (video, audio int64) { return 0, 0 }

// Content is media.Chain over the samples that were flushed, in the order of the file: in each fragment video first.
func (w *Writer) Content() uint64 { return 0 }

// Close says how to finish the file: append tail (the open fragment, if there is one, and the index), sync, then write
// patch at offset at, sync. A crash in between is harmless. The Writer must not be used afterwards.
func (w *Writer) Close() (tail []byte, at int64, patch []byte) { return nil, 0, nil }
