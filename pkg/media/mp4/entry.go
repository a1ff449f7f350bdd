package mp4

import (
	"bytes"
	"fmt"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

func unsupported(c media.Codec, why string) error {
	return fmt.Errorf("%w: %v %s", ErrUnsupported, c, why)
}

const (
	maxRecord = 1 << 16 // bytes of a configuration record
	// videoScale is the clock of MPEG-TS and RTP; milliseconds are whole in it as well.
	videoScale = 90_000
)

// prepare checks a track, brings its record into the form of its box and fills in what the record says.
func prepare(t Track, video bool) (Track, error) {
	if len(t.Config) > maxRecord {
		return t, unsupported(t.Codec, fmt.Sprintf("with a configuration record of %d bytes", len(t.Config)))
	}
	t.Config = bytes.Clone(t.Config)
	var err error
	switch t.Codec {
	case media.AVC, media.HEVC, media.AV1, media.VP9:
		if !video {
			return t, unsupported(t.Codec, "as sound")
		}
		err = t.prepareVideo()
	case media.AAC, media.MP3, media.Opus, media.AC3, media.EAC3, media.FLAC, media.PCMA, media.PCMU:
		if video {
			return t, unsupported(t.Codec, "as video")
		}
		err = t.prepareAudio()
	default:
		return t, unsupported(t.Codec, "here")
	}
	if err != nil {
		return t, err
	}
	if t.Width < 0 || t.Height < 0 || t.Width > 1<<16-1 || t.Height > 1<<16-1 {
		return t, unsupported(t.Codec, fmt.Sprintf("of %d×%d", t.Width, t.Height))
	}
	return t, nil
}

func (t *Track) prepareVideo() error {
	if t.Timescale == 0 {
		t.Timescale = videoScale
	}
	r := t.Config
	short := func(n int) error {
		return unsupported(t.Codec, fmt.Sprintf("with a record of %d bytes, at least %d are needed", len(r), n))
	}
	switch t.Codec {
	case media.AVC:
		if len(r) < 7 {
			return short(7)
		}
	case media.HEVC:
		if len(r) < 23 {
			return short(23)
		}
	case media.AV1:
		if len(r) < 4 {
			return short(4)
		}
		if r[0] != 0x81 {
			return unsupported(t.Codec, "with a record that does not begin with marker and version 1")
		}
	case media.VP9:
		// A bit depth of 0 does not exist, so version and flags of the box cannot be taken for a record.
		if len(r) >= 12 && bytes.Equal(r[:4], []byte{1, 0, 0, 0}) {
			t.Config = r[4:]
		}
		if len(t.Config) < 8 {
			return short(8)
		}
	}
	return nil
}

func (t *Track) prepareAudio() error {
	r := t.Config
	bad := func(why string) error { return unsupported(t.Codec, why) }
	switch {
	case t.Codec == media.Opus && bytes.HasPrefix(r, []byte("OpusHead")):
		var err error
		if t.Config, err = codec.BuildOpus(r); err != nil {
			return bad(err.Error())
		}
	case t.Codec == media.FLAC:
		d, err := codec.BuildFLAC(r)
		if err != nil {
			return bad(err.Error())
		}
		t.Config = d[4:] // without version and flags
	case t.Codec == media.MP3, t.Codec == media.PCMA, t.Codec == media.PCMU:
		t.Config = nil // there is no such record
	}
	info, err := codec.Parse(t.Codec, t.Config)
	if err != nil {
		return bad(err.Error())
	}
	if t.SampleRate == 0 || t.Codec == media.Opus { // of which MP4 has but one rate
		t.SampleRate = info.SampleRate
	}
	if t.Channels == 0 {
		t.Channels = info.Channels
	}
	if t.SampleRate <= 0 {
		return bad("without a sample rate")
	}
	if t.Channels <= 0 {
		t.Channels = 2
	}
	if t.SampleRate > 1<<24 || t.Channels > 255 {
		return bad(fmt.Sprintf("of %d Hz and %d channels", t.SampleRate, t.Channels))
	}
	if t.Timescale == 0 {
		t.Timescale = uint32(t.SampleRate)
	}
	return nil
}

// framing tells how many ticks a sound frame lasts.
type framing struct {
	info  codec.Info
	scale int64
	rate  int64 // of what info counts in
}

func newFraming(t Track) framing {
	info, err := codec.Parse(t.Codec, t.Config)
	if err != nil {
		return framing{}
	}
	info.Channels = t.Channels
	if info.SampleRate == 0 || t.Codec == media.EAC3 { // whose record does not know half rates
		info.SampleRate = t.SampleRate
	}
	return framing{info, int64(t.Timescale), int64(info.SampleRate)}
}

// ticks is 0 if the frame does not say it, or if it is no whole number.
func (f framing) ticks(data []byte) int64 {
	if f.rate == 0 {
		return 0
	}
	n := 0
	if f.info.Codec == media.EAC3 {
		n = enhancedSamples(data)
	} else {
		n = f.info.Samples(data)
	}
	if int64(n)*f.scale%f.rate != 0 {
		return 0
	}
	return int64(n) * f.scale / f.rate
}

// enhancedSamples is how long a sample of E-AC-3 is: where its frames are short, several of them make one.
func enhancedSamples(b []byte) (n int) {
	for len(b) > 0 {
		f, _, ok := codec.AC3Frame(b)
		if !ok {
			break
		}
		n += f.Samples
		b = b[min(f.Size, len(b)):]
	}
	return n
}

// entryName is the sample entry of a track.
func (t Track) entryName() string {
	switch t.Codec {
	case media.AVC:
		if t.Config[5]&0x1F == 0 {
			return "avc3"
		}
		return "avc1"
	case media.HEVC:
		if hasParameterSets(t.Config) {
			return "hvc1"
		}
		return "hev1" // the promise of hvc1, that they are all in the record, would be wrong
	case media.AV1:
		return "av01"
	case media.VP9:
		return "vp09"
	case media.AAC, media.MP3:
		return "mp4a"
	case media.Opus:
		return "Opus"
	case media.AC3:
		return "ac-3"
	case media.EAC3:
		return "ec-3"
	case media.FLAC:
		return "fLaC"
	case media.PCMA:
		return "alaw"
	case media.PCMU:
		return "ulaw"
	}
	return "    "
}

// hasParameterSets tells whether a hvcC holds VPS, SPS and PPS.
func hasParameterSets(record []byte) bool {
	p, err := codec.ReadSets(media.HEVC, record)
	return err == nil && len(p.VPS) > 0 && len(p.SPS) > 0 && len(p.PPS) > 0
}

// appendEntry appends the one sample entry of a track.
func (t Track) appendEntry(b []byte, video bool) []byte {
	b, at := open(b, t.entryName())
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 1) // reserved, data reference 1
	if video {
		b = zeros(b, 16)
		b = be.AppendUint16(b, uint16(t.Width))
		b = be.AppendUint16(b, uint16(t.Height))
		b = be.AppendUint32(b, 72<<16) // dots per inch
		b = be.AppendUint32(b, 72<<16)
		b = zeros(b, 4)
		b = be.AppendUint16(b, 1) // pictures in a sample
		b = zeros(b, 32)          // no name
		b = append(b, 0, 24, 0xFF, 0xFF)
	} else {
		b = zeros(b, 8)
		b = be.AppendUint16(b, uint16(t.Channels))
		b = be.AppendUint16(b, 16)
		b = zeros(b, 4)
		rate := t.SampleRate
		if rate > 1<<16-1 {
			rate = 0 // does not fit; decoders go by the record
		}
		b = be.AppendUint32(b, uint32(rate)<<16)
	}
	var box int
	switch t.Codec {
	case media.AVC:
		b, box = open(b, "avcC")
	case media.HEVC:
		b, box = open(b, "hvcC")
	case media.AV1:
		b, box = open(b, "av1C")
	case media.VP9:
		b, box = openFull(b, "vpcC", 1, 0)
	case media.Opus:
		b, box = open(b, "dOps")
	case media.AC3:
		b, box = open(b, "dac3")
	case media.EAC3:
		b, box = open(b, "dec3")
	case media.FLAC:
		b, box = openFull(b, "dfLa", 0, 0)
	case media.AAC:
		return shut(appendESDS(b, 0x40, t.Config), at)
	case media.MP3:
		return shut(appendESDS(b, 0x6B, nil), at)
	default:
		return shut(b, at)
	}
	b = shut(append(b, t.Config...), box)
	if c := t.Colour; video && c != (Colour{}) {
		b, box = open(b, "colr")
		b = append(b, "nclx"...)
		b = be.AppendUint16(b, c.Primaries)
		b = be.AppendUint16(b, c.Transfer)
		b = be.AppendUint16(b, c.Matrix)
		full := byte(0)
		if c.Full {
			full = 0x80
		}
		b = shut(append(b, full), box)
	}
	return shut(b, at)
}

// appendESDS appends an esds box with the descriptors of MPEG-4 part 1.
func appendESDS(b []byte, object byte, specific []byte) []byte {
	descriptor := func(b []byte, tag byte, n int) []byte {
		return append(b, tag, byte(n>>21)|0x80, byte(n>>14)|0x80, byte(n>>7)|0x80, byte(n)&0x7F)
	}
	n := 13
	if specific != nil {
		n += 5 + len(specific)
	}
	b, at := openFull(b, "esds", 0, 0)
	b = descriptor(b, 3, 3+5+n+5+1)
	b = append(b, 0, 0, 0) // ES_ID as files have it, no flags
	b = descriptor(b, 4, n)
	b = append(b, object, 0x15, 0, 0, 0) // sound, size of the buffer not told
	b = zeros(b, 8)                      // nor bit rates
	if specific != nil {
		b = append(descriptor(b, 5, len(specific)), specific...)
	}
	b = append(descriptor(b, 6, 1), 2)
	return shut(b, at)
}
