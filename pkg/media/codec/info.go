package codec

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// ErrBad says that a record or a frame header cannot be used.
var ErrBad = errors.New("unusable codec data")

// Info is what a configuration record says. What a codec has not, or does not say, is 0.
type Info struct {
	Codec media.Codec
	// Name is the codec as RFC 6381 writes it in a codecs parameter: "avc1.64001f", "hvc1.1.6.L93.90", "av01.0.04M.08",
	// "vp09.00.31.08", "mp4a.40.2", "opus", "ac-3", "ec-3", "fLaC"; "alaw" and "ulaw" have no registered one.
	Name string

	Profile, Level int // as the record has them: AVC profile_idc, HEVC general_profile_idc, AV1 seq_profile, AAC object type

	Width, Height int     // pixels of the picture that is shown, cropping applied; 0 if unknown (vpcC, sets in the stream)
	FrameRate     float64 // pictures per second; 0 if unknown or nonsense
	NALLength     int     // AVC, HEVC: bytes of the length in front of each NAL unit: 1, 2 or 4

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
func (i Info) FrameDuration() time.Duration {
	switch {
	case i.FrameRate > 0:
		return time.Duration(float64(time.Second) / i.FrameRate)
	case i.Codec == media.Opus:
		return 20 * time.Millisecond
	case i.FrameSamples > 0 && i.SampleRate > 0:
		return time.Duration(i.FrameSamples) * time.Second / time.Duration(i.SampleRate)
	}
	return 0
}

// Samples is how many samples per channel, at SampleRate, a frame of sound holds; 0 if that cannot be told. It looks
// into the frame where frames may differ (Opus, MP3, E-AC-3, FLAC, G.711).
func (i Info) Samples(frame []byte) int {
	switch i.Codec {
	case media.Opus:
		return opusSamples(frame)
	case media.MP3:
		if f, ok := MP3Frame(frame); ok {
			return f.Samples
		}
	case media.EAC3:
		if f, _, ok := AC3Frame(frame); ok && f.Samples > 0 {
			return f.Samples
		}
	case media.FLAC:
		if n := flacSamples(frame); n > 0 {
			return n
		}
	case media.PCMA, media.PCMU:
		return len(frame) / max(1, i.Channels)
	}
	return i.FrameSamples
}

// Parse reads the configuration record of codec c. MP3 and G.711 have none: with an empty record they give what is
// always true of them; for MP3 the first bytes of a frame may be given instead. vpcC and dfLa are read with and without
// the version and flags of their boxes. The error is ErrBad.
func Parse(c media.Codec, record []byte) (Info, error) {
	switch c {
	case media.AVC:
		return parseAVCC(record)
	case media.HEVC:
		return parseHVCC(record)
	case media.AV1:
		return parseAV1C(record)
	case media.VP8, media.VP9:
		return parseVPCC(c, record)
	case media.AAC:
		return parseAAC(record)
	case media.MP3:
		return parseMP3(record)
	case media.Opus:
		return parseOpus(record)
	case media.AC3:
		return parseAC3(record)
	case media.EAC3:
		return parseEAC3(record)
	case media.FLAC:
		return parseFLAC(record)
	case media.PCMA:
		return Info{Codec: c, Name: "alaw", SampleRate: 8000, CoreRate: 8000, Channels: 1}, nil
	case media.PCMU:
		return Info{Codec: c, Name: "ulaw", SampleRate: 8000, CoreRate: 8000, Channels: 1}, nil
	}
	return Info{}, bad("no record of %v is known", c)
}

// Equal reports whether a decoder set up with record a decodes what belongs to record b: the same parameter sets in
// whatever order, the same profile and length of lengths, the same object type, rate, channels and frame length. Of
// records that cannot be read, only equal bytes are equal.
func Equal(c media.Codec, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, err := Parse(c, a)
	if err != nil {
		return false
	}
	y, err := Parse(c, b)
	if err != nil {
		return false
	}
	switch c {
	case media.AVC, media.HEVC:
		if x.NALLength != y.NALLength || x.Name != y.Name {
			return false
		}
		p, err := ReadSets(c, a)
		if err != nil {
			return false
		}
		q, err := ReadSets(c, b)
		return err == nil && p.Equal(q)
	case media.AV1:
		return x.Name == y.Name && equalAV1C(a, b)
	case media.VP8, media.VP9:
		return bytes.Equal(boxed(a, 1), boxed(b, 1))
	case media.AAC:
		p, err := parseASC(a)
		if err != nil {
			return false
		}
		q, err := parseASC(b)
		return err == nil && p == q
	case media.AC3:
		return bytes.Equal(a[:3], b[:3])
	case media.EAC3:
		return bytes.Equal(a[2:], b[2:]) // all but the bit rate
	case media.Opus:
		return a[1] == b[1] && bytes.Equal(a[8:], b[8:]) // gain and mapping; the rate of the input means nothing
	case media.FLAC:
		p, _ := streaminfo(a)
		q, _ := streaminfo(b)
		return bytes.Equal(p[:4], q[:4]) && bytes.Equal(p[10:13], q[10:13]) && p[13]>>4 == q[13]>>4 // no sizes, length, checksum
	}
	return x == y
}

// Equal reports whether two hold the same sets, in whatever order and however often.
func (p ParameterSets) Equal(q ParameterSets) bool {
	return sameSets(p.VPS, q.VPS) && sameSets(p.SPS, q.SPS) && sameSets(p.PPS, q.PPS)
}

func sameSets(a, b [][]byte) bool {
	in := func(set []byte, sets [][]byte) bool {
		return slices.ContainsFunc(sets, func(s []byte) bool { return bytes.Equal(s, set) })
	}
	for _, s := range a {
		if !in(s, b) {
			return false
		}
	}
	for _, s := range b {
		if !in(s, a) {
			return false
		}
	}
	return true
}
