package codec

import (
	"errors"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// ErrBad says that a record or a frame header cannot be used.
var ErrBad = errors.New("unusable codec data")

// Info is what a configuration record says. What a codec has not, or does not say, is 0.
type Info struct {
	Codec media.Codec
	// Name is the codec as RFC 6381 writes it in a codecs parameter: "avc1.64001f", "hvc1.1.6.L93.90", "av01.0.04M.08",
	// "vp09.00.31.08", "mp4a.40.2", "opus", "ac-3", "ec-3", "fLaC".
	Name string

	Profile, Level int // as the record has them: AVC profile_idc, HEVC general_profile_idc, AV1 seq_profile, AAC object type

	Width, Height int     // pixels of the picture that is shown, cropping applied; 0 if unknown (vpcC)
	FrameRate     float64 // pictures per second; 0 if unknown or nonsense
	NALLength     int     // AVC, HEVC: bytes of the length in front of each NAL unit, 1 to 4

	SampleRate int // Hz of what comes out of the decoder; with explicit SBR twice that of the core
	CoreRate   int // AAC: Hz of the core; else SampleRate
	Channels   int
	// FrameSamples is the samples per channel at SampleRate in each frame, where all frames are alike: AAC 1024 (960,
	// with explicit SBR 2048), AC-3 1536, FLAC its block size. 0 where a frame says it itself: see [Info.Samples].
	FrameSamples int
	PreSkip      int // Opus: samples at 48 kHz that a player leaves out at the start
}

// FrameDuration is how long a frame usually lasts: of sound FrameSamples at SampleRate (20 ms for Opus), of video one
// picture. 0 if unknown.
func (i Info) FrameDuration() time.Duration { return 0 }

// Samples is how many samples per channel, at SampleRate, a frame of sound holds; 0 if that cannot be told. It looks
// into the frame only where FrameSamples is 0 or may be wrong (Opus, MP3, E-AC-3).
func (i Info) Samples(frame []byte) int { return 0 }

// Parse reads the configuration record of codec c. MP3 and G.711 have none: with an empty record they give what is
// always true of them; for MP3 the first bytes of a frame may be given instead. The error is ErrBad.
func Parse(c media.Codec, record []byte) (Info, error) { return Info{}, ErrBad }

// Equal reports whether a decoder set up with record a decodes what belongs to record b: the same parameter sets in
// whatever order, the same object type, rate, channels and frame length. Of records that cannot be read, only equal
// bytes are equal.
func Equal(c media.Codec, a, b []byte) bool { return false }

// Key reports whether a decoder can start at this frame. nalLength is Info.NALLength (4 for what a Sets gave out).
// open says that it is not the clean kind: pictures that are shown before it may need what was before (HEVC CRA and
// BLA with leading pictures, an H.264 I picture with a recovery point). VP8, VP9 and AV1 are told from their own
// headers. Sound is always a key.
func Key(c media.Codec, nalLength int, data []byte) (key, open bool) { return false, false }
