package mp4

import (
	"bytes"
	"fmt"

	"github.com/liverec/liverec/pkg/media"
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
	fill := func(rate, channels int) {
		if t.SampleRate == 0 {
			t.SampleRate = rate
		}
		if t.Channels == 0 {
			t.Channels = channels
		}
	}
	switch t.Codec {
	case media.AAC:
		c, ok := parseASC(r)
		if !ok {
			return bad(fmt.Sprintf("with an AudioSpecificConfig of %d bytes that says nothing", len(r)))
		}
		fill(c.rate, c.channels)
	case media.Opus:
		if len(r) >= 19 && string(r[:8]) == "OpusHead" {
			// Ogg has the same fields behind a name and its own version, little endian.
			d := []byte{0, r[9], r[11], r[10], r[15], r[14], r[13], r[12], r[17], r[16], r[18]}
			t.Config = append(d, r[19:]...)
			r = t.Config
		}
		if len(r) < 11 || r[0] != 0 {
			return bad("without a dOps record")
		}
		t.SampleRate = 48_000 // always, in MP4
		fill(0, int(r[1]))
	case media.AC3:
		if len(r) < 3 {
			return bad("without a dac3 record")
		}
		fill([]int{48_000, 44_100, 32_000, 0}[r[0]>>6], []int{2, 1, 2, 3, 3, 4, 4, 5}[r[1]>>3&7]+int(r[1]>>2&1))
	case media.EAC3:
		if len(r) < 5 {
			return bad("without a dec3 record")
		}
		fill([]int{48_000, 44_100, 32_000, 0}[r[2]>>6], []int{2, 1, 2, 3, 3, 4, 4, 5}[r[3]>>1&7]+int(r[3]&1))
	case media.FLAC:
		switch {
		case len(r) >= 42 && string(r[:4]) == "fLaC":
			r = r[4:]
		case len(r) >= 42 && bytes.Equal(r[:4], []byte{0, 0, 0, 0}):
			r = r[4:]
		case len(r) == 34:
			r = append([]byte{0x80, 0, 0, 34}, r...)
		}
		if len(r) < 38 || r[0]&0x7F != 0 || r[3] != 34 {
			return bad("without STREAMINFO")
		}
		t.Config = r
		fill(int(r[14])<<12|int(r[15])<<4|int(r[16])>>4, int(r[16]>>1&7)+1)
	case media.PCMA, media.PCMU:
		fill(8000, 1)
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

// asc is what an AudioSpecificConfig says.
type asc struct {
	rate     int // of what comes out
	core     int // of what is coded: half of it with SBR
	channels int
	frame    int // samples of core in a frame; 0: not known
}

var aacRates = [...]int{96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350}

func parseASC(b []byte) (c asc, ok bool) {
	r := bitReader{b: b}
	object := func() int {
		o := r.read(5)
		if o == 31 {
			o = 32 + r.read(6)
		}
		return o
	}
	rate := func() int {
		i := r.read(4)
		if i == 15 {
			return r.read(24)
		}
		if i < len(aacRates) {
			return aacRates[i]
		}
		return 0
	}
	o := object()
	c.core = rate()
	c.channels = []int{0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8, 0}[r.read(4)]
	c.rate = c.core
	if o == 5 || o == 29 {
		if o == 29 && c.channels == 1 {
			c.channels = 2 // parametric stereo
		}
		c.rate = rate()
		o = object()
	}
	short := r.read(1) == 1
	switch o {
	case 1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22:
		c.frame = 1024
		if short {
			c.frame = 960
		}
	case 23, 39:
		c.frame = 512
		if short {
			c.frame = 480
		}
	}
	return c, !r.over && o != 0 && c.core > 0 && c.rate > 0
}

type bitReader struct {
	b    []byte
	at   int
	over bool
}

func (r *bitReader) read(n int) int {
	v := 0
	for range n {
		v <<= 1
		if r.at/8 >= len(r.b) {
			r.over = true
			continue
		}
		v |= int(r.b[r.at/8]>>(7-r.at%8)) & 1
		r.at++
	}
	return v
}

// framing tells how many ticks a sound frame lasts.
type framing struct {
	codec    media.Codec
	scale    int64
	rate     int64 // of what frames are counted in
	frame    int64 // samples in each frame, if that does not change
	channels int64
}

func newFraming(t Track) framing {
	f := framing{codec: t.Codec, scale: int64(t.Timescale), rate: int64(t.SampleRate), channels: int64(t.Channels)}
	switch t.Codec {
	case media.AAC:
		c, _ := parseASC(t.Config)
		f.rate, f.frame = int64(c.core), int64(c.frame)
	case media.AC3:
		f.frame = 1536
	}
	return f
}

// ticks is 0 if the frame does not say it, or if it is no whole number.
func (f framing) ticks(data []byte) int64 {
	n := f.frame
	switch f.codec {
	case media.Opus:
		n = opusSamples(data)
	case media.EAC3:
		n = eac3Samples(data)
	case media.MP3:
		n = mp3Samples(data)
	case media.FLAC:
		n = flacSamples(data)
	case media.PCMA, media.PCMU:
		n = int64(len(data)) / f.channels
	}
	if f.rate == 0 || n*f.scale%f.rate != 0 {
		return 0
	}
	return n * f.scale / f.rate
}

func opusSamples(b []byte) int64 {
	if len(b) == 0 {
		return 0
	}
	var n int64
	switch c := b[0] >> 3; {
	case c < 12:
		n = []int64{480, 960, 1920, 2880}[c&3]
	case c < 16:
		n = []int64{480, 960}[c&1]
	default:
		n = []int64{120, 240, 480, 960}[c&3]
	}
	switch b[0] & 3 {
	case 1, 2:
		n *= 2
	case 3:
		if len(b) < 2 {
			return 0
		}
		n *= int64(b[1] & 0x3F)
	}
	if n > 5760 {
		return 0
	}
	return n
}

// eac3Samples counts the blocks of the first independent substream: a sample may hold several frames.
func eac3Samples(b []byte) int64 {
	var n int64
	for len(b) >= 6 && b[0] == 0x0B && b[1] == 0x77 {
		if b[2]>>6 == 0 && b[2]>>3&7 == 0 {
			blocks := int64(6)
			if b[4]>>6 != 3 {
				blocks = []int64{1, 2, 3, 6}[b[4]>>4&3]
			}
			n += blocks * 256
		}
		size := (int(b[2]&7)<<8 | int(b[3]) + 1) * 2
		if size > len(b) {
			break
		}
		b = b[size:]
	}
	return n
}

func mp3Samples(b []byte) int64 {
	if len(b) < 4 || b[0] != 0xFF || b[1]&0xE0 != 0xE0 {
		return 0
	}
	switch layer, mpeg1 := b[1]>>1&3, b[1]>>3&3 == 3; {
	case layer == 3:
		return 384
	case layer == 2 || layer == 1 && mpeg1:
		return 1152
	case layer == 1:
		return 576
	}
	return 0
}

func flacSamples(b []byte) int64 {
	if len(b) < 5 || b[0] != 0xFF || b[1]&0xFC != 0xF8 {
		return 0
	}
	c := b[2] >> 4
	switch {
	case c == 1:
		return 192
	case c >= 2 && c <= 5:
		return 576 << (c - 2)
	case c >= 8:
		return 256 << (c - 8)
	case c == 0:
		return 0
	}
	at := 5 // behind the number of the frame, which is coded like UTF-8
	for x := b[4]; x&0xC0 == 0xC0; x <<= 1 {
		at++
	}
	if c == 6 && at < len(b) {
		return int64(b[at]) + 1
	}
	if c == 7 && at+1 < len(b) {
		return int64(be.Uint16(b[at:])) + 1
	}
	return 0
}

// entryName is the sample entry of a track.
func (t Track) entryName() string {
	switch t.Codec {
	case media.AVC:
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
func hasParameterSets(r []byte) bool {
	var seen [64]bool
	if len(r) < 23 {
		return false
	}
	n, b := int(r[22]), r[23:]
	for range n {
		if len(b) < 3 {
			return false
		}
		typ, nals := b[0]&0x3F, int(be.Uint16(b[1:]))
		b = b[3:]
		for range nals {
			if len(b) < 2 || len(b) < 2+int(be.Uint16(b)) {
				return false
			}
			seen[typ] = true
			b = b[2+int(be.Uint16(b)):]
		}
	}
	return seen[32] && seen[33] && seen[34]
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
	return shut(shut(append(b, t.Config...), box), at)
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
